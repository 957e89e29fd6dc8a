package redis

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

// Pipelines that are asked for while another is on its way wait until it is back, a moment at most, and then go together: each that is
// taken along saves a write, a read and the waking of two processes. Who finds none on its way does not wait. What a
// pipeline means stays the same: commits are scripts, its commands follow each other on one connection, and the check of the
// fence comes after all of them.
const (
	mostWait    = time.Millisecond // for a connection that hangs must not hold up everybody
	mostAboard  = 64               // pipelines that go together
	mostLuggage = 64 << 10         // bytes of values in one that goes with others
	leastTime   = 2 * time.Second  // that one must have left to go with others: their call ends with the first of them
)

// ferry takes pipelines to one Redis.
type ferry struct {
	mu      sync.Mutex
	away    int
	waiting []*passenger
}

// passenger is a pipeline that waits. It is told once: that it leads those who go next, or that it has been taken along.
type passenger struct {
	*pipeline

	ctx   context.Context //nolint:containedctx // of the call that waits
	leads chan bool
}

// send carries out a pipeline, with others if there are any. None of them has to fear for another.
func (f *ferry) send(ctx context.Context, b store.Batch, p *pipeline) {
	me := &passenger{pipeline: p, ctx: ctx}
	if heavy(b) || hurried(ctx) {
		together([]*passenger{me})
		return
	}
	if f.wait(me) && !f.called(me) {
		return
	}
	runtime.Gosched() // those that could run now may want to come along
	aboard := f.board(me)
	together(aboard)
	f.back()
	for _, other := range aboard[1:] {
		other.leads <- false
	}
}

// wait says whether the passenger has to; otherwise it leads.
func (f *ferry) wait(me *passenger) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away == 0 {
		f.away++
		return false
	}
	me.leads = make(chan bool, 1)
	f.waiting = append(f.waiting, me)
	return true
}

// called says whether a passenger that waits leads; otherwise it was taken along.
func (f *ferry) called(me *passenger) bool {
	long := time.NewTimer(mostWait)
	defer long.Stop()
	select {
	case leads := <-me.leads:
		return leads
	case <-long.C:
	}
	f.mu.Lock()
	i := slices.Index(f.waiting, me)
	if i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
		f.away++
	}
	f.mu.Unlock()
	return i >= 0 || <-me.leads
}

// board takes those along who wait.
func (f *ferry) board(me *passenger) []*passenger {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.waiting), mostAboard-1)
	aboard := append([]*passenger{me}, f.waiting[:n]...)
	f.waiting = slices.Delete(f.waiting, 0, n)
	return aboard
}

// back has the first of those who wait lead.
func (f *ferry) back() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.away--
		return
	}
	f.waiting[0].leads <- true
	f.waiting = slices.Delete(f.waiting, 0, 1)
}

// together sends what is aboard as one pipeline. One check of the fence serves all who know the same servers.
func together(aboard []*passenger) {
	ctx, end := patience(aboard)
	defer end()
	n := 0
	for _, p := range aboard {
		n += len(p.commits) + len(p.reads) + len(p.checks) + 1
	}
	queue := make([]redis.Cmder, 0, n)
	for _, p := range aboard {
		queue = p.append(queue)
	}
	for i, p := range aboard {
		if i > 0 && p.known == aboard[0].known {
			p.checks = aboard[0].checks
			continue
		}
		for _, c := range p.checks {
			queue = append(queue, c)
		}
	}
	pipe := aboard[0].pipe
	if err := pipe.BatchProcess(ctx, queue...); err != nil {
		for _, c := range queue {
			c.SetErr(err)
		}
		return
	}
	// Each command has its own error; the first of them, which Exec returns, is often that a key is absent.
	_, _ = pipe.Exec(ctx)
}

// patience is how long a call waits: one for several until the first of them has no time left, whoever hangs up.
func patience(aboard []*passenger) (context.Context, context.CancelFunc) {
	ctx := aboard[0].ctx
	if len(aboard) == 1 {
		return ctx, func() {}
	}
	ctx = context.WithoutCancel(ctx)
	var first time.Time
	for _, p := range aboard {
		if at, ok := p.ctx.Deadline(); ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if first.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, first)
}

// heavy says whether a batch has so much in it that others would wait for it.
func heavy(b store.Batch) bool {
	bytes := 0
	for _, c := range b.Commits {
		for _, w := range c.Writes {
			bytes += len(w.Value)
		}
	}
	return bytes > mostLuggage
}

// hurried says whether a call ends soon.
func hurried(ctx context.Context) bool {
	at, ok := ctx.Deadline()
	return ok && time.Until(at) < leastTime //nolint:forbidigo // deadlines are of the clock of the process
}
