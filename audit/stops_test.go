package audit_test

import (
	"fmt"
	"testing"
	"time"

	"obolus/audit"
	"obolus/store/memory"
)

func TestStopsHaveAnOrderOfTheirOwn(t *testing.T) {
	t.Parallel()
	r, l := ledgerOf(t, memory.New(time.Now))
	record(t, r,
		audit.Event{Kind: audit.KindExchange, Allowed: true, User: "alice"},
		audit.Event{Kind: audit.KindStop, Allowed: true, Subject: "user/alice"},
		audit.Event{Kind: audit.KindStop, Allowed: true, Subject: "agent/a suspended"},
		audit.Event{Kind: audit.KindStop, Allowed: true, Subject: "agent/a active"},
		audit.Event{Kind: audit.KindWithdraw, Allowed: true, Grant: "g"},
		audit.Event{Kind: audit.KindRevoke, JTI: "refused"},
		audit.Event{Kind: audit.KindRevoke, Allowed: true, JTI: "j"},
		audit.Event{Kind: audit.KindStop, Allowed: true, Subject: "user/who is active"},
	)
	for _, c := range []struct {
		after uint64
		limit int
		want  string
	}{{0, 10, "[2 3 5 7 8]"}, {0, 2, "[2 3]"}, {3, 10, "[5 7 8]"}, {8, 10, "[]"}} {
		events, err := l.Stops(t.Context(), c.after, c.limit)
		got := []uint64{}
		for _, e := range events {
			got = append(got, e.Seq)
		}
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("after %d: %v %v, want %s", c.after, got, err, c.want)
		}
	}
	last, ok, err := l.Event(t.Context(), 8)
	seq, hash, err2 := l.Head(t.Context())
	if err != nil || err2 != nil || !ok || seq != 8 || hash != last.Hash {
		t.Errorf("the end is %d %s: %v %v", seq, hash, err, err2)
	}
	if _, ok, err := l.Event(t.Context(), 9); ok || err != nil {
		t.Errorf("there is an event after the last: %v", err)
	}
	if n, err := l.Verify(t.Context(), func(uint64) {}); n != 8 || err != nil {
		t.Errorf("%d %v", n, err)
	}
}

func TestATimeIsFoundInTheLedger(t *testing.T) {
	t.Parallel()
	records := memory.New(time.Now)
	start := time.Unix(1_800_000_000, 0)
	now := start
	r := audit.NewRecorder(t.Context(), records, func() time.Time { return now })
	defer r.Close()
	l := audit.NewLedger(records)
	if seq, err := l.Before(t.Context(), start); seq != 0 || err != nil {
		t.Errorf("of an empty ledger: %d %v", seq, err)
	}
	for i := range 10 { // number i+1 happens ten minutes times i after the start
		now = start.Add(time.Duration(i) * 10 * time.Minute)
		record(t, r, audit.Event{Kind: audit.KindRedeem})
	}
	for _, c := range []struct {
		at   time.Duration
		want uint64
	}{{-time.Hour, 0}, {0, 0}, {2 * time.Minute, 1}, {35 * time.Minute, 4}, {90 * time.Minute, 9}, {2 * time.Hour, 10}} {
		if seq, err := l.Before(t.Context(), start.Add(c.at)); seq != c.want || err != nil {
			t.Errorf("before %s: %d %v, want %d", c.at, seq, err, c.want)
		}
	}
}
