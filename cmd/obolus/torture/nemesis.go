//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// nemesis carries out the plan against an installation.
type nemesis struct {
	*world

	mu   sync.Mutex
	done []fault
}

// run carries out the lanes side by side, each in order: each fault at its place in the time there is, or as soon after it as the
// one before is over.
func (n *nemesis) run(ctx context.Context, plan [][]fault, r rate) error {
	failed := make(chan error, len(plan))
	var all sync.WaitGroup
	for _, faults := range plan {
		all.Go(func() { failed <- n.lane(ctx, faults, r) })
	}
	all.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

func (n *nemesis) lane(ctx context.Context, faults []fault, r rate) error {
	begin, share := time.Now(), r.during/time.Duration(len(faults))
	for i, f := range faults {
		due := begin.Add(time.Duration(i)*share + f.pause/2)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(time.Until(due), f.pause/8)):
		}
		f.begin = n.history.now()
		f.struck = f.begin
		err := n.carryOut(&f)
		f.end = n.history.now()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", n.name, f.kind, err)
		}
		n.mu.Lock()
		n.done = append(n.done, f)
		n.mu.Unlock()
	}
	return nil
}

// count is how many faults were carried out.
func (n *nemesis) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.done)
}

func (n *nemesis) carryOut(f *fault) error {
	r := n.servers[f.target]
	switch f.kind {
	case killServer:
		return n.killing(f, r.child, r.start)
	case pauseServer:
		return n.pausing(f, r.child)
	case jumpClock:
		r.order(f.much.String())
		time.Sleep(f.hold)
		r.order("0s")
		return nil
	case killResource:
		return n.killing(f, n.rs, n.rs.start)
	case killPostgres:
		return n.killing(f, n.postgres.child, n.postgres.launch)
	case haltPostgres:
		return n.pausing(f, n.postgres.child)
	case killRedis, rollRedis, pauseRedis, flushRedis, failover, bySentinel:
		return n.onRedis(f)
	default:
		return n.onNetwork(f, r)
	}
}

func (n *nemesis) killing(f *fault, c *child, start func() error) error {
	for !c.down.CompareAndSwap(false, true) {
		time.Sleep(time.Millisecond) // it is being started again
	}
	defer c.down.Store(false)
	c.kill()
	f.struck = n.history.now()
	time.Sleep(f.hold)
	return start()
}

// supervise starts again what has ended by itself, as a server does that is started while a store is down.
func (n *nemesis) supervise(ctx context.Context) {
	all := []*child{n.rs}
	for _, r := range n.servers {
		all = append(all, r.child)
	}
	for ctx.Err() == nil {
		for _, c := range all {
			if c.down.CompareAndSwap(false, true) {
				if c.ended() {
					_ = c.start() // the next round tries again
				}
				c.down.Store(false)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (n *nemesis) pausing(f *fault, c *child) error {
	c.pause()
	f.struck = n.history.now()
	time.Sleep(f.hold)
	c.resume()
	return nil
}

func (n *nemesis) onRedis(f *fault) error {
	leads := int(n.redis.leads.Load())
	dump := filepath.Join(n.redis.leader().dir, "dump.rdb")
	switch f.kind {
	case killRedis:
		_ = os.Remove(dump)
		return n.killing(f, n.redis.leader(), func() error { return n.redis.launch(leads) })
	case rollRedis:
		return n.rollBack(f, dump)
	case pauseRedis:
		return n.pausing(f, n.redis.leader())
	case flushRedis:
		_, err := ask(n.redis.address(), "FLUSHALL")
		return err
	case failover:
		return n.failover(f)
	default:
		return n.failoverBySentinel(f)
	}
}

// rollBack brings Redis back as it was a while ago: what was redeemed since is not redeemed in it.
func (n *nemesis) rollBack(f *fault, dump string) error {
	leads := int(n.redis.leads.Load())
	if _, err := ask(n.redis.address(), "SAVE"); err != nil {
		return err
	}
	time.Sleep(f.hold)
	defer func() { _ = os.Remove(dump) }()
	return n.killing(f, n.redis.leader(), func() error { return n.redis.launch(leads) })
}

// lose has the replica miss what is written from now on: the leader lets nobody follow it any more.
func (n *nemesis) lose(hold time.Duration) error {
	for _, command := range []string{"ACL SETUSER default -psync -sync -replconf", "CLIENT KILL TYPE replica"} {
		if said, err := ask(n.redis.address(), strings.Fields(command)...); err != nil {
			return fmt.Errorf("%s: %q: %w", command, said, err)
		}
	}
	time.Sleep(hold)
	return nil
}

// failover moves the address of Redis to a replica that has missed the last writes.
func (n *nemesis) failover(f *fault) error {
	if err := await("the replica", 10*time.Second, n.redis.inStep); err != nil {
		return err
	}
	if err := n.lose(f.hold); err != nil {
		return err
	}
	old := int(n.redis.leads.Load())
	n.redis.leader().kill()
	f.struck = n.history.now()
	if _, err := ask(n.redis.second(), "REPLICAOF", "NO", "ONE"); err != nil {
		return err
	}
	n.redis.leads.Store(int32(1 - old)) //nolint:gosec // there are two
	for _, r := range n.servers {
		r.toRedis.set(linkCut, 0)
		r.toRedis.set(linkOpen, 0)
	}
	return n.redis.launch(old)
}

// failoverBySentinel kills the leader and lets the Sentinel find out and choose. It may also have chosen by itself, when the
// machine was too busy for its taste.
func (n *nemesis) failoverBySentinel(f *fault) error {
	if err := await("the sentinel", 60*time.Second, n.redis.settled); err != nil {
		return err
	}
	if err := n.lose(f.hold); err != nil {
		return err
	}
	old := int(n.redis.leads.Load())
	n.redis.leader().kill()
	f.struck = n.history.now()
	if err := await("a failover", 60*time.Second, n.redis.follow); err != nil {
		return err
	}
	if !n.redis.nodes[old].ended() {
		return nil
	}
	return n.redis.launch(old)
}

func (n *nemesis) onNetwork(f *fault, r *replica) error {
	l, state := r.door, linkHeld
	switch f.kind {
	case partRedis, deafRedis:
		l = r.toRedis
	case partRecords, deafRecords:
		l = r.toRecords
	case slowLink:
		all := r.links()
		l, state = all[int(f.hold)%len(all)], linkSlow
	default:
	}
	switch f.kind {
	case deafRedis, deafRecords, deafClients:
		state = linkDeaf
	case partRedis, partRecords, partClients:
		if f.way == 0 {
			state = linkCut
		}
	default:
	}
	l.set(state, f.much)
	time.Sleep(f.hold)
	l.set(linkOpen, 0)
	return nil
}

// heal waits until everything runs and works again.
func (n *nemesis) heal(ctx context.Context) error {
	n.afterTheSecond()
	for _, r := range n.servers {
		for _, l := range r.links() {
			l.set(linkOpen, 0)
		}
		if err := await(r.name, 60*time.Second, func() error { return n.readiness(r) }); err != nil {
			return err
		}
	}
	return await("an exchange at each server", 20*time.Second, func() error {
		for i := range n.servers {
			t, a, err := n.exchange(ctx, request{agent: agentName(1), user: n.people[0], server: i})
			if err != nil || t.raw == "" {
				return fmt.Errorf("%d %.200s: %w", a.status, a.body, err)
			}
		}
		return nil
	})
}
