package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/audit"
	"obolus/store"
	"obolus/store/memory"
)

const users = 12

// crowd records so many events of many users and actors through several recorders at once.
func crowd(t *testing.T, n int, through ...*audit.Recorder) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for j := i; j < n; j += 64 {
				e := audit.Event{Kind: audit.KindRedeem, User: fmt.Sprint("user-", j*j%users), Actor: fmt.Sprint("agent-", j%7), Txn: fmt.Sprint("txn_", j)}
				if j%11 == 0 {
					e.Kind = audit.KindClient // entered nowhere
				}
				if err := through[i%len(through)].Record(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// everything that a filter finds, page by page.
func everything(t *testing.T, l *audit.Ledger, f audit.Filter) []audit.Event {
	t.Helper()
	var found []audit.Event
	for f.Limit = 700; ; f.After = found[len(found)-1].Seq {
		events, err := l.Events(t.Context(), f)
		if err != nil {
			t.Error(err)
		}
		if found = append(found, events...); len(events) < f.Limit {
			return found
		}
	}
}

// complete compares what is found of every user and actor with what there is.
func complete(t *testing.T, l *audit.Ledger) {
	t.Helper()
	want := map[audit.Filter][]uint64{}
	for _, e := range everything(t, l, audit.Filter{}) {
		if e.Kind != audit.KindClient {
			user, actor := audit.Filter{User: e.User}, audit.Filter{Actor: e.Actor}
			want[user], want[actor] = append(want[user], e.Seq), append(want[actor], e.Seq)
		}
	}
	for f, seqs := range want {
		var got []uint64
		for _, e := range everything(t, l, f) {
			got = append(got, e.Seq)
		}
		if fmt.Sprint(got) != fmt.Sprint(seqs) {
			t.Errorf("%+v finds %d events, want %d", f, len(got), len(seqs))
		}
		f.Limit = 3
		last, err := l.Latest(t.Context(), f)
		if n := len(seqs); err != nil || len(last) != 3 || last[0].Seq != seqs[n-1] || last[2].Seq != seqs[n-3] {
			t.Errorf("the latest of %+v are %+v, %v", f, last, err)
		}
	}
}

// markOf is how far a ledger says that its later orders go; -1: it does not say.
func markOf(t *testing.T, records store.Engine) int {
	t.Helper()
	recs, err := store.Read(context.WithoutCancel(t.Context()), records, store.Key{Partition: "ledger", Name: "entered"})
	if err != nil {
		t.Fatal(err)
	}
	if !recs[0].Exists() {
		return -1
	}
	n, err := strconv.Atoi(string(recs[0].Value))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func awaitMark(t *testing.T, records store.Engine, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); markOf(t, records) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("entered up to %d, want %d", markOf(t, records), want)
		}
	}
}

func TestEveryOrderIsCompleteAtAnyTime(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	one, l := ledgerOf(t, records)
	other, _ := ledgerOf(t, records)
	if markOf(t, records) != -1 {
		t.Error("an empty ledger says how far it is entered")
	}
	recorded := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for seen := 0; ; {
			events := everything(t, l, audit.Filter{User: "user-1"})
			for i, e := range events {
				if e.User != "user-1" || i > 0 && e.Seq <= events[i-1].Seq {
					t.Errorf("event %d of %s after event %d", e.Seq, e.User, events[max(i, 1)-1].Seq)
				}
			}
			if len(events) < seen {
				t.Errorf("%d events, and before there were %d", len(events), seen)
			}
			seen = len(events)
			select {
			case <-recorded:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	crowd(t, 5000, one, other)
	close(recorded)
	watching.Wait()
	complete(t, l)
	awaitMark(t, records, 4096)
	complete(t, l)
	if n, err := l.Verify(t.Context(), func(uint64) {}); n != 5000 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
}

// frail fails the commits that enter events, after some of them.
type frail struct {
	store.Engine

	good atomic.Int32 // entering commits that succeed before the others do not
}

func (f *frail) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	for _, c := range b.Commits {
		for _, w := range c.Writes {
			if strings.HasPrefix(w.Name, "x/user/") && f.good.Add(-1) < 0 {
				return store.Results{}, errors.Join(store.ErrUnavailable, errors.New("in the middle"))
			}
		}
	}
	return f.Engine.Do(ctx, b)
}

func TestWhoEntersMayFallInTheMiddle(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	broken := &frail{Engine: records}
	broken.good.Store(5 * 128)
	r := audit.NewRecorder(t.Context(), broken, time.Now)
	crowd(t, 4800, r)
	for deadline := time.Now().Add(time.Minute); broken.good.Load() >= 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	r.Close()
	if n := markOf(t, records); n != 0 {
		t.Errorf("entered up to %d", n)
	}
	next, l := ledgerOf(t, records)
	complete(t, l)
	record(t, next, audit.Event{Kind: audit.KindConsent, User: "user-1", Actor: "agent-1"})
	awaitMark(t, records, 4096)
	complete(t, l)
}

// TestALedgerFromBefore is of events that were entered into all orders when they were written.
func TestALedgerFromBefore(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	first, l := ledgerOf(t, records)
	old := store.Commit{Partition: "ledger", Writes: []store.Write{{Name: "entered", Delete: true}}}
	for i := range 3 {
		record(t, first, audit.Event{Kind: audit.KindConsent, User: "alice", Actor: "agent-a"})
		for _, order := range []string{"x/user/alice/", "x/actor/agent-a/"} {
			old.Writes = append(old.Writes, store.Write{Name: fmt.Sprintf("%s%020d", order, i+1), Value: []byte("1"), Listed: true})
		}
	}
	if _, err := store.Apply(t.Context(), records, old); err != nil {
		t.Fatal(err)
	}
	complete(t, l)
	second, _ := ledgerOf(t, records)
	record(t, second, audit.Event{Kind: audit.KindWithdraw, User: "alice", Actor: "agent-a"})
	if n := markOf(t, records); n != 3 {
		t.Errorf("entered up to %d", n)
	}
	complete(t, l)
}
