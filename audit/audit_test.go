package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
	"obolus/store/memory"
)

func ledgerOf(t *testing.T, records store.Engine) (*audit.Recorder, *audit.Ledger) {
	t.Helper()
	r := audit.NewRecorder(t.Context(), records, time.Now)
	t.Cleanup(r.Close)
	return r, audit.NewLedger(records)
}

func record(t *testing.T, r *audit.Recorder, events ...audit.Event) {
	t.Helper()
	for _, e := range events {
		if err := r.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsRecordedIsFound(t *testing.T) {
	t.Parallel()
	r, l := ledgerOf(t, memory.New(time.Now))
	record(t, r,
		audit.Event{Kind: audit.KindExchange, Allowed: true, User: "alice", Actor: "agent-a", Txn: "txn_1"},
		audit.Event{Kind: audit.KindRedeem, Allowed: true, User: "alice", Actor: "agent-a", Txn: "txn_1"},
		audit.Event{Kind: audit.KindExchange, User: "alice/x", Actor: "agent-b", Error: oauth.InvalidScope, Reason: oauth.ReasonCeilingScope},
		audit.Event{Kind: audit.KindClient, Actor: "made up"},
	)
	for _, c := range []struct {
		name   string
		filter audit.Filter
		want   []uint64
	}{
		{"everything", audit.Filter{}, []uint64{1, 2, 3, 4}},
		{"of a transaction", audit.Filter{Txn: "txn_1"}, []uint64{1, 2}},
		{"of a user", audit.Filter{User: "alice"}, []uint64{1, 2}},
		{"of a user whose name begins alike", audit.Filter{User: "alice/x"}, []uint64{3}},
		{"of an actor and a kind", audit.Filter{Actor: "agent-a", Kind: audit.KindRedeem}, []uint64{2}},
		{"after a number", audit.Filter{After: 2}, []uint64{3, 4}},
		{"so many", audit.Filter{Limit: 1}, []uint64{1}},
		{"nothing was entered under what a stranger typed", audit.Filter{Actor: "made up"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			events, err := l.Events(t.Context(), c.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint64
			for _, e := range events {
				got = append(got, e.Seq)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("events %v, want %v", got, c.want)
			}
		})
	}
}

func TestTheNewestComeFirst(t *testing.T) {
	t.Parallel()
	r, l := ledgerOf(t, memory.New(time.Now))
	for range 7 {
		record(t, r, audit.Event{Kind: audit.KindRedeem, User: "alice"})
	}
	for _, f := range []audit.Filter{{Limit: 3}, {Limit: 3, User: "alice"}} {
		events, err := l.Latest(t.Context(), f)
		if err != nil || len(events) != 3 || events[0].Seq != 7 || events[2].Seq != 5 {
			t.Errorf("%+v: %v, %v", f, events, err)
		}
	}
}

func TestTheEndOfTheChain(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	r, l := ledgerOf(t, records)
	if seq, hash, err := l.Head(t.Context()); seq != 0 || hash != "" || err != nil {
		t.Errorf("of nothing: %d %q %v", seq, hash, err)
	}
	record(t, r, audit.Event{Kind: audit.KindRedeem}, audit.Event{Kind: audit.KindRestore})
	events, err := l.Events(t.Context(), audit.Filter{After: 1})
	if err != nil {
		t.Fatal(err)
	}
	if seq, hash, err := l.Head(t.Context()); seq != 2 || hash != events[0].Hash || err != nil {
		t.Errorf("%d %q %v, want %+v", seq, hash, err, events[0])
	}
	recs, err := store.Read(t.Context(), records, store.Key{Partition: "ledger", Name: "head"}, store.Key{Partition: "ledger", Name: "e/00000000000000000002"})
	if err != nil {
		t.Fatal(err)
	}
	if seq, hash, ok := audit.HeadIn(recs[0]); seq != 2 || hash != events[0].Hash || !ok {
		t.Errorf("in its record: %d %q %v", seq, hash, ok)
	}
	if _, _, ok := audit.HeadIn(recs[1]); ok {
		t.Error("an event was taken for the end")
	}
}

func TestManyServersWriteOneChain(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	const servers, each = 3, 60
	var all sync.WaitGroup
	for range servers {
		r, _ := ledgerOf(t, records)
		for range each {
			all.Go(func() {
				if err := r.Record(t.Context(), audit.Event{Kind: audit.KindRedeem, User: "alice"}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	n, err := audit.NewLedger(records).Verify(t.Context(), func(uint64) {})
	if err != nil || n != servers*each {
		t.Errorf("the chain holds %d events, %v", n, err)
	}
}

// tamper changes a record behind the ledger's back.
func tamper(t *testing.T, records store.Engine, name string, change func([]byte) []byte) {
	t.Helper()
	recs, err := store.Read(t.Context(), records, store.Key{Partition: "ledger", Name: name})
	if err != nil || !recs[0].Exists() {
		t.Fatalf("%s: %v", name, err)
	}
	write := store.Write{Name: name, Listed: strings.HasPrefix(name, "e/")}
	if write.Value = change(recs[0].Value); write.Value == nil {
		write.Delete = true
	}
	if _, err := store.Apply(t.Context(), records, store.Commit{Partition: "ledger", Writes: []store.Write{write}}); err != nil {
		t.Fatal(err)
	}
}

func TestTamperingIsSeen(t *testing.T) {
	t.Parallel()
	name := func(seq int) string { return fmt.Sprintf("e/%020d", seq) }
	for _, c := range []struct {
		name   string
		attack func(t *testing.T, records store.Engine)
	}{
		{"an event was rewritten", func(t *testing.T, records store.Engine) {
			t.Helper()
			tamper(t, records, name(2), func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "alice", "mallo")) })
		}},
		{"an event was taken out", func(t *testing.T, records store.Engine) {
			t.Helper()
			tamper(t, records, name(2), func([]byte) []byte { return nil })
		}},
		{"the end was cut off", func(t *testing.T, records store.Engine) {
			t.Helper()
			tamper(t, records, name(3), func([]byte) []byte { return nil })
		}},
		{"the end was cut off and forgotten", func(t *testing.T, records store.Engine) {
			t.Helper()
			tamper(t, records, "head", func([]byte) []byte { return []byte(`{"seq":2,"hash":"x"}`) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			records := memory.New(time.Now)
			r, l := ledgerOf(t, records)
			for range 3 {
				record(t, r, audit.Event{Kind: audit.KindRedeem, User: "alice"})
			}
			if _, err := l.Verify(t.Context(), func(uint64) {}); err != nil {
				t.Fatalf("before the attack: %v", err)
			}
			c.attack(t, records)
			if n, err := l.Verify(t.Context(), func(uint64) {}); err == nil {
				t.Errorf("not noticed: %d events", n)
			}
		})
	}
}

// broken is an engine that does not answer.
type broken struct{ store.Engine }

func (broken) Do(context.Context, store.Batch) (store.Results, error) {
	return store.Results{}, store.ErrUnavailable
}

func TestWithoutTheStoreNothingIsRecorded(t *testing.T) {
	t.Parallel()
	r, _ := ledgerOf(t, broken{memory.New(time.Now)})
	err := r.Record(t.Context(), audit.Event{Kind: audit.KindRedeem})
	refusal, ok := errors.AsType[*oauth.Error](err)
	if !ok || refusal.Status() != 503 || refusal.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
}

func TestAClosedRecorderRefuses(t *testing.T) {
	t.Parallel()
	r := audit.NewRecorder(t.Context(), memory.New(time.Now), time.Now)
	r.Close()
	if err := r.Record(t.Context(), audit.Event{Kind: audit.KindRedeem}); oauth.AsError(err).Status() != 503 {
		t.Errorf("%v", err)
	}
}

func TestARefusalIsDescribed(t *testing.T) {
	t.Parallel()
	e := audit.Event{Allowed: true}
	e.Refused(oauth.Conceal(oauth.InvalidRequest, oauth.ReasonSubject, "no", errors.New("secret cause")))
	data, err := json.Marshal(e)
	if err != nil || e.Allowed || e.Reason != oauth.ReasonSubject || strings.Contains(string(data), "secret cause") {
		t.Errorf("%s %v", data, err)
	}
	e.Refused(nil)
	if !e.Allowed {
		t.Error("what was not refused was allowed")
	}
}

func BenchmarkRecord(b *testing.B) {
	r := audit.NewRecorder(b.Context(), memory.New(time.Now), time.Now)
	defer r.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := r.Record(b.Context(), audit.Event{Kind: audit.KindRedeem, User: "alice", Actor: "agent-a", Txn: "txn_1"}); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestTheLatestAreFoundHoweverLongAgo has a ledger in which one user was there at the beginning only.
func TestTheLatestAreFoundHoweverLongAgo(t *testing.T) {
	t.Parallel()
	r, l := ledgerOf(t, memory.New(time.Now))
	for range 4 {
		record(t, r, audit.Event{Kind: audit.KindConsent, User: "early"}, audit.Event{Kind: audit.KindAsk, User: "early"})
	}
	var all sync.WaitGroup
	for range 104 {
		all.Go(func() {
			for range 50 {
				if err := r.Record(t.Context(), audit.Event{Kind: audit.KindRedeem, User: "busy"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	record(t, r, audit.Event{Kind: audit.KindConsent, User: "late"})
	for _, c := range []struct {
		name   string
		filter audit.Filter
		want   []uint64
	}{
		{"long ago", audit.Filter{User: "early", Limit: 3}, []uint64{8, 7, 6}},
		{"long ago, of a kind", audit.Filter{User: "early", Kind: audit.KindConsent, Limit: 3}, []uint64{7, 5, 3}},
		{"fewer than asked for", audit.Filter{User: "early", After: 6}, []uint64{8, 7}},
		{"of one who is busy", audit.Filter{User: "busy", Limit: 2}, []uint64{5208, 5207}},
		{"just now", audit.Filter{User: "late"}, []uint64{5209}},
		{"of nobody", audit.Filter{User: "nobody"}, nil},
		{"without an index only the recent ones", audit.Filter{Kind: audit.KindConsent}, []uint64{5209}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			events, err := l.Latest(t.Context(), c.filter)
			var got []uint64
			for _, e := range events {
				got = append(got, e.Seq)
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("events %v %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestAnAnswerOfAnEpochThatIsOver(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	live, err := store.OpenLive(t.Context(), memory.New(time.Now), records)
	if err != nil {
		t.Fatal(err)
	}
	r, l := ledgerOf(t, records)
	e := audit.Event{Kind: audit.KindRedeem, Allowed: true}
	if err := r.RecordIn(t.Context(), e, live.Epoch().Number); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenLive(t.Context(), memory.New(time.Now), records); err != nil { // another has taken its place
		t.Fatal(err)
	}
	if err := r.RecordIn(t.Context(), e, live.Epoch().Number); oauth.AsError(err).Code != oauth.TemporarilyUnavailable {
		t.Errorf("%v", err)
	}
	record(t, r, e) // one that stands on no epoch
	events, err := l.Events(t.Context(), audit.Filter{})
	if err != nil || len(events) != 3 {
		t.Errorf("%d events, %v", len(events), err)
	}
}
