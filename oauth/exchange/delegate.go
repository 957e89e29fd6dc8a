package exchange

import (
	"context"
	"errors"
	"slices"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/token"
	"obolus/transaction"
)

// agentProfile is the sub_profile of every actor that is an agent of ours.
const agentProfile = "ai_agent"

// delegate decides whether this agent may act for this user with this token, and gives the chain of the token to be:
// step 5. It does not look at what the user allowed.
func (x *Exchange) delegate(ctx context.Context, f *facts) (*token.Actor, error) {
	if !f.agent.ActiveAt(x.cfg.Now()) {
		return nil, errInactive(f.agent)
	}
	if err := x.entitled(ctx, f); err != nil {
		return nil, err
	}
	var err error
	if f.confirm, err = bind(f, f.by); err != nil {
		return nil, err
	}
	act := x.chainOf(f.subject.claims.Act, f.agent.ID)
	chain, err := act.Chain(transactionChain)
	if err != nil {
		return nil, errSubject(oauth.ReasonChainMalformed, err)
	}
	limit := x.cfg.Settings.MaxDepth
	if own := f.agent.Ceiling.Depth; own > 0 {
		limit = min(limit, own)
	}
	if len(chain) > limit {
		return nil, oauth.Refuse(oauth.InvalidRequest, oauth.ReasonChainTooDeep, "the chain of actors would be too long")
	}
	return act, x.cycle(ctx, f.agent, chain)
}

func errInactive(a agents.Agent) error {
	return oauth.Refuse(oauth.ActorUnauthorized, oauth.ReasonAgentInactive, "the agent is "+string(a.State)+" or its registration is over")
}

// cycle refuses an agent that is in the chain already, except where it gets back what it handed on: the agent beneath it in the chain had it from
// this one, and the registrations of both say that each may hand on to the other. Such a pair may turn once and not again.
func (x *Exchange) cycle(ctx context.Context, agent agents.Agent, chain []token.Actor) error {
	refusal := oauth.Refuse(oauth.InvalidRequest, oauth.ReasonChainCycle, "the agent is in the chain of actors already")
	self := func(a token.Actor) bool { return a.Issuer == x.cfg.Issuer && a.Subject == agent.ID }
	if !slices.ContainsFunc(chain[1:], self) {
		return nil
	}
	seen := map[[2]string]bool{}
	for _, actor := range chain {
		seen[[2]string{actor.Issuer, actor.Subject}] = true
	}
	turn := len(chain) > 2 && self(chain[2]) && len(seen) == len(chain)-1
	if !turn || chain[1].Issuer != x.cfg.Issuer || !slices.Contains(agent.DelegatesTo, chain[1].Subject) {
		return refusal
	}
	between, _, err := x.cfg.Registry.Agent(ctx, chain[1].Subject)
	switch {
	case err != nil && !errors.Is(err, agents.ErrNotFound):
		return oauth.Unavailable(err)
	case err != nil || !slices.Contains(between.DelegatesTo, agent.ID):
		return refusal
	default:
		return nil
	}
}

const transactionChain = 16

// chainOf nests the inbound chain, whole, beneath the requester; a requester that is its outermost actor already is not
// new and changes nothing. RFC 8693 section 4.1.
func (x *Exchange) chainOf(prior *token.Actor, requester string) *token.Actor {
	if prior != nil && prior.Issuer == x.cfg.Issuer && prior.Subject == requester {
		return prior
	}
	act := token.Nest(token.Actor{Issuer: x.cfg.Issuer, Subject: requester, Profile: agentProfile}, prior)
	return &act
}

// entitled says whether the requester may use this subject token at all. Whatever is wrong with that reads the same.
func (x *Exchange) entitled(ctx context.Context, f *facts) error {
	s := f.subject
	if f.ask.SubjectTokenType == oauth.TypeIDToken && s.owner != f.agent.ID {
		return errSubject(oauth.ReasonSubjectEntitled, errors.New("the ID token was issued to another client"))
	}
	if s.user == f.agent.ID {
		return errSubject(oauth.ReasonSelfDelegation, nil)
	}
	if may := s.claims.MayAct; may != nil && (may.Subject != f.agent.ID || may.Issuer != "" && may.Issuer != x.cfg.Issuer) {
		return errSubject(oauth.ReasonMayAct, nil)
	}
	if s.own == nil {
		return nil
	}
	switch f.standing.Phase {
	case transaction.PhaseIssued:
		if s.claims.TxnMode == oauth.ModeRedeem {
			return errSubject(oauth.ReasonSubjectSpent, errors.New("a one-transaction token that was not redeemed"))
		}
	case transaction.PhaseRedeemed:
		if f.standing.Server != f.agent.ID {
			return errSubject(oauth.ReasonSubjectSpent, errors.New("redeemed by another resource server"))
		}
	default:
		return errSubject(oauth.ReasonSubjectStopped, errors.New(string(f.standing.Phase)))
	}
	return x.nextHop(ctx, f)
}

// nextHop is for a subject token that already has an actor: the requester must be that actor, or the resource
// server that the token is for, or an agent that the actor may hand on to.
func (x *Exchange) nextHop(ctx context.Context, f *facts) error {
	prior := f.subject.claims.Act
	if prior == nil || prior.Issuer == x.cfg.Issuer && prior.Subject == f.agent.ID {
		return nil
	}
	res, err := x.cfg.Registry.ResourceAt(ctx, f.subject.claims.Audience[0])
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return oauth.Unavailable(err)
	}
	if err == nil && res.Names(f.agent.ID) {
		return nil
	}
	from, _, err := x.cfg.Registry.Agent(ctx, prior.Subject)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return oauth.Unavailable(err)
	}
	if prior.Issuer == x.cfg.Issuer && err == nil && slices.Contains(from.DelegatesTo, f.agent.ID) {
		return nil
	}
	return errSubject(oauth.ReasonChainSplice, errors.New("the requester is not the next hop of the chain"))
}

func describeChain(event *audit.Event, act *token.Actor) {
	event.Actor = act.Subject
	chain, err := act.Chain(transactionChain)
	if err != nil {
		return
	}
	for _, actor := range chain {
		event.Chain = append(event.Chain, actor.Subject)
	}
}
