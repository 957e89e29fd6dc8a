package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// pending is the events above the mark of the later orders, as they were read last. Who looks into one of those orders looks through
// them, and reads only what has come since: the ledger does not change, it grows.
type pending struct {
	mu     sync.Mutex
	mark   uint64
	events []Event
}

// pendingMost bounds them. They are more only where entering fails for a long time.
const pendingMost = 4 * enterAfter

var errPending = errors.New("the events that were kept do not reach")

// above returns the matching events above a mark.
func (l *Ledger) above(ctx context.Context, f Filter, mark uint64) ([]Event, error) {
	events, err := l.pending.upTo(ctx, l, mark)
	if err != nil {
		return nil, err
	}
	var found []Event
	for i := range events {
		if len(found) == f.Limit {
			break
		}
		if events[i].Seq > f.After && f.matches(events[i]) {
			found = append(found, events[i])
		}
	}
	return found, nil
}

// upTo is all events above a mark. ErrPending says that they are too many, or that the mark is one of before.
func (t *pending) upTo(ctx context.Context, l *Ledger, mark uint64) ([]Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mark < t.mark {
		return nil, errPending
	}
	n := 0
	for n < len(t.events) && t.events[n].Seq <= mark {
		n++
	}
	t.mark, t.events = mark, t.events[n:]
	for {
		last := mark
		if n := len(t.events); n > 0 {
			last = t.events[n-1].Seq
		}
		recs, err := l.records.List(ctx, partition, eventName(last), 500)
		if err != nil {
			return nil, err
		}
		for _, rec := range recs {
			if !strings.HasPrefix(rec.Name, allEvents) {
				return t.events, nil
			}
			var e Event
			if err := json.Unmarshal(rec.Value, &e); err != nil {
				return nil, fmt.Errorf("read event %s: %w", rec.Name, err)
			}
			t.events = append(t.events, e)
		}
		if len(t.events) > pendingMost {
			t.events = nil
			return nil, errPending
		}
		if len(recs) < 500 {
			return t.events, nil
		}
	}
}
