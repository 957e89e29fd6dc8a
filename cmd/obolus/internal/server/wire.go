package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"obolus/admin"
	"obolus/agents"
	"obolus/audit"
	"obolus/cmd/obolus/internal/config"
	"obolus/consent"
	"obolus/keys"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/details"
	"obolus/oauth/exchange"
	"obolus/signals"
	"obolus/token"
	"obolus/token/fetch"
	"obolus/transaction"
	"obolus/users"
	"obolus/web"
)

// What is no setting.
const (
	keyAhead   = 5 * time.Minute // a new key is published before it signs
	keyOverlap = 25 * time.Hour  // longer than any token lives
	remember   = 10 * time.Minute
	retention  = 10 * time.Minute // of redemptions, for those who lost the answer
)

// parts is everything a server is made of.
type parts struct {
	cfg    config.Config
	opts   Options
	stores *stores

	metrics    *metrics
	door       *door
	recorder   *audit.Recorder
	ledger     *audit.Ledger
	registry   *agents.Registry
	ring       *keys.Ring
	clients    *agents.Authenticator
	verifier   *token.Verifier
	consents   *consent.Book
	life       *transaction.Transactions
	types      *details.Registry
	guardrails *guardrails
	exchange   *exchange.Exchange
	accounts   *users.Book
	flow       *authcode.Flow
	outside    *http.Client // to what the configuration names elsewhere
	published  *http.Client // to the keys of agents and clients
	identities *identities
	receiver   *signals.Receiver // nil: nobody's events are taken
	feed       *signals.Feed
	longest    *lasting
	nonceKey   []byte // of DPoP nonces

	copying sync.Mutex // held while a backup is made and sent

	operatorToken string
}

// wire is the one table of what stands on what. It ends with the declared things applied and a handler that answers.
func wire(ctx context.Context, cfg config.Config, o Options, st *stores) (*parts, error) {
	p := &parts{cfg: cfg, opts: o, stores: st, metrics: newMetrics(o.Version)}
	p.recorder = audit.NewRecorder(ctx, st.records, o.Now)
	p.recorder.Tell(p.metrics.event)
	err := p.build(ctx)
	if err != nil {
		p.recorder.Close()
		return nil, err
	}
	return p, nil
}

func (p *parts) build(ctx context.Context) error {
	cfg, st, now := p.cfg, p.stores, p.opts.Now
	master, err := master(cfg)
	if err != nil {
		return err
	}
	secretKey, err1 := derive(master, "client secrets")
	digestKey, err2 := derive(master, "declarations")
	var err4 error
	p.nonceKey, err4 = derive(master, "dpop nonces")
	var err3 error
	p.operatorToken, err3 = secretFile(cfg.Operators.TokenFile, base64.RawURLEncoding)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("the operators' token: %w", err)
	}
	p.outside, p.published = fetch.New(reach(cfg)), fetch.New(reachKeys(cfg))
	if p.identities, err = newIdentities(cfg, p.opts); err != nil {
		return err
	}
	p.ledger = audit.NewLedger(st.records)
	p.registry = agents.NewRegistry(st.records, st.mirror)
	p.ring, err = keys.Open(ctx, keys.Config{
		Records: st.records, Master: master, Default: cfg.Keys.Algorithm, Now: now, Ahead: keyAhead, Overlap: keyOverlap,
		RotateEvery: time.Duration(cfg.Keys.RotateEvery), Report: p.report("the signing keys cannot be kept up"),
	})
	if err != nil {
		return fmt.Errorf("the signing keys: %w", err)
	}
	if err := p.core(ctx, secretKey); err != nil {
		return err
	}
	err = (&declared{
		records: st.records, registry: p.registry, accounts: p.accounts, life: p.life, ring: p.ring, record: p.recorder.Record,
		secret: secretKey, digest: digestKey, now: now, log: p.opts.Log,
	}).apply(ctx, cfg)
	if err != nil {
		return err
	}
	return p.edge(secretKey)
}

// core wires what knows no transport.
func (p *parts) core(ctx context.Context, secretKey []byte) error {
	cfg, st, now := p.cfg, p.stores, p.opts.Now
	signer := token.NewIssuer(cfg.Issuer)
	if err := p.trust(ctx, secretKey, signer); err != nil {
		return err
	}
	p.consents = consent.NewBook(consent.BookConfig{
		Records: st.records, Live: st.live, Mirror: st.mirror, Record: p.recorder.Record, Now: now,
		InteractionLifetime: time.Duration(cfg.Consent.InteractionLifetime), MaxLifetime: time.Duration(cfg.Consent.MaxLifetime),
	})
	var err error
	p.life, err = transaction.New(transaction.Config{
		Issuer: cfg.Issuer, Live: st.live, Mirror: st.mirror, Registry: p.registry, Clients: p.clients, Keys: p.ring, Signer: signer,
		Verifier: p.verifier, Recorder: p.recorder, Ledger: p.ledger, Decide: p.guardrails.Decide, Now: now,
		Leeway: time.Duration(cfg.Tokens.Leeway), Retention: retention,
	})
	if err != nil {
		return err
	}
	p.accounts, err = users.NewBook(users.BookConfig{
		Records: st.records, Live: st.live, Claim: p.registry.Claim, Record: p.recorder.Record, Now: now, Providers: providerIDs(cfg),
	})
	if err != nil {
		return err
	}
	if err := p.signals(); err != nil {
		return err
	}
	p.flow, err = authcode.New(authcode.Config{
		Issuer: cfg.Issuer, Live: st.live, Mirror: st.mirror, Record: p.recorder.Record, Stop: p.life.Stop, Now: now,
		RequestLifetime: time.Duration(cfg.Consent.InteractionLifetime), Remember: time.Duration(cfg.Tokens.SessionLifetime),
	})
	if err != nil {
		return err
	}
	p.exchange, err = exchange.New(exchange.Config{
		Issuer: cfg.Issuer, Live: st.live, Mirror: st.mirror, Registry: p.registry, Clients: p.clients, Consents: p.consents,
		Transactions: p.life, Keys: p.ring, Signer: signer, Verifier: p.verifier, Trusted: p.trusted(), Details: p.types,
		Decide: p.guardrails.Decide, Recorder: p.recorder, Now: now, Settings: settings(cfg), Aside: aside,
	})
	return err
}

// trust wires what says who somebody is and what is allowed.
func (p *parts) trust(ctx context.Context, secretKey []byte, signer *token.Issuer) error {
	cfg, st, now := p.cfg, p.stores, p.opts.Now
	var err error
	p.verifier, err = token.NewVerifier(token.VerifierConfig{
		Issuer: cfg.Issuer, Keys: p.ring, Now: now, Leeway: time.Duration(cfg.Tokens.Leeway), Own: signer,
	})
	if err != nil {
		return err
	}
	decoy, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		return err
	}
	p.clients, err = agents.NewAuthenticator(agents.AuthenticatorConfig{
		Registry: p.registry, Live: st.live, Mirror: st.mirror, Issuer: cfg.Issuer, Now: now, SecretKey: secretKey,
		KeysAt: (&published{client: p.published, now: now}).at, Decoy: token.NewPublicSet(decoy.Public()),
		TrustDomains: p.identities.domains, Workloads: p.identities.workloads, ClientAuthorities: p.identities.authorities(),
	})
	if err != nil {
		return err
	}
	if p.types, err = details.New(cfg.Details); err != nil {
		return err
	}
	p.guardrails, err = newGuardrails(ctx, cfg, p.types, st.records, p.opts)
	return err
}

// settings are what an operator chose for the exchange.
func settings(cfg config.Config) exchange.Settings {
	return exchange.Settings{
		Lifetime: time.Duration(cfg.Tokens.Lifetime), MaxDepth: cfg.Exchange.MaxDepth,
		NarrowScopes: cfg.Exchange.ScopeMode == config.ScopeNarrow, PlainErrors: cfg.Exchange.ErrorProfile == config.ProfileRFC8693,
		TrustDomain:    cfg.Exchange.TrustDomain,
		InteractionURI: cfg.Issuer + "/consent/", Interval: time.Duration(cfg.Consent.Interval), Remember: remember,
	}
}

// report makes a function that logs what went wrong in the background.
func (p *parts) report(sentence string) func(error) {
	return func(err error) {
		if !errors.Is(err, context.Canceled) {
			p.opts.Log.Error(sentence, slog.Any("cause", err)) //nolint:sloglint // the sentence is one of a few constants
		}
	}
}

// background is what runs beside the requests.
func (p *parts) background(cert *keyPair) []func(context.Context) {
	work := []func(context.Context){
		p.ring.Run,
		p.feed.Run,
		p.guardrails.watch,
		p.guardrails.follow,
		func(ctx context.Context) {
			every(ctx, pollTime, func() {
				if err := p.stores.live.Renew(ctx); err != nil {
					p.report("the live store cannot be asked for its continuity")(err)
				}
			})
		},
	}
	if cert != nil {
		work = append(work, func(ctx context.Context) { cert.watch(ctx, p.opts.Log) })
	}
	for _, watch := range p.identities.watch {
		work = append(work, func(ctx context.Context) { watch(ctx, p.opts.Log) })
	}
	return work
}

// Close writes what waits for the ledger and lets go of the stores.
func (p *parts) Close() error {
	p.recorder.Close()
	p.outside.CloseIdleConnections()
	p.published.CloseIdleConnections()
	p.identities.close()
	return p.stores.Close()
}

// reach is where the server goes for what its configuration names: identity providers, trusted issuers, bundles. Those may be in the
// own network, but never where clouds keep a machine's credentials; this machine only if the server is there to try it out.
func reach(cfg config.Config) fetch.Options {
	u, err := url.Parse(cfg.Issuer)
	return fetch.Options{
		InsecureLoopback: err == nil && u.Scheme == "http",
		InsecureAllow:    func(a netip.Addr) bool { return a.Unmap().IsPrivate() },
	}
}

// reachKeys is where the server goes for the keys of agents and clients, which are registered by many hands: only the public Internet and
// the networks that the configuration names; this machine as above.
func reachKeys(cfg config.Config) fetch.Options {
	own := networks(cfg.OwnNetworks)
	o := reach(cfg)
	o.InsecureAllow = func(a netip.Addr) bool {
		return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	return o
}

// published keeps one source of keys for each jwks_uri.
type published struct {
	client *http.Client
	now    func() time.Time
	mu     sync.Mutex
	byURI  map[string]token.KeySource
}

// publishedMost bounds how many are kept; beyond it they are all fetched anew.
const publishedMost = 10_000

func (p *published) at(uri string) token.KeySource {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found, ok := p.byURI[uri]; ok {
		return found
	}
	if p.byURI == nil || len(p.byURI) >= publishedMost {
		p.byURI = map[string]token.KeySource{}
	}
	p.byURI[uri] = token.NewRemoteKeys(token.RemoteConfig{URI: uri, Client: p.client, Now: p.now})
	return p.byURI[uri]
}

// trusted are the issuers whose tokens may be subject tokens.
func (p *parts) trusted() []exchange.TrustedIssuer {
	var list []exchange.TrustedIssuer
	for _, t := range p.cfg.TrustedIssuers {
		kinds := []oauth.TokenType{}
		for _, k := range t.Types {
			kinds = append(kinds, oauth.TokenType("urn:ietf:params:oauth:token-type:"+k))
		}
		if len(kinds) == 0 {
			kinds = []oauth.TokenType{oauth.TypeJWT, oauth.TypeIDToken}
		}
		list = append(list, exchange.TrustedIssuer{
			Issuer: t.Issuer, Algorithms: t.Algorithms, Types: kinds, Audience: t.Audience, SubjectPrefix: t.SubjectPrefix,
			Scopes: t.Scopes, Clients: t.Clients,
			Keys: token.NewRemoteKeys(token.RemoteConfig{
				URI: t.JWKSURI, Issuer: t.Issuer, Client: p.outside, Now: p.opts.Now, Algs: t.Algorithms,
			}),
		})
	}
	return list
}

func providerIDs(cfg config.Config) []string {
	ids := make([]string, 0, len(cfg.IdentityProviders))
	for _, p := range cfg.IdentityProviders {
		ids = append(ids, p.ID)
	}
	return ids
}

var (
	_ admin.Lifecycle  = (*transaction.Transactions)(nil)
	_ web.Lifecycle    = (*transaction.Transactions)(nil)
	_ transaction.Keys = (*keys.Ring)(nil)
)
