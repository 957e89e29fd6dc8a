package transaction

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/store"
)

// Kind is a kind of thing that can be stopped.
type Kind string

// The kinds. A stop reaches every token derived from the thing, at any depth.
const (
	KindAgent  Kind = "agent"
	KindUser   Kind = "user"
	KindClient Kind = "client"
	KindGrant  Kind = "grant"
	KindKey    Kind = "key"
	KindIssuer Kind = "issuer" // a trusted issuer: every token derived from one of its tokens
	KindToken  Kind = "token"  // by jti
	KindTxn    Kind = "txn"
)

// Target is one thing to be stopped.
type Target struct {
	Kind Kind
	ID   string
}

// Cause is who stops something and why.
type Cause struct {
	By     string // a user's id, "operator", …
	Why    string
	Remote string
}

// ErrUnknownTarget: there is no such kind of thing, or its name cannot be one.
var ErrUnknownTarget = fmt.Errorf("nothing of that kind can be stopped")

// stopKey is the record whose version is the generation of a thing: it is written anew by every stop.
func stopKey(kind Kind, id string) store.Key {
	return store.Key{Partition: "stops", Name: string(kind) + "/" + id}
}

// Stop ends every outstanding token derived from the target. When it returns without error, no server accepts a redemption, an
// exchange or an introspection of them any more, and that survives the loss of the live store.
func (t *Transactions) Stop(ctx context.Context, target Target, cause Cause) error {
	epoch := t.cfg.Live.Epoch().Number
	if err := t.stop(ctx, target, cause); err != nil {
		return err
	}
	event := audit.Event{
		Kind: audit.KindStop, Allowed: true, By: cause.By, Why: cause.Why, Remote: cause.Remote,
		Subject: string(target.Kind) + "/" + target.ID,
	}
	switch target.Kind { // a part of its story
	case KindTxn:
		event.Txn = target.ID
	case KindToken:
		_, p, _ := splitJTI(target.ID) // it could be stopped, so it is one of ours
		event.Txn, event.JTI = p.txn(), target.ID
	default:
		return t.cfg.Recorder.Record(ctx, event)
	}
	return t.recordIn(ctx, event, epoch) // it was stopped in the live store alone
}

func (t *Transactions) stop(ctx context.Context, target Target, cause Cause) error {
	switch target.Kind {
	case KindTxn:
		p, ok := pathOf(target.ID)
		if !ok {
			return ErrUnknownTarget
		}
		return t.stopPath(ctx, p, "")
	case KindToken:
		_, p, ok := splitJTI(target.ID)
		if !ok {
			return ErrUnknownTarget
		}
		return t.stopPath(ctx, p, target.ID)
	case KindAgent, KindUser, KindClient, KindGrant, KindKey, KindIssuer:
		if agents.CheckID(target.ID) != nil && target.Kind != KindUser && target.Kind != KindIssuer {
			return ErrUnknownTarget
		}
		value, err := json.Marshal(map[string]any{"at": t.cfg.Now().UTC(), "by": cause.By, "why": cause.Why})
		if err != nil {
			return err
		}
		k := stopKey(target.Kind, target.ID)
		_, err = t.cfg.Mirror.Commit(ctx, store.Commit{
			Partition: k.Partition, Writes: []store.Write{{Name: k.Name, Value: value}},
		})
		return unavailable(err)
	default:
		return ErrUnknownTarget
	}
}

// stopPath stops a transaction and what was derived from it; with a jti also that token's record, which is what tokens
// derived from a user's own token look at. It lives in the live store alone: whatever loses it loses the right to
// redeem with it.
func (t *Transactions) stopPath(ctx context.Context, p path, jti string) error {
	writes := []store.Write{{Name: p.stoppedName(), Value: []byte("1"), TTL: stopRetention}}
	if jti != "" {
		writes = append(writes, store.Write{Name: p.issuedName(jti), Delete: true})
	}
	_, err := store.Apply(ctx, t.cfg.Live, store.Commit{Partition: p.partition(), Writes: writes, Spends: true})
	return unavailable(err)
}

// stopRetention outlives every token that a stop of a transaction could reach.
const stopRetention = 25 * time.Hour

// Grants is what a withdrawal needs of package consent.
type Grants interface {
	Withdraw(ctx context.Context, user, id, by string) (consent.Grant, error)
	GrantsOf(ctx context.Context, user string) ([]consent.Drawn, error)
}

// Withdraw ends a grant and everything that was derived from it.
func (t *Transactions) Withdraw(ctx context.Context, grants Grants, user, id string, cause Cause) error {
	g, err := grants.Withdraw(ctx, user, id, cause.By)
	if err != nil {
		return err
	}
	if err := t.stop(ctx, Target{KindGrant, id}, cause); err != nil {
		return err
	}
	return t.cfg.Recorder.Record(ctx, audit.Event{
		Kind: audit.KindWithdraw, Allowed: true, User: user, Actor: g.Agent, Target: g.Target, Grant: id,
		By: cause.By, Why: cause.Why, Remote: cause.Remote,
	})
}

// WithdrawAll ends everything that a user allowed an agent.
func (t *Transactions) WithdrawAll(ctx context.Context, grants Grants, user, agent string, cause Cause) error {
	all, err := grants.GrantsOf(ctx, user)
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.Agent != agent || !g.LiveAt(t.cfg.Now()) {
			continue
		}
		if err := t.Withdraw(ctx, grants, user, g.ID, cause); err != nil {
			return err
		}
	}
	return nil
}

// next lists where an agent can go from a state.
var next = map[agents.State][]agents.State{ //nolint:gochecknoglobals // a constant table
	agents.Proposed:  {agents.Active, agents.Retired},
	agents.Active:    {agents.Suspended, agents.Retired},
	agents.Suspended: {agents.Active, agents.Retired},
}

// ErrState: the agent cannot go from the state it is in to that one.
var ErrState = fmt.Errorf("the agent cannot change to that state")

// SetState moves an agent through its lifecycle. Leaving active stops everything derived from it, also when it was not
// active any more: a stop can always be repeated.
func (t *Transactions) SetState(ctx context.Context, id string, to agents.State, cause Cause) (agents.Agent, error) {
	a, version, err := t.cfg.Registry.Agent(ctx, id)
	if err != nil {
		return a, err
	}
	if a.State != to {
		if !slices.Contains(next[a.State], to) {
			return a, fmt.Errorf("%s to %s: %w", a.State, to, ErrState)
		}
		a.State, a.Changed = to, agents.Change{By: cause.By, At: t.cfg.Now().UTC(), Why: cause.Why}
	}
	if _, err := t.cfg.Registry.PutAgent(ctx, a, version); err != nil {
		return a, err
	}
	if to != agents.Active {
		if err := t.stop(ctx, Target{KindAgent, id}, cause); err != nil {
			return a, err
		}
	}
	return a, t.cfg.Recorder.Record(ctx, audit.Event{
		Kind: audit.KindStop, Allowed: true, Subject: "agent/" + id + " " + string(to), Actor: id,
		By: cause.By, Why: cause.Why, Remote: cause.Remote,
	})
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return oauth.Unavailable(err)
}
