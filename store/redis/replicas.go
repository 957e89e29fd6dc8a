package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

// A failover takes what the new master had, and a write that was acknowledged may be missing there. That is noticed: the fence
// differs, and nothing from before it counts any more. Waiting for replicas adds nothing to that, and does not make Redis
// linearizable.
//
// What the fence does not notice is a master that a partition has cut off together with some servers of Obolus: nothing about
// it has changed, so they go on with it, while the others have a new master in a new epoch. A stop there is not heard here.
// A master that must have replicas confirm what is spent cannot acknowledge anything alone; and if they are at least half of all
// copies, its own among them, at most one side of a partition can.

// replicas is how many must confirm what is spent, and how long that may take.
type replicas struct {
	least  int
	within time.Duration
}

const defaultWithin = 500 * time.Millisecond

// wanted reads the parameters. A call must not end before the wait does.
func wanted(ours map[string]string, readTimeout time.Duration) (r replicas, err error) {
	if text, set := ours["replicas"]; set {
		if r.least, err = strconv.Atoi(text); err != nil || r.least < 0 || r.least > 100 {
			return r, errors.New("redis url: replicas is a number from 0 to 100")
		}
	}
	r.within = min(defaultWithin, readTimeout/2)
	if text, set := ours["replicas_timeout"]; set {
		if r.within, err = time.ParseDuration(text); err != nil || r.within < time.Millisecond {
			return r, errors.New("redis url: replicas_timeout is a duration like 500ms")
		}
	}
	if r.within >= readTimeout {
		return r, errors.New("redis url: replicas_timeout must be shorter than read_timeout")
	}
	return r, nil
}

// confirm waits until enough replicas have what a batch spends, and what was spent before it on the same masters: a commit that
// was refused tells of an earlier one, which they must have too. When they do not answer in time nothing is known of the batch.
func (e *Engine) confirm(ctx context.Context, b store.Batch, k *known) error {
	if e.replicas.least == 0 {
		return nil
	}
	var bases []string
	for _, c := range b.Commits {
		if c.Spends {
			bases = append(bases, e.base(c.Partition))
		}
	}
	if len(bases) == 0 {
		return nil
	}
	if k == nil {
		var err error
		if k, err = e.meet(ctx); err != nil {
			return unavailable(err)
		}
	}
	nodes := k.touched(bases)
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = e.confirmAt(ctx, n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// confirmAt writes to a master, if it is still the one that was met, and waits for that write: replicas take writes in their
// order, whichever connection they came by.
func (e *Engine) confirmAt(ctx context.Context, n node) error {
	master, err := e.master(ctx, n)
	if err != nil {
		return unavailable(err)
	}
	conn := master.Conn()
	defer func() { _ = conn.Close() }()
	pipe := conn.Pipeline()
	check := pipe.EvalSha(ctx, n.check.Hash(), []string{n.marker})
	pipe.Set(ctx, n.marker+"/confirm", "", time.Minute)
	confirmed := pipe.Do(ctx, "wait", e.replicas.least, e.replicas.within.Milliseconds())
	_, err = pipe.Exec(ctx)
	if marked, failed := check.Int64(); noScript(failed) || failed == nil && marked == 0 {
		return store.ErrFence
	}
	if err != nil {
		return unavailable(err)
	}
	got, err := confirmed.Int()
	if err != nil {
		return errAnswer
	}
	if got < e.replicas.least {
		return fmt.Errorf("%w: redis: %d replicas confirmed within %s, and %d must", store.ErrUnavailable, got, e.replicas.within, e.replicas.least)
	}
	return nil
}

func (e *Engine) master(ctx context.Context, n node) (*redis.Client, error) {
	switch c := e.client.(type) {
	case *redis.Client:
		return c, nil
	case *redis.ClusterClient:
		return c.MasterForKey(ctx, n.marker)
	default:
		return nil, errors.New("client is of an unknown kind")
	}
}
