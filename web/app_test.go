package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/users"
)

// client registers a client and returns its id.
func (s *site) client(id string, change func(*agents.Client)) string {
	s.t.Helper()
	c := agents.Client{
		ID: id, Name: "App " + id, Homepage: "https://" + id + ".example/", RedirectURIs: []string{"https://" + id + ".example/cb"},
		GrantTypes: []oauth.GrantType{oauth.GrantAuthorizationCode},
		Credential: agents.Credential{Auth: oauth.AuthSecretBasic, SecretHash: agents.HashSecret(s.w.Secret, "secret")},
	}
	change(&c)
	if _, err := s.w.Registry.PutClient(s.t.Context(), c, 0); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// answer reads the answer that a redirect carries to the app.
func (p page) answer(to string) url.Values {
	p.t.Helper()
	p.leads(to + "?")
	u, err := url.Parse(p.location())
	if err != nil {
		p.t.Fatal(err)
	}
	q := u.Query()
	if q.Get("iss") != world.Issuer || q.Get("state") != "st" {
		p.t.Errorf("the answer is %v", q)
	}
	return q
}

func TestAnApp(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	path := s.open(nil)
	b := s.browser()
	to := b.get(path).leads("/sign-in?").location()
	b.get(to).want(200)
	b.signIn("alice", path).leads(path)
	p := b.get(path).want(200).has("The app", "app.test", "Read your mail (Mail)", "mail.read", "does not prove who it is", `value="deny" class="deny" autofocus`)
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://app.test;") {
		t.Errorf("the form cannot lead to the app: %s", csp)
	}
	form := p.form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	form.Set("redirect_uri", "https://evil.test/")
	q := b.post(path, form).answer("https://app.test/cb")
	granted, err := s.flow.Redeem(t.Context(), authcode.Claim{
		Code: q.Get("code"), ClientID: "app", RedirectURI: "https://app.test/cb", Verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
	})
	if err != nil {
		t.Fatal(err)
	}
	if granted.User != "alice" || !slices.Equal(granted.Request.Scopes, []string{"mail.read"}) || !granted.AuthTime.Equal(s.w.Now()) || !slices.Equal(granted.AMR, []string{"pwd"}) {
		t.Errorf("granted is %+v", granted)
	}
	// The answer is given once (UI-08); the same app is asked anew each time, and so is another one (MC-17, O21-11).
	b.post(path, form).want(409)
	b.get(path).want(409)
	b.get(s.open(nil)).want(200).has("The app")
	other := s.client("other", func(*agents.Client) {})
	b.get(s.open(func(r *authcode.Request) { r.ClientID, r.RedirectURI = other, "https://other.example/cb" })).want(200).has("App other")
}

func TestAnAppIsDenied(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path := s.open(nil)
	form := b.get(path).form()
	form.Set("decision", "deny")
	form.Set("scope", "0")
	if q := b.post(path, form).answer("https://app.test/cb"); q.Get("error") != "access_denied" || q.Has("code") {
		t.Errorf("the answer is %v", q)
	}
	form.Set("decision", "allow")
	b.post(path, form).want(409)
}

func TestAnAppsForms(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path, other := s.open(nil), s.open(nil)
	for name, change := range map[string]func(url.Values){
		"nothing is ticked":   func(f url.Values) { f.Del("scope") },
		"a scope beyond":      func(f url.Values) { f.Set("scope", "2") },
		"a scope by name":     func(f url.Values) { f.Set("scope", "mail.delete") },
		"a detail not asked":  func(f url.Values) { f.Set("detail", "0") },
		"neither yes nor no":  func(f url.Values) { f.Del("decision") },
		"no token":            func(f url.Values) { f.Del("form") },
		"the token of others": func(f url.Values) { f.Set("form", b.get(other).form().Get("form")) },
	} {
		form := b.get(path).want(200).form()
		form.Set("decision", "allow")
		form.Set("scope", "0")
		change(form)
		if p := b.post(path, form); p.status != 400 && p.status != 403 {
			t.Errorf("%s: %d", name, p.status)
		}
	}
	if n := len(s.w.Events(audit.KindAuthorize)); n != 0 {
		t.Errorf("%d decisions", n)
	}
}

func TestManyAnswersToAnApp(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path := s.open(nil)
	form := b.get(path).form()
	var all sync.WaitGroup
	pages := make([]page, 30)
	for i := range pages {
		all.Go(func() {
			pages[i] = b.post(path, url.Values{"form": form["form"], "scope": {"0"}, "decision": {[]string{"allow", "deny"}[i%2]}})
		})
	}
	all.Wait()
	answers := 0
	for _, p := range pages {
		if p.status == http.StatusSeeOther {
			answers++
		} else {
			p.want(409)
		}
	}
	if answers != 1 {
		t.Errorf("%d answers", answers)
	}
}

// TestWhoIsAsked: prompt, max_age, acr_values and first-party apps.
func TestWhoIsAsked(t *testing.T) {
	t.Parallel()
	const asked, code, fresh = "asked", "code", "fresh sign-in"
	type request = authcode.Request
	ours := func(r *request) { r.ClientID, r.RedirectURI = "ours", "https://ours.example/cb" }
	for _, c := range []struct {
		name     string
		signedIn bool
		change   func(*request)
		want     string // asked, code, fresh sign-in, sign-in, or an error
	}{
		{"an app", true, func(*request) {}, asked},
		{"an app, silently", true, func(r *request) { r.Prompt = "none" }, "interaction_required"},
		{"an app, silently, without a session", false, func(r *request) { r.Prompt = "none" }, "login_required"},
		{"our app", true, ours, code},
		{"our app, silently", true, func(r *request) { ours(r); r.Prompt = "none" }, code},
		{"our app, silently, without a session", false, func(r *request) { ours(r); r.Prompt = "none" }, "login_required"},
		{"our app, without a session", false, ours, "sign-in"},
		{"our app that wants to ask", true, func(r *request) { ours(r); r.Prompt = "consent" }, asked},
		{"an app that says it is ours and proves nothing", true, func(r *request) {
			r.ClientID, r.RedirectURI = "pretender", "https://pretender.example/cb"
		}, asked},
		{"prompt=login", true, func(r *request) { r.Prompt = "login" }, fresh},
		{"our app, prompt=login", true, func(r *request) { ours(r); r.Prompt = "login" }, fresh},
		{"max_age that is met", true, func(r *request) { r.MaxAge = 600 }, asked},
		{"max_age that is not met", true, func(r *request) { r.MaxAge = 60 }, fresh},
		{"max_age=0", true, func(r *request) { r.MaxAge = 0 }, fresh},
		{"our app, max_age that is not met, silently", true, func(r *request) { ours(r); r.MaxAge, r.Prompt = 60, "none" }, "login_required"},
		{"an acr that is not met", true, func(r *request) { r.ACRValues = []string{"gold"} }, fresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.client("ours", func(c *agents.Client) { c.FirstParty = true })
			s.client("pretender", func(c *agents.Client) { c.FirstParty, c.Credential = true, agents.Credential{Auth: oauth.AuthNone} })
			b := s.browser()
			if c.signedIn {
				b = s.signedIn("alice")
			}
			s.w.Pass(2 * time.Minute)
			path := s.open(c.change)
			p := b.get(path)
			switch c.want {
			case asked:
				p.want(200).has(`value="allow"`)
			case "sign-in":
				p.leads("/sign-in?return_to=")
			case fresh:
				p.leads("/sign-in?fresh=1")
				b.signIn("alice", path).leads(path)
				switch p = b.get(path); {
				case strings.Contains(c.name, "acr"): // what cannot be met is told to the app, not asked for ever
					if got := p.answer("https://app.test/cb").Get("error"); got != "login_required" {
						t.Errorf("the error is %q", got)
					}
				case strings.Contains(c.name, "our app"):
					p.want(303)
				default:
					p.want(200).has(`value="allow"`)
				}
			case code:
				if p.answer("https://ours.example/cb").Get("code") == "" {
					t.Error("there is no code")
				}
			default:
				q := p.leads("https://").location()
				if !strings.Contains(q, "error="+c.want) || strings.Contains(q, "code=") {
					t.Errorf("leads to %s", q)
				}
			}
		})
	}
}

// TestAStaleSignInDecidesNothing: what the page was shown for must hold when the form is sent.
func TestAStaleSignInDecidesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	s.w.Pass(2 * time.Minute)
	path := s.open(func(r *authcode.Request) { r.MaxAge = 180 })
	form := b.get(path).want(200).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	s.w.Pass(2 * time.Minute)
	b.post(path, form).leads("/sign-in?fresh=1")
	if n := len(s.w.Events(audit.KindAuthorize)); n != 0 {
		t.Errorf("%d decisions", n)
	}
}

// TestTheRequestIsForWhoOpenedIt: another user, or another browser, cannot decide it.
func TestTheRequestIsForWhoOpenedIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	path := s.open(nil)
	alice := s.signedIn("alice")
	form := alice.get(path).want(200).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	for name, b := range map[string]*browser{"another user": s.signedIn("bob"), "another browser": s.signedIn("alice")} {
		if p := b.get(path); p.status != 403 || strings.Contains(p.body, "The app") {
			t.Errorf("%s opens it: %d", name, p.status)
		}
		if p := b.post(path, form); p.status != 403 {
			t.Errorf("%s decides it: %d", name, p.status)
		}
	}
	alice.signIn("bob", "").leads("/agents")
	alice.get(path).want(403)
	alice.post(path, form).want(403)
	alice.signIn("alice", "").leads("/agents")
	alice.post(path, form).want(403) // the session is another one
	form.Set("form", alice.get(path).want(200).form().Get("form"))
	alice.post(path, form).answer("https://app.test/cb")
}

func TestWhereAnAppsAnswerGoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	for _, c := range []struct{ redirect, shown, target, warning string }{
		{"http://127.0.0.1:53121/cb", "127.0.0.1:53121", "http://127.0.0.1:53121", "runs on this very device"},
		{"http://[::1]:53121/cb", "[::1]:53121", "http:", "runs on this very device"},
		{"http://localhost:53121/cb", "localhost:53121", "http://localhost:53121", "runs on this very device"},
		{"com.example.app:/cb", "com.example.app", "com.example.app:", "does not prove who it is"},
		{"https://app.test/cb", "app.test", "https://app.test", "does not prove who it is"},
	} {
		p := b.get(s.open(func(r *authcode.Request) { r.RedirectURI = c.redirect })).want(200).has("<code>"+c.shown+"</code>", c.warning)
		if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+c.target+";") {
			t.Errorf("%s: %s", c.redirect, csp)
		}
	}
	// The form that signs in leads on to an app of ours.
	s.client("ours", func(c *agents.Client) { c.FirstParty = true })
	path := s.open(func(r *authcode.Request) { r.ClientID, r.RedirectURI = "ours", "https://ours.example/cb" })
	p := s.browser().get("/sign-in?return_to=" + url.QueryEscape(path)).want(200)
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://ours.example;") {
		t.Errorf("the sign-in cannot lead to the app: %s", csp)
	}
}

func TestVoidRequests(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(*testing.T, *site){
		"time runs out": func(_ *testing.T, s *site) { s.w.Pass(11 * time.Minute) },
		"the app is disabled": func(t *testing.T, s *site) {
			t.Helper()
			c, version, err := s.w.Registry.Client(t.Context(), "app")
			if err == nil {
				c.Disabled = true
				_, err = s.w.Registry.PutClient(t.Context(), c, version)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"the app is removed": func(t *testing.T, s *site) {
			t.Helper()
			_, version, err := s.w.Registry.Client(t.Context(), "app")
			if err == nil {
				err = s.w.Registry.Remove(t.Context(), "app", version)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"the user is disabled": func(t *testing.T, s *site) {
			t.Helper()
			a, version, err := s.book.Account(t.Context(), "alice")
			if err == nil {
				a.Disabled = true
				_, err = s.book.Put(t.Context(), a, users.Secret{}, version)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			b := s.signedIn("alice")
			path := s.open(nil)
			form := b.get(path).form()
			form.Set("decision", "allow")
			form.Set("scope", "0")
			do(t, s)
			if p := b.post(path, form); p.status == 303 && !strings.HasPrefix(p.location(), "/sign-in") {
				t.Errorf("leads to %s", p.location())
			} else if p.status != 303 && p.status != 404 && p.status != 409 {
				t.Errorf("status %d", p.status)
			}
			if n := len(s.w.Events(audit.KindAuthorize)); n != 0 {
				t.Errorf("%d decisions", n)
			}
		})
	}
}
