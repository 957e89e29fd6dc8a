package store_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/memory"
)

// clock is a clock that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.ahead.Load()) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// forgetful is a live store that can be restarted: an engine whose data is gone then, behind one address.
type forgetful struct {
	now     func() time.Time
	current atomic.Pointer[memory.Engine]
}

func newForgetful(now func() time.Time) *forgetful {
	f := &forgetful{now: now}
	f.restart()
	return f
}

func (f *forgetful) restart() { f.current.Store(memory.New(f.now)) }

func (f *forgetful) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	return f.current.Load().Do(ctx, b)
}

func (f *forgetful) List(ctx context.Context, partition, after string, limit int) ([]store.Record, error) {
	return f.current.Load().List(ctx, partition, after, limit)
}

func (f *forgetful) Watch(ctx context.Context, partition string) (<-chan string, error) {
	return f.current.Load().Watch(ctx, partition)
}

func (f *forgetful) Fence(ctx context.Context) (string, error) { return f.current.Load().Fence(ctx) }
func (f *forgetful) Close() error                              { return f.current.Load().Close() }

// gated is an engine at which commits wait: each says that it has come, and goes on when it is let.
type gated struct {
	store.Engine

	come chan struct{}
	let  chan struct{}
}

// Epoch is that of the engine, if it has one.
func (g *gated) Epoch() store.Epoch {
	if l, ok := g.Engine.(store.Epochal); ok {
		return l.Epoch()
	}
	return store.Epoch{}
}

// still is a live store that never forgets, and so has no epoch.
type still struct{ store.Engine }

func (still) Epoch() store.Epoch { return store.Epoch{} }

func gate(e store.Engine) *gated {
	return &gated{Engine: e, come: make(chan struct{}), let: make(chan struct{})}
}

func (g *gated) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if len(b.Commits) > 0 {
		g.come <- struct{}{}
		<-g.let
	}
	return g.Engine.Do(ctx, b)
}

func openLive(t testing.TB, engine, records store.Engine) *store.Live {
	t.Helper()
	l, err := store.OpenLive(t.Context(), engine, records)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func set(t testing.TB, e store.Engine, partition, name, value string) {
	t.Helper()
	_, err := store.Apply(t.Context(), e, store.Commit{Partition: partition, Writes: []store.Write{{Name: name, Value: []byte(value), Listed: true}}})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, e store.Engine, partition, name string) store.Record {
	t.Helper()
	recs, err := store.Read(t.Context(), e, store.Key{Partition: partition, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return recs[0]
}
