package exchange

import (
	"context"
	"errors"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// Config is what an Exchange needs; all members are needed but those that say otherwise.
type Config struct {
	Issuer       string
	Live         *store.Live
	Mirror       *store.Mirror
	Registry     *agents.Registry
	Clients      *agents.Authenticator
	Consents     *consent.Book
	Transactions *transaction.Transactions
	Keys         transaction.Keys
	Signer       *token.Issuer
	Verifier     *token.Verifier
	Trusted      []TrustedIssuer // may be empty
	Details      *details.Registry
	Decide       func(policy.Input) policy.Decision
	Recorder     *audit.Recorder
	Now          func() time.Time
	Settings     Settings
	// Aside is told that a request begins to wait for a person, and back that it goes on; not ok: too many wait already, and
	// this one must not. Nil: nobody needs to know.
	Aside func(ctx context.Context) (back func(), ok bool)
}

// Settings are what an operator may choose.
type Settings struct {
	Lifetime time.Duration // of a token, unless resource or agent say less
	MaxDepth int           // of a chain of actors
	// NarrowScopes answers a request for too many scopes with fewer instead of a refusal.
	NarrowScopes bool
	// PlainErrors says invalid_request where the default is actor_unauthorized, for clients that know RFC 8693 alone.
	PlainErrors bool
	// InteractionURI is where a user decides: the id of the interaction is appended.
	InteractionURI string
	Interval       time.Duration // how often an agent should repeat its request meanwhile
	// TrustDomain is the audience of the transaction tokens for which resource servers may exchange, and thereby redeem; empty: they
	// cannot.
	TrustDomain string
	// Remember is how long a consent that was taken back answers no, before the user may be asked again.
	Remember time.Duration
}

// Exchange is the token exchange. It is safe for concurrent use.
type Exchange struct{ cfg Config }

// New makes an Exchange.
func New(cfg Config) (*Exchange, error) {
	if cfg.Issuer == "" || cfg.Live == nil || cfg.Mirror == nil || cfg.Registry == nil || cfg.Clients == nil || cfg.Consents == nil ||
		cfg.Transactions == nil || cfg.Keys == nil || cfg.Signer == nil || cfg.Verifier == nil || cfg.Details == nil ||
		cfg.Decide == nil || cfg.Recorder == nil || cfg.Now == nil {
		return nil, errors.New("exchange: the configuration is not complete")
	}
	return &Exchange{cfg: cfg}, nil
}

// Do carries out one exchange: RFC 8693 section 2. Every call leaves one event in the ledger before it returns. The error is a
// refusal.
func (x *Exchange) Do(ctx context.Context, who agents.Presented, r Request) (oauth.TokenAnswer, error) {
	if r.RequestedTokenType == oauth.TypeTxnToken {
		return x.redeemAs(ctx, who, r)
	}
	event := audit.Event{Kind: audit.KindExchange, Client: who.ClientID(), AskedScope: r.Scope, Remote: r.Remote}
	answer, err := x.exchange(ctx, who, r, &event)
	event.Refused(err)
	if recorded := x.cfg.Transactions.Record(ctx, event); recorded != nil {
		return oauth.TokenAnswer{}, recorded
	}
	if err != nil {
		return oauth.TokenAnswer{}, x.profile(err)
	}
	return answer, nil
}

// exchange is the whole path from a request to a token.
func (x *Exchange) exchange(ctx context.Context, who agents.Presented, r Request, event *audit.Event) (oauth.TokenAnswer, error) {
	none := oauth.TokenAnswer{}

	// 1. What is asked, in its own terms.
	ask, err := x.parse(r, event)
	if err != nil {
		return none, err
	}

	// 2. Who: the user, from the subject token. Its signature and time; whether it still counts comes with step 4.
	subject, err := x.subject(ctx, ask)
	if err != nil {
		return none, err
	}

	// 3. By whom: the actor token, if the agent sent one.
	actor, err := x.actor(ctx, ask, who.ClientID())
	if err != nil {
		return none, err
	}

	// 4. Everything the decision needs, in one round trip, in which the agent's assertion and proof are spent.
	facts, err := x.read(ctx, who, ask, subject)
	if err != nil {
		return x.duplicate(ctx, duplicated{who: who.ClientID(), ask: ask, subject: subject, refusal: err}, event)
	}
	facts.by = actor
	facts.describe(event)

	// 5. May this agent act for this user with this token, and at the end of which chain?
	act, err := x.delegate(ctx, facts)
	if err != nil {
		return none, err
	}
	describeChain(event, act)

	// 6. Where: one resource, within the agent's ceiling.
	if err := x.target(ctx, facts); err != nil {
		return none, err
	}

	// 7. What the user allowed. Without it the user is asked, and the request waits if it may.
	// 8. Narrow: never wider than the request, the subject token, the grant and the ceiling, nor longer.
	limits := x.limits(facts)
	grant, granted, err := x.grant(ctx, facts, limits, event)
	if err != nil {
		return none, x.offering(facts, act, limits, err)
	}

	// 9. Guardrails.
	claims := x.claims(facts, act, grant, granted)
	if err := x.guard(facts, claims, grant, event); err != nil {
		return none, err
	}

	// 10. Commit: the budget durably, then the transaction; from here on the token may be redeemed.
	if err := x.commit(ctx, facts, claims, grant); err != nil {
		return none, err
	}
	describeToken(event, claims, grant)

	// 11. Sign and answer. The event is in the ledger before the answer leaves: see Do.
	signed, err := x.cfg.Signer.Sign(claims, facts.key)
	if err != nil {
		return none, err
	}
	out := answer(signed, claims)
	return out, x.keep(ctx, facts, out)
}
