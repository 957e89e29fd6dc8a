package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Epoch is one stretch of continuity of the live store. Whatever was written in an earlier one is out of reach.
type Epoch struct {
	Number uint64    `json:"number"`
	Began  time.Time `json:"began,omitzero"` // zero for the first: nothing can have been forgotten before it
	Fence  string    `json:"fence"`
}

// Live is a forgetting engine under an epoch: every partition carries the epoch's number, and every batch its fence.
// When the engine has lost its continuity a new epoch is opened, durably, before anything else is served, and the
// batch that found out fails with ErrFence; so does every batch of a process that had not heard of it yet. It
// implements Engine, so nobody above has to know.
type Live struct {
	engine  Engine
	records Engine
	current atomic.Pointer[Epoch]
	opening sync.Mutex
}

var _ Engine = (*Live)(nil)

var epochKey = Key{Partition: "epoch", Name: "current"} //nolint:gochecknoglobals // a constant that the language cannot call one

// EpochKey is where records keep the epoch in force. Whoever relies on the live store and then writes to records reads it along
// with the write: another epoch there means that what was relied on does not count any more. Nothing else finds
// out a former master that goes on answering while another one has taken its place.
func EpochKey() Key { return epochKey }

// EpochOf is the number of the epoch that a record read at EpochKey tells of; zero if there never was one.
func EpochOf(rec Record) (uint64, error) {
	e, err := epochOf(rec)
	return e.Number, err
}

// OpenLive puts engine under the epoch that records remembers, or opens the next one if the engine is not the
// one of then.
func OpenLive(ctx context.Context, engine, records Engine) (*Live, error) {
	l := &Live{engine: engine, records: records}
	if err := l.Renew(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// Epoch is the epoch that the next batch will be under.
func (l *Live) Epoch() Epoch { return *l.current.Load() }

// InForce is the epoch that is in force, whichever process has opened it.
func (l *Live) InForce(ctx context.Context) (Epoch, error) {
	e, _, _, err := remembered(ctx, l.records)
	return e, err
}

// Renew compares the engine's fence with the remembered epoch and opens a new one if they differ. Of several
// processes that do so at once, one opens it and the others follow.
//
// The epoch is read before the fence: one who was held up in between, and comes with the fence of an engine that is no more, must
// not open an epoch after those who have met the engine of now. They would go on in theirs, beside the next one with the same
// fence.
func (l *Live) Renew(ctx context.Context) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	for {
		was, rec, now, err := remembered(ctx, l.records)
		if err != nil {
			return err
		}
		fence, err := l.engine.Fence(ctx)
		if err != nil {
			return err
		}
		if rec.Exists() && was.Fence == fence {
			l.current.Store(&was)
			return nil
		}
		next := Epoch{Number: was.Number + 1, Fence: fence}
		if rec.Exists() {
			next.Began = now.Round(0).UTC()
		}
		opened, err := open(ctx, l.records, rec, next)
		if err != nil {
			return err
		}
		if opened {
			l.current.Store(&next)
			return nil
		}
	}
}

// Follow is for who has learnt that the epoch it relied on is not in force: it goes over to the one that is, if the engine is the
// one of it. It opens none, for it may be this process that asks a former master.
func (l *Live) Follow(ctx context.Context) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	was, rec, _, err := remembered(ctx, l.records)
	if err != nil {
		return err
	}
	fence, err := l.engine.Fence(ctx)
	if err != nil {
		return err
	}
	if !rec.Exists() || was.Fence != fence {
		return ErrFence
	}
	l.current.Store(&was)
	return nil
}

// remembered is the epoch in records, and their clock.
func remembered(ctx context.Context, records Engine) (Epoch, Record, time.Time, error) { //nolint:revive // what one read says
	res, err := records.Do(ctx, Batch{Reads: []Key{epochKey}})
	if err != nil {
		return Epoch{}, Record{}, time.Time{}, err
	}
	was, err := epochOf(res.Records[0])
	return was, res.Records[0], res.Now, err
}

// confirm says whether an epoch was in force a moment ago, and follows if another one is.
func (l *Live) confirm(ctx context.Context, epoch Epoch) error {
	now, _, _, err := remembered(ctx, l.records)
	if err == nil && now.Number != epoch.Number {
		err = errors.Join(ErrFence, l.Follow(ctx))
	}
	return err
}

// superseded is the fence of no live store.
const superseded = "superseded"

// Supersede ends the epoch that records remember, because they were put in the place of others: whatever live store is opened
// over them begins a later one. Its number is above those that the others may have come to meanwhile, of which these records
// know nothing, because epochs do not begin every second.
func Supersede(ctx context.Context, records Engine) (Epoch, error) {
	for {
		was, rec, now, err := remembered(ctx, records)
		if err != nil {
			return Epoch{}, err
		}
		next := Epoch{Began: now.Round(0).UTC(), Fence: superseded}
		next.Number = max(was.Number+1, uint64(max(now.Unix(), 0)))
		opened, err := open(ctx, records, rec, next)
		if err != nil || opened {
			return next, err
		}
	}
}

// EpochIn is the epoch that a snapshot remembers.
func EpochIn(s Snapshot) (Epoch, error) {
	page, err := s.Page(Key{Partition: epochKey.Partition, Name: " "}, 1)
	if err != nil || len(page) == 0 || page[0].Key != epochKey {
		return Epoch{}, err
	}
	return epochOf(page[0].Record)
}

func epochOf(rec Record) (e Epoch, err error) {
	if !rec.Exists() {
		return Epoch{}, nil
	}
	if err := json.Unmarshal(rec.Value, &e); err != nil {
		return Epoch{}, fmt.Errorf("read the epoch: %w", err)
	}
	return e, nil
}

func open(ctx context.Context, records Engine, was Record, next Epoch) (bool, error) {
	value, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	cond := Condition{Name: epochKey.Name, Is: Absent}
	if was.Exists() {
		cond.Is, cond.Version = AtVersion, was.Version
	}
	out, err := Apply(ctx, records, Commit{
		Partition: epochKey.Partition, If: []Condition{cond}, Writes: []Write{{Name: epochKey.Name, Value: value}},
	})
	return out.Applied, err
}

// Do carries out a batch under the current epoch. After ErrFence a new epoch is in force, and nothing that the caller
// had read or checked before still counts.
func (l *Live) Do(ctx context.Context, b Batch) (Results, error) {
	if err := b.Validate(); err != nil {
		return Results{}, err
	}
	epoch := l.Epoch()
	if b.epoch != 0 && b.epoch != epoch.Number || b.Fence != "" && b.Fence != epoch.Fence {
		return Results{}, ErrFence
	}
	if slices.ContainsFunc(b.Commits, func(c Commit) bool { return c.epoch != 0 && c.epoch != epoch.Number }) {
		return Results{}, ErrFence
	}
	inner := Batch{Fence: epoch.Fence, Commits: make([]Commit, len(b.Commits)), Reads: make([]Key, len(b.Reads))}
	for i, c := range b.Commits {
		c.Partition = epoch.partition(c.Partition)
		inner.Commits[i] = c
	}
	for i, k := range b.Reads {
		inner.Reads[i] = Key{Partition: epoch.partition(k.Partition), Name: k.Name}
	}
	res, err := l.engine.Do(ctx, inner)
	if errors.Is(err, ErrFence) {
		if renewed := l.Renew(ctx); renewed != nil {
			return Results{}, errors.Join(ErrUnavailable, renewed)
		}
		return Results{}, err
	}
	if err == nil && b.inForce {
		err = l.confirm(ctx, epoch)
	}
	if err != nil {
		return Results{}, err
	}
	for i := range res.Records {
		res.Records[i].Partition, res.Records[i].epoch = b.Reads[i].Partition, epoch.Number
	}
	for i, out := range res.Outcomes {
		relabel(out.Seen, b.Commits[i].Partition)
		relabel(out.Wrote, b.Commits[i].Partition)
	}
	return res, nil
}

// List lists a partition of the current epoch. It does not check the fence: what it finds is for people to look at.
func (l *Live) List(ctx context.Context, partition, after string, limit int) ([]Record, error) {
	if err := ValidateList(partition, after, limit); err != nil {
		return nil, err
	}
	recs, err := l.engine.List(ctx, l.Epoch().partition(partition), after, limit)
	relabel(recs, partition)
	return recs, err
}

// Watch watches a partition of the current epoch.
func (l *Live) Watch(ctx context.Context, partition string) (<-chan string, error) {
	if err := ValidateList(partition, "", 1); err != nil {
		return nil, err
	}
	return l.engine.Watch(ctx, l.Epoch().partition(partition))
}

// Fence is the fence of the engine below.
func (l *Live) Fence(ctx context.Context) (string, error) { return l.engine.Fence(ctx) }

// Close closes the engine below, not the records.
func (l *Live) Close() error { return l.engine.Close() }

// partition is where a partition lies in this epoch. One too long to have the epoch before it goes by its hash.
func (e Epoch) partition(name string) string {
	prefix := "e" + strconv.FormatUint(e.Number, 36)
	if len(prefix)+1+len(name) <= MaxKey {
		return prefix + "/" + name
	}
	sum := sha256.Sum256([]byte(name))
	return prefix + "#" + hex.EncodeToString(sum[:])
}

func relabel(recs []Record, partition string) {
	for i := range recs {
		recs[i].Partition = partition
	}
}
