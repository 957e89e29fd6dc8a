package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"obolus/consent"
	"obolus/users"
	"obolus/web"
)

// TestHeaders: every answer in HTML has them, errors too (UI-02, NEG-082, BCP-06, BCP-12).
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	user, operator, nobody := s.signedIn("alice"), s.operator(), s.browser()
	ask, app := s.ask("alice", nil), s.open(nil)
	decided := s.ask("alice", func(a *consent.Ask) { a.Scopes = []string{"mail.read"} })
	form := user.get(decided).form()
	form.Set("decision", "deny")
	user.post(decided, form).want(303)
	for _, c := range []struct {
		name   string
		b      *browser
		method string
		path   string
		status int
	}{
		{"sign-in", nobody, "GET", "/sign-in", 200},
		{"sign-in without a form", nobody, "POST", "/sign-in", 403},
		{"sign-in by another method", nobody, "DELETE", "/sign-in", 405},
		{"question", user, "GET", ask, 200},
		{"question, HEAD", user, "HEAD", ask, 200},
		{"question without a form", user, "POST", ask, 403},
		{"answer", user, "GET", decided, 200},
		{"question that is not there", user, "GET", "/consent/r_aaaaaaaaaaaaaaaaaaaaaa", 404},
		{"question of no kind", user, "GET", "/consent/x", 404},
		{"question to somebody who is not signed in", nobody, "GET", ask, 303},
		{"app", user, "GET", app, 200},
		{"app that is not there", nobody, "GET", "/consent/a_aaaaaaaaaaaaaaaaaaaaaa", 404},
		{"my agents", user, "GET", "/agents", 200},
		{"my agents without a form", user, "POST", "/agents", 403},
		{"sign-out by GET", user, "GET", "/sign-out", 405},
		{"a query that cannot be read", user, "GET", "/agents?%zz", 400},
		{"no such provider", nobody, "GET", "/sign-in/nobody", 404},
		{"console", operator, "GET", "/console", 200},
		{"console to nobody", nobody, "GET", "/console", 303},
		{"console sign-in", nobody, "GET", "/console/sign-in", 200},
		{"registry", operator, "GET", "/console/registry", 200},
		{"guardrails", operator, "GET", "/console/guardrails", 200},
		{"an agent", operator, "GET", "/console/agent?id=agent-a", 200},
		{"no agent", operator, "GET", "/console/agent?id=nobody", 404},
		{"no transaction", operator, "GET", "/console/transactions/txn_x", 404},
		{"stop", operator, "GET", "/console/stop", 200},
		{"ledger", operator, "GET", "/console/ledger", 200},
		{"an entry", operator, "GET", "/console/ledger/1", 200},
		{"no entry", operator, "GET", "/console/ledger/99999", 404},
		{"since no stop", operator, "GET", "/console/since?kind=agent&id=agent-a", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var body url.Values
			if c.method == http.MethodPost {
				body = url.Values{}
			}
			p := c.b.do(c.method, c.path, body)
			p.t = t
			p.want(c.status)
			csp := p.header.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "style-src 'self'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("the policy %q lacks %s", csp, want)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
				t.Errorf("the policy is %q", csp)
			}
			for name, want := range map[string]string{
				"X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
				"X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
			} {
				if got := p.header.Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
			if strings.HasPrefix(c.path, "/consent/") && c.status == http.StatusNotFound {
				p.has("There is nothing to answer here", "it asks again")
			}
			if c.status != 303 && p.header.Get("Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("the type is %q", p.header.Get("Content-Type"))
			}
			foreign := regexp.MustCompile(`(?i)(src|href|action|srcset|data)="(https?:)?//|style=|<script>|javascript:|\son[a-z]+=`)
			if found := foreign.FindString(p.body); found != "" {
				t.Errorf("the page has %s", found)
			}
		})
	}
}

func TestAssets(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser()
	paths := regexp.MustCompile(`/assets/[a-z0-9.-]+`).FindAllString(b.get("/sign-in").body, -1)
	if len(paths) < 2 {
		t.Fatalf("the page loads %v", paths)
	}
	for _, path := range paths {
		p := b.get(path).want(200)
		if !strings.Contains(p.header.Get("Cache-Control"), "immutable") || p.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, p.header)
		}
		if len(p.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s sets a cookie", path)
		}
	}
	for _, path := range []string{"/assets/obolus.css", "/assets/..%2fserver.go", "/assets/x"} {
		if p := b.get(path); p.status == 200 {
			t.Errorf("%s is served", path)
		}
	}
}

func TestCookies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		issuer, prefix string
		secure         bool
	}{
		{"https://as.test", "__Host-obolus-", true},
		{"http://127.0.0.1:8420", "obolus-", false},
		{"https://as.test/tenant1", "__Host-obolus-", true},
	} {
		t.Run(c.issuer, func(t *testing.T) {
			t.Parallel()
			server, s := c.issuer, newSite(t, func(cfg *web.Config) { cfg.Issuer = c.issuer })
			u, err := url.Parse(server)
			if err != nil {
				t.Fatal(err)
			}
			// The server speaks TLS whatever its issuer says; only the attributes are looked at.
			s.cfg.Issuer = "https://as.test"
			b := s.browser()
			page := b.get(u.Path + "/sign-in").want(200)
			form := page.form()
			form.Set("user", "alice")
			form.Set("password", password)
			in := b.post(u.Path+"/sign-in", form).leads(u.Path + "/agents")
			for _, header := range append(page.header.Values("Set-Cookie"), in.header.Values("Set-Cookie")...) {
				cookie, err := http.ParseSetCookie(header)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(cookie.Name, c.prefix) || cookie.Secure != c.secure || !cookie.HttpOnly || cookie.Path != "/" ||
					cookie.SameSite != http.SameSiteLaxMode || cookie.Domain != "" || cookie.MaxAge != 0 {
					t.Errorf("the cookie is %s", header)
				}
				if (u.Path != "") != (strings.Count(cookie.Name, "-") > strings.Count(c.prefix, "-")) {
					t.Errorf("servers that share a host share the cookie %s", cookie.Name)
				}
			}
			if u.Path != "" {
				b.get(u.Path+"/agents").want(200).has(`href="/tenant1/agents"`, `action="/tenant1/sign-out"`)
				if p := b.get("/agents"); p.status != 404 {
					t.Errorf("beside the path of the issuer there is something: %d", p.status)
				}
			}
		})
	}
}

// TestReturnTo: nobody is led anywhere else by the sign-in (NEG-094).
func TestReturnTo(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, back := range []string{
		"https://evil.test/", "//evil.test/", "/\\evil.test", "\\\\evil.test", "/%2f/evil.test", "/agents/../../evil", "javascript:alert(1)", "",
		"/consent/../sign-out", "/consent/r_x/../../y", "/consent/r_x?next=//evil.test", "/consent/r_x#", " /consent/r_abc", "/consent/r_\r\nabc",
		"/console", "/sign-in", "http:/agents", "@evil.test", "/consent//evil.test", "/consent/" + strings.Repeat("a", 65),
	} {
		b := s.browser()
		if got := b.signIn("alice", back).want(303).location(); got != "/agents" {
			t.Errorf("%q leads to %q", back, got)
		}
		if got := b.get("/sign-in?return_to=" + url.QueryEscape(back)).want(303).location(); got != "/agents" {
			t.Errorf("%q leads who is signed in to %q", back, got)
		}
	}
	s.browser().signIn("alice", "/consent/r_abcdefgh-_1").leads("/consent/r_abcdefgh-_1")
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	t.Run("an unknown name reads like a wrong password", func(t *testing.T) {
		t.Parallel()
		b := s.browser()
		read := func(user, pass string) string {
			form := b.get("/sign-in").form()
			form.Set("user", user)
			form.Set("password", pass)
			p := b.post("/sign-in", form)
			p.t = t
			p.want(401).hasNot(pass)
			return strings.ReplaceAll(p.body, user, "USER")
		}
		if read("alice", "wrong horse battery") != read("nobody", "wrong horse battery") {
			t.Error("they are told apart (NEG-092)")
		}
	})
	t.Run("the session is another one after the sign-in", func(t *testing.T) {
		t.Parallel()
		b := s.signedIn("alice")
		before := session(b)
		b.signIn("alice", "").leads("/agents")
		if after := session(b); after == before {
			t.Error("the cookie stays")
		}
		if _, err := s.book.Session(t.Context(), users.Cookie(before)); err == nil {
			t.Error("the old session goes on")
		}
	})
	t.Run("a planted cookie is not taken over", func(t *testing.T) {
		t.Parallel()
		b := s.browser()
		planted := strings.Repeat("A", 43)
		u, _ := url.Parse("https://as.test/")
		b.client.Jar.SetCookies(u, []*http.Cookie{{Name: "__Host-obolus-session", Value: planted, Path: "/", Secure: true}})
		b.signIn("alice", "").leads("/agents")
		if session(b) == planted {
			t.Error("the planted cookie is the session now")
		}
	})
	t.Run("too many attempts", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		b := s.browser()
		form := b.get("/sign-in").form()
		form.Set("user", "alice")
		form.Set("password", "wrong horse battery")
		for range 10 {
			b.post("/sign-in", form).want(401)
		}
		b.post("/sign-in", form).want(429)
		form.Set("password", password)
		b.post("/sign-in", form).want(429)
	})
	t.Run("a disabled user is out at once", func(t *testing.T) {
		t.Parallel()
		s.user("carol", "Carol")
		b := s.signedIn("carol")
		a, version, err := s.book.Account(t.Context(), "carol")
		if err != nil {
			t.Fatal(err)
		}
		a.Disabled = true
		if _, err := s.book.Put(t.Context(), a, users.Secret{}, version); err != nil {
			t.Fatal(err)
		}
		b.get("/agents").leads("/sign-in")
	})
	t.Run("signing out", func(t *testing.T) {
		t.Parallel()
		b := s.signedIn("alice")
		kept, form := session(b), b.get("/agents").signOutForm()
		b.post("/sign-out", url.Values{}).want(403)
		b.post("/sign-out", url.Values{"form": {"x"}}).want(403)
		b.post("/sign-out", form).leads("/sign-in")
		if _, err := s.book.Session(t.Context(), users.Cookie(kept)); err == nil {
			t.Error("the session goes on")
		}
	})
}

// TestForgedForms: a form counts only if a page of ours in this very session sent it (UI-01, NEG-083).
func TestForgedForms(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	alice, again, bob := s.signedIn("alice"), s.signedIn("alice"), s.signedIn("bob")
	path, other := s.ask("alice", nil), s.ask("alice", func(a *consent.Ask) { a.Scopes = []string{"mail.read"} })
	bobs := s.ask("bob", nil)
	good := func() url.Values {
		form := alice.get(path).want(200).form()
		form.Set("decision", "allow")
		form.Set("scope", "0")
		return form
	}
	with := func(change func(url.Values)) url.Values {
		form := good()
		change(form)
		return form
	}
	for _, c := range []struct {
		name   string
		b      *browser
		form   url.Values
		header map[string]string
		status int
	}{
		{"no token", alice, with(func(f url.Values) { f.Del("form") }), nil, 403},
		{"an empty token", alice, with(func(f url.Values) { f.Set("form", "") }), nil, 403},
		{"two tokens", alice, with(func(f url.Values) { f.Add("form", f.Get("form")) }), nil, 403},
		{"the token of another question", alice, with(func(f url.Values) { f.Set("form", alice.get(other).form().Get("form")) }), nil, 403},
		{"the token of the page of agents", alice, with(func(f url.Values) { f.Set("form", alice.get("/agents").signOutForm().Get("form")) }), nil, 403},
		{"the token of another session of the same user", again, good(), nil, 403},
		{"the token of another user", alice, with(func(f url.Values) { f.Set("form", bob.get(bobs).form().Get("form")) }), nil, 403},
		{"another user's session", bob, good(), nil, 403},
		{"from another site", alice, good(), map[string]string{"Origin": "https://evil.test"}, 403},
		{"from another port", alice, good(), map[string]string{"Origin": "https://as.test:8443"}, 403},
		{"over http", alice, good(), map[string]string{"Origin": "http://as.test"}, 403},
		{"from a sandbox", alice, good(), map[string]string{"Origin": "null"}, 403},
		{"cross-site", alice, good(), map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"same-site", alice, good(), map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"by nobody's doing", alice, good(), map[string]string{"Sec-Fetch-Site": "none"}, 403},
		{"same-origin from elsewhere", alice, good(), map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.test"}, 403},
		{"as JSON", alice, good(), map[string]string{"Content-Type": "application/json"}, 415},
		{"as text", alice, good(), map[string]string{"Content-Type": "text/plain"}, 415},
		{"too large", alice, with(func(f url.Values) { f.Set("pad", strings.Repeat("x", 70<<10)) }), nil, 413},
		{"not signed in", s.browser(), good(), nil, 303},
	} {
		t.Run(c.name, func(t *testing.T) { //nolint:paralleltest // they share browsers, whose headers are changed
			for name, value := range c.header {
				c.b.header.Set(name, value)
			}
			p := c.b.post(path, c.form)
			for name := range c.header {
				c.b.header.Del(name)
			}
			p.t = t
			p.want(c.status)
			if c.status == 303 {
				p.leads("/sign-in?")
			}
			if n := len(s.grants("alice")); n != 0 {
				t.Fatalf("%d grants came of it", n)
			}
		})
	}
	// The same form from our own page, as browsers send it, counts.
	alice.header.Set("Sec-Fetch-Site", "same-origin")
	alice.header.Set("Origin", "null")
	alice.post(path, good()).leads(path)
	if n := len(s.grants("alice")); n != 1 {
		t.Errorf("%d grants", n)
	}
}

func session(b *browser) string {
	u, err := url.Parse("https://as.test/")
	if err != nil {
		b.s.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == "__Host-obolus-session" {
			return c.Value
		}
	}
	return ""
}

// TestAForeignBrowserCannotSignSomebodyIn: login CSRF.
func TestAForeignBrowserCannotSignSomebodyIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	attacker, victim := s.browser(), s.browser()
	form := attacker.get("/sign-in").form()
	form.Set("user", "alice")
	form.Set("password", password)
	victim.get("/sign-in")
	victim.post("/sign-in", form).want(403)
	if session(victim) != "" {
		t.Error("the victim is signed in as the attacker")
	}
	attacker.header.Set("Sec-Fetch-Site", "cross-site")
	attacker.post("/sign-in", form).want(403)
}

func TestAStoreThatIsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path := s.ask("alice", nil)
	form := b.get(path).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	s.w.Engine.Down.Store(true)
	if p := b.get(path).want(503); p.header.Get("Retry-After") == "" {
		t.Error("it does not say when to come back")
	}
	b.post(path, form).want(503)
	s.w.Engine.Down.Store(false)
	s.w.Records.Down.Store(true)
	b.get(path).want(503)
	b.get("/agents").want(503)
	s.w.Records.Down.Store(false)
	if n := len(s.grants("alice")); n != 0 {
		t.Errorf("%d grants", n)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := newSite(t, nil).cfg
	for name, change := range map[string]func(*web.Config){
		"no book":                     func(c *web.Config) { c.Users = nil },
		"no ledger":                   func(c *web.Config) { c.Ledger = nil },
		"an issuer that is no URL":    func(c *web.Config) { c.Issuer = "as.test" },
		"no lifetime":                 func(c *web.Config) { c.DefaultLifetime = 0 },
		"a default above the maximum": func(c *web.Config) { c.MaxLifetime = c.DefaultLifetime / 2 },
		"providers and no client": func(c *web.Config) {
			c.Providers = []web.Provider{{ID: "acme", Issuer: "https://a.test", ClientID: "x"}}
		},
		"a provider with a colon": func(c *web.Config) {
			c.HTTP, c.Providers = http.DefaultClient, []web.Provider{{ID: "a:b", Issuer: "https://a.test", ClientID: "x"}}
		},
		"a provider twice": func(c *web.Config) {
			p := web.Provider{ID: "acme", Issuer: "https://a.test", ClientID: "x"}
			c.HTTP, c.Providers = http.DefaultClient, []web.Provider{p, p}
		},
	} {
		cfg := good
		change(&cfg)
		if _, err := web.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
