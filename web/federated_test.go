package web_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/audit"
	"obolus/internal/world"
	"obolus/token"
	"obolus/users"
	"obolus/web"
)

// op is a small OpenID provider: discovery, keys, authorization and token endpoint, with PKCE and single use of codes. A test
// may spoil what it says.
type op struct {
	t    *testing.T
	ts   *httptest.Server
	key  *token.SigningKey
	now  func() time.Time
	mu   sync.Mutex
	code map[string]url.Values // the authorization request of each code
	sub  string
	// spoil changes the claims of the ID token; sign makes the token of them.
	spoil func(map[string]any)
	sign  func(payload []byte) string
}

func newOP(t *testing.T) *op {
	t.Helper()
	o := &op{t: t, key: world.Key(t), code: map[string]url.Values{}, sub: "17"}
	mux := http.NewServeMux()
	o.ts = httptest.NewServer(mux)
	t.Cleanup(o.ts.Close)
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{
			"issuer": o.ts.URL, "authorization_endpoint": o.ts.URL + "/authorize", "token_endpoint": o.ts.URL + "/token", "jwks_uri": o.ts.URL + "/jwks",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		set, err := token.NewPublicSet(o.key.Public()).JWKS()
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(set)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id == "" {
			id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
		}
		o.mu.Lock()
		request := o.code[r.FormValue("code")]
		delete(o.code, r.FormValue("code"))
		o.mu.Unlock()
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		ok := id == "obolus" && secret == "op-secret" && request != nil && r.FormValue("redirect_uri") == request.Get("redirect_uri") &&
			request.Get("code_challenge_method") == "S256" && base64.RawURLEncoding.EncodeToString(sum[:]) == request.Get("code_challenge")
		if !ok {
			answer(w, 400, map[string]any{"error": "invalid_grant"})
			return
		}
		answer(w, 200, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": o.idToken(request)})
	})
	return o
}

func (o *op) idToken(request url.Values) string {
	claims := map[string]any{
		"iss": o.ts.URL, "sub": o.sub, "aud": "obolus", "iat": o.now().Unix(), "exp": o.now().Add(5 * time.Minute).Unix(), "nonce": request.Get("nonce"),
		"name": "Alice of Acme", "email": "alice@acme.test", "email_verified": true, "acr": "gold", "amr": []string{"hwk"},
	}
	if request.Has("max_age") {
		claims["auth_time"] = o.now().Unix()
	}
	if o.spoil != nil {
		o.spoil(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		o.t.Error(err)
	}
	if o.sign != nil {
		return o.sign(payload)
	}
	compact, err := token.NewIssuer(o.ts.URL).SignAs("JWT", payload, o.key)
	if err != nil {
		o.t.Error(err)
	}
	return compact
}

// authorize is what the provider does with a browser that comes to it: it returns where it sends it back to.
func (o *op) authorize(location string) string {
	o.t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, o.ts.URL+"/authorize?") {
		o.t.Fatalf("the browser was sent to %s", location)
	}
	q := u.Query()
	code := "code-" + base64.RawURLEncoding.EncodeToString([]byte(q.Get("state")))[:10]
	o.mu.Lock()
	o.code[code] = q
	o.mu.Unlock()
	return q.Get("redirect_uri") + "?" + url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {o.ts.URL}}.Encode()
}

func newFederatedSite(t *testing.T) (*site, *op) {
	t.Helper()
	o := newOP(t)
	s := newSite(t, func(c *web.Config) {
		c.Providers = []web.Provider{
			{ID: "acme", Name: "Acme", Issuer: o.ts.URL, ClientID: "obolus", ClientSecret: "op-secret"},
			{ID: "down", Issuer: "http://127.0.0.1:1", ClientID: "obolus"},
		}
		c.HTTP = &http.Client{Timeout: 10 * time.Second}
	})
	o.now = s.w.Now
	return s, o
}

func TestSignInWithAProvider(t *testing.T) {
	t.Parallel()
	s, o := newFederatedSite(t)
	path := s.ask("acme:17", nil)
	b := s.browser()
	to := b.get(path).leads("/sign-in?").location()
	b.get(to).want(200).has("Continue with Acme", "/sign-in/acme?return_to="+url.QueryEscape(path))
	away := b.get("/sign-in/acme?return_to=" + url.QueryEscape(path)).leads(o.ts.URL).location()
	u, err := url.Parse(away)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("state")) < 43 || len(q.Get("nonce")) < 43 || q.Get("state") == q.Get("nonce") ||
		q.Get("response_type") != "code" || q.Get("scope") != "openid profile email" || q.Get("redirect_uri") != "https://as.test/sign-in/acme/callback" {
		t.Errorf("the request is %v", q)
	}
	b.get(o.authorize(away)).leads(path)
	b.get(path).want(200).has("Alice of Acme", "Mail Helper")
	a, _, err := s.book.Account(t.Context(), "acme:17")
	if err != nil || a.Email != "alice@acme.test" || a.Provider != "acme" {
		t.Errorf("the account is %+v %v", a, err)
	}
	session, err := s.book.Session(t.Context(), users.Cookie(session(b)))
	if err != nil || session.ACR != "gold" || session.AMR[0] != "hwk" || session.AuthTime.Unix() != s.w.Now().Unix() {
		t.Errorf("the session is %+v %v", session, err)
	}
	if events := s.w.Events(audit.KindSignIn); len(events) != 1 || !events[0].Allowed || events[0].User != "acme:17" {
		t.Errorf("in the ledger is %+v", events)
	}
}

// TestAnswersOfAProvider: what does not hold signs nobody in.
func TestAnswersOfAProvider(t *testing.T) {
	t.Parallel()
	foreign := world.Key(t)
	for _, c := range []struct {
		name   string
		spoil  func(o *op) func(map[string]any)
		sign   func(o *op) func([]byte) string
		change func(url.Values) // of the answer at the callback
		status int
	}{
		{name: "as it should be", status: 303},
		{name: "another nonce", spoil: set("nonce", "x"), status: 403},
		{name: "no nonce", spoil: set("nonce", nil), status: 403},
		{name: "another issuer", spoil: set("iss", "https://evil.test"), status: 403},
		{name: "another audience", spoil: set("aud", "somebody"), status: 403},
		{name: "two audiences and no party", spoil: set("aud", []string{"obolus", "somebody"}), status: 403},
		{name: "another party", spoil: set("azp", "somebody"), status: 403},
		{name: "no subject", spoil: set("sub", ""), status: 403},
		{name: "expired", spoil: func(o *op) func(map[string]any) { return func(m map[string]any) { m["exp"] = o.now().Unix() - 3600 } }, status: 403},
		{name: "signed in tomorrow", spoil: func(o *op) func(map[string]any) {
			return func(m map[string]any) { m["auth_time"] = o.now().Unix() + 86400 }
		}, status: 403},
		{name: "signed by another key", sign: func(o *op) func([]byte) string {
			return func(payload []byte) string {
				compact, err := token.NewIssuer(o.ts.URL).SignAs("JWT", payload, foreign)
				if err != nil {
					o.t.Error(err)
				}
				return compact
			}
		}, status: 403},
		{name: "not signed", sign: func(*op) func([]byte) string {
			return func(payload []byte) string {
				enc := base64.RawURLEncoding
				return enc.EncodeToString([]byte(`{"alg":"none"}`)) + "." + enc.EncodeToString(payload) + "."
			}
		}, status: 403},
		{name: "the user said no", change: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }, status: 403},
		{name: "another code", change: func(q url.Values) { q.Set("code", "code-x") }, status: 403},
		{name: "no code", change: func(q url.Values) { q.Del("code") }, status: 403},
		{name: "two codes", change: func(q url.Values) { q.Add("code", "code-x") }, status: 400},
		{name: "no state", change: func(q url.Values) { q.Del("state") }, status: 400},
		{name: "another state", change: func(q url.Values) { q.Set("state", strings.Repeat("A", 43)) }, status: 400},
		{name: "two states", change: func(q url.Values) { q.Add("state", q.Get("state")) }, status: 400},
		{name: "the answer of another issuer", change: func(q url.Values) { q.Set("iss", "https://evil.test") }, status: 400},
		{name: "no iss in the answer", change: func(q url.Values) { q.Del("iss") }, status: 303},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, o := newFederatedSite(t)
			if c.spoil != nil {
				o.spoil = c.spoil(o)
			}
			if c.sign != nil {
				o.sign = c.sign(o)
			}
			b := s.browser()
			back := o.authorize(b.get("/sign-in/acme").want(303).location())
			u, err := url.Parse(back)
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				q := u.Query()
				c.change(q)
				u.RawQuery = q.Encode()
			}
			b.get(u.String()).want(c.status)
			if (session(b) != "") != (c.status == 303) {
				t.Errorf("the session is %q", session(b))
			}
			if _, _, err := s.book.Account(t.Context(), "acme:17"); (err == nil) != (c.status == 303) {
				t.Errorf("the account: %v", err)
			}
			if c.status != 400 {
				b.get(back).want(400) // the state is good for once
			}
		})
	}
}

func set(name string, value any) func(*op) func(map[string]any) {
	return func(*op) func(map[string]any) {
		return func(m map[string]any) {
			if value == nil {
				delete(m, name)
				return
			}
			m[name] = value
		}
	}
}

func TestAnotherBrowserCannotComeBack(t *testing.T) {
	t.Parallel()
	s, o := newFederatedSite(t)
	attacker, victim := s.browser(), s.browser()
	back := o.authorize(attacker.get("/sign-in/acme").want(303).location())
	victim.get("/sign-in")
	victim.get(back).want(400)
	if session(victim) != "" {
		t.Error("the victim is signed in as the attacker")
	}
	// The one who began can still finish, but not with another provider, and not too late.
	attacker.get(strings.Replace(back, "/sign-in/acme/", "/sign-in/down/", 1)).want(400)
	attacker.get(back).leads("/agents")
	late := o.authorize(attacker.get("/sign-in/acme").want(303).location())
	s.w.Pass(11 * time.Minute)
	attacker.get(late).want(400)
}

func TestAFreshSignInWithAProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		spoil  func(*op) func(map[string]any)
		status int
	}{
		{"the user signs in again", nil, 303},
		{"the provider does not ask again", func(o *op) func(map[string]any) {
			return func(m map[string]any) { m["auth_time"] = o.now().Add(-time.Hour).Unix() }
		}, 403},
		{"the provider does not tell", set("auth_time", nil), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, o := newFederatedSite(t)
			if c.spoil != nil {
				o.spoil = c.spoil(o)
			}
			b := s.browser()
			away := b.get("/sign-in/acme?fresh=1").want(303).location()
			if !strings.Contains(away, "max_age=0") || !strings.Contains(away, "prompt=login") {
				t.Errorf("the provider is asked %s", away)
			}
			b.get(o.authorize(away)).want(c.status)
		})
	}
}

func TestProvidersThatAreNotThere(t *testing.T) {
	t.Parallel()
	s, o := newFederatedSite(t)
	b := s.browser()
	b.get("/sign-in/down").want(502).has("does not work right now")
	b.get("/sign-in/nobody").want(404)
	b.get("/sign-in/nobody/callback?state=x&code=y").want(404)
	b.get("/sign-in/acme").leads(o.ts.URL)
	for range 60 {
		b.get("/sign-in/acme")
	}
	b.get("/sign-in/acme").want(429)
}

// TestADisabledUserOfAProvider stays out.
func TestADisabledUserOfAProvider(t *testing.T) {
	t.Parallel()
	s, o := newFederatedSite(t)
	b := s.browser()
	b.get(o.authorize(b.get("/sign-in/acme").location())).leads("/agents")
	a, version, err := s.book.Account(t.Context(), "acme:17")
	if err != nil {
		t.Fatal(err)
	}
	a.Disabled = true
	if _, err := s.book.Put(t.Context(), a, users.Secret{}, version); err != nil {
		t.Fatal(err)
	}
	b.get("/agents").leads("/sign-in")
	b.get(o.authorize(b.get("/sign-in/acme").location())).want(403)
	b.get("/agents").leads("/sign-in")
}
