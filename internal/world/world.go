// Package world builds the core of Obolus on engines that forget, with a clock that can be moved, for the tests of the
// packages in the core. Everything in it is the real thing but the clock. What it leaves to the conformance tests is HTTP,
// the durable engines and the wiring of the server.
package world

import (
	"context"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/keys"
	"obolus/oauth"
	"obolus/oauth/details"
	"obolus/oauth/exchange"
	"obolus/policy"
	"obolus/store"
	"obolus/store/memory"
	"obolus/token"
	"obolus/transaction"
)

// Issuer is who the world issues as.
const Issuer = "https://as.test"

// World is the core, wired.
type World struct {
	tb  testing.TB
	now atomic.Pointer[time.Time]

	Records  *Faulty
	Engine   *Faulty // the live engine below the epoch
	Live     *store.Live
	Mirror   *store.Mirror
	Recorder *audit.Recorder
	Ledger   *audit.Ledger
	Registry *agents.Registry
	Clients  *agents.Authenticator
	Keys     *keys.Ring
	Signer   *token.Issuer
	Verifier *token.Verifier
	Details  *details.Registry
	Consents *consent.Book
	Tx       *transaction.Transactions
	Exchange *exchange.Exchange
	Settings exchange.Settings
	Trusted  []exchange.TrustedIssuer
	Identify func(*agents.AuthenticatorConfig)    // adds whose word is taken for who a client is, from the next Start on; nil: nobody's
	Decide   func(policy.Input) policy.Decision   // replaced at will; nil allows everything
	Aside    func(context.Context) (func(), bool) // is told that a request begins to wait, from the next Start on; may be nil
	Secret   []byte
}

// New builds a world whose clock stands at an hour of its own.
func New(tb testing.TB) *World {
	tb.Helper()
	w := &World{tb: tb, Secret: make([]byte, 32)}
	start := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	w.now.Store(&start)
	_, _ = rand.Read(w.Secret)
	w.Records, w.Engine = &Faulty{Engine: memory.New(w.Now)}, &Faulty{Engine: memory.New(w.Now)}
	w.Settings = exchange.Settings{
		Lifetime: time.Minute, MaxDepth: 4, InteractionURI: Issuer + "/consent/", Interval: 2 * time.Second, Remember: 10 * time.Minute,
	}
	w.Start()
	return w
}

// Now is the world's clock.
func (w *World) Now() time.Time { return *w.now.Load() }

// Pass moves the clock.
func (w *World) Pass(d time.Duration) {
	later := w.Now().Add(d)
	w.now.Store(&later)
}

// Restart starts the server anew on the same records and an empty live store.
func (w *World) Restart() {
	w.Engine = &Faulty{Engine: memory.New(w.Now)}
	w.Start()
}

// Start starts a server on the stores there are. A second one beside the first shares everything with it.
func (w *World) Start() {
	w.tb.Helper()
	ctx := w.tb.Context()
	var err error
	w.Live = must(store.OpenLive(ctx, w.Engine, w.Records))(w.tb)
	w.Mirror = store.NewMirror(w.Records, w.Live)
	w.Recorder, w.Ledger = audit.NewRecorder(ctx, w.Records, w.Now), audit.NewLedger(w.Records)
	w.tb.Cleanup(w.Recorder.Close)
	w.Registry = agents.NewRegistry(w.Records, w.Mirror)
	clients := agents.AuthenticatorConfig{
		Registry: w.Registry, Live: w.Live, Mirror: w.Mirror, Issuer: Issuer, Now: w.Now, SecretKey: w.Secret,
		KeysAt: func(string) token.KeySource { return token.NewPublicSet() }, Decoy: token.NewPublicSet(Key(w.tb).Public()),
	}
	if w.Identify != nil {
		w.Identify(&clients)
	}
	w.Clients = must(agents.NewAuthenticator(clients))(w.tb)
	w.Keys = must(keys.Open(ctx, keys.Config{Records: w.Records, Default: token.ES256, Now: w.Now, Overlap: time.Hour}))(w.tb)
	w.Signer = token.NewIssuer(Issuer)
	w.Verifier = must(token.NewVerifier(token.VerifierConfig{Issuer: Issuer, Keys: w.Keys, Now: w.Now, Leeway: 5 * time.Second, Own: w.Signer}))(w.tb)
	w.Details = must(details.New(nil))(w.tb)
	w.Consents = consent.NewBook(consent.BookConfig{
		Records: w.Records, Live: w.Live, Mirror: w.Mirror, Record: w.Recorder.Record, Now: w.Now,
		InteractionLifetime: 10 * time.Minute, MaxLifetime: 720 * time.Hour,
	})
	w.Tx = must(transaction.New(transaction.Config{
		Issuer: Issuer, Live: w.Live, Mirror: w.Mirror, Registry: w.Registry, Clients: w.Clients, Keys: w.Keys, Signer: w.Signer,
		Verifier: w.Verifier, Recorder: w.Recorder, Ledger: w.Ledger, Decide: w.decide, Now: w.Now,
		Leeway: 5 * time.Second, Retention: 10 * time.Minute,
	}))(w.tb)
	w.Exchange, err = exchange.New(exchange.Config{
		Issuer: Issuer, Live: w.Live, Mirror: w.Mirror, Registry: w.Registry, Clients: w.Clients, Consents: w.Consents,
		Transactions: w.Tx, Keys: w.Keys, Signer: w.Signer, Verifier: w.Verifier, Trusted: w.Trusted, Details: w.Details,
		Decide: w.decide, Recorder: w.Recorder, Now: w.Now, Settings: w.Settings, Aside: w.Aside,
	})
	if err != nil {
		w.tb.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func (w *World) decide(in policy.Input) policy.Decision {
	if w.Decide == nil {
		return policy.Decision{Allowed: true}
	}
	return w.Decide(in)
}

// Key makes a key for an agent or a server.
func Key(tb testing.TB) *token.SigningKey {
	tb.Helper()
	return must(token.GenerateKey(token.ES256, rand.Reader))(tb)
}

// Agent registers an agent, allowed everything at the resources of the world unless change says otherwise. It returns
// its key.
func (w *World) Agent(id string, change func(*agents.Agent)) *token.SigningKey {
	w.tb.Helper()
	key := Key(w.tb)
	a := agents.Agent{
		ID: id, Name: "Agent " + id, Owner: "team", State: agents.Active,
		Credential: agents.Credential{Auth: oauth.AuthPrivateKeyJWT, JWKS: must(token.NewPublicSet(key.Public()).JWKS())(w.tb)},
		Ceiling: agents.Ceiling{
			Resources: []string{"mail", "files"}, Scopes: []string{"mail.read", "mail.send", "files.read"},
			DetailTypes: []string{"payment", "mcp_tool_call"},
		},
	}
	if change != nil {
		change(&a)
	}
	_, version, err := w.Registry.Agent(w.tb.Context(), id)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		w.tb.Fatal(err)
	}
	if _, err := w.Registry.PutAgent(w.tb.Context(), a, version); err != nil {
		w.tb.Fatal(err)
	}
	return key
}

// Populate registers an app, two resources (mail, which redeems, and files, which does not) and their servers, which know
// the secret "secret".
func (w *World) Populate() {
	w.tb.Helper()
	ctx := w.tb.Context()
	for _, c := range []agents.Client{
		{
			ID: "app", Name: "The app", RedirectURIs: []string{"https://app.test/cb"}, GrantTypes: []oauth.GrantType{oauth.GrantAuthorizationCode},
			Credential: agents.Credential{Auth: oauth.AuthNone},
		},
		{ID: "mail-server", Name: "Mail", Credential: w.secret()},
		{ID: "files-server", Name: "Files", Credential: w.secret()},
	} {
		if _, err := w.Registry.PutClient(ctx, c, 0); err != nil {
			w.tb.Fatal(err)
		}
	}
	for _, r := range []agents.Resource{
		{
			ID: "mail", URI: "https://mail.test/api", Aliases: []string{"urn:mail"}, Name: "Mail", Servers: []string{"mail-server"},
			Scopes:  map[string]string{"mail.read": "Read your mail", "mail.send": "Send mail", "mail.delete": "Delete mail"},
			Details: []string{"payment", "mcp_tool_call"}, Redemption: agents.RedemptionRequired,
		},
		{
			ID: "files", URI: "https://files.test", Name: "Files", Servers: []string{"files-server"},
			Scopes: map[string]string{"files.read": "Read your files"}, Redemption: agents.RedemptionNone,
		},
	} {
		if _, err := w.Registry.PutResource(ctx, r, 0); err != nil {
			w.tb.Fatal(err)
		}
	}
}

func (w *World) secret() agents.Credential {
	return agents.Credential{Auth: oauth.AuthSecretBasic, SecretHash: agents.HashSecret(w.Secret, "secret")}
}

// SignedAssertion is an assertion of a client by its key.
func (w *World) SignedAssertion(id string, key *token.SigningKey) string {
	w.tb.Helper()
	return must(token.SignAssertion(key, id, Issuer, w.Now()))(w.tb)
}

// Assertion presents an agent by an assertion of its key.
func (w *World) Assertion(id string, key *token.SigningKey) agents.Presented {
	w.tb.Helper()
	return must(w.Clients.Present(w.tb.Context(), agents.Credentials{
		Method: oauth.AuthPrivateKeyJWT, ClientID: id, Assertion: w.SignedAssertion(id, key),
	}))(w.tb)
}

// Server presents a resource server by its secret.
func (w *World) Server(id string) agents.Presented {
	w.tb.Helper()
	return must(w.Clients.Present(w.tb.Context(), agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: id, Secret: "secret"}))(w.tb)
}

// Settled is an authenticated server.
func (w *World) Settled(id string) agents.Authenticated {
	w.tb.Helper()
	return must(w.Clients.Settle(w.tb.Context(), w.Server(id)))(w.tb)
}

// UserToken issues a user's own token to the app; change may be nil.
func (w *World) UserToken(user string, change func(*transaction.Session)) string {
	w.tb.Helper()
	s := transaction.Session{
		User: user, Client: "app", Audience: Issuer, Scope: "mail.read mail.send files.read", AuthTime: w.Now(), Lifetime: 10 * time.Minute,
	}
	if change != nil {
		change(&s)
	}
	compact, _, err := w.Tx.IssueSession(w.tb.Context(), s)
	if err != nil {
		w.tb.Fatal(err)
	}
	return compact
}

// Consent lets a user allow an agent something, as the page would: what the agent would ask for, narrowed by d.
func (w *World) Consent(user, agent, target string, d consent.Decision) consent.Grant {
	w.tb.Helper()
	ctx := w.tb.Context()
	a, _, err := w.Registry.Agent(ctx, agent)
	if err != nil {
		w.tb.Fatal(err)
	}
	in := must(w.Consents.Ask(ctx, consent.Ask{
		User: user, Agent: agent, Target: target, Scopes: []string{"files.read", "mail.read", "mail.send"}, AgentKeys: a.Fingerprint(),
	}))(w.tb)
	d.Allow = true
	if d.Expires.IsZero() {
		d.Expires = w.Now().Add(24 * time.Hour)
	}
	in = must(w.Consents.Decide(ctx, in.ID, user, d))(w.tb)
	for _, g := range must(w.Consents.GrantsOf(ctx, user))(w.tb) {
		if g.ID == in.Grant {
			return g.Grant
		}
	}
	w.tb.Fatal("the consent left no grant")
	return consent.Grant{}
}

// Events are all events of a kind in the ledger.
func (w *World) Events(kind audit.Kind) []audit.Event {
	w.tb.Helper()
	return must(w.Ledger.Events(w.tb.Context(), audit.Filter{Kind: kind, Limit: 1000}))(w.tb)
}
