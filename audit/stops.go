package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"obolus/store"
)

// stopsOrder is the order of the events that stop something.
const stopsOrder = "s/"

// Stops says whether the event ended tokens that had been issued.
func (e Event) Stops() bool {
	switch e.Kind {
	case KindWithdraw, KindRevoke:
		return e.Allowed
	case KindStop:
		_, state, _ := strings.Cut(e.Subject, " ")
		resumed := strings.HasPrefix(e.Subject, "agent/") && (state == "active" || state == "proposed") // the id of an agent has no space
		return e.Allowed && !resumed
	default:
		return false
	}
}

// Event is the event of a number; false: there is none.
func (l *Ledger) Event(ctx context.Context, seq uint64) (Event, bool, error) {
	recs, err := store.Read(ctx, l.records, store.Key{Partition: partition, Name: eventName(seq)})
	if err != nil || !recs[0].Exists() {
		return Event{}, false, err
	}
	var e Event
	if err := json.Unmarshal(recs[0].Value, &e); err != nil {
		return Event{}, false, fmt.Errorf("read event %d: %w", seq, err)
	}
	return e, true, nil
}

// Stops returns the events above a number that stopped something, in their order.
func (l *Ledger) Stops(ctx context.Context, after uint64, limit int) ([]Event, error) {
	recs, err := l.records.List(ctx, partition, stopsOrder+place(after), limit)
	if err != nil {
		return nil, err
	}
	n := 0
	for n < len(recs) && strings.HasPrefix(recs[n].Name, stopsOrder) {
		n++
	}
	return l.match(ctx, Filter{Limit: limit}, recs[:n], nil)
}

// skew is how far the clocks of the servers that write may be apart.
const skew = time.Minute

// Before is the number of an event such that all that happened at a time or later have higher ones.
func (l *Ledger) Before(ctx context.Context, at time.Time) (uint64, error) {
	high, _, err := l.Head(ctx)
	if err != nil {
		return 0, err
	}
	at = at.Add(-skew)
	low := uint64(0) // it is before at, and high+1 is not
	for low < high {
		middle := low + (high-low+1)/2
		e, ok, err := l.Event(ctx, middle)
		if err != nil {
			return 0, err
		}
		if ok && !e.At.Before(at) {
			high = middle - 1
		} else {
			low = middle
		}
	}
	return low, nil
}
