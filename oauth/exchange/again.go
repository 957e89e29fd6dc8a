package exchange

import (
	"context"
	"errors"
	"slices"

	"obolus/agents"
	"obolus/oauth"
)

// again looks once more at what a request that has waited was judged by, since whatever was stopped, changed or taken away meanwhile is so
// for it too: the agent's registration and keys, the stops, the subject token and the target. It does not look at guardrails and grants,
// which are looked at after it.
func (x *Exchange) again(ctx context.Context, f *facts) error {
	agent, _, err := x.cfg.Registry.Agent(ctx, f.agent.ID)
	switch {
	case err != nil && !errors.Is(err, agents.ErrNotFound):
		return oauth.Unavailable(err)
	case err != nil || agent.Fingerprint() != f.who.Fingerprint():
		return oauth.Conceal(oauth.InvalidClient, oauth.ReasonClientAuth, "client authentication failed", errors.Join(err, errors.New("the agent has changed while it waited")))
	case !agent.ActiveAt(x.cfg.Now()):
		return errInactive(agent)
	}
	f.agent = agent
	if err := x.unstopped(ctx, f); err != nil {
		return err
	}
	res, err := x.cfg.Registry.ResourceAt(ctx, f.resource.URI)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return oauth.Unavailable(err)
	}
	if err == nil && (res.ID != f.resource.ID || res.Algorithm != f.resource.Algorithm) {
		return oauth.Unavailable(errors.New("the registration of the target has just changed"))
	}
	f.resource = res
	return x.target(ctx, f)
}

// unstopped refuses a request if anything that its token would depend on, but the grant, was stopped since it was read.
func (x *Exchange) unstopped(ctx context.Context, f *facts) error {
	if own := f.subject.own; own != nil {
		standing, err := x.cfg.Transactions.Standing(ctx, *own)
		if err != nil {
			return err
		}
		if standing != f.standing {
			return errSubject(oauth.ReasonSubjectStopped, errors.New("the subject token was stopped while the request waited"))
		}
	}
	keys, err := x.watched(f, f.agent.ID)
	if err != nil {
		return err
	}
	recs, err := x.cfg.Mirror.Read(ctx, keys...)
	if err != nil {
		return oauth.Unavailable(err)
	}
	if !slices.Equal(generations(recs), f.gens) {
		return errSubject(oauth.ReasonSubjectStopped, errors.New("something was stopped while the request waited"))
	}
	return nil
}
