package audit_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"obolus/audit"
	"obolus/store"
	"obolus/store/memory"
)

// listing counts how many records are listed.
type listing struct {
	store.Engine
	records atomic.Int64
}

func (l *listing) List(ctx context.Context, partition, after string, limit int) ([]store.Record, error) {
	recs, err := l.Engine.List(ctx, partition, after, limit)
	l.records.Add(int64(len(recs)))
	return recs, err
}

// TestWhatIsNotEnteredYetIsReadOnce looks into the order of one user again and again, as whoever follows stops does.
func TestWhatIsNotEnteredYetIsReadOnce(t *testing.T) {
	t.Parallel()
	records := &listing{Engine: memory.New(time.Now)}
	r := audit.NewRecorder(t.Context(), records, time.Now)
	t.Cleanup(r.Close)
	crowd(t, 2000, r)
	l := audit.NewLedger(records)
	look := func(want int) int64 {
		t.Helper()
		before := records.records.Load()
		events, err := l.Events(t.Context(), audit.Filter{User: "late", Limit: 100})
		if err != nil || len(events) != want {
			t.Fatalf("%d events, %v; want %d", len(events), err, want)
		}
		return records.records.Load() - before
	}
	look(0)
	for i := range 5 {
		record(t, r, audit.Event{Kind: audit.KindConsent, User: "late"})
		if n := look(i + 1); n > 600 {
			t.Errorf("%d records were read to find one more event", n)
		}
	}
}
