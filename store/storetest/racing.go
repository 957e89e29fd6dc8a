package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"obolus/store"
)

// crowd runs act in n goroutines that start together, over as many handles as the driver has.
func (t trial) crowd(n int, act func(e store.Engine)) handle {
	t.Helper()
	h := t.open()
	engines := []store.Engine{h.Engine}
	if t.Second != nil {
		engines = append(engines, t.hold(t.Second(t.T)).Engine)
	}
	var done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		done.Go(func() {
			<-start
			act(engines[i%len(engines)])
		})
	}
	close(start)
	done.Wait()
	return h
}

func (t trial) claimsRace() {
	const rounds = 10
	var won [rounds]atomic.Int32
	t.crowd(64, func(e store.Engine) {
		for round := range rounds {
			name := fmt.Sprint("claim", round)
			out, err := store.Apply(t.Context(), e, store.Commit{
				Partition: "p",
				If:        []store.Condition{{Name: name, Is: store.Absent}},
				Writes:    []store.Write{set(name, "mine")},
			})
			if err != nil {
				t.Error(err)
			}
			if out.Applied {
				won[round].Add(1)
			}
		}
	})
	for round := range rounds {
		want(t, fmt.Sprint("winners of round ", round), won[round].Load(), 1)
	}
}

func (t trial) drawsRace() {
	const budget = 20
	var drawn atomic.Int64
	h := t.crowd(32, func(e store.Engine) {
		for range 3 {
			out, err := store.Apply(t.Context(), e, store.Commit{
				Partition: "p",
				If:        []store.Condition{{Name: "n", Is: store.AtMost, Count: budget - 1}},
				Writes:    []store.Write{{Name: "n", Add: 1}},
			})
			if err != nil {
				t.Error(err)
			}
			if out.Applied {
				drawn.Add(1)
			}
		}
	})
	want(t, "drawn", drawn.Load(), budget)
	want(t, "counted", h.read("n")[0].Count(), budget)
}

func (t trial) incrementsRace() {
	const each, workers = 4, 8
	h := t.crowd(workers, func(e store.Engine) {
		for range each {
			if err := increment(t.Context(), e); err != nil {
				t.Error(err)
			}
		}
	})
	want(t, "sum", string(h.read("n")[0].Value), fmt.Sprint(each*workers))
}

// increment reads, adds and writes back under the version it read, until nobody was faster.
func increment(ctx context.Context, e store.Engine) error {
	for {
		recs, err := store.Read(ctx, e, store.Key{Partition: "p", Name: "n"})
		if err != nil {
			return err
		}
		cond := store.Condition{Name: "n", Is: store.Absent}
		if recs[0].Exists() {
			cond = store.Condition{Name: "n", Is: store.AtVersion, Version: recs[0].Version}
		}
		out, err := store.Apply(ctx, e, store.Commit{
			Partition: "p",
			If:        []store.Condition{cond},
			Writes:    []store.Write{set("n", fmt.Sprint(recs[0].Count()+1))},
		})
		if err != nil || out.Applied {
			return err
		}
	}
}

// batchesRace sends batches whose commits meet in the same partitions, each in an order of its own.
func (t trial) batchesRace() {
	const each, workers, partitions = 6, 16, 5
	var serial atomic.Int64
	h := t.crowd(workers, func(e store.Engine) {
		shift := int(serial.Add(1))
		for range each {
			var b store.Batch
			for i := range partitions {
				k := store.Key{Partition: fmt.Sprint("p", (i*(1+shift%4)+shift)%partitions), Name: "n"}
				b.Commits = append(b.Commits, store.Commit{Partition: k.Partition, Writes: []store.Write{{Name: k.Name, Add: 1}}})
				b.Reads = append(b.Reads, k)
			}
			res, err := e.Do(t.Context(), b)
			if err != nil {
				t.Error(err)
				return
			}
			for i, rec := range res.Records {
				if rec.Count() < res.Outcomes[i].Wrote[0].Count() {
					t.Errorf("read %d after %d was written", rec.Count(), res.Outcomes[i].Wrote[0].Count())
				}
			}
		}
	})
	sum := int64(0)
	for i := range partitions {
		sum += h.do(store.Batch{Reads: []store.Key{{Partition: fmt.Sprint("p", i), Name: "n"}}}).Records[0].Count()
	}
	want(t, "sum", sum, each*workers*partitions)
}
