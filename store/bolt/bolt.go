// Package bolt is the engine that remembers, for one machine: a bbolt file that one process at a time holds. Every
// answer leaves after its commit is on disk; commits that wait at the same time share one write to it.
//
// It keeps what the disk keeps. A file that is damaged, cut short or full of something else is refused with a
// sentence, at opening where it shows there and otherwise by the call that meets it, after which all calls are refused.
// mark.go says which restored copies the fence notices. The file does not shrink: what was deleted is used again.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"obolus/store"
	"obolus/store/internal/turns"
	"obolus/store/memory/watchers"
)

// Options are what a path does not say.
type Options struct {
	// Now is the store's clock.
	Now func() time.Time
}

var _ store.Durable = (*Engine)(nil)

// Engine is an open file.
type Engine struct {
	db      *bbolt.DB
	now     func() time.Time
	fence   atomic.Pointer[string]
	writing sync.Mutex // for the mark, which follows what was written
	mark    *mark
	desk    *turns.Desk
	hub     watchers.Hub
	closed  atomic.Bool
	broken  atomic.Pointer[damage]
}

// Open opens the file at path, creating it (for its owner alone) and the folders above it when they are not there. It
// answers store.ErrLocked when another process holds the file.
func Open(path string, o Options) (*Engine, error) {
	if o.Now == nil {
		return nil, errors.New("bolt: no clock")
	}
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	e := &Engine{db: db, now: o.Now}
	if err := forgetLooks(path); err != nil {
		return nil, errors.Join(failed(path, err), closeFile(db))
	}
	if err := e.recognize(path); err != nil {
		return nil, errors.Join(err, closeFile(db))
	}
	e.desk = turns.Open(1, e.turn)
	return e, nil
}

// recognize makes the buckets of a new file and finds out whether an old one is the one that was here before.
func (e *Engine) recognize(path string) error {
	var fence string
	var last uint64
	err := intact(func() (err error) {
		fence, last, err = prepare(e.db)
		return err
	})
	if err != nil {
		return failed(path, err)
	}
	e.mark, err = openMark(path + markSuffix)
	if err != nil {
		return err
	}
	if !e.mark.knows(fence, last) {
		if fence, err = renew(e.db); err == nil {
			err = e.mark.keep(fence, last)
		}
	}
	if err != nil {
		return errors.Join(failed(path, err), e.mark.close())
	}
	e.fence.Store(&fence)
	return nil
}

// Do carries out a batch. One with commits goes out with all others that are waiting; reads alone do not wait.
func (e *Engine) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if err := b.Validate(); err != nil {
		return store.Results{}, err
	}
	if err := e.open(ctx); err != nil {
		return store.Results{}, err
	}
	if b.Fence != "" && b.Fence != *e.fence.Load() {
		return store.Results{}, store.ErrFence
	}
	if len(b.Commits) > 0 {
		return e.desk.Do(ctx, b)
	}
	res := store.Results{Outcomes: []store.Outcome{}, Now: e.now()}
	err := e.view(func(v view) error {
		res.Records = v.readAll(b.Reads, res.Now)
		return nil
	})
	if err != nil {
		return store.Results{}, err
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
	var found []store.Record
	err := e.view(func(v view) error {
		found = v.list(partition, after, limit, e.now())
		return nil
	})
	return found, err
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

// Fence is a random word that the file has carried since it was made, or since a rollback of it was noticed.
func (e *Engine) Fence(ctx context.Context) (string, error) {
	return *e.fence.Load(), e.open(ctx)
}

// Close lets what was taken on end, and lets go of the file.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.desk.Close()
	e.hub.Close()
	if e.broken.Load() != nil {
		return e.mark.close() // a transaction may be left in the middle, and closing would wait for it
	}
	return errors.Join(closeFile(e.db), e.mark.close())
}

func (e *Engine) open(ctx context.Context) error {
	if e.closed.Load() {
		return unavailable(errClosed)
	}
	if d := e.broken.Load(); d != nil {
		return unavailable(d)
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// view runs a reader on a snapshot.
func (e *Engine) view(read func(view) error) error {
	err := intact(func() error {
		tx, err := e.db.Begin(false)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // that is how a reader ends
		return read(viewOf(tx))
	})
	return e.judge(err)
}

// judge passes an error on, and remembers damage.
func (e *Engine) judge(err error) error {
	if err == nil {
		return nil
	}
	if d, ok := errors.AsType[*damage](err); ok {
		e.broken.CompareAndSwap(nil, d)
	}
	return unavailable(err)
}

var errClosed = os.ErrClosed

func unavailable(err error) error { return fmt.Errorf("%w: bolt: %w", store.ErrUnavailable, err) }
