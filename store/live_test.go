package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/store"
	"obolus/store/memory"
	"obolus/store/storetest"
)

func TestLiveKeepsTheContract(t *testing.T) {
	t.Parallel()
	c := &clock{}
	storetest.Run(t, storetest.Suite{
		Open:    func(t *testing.T) store.Engine { t.Helper(); return openLive(t, memory.New(c.now), memory.New(c.now)) },
		Advance: c.advance,
	})
}

func TestAnEpochBeginsBeforeAnythingIsServed(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, engine := memory.New(c.now), newForgetful(c.now)
	l := openLive(t, engine, records)
	if e := l.Epoch(); e.Number != 1 || !e.Began.IsZero() {
		t.Errorf("the first epoch is %+v", e)
	}
	set(t, l, "p", "n", "first")
	if again := openLive(t, engine, records).Epoch(); again != l.Epoch() {
		t.Errorf("a process that starts later finds %+v", again)
	}
	c.advance(time.Hour)
	engine.restart()
	for i, b := range []store.Batch{
		{Reads: []store.Key{{Partition: "p", Name: "n"}}},
		{Commits: []store.Commit{{Partition: "p", Writes: []store.Write{{Name: "n"}}}}},
		{},
	} {
		if _, err := l.Do(t.Context(), b); !errors.Is(err, store.ErrFence) {
			t.Errorf("batch %d after a restart: got %v", i, err)
		}
		if e := l.Epoch(); e.Number != uint64(2+i) || !e.Began.Equal(c.now()) {
			t.Errorf("the epoch after it is %+v", e)
		}
		engine.restart()
	}
	if _, err := l.Do(t.Context(), store.Batch{}); !errors.Is(err, store.ErrFence) {
		t.Errorf("got %v", err)
	}
	if rec := get(t, l, "p", "n"); rec.Exists() {
		t.Errorf("the new epoch has %+v", rec)
	}
	stored := get(t, records, "epoch", "current")
	fence, _ := engine.Fence(t.Context())
	if want := fmt.Sprintf(`{"number":%d,"began":%q,"fence":%q}`, 5, c.now().UTC().Format(time.RFC3339), fence); !same(t, string(stored.Value), want) {
		t.Errorf("records remember %s, want %s", stored.Value, want)
	}
}

// TestRecordsThatReplaceOthersBeginALaterEpoch: what was issued under the others is out of reach, though the live store still has it
// and they had come to epochs that these records have not heard of.
func TestRecordsThatReplaceOthersBeginALaterEpoch(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, engine := memory.New(c.now), newForgetful(c.now)
	old := openLive(t, engine, records)
	set(t, old, "p", "n", "from before")
	copied := memory.New(c.now) // as records was in its first epoch
	set(t, copied, "epoch", "current", string(get(t, records, "epoch", "current").Value))
	for range 3 {
		engine.restart()
		_, _ = old.Do(t.Context(), store.Batch{})
		set(t, old, "p", "n", "from meanwhile")
	}
	for round := range 3 {
		c.advance(time.Minute)
		began, err := store.Supersede(t.Context(), copied)
		if err != nil || began.Number <= old.Epoch().Number+1000 || !began.Began.Equal(c.now()) {
			t.Errorf("superseded by %+v, %v", began, err)
		}
		c.advance(time.Minute)
		later := openLive(t, engine, copied)
		if e := later.Epoch(); e.Number != began.Number+1 || !e.Began.Equal(c.now()) {
			t.Errorf("the epoch after it is %+v", e)
		}
		if rec := get(t, later, "p", "n"); rec.Exists() {
			t.Errorf("round %d: found %+v", round, rec)
		}
		set(t, later, "p", "n", "from the copy")
	}
	if e, err := store.Supersede(t.Context(), memory.New(c.now)); err != nil || e.Number == 0 {
		t.Errorf("records of nobody: %+v, %v", e, err)
	}
	set(t, copied, "epoch", "current", "{")
	if _, err := store.Supersede(t.Context(), copied); err == nil {
		t.Error("an epoch that cannot be read was passed over")
	}
}

func TestWhatAnEarlierEpochLeftIsOutOfReach(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, engine := memory.New(c.now), newForgetful(c.now)
	l := openLive(t, engine, records)
	set(t, l, "p", "n", "first")
	// The data is still there, but the records have heard of another live store meanwhile.
	if _, err := store.OpenLive(t.Context(), memory.New(c.now), records); err != nil {
		t.Fatal(err)
	}
	later := openLive(t, engine, records)
	if later.Epoch().Number != 3 {
		t.Errorf("epoch %d", later.Epoch().Number)
	}
	if rec := get(t, later, "p", "n"); rec.Exists() {
		t.Errorf("found %+v", rec)
	}
	if recs, err := later.List(t.Context(), "p", "", 10); err != nil || len(recs) != 0 {
		t.Errorf("listed %+v, %v", recs, err)
	}
}

func TestNothingIsServedUntilTheEpochIsDurable(t *testing.T) {
	t.Parallel()
	records, engine := memory.New(time.Now), newForgetful(time.Now)
	l := openLive(t, engine, records)
	engine.restart()
	records.Close()
	for range 3 {
		if _, err := l.Do(t.Context(), store.Batch{}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := store.OpenLive(t.Context(), engine, records); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("open: got %v", err)
	}
}

func TestOneOfManyOpensTheEpoch(t *testing.T) {
	t.Parallel()
	const processes, restarts = 8, 20
	records, engine := memory.New(time.Now), newForgetful(time.Now)
	var lives [processes]*store.Live
	for i := range lives {
		lives[i] = openLive(t, engine, records)
	}
	for round := range restarts {
		engine.restart()
		var all sync.WaitGroup
		var claimed, refused atomic.Int32
		for _, l := range lives {
			all.Go(func() {
				for {
					out, err := store.Apply(t.Context(), l, store.Commit{
						Partition: "p", If: []store.Condition{{Name: "n", Is: store.Absent}}, Writes: []store.Write{{Name: "n"}},
					})
					switch {
					case errors.Is(err, store.ErrFence):
						refused.Add(1)
						continue
					case err != nil:
						t.Error(err)
					case out.Applied:
						claimed.Add(1)
					}
					return
				}
			})
		}
		all.Wait()
		if claimed.Load() != 1 || refused.Load() < processes {
			t.Errorf("round %d: claimed %d times, refused %d", round, claimed.Load(), refused.Load())
		}
		for _, l := range lives {
			if e := l.Epoch(); e.Number != uint64(round+2) || e != lives[0].Epoch() {
				t.Errorf("round %d: epoch %+v", round, e)
			}
		}
	}
}

// TestARightIsUsedOnce holds what the epoch is for: whatever restarts, a right that was written once is used at most once, and
// never in an epoch that does not know of it.
func TestARightIsUsedOnce(t *testing.T) {
	t.Parallel()
	const processes, rights = 4, 300
	records, engine := memory.New(time.Now), newForgetful(time.Now)
	var lives [processes]*store.Live
	for i := range lives {
		lives[i] = openLive(t, engine, records)
	}
	var used [rights]atomic.Int32
	var all sync.WaitGroup
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				engine.restart()
			}
		}
	}()
	for i, l := range lives {
		all.Go(func() {
			for n := range rights {
				partition := fmt.Sprint("right", n)
				if n%processes == i { // an error costs the right, which is what it may cost
					_, _ = store.Apply(t.Context(), l, store.Commit{Partition: partition, Writes: []store.Write{{Name: "right"}}})
				}
				out, _ := store.Apply(t.Context(), l, store.Commit{
					Partition: partition,
					If:        []store.Condition{{Name: "right", Is: store.Present}, {Name: "used", Is: store.Absent}},
					Writes:    []store.Write{{Name: "used"}},
				})
				if out.Applied {
					used[n].Add(1)
				}
			}
		})
	}
	all.Wait()
	close(done)
	sum := int32(0)
	for n := range used {
		sum += used[n].Load()
		if used[n].Load() > 1 {
			t.Errorf("right %d was used %d times", n, used[n].Load())
		}
	}
	if sum == 0 {
		t.Error("no right was used at all")
	}
}
