package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"obolus/store"
	"obolus/store/redis"
	"obolus/store/storetest/servers"
)

// crowd is how many ask at the same time.
const crowd = 32

// atOnce has a crowd do something at the same time, again and again until the batches of one round went together, at least in part.
func atOnce(t *testing.T, c *counter, do func(round, i int) error) {
	t.Helper()
	for round := range 1000 {
		c.pipelines.Store(0)
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range crowd {
			all.Go(func() {
				<-start
				if err := do(round, i); err != nil {
					t.Errorf("number %d of round %d: %v", i, round, err)
				}
			})
		}
		close(start)
		all.Wait()
		if t.Failed() || c.pipelines.Load() < crowd/2 {
			return
		}
	}
	t.Error("nobody ever took anybody along")
}

// TestTogether has everybody find what is theirs: what they wrote, refusals of their own, and nobody else's.
func TestTogether(t *testing.T) {
	t.Parallel()
	c := &counter{}
	e := open(t, servers.Redis(t), redis.Options{Hooks: []goredis.Hook{c}})
	fence, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	atOnce(t, c, func(round, i int) error {
		key := store.Key{Partition: fmt.Sprint(round, "/", i), Name: "n"}
		b := store.Batch{
			Commits: []store.Commit{{Partition: key.Partition, Writes: []store.Write{{Name: key.Name, Value: []byte(strconv.Itoa(i))}}}},
			Reads:   []store.Key{{Partition: "nobody", Name: "n"}, key},
		}
		if i%2 == 0 {
			b.Fence = fence
		}
		refused := i%3 == 0
		if refused {
			b.Commits[0].If = []store.Condition{{Name: key.Name, Is: store.Present}}
		}
		res, err := e.Do(t.Context(), b)
		if err != nil {
			return err
		}
		if got := res.Records[1]; res.Outcomes[0].Applied == refused || got.Exists() == refused || got.Exists() && string(got.Value) != strconv.Itoa(i) {
			return fmt.Errorf("got %+v and %q", res.Outcomes[0], got.Value)
		}
		return nil
	})
}

func TestTheFenceIsCheckedForAllWhoGoTogether(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	c := &counter{}
	e := open(t, s.URL, redis.Options{Hooks: []goredis.Hook{c}})
	fence, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client(t, s).FlushAll(t.Context())
	atOnce(t, c, func(_, i int) error {
		b := store.Batch{Reads: []store.Key{{Partition: strconv.Itoa(i), Name: "n"}}}
		if i%4 != 0 {
			b.Fence = fence
		}
		if _, err := e.Do(t.Context(), b); errors.Is(err, store.ErrFence) != (b.Fence != "") {
			return fmt.Errorf("fence %q: %w", b.Fence, err)
		}
		return nil
	})
}

// impatience has all impatient callers hang up whenever several are about to cross.
type impatience struct {
	counter

	mu     sync.Mutex
	ctx    context.Context //nolint:containedctx // of those who call next
	hangUp context.CancelFunc
}

func (h *impatience) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return h.counter.ProcessPipelineHook(func(ctx context.Context, cmds []goredis.Cmder) error {
		if len(cmds) > 1 {
			h.renew()
		}
		return next(ctx, cmds)
	})
}

// renew hangs up for everybody before, and gives the context of those to come.
func (h *impatience) renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hangUp != nil {
		h.hangUp()
	}
	h.ctx, h.hangUp = context.WithCancel(context.Background())
}

func (h *impatience) current() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ctx
}

func TestWhoHangsUpDoesNotEndItForOthers(t *testing.T) {
	t.Parallel()
	h := &impatience{}
	h.renew()
	defer h.renew()
	e := open(t, servers.Redis(t), redis.Options{Hooks: []goredis.Hook{h}})
	atOnce(t, &h.counter, func(_, i int) error {
		if i%4 != 0 {
			_, _ = e.Do(h.current(), store.Batch{Commits: []store.Commit{commit(i, false)}}) // as it comes
			return nil
		}
		_, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{commit(i, false)}})
		return err
	})
}

// holder holds the first pipeline that it meets.
type holder struct {
	counter

	held    atomic.Bool
	holds   chan struct{}
	release chan struct{}
}

func (h *holder) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		if h.held.Load() && h.held.Swap(false) {
			close(h.holds)
			<-h.release
		}
		return next(ctx, cmds)
	}
}

func TestAPipelineThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	h := &holder{holds: make(chan struct{}), release: make(chan struct{})}
	e := open(t, servers.Redis(t), redis.Options{Hooks: []goredis.Hook{h}})
	h.held.Store(true)
	hung := make(chan error, 1)
	go func() {
		_, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{commit(1, false)}})
		hung <- err
	}()
	<-h.holds
	for n := range 10 {
		if _, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{commit(n, false)}}); err != nil {
			t.Errorf("beside one that hangs: %v", err)
		}
	}
	close(h.release)
	if err := <-hung; err != nil {
		t.Errorf("the one that hung: %v", err)
	}
}
