package storetest

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"obolus/store"
)

func (t trial) conditions() {
	h := t.open()
	h.write(set("there", "older"))
	wrote := h.write(set("there", "v"), store.Write{Name: "five", Add: 5}, set("word", "hello"),
		set("low", fmt.Sprint(math.MinInt64)), set("high", fmt.Sprint(math.MaxInt64)))
	version := wrote[0].Version
	cond := func(is store.Check, name string) store.Condition { return store.Condition{Is: is, Name: name} }
	exact := func(name string, v uint64) store.Condition {
		return store.Condition{Is: store.AtVersion, Name: name, Version: v}
	}
	most := func(name string, n int64) store.Condition {
		return store.Condition{Is: store.AtMost, Name: name, Count: n}
	}
	for i, c := range []struct {
		name  string
		conds []store.Condition
		holds bool
	}{
		{"none", nil, true},
		{"absent: is", []store.Condition{cond(store.Absent, "none")}, true},
		{"absent: is not", []store.Condition{cond(store.Absent, "there")}, false},
		{"present: is", []store.Condition{cond(store.Present, "there")}, true},
		{"present: is not", []store.Condition{cond(store.Present, "none")}, false},
		{"version: exact", []store.Condition{exact("there", version)}, true},
		{"version: older", []store.Condition{exact("there", version-1)}, false},
		{"version: newer", []store.Condition{exact("there", version+1)}, false},
		{"version: out of this world", []store.Condition{exact("there", math.MaxUint64)}, false},
		{"version: of nothing", []store.Condition{exact("none", 1)}, false},
		{"most: below", []store.Condition{most("five", 4)}, false},
		{"most: exact", []store.Condition{most("five", 5)}, true},
		{"most: above", []store.Condition{most("five", 6)}, true},
		{"most: nothing counts zero", []store.Condition{most("none", 0)}, true},
		{"most: nothing is above minus one", []store.Condition{most("none", -1)}, false},
		{"most: a word counts zero", []store.Condition{most("word", 0)}, true},
		{"most: a word is above minus one", []store.Condition{most("word", -1)}, false},
		{"most: lowest", []store.Condition{most("low", math.MinInt64)}, true},
		{"most: highest", []store.Condition{most("high", math.MaxInt64)}, true},
		{"most: one below the highest", []store.Condition{most("high", math.MaxInt64-1)}, false},
		{"all hold", []store.Condition{cond(store.Absent, "none"), exact("there", version), most("five", 5)}, true},
		{"the first fails", []store.Condition{cond(store.Present, "none"), exact("there", version)}, false},
		{"the last fails", []store.Condition{exact("there", version), most("five", 4)}, false},
	} {
		mark := fmt.Sprint("mark", i)
		out := h.commit(store.Commit{Partition: "p", If: c.conds, Writes: []store.Write{set(mark, "")}})
		want(t, c.name+": applied", out.Applied, c.holds)
		want(t, c.name+": happened", h.read(mark)[0].Exists(), c.holds)
		want(t, c.name+": late", out.Late, false)
		seen(t.T, h, c.conds, out.Seen)
	}
}

// seen checks that the records an outcome reports are the ones stored.
func seen(t *testing.T, h handle, conds []store.Condition, got []store.Record) {
	t.Helper()
	if len(got) != len(conds) {
		t.Fatalf("%d conditions, %d records seen", len(conds), len(got))
	}
	for i, c := range conds {
		if stored := h.read(c.Name)[0]; !same(got[i], stored) {
			t.Errorf("seen %+v, stored %+v", got[i], stored)
		}
	}
}

func (t trial) refusal() {
	h := t.open()
	before := h.write(set("a", "1"), store.Write{Name: "n", Add: 3}, store.Write{Name: "l", Value: []byte("x"), Listed: true})
	out := h.commit(store.Commit{
		Partition: "p",
		If:        []store.Condition{{Name: "a", Is: store.Present}, {Name: "none", Is: store.Present}},
		Writes: []store.Write{
			set("a", "2"),
			{Name: "n", Add: 1},
			{Name: "l", Delete: true, Listed: true},
			{Name: "new", Value: []byte("x"), Listed: true},
		},
	})
	if out.Applied || out.Late || len(out.Wrote) != 0 {
		t.Errorf("got %+v, want refused", out)
	}
	after := h.read("a", "n", "l")
	for i := range before {
		if !same(before[i], after[i]) {
			t.Errorf("refused, and yet %+v became %+v", before[i], after[i])
		}
	}
	want(t, "created by a refused commit", h.read("new")[0].Exists(), false)
	want(t, "listed", h.list("p", "", 10), "l")
}

func (t trial) notAfter() {
	h := t.open()
	h.write(set("a", "1"))
	now := h.do(store.Batch{}).Now
	for _, c := range []struct {
		name string
		at   time.Time
		late bool
	}{
		{"none", time.Time{}, false},
		{"far", now.Add(time.Hour), false},
		{"past", now.Add(-time.Second), true},
		{"long past", time.Unix(1, 0), true},
	} {
		out := h.commit(store.Commit{
			Partition: "p", NotAfter: c.at,
			If:     []store.Condition{{Name: "a", Is: store.Present}},
			Writes: []store.Write{set("b", c.name)},
		})
		want(t, c.name+": late", out.Late, c.late)
		want(t, c.name+": applied", out.Applied, !c.late)
		seen(t.T, h, []store.Condition{{Name: "a"}}, out.Seen)
	}
	want(t, "written in time", string(h.read("b")[0].Value), "far")
}

func (t trial) counters() {
	h := t.open()
	h.write(set("word", "hello"), set("plus", "+7"))
	for _, c := range []struct {
		name string
		add  int64
		want string
	}{
		{"n", 3, "3"},
		{"n", -5, "-2"},
		{"n", 1 << 60, fmt.Sprint(1<<60 - 2)},
		{"n", 1, fmt.Sprint(1<<60 - 1)},
		{"m", math.MaxInt64, fmt.Sprint(math.MaxInt64)},
		{"m", -math.MaxInt64, "0"},
		{"m", -math.MaxInt64, fmt.Sprint(-math.MaxInt64)},
		{"m", -1, fmt.Sprint(math.MinInt64)},
		{"word", 2, "2"},
		{"plus", 1, "8"},
	} {
		wrote := h.write(store.Write{Name: c.name, Add: c.add})[0]
		want(t, "sum", string(wrote.Value), c.want)
		if got := h.read(c.name)[0]; !same(got, wrote) {
			t.Errorf("stored %+v, answered %+v", got, wrote)
		}
	}
}

func (t trial) counterLimits() {
	h := t.open()
	h.write(store.Write{Name: "high", Add: math.MaxInt64}, set("low", fmt.Sprint(math.MinInt64)))
	for name, add := range map[string]int64{"high": 1, "low": -1} {
		before := h.read(name)[0]
		c := store.Commit{Partition: "p", Writes: []store.Write{set("beside", ""), {Name: name, Add: add}}}
		if _, err := h.Do(t.Context(), store.Batch{Commits: []store.Commit{c}}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
		if after := h.read(name)[0]; !same(before, after) {
			t.Errorf("%s: %+v became %+v", name, before, after)
		}
		want(t, "written beside", h.read("beside")[0].Exists(), false)
	}
}

func (t trial) batches() {
	h := t.open()
	res := h.do(store.Batch{
		Commits: []store.Commit{
			{Partition: "p", Writes: []store.Write{set("a", "1")}},
			{Partition: "q", If: []store.Condition{{Name: "a", Is: store.Present}}, Writes: []store.Write{set("b", "no")}},
			{Partition: "p", If: []store.Condition{{Name: "a", Is: store.Present}}, Writes: []store.Write{{Name: "n", Add: 2}}},
			{Partition: "q", Writes: []store.Write{set("a", "2")}},
			{Partition: "p", Writes: []store.Write{{Name: "n", Add: 2}}},
			{Partition: "p", If: []store.Condition{{Name: "a", Is: store.Present}}},
		},
		Reads: []store.Key{{Partition: "p", Name: "n"}, {Partition: "q", Name: "b"}, {Partition: "q", Name: "a"}, {Partition: "p", Name: "a"}},
	})
	for i, applied := range []bool{true, false, true, true, true, true} {
		want(t, fmt.Sprintf("commit %d applied", i), res.Outcomes[i].Applied, applied)
	}
	for i, value := range []string{"4", "", "2", "1"} {
		want(t, fmt.Sprintf("read %d after the commits", i), string(res.Records[i].Value), value)
	}
	if later := h.do(store.Batch{}).Now; res.Now.IsZero() || later.Before(res.Now) {
		t.Errorf("the store's clock: %v, then %v", res.Now, later)
	}
	want(t, "empty batch", len(h.do(store.Batch{}).Records), 0)
}
