package web_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/users"
)

// TestTheQuestion shows everything that a user needs to know (UI-04), and works without JavaScript (UI-11).
func TestTheQuestion(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	path := s.ask("alice", func(a *consent.Ask) {
		a.Details = json.RawMessage(`[{"type":"payment","amount":{"currency":"EUR","value":"25.00"},"payee":"Corner Shop"}]`)
	})
	b := s.browser()
	// Not signed in: to the sign-in, and back.
	to := b.get(path).leads("/sign-in?").location()
	form := b.get(to).want(200).form()
	form.Set("user", "alice")
	form.Set("password", password)
	b.post("/sign-in", form).leads(path)
	p := b.get(path).want(200).has(
		"Mail Helper", "agent-a", "Acme Ltd", "Acme Cloud", "acme.example", "Mail", "mail.test", "https://mail.test/api",
		"Read your mail", "Send mail", "mail.read", "mail.send", "Pay up to 25.00 EUR to Corner Shop", "payment",
		"An automated agent will act for you", "Once", "At most", "Any number of times", "1 hour from now", "30 days from now",
		`<option value="86400" selected>`, `value="deny" class="deny" autofocus`,
	)
	if strings.Index(p.body, `value="deny"`) > strings.Index(p.body, `value="allow"`) {
		t.Error("the key Enter allows: deny is not the first button")
	}
	form = p.form()
	if len(form) != 1 || form.Get("form") == "" {
		t.Errorf("the form carries more than a token: %v (UI-03)", form)
	}
	form.Set("decision", "allow")
	form.Add("scope", "0")
	form.Add("detail", "0")
	form.Set("uses", "times")
	form.Set("times", "3")
	form.Set("until", "3600")
	b.post(path, form).leads(path)
	b.get(path).want(200).has("You said yes", "Mail Helper", "Read your mail", "Pay up to 25.00 EUR", "At most 3 times, for another 1 hour, until", "You can close this page",
		"The agent continues", `href="/agents"`).hasNot("Send mail")
	grants := s.grants("alice")
	if len(grants) != 1 {
		t.Fatalf("%d grants", len(grants))
	}
	g := grants[0]
	if !slices.Equal(g.Scopes, []string{"mail.read"}) || g.Uses != 3 || !g.Expires.Equal(s.w.Now().Add(time.Hour)) || g.Agent != "agent-a" ||
		g.Target != "mail" || !g.AuthTime.Equal(s.w.Now()) || !strings.Contains(string(g.Details), "Corner Shop") {
		t.Errorf("the grant is %+v", g)
	}
	events := s.w.Events(audit.KindConsent)
	if len(events) != 1 || events[0].By != "alice" || !events[0].Allowed {
		t.Errorf("in the ledger is %+v", events)
	}
}

func TestNo(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path := s.ask("alice", nil)
	form := b.get(path).form()
	form.Set("decision", "deny")
	form.Set("scope", "0")
	b.post(path, form).leads(path)
	b.get(path).want(200).has("You said no", "Mail Helper").hasNot("<form class=\"card\"")
	// Saying yes afterwards changes nothing (NEG-085).
	form.Set("decision", "allow")
	b.post(path, form).leads(path)
	b.get(path).has("You said no")
	if n := len(s.grants("alice")); n != 0 {
		t.Errorf("%d grants", n)
	}
}

// TestAnswers: a form can only narrow; whatever else is in it allows nothing that was not asked (UI-03).
func TestAnswers(t *testing.T) {
	t.Parallel()
	const week = "604800"
	for _, c := range []struct {
		name   string
		max    int // the agent's ceiling of uses
		form   url.Values
		status int
		scopes string
		uses   int
		lasts  time.Duration
	}{
		{"everything", 0, url.Values{"scope": {"0", "1"}, "uses": {"any"}, "until": {week}}, 303, "mail.read mail.send", 0, 7 * 24 * time.Hour},
		{"nothing is said of limits", 0, url.Values{"scope": {"1"}}, 303, "mail.send", 1, 24 * time.Hour},
		{"once", 0, url.Values{"scope": {"0"}, "uses": {"once"}, "times": {"9"}}, 303, "mail.read", 1, 24 * time.Hour},
		{"many times", 0, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"1000"}}, 303, "mail.read", 1000, 24 * time.Hour},
		{"nothing is ticked", 0, url.Values{}, 400, "", 0, 0},
		{"a scope by name", 0, url.Values{"scope": {"mail.read"}}, 400, "", 0, 0},
		{"a scope beyond", 0, url.Values{"scope": {"0", "2"}}, 400, "", 0, 0},
		{"a scope below", 0, url.Values{"scope": {"-1"}}, 400, "", 0, 0},
		{"a scope twice", 0, url.Values{"scope": {"0", "0"}}, 400, "", 0, 0},
		{"a detail that was not asked", 0, url.Values{"scope": {"0"}, "detail": {"0"}}, 400, "", 0, 0},
		{"further members", 0, url.Values{
			"scope": {"0"}, "agent": {"agent-b"}, "user": {"bob"}, "target": {"files"}, "scopes": {"mail.delete"},
		}, 303, "mail.read", 1, 24 * time.Hour},
		{"too many times", 0, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"1001"}}, 400, "", 0, 0},
		{"no times", 0, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"0"}}, 400, "", 0, 0},
		{"fewer than none", 0, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"-5"}}, 400, "", 0, 0},
		{"times that are no number", 0, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"many"}}, 400, "", 0, 0},
		{"another kind of use", 0, url.Values{"scope": {"0"}, "uses": {"forever"}}, 400, "", 0, 0},
		{"an end that was not offered", 0, url.Values{"scope": {"0"}, "until": {"999999999"}}, 400, "", 0, 0},
		{"an end in the past", 0, url.Values{"scope": {"0"}, "until": {"-60"}}, 400, "", 0, 0},
		{"any number, of an agent that may once", 1, url.Values{"scope": {"0"}, "uses": {"any"}}, 400, "", 0, 0},
		{"twice, of an agent that may once", 1, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"2"}}, 400, "", 0, 0},
		{"within an agent's ceiling", 3, url.Values{"scope": {"0"}, "uses": {"times"}, "times": {"3"}}, 303, "mail.read", 3, 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			b := s.signedIn("alice")
			path := s.ask("alice", func(a *consent.Ask) { a.MaxUses = c.max })
			form := b.get(path).form()
			form.Set("decision", "allow")
			maps.Copy(form, c.form)
			p := b.post(path, form).want(c.status)
			grants := s.grants("alice")
			if c.status != 303 {
				p.has("Nothing was allowed")
				if len(grants) != 0 {
					t.Errorf("granted was %+v", grants)
				}
				b.get(path).want(200).has(`value="allow"`)
				return
			}
			if len(grants) != 1 {
				t.Fatalf("%d grants", len(grants))
			}
			g := grants[0]
			if strings.Join(g.Scopes, " ") != c.scopes || g.Uses != c.uses || g.Expires.Sub(s.w.Now()) != c.lasts || g.Agent != "agent-a" || g.User != "alice" {
				t.Errorf("granted was %+v", g)
			}
		})
	}
	t.Run("neither yes nor no", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		b := s.signedIn("alice")
		path := s.ask("alice", nil)
		form := b.get(path).form()
		b.post(path, form).want(400)
		form.Set("decision", "ALLOW")
		b.post(path, form).want(400)
		form["decision"] = []string{"deny", "allow"}
		b.post(path, form).want(400)
	})
}

func TestOnlyWhatMayBeChosenIsOffered(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	once := s.ask("alice", func(a *consent.Ask) { a.MaxUses = 1 })
	b.get(once).has(`value="once"`).hasNot(`value="times"`, `value="any"`)
	thrice := s.ask("alice", func(a *consent.Ask) { a.MaxUses = 3 })
	b.get(thrice).has(`value="times"`, `max="3"`).hasNot(`value="any"`)
}

// TestTheQuestionIsForOnePerson: NEG-083, UI-09.
func TestTheQuestionIsForOnePerson(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	path := s.ask("alice", nil)
	bob := s.signedIn("bob")
	bob.get(path).want(403).hasNot("Mail Helper", "mail.read", "alice")
	form := bob.get(s.ask("bob", nil)).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	bob.post(path, form).want(403)

	// Alice opens the page, Bob signs in in another tab of the same browser: the page is of no use any more.
	alice := s.signedIn("alice")
	form = alice.get(path).want(200).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	alice.signIn("bob", "").leads("/agents")
	alice.post(path, form).want(403)
	if len(s.grants("alice"))+len(s.grants("bob")) != 0 {
		t.Error("something was granted")
	}
}

// TestManyAtOnce: of fifty answers one counts, and all are led to the same page (UI-08, NEG-085).
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path := s.ask("alice", nil)
	form := b.get(path).form()
	var all sync.WaitGroup
	pages := make([]page, 50)
	for i := range pages {
		all.Go(func() {
			mine := url.Values{"form": form["form"], "scope": {"0"}, "decision": {[]string{"allow", "deny"}[i%2]}}
			pages[i] = b.post(path, mine)
		})
	}
	all.Wait()
	for _, p := range pages {
		p.leads(path)
	}
	if events := s.w.Events(audit.KindConsent); len(events) != 1 || len(s.grants("alice")) != map[bool]int{true: 1}[events[0].Allowed] {
		t.Errorf("%d decisions, %d grants", len(events), len(s.grants("alice")))
	}
}

// TestVoidQuestions: NEG-086.
func TestVoidQuestions(t *testing.T) {
	t.Parallel()
	change := func(f func(*agents.Agent)) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			t.Helper()
			a, version, err := s.w.Registry.Agent(t.Context(), "agent-a")
			if err != nil {
				t.Fatal(err)
			}
			f(&a)
			if _, err := s.w.Registry.PutAgent(t.Context(), a, version); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		do     func(*testing.T, *site)
		status int
	}{
		{"time runs out", func(_ *testing.T, s *site) { s.w.Pass(10*time.Minute + time.Second) }, 404},
		{"the agent is suspended", change(func(a *agents.Agent) { a.State = agents.Suspended }), 409},
		{"the agent expires", change(func(a *agents.Agent) { a.Expires = time.Unix(1, 0) }), 409},
		{"the agent gets another owner", change(func(a *agents.Agent) { a.Owner = "Mallory" }), 409},
		{"the agent gets another key", func(_ *testing.T, s *site) { s.w.Agent("agent-a", nil) }, 409},
		{"the agent is removed", func(t *testing.T, s *site) {
			t.Helper()
			_, version, err := s.w.Registry.Agent(t.Context(), "agent-a")
			if err == nil {
				err = s.w.Registry.Remove(t.Context(), "agent-a", version)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 409},
		{"the resource is switched off", func(t *testing.T, s *site) {
			t.Helper()
			s.resource("mail", func(r *agents.Resource) { r.Disabled = true })
		}, 409},
		{"the live store forgets", func(_ *testing.T, s *site) {
			s.w.Engine.Close()
		}, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			b := s.signedIn("alice")
			path := s.ask("alice", nil)
			form := b.get(path).want(200).form()
			form.Set("decision", "allow")
			form.Set("scope", "0")
			c.do(t, s)
			b.get(path).want(c.status)
			b.post(path, form).want(c.status)
			if n := len(s.grants("alice")); n != 0 {
				t.Errorf("%d grants", n)
			}
			if c.status == 409 { // saying no is always possible
				form.Set("decision", "deny")
				b.post(path, form).leads(path)
				b.get(path).want(200).has("You said no")
			}
		})
	}
}

func (s *site) resource(id string, change func(*agents.Resource)) {
	s.t.Helper()
	r, version, err := s.w.Registry.Resource(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	change(&r)
	if _, err := s.w.Registry.PutResource(s.t.Context(), r, version); err != nil {
		s.t.Fatal(err)
	}
}

// TestAFreshSignIn: a resource can want one before the user consents (SU-04).
func TestAFreshSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.resource("mail", func(r *agents.Resource) { r.MaxAuthAge = agents.Duration(5 * time.Minute) })
	b := s.signedIn("alice")
	path := s.ask("alice", nil)
	stale := b.get(path).want(200).form()
	stale.Set("decision", "allow")
	stale.Set("scope", "0")
	s.w.Pass(6 * time.Minute)
	b.post(path, stale).leads("/sign-in?fresh=1")
	to := b.get(path).leads("/sign-in?fresh=1").location()
	form := b.get(to).want(200).has("once more").form()
	form.Set("user", "alice")
	form.Set("password", "wrong horse battery")
	b.post("/sign-in", form).want(401).has("once more")
	b.get(path).leads("/sign-in?fresh=1")
	form.Set("password", password)
	b.post("/sign-in", form).leads(path)
	form = b.get(path).want(200).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	b.post(path, form).leads(path)
	if g := s.grants("alice"); len(g) != 1 || !g[0].AuthTime.Equal(s.w.Now()) {
		t.Errorf("the grants are %+v", g)
	}
	// A provider that does not tell when somebody signed in does not do.
	in, err := s.book.SignInFederated(t.Context(), users.Federated{Provider: "acme", Subject: "17"})
	if err != nil {
		t.Fatal(err)
	}
	f := s.signedIn("alice")
	f.setSession(string(in.Cookie))
	f.get(s.ask("acme:17", nil)).leads("/sign-in?fresh=1")
}

// TestUntrustedText: what third parties say is text, in full view (UI-05, O21-14, NEG-088).
func TestUntrustedText(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	s.agent = s.w.Agent("agent-a", func(a *agents.Agent) {
		a.Owner = "Pay\u202Elap\u200B" + evil
		a.Operator = strings.Repeat("long ", 200)
		a.Description = "Click Allow to cancel. " + evil + "\n\nIgnore the rest"
		a.Homepage = "https://p\u0430ypal.com/"
	})
	s.resource("mail", func(r *agents.Resource) {
		r.Name = "Mail" + evil
		r.Scopes["mail.read"] = "Read\u2066 mail" + evil
	})
	path := s.ask("alice", func(a *consent.Ask) {
		a.Scopes = []string{"mail.read", "<b>"}
		a.Details = json.RawMessage(`[{"type":"payment","amount":{"currency":"EUR","value":"25.00"},"payee":"<script>alert(2)</script>"},{"type":"unknown\u202e","x":"<script>"}]`)
	})
	b := s.signedIn("alice")
	check := func(p page) {
		t.Helper()
		p.want(200).hasNot("<script>alert", "<img", "\u202E", "\u200B", "\u2066", "<b>mail", strings.Repeat("long ", 30)).has("⟨U+202E⟩", "⟨U+200B⟩")
	}
	p := b.get(path)
	check(p)
	p.has("xn--", "⟨U+2066⟩", "nobody has checked it", "&lt;script&gt;alert(2)").hasNot("p\u0430ypal")
	form := p.form()
	form.Set("decision", "allow")
	form["scope"] = []string{"0", "1"}
	form["detail"] = []string{"0", "1"}
	b.post(path, form).leads(path)
	b.get(path).want(200).hasNot("<script>alert", "<img", "\u2066").has("⟨U+2066⟩")
	check(b.get("/agents"))
	op := s.operator()
	check(op.get("/console/agent?id=agent-a"))
	check(op.get("/console/registry"))
}

// TestGuessingQuestions: NEG-095.
func TestGuessingQuestions(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	guess := func(i int) page { return b.get("/consent/r_" + strings.Repeat("a", 18) + strconv.Itoa(1000+i)) }
	for i := range 40 {
		guess(i).want(404)
	}
	guess(41).want(429)
	s.w.Pass(16 * time.Minute)
	guess(42).want(404)
	// Who is not signed in learns nothing at all.
	nobody := s.browser()
	there := nobody.get(s.ask("alice", nil)).leads("/sign-in").status
	if nobody.get("/consent/r_"+strings.Repeat("b", 22)).leads("/sign-in").status != there {
		t.Error("they are told apart")
	}
}

func (b *browser) setSession(value string) {
	b.s.t.Helper()
	b.header.Set("Cookie", "__Host-obolus-session="+value)
	b.client.Jar = nil
}
