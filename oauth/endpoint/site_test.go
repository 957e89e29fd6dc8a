package endpoint_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/endpoint"
	"obolus/token"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessToken   = "urn:ietf:params:oauth:token-type:access_token"
	jwtType       = "urn:ietf:params:oauth:token-type:jwt"
	mail          = "https://mail.test/api"
	verifier      = "a-verifier-of-forty-three-characters-at-least"
)

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// site is the endpoints over HTTP, on the real core of a world.
type site struct {
	*world.World
	t     testing.TB
	url   string
	flow  *authcode.Flow
	agent *token.SigningKey // of agent-a
	log   *syncBuffer
	mux   *mux.Router
}

// syncBuffer is a log that several requests write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newSite serves a populated world in which alice allowed agent-a to read her mail.
func newSite(t testing.TB, change func(*endpoint.Config)) *site {
	t.Helper()
	return newSiteOn(t, world.New(t), change)
}

func newSiteOn(t testing.TB, w *world.World, change func(*endpoint.Config)) *site {
	t.Helper()
	s := &site{World: w, t: t, log: &syncBuffer{}}
	s.Populate()
	s.agent = s.Agent("agent-a", nil)
	s.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	var err error
	s.flow, err = authcode.New(authcode.Config{
		Issuer: world.Issuer, Live: s.Live, Mirror: s.Mirror, Record: s.Recorder.Record, Stop: s.Tx.Stop, Now: s.Now,
		RequestLifetime: 10 * time.Minute, Remember: 10 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := endpoint.Config{
		Issuer: world.Issuer, Live: s.Live, Registry: s.Registry, Clients: s.Clients, Exchange: s.Exchange, Transactions: s.Tx, Flow: s.flow,
		Details: s.Details, Verifier: s.Verifier, Keys: s.Keys, Record: s.Recorder.Record, Now: s.Now,
		Settings: endpoint.Settings{SessionLifetime: 10 * time.Minute, ACRValues: []string{"urn:mfa"}},
		Log:      slog.New(slog.NewTextHandler(s.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	server, err := endpoint.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.mux = mux.NewRouter()
	server.Register(s.mux)
	h := httptest.NewServer(s.mux)
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

// on is the site for a part of a test.
func (s *site) on(t testing.TB) *site {
	part := *s
	part.t = t
	return &part
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (a answer) str(name string) string {
	v, _ := a.json[name].(string)
	return v
}

// client follows nothing.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

var plain = regexp.MustCompile(`^[\x20-\x21\x23-\x5b\x5d-\x7e]*$`)

func (s *site) do(r *http.Request) answer {
	s.t.Helper()
	res, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(body)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && len(body) > 0 {
		if err := json.Unmarshal(body, &a.json); err != nil {
			s.t.Fatalf("%s: %v", body, err)
		}
	}
	for _, name := range []string{"error", "error_description"} {
		if !plain.MatchString(a.str(name)) {
			s.t.Errorf("%s %q has characters that RFC 6749 section 5.2 does not allow", name, a.str(name))
		}
	}
	return a
}

func (s *site) request(method, path, body string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" || method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// form is parameters in pairs; a name may come again.
func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func (s *site) post(path string, f url.Values) answer {
	s.t.Helper()
	return s.do(s.request(http.MethodPost, path, f.Encode()))
}

// as posts with the Basic credentials of a server of the world.
func (s *site) as(id, path string, f url.Values) answer {
	s.t.Helper()
	r := s.request(http.MethodPost, path, f.Encode())
	r.SetBasicAuth(id, "secret")
	return s.do(r)
}

// asserted adds an assertion of agent-a to a form.
func (s *site) asserted(f url.Values) url.Values {
	s.t.Helper()
	return s.assertedBy("agent-a", s.agent, f)
}

func (s *site) assertedBy(id string, key *token.SigningKey, f url.Values) url.Values {
	s.t.Helper()
	assertion, err := token.SignAssertion(key, id, world.Issuer, s.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	f.Set("client_assertion_type", oauth.AssertionJWT)
	f.Set("client_assertion", assertion)
	return f
}

// te is a token exchange that succeeds.
func (s *site) te() url.Values {
	s.t.Helper()
	return s.asserted(form(
		"grant_type", exchangeGrant, "subject_token", s.UserToken("alice", nil), "subject_token_type", accessToken,
		"resource", mail, "scope", "mail.read",
	))
}

// obolus is a one-transaction token for alice's mail.
func (s *site) obolus() string {
	s.t.Helper()
	a := s.post("/token", s.te())
	if a.status != http.StatusOK {
		s.t.Fatalf("exchange: %d %s", a.status, a.body)
	}
	return a.str("access_token")
}

func (s *site) proof(key *token.SigningKey, path string, change func(*token.ProofClaims)) string {
	s.t.Helper()
	c := token.ProofClaims{Method: http.MethodPost, URI: world.Issuer + path}
	if change != nil {
		change(&c)
	}
	p, err := token.SignProof(key, c, s.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// refused checks a refusal: status, code, JSON, no caching, and no reason where none may be told.
func (s *site) refused(a answer, status int, code oauth.Code) {
	s.t.Helper()
	if a.status != status || a.str("error") != string(code) {
		s.t.Errorf("got %d %s, want %d %s", a.status, a.body, status, code)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		s.t.Errorf("headers %v", a.header)
	}
	if a.json["access_token"] != nil || strings.Contains(a.body, "eyJ") {
		s.t.Errorf("a token in a refusal: %s", a.body)
	}
}

// eventsDuring counts the events that something leaves in the ledger.
func (s *site) eventsDuring(do func()) []audit.Event {
	s.t.Helper()
	before, err := s.Ledger.Latest(s.t.Context(), audit.Filter{Limit: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	do()
	after := uint64(0)
	if len(before) > 0 {
		after = before[0].Seq
	}
	events, err := s.Ledger.Events(s.t.Context(), audit.Filter{After: after, Limit: 1000})
	if err != nil {
		s.t.Fatal(err)
	}
	return events
}

// register registers another client.
func (s *site) register(c agents.Client) {
	s.t.Helper()
	if _, err := s.Registry.PutClient(s.t.Context(), c, 0); err != nil {
		s.t.Fatal(err)
	}
}

// fingerprint is what a user trusts an agent by.
func fingerprint(a agents.Agent) string { return a.Fingerprint() }
