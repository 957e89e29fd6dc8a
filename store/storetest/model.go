package storetest

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"pgregory.net/rapid"

	"obolus/store"
)

// model runs random batches against an engine and against the smallest thing that could keep the contract.
func (t trial) model() {
	h := t.open()
	runs := 0
	rapid.Check(t.T, func(rt *rapid.T) {
		runs++
		toy := toy{rt: rt, run: runs, cells: map[store.Key]cell{}, top: map[store.Key]uint64{}}
		for range rapid.IntRange(1, 8).Draw(rt, "batches") {
			b := toy.batch()
			res, err := h.Do(t.Context(), b)
			if err != nil {
				rt.Fatalf("do: %v", err)
			}
			toy.follow(b, res)
		}
		partition := toy.partition()
		listed, err := h.List(t.Context(), partition, "", 1000)
		if err != nil {
			rt.Fatalf("list: %v", err)
		}
		toy.compareList(partition, listed)
	})
}

// toy is the model. A cell that is not in the map is an absent record; top remembers the highest version of a name.
type toy struct {
	rt    *rapid.T
	run   int
	cells map[store.Key]cell
	top   map[store.Key]uint64
}

type cell struct {
	value   string
	version uint64
	mortal  bool
}

func (c cell) count() int64 { return store.Record{Value: []byte(c.value)}.Count() }

func (m *toy) partition() string {
	return fmt.Sprint("run", m.run, rapid.SampledFrom([]string{"a", "b"}).Draw(m.rt, "partition"))
}

// names draws distinct names; those in capitals are the listed ones.
func (m *toy) names() []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "C", "D"}), 0, 3, rapid.ID[string]).Draw(m.rt, "names")
}

func (m *toy) batch() store.Batch {
	var b store.Batch
	for range rapid.IntRange(0, 3).Draw(m.rt, "commits") {
		b.Commits = append(b.Commits, m.commit())
	}
	partition := m.partition()
	for _, name := range m.names() {
		b.Reads = append(b.Reads, store.Key{Partition: partition, Name: name})
	}
	return b
}

func (m *toy) commit() store.Commit {
	c := store.Commit{Partition: m.partition()}
	c.NotAfter = rapid.SampledFrom([]time.Time{{}, {}, {}, time.Unix(1<<33, 0), time.Unix(1, 0)}).Draw(m.rt, "not after")
	for _, name := range m.names() {
		c.If = append(c.If, store.Condition{
			Name:    name,
			Is:      rapid.SampledFrom([]store.Check{store.Absent, store.Present, store.AtVersion, store.AtMost}).Draw(m.rt, "check"),
			Version: max(1, m.cells[store.Key{Partition: c.Partition, Name: name}].version),
			Count:   rapid.Int64Range(-2, 4).Draw(m.rt, "count"),
		})
	}
	for _, name := range m.names() {
		c.Writes = append(c.Writes, m.write(store.Key{Partition: c.Partition, Name: name}))
	}
	return c
}

func (m *toy) write(k store.Key) store.Write {
	w := store.Write{Name: k.Name, Listed: strings.ToUpper(k.Name) == k.Name}
	w.TTL = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(m.rt, "ttl")
	switch rapid.SampledFrom([]string{"set", "delete", "add", "copy"}).Draw(m.rt, "write") {
	case "set":
		w.Value = rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(m.rt, "value")
	case "delete":
		w.Delete = true
	case "add":
		w.Add = rapid.SampledFrom([]int64{-2, -1, 1, 2, 1 << 40}).Draw(m.rt, "add")
	case "copy":
		w.Value = []byte("copy")
		w.Version = max(1, m.cells[k].version+rapid.Uint64Range(0, 4).Draw(m.rt, "version"), 2) - 1
	}
	return w
}

func (m *toy) follow(b store.Batch, res store.Results) {
	for i, c := range b.Commits {
		m.apply(c, res.Outcomes[i])
	}
	for i, k := range b.Reads {
		m.compare(k, res.Records[i])
	}
}

func (m *toy) apply(c store.Commit, out store.Outcome) {
	holds := true
	for i, cond := range c.If {
		k := store.Key{Partition: c.Partition, Name: cond.Name}
		m.compare(k, out.Seen[i])
		holds = m.holds(cond, m.cells[k]) && holds
	}
	late := !c.NotAfter.IsZero() && c.NotAfter.Before(time.Unix(2, 0))
	if out.Late != late || out.Applied != (holds && !late) {
		m.rt.Fatalf("commit %+v: got %+v, want holds %v, late %v", c, out, holds, late)
	}
	if !out.Applied {
		return
	}
	for i, w := range c.Writes {
		m.change(store.Key{Partition: c.Partition, Name: w.Name}, w, out.Wrote[i])
	}
}

func (m *toy) holds(c store.Condition, now cell) bool {
	return map[store.Check]bool{
		store.Absent:    now.version == 0,
		store.Present:   now.version != 0,
		store.AtVersion: now.version == c.Version,
		store.AtMost:    now.count() <= c.Count,
	}[c.Is]
}

func (m *toy) change(k store.Key, w store.Write, wrote store.Record) {
	old := m.cells[k]
	if w.Version != 0 && old.version >= w.Version {
		m.compare(k, wrote)
		return
	}
	fresh := cell{value: string(w.Value), version: wrote.Version, mortal: w.TTL > 0}
	switch {
	case w.Version != 0:
		fresh.version = w.Version
	case wrote.Version <= m.top[k]:
		m.rt.Fatalf("%v took version %d after %d", k, wrote.Version, m.top[k])
	case w.Add != 0:
		fresh.value = fmt.Sprint(old.count() + w.Add)
		fresh.mortal = old.version != 0 && old.mortal || old.version == 0 && fresh.mortal
	}
	m.top[k] = max(m.top[k], fresh.version)
	if w.Delete {
		delete(m.cells, k)
		return
	}
	m.cells[k] = fresh
	m.compare(k, wrote)
}

func (m *toy) compare(k store.Key, got store.Record) {
	c := m.cells[k]
	if got.Key != k || got.Version != c.version || string(got.Value) != c.value || got.Expires.IsZero() == c.mortal {
		m.rt.Fatalf("%v: got %+v, want %+v", k, got, c)
	}
}

func (m *toy) compareList(partition string, listed []store.Record) {
	var names []string
	for k := range m.cells {
		if k.Partition == partition && strings.ToUpper(k.Name) == k.Name {
			names = append(names, k.Name)
		}
	}
	sort.Strings(names)
	var got []string
	for _, r := range listed {
		m.compare(r.Key, r)
		got = append(got, r.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		m.rt.Fatalf("listed %v, want %v", got, names)
	}
}
