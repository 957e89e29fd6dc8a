package endpoint

import (
	"context"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// code is the authorization code grant: RFC 6749 section 4.1.3, OAuth 2.1 section 4.1.3. The answer has no refresh token.
func (t *tokenRequest) code(ctx context.Context) (oauth.TokenAnswer, error) {
	event := audit.Event{Kind: audit.KindSession, Client: t.who.ClientID(), Remote: t.s.cfg.Remote(t.r)}
	proof, err := t.proof()
	if err != nil {
		return oauth.TokenAnswer{}, t.s.record(ctx, event, err)
	}
	who, err := t.settle(ctx, proof)
	if oauth.AsError(err).Code == oauth.InvalidClient {
		return oauth.TokenAnswer{}, t.s.failed(t.r, agents.Credentials{ClientID: t.who.ClientID()}, err)
	}
	answer := oauth.TokenAnswer{}
	if err == nil {
		answer, err = t.redeem(ctx, who, proof)
	}
	if err != nil {
		return oauth.TokenAnswer{}, t.s.record(ctx, event, err)
	}
	return answer, nil
}

// settle authenticates the client and spends its proof, in one round trip.
func (t *tokenRequest) settle(ctx context.Context, proof *token.Proof) (agents.Authenticated, error) {
	if proof == nil {
		return t.s.cfg.Clients.Settle(ctx, t.who)
	}
	commits, reads := t.s.cfg.Clients.Batch(t.who)
	res, err := t.s.cfg.Live.Do(ctx, store.Batch{Commits: append(commits, once("proof", proof)), Reads: reads})
	if err != nil {
		return agents.Authenticated{}, oauth.Unavailable(err)
	}
	who, err := t.s.cfg.Clients.Confirm(ctx, t.who, res)
	if err != nil {
		return who, err
	}
	return who, t.s.spent(proof, res.Outcomes[len(commits)])
}

// redeem spends the code and issues the user's own token for it.
func (t *tokenRequest) redeem(ctx context.Context, who agents.Authenticated, proof *token.Proof) (oauth.TokenAnswer, error) {
	none, f := oauth.TokenAnswer{}, t.form
	client, ok := who.Client()
	if !ok || !who.MayUse(oauth.GrantAuthorizationCode) {
		return none, errNotFor(oauth.GrantAuthorizationCode)
	}
	if f.get("code") == "" {
		return none, missing("code")
	}
	claim := authcode.Claim{
		Code: f.get("code"), ClientID: client.ID, RedirectURI: f.get("redirect_uri"), Verifier: f.get("code_verifier"), Narrow: t.narrow,
	}
	if proof != nil {
		claim.JKT = proof.JKT
	} else if client.DPoP {
		return none, &oauth.Error{
			Code: oauth.InvalidDPoPProof, Reason: oauth.ReasonProofMissing, Description: "the client is registered for DPoP and sent no proof",
		}
	}
	if names := f.list("resource"); len(names) > 0 {
		res, err := t.s.audience(ctx, names)
		if err != nil {
			return none, err
		}
		claim.Resources = []string{t.s.uri(res)}
	}
	x5t, err := bind(who, client, proof)
	if err != nil {
		return none, err
	}
	granted, err := t.s.cfg.Flow.Redeem(ctx, claim)
	if err != nil {
		return none, err
	}
	signed, c, err := t.issue(ctx, granted, token.Confirmation{JKT: claim.JKT, X5T: x5t})
	if err != nil {
		return none, err
	}
	if err := t.s.cfg.Flow.Issued(ctx, claim.Code, c.ID); err != nil {
		return none, err
	}
	answer := oauth.TokenAnswer{
		AccessToken: signed, TokenType: oauth.Bearer, ExpiresIn: c.Expires - c.IssuedAt, Scope: c.Scope, AuthorizationDetails: c.Details,
	}
	if c.Confirm != nil && c.Confirm.JKT != "" {
		answer.TokenType = oauth.DPoP
	}
	return answer, nil
}

// narrow holds the authorization_details of a token request to those of the code: RFC 9396 section 6.
func (t *tokenRequest) narrow(r authcode.Request) (authcode.Request, error) {
	asked := t.form.get("authorization_details")
	if asked == "" {
		return r, nil
	}
	want, err := t.s.cfg.Details.Parse([]byte(asked))
	if err != nil {
		return r, errDetails(err)
	}
	have, err := t.s.cfg.Details.Parse(r.Details)
	if err != nil || t.s.cfg.Details.Covers(have, want) != nil {
		return r, oauth.Refuse(oauth.InvalidAuthorizationDetails, oauth.ReasonGrantDetails, "authorization_details are not within what the user allowed")
	}
	r.Details = want.JSON()
	return r, nil
}

func (t *tokenRequest) issue(ctx context.Context, g authcode.Granted, to token.Confirmation) (string, token.Claims, error) {
	r, res, lifetime := g.Request, agents.Resource{}, t.s.cfg.Settings.SessionLifetime
	if r.Resource != t.s.cfg.Issuer {
		var err error
		if res, err = t.s.audience(ctx, []string{r.Resource}); err != nil {
			return "", token.Claims{}, err
		}
		if slices.ContainsFunc(r.Scopes, func(s string) bool { _, ok := res.Scopes[s]; return !ok }) {
			return "", token.Claims{}, oauth.Refuse(oauth.InvalidScope, oauth.ReasonScopeUnknown, "a scope is no longer one of the resource")
		}
		lifetime = min(lifetime, res.Lifetime.Or(lifetime))
	}
	return t.s.cfg.Transactions.IssueSession(ctx, transaction.Session{
		User: g.User, Client: r.ClientID, Audience: r.Resource, Algorithm: res.Algorithm, Scope: strings.Join(r.Scopes, " "), Details: r.Details,
		AuthTime: g.AuthTime, ACR: g.ACR, AMR: g.AMR, JKT: to.JKT, X5T: to.X5T, Lifetime: lifetime.Truncate(time.Second), Remote: t.s.cfg.Remote(t.r),
	})
}

func errDetails(err error) error {
	return &oauth.Error{
		Code: oauth.InvalidAuthorizationDetails, Reason: oauth.ReasonDetailsBad, Err: err,
		Description: oauth.Printable("authorization_details: " + clip(err.Error())),
	}
}
