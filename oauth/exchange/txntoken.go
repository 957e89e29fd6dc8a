package exchange

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// A resource server can redeem without an endpoint of our own: it exchanges the one-transaction token for a transaction token of its
// trust domain (OAuth Transaction Tokens draft). The exchange is the redemption; the transaction token then authorises the
// calls behind the resource server, in the same txn, and is nothing to anybody else.

const typTxnToken = "txntoken+jwt"

// txnClaims are the claims of a transaction token, sections 9.2 and, for act, the Actor Profile: the requesting workload is the outermost
// actor, the agent the one before.
type txnClaims struct {
	Issuer   string              `json:"iss"`
	Audience string              `json:"aud"`
	Subject  string              `json:"sub"`
	Txn      string              `json:"txn"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	Scope    string              `json:"scope"`
	Workload string              `json:"req_wl"`
	Act      token.Actor         `json:"act"`
	Context  map[string]any      `json:"tctx,omitempty"`
	Confirm  *token.Confirmation `json:"cnf,omitempty"`
}

// redeemAs carries out the exchange of a one-transaction token for a transaction token. The Idempotency-Key is the
// redemption_id: a repeat gets the same token. The scope that is asked for is a part of what is repeated, and all that is given. A DPoP proof binds it to the key of the resource server, of the first that is sent.
func (x *Exchange) redeemAs(ctx context.Context, who agents.Presented, r Request) (oauth.TokenAnswer, error) {
	scopes, ok := oauth.ParseScope(r.Scope)
	err := x.checkTxn(r)
	if err == nil && !ok {
		err = errScope()
	}
	r.Scope = strings.Join(scopes, " ")
	if err == nil {
		err = x.spendProof(ctx, who, r.Proof)
	}
	if err != nil {
		event := audit.Event{Kind: audit.KindRedeem, Client: who.ClientID(), Remote: r.Remote}
		event.Refused(err)
		if recorded := x.cfg.Recorder.Record(ctx, event); recorded != nil {
			return oauth.TokenAnswer{}, recorded
		}
		return oauth.TokenAnswer{}, err
	}
	key, err := x.cfg.Keys.Signer("")
	if err != nil {
		return oauth.TokenAnswer{}, err
	}
	done, err := x.cfg.Transactions.Redeem(ctx, transaction.Redemption{
		Server: who, Token: r.SubjectToken, ID: r.IdempotencyKey, Hash: r.Scope, Remote: r.Remote,
		Also: func(c token.Claims, at time.Time) (string, error) {
			if err := purpose(&c, r.Scope); err != nil {
				return "", err
			}
			claims := x.txnClaims(who.ClientID(), c, at)
			if r.Proof != nil {
				claims.Confirm = &token.Confirmation{JKT: r.Proof.JKT}
			}
			payload, err := json.Marshal(claims)
			if err != nil {
				return "", err
			}
			return x.cfg.Signer.SignAs(typTxnToken, payload, key)
		},
	})
	if err != nil {
		return oauth.TokenAnswer{}, asExchange(err)
	}
	if done.Also == "" {
		return oauth.TokenAnswer{}, oauth.Refuse(oauth.InvalidRequest, oauth.ReasonRedeemed, "the transaction was redeemed at the redemption endpoint")
	}
	left := done.At.Add(x.cfg.Settings.Lifetime).Sub(x.cfg.Now())
	return oauth.TokenAnswer{
		AccessToken: done.Also, IssuedTokenType: oauth.TypeTxnToken, TokenType: oauth.NotApplicable,
		ExpiresIn: max(int64(left/time.Second), 0), Scope: cmp.Or(r.Scope, done.Claims.Scope), Txn: done.Txn,
	}, nil
}

// purpose narrows the claims to the scope that is asked for: section 11.1. Without one they stay as they are.
func purpose(c *token.Claims, scope string) error {
	have := c.Scopes()
	if slices.ContainsFunc(strings.Fields(scope), func(s string) bool { return !slices.Contains(have, s) }) {
		return oauth.Refuse(oauth.InvalidScope, oauth.ReasonSubjectScope, "a scope is not in the subject token")
	}
	c.Scope = cmp.Or(scope, c.Scope)
	return nil
}

// spendProof makes a proof worthless for a second request. One beside a credential that could be shown again was spent with it.
func (x *Exchange) spendProof(ctx context.Context, who agents.Presented, proof *token.Proof) error {
	if proof == nil || who.Proof() != nil {
		return nil
	}
	if err := x.cfg.Clients.Await(ctx, proof.IssuedAt); err != nil {
		return err
	}
	out, err := store.Apply(ctx, x.cfg.Live, onceProof(proof))
	if err != nil {
		return oauth.Unavailable(err)
	}
	return x.spentProof(proof, out)
}

// checkTxn holds the request to its form: the one-transaction token as subject and the trust domain as audience.
func (x *Exchange) checkTxn(r Request) error {
	domain := x.cfg.Settings.TrustDomain
	switch {
	case domain == "":
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonRequestedType, "requested_token_type: this server has no trust domain")
	case r.SubjectToken == "" || r.SubjectTokenType != oauth.TypeAccessToken:
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMissing, "subject_token is a one-transaction access token")
	case r.ActorToken != "" || r.ActorTokenType != "":
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "an actor_token has no part in a redemption")
	case r.Details != "":
		return oauth.Refuse(oauth.InvalidAuthorizationDetails, oauth.ReasonMalformed, "those of the subject token go along; others cannot be asked for")
	case len(r.Resources) > 0 || len(r.Audiences) != 1 || r.Audiences[0] != domain:
		return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "audience is the trust domain of this server")
	default:
		return nil
	}
}

func (x *Exchange) txnClaims(server string, c token.Claims, at time.Time) txnClaims {
	t := txnClaims{
		Issuer: x.cfg.Issuer, Audience: x.cfg.Settings.TrustDomain, Subject: c.Subject, Txn: c.Txn, IssuedAt: at.Unix(),
		Expires: at.Add(x.cfg.Settings.Lifetime).Unix(), Scope: c.Scope, Workload: server,
		Act: token.Nest(token.Actor{Issuer: x.cfg.Issuer, Subject: server, Profile: "service"}, c.Act),
	}
	if len(c.Details) > 0 {
		t.Context = map[string]any{"authorization_details": c.Details}
	}
	return t
}

// asExchange says in the words of the token endpoint what the redemption endpoint says in its own: RFC 8693 section 2.2.2 has
// invalid_request for a subject token that cannot be used.
func asExchange(err error) error {
	refusal := *oauth.AsError(err)
	switch refusal.Code {
	case oauth.InvalidClient, oauth.InvalidScope, oauth.TemporarilyUnavailable, oauth.ServerError:
	default:
		refusal.Code = oauth.InvalidRequest
	}
	return &refusal
}
