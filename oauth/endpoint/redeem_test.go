package endpoint_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/endpoint"
	"obolus/token"
)

func TestIntrospection(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	key := world.Key(t)
	r := s.request(http.MethodPost, "/token", s.te().Encode())
	r.Header.Set("DPoP", s.proof(key, "/token", nil))
	exchanged := s.do(r)
	compact := exchanged.str("access_token")
	v, err := s.Verifier.Verify(t.Context(), compact)
	if err != nil {
		t.Fatal(err)
	}
	c := v.Claims()
	for range 2 { // it changes nothing
		a := s.as("mail-server", "/introspect", form("token", compact, "token_type_hint", "refresh_token"))
		act, _ := a.json["act"].(map[string]any)
		cnf, _ := a.json["cnf"].(map[string]any)
		if a.status != 200 || a.header.Get("Cache-Control") != "no-store" || a.json["active"] != true || a.str("scope") != "mail.read" ||
			a.str("client_id") != "agent-a" || a.str("sub") != "alice" || a.str("aud") != mail || a.str("iss") != world.Issuer ||
			a.json["exp"] != float64(c.Expires) || a.json["iat"] != float64(c.IssuedAt) || a.str("jti") != c.ID || a.str("token_type") != "DPoP" ||
			act["sub"] != "agent-a" || act["iss"] != world.Issuer || cnf["jkt"] != c.Confirm.JKT || a.str("txn") != exchanged.str("txn") ||
			a.json["auth_time"] != float64(c.AuthTime) || a.str("txn_mode") != "redeem" {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
	if a := s.post("/introspect", s.asserted(form("token", compact))); a.json["active"] != true { // the client it was issued to
		t.Errorf("to its agent: %s", a.body)
	}
	s.refused(s.as("mail-server", "/introspect", form()), 400, oauth.InvalidRequest)
	r = s.request(http.MethodPost, "/introspect", form("token", compact).Encode())
	r.Header.Set("Authorization", "Bearer "+compact)
	s.refused(s.do(r), 401, oauth.InvalidClient)
}

// TestInactiveIsOneAnswer: unknown, expired, revoked, redeemed, and of somebody else.
func TestInactiveIsOneAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	revoked, redeemed, other, over := s.obolus(), s.obolus(), s.obolus(), s.obolus()
	s.post("/revoke", s.asserted(form("token", revoked)))
	s.as("mail-server", "/redeem", form("token", redeemed))
	inactive := func(name string, a answer) {
		t.Helper()
		if a.status != 200 || a.body != `{"active":false}` {
			t.Errorf("%s: %d %q", name, a.status, a.body)
		}
	}
	inactive("none", s.as("mail-server", "/introspect", form("token", "x")))
	inactive("revoked", s.as("mail-server", "/introspect", form("token", revoked)))
	inactive("redeemed", s.as("mail-server", "/introspect", form("token", redeemed)))
	inactive("of another server", s.as("files-server", "/introspect", form("token", other)))
	inactive("an assertion", s.as("mail-server", "/introspect", form("token", s.asserted(form()).Get("client_assertion"))))
	s.Pass(2 * time.Minute)
	inactive("expired", s.as("mail-server", "/introspect", form("token", over)))
}

func TestScanningIsStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *endpoint.Config) { c.Settings.Introspections = 5 })
	for range 5 {
		if a := s.as("mail-server", "/introspect", form("token", "x")); a.status != 200 {
			t.Fatalf("got %d", a.status)
		}
	}
	a := s.as("mail-server", "/introspect", form("token", "x"))
	s.refused(a, 429, oauth.InvalidRequest)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if a := s.as("files-server", "/introspect", form("token", "x")); a.status != 200 {
		t.Errorf("another server: %d", a.status)
	}
	s.Pass(time.Minute)
	if a := s.as("mail-server", "/introspect", form("token", "x")); a.status != 200 {
		t.Errorf("a minute later: %d", a.status)
	}
}

func TestRedemption(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.obolus()
	claim := form("token", compact, "redemption_id", "r-1", "request_hash", "sha-256=:x:")
	first := s.as("mail-server", "/redeem", claim)
	if first.status != 200 || first.str("redemption") != "first" || !strings.HasPrefix(first.str("txn"), "txn_") ||
		first.json["redeemed_at"] != float64(s.Now().Unix()) || first.json["active"] != true || first.str("scope") != "mail.read" ||
		first.str("sub") != "alice" || first.str("aud") != mail || first.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %s", first.status, first.body)
	}
	receipt, err := token.VerifyJWT(t.Context(), first.str("receipt"), token.Expect{
		Issuer: world.Issuer, Keys: s.Keys, Types: []string{"txn-receipt+jwt"}, Audience: "mail-server", Now: s.Now,
	})
	if err != nil || receipt.Claims.Txn != first.str("txn") {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
	again := s.as("mail-server", "/redeem", claim)
	if again.status != 200 || again.str("redemption") != "repeat" || again.str("receipt") != first.str("receipt") {
		t.Errorf("again: %d %s", again.status, again.body)
	}
	for _, c := range []struct {
		name   string
		form   url.Values
		status int
		code   oauth.Code
	}{
		{"another id", form("token", compact, "redemption_id", "r-2"), 409, oauth.AlreadyRedeemed},
		{"no id", form("token", compact), 409, oauth.AlreadyRedeemed},
		{"another hash", form("token", compact, "redemption_id", "r-1", "request_hash", "sha-256=:y:"), 422, oauth.RequestMismatch},
		{"no token", form("redemption_id", "r-1"), 400, oauth.InvalidRequest},
		{"a token that is none", form("token", "x"), 410, oauth.TokenUnknown},
		{"an id of 257", form("token", compact, "redemption_id", strings.Repeat("x", 257)), 400, oauth.InvalidRequest},
		{"a thumbprint that is none", form("token", s.obolus(), "jkt", "x"), 400, oauth.InvalidRequest},
		{"another key", form("token", s.obolus(), "jkt", challenge()), 403, oauth.KeyMismatch},
		{"a session token", form("token", s.UserToken("alice", nil)), 403, oauth.WrongAudience},
	} {
		s.refused(s.as("mail-server", "/redeem", c.form), c.status, c.code)
	}
	fresh := s.obolus()
	s.refused(s.as("files-server", "/redeem", form("token", fresh)), 403, oauth.WrongAudience)
	s.refused(s.post("/redeem", s.asserted(form("token", fresh))), 403, oauth.WrongAudience)
	s.refused(s.post("/redeem", form("token", fresh)), 401, oauth.InvalidClient)
	s.refused(s.post("/redeem", form("token", fresh, "client_id", "app")), 401, oauth.InvalidClient)
	if a := s.as("mail-server", "/redeem", form("token", fresh)); a.status != 200 {
		t.Errorf("seeing a token was enough to burn it: %d %s", a.status, a.body)
	}
	late := s.obolus()
	s.Pass(66 * time.Second)
	s.refused(s.as("mail-server", "/redeem", form("token", late)), 410, oauth.TokenExpired)
}

func TestOneRedemption(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.obolus()
	var all sync.WaitGroup
	var mu sync.Mutex
	counts := map[string]int{}
	for i := range 100 {
		all.Go(func() {
			a := s.as("mail-server", "/redeem", form("token", compact, "redemption_id", fmt.Sprint("r-", i)))
			mu.Lock()
			defer mu.Unlock()
			counts[fmt.Sprint(a.status, a.str("redemption"), a.str("error"))]++
		})
	}
	all.Wait()
	if counts["200first"] != 1 || counts["409already_redeemed"] != 99 {
		t.Errorf("counts %v", counts)
	}
}

func TestEachRedemptionIsOneEvent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.obolus()
	for _, f := range []url.Values{form("token", compact, "redemption_id", "a"), form("token", compact, "redemption_id", "b"), form("token", "x")} {
		events := s.eventsDuring(func() { s.as("mail-server", "/redeem", f) })
		if len(events) != 1 || events[0].Kind != audit.KindRedeem {
			t.Errorf("%v: %+v", f, events)
		}
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.obolus()
	s.refused(s.as("mail-server", "/revoke", form("token", compact)), 400, oauth.UnauthorizedClient)
	if a := s.as("mail-server", "/introspect", form("token", compact)); a.json["active"] != true {
		t.Error("somebody else could end it")
	}
	s.refused(s.post("/revoke", s.asserted(form())), 400, oauth.InvalidRequest)
	s.refused(s.post("/revoke", form("token", compact)), 401, oauth.InvalidClient)
	for _, f := range []url.Values{
		form("token", compact, "token_type_hint", "refresh_token"), form("token", compact), form("token", "x", "token_type_hint", "unheard-of"),
	} {
		a := s.post("/revoke", s.asserted(f))
		if a.status != 200 || a.body != "" {
			t.Errorf("got %d %q", a.status, a.body)
		}
	}
	s.refused(s.as("mail-server", "/redeem", form("token", compact)), 410, oauth.TokenRevoked)
	user := s.UserToken("alice", nil)
	derived := s.post("/token", s.asserted(with(s.teForm(), "subject_token", user))).str("access_token")
	if a := s.post("/revoke", form("token", user, "client_id", "app")); a.status != 200 { // a public client
		t.Errorf("got %d %s", a.status, a.body)
	}
	s.refused(s.as("mail-server", "/redeem", form("token", derived)), 410, oauth.TokenRevoked)
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *endpoint.Config) {
		c.User = func(r *http.Request) (string, bool) {
			cookie, err := r.Cookie("user")
			if err != nil {
				return "", false
			}
			return cookie.Value, true
		}
	})
	exchanged := s.post("/token", s.te())
	path := "/txn/" + exchanged.str("txn")
	get := func(path string, set func(*http.Request)) answer {
		r := s.request(http.MethodGet, path, "")
		if set != nil {
			set(r)
		}
		return s.do(r)
	}
	by := func(id string) func(*http.Request) { return func(r *http.Request) { r.SetBasicAuth(id, "secret") } }
	agent := func(r *http.Request) { r.Header.Set("Client-Assertion", s.asserted(form()).Get("client_assertion")) }
	alice := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "user", Value: "alice"}) }
	bob := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "user", Value: "bob"}) }
	for _, set := range []func(*http.Request){by("mail-server"), agent, alice} {
		a := get(path, set)
		if a.status != 200 || a.str("status") != "issued" || a.str("txn") != exchanged.str("txn") || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %d %s", a.status, a.body)
		}
		if strings.Contains(a.body, "alice") || strings.Contains(a.body, "mail.read") {
			t.Errorf("the payload of a transaction: %s", a.body)
		}
	}
	other := s.Agent("agent-b", nil)
	s.refused(get(path, nil), 401, oauth.InvalidClient)
	var unknown []string
	for _, a := range []answer{
		get(path, by("files-server")), get(path, bob), get("/txn/txn_AAAAAAAAAAAAAAAAAAAAAA", by("mail-server")), get("/txn/x", by("mail-server")),
		get(path, func(r *http.Request) {
			r.Header.Set("Client-Assertion", s.assertedBy("agent-b", other, form()).Get("client_assertion"))
		}),
	} {
		s.refused(a, 404, oauth.InvalidRequest)
		unknown = append(unknown, a.body)
	}
	for _, body := range unknown {
		if body != unknown[0] {
			t.Errorf("bodies %q", unknown)
		}
	}
	s.refused(get(path, func(r *http.Request) { agent(r); r.SetBasicAuth("mail-server", "secret") }), 400, oauth.InvalidRequest)
	s.refused(get(path, func(r *http.Request) { agent(r); r.Header.Add("Client-Assertion", "x") }), 400, oauth.InvalidRequest)
	if a := s.do(s.request(http.MethodPut, path, "")); a.status != 405 || a.header.Get("Allow") != "GET, POST" {
		t.Errorf("PUT: %d %q", a.status, a.header.Get("Allow"))
	}

	// Reports.
	s.refused(s.as("mail-server", path, form("status", "committed")), 404, oauth.InvalidRequest) // not redeemed yet
	s.as("mail-server", "/redeem", form("token", exchanged.str("access_token")))
	s.refused(s.as("mail-server", path, form()), 400, oauth.InvalidRequest)
	s.refused(s.as("mail-server", path, form("status", "done")), 400, oauth.InvalidRequest)
	s.refused(s.as("files-server", path, form("status", "committed")), 404, oauth.InvalidRequest)
	s.refused(s.post(path, form("status", "committed")), 401, oauth.InvalidClient)
	for range 2 {
		if a := s.as("mail-server", path, form("status", "committed")); a.status != http.StatusNoContent {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
	s.refused(s.as("mail-server", path, form("status", "failed")), 400, oauth.InvalidRequest)
	if a := get(path, alice); a.str("status") != "committed" {
		t.Errorf("got %s", a.body)
	}
}

// TestDisabledServer: what the registry says counts at once, whatever a process has seen.
func TestDisabledServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.obolus()
	s.as("mail-server", "/introspect", form("token", compact))
	c, version, err := s.Registry.Client(t.Context(), "mail-server")
	if err != nil {
		t.Fatal(err)
	}
	c.Credential = agents.Credential{Auth: oauth.AuthSecretBasic, SecretHash: agents.HashSecret(s.Secret, "another")}
	if _, err := s.Registry.PutClient(t.Context(), c, version); err != nil {
		t.Fatal(err)
	}
	s.refused(s.as("mail-server", "/introspect", form("token", compact)), 401, oauth.InvalidClient)
	s.refused(s.as("mail-server", "/redeem", form("token", compact)), 401, oauth.InvalidClient)
}
