package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"obolus/admin"
	"obolus/agents"
	"obolus/oauth/endpoint"
	"obolus/transaction"
	"obolus/web"
)

// edge wires what speaks HTTP, and puts the door before it.
func (p *parts) edge(secretKey []byte) error {
	pages, err := p.pages()
	if err != nil {
		return err
	}
	protocol, err := p.protocol(pages)
	if err != nil {
		return err
	}
	api, err := p.api(secretKey)
	if err != nil {
		return err
	}
	root := mux.NewRouter().UseEncodedPath().SkipClean(true)
	root.Use(named)
	root.NotFoundHandler = nowhere(pages.NotFound())
	root.MethodNotAllowedHandler = wrongMethod(root)
	under := root
	if base := basePath(p.cfg.Issuer); base != "" {
		p.health(root)
		under = root.PathPrefix(base).Subrouter()
	}
	protocol.Register(root)
	api.Register(under)
	p.health(under)
	pages.Register(under)
	p.door = newDoor(p.opts, p.metrics, root)
	p.door.proxies, p.door.strict, p.door.certificates = networks(p.cfg.TrustedProxies), strings.HasPrefix(p.cfg.Issuer, "https:"), certificatesOf(p.cfg)
	return nil
}

func basePath(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

func (p *parts) pages() (*web.Server, error) {
	cfg := p.cfg
	providers := make([]web.Provider, 0, len(cfg.IdentityProviders))
	for _, one := range cfg.IdentityProviders {
		providers = append(providers, web.Provider{
			ID: one.ID, Name: one.Name, Issuer: one.Issuer, ClientID: one.ClientID, ClientSecret: one.ClientSecret, Scopes: one.Scopes,
		})
	}
	return web.New(web.Config{
		Issuer: cfg.Issuer, Users: p.accounts, Registry: p.registry, Consents: p.consents, Flow: p.flow, Lifecycle: p.life, Ledger: p.ledger,
		Live: p.stores.live, Record: p.recorder.Record, Details: p.types, Guardrails: p.guardrails.shown, Explain: p.guardrails.engine.Explain,
		Providers: providers, HTTP: p.outside, OperatorToken: p.operatorToken,
		DefaultLifetime: time.Duration(cfg.Consent.DefaultLifetime), MaxLifetime: time.Duration(cfg.Consent.MaxLifetime),
		Now: p.opts.Now, Log: p.opts.Log,
	})
}

func (p *parts) protocol(pages *web.Server) (*endpoint.Server, error) {
	cfg := endpoint.Config{
		Issuer: p.cfg.Issuer, Live: p.stores.live, Registry: p.registry, Clients: p.clients, Exchange: p.exchange, Transactions: p.life,
		Flow: p.flow, Details: p.types, Verifier: p.verifier, Keys: p.ring, Record: p.recorder.Record, User: pages.SignedIn,
		Receiver: p.receiver, Feed: p.feed, Detach: detach,
		Settings: endpoint.Settings{
			SessionLifetime: time.Duration(p.cfg.Tokens.SessionLifetime), CertificateURL: p.cfg.TLS.CertificateURL,
			RequireNonce: p.cfg.Tokens.DPoPNonce, NonceKey: p.nonceKey, RequirePushed: p.cfg.RequirePushed,
		},
		Now: p.opts.Now, Log: p.opts.Log,
	}
	if from := certificatesOf(p.cfg); from.any() {
		cfg.Certificate = from.of
	}
	return endpoint.New(cfg)
}

func (p *parts) api(secretKey []byte) (*admin.Server, error) {
	return admin.New(admin.Config{
		Token: p.operatorToken, Issuer: p.cfg.Issuer, Agents: p.registry, Clients: p.registry, Resources: resources{p.registry, p.ring}, Users: accounts{p.accounts},
		Grants: p.consents, Lifecycle: p.life, Ledger: p.ledger, Record: p.recorder.Record, Keys: p.ring, Policies: p.guardrails,
		Inspect: p.inspect, Status: p.status, Backup: p.backup, HashSecret: func(secret string) string { return agents.HashSecret(secretKey, secret) },
		AllowAgentSecrets: p.cfg.AllowAgentSecrets, CanProve: p.cfg.CanProve, Details: p.types, Now: p.opts.Now, Log: p.opts.Log,
	})
}

// inspect looks at a token of ours for an operator.
func (p *parts) inspect(ctx context.Context, compact string) (admin.Inspection, error) {
	v, err := p.verifier.Verify(ctx, strings.TrimSpace(compact))
	if err != nil {
		return admin.Inspection{}, nil //nolint:nilerr // what is no token of ours is not active
	}
	standing, err := p.life.Standing(ctx, v)
	if err != nil || standing.Phase != transaction.PhaseIssued {
		return admin.Inspection{}, err
	}
	data, err := json.Marshal(v.Claims())
	if err != nil {
		return admin.Inspection{}, err
	}
	out := admin.Inspection{Active: true}
	return out, json.Unmarshal(data, &out.Claims)
}

func (p *parts) status(ctx context.Context) (admin.Status, error) {
	kind := func(address string) string { k, _, _ := strings.Cut(address, ":"); return k }
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	warnings := append([]string{}, p.cfg.Warnings()...)
	if err := p.guardrails.shut(); err != nil {
		warnings = append(warnings, err.Error())
	}
	return admin.Status{
		Version: p.opts.Version, Issuer: p.cfg.Issuer, Records: kind(p.cfg.Records), Live: kind(p.cfg.Live),
		Epoch: p.stores.live.Epoch().Number, Ready: p.ready(ctx) == nil, Warnings: warnings,
	}, nil
}

// ready is why the server should not be asked now: a store does not answer, or the guardrails allow nothing.
func (p *parts) ready(ctx context.Context) error {
	return errors.Join(p.stores.answer(ctx), p.guardrails.shut())
}

// readyTime bounds how long the stores may take to answer a probe.
const readyTime = 2 * time.Second

// health adds what machines ask.
func (p *parts) health(r *mux.Router) {
	get := func(path string, h http.Handler) {
		r.Handle(path, h).Methods(http.MethodGet, http.MethodHead).Name(path)
	}
	get("/healthz", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, "ok") }))
	get("/readyz", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyTime)
		defer cancel()
		if err := p.ready(ctx); err != nil {
			p.opts.Log.WarnContext(ctx, "not ready", "cause", err)
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "a store does not answer, or the guardrails cannot be loaded")
			return
		}
		say(w, "ready")
	}))
	get("/metrics", p.metrics.handler())
}

func say(w http.ResponseWriter, word string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(word + "\n"))
}

func noSuchPath(w http.ResponseWriter, _ *http.Request) {
	refuse(w, http.StatusNotFound, "invalid_request", "there is nothing here")
}

// nowhere tells programs that there is nothing, and people by a page: who mistypes an address gets no JSON to read.
func nowhere(page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
			page.ServeHTTP(w, r)
			return
		}
		noSuchPath(w, r)
	})
}

// wrongMethod says which methods would have done something.
func wrongMethod(root *mux.Router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allow []string
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
			try, found := *r, mux.RouteMatch{}
			try.Method = method
			if root.Match(&try, &found) && found.MatchErr == nil {
				allow = append(allow, method)
			}
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		refuse(w, http.StatusMethodNotAllowed, "invalid_request", "the method does nothing here")
	})
}
