package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"obolus/store"
)

func (t trial) reading() {
	h := t.open()
	wrote := h.write(set("a", "1"), set("b", ""), store.Write{Name: "c", Value: []byte{0, 255, '\n'}, TTL: time.Hour})
	h.commit(store.Commit{Partition: "q", Writes: []store.Write{set("a", "other")}})
	got := h.read("c", "absent", "a", "b", "a")
	want(t, "absent exists", got[1].Exists(), false)
	want(t, "absent key", got[1].Key, store.Key{Partition: "p", Name: "absent"})
	for i, w := range []store.Record{wrote[2], {}, wrote[0], wrote[1], wrote[0]} {
		if w.Exists() && !same(got[i], w) {
			t.Errorf("record %d: got %+v, want %+v", i, got[i], w)
		}
	}
	want(t, "other partition", string(h.do(store.Batch{Reads: []store.Key{{Partition: "q", Name: "a"}}}).Records[0].Value), "other")
	if got[0].Expires.IsZero() || !got[2].Expires.IsZero() {
		t.Errorf("expiry: got %v and %v, want one and none", got[0].Expires, got[2].Expires)
	}
	got[2].Value[0] = 'x'
	want(t, "value after the answer was scribbled on", string(h.read("a")[0].Value), "1")
}

func (t trial) names() {
	h := t.open()
	odd := []string{
		"}", "{}", "a}b", "%7D", "%", "p:1", "'; --", `\`, " ", "名前", "a/b?c=d#e", strings.Repeat("n", store.MaxKey),
	}
	for _, partition := range odd {
		c := store.Commit{Partition: partition}
		for i, name := range odd {
			c.Writes = append(c.Writes, store.Write{Name: name, Value: []byte(partition + "|" + name), Listed: i%2 == 0})
		}
		if out := h.commit(c); !out.Applied {
			t.Fatalf("partition %q: not applied", partition)
		}
	}
	for _, partition := range odd {
		var keys []store.Key
		for _, name := range odd {
			keys = append(keys, store.Key{Partition: partition, Name: name})
		}
		for i, rec := range h.do(store.Batch{Reads: keys}).Records {
			want(t, "key", rec.Key, keys[i])
			want(t, "value", string(rec.Value), partition+"|"+odd[i])
		}
	}
}

func (t trial) versions() {
	h := t.open()
	last := uint64(1) // copies of what never existed have this one
	for i, w := range []store.Write{
		set("a", "1"),
		set("a", "1"),
		{Name: "a", Add: 1},
		{Name: "a", Delete: true},
		set("a", "2"),
		{Name: "a", Delete: true},
		{Name: "a", Delete: true},
		{Name: "a", Add: 5},
	} {
		rec := h.write(w)[0]
		if rec.Version <= last || rec.Version >= 1<<53 {
			t.Errorf("write %d: version %d after %d", i, rec.Version, last)
		}
		last = rec.Version
		stored := h.read("a")[0]
		if w.Delete {
			want(t, "deleted exists", stored.Exists(), false)
			want(t, "value of a deletion", len(rec.Value), 0)
			continue
		}
		if !same(stored, rec) {
			t.Errorf("write %d: stored %+v, answered %+v", i, stored, rec)
		}
	}
}

func (t trial) explicitVersions() {
	h := t.open()
	base := h.write(set("base", ""))[0].Version
	at := func(v uint64, value string) store.Write {
		return store.Write{Name: "a", Value: []byte(value), Version: v}
	}
	for _, step := range []struct {
		name    string
		write   store.Write
		value   string
		version uint64
	}{
		{"onto nothing", at(base+10, "first"), "first", base + 10},
		{"the same version", at(base+10, "again"), "first", base + 10},
		{"an older one", at(base+9, "old"), "first", base + 10},
		{"a newer one", at(base+20, "new"), "new", base + 20},
		{"an older one again", at(base+19, "old"), "new", base + 20},
	} {
		wrote := h.write(step.write)[0]
		want(t, step.name+": value", string(wrote.Value), step.value)
		want(t, step.name+": version", wrote.Version, step.version)
		if got := h.read("a")[0]; !same(got, wrote) {
			t.Errorf("%s: stored %+v, answered %+v", step.name, got, wrote)
		}
	}
	plain := h.write(set("a", "plain"))[0].Version
	if plain <= base+20 {
		t.Errorf("a plain write took version %d, not above %d", plain, base+20)
	}
	h.write(at(plain+5, "copy"))
	gone := h.write(store.Write{Name: "a", Delete: true, Version: base})[0].Version
	if gone <= plain+5 || h.read("a")[0].Exists() {
		t.Errorf("a deletion minds no version: took %d after %d", gone, plain+5)
	}
	if again := h.write(set("a", "again"))[0].Version; again <= gone {
		t.Errorf("created again with version %d, not above %d", again, gone)
	}
}

func (t trial) limits() {
	h := t.open()
	big := strings.Repeat("v", store.MaxValue)
	h.write(set("big", big))
	want(t, "the biggest value comes back", string(h.read("big")[0].Value) == big, true)
	many := make([]store.Key, store.MaxBatch)
	for i := range many {
		many[i] = store.Key{Partition: fmt.Sprint("p", i%7), Name: fmt.Sprint("n", i)}
	}
	h.do(store.Batch{Reads: many})
	twice := store.Commit{Partition: "p"}
	for i := range 40 {
		twice.Writes = append(twice.Writes, set(fmt.Sprint("n", i%39), ""))
	}
	one := func(c store.Commit) store.Batch { return store.Batch{Commits: []store.Commit{c}} }
	for _, c := range []struct {
		name  string
		batch store.Batch
		want  error
	}{
		{"value too big", one(store.Commit{Partition: "p", Writes: []store.Write{set("a", big+"v")}}), store.ErrTooBig},
		{"batch too big", store.Batch{Reads: slices.Concat(many, many[:1])}, store.ErrTooBig},
		{"no partition", one(store.Commit{Writes: []store.Write{set("a", "")}}), store.ErrInvalid},
		{"control character", store.Batch{Reads: []store.Key{{Partition: "p", Name: "a\nb"}}}, store.ErrInvalid},
		{"short life", one(store.Commit{Partition: "p", Writes: []store.Write{{Name: "a", TTL: time.Microsecond}}}), store.ErrInvalid},
		{"two writes of a name", one(store.Commit{Partition: "p", Writes: []store.Write{set("a", ""), set("a", "")}}), store.ErrInvalid},
		{"two of many writes of a name", one(twice), store.ErrInvalid},
		{"two conditions on a name", one(store.Commit{Partition: "p", If: []store.Condition{
			{Name: "a", Is: store.Absent}, {Name: "a", Is: store.Present},
		}}), store.ErrInvalid},
	} {
		if _, err := h.Do(t.Context(), c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	for _, limit := range []int{0, -1, 1001} {
		if _, err := h.List(t.Context(), "p", "", limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("list of %d: got %v", limit, err)
		}
	}
}
