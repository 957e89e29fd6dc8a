package admin

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"obolus/audit"
)

// EventList is a part of the ledger.
type EventList struct {
	Events []audit.Event `json:"events"`
	Next   uint64        `json:"next,omitempty"` // after of what follows; absent: nothing does yet
}

// Verification is what came of walking the whole chain.
type Verification struct {
	Whole   bool   `json:"whole"`
	Events  uint64 `json:"events"` // that fit
	Problem string `json:"problem,omitempty"`
}

func (s *Server) auditRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: "/audit", name: "listEvents", about: "The ledger, in the order things happened or newest first.",
			query: []parameter{
				{name: "txn", about: "only events of this transaction"},
				{name: "agent", about: "only events in which this agent acted"},
				{name: "user", about: "only events of this user"},
				{name: "kind", about: "only events of this kind"},
				{name: "since", about: "only events from this time on, RFC 3339"},
				{name: "after", about: "only events with a higher number", number: true},
				{name: "limit", about: "at most so many, 1 to 1000; 100 if not said", number: true},
				{name: "order", about: "oldest first if not said", enum: []string{"oldest", "newest"}},
			},
			out: EventList{}, do: s.listEvents,
		},
		{
			method: http.MethodGet, path: "/audit/verify", name: "verifyLedger",
			about: "Walk the chain of hashes from the first event to the last.", out: Verification{}, do: s.verify,
		},
	}
}

func (s *Server) listEvents(ctx context.Context, c call) (answer, error) {
	f := audit.Filter{
		Txn: c.query.Get("txn"), User: c.query.Get("user"), Actor: c.query.Get("agent"), Kind: audit.Kind(c.query.Get("kind")),
	}
	var err error
	if f.Limit, err = c.limit(); err != nil {
		return answer{}, err
	}
	if text := c.query.Get("after"); text != "" {
		if f.After, err = strconv.ParseUint(text, 10, 64); err != nil {
			return answer{}, malformed("after is the number of an event")
		}
	}
	if text := c.query.Get("since"); text != "" {
		since, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return answer{}, malformed("since is a time like 2030-01-02T15:04:05Z")
		}
		before, err := s.before(ctx, since)
		if err != nil {
			return answer{}, err
		}
		f.After = max(f.After, before)
	}
	if c.query.Get("order") == "newest" {
		events, err := s.cfg.Ledger.Latest(ctx, f)
		return answer{body: list(events, 0)}, err
	}
	events, err := s.cfg.Ledger.Events(ctx, f)
	return answer{body: list(events, f.Limit)}, err
}

func list(events []audit.Event, limit int) EventList {
	out := EventList{Events: events}
	if events == nil {
		out.Events = []audit.Event{}
	}
	if limit > 0 && len(events) == limit {
		out.Next = events[limit-1].Seq
	}
	return out
}

// before finds the number of the last event that happened before a time, without walking there: first in growing steps
// until the time or the end is passed, then by halves.
func (s *Server) before(ctx context.Context, t time.Time) (uint64, error) {
	earlier := func(after uint64) (bool, error) {
		events, err := s.cfg.Ledger.Events(ctx, audit.Filter{After: after, Limit: 1})
		return len(events) == 1 && events[0].At.Before(t), err
	}
	low, step := uint64(0), uint64(1) // event low is earlier, or there is none such
	for {
		ok, err := earlier(low + step - 1)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		low, step = low+step, step*2
	}
	for high := low + step; low+1 < high; {
		middle := low + (high-low)/2
		ok, err := earlier(middle - 1)
		if err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

func (s *Server) verify(ctx context.Context, _ call) (answer, error) {
	n, err := s.cfg.Ledger.Verify(ctx, func(uint64) {})
	if err == nil {
		return answer{body: Verification{Whole: true, Events: n}}, nil
	}
	if p := asProblem(err); p.Status == http.StatusServiceUnavailable {
		return answer{}, err
	}
	return answer{body: Verification{Events: n, Problem: err.Error()}}, nil
}
