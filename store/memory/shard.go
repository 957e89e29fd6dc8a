package memory

import (
	"bytes"
	"container/heap"
	"sync"
	"time"

	"obolus/store"
	"obolus/store/memory/commit"
)

// sweep is how many dead records one operation buries at most. A commit creates fewer on average, so the dead never
// pile up in a shard that is in use.
const sweep = 16

// shard holds every record of the partitions that hash to it.
type shard struct {
	mu      sync.Mutex
	records map[store.Key]*entry
	listed  map[string]*order
	mortals mortals
	last    uint64
}

type entry struct {
	store.Record
	listed bool
	place  int // in mortals; -1 for a record that never expires
}

func newShard() *shard {
	return &shard{records: map[store.Key]*entry{}, listed: map[string]*order{}}
}

func (s *shard) get(k store.Key, now time.Time) store.Record {
	e := s.records[k]
	if e == nil || !commit.Alive(e.Expires, now) {
		return store.Record{Key: k}
	}
	return e.Record
}

func (s *shard) read(k store.Key, now time.Time) store.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.get(k, now)
	rec.Key, rec.Value = k, bytes.Clone(rec.Value)
	return rec
}

func (s *shard) apply(c store.Commit, clock func() time.Time) (commit.Ruling, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := clock()
	s.bury(now, sweep+len(c.Writes))
	r, err := commit.Decide(c, commit.Moment{Now: now, Last: s.last}, func(name string) store.Record {
		return s.get(store.Key{Partition: c.Partition, Name: name}, now)
	})
	if err != nil {
		return r, err
	}
	s.last = r.Last
	for _, change := range r.Changes {
		s.put(change)
	}
	return r, nil
}

func (s *shard) put(c commit.Change) {
	if c.Deleted {
		s.drop(s.records[c.Key])
		return
	}
	e := s.records[c.Key]
	if e == nil {
		e = &entry{place: -1}
		both := c.Partition + c.Name // one string of our own, so that no caller's buffer is kept alive
		e.Key = store.Key{Partition: both[:len(c.Partition)], Name: both[len(c.Partition):]}
		s.records[e.Key] = e
	}
	e.Value, e.Version, e.Expires = bytes.Clone(c.Value), c.Version, c.Expires
	s.age(e)
	if c.Listed && !e.listed {
		e.listed = true
		s.enlist(e.Key)
	}
}

// age puts the entry where its expiry belongs.
func (s *shard) age(e *entry) {
	switch {
	case e.Expires.IsZero() && e.place >= 0:
		heap.Remove(&s.mortals, e.place)
	case e.Expires.IsZero():
	case e.place >= 0:
		heap.Fix(&s.mortals, e.place)
	default:
		heap.Push(&s.mortals, e)
	}
}

func (s *shard) enlist(k store.Key) {
	if s.listed[k.Partition] == nil {
		s.listed[k.Partition] = newOrder()
	}
	s.listed[k.Partition].insert(k.Name)
}

func (s *shard) drop(e *entry) {
	if e == nil {
		return
	}
	delete(s.records, e.Key)
	if e.place >= 0 {
		heap.Remove(&s.mortals, e.place)
	}
	if !e.listed {
		return
	}
	names := s.listed[e.Partition]
	names.remove(e.Name)
	if names.size == 0 {
		delete(s.listed, e.Partition)
	}
}

func (s *shard) bury(now time.Time, most int) {
	for ; most > 0 && len(s.mortals) > 0 && !commit.Alive(s.mortals[0].Expires, now); most-- {
		s.drop(s.mortals[0])
	}
}

func (s *shard) list(partition, after string, limit int, now time.Time) []store.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bury(now, sweep+limit)
	names := s.listed[partition]
	if names == nil {
		return nil
	}
	var found []store.Record
	for at := names.after(after); at != nil && len(found) < limit; at = at.next[0] {
		if rec := s.get(store.Key{Partition: partition, Name: at.name}, now); rec.Exists() {
			rec.Value = bytes.Clone(rec.Value)
			found = append(found, rec)
		}
	}
	return found
}

// mortals is a heap of the entries that expire, the next one first.
type mortals []*entry

func (m mortals) Len() int           { return len(m) }
func (m mortals) Less(i, j int) bool { return m[i].Expires.Before(m[j].Expires) }

func (m mortals) Swap(i, j int) {
	m[i], m[j] = m[j], m[i]
	m[i].place, m[j].place = i, j
}

// Push is for container/heap.
func (m *mortals) Push(x any) {
	if e, ok := x.(*entry); ok {
		e.place = len(*m)
		*m = append(*m, e)
	}
}

// Pop is for container/heap.
func (m *mortals) Pop() any {
	n := len(*m) - 1
	e := (*m)[n]
	(*m)[n] = nil
	*m = (*m)[:n]
	e.place = -1
	return e
}
