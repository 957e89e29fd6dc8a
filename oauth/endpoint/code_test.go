package endpoint_test

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
	"obolus/oauth/endpoint"
	"obolus/token"
)

// codeSite is a site with more clients that use the code.
func codeSite(t testing.TB, change func(*endpoint.Config)) *site {
	t.Helper()
	s := newSite(t, change)
	code := []oauth.GrantType{oauth.GrantAuthorizationCode}
	public := agents.Credential{Auth: oauth.AuthNone}
	s.register(agents.Client{
		ID: "native", Name: "Native", GrantTypes: code, Credential: public,
		RedirectURIs: []string{"http://127.0.0.1/cb?x=1", "http://[::1]:8000/cb", "http://localhost/cb", "com.example.app:/cb", "https://native.test/cb"},
	})
	s.register(agents.Client{
		ID: "narrow", Name: "Narrow", GrantTypes: code, RedirectURIs: []string{"https://narrow.test/cb"}, Scopes: []string{"mail.read"},
		DetailTypes: []string{"mcp_tool_call"},
		Credential:  agents.Credential{Auth: oauth.AuthSecretPost, SecretHash: agents.HashSecret(s.Secret, "secret"), DPoP: true},
	})
	s.register(agents.Client{ID: "off", Name: "Off", GrantTypes: code, RedirectURIs: []string{"https://off.test/cb"}, Credential: public, Disabled: true})
	return s
}

// ask is an authorization request that goes on to its user.
func ask(pairs ...string) url.Values {
	f := form(
		"response_type", "code", "client_id", "app", "redirect_uri", "https://app.test/cb", "state", "st", "scope", "mail.read",
		"resource", mail, "code_challenge", challenge(), "code_challenge_method", "S256",
	)
	for i := 0; i < len(pairs); i += 2 {
		f.Del(pairs[i])
		if pairs[i+1] != "" {
			f.Set(pairs[i], pairs[i+1])
		}
	}
	return f
}

func (s *site) authorize(f url.Values) answer {
	s.t.Helper()
	return s.do(s.request(http.MethodGet, "/authorize?"+f.Encode(), ""))
}

// opened gives the id of the request that a user is asked about.
func (s *site) opened(a answer) string {
	s.t.Helper()
	id, ok := strings.CutPrefix(a.header.Get("Location"), world.Issuer+"/consent/")
	if a.status != http.StatusSeeOther || !ok || !strings.HasPrefix(id, "a_") {
		s.t.Fatalf("got %d %s %s", a.status, a.header.Get("Location"), a.body)
	}
	return id
}

// allowed lets alice allow everything that a request asks for, and gives the code.
func (s *site) allowed(id string) string {
	s.t.Helper()
	r, err := s.flow.Pending(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	d := authcode.Decision{User: "alice", AuthTime: s.Now(), Scopes: r.Scopes, ACR: "urn:mfa", AMR: []string{"pwd"}}
	if len(r.Details) > 0 {
		d.Details = []int{0}
	}
	location, err := s.flow.Allow(s.t.Context(), id, d)
	if err != nil {
		s.t.Fatal(err)
	}
	u, err := url.Parse(location)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Query().Get("code")
}

func (s *site) code(pairs ...string) string {
	s.t.Helper()
	return s.allowed(s.opened(s.authorize(ask(pairs...))))
}

func redeeming(code string, pairs ...string) url.Values {
	f := form("grant_type", "authorization_code", "code", code, "client_id", "app", "code_verifier", verifier)
	for i := 0; i < len(pairs); i += 2 {
		f.Del(pairs[i])
		if pairs[i+1] != "" {
			f.Set(pairs[i], pairs[i+1])
		}
	}
	return f
}

func TestCodeFlow(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	a := s.authorize(ask())
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Referrer-Policy") != "no-referrer" || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("headers %v", a.header)
	}
	code := s.allowed(s.opened(a))
	var got answer
	events := s.eventsDuring(func() {
		got = s.post("/token", redeeming(code, "resource", mail, "redirect_uri", "https://app.test/cb"))
	})
	if got.status != 200 || got.str("token_type") != "Bearer" || got.str("scope") != "mail.read" || got.json["expires_in"] != 600.0 ||
		got.json["refresh_token"] != nil || got.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	v, err := s.Verifier.Verify(t.Context(), got.str("access_token"))
	c := v.Claims()
	if err != nil || c.Subject != "alice" || c.ClientID != "app" || c.Audience[0] != mail || c.Act != nil || c.ACR != "urn:mfa" ||
		c.AuthTime != s.Now().Unix() || c.TxnMode != "" || c.Confirm != nil {
		t.Errorf("claims %+v, %v", c, err)
	}
	if len(events) != 1 || events[0].Kind != audit.KindSession || events[0].User != "alice" {
		t.Errorf("events %+v", events)
	}
	if in := s.as("mail-server", "/introspect", form("token", got.str("access_token"))); in.json["active"] != true {
		t.Errorf("introspection %s", in.body)
	}
}

func TestAuthorizeByPost(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	s.opened(s.post("/authorize", ask()))
	a := s.do(s.request(http.MethodPost, "/authorize?state=x", ask().Encode()))
	if a.status != 400 || a.header.Get("Location") != "" {
		t.Errorf("parameters in both places: %d", a.status)
	}
	if a := s.do(s.request(http.MethodPut, "/authorize", "")); a.status != 405 || a.header.Get("Allow") != "GET, POST" {
		t.Errorf("PUT: %d %q", a.status, a.header.Get("Allow"))
	}
}

// TestAuthorizeWithoutResource: the token is for the issuer, and good for exchanges.
func TestAuthorizeWithoutResource(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	for _, resource := range []string{"", world.Issuer} {
		a := s.post("/token", redeeming(s.code("resource", resource, "scope", "mail.read files.read")))
		v, err := s.Verifier.Verify(t.Context(), a.str("access_token"))
		if err != nil || v.Claims().Audience[0] != world.Issuer || v.Claims().Scope != "mail.read files.read" {
			t.Fatalf("got %d %s, %v", a.status, a.body, err)
		}
		f := s.asserted(with(s.teForm(), "subject_token", a.str("access_token")))
		if a := s.post("/token", f); a.status != 200 {
			t.Errorf("exchange: %d %s", a.status, a.body)
		}
	}
}

// TestPagesNotRedirects: what is wrong with client or redirect URI is told to the person, in a page that nothing can be put into.
func TestPagesNotRedirects(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	for _, c := range []struct {
		name string
		form url.Values
	}{
		{"an unknown client", ask("client_id", "nobody")},
		{"an id that cannot be one", ask("client_id", `<script>"`)},
		{"a disabled client", ask("client_id", "off", "redirect_uri", "https://off.test/cb")},
		{"no client", ask("client_id", "")},
		{"an agent", ask("client_id", "agent-a")},
		{"another redirect URI", ask("redirect_uri", "https://evil.test/cb")},
		{"a longer redirect URI", ask("redirect_uri", "https://app.test/cb/../x")},
		{"another case", ask("redirect_uri", "https://app.test/CB")},
		{"a port more", ask("redirect_uri", "https://app.test:443/cb")},
		{"a query more", ask("redirect_uri", "https://app.test/cb?x=1")},
		{"a fragment more", ask("redirect_uri", "https://app.test/cb#x")},
		{"a user more", ask("redirect_uri", "https://app.test@evil.test/cb")},
		{"two redirect URIs", func() url.Values { f := ask(); f.Add("redirect_uri", "https://evil.test"); return f }()},
		{"two clients", func() url.Values { f := ask(); f.Add("client_id", "native"); return f }()},
		{"none of several redirect URIs", ask("client_id", "native", "redirect_uri", "")},
		{"a request_uri that was not pushed", ask("request_uri", "urn:ietf:params:oauth:request_uri:AAAAAAAAAAAAAAAAAAAAAA")},
		{"control characters", ask("state", "a\nb")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			a := s.authorize(c.form)
			h := a.header
			if a.status != 400 || h.Get("Location") != "" || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
				t.Fatalf("got %d %s %v", a.status, a.body, h)
			}
			if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
				h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", h)
			}
			if strings.Contains(a.body, "evil") || strings.Contains(a.body, "<script") {
				t.Errorf("the page shows what was sent: %s", a.body)
			}
		})
	}
}

func TestAuthorizeRefusals(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	narrow := func(pairs ...string) url.Values {
		return ask(append([]string{"client_id", "narrow", "redirect_uri", "https://narrow.test/cb"}, pairs...)...)
	}
	twice := func(name string) url.Values { f := ask(); f.Add(name, "other"); return f }
	payment := `[{"type":"payment","locations":["https://mail.test/api"],"amount":{"value":"1.00","currency":"EUR"},"payee":"x"}]`
	s.opened(s.authorize(ask("authorization_details", payment))) // all but what is changed below is right
	s.opened(s.authorize(narrow()))
	for _, c := range []struct {
		name string
		form url.Values
		code oauth.Code
	}{
		{"no response type", ask("response_type", ""), oauth.InvalidRequest},
		{"token", ask("response_type", "token"), oauth.UnsupportedResponseType},
		{"code and token", ask("response_type", "code token"), oauth.UnsupportedResponseType},
		{"id_token", ask("response_type", "id_token"), oauth.UnsupportedResponseType},
		{"fragment", ask("response_mode", "fragment"), oauth.InvalidRequest},
		{"form_post", ask("response_mode", "form_post"), oauth.InvalidRequest},
		{"no challenge", ask("code_challenge", ""), oauth.InvalidRequest},
		{"plain", ask("code_challenge_method", "plain"), oauth.InvalidRequest},
		{"no method, which means plain", ask("code_challenge_method", ""), oauth.InvalidRequest},
		{"a challenge that is no digest", ask("code_challenge", strings.Repeat("a", 42)), oauth.InvalidRequest},
		{"no scope", ask("scope", ""), oauth.InvalidScope},
		{"a scope that the resource does not have", ask("scope", "files.read"), oauth.InvalidScope},
		{"a scope that no resource has", ask("resource", "", "scope", "root"), oauth.InvalidScope},
		{"two spaces", ask("scope", "mail.read  mail.send"), oauth.InvalidScope},
		{"a scope above the client", narrow("scope", "mail.send"), oauth.InvalidScope},
		{"a wildcard", narrow("scope", "mail.*"), oauth.InvalidScope},
		{"an unknown resource", ask("resource", "https://nowhere.test"), oauth.InvalidTarget},
		{"a relative resource", ask("resource", "mail"), oauth.InvalidTarget},
		{"a resource with a fragment", ask("resource", mail+"#x"), oauth.InvalidTarget},
		{"a resource by a detour", ask("resource", mail+"/../api"), oauth.InvalidTarget},
		{"two resources", func() url.Values { f := ask(); f.Add("resource", "https://files.test"); return f }(), oauth.InvalidTarget},
		{"details that are no array", ask("authorization_details", `{"type":"payment"}`), oauth.InvalidAuthorizationDetails},
		{"details of an unknown type", ask("authorization_details", `[{"type":"x"}]`), oauth.InvalidAuthorizationDetails},
		{"details of a type that the client may not ask for", narrow("authorization_details", payment), oauth.InvalidAuthorizationDetails},
		{"details of a type that the resource does not have", ask("resource", "https://files.test", "scope", "files.read", "authorization_details", payment), oauth.InvalidAuthorizationDetails},
		{"details for another place", ask("authorization_details", strings.ReplaceAll(payment, "mail.test/api", "files.test")), oauth.InvalidAuthorizationDetails},
		{"a request object", ask("request", "eyJ.x.y"), oauth.RequestNotSupported},
		{"a request_uri of elsewhere", ask("request_uri", "https://evil.test/r"), oauth.RequestURINotSupported},
		{"registration", ask("registration", "{}"), oauth.InvalidRequest},
		{"an actor token", ask("actor_token", "x"), oauth.InvalidRequest},
		{"a secret", ask("client_secret", "x"), oauth.InvalidRequest},
		{"a thumbprint that is none", ask("dpop_jkt", "x"), oauth.InvalidRequest},
		{"a negative max_age", ask("max_age", "-1"), oauth.InvalidRequest},
		{"a max_age in words", ask("max_age", "1h"), oauth.InvalidRequest},
		{"an unknown prompt", ask("prompt", "always"), oauth.InvalidRequest},
		{"none and more", ask("prompt", "none login"), oauth.InvalidRequest},
		{"a sign-in that there is not", ask("acr_values", "urn:retina urn:smartcard"), oauth.UnmetAuthRequirements},
		{"two scopes", twice("scope"), oauth.InvalidRequest},
		{"two states", twice("state"), oauth.InvalidRequest},
		{"two challenges", twice("code_challenge"), oauth.InvalidRequest},
		{"two unknown parameters", func() url.Values { f := twice("foo"); f.Add("foo", "x"); return f }(), oauth.InvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			a := s.authorize(c.form)
			u, err := url.Parse(a.header.Get("Location"))
			if err != nil || a.status != http.StatusSeeOther {
				t.Fatalf("got %d %s %s", a.status, a.header.Get("Location"), a.body)
			}
			q := u.Query()
			if want := c.form.Get("redirect_uri"); u.Scheme+"://"+u.Host+u.Path != want {
				t.Errorf("sent to %s, not to %s", u, want)
			}
			if q.Get("error") != string(c.code) || q.Get("iss") != world.Issuer || q.Get("state") != "st" || q.Has("code") {
				t.Errorf("sent %v, want %s", q, c.code)
			}
			if !plain.MatchString(q.Get("error_description")) {
				t.Errorf("description %q", q.Get("error_description"))
			}
		})
	}
}

func TestAuthorizeRefusalsAreInTheLedger(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	for _, f := range []url.Values{ask("scope", "root"), ask("client_id", "nobody"), ask("redirect_uri", "https://evil.test")} {
		events := s.eventsDuring(func() { s.authorize(f) })
		if len(events) != 1 || events[0].Kind != audit.KindAuthorize || events[0].Allowed {
			t.Errorf("%v: %+v", f, events)
		}
	}
}

func TestRequestsAreCarried(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	jkt, _ := token.Thumbprint(world.Key(t).Public().Key)
	details := `[ {"type":"mcp_tool_call","locations":["https://mail.test/api"],` + "\n\t" + `"tool":"send"} ]`
	id := s.opened(s.authorize(ask(
		"client_id", "narrow", "redirect_uri", "https://narrow.test/cb", "authorization_details", details, "max_age", "0",
		"prompt", "login consent", "acr_values", "urn:retina urn:mfa", "dpop_jkt", jkt, "resource", "HTTPS://MAIL.test:443/api", "scope", "mail.read mail.read",
	)))
	r, err := s.flow.Pending(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if r.ClientID != "narrow" || r.MaxAge != 0 || r.Prompt != "login consent" || !slices.Equal(r.ACRValues, []string{"urn:mfa"}) || r.JKT != jkt ||
		r.Resource != mail || !slices.Equal(r.Scopes, []string{"mail.read"}) || !strings.Contains(string(r.Details), `"tool":"send"`) || r.State != "st" {
		t.Errorf("request %+v", r)
	}
	if r, _ = s.flow.Pending(t.Context(), s.opened(s.authorize(ask()))); r.MaxAge != -1 {
		t.Errorf("max_age %d where none was sent", r.MaxAge)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	for _, c := range []struct {
		asked string
		ok    bool
	}{
		{"http://127.0.0.1/cb?x=1", true},
		{"http://127.0.0.1:51234/cb?x=1", true},
		{"http://[::1]:8000/cb", true},
		{"http://[::1]:9/cb", true},
		{"http://[::1]/cb", true},
		{"http://localhost:3000/cb", true},
		{"com.example.app:/cb", true},
		{"https://native.test/cb", true},

		{"http://127.0.0.1:51234/cb", false},
		{"http://127.0.0.1:51234/cb?x=2", false},
		{"http://127.0.0.1:51234/other?x=1", false},
		{"https://127.0.0.1:51234/cb?x=1", false},
		{"http://127.0.0.2/cb?x=1", false},
		{"http://user@127.0.0.1:51234/cb?x=1", false},
		{"http://127.0.0.1:51234@evil.test/cb?x=1", false},
		{"http://127.0.0.1:x/cb?x=1", false},
		{"http://127.0.0.1:/cb?x=1", false},
		{"http://127.0.0.1:999999/cb?x=1", false},
		{"http://127.0.0.1.evil.test/cb?x=1", false},
		{"http://localhost.evil.test/cb", false},
		{"http://localhost:3000/cb#x", false},
		{"http://LOCALHOST:3000/cb", false},
		{"https://native.test:8443/cb", false},
		{"com.example.app:/other", false},
		{"javascript:alert(1)", false},
	} {
		t.Run(c.asked, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			a := s.authorize(ask("client_id", "native", "redirect_uri", c.asked))
			if !c.ok {
				if a.status != 400 || a.header.Get("Location") != "" {
					t.Errorf("got %d %s", a.status, a.header.Get("Location"))
				}
				return
			}
			id := s.opened(a)
			location, err := s.flow.Refuse(t.Context(), id, "", oauth.LoginRequired)
			if err != nil || !strings.HasPrefix(location, c.asked) {
				t.Errorf("sent to %s, %v", location, err)
			}
			code := s.allowed(s.opened(s.authorize(ask("client_id", "native", "redirect_uri", c.asked))))
			if a := s.post("/token", redeeming(code, "client_id", "native", "redirect_uri", c.asked)); a.status != 200 {
				t.Errorf("token: %d %s", a.status, a.body)
			}
		})
	}
}

func TestCodesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	for _, c := range []struct {
		name   string
		pairs  []string
		status int
		code   oauth.Code
	}{
		{"no code", []string{"code", ""}, 400, oauth.InvalidRequest},
		{"another code", []string{"code", strings.Repeat("A", 44)}, 400, oauth.InvalidGrant},
		{"no client", []string{"client_id", ""}, 401, oauth.InvalidClient},
		{"another client", []string{"client_id", "native"}, 400, oauth.InvalidGrant},
		{"a client that must authenticate", []string{"client_id", "narrow"}, 401, oauth.InvalidClient},
		{"no verifier", []string{"code_verifier", ""}, 400, oauth.InvalidGrant},
		{"another verifier", []string{"code_verifier", strings.Repeat("b", 43)}, 400, oauth.InvalidGrant},
		{"another redirect URI", []string{"redirect_uri", "https://evil.test"}, 400, oauth.InvalidGrant},
		{"another resource", []string{"resource", "https://files.test"}, 400, oauth.InvalidTarget},
		{"an unknown resource", []string{"resource", "https://nowhere.test"}, 400, oauth.InvalidTarget},
		{"the issuer", []string{"resource", world.Issuer}, 400, oauth.InvalidTarget},
		{"more details", []string{"authorization_details", `[{"type":"mcp_tool_call","locations":["https://mail.test/api"],"tool":"send"}]`}, 400, oauth.InvalidAuthorizationDetails},
		{"details that are none", []string{"authorization_details", `{`}, 400, oauth.InvalidAuthorizationDetails},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			code := s.code()
			s.refused(s.post("/token", redeeming(code, c.pairs...)), c.status, c.code)
			if a := s.post("/token", redeeming(code)); a.status != 200 {
				t.Errorf("afterwards, rightly: %d %s", a.status, a.body)
			}
		})
	}
}

func TestDetailsOfACode(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	tool := func(names ...string) string {
		out := "["
		for i, n := range names {
			if i > 0 {
				out += ","
			}
			out += `{"type":"mcp_tool_call","locations":["https://mail.test/api"],"tool":"` + n + `"}`
		}
		return out + "]"
	}
	code := s.code("authorization_details", tool("send", "read"))
	s.refused(s.post("/token", redeeming(code, "authorization_details", tool("read"))), 400, oauth.InvalidAuthorizationDetails) // alice allowed the first
	a := s.post("/token", redeeming(code, "authorization_details", tool("send")))
	if list, _ := a.json["authorization_details"].([]any); a.status != 200 || len(list) != 1 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestCodeReplay(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	active := func(a answer) bool {
		return s.as("mail-server", "/introspect", form("token", a.str("access_token"))).json["active"] == true
	}
	code := s.code()
	first := s.post("/token", redeeming(code))
	s.refused(s.post("/token", redeeming(code, "client_id", "native")), 400, oauth.InvalidGrant)
	s.refused(s.post("/token", redeeming(code, "code_verifier", strings.Repeat("b", 43))), 400, oauth.InvalidGrant)
	if !active(first) {
		t.Error("a replay that was wrong otherwise ended the token")
	}
	s.refused(s.post("/token", redeeming(code)), 400, oauth.InvalidGrant)
	if active(first) {
		t.Error("the token of a code that was used twice still counts")
	}
	// A hundred at once.
	code = s.code()
	var all sync.WaitGroup
	var mu sync.Mutex
	var won []answer
	for range 100 {
		all.Go(func() {
			a := s.post("/token", redeeming(code))
			mu.Lock()
			defer mu.Unlock()
			if a.status == 200 {
				won = append(won, a)
			} else if a.str("error") != "invalid_grant" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Fatalf("%d of 100 got a token", len(won))
	}
	if active(won[0]) {
		t.Error("the token of a code that was used a hundred times still counts")
	}
}

func TestCodesAreBoundToKeys(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	mine, thiefs := world.Key(t), world.Key(t)
	jkt, _ := token.Thumbprint(mine.Public().Key)
	send := func(f url.Values, key *token.SigningKey) answer {
		r := s.request(http.MethodPost, "/token", f.Encode())
		if key != nil {
			r.Header.Set("DPoP", s.proof(key, "/token", nil))
		}
		return s.do(r)
	}
	code := s.code("dpop_jkt", jkt)
	s.refused(send(redeeming(code), nil), 400, oauth.InvalidGrant)
	s.refused(send(redeeming(code), thiefs), 400, oauth.InvalidGrant)
	a := send(redeeming(code), mine)
	v, err := s.Verifier.Verify(t.Context(), a.str("access_token"))
	if a.status != 200 || a.str("token_type") != "DPoP" || err != nil || v.Claims().Confirm.JKT != jkt {
		t.Errorf("got %d %s", a.status, a.body)
	}
	// A client that must prove.
	narrow := redeeming(s.code("client_id", "narrow", "redirect_uri", "https://narrow.test/cb"), "client_id", "narrow", "client_secret", "secret")
	s.refused(send(narrow, nil), 400, oauth.InvalidDPoPProof)
	if a := send(narrow, mine); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	// A proof is spent by the code grant as by the exchange.
	r := s.request(http.MethodPost, "/token", redeeming(s.code()).Encode())
	r.Header.Set("DPoP", s.proof(mine, "/token", nil))
	proof := r.Header.Get("DPoP")
	if a := s.do(r); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	r = s.request(http.MethodPost, "/token", s.te().Encode())
	r.Header.Set("DPoP", proof)
	s.refused(s.do(r), 400, oauth.InvalidDPoPProof)
}

func TestPushedRequests(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	push := func() string {
		a := s.post("/par", ask())
		if a.status != http.StatusCreated || a.json["expires_in"] != 60.0 || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Fatalf("got %d %s %v", a.status, a.body, a.header)
		}
		return a.str("request_uri")
	}
	uri := push()
	page := func(a answer) {
		t.Helper()
		if a.status != 400 || a.header.Get("Location") != "" {
			t.Errorf("got %d %s", a.status, a.header.Get("Location"))
		}
	}
	page(s.authorize(form("client_id", "native", "request_uri", uri)))
	page(s.authorize(form("request_uri", uri)))
	first := s.opened(s.authorize(form("client_id", "app", "request_uri", uri, "scope", "mail.delete", "state", "other")))
	if again := s.opened(s.authorize(form("client_id", "app", "request_uri", uri))); again != first {
		t.Errorf("a page that is loaded anew is another request: %s, %s", first, again)
	}
	if r, err := s.flow.Pending(t.Context(), first); err != nil || !slices.Equal(r.Scopes, []string{"mail.read"}) || r.State != "st" {
		t.Errorf("what was pushed can be changed on the way: %+v, %v", r, err)
	}
	if a := s.post("/token", redeeming(s.allowed(first))); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	page(s.authorize(form("client_id", "app", "request_uri", uri)))
	uri = push()
	s.Pass(61 * time.Second)
	page(s.authorize(form("client_id", "app", "request_uri", uri)))
	// What changed since it was pushed counts.
	uri = push()
	app, version, err := s.Registry.Client(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	app.Disabled = true
	if _, err := s.Registry.PutClient(t.Context(), app, version); err != nil {
		t.Fatal(err)
	}
	page(s.authorize(form("client_id", "app", "request_uri", uri)))
}

func TestPushRefusals(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	for _, c := range []struct {
		name   string
		form   url.Values
		status int
		code   oauth.Code
	}{
		{"nobody", ask("client_id", ""), 401, oauth.InvalidClient},
		{"a client that must authenticate", ask("client_id", "narrow"), 401, oauth.InvalidClient},
		{"a request_uri", ask("request_uri", "urn:ietf:params:oauth:request_uri:AAAAAAAAAAAAAAAAAAAAAA"), 400, oauth.InvalidRequest},
		{"a request object", ask("request", "x"), 400, oauth.RequestNotSupported},
		{"another redirect URI", ask("redirect_uri", "https://evil.test"), 400, oauth.InvalidRequest},
		{"no challenge", ask("code_challenge", ""), 400, oauth.InvalidRequest},
		{"token", ask("response_type", "token"), 400, oauth.UnsupportedResponseType},
		{"a scope that is not known", ask("scope", "root"), 400, oauth.InvalidScope},
		{"an unknown resource", ask("resource", "https://nowhere.test"), 400, oauth.InvalidTarget},
		{"two scopes", func() url.Values { f := ask(); f.Add("scope", "x"); return f }(), 400, oauth.InvalidRequest},
		{"an agent", s.asserted(ask("client_id", "agent-a")), 400, oauth.UnauthorizedClient},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			s.refused(s.post("/par", c.form), c.status, c.code)
		})
	}
}

func TestPushWithAKey(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	mine, other := world.Key(t), world.Key(t)
	jkt, _ := token.Thumbprint(mine.Public().Key)
	push := func(f url.Values, proof string) answer {
		r := s.request(http.MethodPost, "/par", f.Encode())
		r.Header.Set("DPoP", proof)
		return s.do(r)
	}
	s.refused(push(ask("dpop_jkt", jkt), s.proof(other, "/par", nil)), 400, oauth.InvalidDPoPProof)
	s.refused(push(ask(), s.proof(mine, "/token", nil)), 400, oauth.InvalidDPoPProof)
	proof := s.proof(mine, "/par", nil)
	a := push(ask("dpop_jkt", jkt), proof)
	if a.status != http.StatusCreated {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	s.refused(push(ask(), proof), 400, oauth.InvalidDPoPProof)
	a = push(ask(), s.proof(mine, "/par", nil)) // the proof alone binds too
	code := s.allowed(s.opened(s.authorize(form("client_id", "app", "request_uri", a.str("request_uri")))))
	s.refused(s.post("/token", redeeming(code)), 400, oauth.InvalidGrant)
}

// TestPushWithASecret: how the client authenticated is not kept with the request.
func TestPushWithASecret(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	a := s.post("/par", ask("client_id", "narrow", "client_secret", "secret", "redirect_uri", "https://narrow.test/cb"))
	if a.status != http.StatusCreated {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	p, err := s.flow.Pushed(t.Context(), a.str("request_uri"), "narrow")
	if err != nil || p.Params.Has("client_secret") {
		t.Errorf("kept %v, %v", p.Params, err)
	}
	s.opened(s.authorize(form("client_id", "narrow", "request_uri", a.str("request_uri"))))
}

func TestPushRequired(t *testing.T) {
	t.Parallel()
	s := codeSite(t, func(c *endpoint.Config) { c.Settings.RequirePushed = true })
	a := s.authorize(ask())
	if u, err := url.Parse(a.header.Get("Location")); err != nil || u.Query().Get("error") != "invalid_request" {
		t.Errorf("got %d %s", a.status, a.header.Get("Location"))
	}
	s.opened(s.authorize(form("client_id", "app", "request_uri", s.post("/par", ask()).str("request_uri"))))
}

// One client can be held to pushing, whatever the others do.
func TestPushRequiredOfOneClient(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	s.opened(s.authorize(ask()))
	app, version, err := s.Registry.Client(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	app.RequirePushed = true
	if _, err := s.Registry.PutClient(t.Context(), app, version); err != nil {
		t.Fatal(err)
	}
	a := s.authorize(ask())
	if u, err := url.Parse(a.header.Get("Location")); err != nil || u.Query().Get("error") != "invalid_request" {
		t.Errorf("got %d %s", a.status, a.header.Get("Location"))
	}
	s.opened(s.authorize(form("client_id", "app", "request_uri", s.post("/par", ask()).str("request_uri"))))
}

func TestAuthorizeWithoutStore(t *testing.T) {
	t.Parallel()
	s := codeSite(t, nil)
	s.Engine.Down.Store(true)
	a := s.authorize(ask("resource", "", "scope", "mail.read"))
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther || u.Query().Get("error") != "temporarily_unavailable" || u.Query().Get("iss") != world.Issuer {
		t.Errorf("got %d %s", a.status, a.header.Get("Location"))
	}
}
