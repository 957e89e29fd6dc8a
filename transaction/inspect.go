package transaction

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
)

// Introspection is what an authenticated caller learns of a token, RFC 7662. An inactive one says nothing else.
type Introspection struct {
	Active bool
	Claims token.Claims
}

// Introspect looks at a token without changing anything. It is active for the resource server named in aud and for the client it
// was issued to; unknown, expired, stopped and redeemed tokens, and those meant for somebody else, are all the same.
// The error is a refusal with 503.
func (t *Transactions) Introspect(ctx context.Context, caller agents.Authenticated, compact string) (Introspection, error) {
	v, err := t.cfg.Verifier.Verify(ctx, compact)
	if err != nil {
		return Introspection{}, nil //nolint:nilerr // an invalid token is inactive, not an error
	}
	look, err := t.Look(ctx, v)
	if err != nil || look.over {
		return Introspection{}, err
	}
	place := agents.TargetKey(v.Claims().Audience[0])
	found, err := t.cfg.Live.Do(ctx, store.Batch{Reads: append([]store.Key{t.cfg.Mirror.Key(place)}, look.Reads()...)})
	if err != nil {
		return Introspection{}, oauth.Unavailable(err)
	}
	rec, err := t.cfg.Mirror.Resolve(ctx, place, found.Records[0], found.Now)
	if err != nil {
		return Introspection{}, oauth.Unavailable(err)
	}
	concerned, err := t.concerns(v.Claims(), rec, caller)
	if err != nil || !concerned {
		return Introspection{}, err
	}
	standing, err := look.Judge(ctx, found.Records[1:], found.Now)
	if err != nil || standing.Phase != PhaseIssued {
		return Introspection{}, err
	}
	return Introspection{Active: true, Claims: v.Claims()}, nil
}

// Revoke ends a token at the wish of the client it was issued to, RFC 7009. A token that is not known needs no ending; one
// of another client is refused. One that is over, or not yet valid, is so by the clock of this server and perhaps of no
// other.
func (t *Transactions) Revoke(ctx context.Context, caller agents.Authenticated, compact, remote string) error {
	v, err := t.cfg.Verifier.Verify(ctx, compact)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return oauth.Unavailable(err)
	case err != nil && !errors.Is(err, token.ErrExpired) && !errors.Is(err, token.ErrEarly):
		return nil // RFC 7009 section 2.2: an invalid token is as good as revoked
	}
	c := v.Claims()
	event := audit.Event{Kind: audit.KindRevoke, Client: caller.ID(), By: caller.ID(), Remote: remote}
	describe(&event, c)
	epoch := t.cfg.Live.Epoch().Number
	if c.ClientID != caller.ID() {
		err = oauth.Refuse(oauth.UnauthorizedClient, oauth.ReasonForeignToken, "the token was issued to another client")
	} else {
		err = t.stop(ctx, Target{KindToken, c.ID}, Cause{By: caller.ID()})
	}
	event.Refused(err)
	if recorded := t.recordIn(ctx, event, epoch); recorded != nil { // it was stopped in the live store alone
		return recorded
	}
	return err
}

// Status tells where a transaction stands, to the agent that owns it, a resource server it is for, or its user
// (user not empty). For everybody else, and for what is not known any more, it is ErrNotFound.
func (t *Transactions) Status(ctx context.Context, caller agents.Authenticated, user, txn string) (Status, error) {
	p, ok := pathOf(txn)
	if !ok {
		return Status{}, ErrNotFound
	}
	events, err := t.cfg.Ledger.Events(ctx, audit.Filter{Txn: txn})
	if err != nil {
		return Status{}, oauth.Unavailable(err)
	}
	s, about := statusOf(events)
	if about.JTI == "" || !t.mayAsk(ctx, caller, user, about) {
		return Status{}, ErrNotFound
	}
	s.Txn = txn
	state, err := t.liveState(ctx, p, about.JTI)
	if err != nil {
		return Status{}, err
	}
	if s.Phase == PhaseIssued {
		s.Phase = state
		if state == PhaseIssued && t.cfg.Now().After(s.Expires) {
			s.Phase = PhaseExpired
		}
	}
	return s, nil
}

// ErrNotFound: no such transaction, or none of the caller's.
var ErrNotFound = errors.New("no such transaction")

// Report takes what the resource server that redeemed a transaction says of how it went: committed, failed or
// indeterminate. The first of committed and failed stands.
func (t *Transactions) Report(ctx context.Context, caller agents.Authenticated, txn string, said Phase, remote string) error {
	p, ok := pathOf(txn)
	if !ok || said != PhaseCommitted && said != PhaseFailed && said != PhaseIndeterminate {
		return ErrNotFound
	}
	res, err := t.cfg.Live.Do(ctx, store.Batch{Reads: []store.Key{{Partition: p.partition(), Name: p.redeemedName()}}})
	if err != nil {
		return oauth.Unavailable(err)
	}
	var done redeemed
	recs := res.Records
	if !recs[0].Exists() || json.Unmarshal(recs[0].Value, &done) != nil || done.Server != caller.ID() {
		return ErrNotFound
	}
	if done.Report == PhaseCommitted || done.Report == PhaseFailed {
		if done.Report == said {
			return nil
		}
		return oauth.Refuse(oauth.InvalidRequest, oauth.ReasonMalformed, "the transaction was reported "+string(done.Report)+" before")
	}
	done.Report = said
	out, err := store.Apply(ctx, t.cfg.Live, store.Commit{
		Partition: p.partition(),
		If:        []store.Condition{{Name: p.redeemedName(), Is: store.AtVersion, Version: recs[0].Version}},
		Writes:    []store.Write{{Name: p.redeemedName(), Value: done.json(), TTL: max(recs[0].Expires.Sub(res.Now), 0) + t.cfg.Retention}},
	})
	if err != nil || !out.Applied {
		return oauth.Unavailable(errors.Join(err, errors.New("the report met another one")))
	}
	return t.cfg.Recorder.Record(ctx, audit.Event{
		Kind: audit.KindReport, Allowed: true, Client: caller.ID(), Txn: txn, JTI: done.JTI, Why: string(said), Remote: remote,
	})
}

// concerns says whether a caller is told anything about a token; the record is that of the resource it is for.
func (t *Transactions) concerns(c token.Claims, resource store.Record, caller agents.Authenticated) (bool, error) {
	if c.ClientID == caller.ID() && !caller.Public() {
		return true, nil
	}
	res, err := t.cfg.Registry.ReadResource(resource)
	if errors.Is(err, agents.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, oauth.Unavailable(err)
	}
	return res.Names(caller.ID()), nil
}

// Look is what must be read to know where a token of ours stands: its reads go out in a batch of the caller's, and Judge
// reads the answer.
type Look struct {
	t       *Transactions
	watched []store.Key
	own     []store.Key
	derived bool
	over    bool // it counts no more, whatever the store says
}

// Standing is where a token stands.
type Standing struct {
	Phase Phase
	// Server is the resource server that redeemed it.
	Server string
}

// Look prepares to look at a verified token.
func (t *Transactions) Look(ctx context.Context, v token.Verified) (Look, error) {
	c := v.Claims()
	epoch, p, ok := splitJTI(c.ID)
	watched, err := Watched(c, v.KeyID())
	if err != nil || !ok || epoch != t.cfg.Live.Epoch().Number {
		return Look{over: true}, t.staleOr(ctx, epoch, ok)
	}
	part := p.partition()
	l := Look{t: t, watched: watched, own: []store.Key{
		{Partition: part, Name: p.issuedName(c.ID)}, {Partition: part, Name: p.redeemedName()},
	}}
	for _, up := range p.above() {
		l.own = append(l.own, store.Key{Partition: part, Name: up.stoppedName()})
	}
	if src, derived := source(c); derived {
		l.own, l.derived = append(l.own, src), true
	}
	return l, nil
}

// Reads are the keys to be read in the live store.
func (l Look) Reads() []store.Key {
	keys := append(make([]store.Key, 0, len(l.own)+len(l.watched)), l.own...)
	for _, k := range l.watched {
		keys = append(keys, l.t.cfg.Mirror.Key(k))
	}
	return keys
}

// Judge reads the records that were found at Reads, and the store's clock of then.
func (l Look) Judge(ctx context.Context, recs []store.Record, now time.Time) (Standing, error) {
	if l.over {
		return Standing{Phase: PhaseRevoked}, nil
	}
	own, gens := recs[:len(l.own)], make([]uint64, len(l.watched))
	for i, k := range l.watched {
		rec, err := l.t.cfg.Mirror.Resolve(ctx, k, recs[len(own)+i], now)
		if err != nil {
			return Standing{}, oauth.Unavailable(err)
		}
		gens[i] = rec.Version
	}
	return l.standing(own, gens), nil
}

// standing weighs the record, the claim, the stops and the source, in the order of Look, and the generations.
func (l Look) standing(own []store.Record, gens []uint64) Standing {
	if !own[0].Exists() || !bytes.Equal(own[0].Value, generations(gens)) {
		return Standing{Phase: PhaseRevoked}
	}
	stops := own[2:]
	if l.derived {
		last := len(own) - 1
		if !own[last].Exists() {
			return Standing{Phase: PhaseRevoked}
		}
		stops = own[2:last]
	}
	if slices.ContainsFunc(stops, store.Record.Exists) {
		return Standing{Phase: PhaseRevoked}
	}
	if own[1].Exists() {
		var done redeemed
		if json.Unmarshal(own[1].Value, &done) != nil {
			return Standing{Phase: PhaseRevoked}
		}
		return Standing{Phase: PhaseRedeemed, Server: done.Server}
	}
	return Standing{Phase: PhaseIssued}
}

// Standing looks at a verified token in a round trip of its own.
func (t *Transactions) Standing(ctx context.Context, v token.Verified) (Standing, error) {
	l, err := t.Look(ctx, v)
	if err != nil || l.over {
		return Standing{Phase: PhaseRevoked}, err
	}
	res, err := t.cfg.Live.Do(ctx, store.Batch{Reads: l.Reads()})
	if err != nil {
		return Standing{}, oauth.Unavailable(err)
	}
	return l.Judge(ctx, res.Records, res.Now)
}

// staleOr looks whether this process has missed an epoch when it meets a token of another one.
func (t *Transactions) staleOr(ctx context.Context, epoch uint64, ours bool) error { //nolint:revive // it tells what the jti was
	if !ours || epoch < t.cfg.Live.Epoch().Number {
		return nil
	}
	if err := t.cfg.Live.Renew(ctx); err != nil || epoch == t.cfg.Live.Epoch().Number {
		return oauth.Unavailable(errors.Join(err, store.ErrFence))
	}
	return nil
}

// liveState is the state of a transaction as far as the live store remembers it.
func (t *Transactions) liveState(ctx context.Context, p path, jti string) (Phase, error) {
	part := p.partition()
	keys := []store.Key{{Partition: part, Name: p.redeemedName()}, {Partition: part, Name: p.issuedName(jti)}}
	for _, up := range p.above() {
		keys = append(keys, store.Key{Partition: part, Name: up.stoppedName()})
	}
	recs, err := store.Read(ctx, t.cfg.Live, keys...)
	if err != nil {
		return "", oauth.Unavailable(err)
	}
	for _, rec := range recs[2:] {
		if rec.Exists() {
			return PhaseRevoked, nil
		}
	}
	switch {
	case recs[0].Exists():
		return PhaseRedeemed, nil
	case recs[1].Exists():
		return PhaseIssued, nil
	default:
		return PhaseExpired, nil
	}
}

// statusOf reads the story of a transaction from the ledger: the status, and the event of its issuance. An answer that was only given again
// issued nothing, and its event names no token.
func statusOf(events []audit.Event) (Status, audit.Event) {
	s, about := Status{}, audit.Event{}
	for _, e := range events {
		switch {
		case !e.Allowed:
		case e.Kind == audit.KindExchange && e.JTI != "":
			s.Phase, s.Issued, s.Expires, about = PhaseIssued, e.At, e.Expires, e
		case e.Kind == audit.KindRedeem && s.Redeemed.IsZero():
			s.Phase, s.Redeemed = PhaseRedeemed, e.At
		case e.Kind == audit.KindReport:
			s.Phase = Phase(e.Why)
		}
	}
	return s, about
}

func (t *Transactions) mayAsk(ctx context.Context, caller agents.Authenticated, user string, about audit.Event) bool {
	if user != "" {
		return about.User == user
	}
	if caller.ID() == "" || caller.Public() {
		return false
	}
	if about.Client == caller.ID() {
		return true
	}
	res, err := t.cfg.Registry.ResourceAt(ctx, about.Target)
	return err == nil && res.Names(caller.ID())
}
