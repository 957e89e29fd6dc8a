package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"

	"obolus/store"
)

// An event is entered into further orders: by its transaction and, if it stops something, among the stops when it is written; by
// its user and by its actor later, many events at once and sorted. Transactions follow each other, so their entries lie together;
// users come in no order, and each entry of theirs would be another page to write for every event.
//
// A record tells up to which event those later orders are complete. Above that nothing in them counts, and who looks into one of
// them looks through the events themselves.

const (
	enteredName = "entered" // the number of the last event that is in all orders; absent: they all are

	enterAfter = 4096 // events that are left to be entered at once
	enterParts = 256  // entries in one commit
	enterAsk   = 512  // events after which it is looked again how many there are
)

func eventName(seq uint64) string { return "e/" + place(seq) }

// place is a number such that greater ones come later.
func place(seq uint64) string {
	const width = 20
	digits := strconv.FormatUint(seq, 10)
	return "00000000000000000000"[:width-len(digits)] + digits
}

// index is where an order begins. Values are escaped: a slash in one must not lead into the order of another.
func index(kind, value string) string { return "x/" + kind + "/" + url.QueryEscape(value) + "/" }

// atOnce are the orders an event is entered into when it is written. Values that did not come from a record of ours, as in
// the event of a failed authentication, are entered nowhere.
func atOnce(e *Event) []string {
	var names []string
	if enterable(e, e.Txn) {
		names = append(names, index("txn", e.Txn)+place(e.Seq))
	}
	if e.Stops() {
		names = append(names, stopsOrder+place(e.Seq))
	}
	return names
}

// later are the orders it is entered into behind that.
func later(e *Event) []string {
	var names []string
	if enterable(e, e.User) {
		names = append(names, index("user", e.User)+place(e.Seq))
	}
	if enterable(e, e.Actor) {
		names = append(names, index("actor", e.Actor)+place(e.Seq))
	}
	return names
}

func enterable(e *Event, value string) bool {
	return value != "" && len(value) <= 256 && e.Kind != KindClient
}

// entered is how far the later orders are complete.
type entered struct {
	seq     uint64
	version uint64
}

func readEntered(ctx context.Context, records store.Engine) (entered, error) {
	recs, err := store.Read(ctx, records, store.Key{Partition: partition, Name: enteredName})
	if err != nil {
		return entered{}, err
	}
	if !recs[0].Exists() {
		return entered{seq: math.MaxUint64}, nil
	}
	seq, err := strconv.ParseUint(string(recs[0].Value), 10, 64)
	if err != nil {
		return entered{}, fmt.Errorf("read how far the ledger's orders go: %w", err)
	}
	return entered{seq: seq, version: recs[0].Version}, nil
}

// enterAll enters what has been left, whenever enough has gathered. What fails is done the next time: nothing is missed by it.
func (r *Recorder) enterAll() {
	for {
		select {
		case <-r.behind:
		case <-r.stop:
			return
		}
		for more := true; more; {
			var err error
			more, err = r.enter(r.entering)
			more = more && err == nil
		}
	}
}

// enter enters the next events if there are enough of them, and says whether it did. Several servers may be at it: they write the
// same, and the first one moves the mark.
func (r *Recorder) enter(ctx context.Context) (bool, error) {
	mark, err := readEntered(ctx, r.records)
	if err != nil {
		return false, err
	}
	ledger := NewLedger(r.records)
	end, err := ledger.end(ctx)
	if err != nil || end.Seq < mark.seq || end.Seq-mark.seq < enterAfter {
		return false, err
	}
	names, err := ledger.unentered(ctx, mark.seq)
	if err != nil {
		return false, err
	}
	slices.Sort(names)
	for chunk := range slices.Chunk(names, enterParts) {
		if err := r.enterChunk(ctx, mark, chunk, nil); err != nil {
			return false, err
		}
	}
	next := []byte(strconv.FormatUint(mark.seq+enterAfter, 10))
	return true, r.enterChunk(ctx, mark, nil, next)
}

// enterChunk makes entries, and moves the mark, unless somebody has moved it.
func (r *Recorder) enterChunk(ctx context.Context, mark entered, names []string, next []byte) error {
	c := store.Commit{Partition: partition, If: []store.Condition{{Name: enteredName, Is: store.AtVersion, Version: mark.version}}}
	for _, name := range names {
		c.Writes = append(c.Writes, store.Write{Name: name, Value: []byte("1"), Listed: true})
	}
	if next != nil {
		c.Writes = append(c.Writes, store.Write{Name: enteredName, Value: next})
	}
	out, err := store.Apply(ctx, r.records, c)
	if err == nil && !out.Applied {
		err = errors.New("another server has entered them")
	}
	return err
}

// unentered are the names under which the next events are entered.
func (l *Ledger) unentered(ctx context.Context, after uint64) ([]string, error) {
	var names []string
	for upTo := after + enterAfter; after < upTo; {
		recs, err := l.records.List(ctx, partition, eventName(after), int(min(upTo-after, 500)))
		if err != nil {
			return nil, err
		}
		for _, rec := range recs {
			var e struct { // what of an Event is entered
				Seq   uint64 `json:"seq"`
				Kind  Kind   `json:"kind"`
				User  string `json:"user"`
				Actor string `json:"actor"`
			}
			if err := json.Unmarshal(rec.Value, &e); err != nil || e.Seq != after+1 {
				return nil, errors.Join(fmt.Errorf("event %d is missing", after+1), err)
			}
			names, after = append(names, later(&Event{Seq: e.Seq, Kind: e.Kind, User: e.User, Actor: e.Actor})...), e.Seq
		}
		if len(recs) == 0 {
			return nil, fmt.Errorf("event %d is missing", after+1)
		}
	}
	return names, nil
}
