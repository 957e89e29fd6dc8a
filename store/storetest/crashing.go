package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"obolus/store"
)

// Toil writes one commit after the other, each of three records that belong together, and tells the number of each that
// was acknowledged. It goes on from what an earlier one left, and ends with the first error, or without one when the
// context ends. Of several at once each has its own number.
func Toil(ctx context.Context, e store.Engine, worker int, acked func(n int)) error {
	partition := toilPartition(worker)
	recs, err := store.Read(ctx, e, store.Key{Partition: partition, Name: "last"})
	if err != nil {
		return err
	}
	last := recs[0]
	for n := int(last.Count()) + 1; ctx.Err() == nil; n++ {
		cond := store.Condition{Name: "last", Is: store.Absent}
		if last.Exists() {
			cond.Is, cond.Version = store.AtVersion, last.Version
		}
		out, err := store.Apply(ctx, e, store.Commit{Partition: partition, If: []store.Condition{cond}, Writes: []store.Write{
			{Name: "last", Add: 1},
			{Name: fmt.Sprintf("left/%06d", n), Value: []byte(strings.Repeat("x", n%3000)), Listed: true},
			{Name: fmt.Sprintf("right/%06d", n), Value: []byte("x"), Listed: true},
		}})
		switch {
		case err != nil && ctx.Err() != nil:
			return nil //nolint:nilerr // the process is being killed: its last error tells nothing
		case err != nil:
			return err
		case !out.Applied:
			return fmt.Errorf("worker %d: commit %d found %+v", worker, n, out.Seen[0])
		}
		last = out.Wrote[0]
		acked(n)
	}
	return nil
}

// Whole checks what toil left behind: everything that was acknowledged is there, and each commit wholly or not at all. It
// returns how many there are.
func Whole(tb testing.TB, e store.Engine, worker, acked int) int {
	tb.Helper()
	partition := toilPartition(worker)
	recs, err := store.Read(tb.Context(), e, store.Key{Partition: partition, Name: "last"})
	if err != nil {
		tb.Fatal(err)
	}
	last := int(recs[0].Count())
	if last < acked {
		tb.Errorf("worker %d: %d commits were acknowledged, %d are there", worker, acked, last)
	}
	for _, side := range []string{"left/", "right/"} {
		n := 0
		for after := side; ; {
			recs, err := e.List(tb.Context(), partition, after, 1000)
			if err != nil {
				tb.Fatal(err)
			}
			for _, rec := range recs {
				if after = rec.Name; strings.HasPrefix(after, side) {
					n++
					want(tb, "name", rec.Name, fmt.Sprintf("%s%06d", side, n))
				}
			}
			if len(recs) < 1000 || !strings.HasPrefix(after, side) {
				break
			}
		}
		want(tb, fmt.Sprintf("worker %d: %s", worker, side), n, last)
	}
	return last
}

func toilPartition(worker int) string { return fmt.Sprint("toil", worker) }
