package exchange

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/policy"
	"obolus/token"
)

// claims are those of the token to be: RFC 9068 section 2.2 and RFC 8693 section 4. Nothing of the user is in them but the identifier,
// how and when they signed in.
func (x *Exchange) claims(f *facts, act *token.Actor, g consent.Grant, out granted) token.Claims {
	parent := ""
	if f.standing.Server != "" {
		parent = f.subject.claims.Txn // onward, in the lineage of the redeemed transaction
	}
	txn, jti := x.cfg.Transactions.Name(parent, f.named)
	now := x.cfg.Now().Unix()
	c := token.Claims{
		Issuer: x.cfg.Issuer, Audience: token.Audience{f.resource.URI}, Subject: f.subject.user, ClientID: f.agent.ID,
		IssuedAt: now, NotBefore: now, Expires: out.expires.Unix(), ID: jti, Txn: txn, Scope: strings.Join(out.scopes, " "),
		Act: act, Confirm: f.confirm, Details: out.details.JSON(), Context: f.subject.context(g.ID),
		AuthTime: f.subject.claims.AuthTime, ACR: f.subject.claims.ACR, AMR: f.subject.claims.AMR,
	}
	if f.resource.Redemption == agents.RedemptionRequired {
		c.TxnMode = oauth.ModeRedeem
	}
	return c
}

// guard asks the operators' guardrails: step 9. A policy is named in the ledger, not on the wire.
func (x *Exchange) guard(f *facts, c token.Claims, g consent.Grant, event *audit.Event) error {
	in := policy.Input{
		Stage: policy.Exchange, ClientID: f.agent.ID, Scopes: c.Scopes(), Now: x.cfg.Now(), Chain: event.Chain,
		Agent:   policy.Agent{ID: f.agent.ID, Owner: f.agent.Owner, Operator: f.agent.Operator, Labels: f.agent.Labels},
		User:    policy.User{ID: c.Subject, ACR: c.ACR},
		Target:  policy.Target{ID: f.resource.ID, URI: f.resource.URI, Labels: f.resource.Labels},
		Consent: policy.Consent{ID: g.ID, Uses: g.Uses, GivenAt: g.Created},
	}
	if c.AuthTime != 0 {
		in.User.AuthTime = time.Unix(c.AuthTime, 0)
	}
	if len(c.Details) > 0 {
		if err := json.Unmarshal(c.Details, &in.Details); err != nil {
			return err
		}
	}
	decision := x.cfg.Decide(in)
	event.PolicyVersion, event.Policies = decision.Version, decision.Policies
	if decision.Allowed {
		return nil
	}
	if event.AskedScope == "" && len(event.AskedDetails) == 0 { // what the request left open is what was decided about
		event.AskedScope, event.AskedDetails = c.Scope, c.Details
	}
	refusal := oauth.Refuse(oauth.ActorUnauthorized, oauth.ReasonGuardrail, "a guardrail of the operator forbids it")
	if len(decision.Errors) > 0 {
		refusal.Reason, refusal.Err = oauth.ReasonGuardrailError, errors.New(strings.Join(decision.Errors, "; "))
	}
	return refusal
}

func describeToken(event *audit.Event, c token.Claims, g consent.Grant) {
	event.JTI, event.Txn, event.Grant = c.ID, c.Txn, g.ID
	event.GrantedScope, event.GrantedDetails = c.Scope, c.Details
	event.Expires = time.Unix(c.Expires, 0).UTC()
}

// answer is RFC 8693 section 2.2.1.
func answer(signed string, c token.Claims) oauth.TokenAnswer {
	a := oauth.TokenAnswer{
		AccessToken: signed, IssuedTokenType: oauth.TypeAccessToken, TokenType: oauth.Bearer, ExpiresIn: c.Expires - c.IssuedAt,
		Scope: c.Scope, AuthorizationDetails: c.Details, Txn: c.Txn,
	}
	if c.Confirm != nil && c.Confirm.JKT != "" {
		a.TokenType = oauth.DPoP
	}
	return a
}
