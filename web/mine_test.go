package web_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/transaction"
)

// pass is a one-transaction token that agent-a gets for a user at Mail; the error is the refusal.
func (s *site) pass(user string) (string, error) {
	s.t.Helper()
	answer, err := s.w.Exchange.Do(s.t.Context(), s.w.Assertion("agent-a", s.agent), exchange.Request{
		SubjectToken: s.w.UserToken(user, nil), SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	})
	return answer.AccessToken, err
}

func (s *site) mustPass(user string) string {
	s.t.Helper()
	compact, err := s.pass(user)
	if err != nil {
		s.t.Fatal(err)
	}
	return compact
}

// redeem spends a token at Mail.
func (s *site) redeem(compact string) error {
	s.t.Helper()
	_, err := s.w.Tx.Redeem(s.t.Context(), transaction.Redemption{Server: s.w.Server("mail-server"), Token: compact})
	return err
}

func stopForm(p page, name, value string) url.Values {
	p.t.Helper()
	m := regexp.MustCompile(`name="form" value="([^"]*)"><input type="hidden" name="` + name + `" value="` + regexp.QuoteMeta(value) + `"`).FindStringSubmatch(p.body)
	if m == nil {
		p.t.Fatalf("there is no button for %s %s", name, value)
	}
	return url.Values{"form": {m[1]}, name: {value}}
}

// TestMyAgents lists what agents may do and did, and stops them at each level (UI-10, O21-12).
func TestMyAgents(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	b := s.signedIn("alice")
	b.get("/agents").want(200).has("No agent may do anything for you")
	mail := s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	files := s.w.Consent("alice", "agent-a", "files", consent.Decision{Scopes: []string{"files.read"}, Uses: 5})
	s.w.Consent("alice", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.send"}, Uses: 1})
	bobs := s.w.Consent("bob", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.send"}})
	spent := s.mustPass("alice")
	if err := s.redeem(spent); err != nil {
		t.Fatal(err)
	}
	outstanding := s.mustPass("alice")
	p := b.get("/agents").want(200).has("Mail Helper", "Acme Ltd", "agent-b", "Read your mail", "Read your files", "5 of 5 times left", "Once",
		"Carried out a transaction at Mail", "Got a pass for one transaction at Mail", "You said yes for Mail", "Stop Mail Helper completely")

	// Forged: no token, the token of somebody else, another site; and somebody else's grant.
	form := stopForm(p, "grant", mail.ID)
	b.post("/agents", url.Values{"grant": {mail.ID}}).want(403)
	bob := s.signedIn("bob")
	bob.post("/agents", form).want(403)
	theirs := stopForm(bob.get("/agents"), "grant", bobs.ID)
	theirs.Set("grant", mail.ID)
	bob.post("/agents", theirs).want(404)
	b.header.Set("Sec-Fetch-Site", "cross-site")
	b.post("/agents", form).want(403)
	b.header.Del("Sec-Fetch-Site")
	s.browser().post("/agents", form).leads("/sign-in")
	b.post("/agents", url.Values{"form": form["form"]}).want(400)
	b.post("/agents", url.Values{"form": form["form"], "grant": {mail.ID}, "agent": {"agent-a"}}).want(400)
	if g := s.grants("alice"); !g[0].Withdrawn.IsZero() || !g[1].Withdrawn.IsZero() {
		t.Fatal("a forged form stopped something")
	}

	// One grant.
	b.post("/agents", form).leads("/agents")
	if err := s.redeem(outstanding); err == nil {
		t.Error("the outstanding token was redeemed")
	}
	if _, err := s.pass("alice"); err == nil {
		t.Error("the agent gets another one")
	}
	b.get("/agents").want(200).has("you stopped it just now", "Was stopped at Mail", "Read your files")
	b.post("/agents", form).leads("/agents") // twice is no harm

	// The agent, completely.
	b.post("/agents", stopForm(b.get("/agents"), "agent", "agent-a")).leads("/agents")
	p = b.get("/agents").want(200).has("Agents that may do nothing any more (1)").hasNot("Stop Mail Helper completely")
	if strings.Contains(p.body, `value="`+files.ID+`"`) {
		t.Error("a grant that has ended has a button")
	}
	for _, g := range s.grants("alice") {
		if (g.Agent == "agent-a") == g.Withdrawn.IsZero() {
			t.Errorf("the grant %+v", g)
		}
	}
	if g := s.grants("bob"); !g[0].Withdrawn.IsZero() {
		t.Error("somebody else's grant was stopped")
	}
	for _, e := range s.w.Events(audit.KindWithdraw) {
		if e.By != "alice" {
			t.Errorf("in the ledger is %+v", e)
		}
	}
}

func TestMyAgentsThatEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}, Uses: 1, Expires: s.w.Now().Add(30 * time.Minute)})
	g := s.w.Consent("alice", "agent-b", "files", consent.Decision{Scopes: []string{"files.read"}, Expires: s.w.Now().Add(30 * time.Minute)})
	s.mustPass("alice")
	b := s.signedIn("alice")
	b.get("/agents").has("used up just now", "Stop Mail Helper completely") // a token may be on its way
	if err := s.w.Tx.Withdraw(t.Context(), s.w.Consents, "alice", g.ID, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	b.get("/agents").has("an operator stopped it")
	if _, err := s.w.Tx.SetState(t.Context(), "agent-a", agents.Suspended, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	b.get("/agents").has("switched off by the operators")
	s.w.Pass(40 * time.Minute)
	b.get("/agents").has("it ran out 10 minutes ago", "Agents that may do nothing any more (2)").hasNot("completely")
}

// TestAgentsThatChanged: what was allowed to another key or owner is not shown as if it counted.
func TestAgentsThatChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	b := s.signedIn("alice")
	b.get("/agents").has("Any number of times").hasNot("void")
	s.agent = s.w.Agent("agent-a", nil)
	b.get("/agents").has("void: the agent has changed its keys", "completely").hasNot("Any number of times")
	if _, err := s.pass("alice"); err == nil {
		t.Error("it counts all the same")
	}
}

// TestAgentsThatWereRefused shows that too.
func TestAgentsThatWereRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	compact := s.mustPass("alice")
	if err := s.redeem(compact); err != nil {
		t.Fatal(err)
	}
	if err := s.redeem(compact); err == nil {
		t.Fatal("redeemed twice")
	}
	s.signedIn("alice").get("/agents").has("Was turned away at Mail", `<li class="no">`)
}
