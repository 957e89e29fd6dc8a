package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"obolus/store"
)

// Ledger reads what was recorded.
type Ledger struct {
	records store.Engine
	pending pending
}

// NewLedger reads from records.
func NewLedger(records store.Engine) *Ledger { return &Ledger{records: records} }

// Filter selects events: all members that are set must match. At most one of Txn, User and Actor is looked up; the others
// are compared.
type Filter struct {
	Txn, User, Actor string
	Kind             Kind
	After            uint64 // only events with a higher number
	Limit            int    // 1 to 1000; zero: 100
}

// Events returns the matching events in the order they happened.
func (l *Ledger) Events(ctx context.Context, f Filter) ([]Event, error) {
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 100
	}
	prefix := f.prefix()
	if prefix == allEvents || f.Txn != "" {
		return l.along(ctx, f, prefix, math.MaxUint64)
	}
	mark, err := readEntered(ctx, l.records)
	if err != nil {
		return nil, err
	}
	found, err := l.along(ctx, f, prefix, mark.seq)
	if err != nil || len(found) == f.Limit || mark.seq == math.MaxUint64 {
		return found, err
	}
	f.After, f.Limit = max(f.After, mark.seq), f.Limit-len(found)
	rest, err := l.above(ctx, f, mark.seq)
	if errors.Is(err, errPending) {
		rest, err = l.along(ctx, f, allEvents, math.MaxUint64)
	}
	return append(found, rest...), err
}

// along returns the matching events of one order up to a number.
func (l *Ledger) along(ctx context.Context, f Filter, prefix string, upTo uint64) ([]Event, error) {
	after, last := prefix+place(f.After), prefix+place(upTo)
	var found []Event
	for len(found) < f.Limit {
		recs, err := l.records.List(ctx, partition, after, 500)
		if err != nil {
			return nil, err
		}
		n := 0
		for n < len(recs) && strings.HasPrefix(recs[n].Name, prefix) && recs[n].Name <= last {
			n++
		}
		if n == 0 {
			break
		}
		after = recs[n-1].Name
		if found, err = l.match(ctx, f, recs[:n], found); err != nil {
			return nil, err
		}
		if n < 500 {
			break
		}
	}
	return found, nil
}

// allEvents is the order of all events.
const allEvents = "e/"

// recent is how far back Latest looks at first, and where no index narrows the search, at all.
const recent = 5000

// Latest returns the newest matching events, newest first. Without a Txn, User or Actor it looks through the last 5000
// events only; with one it looks further back, in steps that grow, until it has found enough.
func (l *Ledger) Latest(ctx context.Context, f Filter) ([]Event, error) {
	limit := f.Limit
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	end, err := l.end(ctx)
	if err != nil {
		return nil, err
	}
	for back, first := uint64(recent), f.After; ; back *= 16 {
		f.After = first
		if end.Seq > back {
			f.After = max(first, end.Seq-back)
		}
		last, err := l.lastAfter(ctx, f, limit)
		if err != nil || len(last) == limit || f.After == first || f.prefix() == allEvents {
			slices.Reverse(last)
			return last, err
		}
	}
}

// lastAfter are the last events of those that match.
func (l *Ledger) lastAfter(ctx context.Context, f Filter, limit int) ([]Event, error) {
	f.Limit = 1000
	var last []Event
	for {
		events, err := l.Events(ctx, f)
		if err != nil {
			return nil, err
		}
		last = append(last, events...)
		last = last[max(0, len(last)-limit):]
		if len(events) < f.Limit {
			return last, nil
		}
		f.After = events[len(events)-1].Seq
	}
}

// Verify walks the whole chain and returns how many events it holds, or the first one that does not fit.
func (l *Ledger) Verify(ctx context.Context, progress func(seq uint64)) (uint64, error) {
	end := head{}
	for {
		events, err := l.Events(ctx, Filter{After: end.Seq, Limit: 500})
		if err != nil {
			return end.Seq, err
		}
		for _, e := range events {
			sum, err := e.sum()
			if err != nil || sum != e.Hash || e.Prev != end.Hash || e.Seq != end.Seq+1 {
				return end.Seq, fmt.Errorf("event %d does not follow event %d: the ledger was changed or is incomplete", e.Seq, end.Seq)
			}
			end = head{Seq: e.Seq, Hash: e.Hash}
		}
		progress(end.Seq)
		if len(events) < 500 {
			return l.checkEnd(ctx, end)
		}
	}
}

// checkEnd compares the last event with the remembered end, so that cutting events off the end is noticed too.
func (l *Ledger) checkEnd(ctx context.Context, end head) (uint64, error) {
	kept, err := l.end(ctx)
	if err != nil {
		return end.Seq, err
	}
	if kept.Seq < end.Seq || kept.Seq == end.Seq && kept.Hash != end.Hash {
		return end.Seq, fmt.Errorf("the ledger ends at event %d but remembers event %d as its last", end.Seq, kept.Seq)
	}
	if kept.Seq > end.Seq {
		more, err := l.Events(ctx, Filter{After: end.Seq, Limit: 1})
		if err == nil && len(more) == 0 {
			return end.Seq, fmt.Errorf("events %d to %d are missing from the end of the ledger", end.Seq+1, kept.Seq)
		}
	}
	return end.Seq, nil
}

// Head is the number and the hash of the last event; zero when there is none.
func (l *Ledger) Head(ctx context.Context) (seq uint64, hash string, err error) {
	end, err := l.end(ctx)
	return end.Seq, end.Hash, err
}

// HeadIn reads the number and the hash of the last event from the record that keeps them; ok is false for any other record.
func HeadIn(rec store.Record) (seq uint64, hash string, ok bool) {
	var kept head
	if rec.Key != (store.Key{Partition: partition, Name: headName}) || json.Unmarshal(rec.Value, &kept) != nil {
		return 0, "", false
	}
	return kept.Seq, kept.Hash, true
}

func (l *Ledger) end(ctx context.Context) (head, error) {
	recs, err := store.Read(ctx, l.records, store.Key{Partition: partition, Name: headName})
	if err != nil || !recs[0].Exists() {
		return head{}, err
	}
	var kept head
	err = json.Unmarshal(recs[0].Value, &kept)
	return kept, err
}

// match reads the events that are listed in an order, and appends those that the filter wants.
func (l *Ledger) match(ctx context.Context, f Filter, listed []store.Record, found []Event) ([]Event, error) {
	recs, err := l.eventsOf(ctx, listed)
	if err != nil {
		return nil, err
	}
	words := f.words()
	for _, rec := range recs {
		if slices.ContainsFunc(words, func(w []byte) bool { return !bytes.Contains(rec.Value, w) }) {
			continue // it need not be read
		}
		var e Event
		if err := json.Unmarshal(rec.Value, &e); err != nil {
			return nil, fmt.Errorf("read event %s: %w", rec.Name, err)
		}
		if f.matches(e) && len(found) < f.Limit {
			found = append(found, e)
		}
	}
	return found, nil
}

// eventsOf are the events of entries of one order.
func (l *Ledger) eventsOf(ctx context.Context, listed []store.Record) ([]store.Record, error) {
	if len(listed) == 0 || strings.HasPrefix(listed[0].Name, allEvents) {
		return listed, nil
	}
	keys := make([]store.Key, len(listed))
	for i, rec := range listed {
		keys[i] = store.Key{Partition: partition, Name: allEvents + rec.Name[strings.LastIndexByte(rec.Name, '/')+1:]}
	}
	return store.Read(ctx, l.records, keys...)
}

// words are in the JSON of every event that the filter wants.
func (f Filter) words() [][]byte {
	var words [][]byte
	for _, value := range []string{f.Txn, f.User, f.Actor} {
		if quoted, err := json.Marshal(value); err == nil && value != "" {
			words = append(words, quoted)
		}
	}
	return words
}

func (f Filter) matches(e Event) bool {
	enteredAs := func(want, have string) bool { return want == "" || have == want && enterable(&e, have) }
	return enteredAs(f.Txn, e.Txn) && enteredAs(f.User, e.User) && enteredAs(f.Actor, e.Actor) && (f.Kind == "" || e.Kind == f.Kind)
}

// prefix is the narrowest order of the ledger that holds everything the filter wants.
func (f Filter) prefix() string {
	switch {
	case f.Txn != "":
		return index("txn", f.Txn)
	case f.User != "":
		return index("user", f.User)
	case f.Actor != "":
		return index("actor", f.Actor)
	default:
		return allEvents
	}
}
