package admin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"obolus/admin"
	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/keys"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/store"
	"obolus/store/memory"
	"obolus/token"
	"obolus/transaction"
	"obolus/users"
)

const (
	issuer    = "http://127.0.0.1:1"
	operators = "the-operators-token"
)

// world is the API over real parts, with everything in memory.
type world struct {
	t        *testing.T
	url      string
	client   *admin.Client
	consents *consent.Book
	ledger   *audit.Ledger
	life     *transaction.Transactions
	records  *brittle
	backup   func() (*admin.Copy, error)
}

// brittle is a store that can be told not to answer.
type brittle struct {
	store.Engine
	down bool
}

func (b *brittle) Do(ctx context.Context, batch store.Batch) (store.Results, error) {
	if b.down {
		return store.Results{}, store.ErrUnavailable
	}
	return b.Engine.Do(ctx, batch)
}

// accounts is the book of users as the API needs it.
type accounts struct{ *users.Book }

func (a accounts) User(ctx context.Context, id string) (admin.User, uint64, error) {
	u, version, err := a.Account(ctx, id)
	return admin.User{ID: u.ID, Name: u.Name, Email: u.Email, Provider: u.Provider, Disabled: u.Disabled, Created: u.Created}, version, err
}

func (a accounts) Users(ctx context.Context, after string, limit int) ([]admin.User, error) {
	found, err := a.Accounts(ctx, after, limit)
	var list []admin.User
	for _, u := range found {
		list = append(list, admin.User{ID: u.ID, Name: u.Name, Email: u.Email, Provider: u.Provider, Disabled: u.Disabled, Created: u.Created})
	}
	return list, err
}

func (a accounts) PutUser(ctx context.Context, u admin.User, password string, version uint64) (uint64, error) {
	return a.Put(ctx, users.Account{ID: u.ID, Name: u.Name, Email: u.Email, Disabled: u.Disabled}, users.Secret{Password: password}, version)
}

func (a accounts) SignOut(ctx context.Context, id string) error {
	if err := a.Book.SignOut(ctx, id); !errors.Is(err, agents.ErrNotFound) {
		return err
	}
	return nil
}

func (a accounts) RemoveUser(ctx context.Context, id string, version uint64) error {
	return a.Remove(ctx, id, version)
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, backup: func() (*admin.Copy, error) {
		return &admin.Copy{ReadCloser: io.NopCloser(strings.NewReader("a backup")), Bytes: 8}, nil
	}}
	records := &brittle{Engine: memory.New(time.Now)}
	live := must[*store.Live](t)(store.OpenLive(ctx, memory.New(time.Now), records))
	mirror := store.NewMirror(records, live)
	registry := agents.NewRegistry(records, mirror)
	recorder := audit.NewRecorder(ctx, records, time.Now)
	t.Cleanup(recorder.Close)
	ring := must[*keys.Ring](t)(keys.Open(ctx, keys.Config{Records: records, Default: token.ES256, Now: time.Now, Overlap: time.Hour}))
	verifier := must[*token.Verifier](t)(token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: ring, Now: time.Now}))
	decoy := must[*token.SigningKey](t)(token.GenerateKey(token.ES256, rand.Reader))
	secretKey := make([]byte, 32)
	clients := must[*agents.Authenticator](t)(agents.NewAuthenticator(agents.AuthenticatorConfig{
		Registry: registry, Live: live, Mirror: mirror, Issuer: issuer, Now: time.Now, SecretKey: secretKey,
		KeysAt: func(string) token.KeySource { return token.NewPublicSet() }, Decoy: token.NewPublicSet(decoy.Public()),
	}))
	ledger := audit.NewLedger(records)
	life := must[*transaction.Transactions](t)(transaction.New(transaction.Config{
		Issuer: issuer, Live: live, Mirror: mirror, Registry: registry, Clients: clients, Keys: ring, Signer: token.NewIssuer(issuer),
		Verifier: verifier, Recorder: recorder, Ledger: ledger, Decide: func(policy.Input) policy.Decision { return policy.Decision{Allowed: true} },
		Now: time.Now, Leeway: time.Second, Retention: time.Minute,
	}))
	consents := consent.NewBook(consent.BookConfig{
		Records: records, Live: live, Mirror: mirror, Record: recorder.Record, Now: time.Now, InteractionLifetime: time.Minute, MaxLifetime: time.Hour,
	})
	book := must[*users.Book](t)(users.NewBook(users.BookConfig{
		Records: records, Live: live, Claim: registry.Claim, Record: recorder.Record, Now: time.Now,
	}))
	server := must[*admin.Server](t)(admin.New(admin.Config{
		Token: operators, Issuer: issuer, Agents: registry, Clients: registry, Resources: registry, Users: accounts{book}, Grants: consents,
		Lifecycle: life, Ledger: ledger, Record: recorder.Record, Keys: ring,
		Policies: newRails(t, records),
		Inspect:  func(context.Context, string) (admin.Inspection, error) { return admin.Inspection{}, nil },
		Status: func(context.Context) (admin.Status, error) {
			return admin.Status{Issuer: issuer, Ready: true, Warnings: []string{}}, nil
		},
		Backup:     func(context.Context, string) (*admin.Copy, error) { return w.backup() },
		HashSecret: func(s string) string { return agents.HashSecret(secretKey, s) }, AllowAgentSecrets: true, Now: time.Now,
		Details: must[*details.Registry](t)(details.New(nil)),
		CanProve: func(c agents.Credential) error {
			if c.SPIFFE != "" {
				return fmt.Errorf("nobody knows the trust domain of %s: %w", c.SPIFFE, agents.ErrInvalid)
			}
			return nil
		},
		Log: slog.New(slog.DiscardHandler),
	}))
	router := mux.NewRouter().UseEncodedPath().SkipClean(true)
	server.Register(router)
	web := httptest.NewServer(router)
	t.Cleanup(web.Close)
	w.url, w.client = web.URL, &admin.Client{Server: web.URL, Token: operators, HTTP: web.Client()}
	w.consents, w.ledger, w.life, w.records = consents, ledger, life, records
	return w
}

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// code is the stable word of a problem.
func (a answer) code() string {
	var p admin.Problem
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil || p.Status != a.status {
		return ""
	}
	return p.Code
}

// request is a call below the prefix; headers are "Name: value".
func (w *world) request(method, path, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+admin.Prefix+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+operators)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, bytes.TrimSpace(data)}
}

// want makes a request and holds its status.
func (w *world) want(status int, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.request(method, path, body, headers...)
	if a.status != status {
		w.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

const (
	jwks      = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}`
	anAgent   = `{"name":"Mailer","jwks":` + jwks + `,"ceiling":{"resources":["mail"],"scopes":["mail.read"]}}`
	aClient   = `{"name":"Mail","auth":"client_secret_basic"}`
	aResource = `{"uri":"https://mail.example.com","scopes":{"mail.read":"Read your mail"},"servers":["mail-server"]}`
	aUser     = `{"name":"Alice","password":"correct horse battery"}`
)
