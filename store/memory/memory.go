// Package memory is the engine that forgets: records live in this process and nowhere else. It is the live store of
// one machine. Every process start is a new continuity, so what stands on it opens a new epoch.
//
// The decisions of a commit are in package commit below, which store/bolt shares.
package memory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"obolus/store"
	"obolus/store/memory/watchers"
)

const shards = 64 // a power of two

var errClosed = errors.New("engine is closed")

var _ store.Engine = (*Engine)(nil)

// Engine holds records in memory, spread over shards by partition. Dead records are buried a few at a time by the
// operations that pass by.
type Engine struct {
	now    func() time.Time
	fence  string
	seed   maphash.Seed
	shards [shards]*shard
	hub    watchers.Hub
	closed atomic.Bool
}

// New returns an empty engine with a fence of its own that lives by the given clock.
func New(now func() time.Time) *Engine {
	e := &Engine{now: now, fence: rand.Text(), seed: maphash.MakeSeed()}
	for i := range e.shards {
		e.shards[i] = newShard()
	}
	return e
}

// Do carries out a batch.
func (e *Engine) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if err := b.Validate(); err != nil {
		return store.Results{}, err
	}
	if err := e.open(ctx); err != nil {
		return store.Results{}, err
	}
	if b.Fence != "" && b.Fence != e.fence {
		return store.Results{}, store.ErrFence
	}
	res := store.Results{Outcomes: make([]store.Outcome, 0, len(b.Commits)), Records: make([]store.Record, 0, len(b.Reads))}
	var failed error
	for _, c := range b.Commits {
		ruling, err := e.shard(c.Partition).apply(c, e.now)
		if err != nil {
			failed = err
		}
		for _, change := range ruling.Changes {
			e.hub.Tell(c.Partition, change.Name)
		}
		res.Outcomes = append(res.Outcomes, ruling.Outcome)
	}
	res.Now = e.now()
	for _, k := range b.Reads {
		res.Records = append(res.Records, e.shard(k.Partition).read(k, res.Now))
	}
	if failed != nil {
		return store.Results{}, failed
	}
	return res, nil
}

// List returns the listed records of a partition in order.
func (e *Engine) List(ctx context.Context, partition, after string, limit int) ([]store.Record, error) {
	if err := store.ValidateList(partition, after, limit); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	return e.shard(partition).list(partition, after, limit, e.now()), nil
}

// Watch tells the names that change in a partition.
func (e *Engine) Watch(ctx context.Context, partition string) (<-chan string, error) {
	if err := store.ValidateList(partition, "", 1); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	return e.hub.Watch(ctx, partition), nil
}

// Fence is random for each engine: nothing outlives it.
func (e *Engine) Fence(ctx context.Context) (string, error) {
	return e.fence, e.open(ctx)
}

// Close ends every watch; calls after it fail.
func (e *Engine) Close() error {
	e.closed.Store(true)
	e.hub.Close()
	return nil
}

func (e *Engine) open(ctx context.Context) error {
	if e.closed.Load() {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, errClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return nil
}

func (e *Engine) shard(partition string) *shard {
	return e.shards[maphash.String(e.seed, partition)&(shards-1)]
}
