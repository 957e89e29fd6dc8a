// Package turns lets batches that wait for a durable engine go together, so that they share the cost of one write to
// disk: a worker that is free takes all that wait, within bounds, and answers each. What it does with them is the
// engine's part.
package turns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"obolus/store"
)

// The bounds. A batch that finds the queue full waits for room as long as its context does.
const (
	queue      = 1024    // batches waiting
	mostTurns  = 128     // batches taken at once
	mostParts  = 4096    // commits, conditions, writes and reads in them
	mostWeight = 8 << 20 // bytes of the values in them
)

var errClosed = errors.New("engine is closed")

// Turn is one batch that was taken. It is answered once.
type Turn struct {
	Batch  store.Batch
	parts  int
	weight int
	gone   atomic.Bool // nobody waits for the answer
	done   chan answer
}

type answer struct {
	res store.Results
	err error
}

// Answer gives the batch its answer.
func (t *Turn) Answer(res store.Results, err error) { t.done <- answer{res, err} }

// Desk is where batches wait.
type Desk struct {
	run     func([]*Turn)
	waiting chan *Turn
	stop    chan struct{}
	ended   chan struct{}
	closing sync.Once
}

// Open starts that many workers. Each calls run with what it took, and run answers every turn.
func Open(workers int, run func([]*Turn)) *Desk {
	d := &Desk{run: run, waiting: make(chan *Turn, queue), stop: make(chan struct{}), ended: make(chan struct{})}
	var all sync.WaitGroup
	for range workers {
		all.Go(d.work)
	}
	go func() {
		all.Wait()
		close(d.ended)
	}()
	return d
}

// Do waits for the answer to a batch, or for the end of the context. A batch whose caller has gone before it was taken is
// not carried out; of one that was taken the outcome is unknown.
func (d *Desk) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if err := ctx.Err(); err != nil {
		return store.Results{}, unavailable(err)
	}
	t := &Turn{Batch: b, done: make(chan answer, 1)}
	t.weigh()
	if ctx.Done() != nil {
		t.own()
	}
	select {
	case <-d.stop:
		return store.Results{}, unavailable(errClosed)
	default:
	}
	select {
	case d.waiting <- t:
	case <-d.stop:
		return store.Results{}, unavailable(errClosed)
	case <-ctx.Done():
		return store.Results{}, unavailable(ctx.Err())
	}
	select {
	case a := <-t.done:
		return a.res, a.err
	case <-ctx.Done():
		t.gone.Store(true)
		return store.Results{}, unavailable(ctx.Err())
	case <-d.ended:
	}
	select {
	case a := <-t.done:
		return a.res, a.err
	default:
		return store.Results{}, unavailable(errClosed)
	}
}

// Close lets the turns that were taken end and refuses the others.
func (d *Desk) Close() {
	d.closing.Do(func() { close(d.stop) })
	<-d.ended
}

func (d *Desk) work() {
	var next *Turn
	for {
		if next == nil {
			select {
			case next = <-d.waiting:
			case <-d.stop:
				return
			}
		}
		var taken []*Turn
		taken, next = d.gather(next)
		if len(taken) > 0 {
			d.run(taken)
		}
	}
}

// gather takes what else is waiting, without waiting for it, and gives back the turn that fits no more.
func (d *Desk) gather(next *Turn) (taken []*Turn, over *Turn) {
	parts, weight := 0, 0
	for {
		if !next.gone.Load() {
			parts, weight = parts+next.parts, weight+next.weight
			if len(taken) > 0 && (len(taken) == mostTurns || parts > mostParts || weight > mostWeight) {
				return taken, next
			}
			taken = append(taken, next)
		}
		select {
		case next = <-d.waiting:
		default:
			return taken, nil
		}
	}
}

func (t *Turn) weigh() {
	t.parts = len(t.Batch.Commits) + len(t.Batch.Reads)
	for _, c := range t.Batch.Commits {
		t.parts += len(c.If) + len(c.Writes)
		for _, w := range c.Writes {
			t.weight += len(w.Value)
		}
	}
}

// own copies the values, which are the caller's again once it has stopped waiting.
func (t *Turn) own() {
	values := make([]byte, 0, t.weight)
	commits := make([]store.Commit, len(t.Batch.Commits))
	for i, c := range t.Batch.Commits {
		c.Writes = append([]store.Write(nil), c.Writes...)
		for j, w := range c.Writes {
			start := len(values)
			values = append(values, w.Value...)
			if w.Value != nil {
				c.Writes[j].Value = values[start:len(values):len(values)]
			}
		}
		commits[i] = c
	}
	t.Batch.Commits = commits
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, err) }
