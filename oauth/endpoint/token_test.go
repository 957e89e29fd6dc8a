package endpoint_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/endpoint"
	"obolus/token"
)

func TestExchange(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.te()
	var a answer
	events := s.eventsDuring(func() { a = s.post("/token", f) })
	if a.status != 200 || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %s %v", a.status, a.body, a.header)
	}
	if a.str("issued_token_type") != accessToken || a.str("token_type") != "Bearer" || a.str("scope") != "mail.read" || a.json["expires_in"] != 60.0 {
		t.Errorf("answer %s", a.body)
	}
	if !strings.HasPrefix(a.str("txn"), "txn_") || a.json["refresh_token"] != nil {
		t.Errorf("answer %s", a.body)
	}
	v, err := s.Verifier.Verify(t.Context(), a.str("access_token"))
	if err != nil || v.Claims().Act == nil || v.Claims().Act.Subject != "agent-a" || v.Claims().Audience[0] != mail {
		t.Errorf("claims %+v, %v", v.Claims(), err)
	}
	kinds := []audit.Kind{}
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, []audit.Kind{audit.KindExchange}) {
		t.Errorf("events %v", kinds)
	}
}

// TestAFormMeansTheSameInEverySpelling: as little encoded as may be, as encoders do it, and every byte of it.
func TestAFormMeansTheSameInEverySpelling(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	spell := func(f url.Values, encode func(string) string) string {
		var pairs []string
		for name, values := range f {
			for _, value := range values {
				pairs = append(pairs, encode(name)+"="+encode(value))
			}
		}
		return strings.Join(pairs, "&")
	}
	every := func(text string) string {
		var out strings.Builder
		for _, b := range []byte(text) {
			fmt.Fprintf(&out, "%%%02x", b)
		}
		return out.String()
	}
	for name, encode := range map[string]func(string) string{
		"bare": func(text string) string { return strings.ReplaceAll(text, " ", "+") }, "usual": url.QueryEscape, "every byte": every,
	} {
		a := s.do(s.request(http.MethodPost, "/token", spell(s.te(), encode)))
		if a.status != http.StatusOK || a.str("scope") != "mail.read" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		for _, bad := range []string{"=x", "a;b=c", "a=\xff", "a=\x00", "a=\x7f", "grant_type=x"} {
			f := spell(s.te(), encode) + "&" + bad
			s.refused(s.do(s.request(http.MethodPost, "/token", f)), http.StatusBadRequest, oauth.InvalidRequest)
		}
	}
}

// teForm is an exchange before it is authenticated.
func (s *site) teForm() url.Values {
	return form(
		"grant_type", exchangeGrant, "subject_token", s.UserToken("alice", nil), "subject_token_type", accessToken, "resource", mail, "scope", "mail.read",
	)
}

func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, c := range []struct {
		name   string
		change func(url.Values)
		status int
		code   oauth.Code
		reason oauth.Reason // told
	}{
		{"no grant type", func(f url.Values) { f.Del("grant_type") }, 400, oauth.InvalidRequest, ""},
		{"password", func(f url.Values) { f.Set("grant_type", "password") }, 400, oauth.UnsupportedGrantType, ""},
		{"client_credentials", func(f url.Values) { f.Set("grant_type", "client_credentials") }, 400, oauth.UnsupportedGrantType, ""},
		{"refresh_token", func(f url.Values) { f.Set("grant_type", "refresh_token") }, 400, oauth.UnsupportedGrantType, ""},
		{"two grant types", func(f url.Values) { f.Set("grant_type", exchangeGrant+" authorization_code") }, 400, oauth.UnsupportedGrantType, ""},
		{"another case", func(f url.Values) { f.Set("grant_type", strings.ToUpper(exchangeGrant)) }, 400, oauth.UnsupportedGrantType, ""},
		{"an agent with a code", func(f url.Values) { f.Set("grant_type", "authorization_code"); f.Set("code", "x") }, 400, oauth.UnauthorizedClient, oauth.ReasonClientGrant},
		{"no subject token", func(f url.Values) { f.Del("subject_token") }, 400, oauth.InvalidRequest, oauth.ReasonMissing},
		{"a subject token that is none", func(f url.Values) { f.Set("subject_token", "x") }, 400, oauth.InvalidRequest, ""},
		{"an actor token type alone", func(f url.Values) { f.Set("actor_token_type", jwtType) }, 400, oauth.InvalidRequest, oauth.ReasonMalformed},
		{"an unknown target", func(f url.Values) { f.Set("resource", "https://nowhere.test") }, 400, oauth.InvalidTarget, oauth.ReasonTarget},
		{"a relative target", func(f url.Values) { f.Set("resource", "foo") }, 400, oauth.InvalidTarget, oauth.ReasonTarget},
		{"two targets", func(f url.Values) { f.Add("resource", "https://files.test") }, 400, oauth.InvalidTarget, oauth.ReasonTargetSeveral},
		{"a scope that the resource does not have", func(f url.Values) { f.Set("scope", "MAIL.READ") }, 400, oauth.InvalidScope, oauth.ReasonScopeUnknown},
		{"two spaces", func(f url.Values) { f.Set("scope", "mail.read  mail.send") }, 400, oauth.InvalidScope, oauth.ReasonScopeMalformed},
		{"a tab", func(f url.Values) { f.Set("scope", "mail.read\tmail.send") }, 400, oauth.InvalidScope, oauth.ReasonScopeMalformed},
		{"details that are no array", func(f url.Values) { f.Set("authorization_details", "{\n}") }, 400, oauth.InvalidAuthorizationDetails, oauth.ReasonDetailsBad},
		{"a refresh token wanted", func(f url.Values) {
			f.Set("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")
		}, 400, oauth.InvalidRequest, oauth.ReasonRequestedType},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			f := s.teForm()
			c.change(f)
			a := s.post("/token", s.asserted(f))
			s.refused(a, c.status, c.code)
			if a.str("reason") != string(c.reason) {
				t.Errorf("reason %q, want %q", a.str("reason"), c.reason)
			}
			want := ""
			if c.reason != "" {
				want = world.Issuer + "/errors#" + string(c.reason)
			}
			if a.str("error_uri") != want {
				t.Errorf("error_uri %q, want %q", a.str("error_uri"), want)
			}
		})
	}
}

// TestSubjectsAreNotTold: whatever is wrong with a subject token, the answer is byte for byte the same.
func TestSubjectsAreNotTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	other := s.Agent("agent-b", nil)
	revoked := s.UserToken("alice", nil)
	if a := s.post("/revoke", form("client_id", "app", "token", revoked)); a.status != 200 {
		t.Fatalf("revoke: %d %s", a.status, a.body)
	}
	bodies := map[string]bool{}
	for _, f := range []url.Values{
		s.asserted(with(s.teForm(), "subject_token", "x")),
		s.asserted(with(s.teForm(), "subject_token", revoked)),
		s.asserted(with(s.teForm(), "subject_token", s.obolus())),
		s.assertedBy("agent-b", other, with(s.teForm(), "subject_token", s.obolus())),
		s.asserted(with(s.teForm(), "subject_token_type", string(oauth.TypeIDToken))),
	} {
		a := s.post("/token", f)
		s.refused(a, 400, oauth.InvalidRequest)
		bodies[a.body] = true
	}
	if len(bodies) != 1 {
		t.Errorf("bodies %v", bodies)
	}
}

func with(f url.Values, name, value string) url.Values {
	f.Set(name, value)
	return f
}

func TestWhoMayNotExchange(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.refused(s.post("/token", s.teForm()), 401, oauth.InvalidClient)
	public := s.teForm()
	public.Set("client_id", "app")
	var a answer
	events := s.eventsDuring(func() { a = s.post("/token", public) })
	s.refused(a, 400, oauth.UnauthorizedClient)
	if len(events) != 1 || events[0].Kind != audit.KindExchange || events[0].Reason != oauth.ReasonClientGrant || events[0].Client != "app" {
		t.Errorf("events %+v", events)
	}
	s.refused(s.as("mail-server", "/token", s.teForm()), 400, oauth.UnauthorizedClient)
}

func TestNoConsentYet(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.teForm()
	f.Set("scope", "mail.send")
	a := s.post("/token", s.asserted(f))
	s.refused(a, 400, oauth.InteractionRequired)
	if !strings.HasPrefix(a.str("interaction_uri"), world.Issuer+"/consent/r_") || a.json["expires_in"] != 600.0 || a.json["interval"] != 2.0 ||
		a.str("reason") != "grant_missing" || a.header.Get("Preference-Applied") != "" {
		t.Errorf("answer %s", a.body)
	}
}

// TestPreferWait: the answer is held back until the user has decided.
func TestPreferWait(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.asserted(with(s.teForm(), "scope", "mail.send"))
	answered := make(chan answer, 1)
	go func() {
		r := s.request(http.MethodPost, "/token", f.Encode())
		r.Header.Set("Prefer", `respond-async, wait=300; x=y`)
		answered <- s.do(r)
	}()
	ask := consent.Ask{User: "alice", Agent: "agent-a", Target: "mail", Scopes: []string{"mail.send"}}
	agent, _, err := s.Registry.Agent(t.Context(), "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	ask.AgentKeys = fingerprint(agent)
	in, err := s.Consents.Ask(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{Allow: true, Scopes: []string{"mail.send"}, Uses: 1, Expires: s.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	a := <-answered
	if a.status != 200 || a.str("scope") != "mail.send" || a.header.Get("Preference-Applied") != "wait=60" {
		t.Errorf("got %d %s %v", a.status, a.body, a.header)
	}
}

func TestPreferences(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, c := range []struct{ prefer, applied string }{
		{"wait=5", "wait=5"},
		{"WAIT = 5", "wait=5"},
		{`wait="7"`, "wait=7"},
		{"handling=lenient, wait=0", ""},
		{"wait", ""},
		{"wait=-1", ""},
		{"wait=1.5", ""},
		{"wait=x", ""},
		{"waiting=5", ""},
		{"wait=99999999999999999999", ""},
	} {
		r := s.request(http.MethodPost, "/token", s.te().Encode())
		r.Header.Set("Prefer", c.prefer)
		if a := s.do(r); a.status != 200 || a.header.Get("Preference-Applied") != c.applied {
			t.Errorf("%s: %d, applied %q", c.prefer, a.status, a.header.Get("Preference-Applied"))
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	send := func(f url.Values, keys ...string) answer {
		r := s.request(http.MethodPost, "/token", s.asserted(f).Encode())
		r.Header["Idempotency-Key"] = keys
		return s.do(r)
	}
	f := s.teForm()
	first, second := send(f, `"k-1"`), send(f, ` "k-1" `)
	if first.status != 200 || second.status != 200 || first.str("txn") != second.str("txn") || first.str("access_token") == second.str("access_token") {
		t.Errorf("the same request twice: %d %s, %d %s", first.status, first.str("txn"), second.status, second.str("txn"))
	}
	if a := send(s.teForm(), `"a \"b\" \\"`); a.status != 200 {
		t.Errorf("escapes: %d %s", a.status, a.body)
	}
	for _, key := range []string{`k-1`, `"`, `""`, `"a`, `"a\"`, `"a\x"`, `"a"b"`, `"ä"`, `"a"; p=1`, `"` + strings.Repeat("a", 256) + `"`} {
		s.refused(send(s.teForm(), key), 400, oauth.InvalidRequest)
	}
	s.refused(send(s.teForm(), `"a"`, `"b"`), 400, oauth.InvalidRequest)
}

func TestProofs(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	key := world.Key(t)
	send := func(s *site, proofs ...string) answer {
		r := s.request(http.MethodPost, "/token", s.te().Encode())
		r.Header["Dpop"] = proofs
		return s.do(r)
	}
	good := s.proof(key, "/token", nil)
	a := send(s, good)
	jkt, _ := token.Thumbprint(key.Public().Key)
	v, err := s.Verifier.Verify(t.Context(), a.str("access_token"))
	if a.status != 200 || a.str("token_type") != "DPoP" || err != nil || v.Claims().Confirm.JKT != jkt {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	replayed := send(s, good)
	s.refused(replayed, 400, oauth.InvalidDPoPProof)
	for _, c := range []struct {
		name   string
		proofs []string
	}{
		{"two proofs", []string{s.proof(key, "/token", nil), s.proof(key, "/token", nil)}},
		{"two in one header", []string{s.proof(key, "/token", nil) + ", " + s.proof(key, "/token", nil)}},
		{"none in the header", []string{""}},
		{"another method", []string{s.proof(key, "/token", func(c *token.ProofClaims) { c.Method = "GET" })}},
		{"another path", []string{s.proof(key, "/par", nil)}},
		{"the address that was dialled", []string{s.proof(key, "/token", func(c *token.ProofClaims) { c.URI = s.url + "/token" })}},
		{"an access token", []string{a.str("access_token")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			s.refused(send(s, c.proofs...), 400, oauth.InvalidDPoPProof)
		})
	}
	t.Run("old", func(t *testing.T) {
		p := s.proof(key, "/token", nil)
		s.Pass(61 * time.Second)
		s.refused(send(s, p), 400, oauth.InvalidDPoPProof)
	})
	t.Run("headers of proxies mean nothing", func(t *testing.T) {
		r := s.request(http.MethodPost, "/token", s.te().Encode())
		r.Header.Set("DPoP", s.proof(key, "/token", nil))
		r.Header.Set("X-Forwarded-Host", "evil.test")
		r.Host = "evil.test"
		if a := s.do(r); a.status != 200 {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}

func TestAgentThatMustProve(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.agent = s.Agent("agent-a", func(a *agents.Agent) { a.DPoP = true })
	s.refused(s.post("/token", s.te()), 400, oauth.InvalidDPoPProof)
}

func TestNonces(t *testing.T) {
	t.Parallel()
	settings := func(c *endpoint.Config) {
		c.Settings.RequireNonce, c.Settings.NonceKey = true, []byte(strings.Repeat("k", 32))
	}
	s := newSite(t, settings)
	key := world.Key(t)
	send := func(s *site, nonce string) answer {
		r := s.request(http.MethodPost, "/token", s.te().Encode())
		r.Header.Set("DPoP", s.proof(key, "/token", func(c *token.ProofClaims) { c.Nonce = nonce }))
		return s.do(r)
	}
	a := send(s, "")
	s.refused(a, 400, oauth.UseDPoPNonce)
	if len(a.header.Values("DPoP-Nonce")) != 1 || len(a.header.Get("DPoP-Nonce")) < 20 {
		t.Fatalf("nonces %q", a.header.Values("DPoP-Nonce"))
	}
	nonce := a.header.Get("DPoP-Nonce")
	if a = send(s, nonce); a.status != 200 || a.header.Get("DPoP-Nonce") != "" {
		t.Errorf("with the nonce: %d %s %v", a.status, a.body, a.header)
	}
	s.Pass(2 * time.Minute)
	if a = send(s, nonce); a.status != 200 || a.header.Get("DPoP-Nonce") == "" || a.header.Get("DPoP-Nonce") == nonce {
		t.Errorf("with the last nonce: %d %s %v", a.status, a.body, a.header)
	}
	if twin := newSite(t, settings); twin.Now().Add(2 * time.Minute).Equal(s.Now()) { // another server with the key, at another time
		twin.Pass(2 * time.Minute)
		if got := send(twin, a.header.Get("DPoP-Nonce")); got.status != 200 {
			t.Errorf("at another server: %d %s", got.status, got.body)
		}
	}
	s.Pass(2 * time.Minute)
	s.refused(send(s, nonce), 400, oauth.UseDPoPNonce)
	s.refused(send(s, "forged-nonce-of-a-good-length"), 400, oauth.UseDPoPNonce)
}

// TestOneProof races a proof: exchange and code grant share what they remember.
func TestOneProof(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.proof(world.Key(t), "/token", nil)
	forms := make([]url.Values, 20)
	for i := range forms {
		forms[i] = s.te()
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for _, f := range forms {
		all.Go(func() {
			r := s.request(http.MethodPost, "/token", f.Encode())
			r.Header.Set("DPoP", p)
			a := s.do(r)
			mu.Lock()
			defer mu.Unlock()
			if a.status == 200 {
				won++
			} else if a.str("error") != "invalid_dpop_proof" {
				t.Errorf("got %s", a.body)
			}
		})
	}
	all.Wait()
	if won != 1 {
		t.Errorf("%d of 20", won)
	}
}
