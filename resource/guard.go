// Package resource is the guard that a resource server puts before its handlers. It checks access tokens of Obolus without asking
// anybody, holds each request to what its token allows, and redeems one-transaction tokens as the last step before the effect:
// at most one request gets through for each of them, over all replicas. Every doubt refuses.
//
//	guard, err := resource.New(resource.Config{
//		Issuer:   "https://obolus.example.com",
//		Resource: "https://mail.example.com",
//		Client:   resource.PrivateKeyPEM("mail", pem),
//	})
//	mux.Handle("POST /send", guard.Require(resource.Rule{Scopes: []string{"mail.send"}})(send))
//
// It leaves to the resource server what only that can know: whether a request is within the authorization_details of its
// token ([Rule].Details), whatever else can fail without an effect ([Rule].Check), and the effect itself. "Once" is about the
// authorization; an effect happens exactly once if it is written together with the transaction's name ([Caller].Txn).
package resource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"obolus/oauth"
	"obolus/token"
)

// Guard protects handlers. It is safe for concurrent use.
type Guard struct {
	cfg      Config
	server   *authServer
	verifier *token.Verifier
	nonces   nonces
	stops    *stops
	metadata string // URL of the protected resource metadata, or empty
	algs     string
}

// New makes a guard. It does not call the authorization server: see [Guard.Ready].
func New(cfg Config) (*Guard, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("resource guard: %w", err)
	}
	cfg = cfg.complete()
	g := &Guard{
		cfg: cfg, server: newAuthServer(cfg), nonces: nonces{key: cfg.NonceKey, audience: cfg.Resource},
		stops: newStops(cfg), metadata: metadataURL(cfg), algs: strings.Join(token.ProofAlgorithms(), " "),
	}
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: cfg.Issuer, Keys: g.server, Now: cfg.Now, Leeway: cfg.Leeway,
	})
	if err != nil {
		return nil, fmt.Errorf("resource guard: %w", err)
	}
	g.verifier = verifier
	return g, nil
}

// Ready says whether the guard can work: the metadata of the authorization server and its keys are there, and it is known what was stopped if that
// matters. It is for readiness probes and for servers that want to fail at start.
func (g *Guard) Ready(ctx context.Context) error {
	if g.cfg.Stops == StopsFollowed && g.stops.deaf() {
		return errDeaf
	}
	return g.server.ready(ctx)
}

// Require makes the middleware that lets through what the rule allows. The handler finds who calls by [CallerFrom]. It does
// not see the Authorization and DPoP headers, so that no token is passed on by accident.
func (g *Guard) Require(rule Rule) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := g.serve(w, r, rule, next); err != nil {
				g.Refuse(w, err)
			}
		})
	}
}

// serve runs the handler if every check passes. An error means that it did not run.
func (g *Guard) serve(w http.ResponseWriter, r *http.Request, rule Rule, next http.Handler) error {
	caller, err := g.Check(r, rule)
	if err != nil {
		return err
	}
	if caller.nonce != "" {
		w.Header().Set("DPoP-Nonce", caller.nonce)
	}
	if g.cfg.Results != nil && caller.OneTransaction && caller.jkt != "" && !caller.Free {
		return g.serveRetained(w, r, caller, next)
	}
	if !caller.rule.Late && !caller.Free {
		if err := caller.Redeem(r.Context()); err != nil {
			return err
		}
	}
	next.ServeHTTP(w, caller.request(r))
	return nil
}

// Check does everything but the redemption, in the order of docs/redemption.md: token, proof, scope, details, body, and the rule's
// own checks. It reads the body up to Config.MaxBody and puts a reader in its place that gives it again. Whoever
// calls it instead of [Guard.Require] calls [Caller.Redeem] as the last thing before the effect, unless the request is Free, and answers an error
// of either with [Guard.Refuse].
func (g *Guard) Check(r *http.Request, rule Rule) (*Caller, error) {
	caller, scheme, err := g.check(r, rule)
	if err == nil {
		if caller.body != nil {
			r.Body = caller.body.rest()
		}
		return caller, nil
	}
	if caller != nil {
		rule = caller.rule
	}
	return nil, refuse(err, scheme, rule)
}

func (g *Guard) check(r *http.Request, rule Rule) (*Caller, string, error) {
	// 1. The token, by itself.
	cred, err := credentials(r)
	if err != nil {
		return nil, cred.scheme, err
	}
	caller, err := g.verify(r.Context(), cred)
	if err != nil {
		return nil, cred.scheme, err
	}
	caller.rule = rule

	// 2. The proof that its holder sends it.
	if err := g.certified(r, caller); err != nil {
		return caller, cred.scheme, err
	}
	if err := g.prove(r, cred, caller); err != nil {
		return caller, cred.scheme, err
	}

	// 3. What it allows, against what is asked.
	return caller, cred.scheme, g.allow(r, caller)
}

// verify is step 1: signature, issuer, type, times, audience, mode, and for a session token whether it was stopped, as far as Config.Stops says that
// this is followed. Of a one-transaction token the redemption tells.
func (g *Guard) verify(ctx context.Context, cred presented) (*Caller, error) {
	v, err := g.verifier.Verify(ctx, cred.token)
	if errors.Is(err, token.ErrUnreachable) {
		g.cfg.Log.ErrorContext(ctx, "keys of the authorization server are out of reach", slog.Any("error", err))
		return nil, oauth.Unavailable(err)
	}
	if errors.Is(err, token.ErrExpired) {
		return nil, invalidToken("the token has expired", err)
	}
	if err != nil {
		return nil, invalidToken("the token is not valid", err)
	}
	claims := v.Claims()
	if !claims.Audience.Has(g.cfg.Resource) {
		return nil, invalidToken("the token is for another resource", nil)
	}
	switch claims.TxnMode {
	case "":
	case oauth.ModeRedeem:
		if claims.Txn == "" || g.cfg.Client.id == "" {
			return nil, invalidToken("the token cannot be redeemed here", nil)
		}
	default:
		return nil, invalidToken("the token is of an unknown mode", nil)
	}
	caller, err := newCaller(claims)
	if err != nil {
		return nil, invalidToken("the token is not valid", err)
	}
	if caller.stopped = g.unstopped(claims, v.KeyID()); caller.stopped != nil && !caller.OneTransaction {
		return nil, caller.stopped
	}
	caller.guard, caller.token, caller.scheme = g, cred.token, cred.scheme
	if claims.Confirm != nil && caller.jkt == "" && caller.x5t == "" {
		return nil, invalidToken("the token is bound in a way that is not known here", nil)
	}
	return caller, nil
}
