package resource_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/oauth"
	"obolus/resource"
	"obolus/token"
)

// issuer is a small and honest authorization server: it signs tokens and lets each transaction be redeemed once.
type issuer struct {
	t      tester
	server *httptest.Server
	now    func() time.Time
	client string            // that may redeem
	keys   []token.PublicKey // of its replicas

	mu        sync.Mutex
	signing   *token.SigningKey
	published []token.PublicKey
	redeemed  map[string]claim  // by txn
	spent     map[string]bool   // assertions
	reports   map[string]string // by txn
	fault     func(w http.ResponseWriter, r *http.Request) bool
	stream    *stream

	calls    atomic.Int64 // of /redeem
	keyCalls atomic.Int64
	last     atomic.Value // the form of the last redemption that was let in
}

type claim struct{ id, hash string }

// tester is what is needed of a testing.TB.
type tester interface {
	Helper()
	Error(args ...any)
	Fatal(args ...any)
	Cleanup(f func())
}

const (
	api = "http://127.0.0.1:9/mail" // the resource; nothing listens there
	me  = "mail"
)

// testKey makes a key; the tests do not ask which.
func testKey(t tester) *token.SigningKey {
	t.Helper()
	k, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newIssuer(t tester) *issuer {
	t.Helper()
	is := &issuer{
		t: t, now: time.Now, client: me, signing: testKey(t),
		redeemed: map[string]claim{}, spent: map[string]bool{}, reports: map[string]string{},
	}
	is.published = []token.PublicKey{is.signing.Public()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{
			"issuer": is.server.URL, "jwks_uri": is.server.URL + "/jwks.json",
			"redemption_endpoint": is.server.URL + "/redeem", "transaction_endpoint": is.server.URL + "/txn/{txn}",
			"events_endpoint": is.server.URL + "/events",
		})
	})
	mux.HandleFunc("GET /jwks.json", is.jwks)
	mux.HandleFunc("POST /redeem", is.redeem)
	mux.HandleFunc("POST /txn/{txn}", is.report)
	is.stream = &stream{is: is, more: make(chan struct{})}
	mux.Handle("GET /events", is.stream)
	is.server = httptest.NewServer(mux)
	t.Cleanup(is.server.Close)
	t.Cleanup(is.stream.cut)
	return is
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func (is *issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	is.keyCalls.Add(1)
	is.mu.Lock()
	set, err := token.NewPublicSet(is.published...).JWKS()
	is.mu.Unlock()
	if err != nil {
		is.t.Error(err)
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Write(set)
}

// authenticated takes an assertion once, or the secret.
func (is *issuer) authenticated(r *http.Request) bool {
	if id, secret, ok := r.BasicAuth(); ok {
		secret, err := url.QueryUnescape(secret)
		return err == nil && id == is.client && secret == "correct+horse" && r.PostForm.Get("client_assertion") == ""
	}
	return is.asserted(r, r.PostForm.Get("client_assertion")) && r.PostForm.Get("client_assertion_type") == oauth.AssertionJWT
}

func (is *issuer) asserted(r *http.Request, assertion string) bool {
	got, err := token.VerifyAssertion(r.Context(), assertion, token.AssertionExpect{
		ClientID: is.client, Audience: is.server.URL, Keys: token.NewPublicSet(is.keys...), Now: is.now,
	})
	if err != nil || is.spent[got.ID] {
		return false
	}
	is.spent[got.ID] = true
	return true
}

func (is *issuer) redeem(w http.ResponseWriter, r *http.Request) {
	is.calls.Add(1)
	is.mu.Lock()
	fault := is.fault
	is.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	is.mu.Lock()
	status, body := is.decide(r)
	is.mu.Unlock()
	answer(w, status, body)
}

func (is *issuer) decide(r *http.Request) (int, map[string]any) {
	if err := r.ParseForm(); err != nil || !is.authenticated(r) {
		return http.StatusUnauthorized, map[string]any{"error": "invalid_client"}
	}
	form := r.PostForm
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: is.server.URL, Keys: token.NewPublicSet(is.published...), Now: is.now})
	if err != nil {
		is.t.Error(err)
	}
	got, err := v.Verify(r.Context(), form.Get("token"))
	if err != nil {
		return http.StatusGone, map[string]any{"error": "token_unknown"}
	}
	c, mine := got.Claims(), claim{form.Get("redemption_id"), form.Get("request_hash")}
	if jkt := form.Get("jkt"); jkt != "" && (c.Confirm == nil || c.Confirm.JKT != jkt) {
		return http.StatusForbidden, map[string]any{"error": "key_mismatch"}
	}
	is.last.Store(maps.Clone(form))
	have, done := is.redeemed[c.Txn]
	switch {
	case mine.id == "" || mine.hash == "":
		return http.StatusBadRequest, map[string]any{"error": "invalid_request"}
	case done && have.id != mine.id:
		return http.StatusConflict, map[string]any{"error": "already_redeemed"}
	case done && have != mine:
		return http.StatusUnprocessableEntity, map[string]any{"error": "request_mismatch"}
	}
	is.redeemed[c.Txn] = mine
	return http.StatusOK, map[string]any{
		"redemption": map[bool]string{true: "repeat", false: "first"}[done], "txn": c.Txn, "receipt": "receipt of " + c.Txn,
		"active": true, "sub": c.Subject,
	}
}

func (is *issuer) report(w http.ResponseWriter, r *http.Request) {
	is.mu.Lock()
	defer is.mu.Unlock()
	txn := r.PathValue("txn")
	if err := r.ParseForm(); err != nil || !is.authenticated(r) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	if _, ok := is.redeemed[txn]; !ok {
		answer(w, http.StatusNotFound, map[string]any{"error": "invalid_request"})
		return
	}
	is.reports[txn] = r.PostForm.Get("status")
	w.WriteHeader(http.StatusNoContent)
}

// breaks makes the redemption endpoint do something else; f says whether it has answered.
func (is *issuer) breaks(f func(w http.ResponseWriter, r *http.Request) bool) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.fault = f
}

func (is *issuer) claims() token.Claims {
	now := is.now().Unix()
	return token.Claims{
		Issuer: is.server.URL, Audience: token.Audience{api}, Subject: "alice", ClientID: "agent-a",
		ID: "e1." + rand.Text() + ".x", Txn: "txn_" + rand.Text(), IssuedAt: now, NotBefore: now, Expires: now + 60, Scope: "mail.send mail.read",
		Act:      &token.Actor{Issuer: is.server.URL, Subject: "agent-a", Profile: "ai_agent"},
		AuthTime: now - 300, ACR: "urn:acr:mfa",
	}
}

// token signs claims that some changed.
func (is *issuer) token(change ...func(*token.Claims)) string {
	is.t.Helper()
	c := is.claims()
	for _, f := range change {
		f(&c)
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	signed, err := token.NewIssuer(is.server.URL).Sign(c, is.signing)
	if err != nil {
		is.t.Fatal(err)
	}
	return signed
}

func once(c *token.Claims) { c.TxnMode = oauth.ModeRedeem }

func bound(k *token.SigningKey) func(*token.Claims) {
	return func(c *token.Claims) { c.Confirm = &token.Confirmation{JKT: k.KeyID()} }
}

func details(json string) func(*token.Claims) {
	return func(c *token.Claims) { c.Details = []byte(json) }
}

// guard makes a guard of this issuer whose assertion key it knows.
func (is *issuer) guard(change ...func(*resource.Config)) *resource.Guard {
	is.t.Helper()
	k := testKey(is.t)
	is.mu.Lock()
	is.keys = append(is.keys, k.Public())
	is.mu.Unlock()
	pem, err := k.PEM()
	if err != nil {
		is.t.Fatal(err)
	}
	cfg := resource.Config{
		Issuer: is.server.URL, Resource: api, Client: resource.PrivateKeyPEM(me, pem), Patience: 30 * time.Second, Now: is.now,
	}
	for _, f := range change {
		f(&cfg)
	}
	g, err := resource.New(cfg)
	if err != nil {
		is.t.Fatal(err)
	}
	return g
}

// request is one for the resource, with a token in its header.
func request(method, path, body, bearer string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return r
}

// prove makes it a request by DPoP, with a fresh proof.
func prove(t testing.TB, r *http.Request, k *token.SigningKey, bearer string, change ...func(*token.ProofClaims)) *http.Request {
	t.Helper()
	c := token.ProofClaims{Method: r.Method, URI: "http://127.0.0.1:9" + r.URL.Path, AccessToken: bearer}
	for _, f := range change {
		f(&c)
	}
	proof, err := token.SignProof(k, c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "DPoP "+bearer)
	r.Header.Set("DPoP", proof)
	return r
}

// effects counts what a handler has done.
type effects struct {
	atomic.Int64
}

func (e *effects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.Add(1)
	fmt.Fprintf(w, "sent by %s for %s", resource.CallerFrom(r.Context()).Agent, resource.CallerFrom(r.Context()).User)
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func challenge(w *httptest.ResponseRecorder) string {
	return strings.Join(w.Header().Values("WWW-Authenticate"), "\n")
}

// mutate gives a token a header or payload of the attacker's choice under the signature it had.
func mutate(compact string, part int, change func(map[string]any)) string {
	parts := strings.Split(compact, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(parts[part])
	var m map[string]any
	json.Unmarshal(raw, &m)
	change(m)
	raw, _ = json.Marshal(m)
	parts[part] = base64.RawURLEncoding.EncodeToString(raw)
	return strings.Join(parts, ".")
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func jsonResponse(doc map[string]any) *http.Response {
	w := httptest.NewRecorder()
	answer(w, http.StatusOK, doc)
	return w.Result()
}

// merge changes a document; nil takes a member out.
func merge(doc, change map[string]any) map[string]any {
	for name, value := range change {
		if doc[name] = value; value == nil {
			delete(doc, name)
		}
	}
	return doc
}
