package exchange

import (
	"context"
	"errors"
	"slices"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/details"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// facts are what a decision is made from: the outcome of step 4.
type facts struct {
	ask      ask
	by       *actor // nil: no actor token came
	agent    agents.Agent
	who      agents.Authenticated
	subject  subject
	standing transaction.Standing // of the subject token, if it is one of ours
	resource agents.Resource      // the one the first target names; empty id: none
	bundle   consent.Bundle
	gens     []uint64 // of what Watched names, for the token to be
	key      *token.SigningKey
	confirm  *token.Confirmation // what the token to be is bound to, by step 5; nil: nothing
	named    *transaction.Keyed  // nil: the agent has not named the request
	earlier  transaction.Earlier // of that name
}

// trip is the one round trip of step 4: what is spent in it, what is read, and where in the answer each part begins.
type trip struct {
	store.Batch
	records    []store.Key // those read through their copies: the target, the bundle, what could stop the token to be
	copiesFrom int         // after what authentication reads
	ownFrom    int         // the state of the subject token
	namedFrom  int         // an earlier request of the same name
	proofs     int         // commits of authentication and proof; a count for the rate limit may follow
}

// read authenticates the agent and fetches everything the decision needs, in one round trip to the live store as long as this
// process has met the agent and the target before. The agent's assertion and its proof are spent in it.
func (x *Exchange) read(ctx context.Context, who agents.Presented, a ask, s subject) (*facts, error) {
	named, err := a.name(who.ClientID(), s)
	if err != nil {
		return nil, err
	}
	f := &facts{ask: a, subject: s, named: named}
	place, target, err := x.guessTarget(ctx, who.ClientID(), a)
	if err != nil {
		return nil, err
	}
	if f.key, err = x.cfg.Keys.Signer(target.Algorithm); err != nil {
		return nil, err
	}
	watched, err := x.watched(f, who.ClientID())
	if err != nil {
		return nil, err
	}
	look, err := x.look(ctx, s)
	if err != nil {
		return nil, err
	}
	t := x.plan(f, who, look, append([]store.Key{place, consent.Key(s.user, who.ClientID(), target.ID)}, watched...))
	if a.Proof != nil {
		if err := x.cfg.Clients.Await(ctx, a.Proof.IssuedAt); err != nil {
			return nil, err
		}
	}
	res, err := x.cfg.Live.Do(ctx, t.Batch)
	if errors.Is(err, store.ErrInvalid) {
		return nil, errSubject(oauth.ReasonSubject, err) // a name in the token is none that could be ours
	}
	if err != nil {
		return nil, oauth.Unavailable(err)
	}
	if err := x.authenticated(ctx, f, who, t, res); err != nil {
		return nil, err
	}
	if s.own != nil {
		if f.standing, err = look.Judge(ctx, res.Records[t.ownFrom:t.namedFrom], res.Now); err != nil {
			return nil, err
		}
	}
	if f.named != nil {
		if f.earlier, err = x.cfg.Transactions.Earlier(ctx, f.named, res.Records[t.namedFrom:]); err != nil {
			return nil, err
		}
	}
	return f, x.fill(ctx, f, target, t, res)
}

// plan puts the round trip together.
func (x *Exchange) plan(f *facts, who agents.Presented, look transaction.Look, records []store.Key) trip {
	t := trip{records: records}
	t.Commits, t.Reads = x.cfg.Clients.Batch(who)
	if proof := f.ask.Proof; proof != nil {
		t.Commits = append(t.Commits, onceProof(proof))
	}
	t.proofs = len(t.Commits)
	t.Commits = append(t.Commits, x.rate(who.ClientID())...)
	t.copiesFrom = len(t.Reads)
	for _, k := range records {
		t.Reads = append(t.Reads, x.cfg.Mirror.Key(k))
	}
	t.ownFrom = len(t.Reads)
	t.Reads = append(t.Reads, look.Reads()...)
	t.namedFrom = len(t.Reads)
	if f.named != nil {
		t.Reads = append(t.Reads, f.named.Reads()...)
	}
	return t
}

// authenticated holds the agent to what the store said of its credential, its proof and its rate.
func (x *Exchange) authenticated(ctx context.Context, f *facts, who agents.Presented, t trip, res store.Results) error {
	var err error
	if f.who, err = x.cfg.Clients.Confirm(ctx, who, res); err != nil {
		return err
	}
	if proof := f.ask.Proof; proof != nil {
		if err := x.spentProof(proof, res.Outcomes[t.proofs-1]); err != nil {
			return err
		}
	}
	return x.tooFast(res.Outcomes[t.proofs:])
}

// proofMemory is how long a DPoP proof is remembered: longer than its window in both directions.
const proofMemory = 2 * time.Minute

func onceProof(proof *token.Proof) store.Commit {
	return agents.Once("proof", proof.JKT+" "+proof.ID, proofMemory)
}

// spentProof says whether a proof was seen for the first time, by the outcome of onceProof.
func (x *Exchange) spentProof(proof *token.Proof, out store.Outcome) error {
	began := x.cfg.Live.Epoch().Began
	if out.Applied && (began.IsZero() || proof.IssuedAt.After(began.Truncate(time.Second))) {
		return nil
	}
	return oauth.Refuse(oauth.InvalidDPoPProof, oauth.ReasonProofUsed, "the DPoP proof was used before or is older than the server's memory")
}

// rate counts the exchanges of an agent that has a limit, minute by minute.
func (x *Exchange) rate(agent string) []store.Commit {
	seen, ok := x.cfg.Registry.GuessAgent(agent)
	if !ok || seen.Ceiling.Rate == 0 {
		return nil
	}
	minute := x.cfg.Now().Format("200601021504")
	return []store.Commit{{
		Partition: "rate/" + agent,
		If:        []store.Condition{{Name: minute, Is: store.AtMost, Count: int64(seen.Ceiling.Rate) - 1}},
		Writes:    []store.Write{{Name: minute, Add: 1, TTL: 2 * time.Minute}},
	}}
}

func (x *Exchange) tooFast(outcomes []store.Outcome) error {
	if len(outcomes) == 0 || outcomes[0].Applied {
		return nil
	}
	now := x.cfg.Now()
	refusal := oauth.Refuse(oauth.TemporarilyUnavailable, oauth.ReasonRateLimited, "the agent asks more often than its ceiling allows")
	refusal.HTTPStatus, refusal.RetryAfter = 429, now.Truncate(time.Minute).Add(time.Minute).Sub(now)
	return refusal
}

// fill reads the records that were fetched for the decision; what had no copy is taken from records.
func (x *Exchange) fill(ctx context.Context, f *facts, target agents.Resource, t trip, res store.Results) error {
	agent, ok := f.who.Agent()
	if !ok {
		return oauth.Refuse(oauth.UnauthorizedClient, oauth.ReasonClientGrant, "the client is not registered for token exchange")
	}
	f.agent = agent
	recs := make([]store.Record, len(t.records))
	for i, k := range t.records {
		var err error
		if recs[i], err = x.cfg.Mirror.Resolve(ctx, k, res.Records[t.copiesFrom+i], res.Now); err != nil {
			return oauth.Unavailable(err)
		}
	}
	f.gens = generations(recs[2:])
	if target.ID == "" {
		return nil // step 6 refuses it
	}
	resource, err := x.cfg.Registry.ReadResource(recs[0])
	if errors.Is(err, agents.ErrNotFound) {
		return nil
	}
	if err != nil {
		return oauth.Unavailable(err)
	}
	f.resource = resource
	if resource.ID != target.ID || resource.Algorithm != target.Algorithm { // changed since this process last looked
		return oauth.Unavailable(errors.New("the registration of the target has just changed"))
	}
	f.bundle, err = x.cfg.Consents.Bundle(recs[1])
	return err
}

// generations are the versions of what watched names, and that of the grant among them, which is zero: one that was ever stopped is never
// used again.
func generations(recs []store.Record) []uint64 {
	gens := make([]uint64, 0, len(recs)+1)
	for _, rec := range recs {
		gens = append(gens, rec.Version)
	}
	return slices.Insert(gens, len(gens)-1, 0)
}

// guessTarget is where the resource lies that the request names, and the resource as last seen here; the registry is asked if
// it has not been seen. A resource without id stands for a target that names nothing.
func (x *Exchange) guessTarget(ctx context.Context, agent string, a ask) (store.Key, agents.Resource, error) {
	name := ""
	if len(a.targets) > 0 {
		name = a.targets[0]
	} else if seen, ok := x.cfg.Registry.GuessAgent(agent); ok {
		name = seen.Default
	}
	if name == "" {
		name = "-"
	}
	place := agents.TargetKey(name)
	if res, ok := x.cfg.Registry.GuessResourceAt(place); ok {
		return place, res, nil
	}
	res, err := x.cfg.Registry.ResourceAt(ctx, name)
	if errors.Is(err, agents.ErrNotFound) {
		return place, agents.Resource{}, nil
	}
	if err != nil {
		return place, res, oauth.Unavailable(err)
	}
	return place, res, nil
}

// watched are the stops that would reach the token to be issued, without its grant, which is not known yet.
func (x *Exchange) watched(f *facts, agent string) ([]store.Key, error) {
	skeleton := token.Claims{Subject: f.subject.user, Act: x.chainOf(f.subject.claims.Act, agent), Context: f.subject.context("")}
	keys, err := transaction.Watched(skeleton, f.key.KeyID())
	if err != nil {
		return nil, oauth.Conceal(oauth.InvalidRequest, oauth.ReasonChainMalformed, "the subject token cannot be used", err)
	}
	return keys, nil
}

func (x *Exchange) look(ctx context.Context, s subject) (transaction.Look, error) {
	if s.own == nil {
		return transaction.Look{}, nil
	}
	return x.cfg.Transactions.Look(ctx, *s.own)
}

// context is what the token to be says about where it comes from: the user's own token stays the source through the
// whole lineage.
func (s subject) context(grant string) *token.Context {
	if s.own == nil {
		return &token.Context{Consent: grant, Issuer: s.claims.Issuer}
	}
	if above := s.claims.Context; above != nil {
		return &token.Context{Consent: grant, Source: above.Source, Origin: above.Origin, Issuer: above.Issuer}
	}
	return &token.Context{Consent: grant, Source: s.claims.ID, Origin: s.claims.ClientID}
}

// ceiling is the most the agent may get at the resource.
func (f *facts) ceiling(types *details.Registry) bound {
	b := bound{scopes: f.agent.Ceiling.Scopes, anyDetails: true}
	if len(f.agent.Ceiling.Details) > 0 {
		b.anyDetails = false
		if set, err := types.Parse(f.agent.Ceiling.Details); err == nil {
			b.details = set
		} // else it covers nothing
	}
	return b
}

// detailTypes are those that both the agent and the resource are registered for.
func (f *facts) detailTypes() []string {
	var both []string
	for _, name := range f.resource.Details {
		if slices.Contains(f.agent.Ceiling.DetailTypes, name) {
			both = append(both, name)
		}
	}
	return both
}

// describe fills the event with who and what the request is about.
func (f *facts) describe(event *audit.Event) {
	event.User = f.subject.user
	event.Actor = f.agent.ID // who would act, had it not been refused
	event.SubjectHash = token.Hash(f.subject.jti)
	if f.resource.ID != "" {
		event.Target = f.resource.URI
	}
}
