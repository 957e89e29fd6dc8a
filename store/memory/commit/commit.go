// Package commit decides what a commit does, for engines that have the records at hand: it checks the conditions,
// counts, and gives out versions, without changing anything. Holding the records, making the changes and keeping
// commits of one partition apart is the engine's part.
package commit

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"obolus/store"
)

// Moment is what a decision rests on besides the records: the store's clock, and the highest version that was ever
// given to a record of the partition.
type Moment struct {
	Now  time.Time
	Last uint64
}

// Change is one record as a commit leaves it. Its value may be the caller's, so an engine that keeps it copies it.
type Change struct {
	store.Record
	Deleted bool
	Listed  bool
}

// Ruling is a decided commit: the answer, the changes to make (none when refused) and the highest version after it.
type Ruling struct {
	Outcome store.Outcome
	Changes []Change
	Last    uint64
}

// floor is below every version given out: copies of what never existed have version one.
const floor = 1

// Decide rules on a commit. The records that get returns are the living ones, with version zero for an absent one;
// their values are borrowed for the call. The only error is ErrInvalid, for a sum or a version out of range.
func Decide(c store.Commit, m Moment, get func(name string) store.Record) (Ruling, error) {
	r := Ruling{Last: m.Last}
	holds := r.look(c, get)
	r.Outcome.Late = !c.NotAfter.IsZero() && m.Now.UnixMilli() > c.NotAfter.UnixMilli()
	if !holds || r.Outcome.Late {
		return r, nil
	}
	r.Changes = make([]Change, 0, len(c.Writes))
	r.Outcome.Wrote = make([]store.Record, 0, len(c.Writes))
	for _, w := range c.Writes {
		var old store.Record
		if w.Version != 0 || w.Add != 0 { // only these depend on what there is
			old = get(w.Name)
		}
		if err := r.write(w, store.Key{Partition: c.Partition, Name: w.Name}, m.Now, old); err != nil {
			return Ruling{Outcome: store.Outcome{Seen: r.Outcome.Seen}, Last: m.Last}, err
		}
	}
	r.Outcome.Applied = true
	return r, nil
}

func (r *Ruling) look(c store.Commit, get func(name string) store.Record) bool {
	holds := true
	r.Outcome.Seen = make([]store.Record, 0, len(c.If))
	for _, cond := range c.If {
		rec := get(cond.Name)
		rec.Key = store.Key{Partition: c.Partition, Name: cond.Name}
		rec.Value = bytes.Clone(rec.Value)
		r.Outcome.Seen = append(r.Outcome.Seen, rec)
		holds = Holds(cond, rec) && holds
	}
	return holds
}

// Holds says whether a record meets a condition.
func Holds(c store.Condition, r store.Record) bool {
	switch c.Is {
	case store.Absent:
		return !r.Exists()
	case store.Present:
		return r.Exists()
	case store.AtVersion:
		return r.Exists() && r.Version == c.Version
	case store.AtMost:
		return r.Count() <= c.Count
	default:
		return false
	}
}

func (r *Ruling) write(w store.Write, k store.Key, now time.Time, old store.Record) error {
	if w.Version != 0 && !w.Delete && old.Version >= w.Version {
		old.Key, old.Value = k, bytes.Clone(old.Value)
		r.Outcome.Wrote = append(r.Outcome.Wrote, old)
		return nil
	}
	rec := store.Record{Key: k, Value: w.Value, Version: max(r.Last, floor) + 1}
	if w.TTL > 0 {
		rec.Expires = Expiry(now, w.TTL)
	}
	switch {
	case w.Delete:
		rec.Value, rec.Expires = nil, time.Time{}
	case w.Add != 0:
		sum, ok := add(old.Count(), w.Add)
		if !ok {
			return fmt.Errorf("%w: counter %q leaves the range of int64", store.ErrInvalid, w.Name)
		}
		rec.Value = strconv.AppendInt(nil, sum, 10)
		if old.Exists() {
			rec.Expires = old.Expires
		}
	case w.Version != 0:
		rec.Version = w.Version
	}
	if rec.Version >= 1<<53 {
		return fmt.Errorf("%w: no version is left for %q", store.ErrInvalid, w.Name)
	}
	r.Last = max(r.Last, rec.Version)
	r.Changes = append(r.Changes, Change{Record: rec, Deleted: w.Delete, Listed: w.Listed})
	r.Outcome.Wrote = append(r.Outcome.Wrote, rec)
	return nil
}

func add(a, b int64) (int64, bool) {
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, false
	}
	return a + b, true
}

// Expiry is the moment at which a record written now with this time to live is gone; whole milliseconds.
func Expiry(now time.Time, ttl time.Duration) time.Time {
	return time.UnixMilli(now.UnixMilli() + ttl.Milliseconds()).UTC()
}

// Alive says whether a record that expires then is still there; the zero time never expires.
func Alive(expires, now time.Time) bool {
	return expires.IsZero() || now.UnixMilli() < expires.UnixMilli()
}
