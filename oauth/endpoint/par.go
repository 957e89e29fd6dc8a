package endpoint

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/endpoint/internal/fositex"
)

// push is the pushed authorization request endpoint: RFC 9126 section 2. Its refusals are those of the token endpoint.
func (s *Server) push(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(w, r, "resource")
	if err != nil {
		return err
	}
	who, err := s.authenticate(r, f)
	if err != nil {
		return err
	}
	a := authorization{s: s, r: r, form: f}
	answer, err := a.push(w, who)
	if err != nil {
		return s.record(r.Context(), audit.Event{
			Kind: audit.KindAuthorize, Client: who.ID(), AskedScope: clip(f.get("scope")), Remote: s.cfg.Remote(r),
		}, err)
	}
	write(w, http.StatusCreated, answer)
	return nil
}

type pushAnswer struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

// push checks the request as the authorization endpoint will once more, and keeps its parameters.
func (a *authorization) push(w http.ResponseWriter, who agents.Authenticated) (pushAnswer, error) {
	none := pushAnswer{}
	if a.form.get("request_uri") != "" {
		return none, malformed("a pushed request has no request_uri")
	}
	if err := a.proven(w); err != nil {
		return none, err
	}
	if !who.MayUse(oauth.GrantAuthorizationCode) {
		return none, errNotFor(oauth.GrantAuthorizationCode)
	}
	a.form.values = a.kept()
	a.form.values.Set("client_id", who.ID())
	if err := a.place(); err != nil {
		return none, err
	}
	answer := pushAnswer{}
	err := a.check(func(ctx context.Context, _ authcode.Request) error {
		uri, lifetime, err := a.s.cfg.Flow.Push(ctx, authcode.Pushed{ClientID: who.ID(), Params: a.form.values, JKT: a.jkt})
		answer = pushAnswer{RequestURI: uri, ExpiresIn: int64(lifetime / time.Second)}
		return err
	}, a.s.fosite.Push, func(context.Context) (fositex.Client, error) {
		return fositex.Client{ID: who.ID(), RedirectURI: a.redirect, Scopes: a.client.Scopes, Public: who.Public()}, nil
	})
	return answer, err
}

// proven verifies and spends the DPoP proof of a pushed request; the code will be bound to its key.
func (a *authorization) proven(w http.ResponseWriter) error {
	proof, err := a.s.proof(w, a.r, pathPush)
	if err != nil || proof == nil {
		return err
	}
	out, err := a.s.apply(a.r.Context(), once("proof", proof))
	if err != nil {
		return err
	}
	a.jkt = proof.JKT
	return a.s.spent(proof, out)
}

// kept are the parameters of the request without those by which the client authenticated.
func (a *authorization) kept() url.Values {
	kept := url.Values{}
	for name, v := range a.form.values {
		if !slices.Contains([]string{"client_secret", "client_assertion", "client_assertion_type"}, name) {
			kept[name] = v
		}
	}
	return kept
}
