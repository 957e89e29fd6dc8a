package web_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/users"
	"obolus/web"
)

// handOn lets agent-a hand on to agent-b, and that to nobody who is there.
func (s *site) handOn() {
	s.t.Helper()
	for id, to := range map[string]string{"agent-a": "agent-b", "agent-b": "ghost"} {
		a, version, err := s.w.Registry.Agent(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		a.DelegatesTo = []string{to}
		if id == "agent-a" {
			a.Labels, a.Recertify = map[string]string{"tier": "gold"}, s.w.Now().Add(-time.Hour)
			a.Ceiling.Rate, a.Ceiling.Lifetime = 60, agents.Duration(90*time.Second)
		}
		if _, err := s.w.Registry.PutAgent(s.t.Context(), a, version); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestWhoMayOpenTheConsole(t *testing.T) {
	t.Parallel()
	pages := []string{
		"/console", "/console/registry", "/console/guardrails", "/console/stop", "/console/since?kind=agent&id=agent-a", "/console/ledger",
		"/console/ledger/1", "/console/ledger.jsonl", "/console/agent?id=agent-a", "/console/transactions/txn_aaaaaaaaaaaaaaaaaaaaaa",
	}
	s := newSite(t, nil)
	for name, b := range map[string]*browser{"nobody": s.browser(), "a user": s.signedIn("alice")} {
		for _, path := range pages {
			if p := b.get(path); p.status != 303 || p.location() != "/console/sign-in" {
				t.Errorf("%s at %s: %d %s", name, path, p.status, p.location())
			}
		}
		for _, path := range []string{"/console/stop", "/console/agent?id=agent-a", "/console/sign-out"} {
			if p := b.post(path, url.Values{"kind": {"agent"}, "id": {"agent-a"}, "state": {"suspended"}}); p.status != 303 || p.location() != "/console/sign-in" {
				t.Errorf("%s at %s: %d %s", name, path, p.status, p.location())
			}
		}
	}
	if a, _, err := s.w.Registry.Agent(t.Context(), "agent-a"); err != nil || a.State != agents.Active {
		t.Errorf("the agent is %v %v", a.State, err)
	}
	// An operator is no user.
	s.operator().get("/agents").leads("/sign-in")

	closed := newSite(t, func(c *web.Config) { c.OperatorToken = "" })
	for _, path := range append(pages, "/console/sign-in") {
		closed.browser().get(path).want(404)
	}
	closed.browser().post("/console/sign-in", url.Values{"token": {""}}).want(404)
}

func TestOperatorsSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser()
	form := b.get("/console/sign-in").want(200).form()
	for _, wrong := range []string{"", "x", operatorToken + "x", operatorToken[1:], strings.ToUpper(operatorToken)} {
		form.Set("token", wrong)
		b.post("/console/sign-in", form).want(401).has("not the operators").hasNot(operatorToken)
	}
	form.Set("token", operatorToken)
	forged := url.Values{"token": {operatorToken}}
	b.post("/console/sign-in", forged).want(403)
	s.browser().post("/console/sign-in", form).want(403)
	in := b.post("/console/sign-in", form).leads("/console")
	cookie := strings.Join(in.header.Values("Set-Cookie"), "\n")
	for _, want := range []string{"__Host-obolus-operator=", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	if strings.Contains(cookie, operatorToken) {
		t.Error("the cookie is the token")
	}
	p := b.get("/console").want(200).hasNot(operatorToken)
	b.post("/console/sign-out", p.signOutForm()).leads("/console/sign-in")
	b.get("/console").leads("/console/sign-in")
	// Guessing is limited.
	other := s.browser()
	form = other.get("/console/sign-in").form()
	form.Set("token", "guess")
	for range 10 {
		other.post("/console/sign-in", form)
	}
	other.post("/console/sign-in", form).want(429)
}

func TestTheConsole(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *web.Config) {
		c.Guardrails = func(context.Context) (web.Guardrails, error) {
			return web.Guardrails{
				Version: "v1", Revision: 7, Problem: "cannot be loaded", Files: []web.Guardrail{
					{Name: "nights.cedar", Text: "forbid (principal, action, resource); // <script>", Revision: 7, By: "operator", Why: "it was <b>late</b>", At: time.Now()},
					{Name: "declared.cedar", Text: "permit (principal, action, resource);"},
				},
				History: []web.GuardrailChange{{Revision: 7, What: "put nights.cedar", By: "operator", At: time.Now()}, {Revision: 6, What: "removed days.cedar", Why: "\u202eold"}},
			}, nil
		}
	})
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	redeemed, outstanding := s.mustPass("alice"), s.mustPass("alice")
	if err := s.redeem(redeemed); err != nil {
		t.Fatal(err)
	}
	var txns []string
	for _, e := range s.w.Events(audit.KindExchange) {
		txns = append(txns, e.Txn)
	}
	b := s.operator()
	p := b.get("/console").want(200).has("<b>2</b> of 2 agents active", "<b>1</b> transactions outstanding", "<b>2</b> guardrail files", "mail.read", "/console/transactions/"+txns[1])
	if n := strings.Count(p.body, `Look at `+txns[1]); n != 2 {
		t.Errorf("the outstanding transaction is there %d times", n)
	}
	b.get("/console/registry").want(200).has("agent-a", "Mail Helper", "Acme Ltd", "https://mail.test/api", "mail-server", "redemption required")
	b.get("/console/registry?q=helper").want(200).has("Mail Helper").hasNot("agent-b", "files-server")
	b.get("/console/guardrails").want(200).has("nights.cedar", "forbid (principal", "&lt;script&gt;", "revision 7", "it was &lt;b&gt;late", "declared.cedar",
		"removed days.cedar", "cannot be loaded").hasNot("<script>", "\u202e", "<b>late")
	b.get("/console/agent?id=agent-a").want(200).has("Mail Helper", "private_key_jwt", "mail.read", "payment", "Suspend now", "Retire for good")
	b.get("/console/agent?id=nobody").want(404)
	s.handOn()
	b.get("/console/agent?id=agent-a").want(200).has("Who hands on to whom", "agent-a may hand on to agent-b; agent-b may hand on to ghost",
		"/console/agent?id=agent-b", "tier=gold", "Look again by", "due", "60 exchanges", "1m30s")
	b.get("/console/agent?id=agent-b").want(200).has("agent-a may hand on to agent-b")
	b.get("/console/agent?id=agent-a").has(`viewBox="0 0 500 `) // three columns: nobody is before it, so that it is in the first
	b.get("/console/registry?q=tier%3Dgold").want(200).has("Mail Helper", "hands on to agent-b", "has to be looked at again").hasNot("files-server")
	b.get("/console/transactions/"+txns[0]).want(200).has("redeemed", "alice allowed agent-a for one transaction at https://mail.test/api", "<svg").hasNot("Stop this transaction")
	p = b.get("/console/transactions/"+txns[1]).want(200).has("issued", "Stop this transaction")

	form := p.form()
	form.Set("why", "looks odd")
	b.post("/console/stop", url.Values{"kind": {"txn"}, "id": {txns[1]}}).want(403)
	b.get(b.post("/console/stop", form).leads("/console/stop?done").location()).want(200).has("Stopped.", "looks odd")
	b.get("/console/stop?done").want(200).hasNot("Stopped.") // anybody can make such a link
	b.get("/console/transactions/"+txns[1]).want(200).has("revoked", "looks odd").hasNot("Stop this transaction")
	if s.redeem(outstanding) == nil {
		t.Error("it was redeemed")
	}
}

// TestTheRedButton stops each kind of thing, with who and why in the ledger.
func TestTheRedButton(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, id string
		status   int
		again    bool // the agent gets another token afterwards
	}{
		{"agent", "agent-a", 303, false},
		{"user", "alice", 303, true},
		{"client", "app", 303, true},
		{"grant", "GRANT", 303, true},
		{"key", "KEY", 303, true},
		{"token", "JTI", 303, true},
		{"txn", "TXN", 303, true},
		{"agent", "nobody", 404, true},
		{"resource", "mail", 400, true},
		{"", "alice", 400, true},
		{"user", "", 400, true},
		{"txn", "nonsense", 400, true},
	} {
		t.Run(c.kind+" "+c.id, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			g := s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
			compact := s.mustPass("alice")
			event := s.w.Events(audit.KindExchange)[0]
			signer, err := s.w.Keys.Signer("")
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]string{"GRANT": g.ID, "KEY": signer.KeyID(), "JTI": event.JTI, "TXN": event.Txn}
			id := c.id
			if named, ok := names[id]; ok {
				id = named
			}
			user, b := s.signedIn("alice"), s.operator()
			form := b.get("/console/stop?kind=" + c.kind).want(200).form()
			form.Set("kind", c.kind)
			form.Set("id", id)
			form.Set("why", "drill")
			b.post("/console/stop", form).want(c.status)
			if err := s.redeem(compact); (err == nil) != (c.status != 303) {
				t.Errorf("redeeming: %v", err)
			}
			if _, err := s.pass("alice"); (err == nil) != c.again {
				t.Errorf("another token: %v", err)
			}
			if p := user.get("/agents"); (p.status == 200) == (c.kind == "user" && c.status == 303) {
				t.Errorf("the user's session: %d", p.status)
			}
			stops := s.w.Events(audit.KindStop)
			if c.status == 303 && (len(stops) != 1 || stops[0].By != "operator" || stops[0].Why != "drill") || c.status != 303 && len(stops) != 0 {
				t.Errorf("in the ledger is %+v", stops)
			}
		})
	}
}

func TestUsersOfOthersAreStoppedToo(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.operator()
	form := b.get("/console/stop").form()
	form.Set("kind", "user")
	form.Set("id", "corp:alice")
	b.post("/console/stop", form).leads("/console/stop?done")
	if stops := s.w.Events(audit.KindStop); len(stops) != 1 || stops[0].Subject != "user/corp:alice" {
		t.Errorf("in the ledger is %+v", stops)
	}
}

func TestTheLifeOfAnAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.operator()
	const path = "/console/agent?id=agent-a"
	to := func(state string, status int) {
		t.Helper()
		form := b.get(path).want(200).form()
		form.Set("state", state)
		form.Set("why", "drill")
		b.post(path, form).want(status)
	}
	b.post(path, url.Values{"state": {"suspended"}}).want(403)
	to("suspended", 303)
	b.get(path).has("suspended", "Activate", "operator", "drill")
	to("proposed", 409)
	to("nonsense", 409)
	to("active", 303)
	to("retired", 303)
	b.get(path).has("retired").hasNot("Activate", "Suspend now")
	if a, _, err := s.w.Registry.Agent(t.Context(), "agent-a"); err != nil || a.State != agents.Retired || a.Changed.By != "operator" {
		t.Errorf("the agent is %+v %v", a, err)
	}
}

// TestAnotherOperatorsTokenEndsTheSessions of the old one.
func TestAnotherOperatorsTokenEndsTheSessions(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	in, err := s.book.SignInOperator(t.Context(), "old token", "old token", users.Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	b := s.browser()
	b.client.Jar = nil
	b.header.Set("Cookie", "__Host-obolus-operator="+string(in.Cookie))
	b.get("/console").leads("/console/sign-in")
	s.w.Pass(time.Minute)
	for _, e := range s.w.Events(audit.KindSignIn) {
		if e.Error == oauth.AccessDenied {
			t.Errorf("in the ledger is %+v", e)
		}
	}
}
