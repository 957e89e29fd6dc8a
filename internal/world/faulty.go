package world

import (
	"context"
	"sync/atomic"

	"obolus/store"
)

// Faulty is an engine that can be made to fail, or watched.
type Faulty struct {
	store.Engine
	Down  atomic.Bool                       // nothing is carried out
	Mute  atomic.Bool                       // everything is carried out and no answer comes back
	Trips atomic.Int64                      // round trips so far
	Hook  atomic.Pointer[func(store.Batch)] // called before a batch
}

// Do counts, and fails if it should.
func (f *Faulty) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	f.Trips.Add(1)
	if f.Down.Load() {
		return store.Results{}, store.ErrUnavailable
	}
	if hook := f.Hook.Load(); hook != nil {
		(*hook)(b)
	}
	res, err := f.Engine.Do(ctx, b)
	if f.Mute.Load() {
		return store.Results{}, store.ErrUnavailable
	}
	return res, err
}
