package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/store"
)

// Copying holds an engine that remembers to its part of the contract: it can be looked at whole, and filled. Each call of open
// returns an engine on fresh, empty data, which the tests close.
func Copying(t *testing.T, open func(t *testing.T) store.Durable) {
	t.Helper()
	for _, part := range []struct {
		name string
		run  func(*testing.T, store.Durable)
	}{
		{"what is loaded is found", loadedIsFound},
		{"a snapshot does not move", snapshotStands},
		{"pages", pages},
		{"clearing", clearing},
		{"loads that are refused", refusedLoads},
		{"versions go on above", versionsGoOn},
		{"a snapshot ends", snapshotEnds},
	} {
		t.Run(part.name, func(t *testing.T) {
			e := open(t)
			t.Cleanup(func() { e.Close() })
			part.run(t, e)
		})
	}
}

// Entries draws records as an engine may hold them, in order. Those that expire do so in a year.
func Entries(rt *rapid.T, most int) []store.Entry {
	name := rapid.OneOf(rapid.StringMatching(`[ -~]{1,6}`), rapid.StringMatching(`[a-c]`), rapid.SampledFrom([]string{"é", "名前", "a/b", "a b", "~"}))
	var list []store.Entry
	for range rapid.IntRange(0, most).Draw(rt, "entries") {
		e := store.Entry{Listed: rapid.Bool().Draw(rt, "listed")}
		e.Key = store.Key{Partition: name.Draw(rt, "partition"), Name: name.Draw(rt, "name")}
		e.Value = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "value")
		e.Version = rapid.Uint64Range(1, 1<<52).Draw(rt, "version")
		if rapid.Bool().Draw(rt, "mortal") {
			e.Expires = time.UnixMilli(time.Now().UnixMilli()).Add(365 * 24 * time.Hour).UTC()
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b store.Entry) int { return a.Compare(b.Key) })
	return slices.CompactFunc(list, func(a, b store.Entry) bool { return a.Key == b.Key })
}

// Everything is what an engine holds, read in pages of a few.
func Everything(tb testing.TB, e store.Durable) []store.Entry {
	tb.Helper()
	var all []store.Entry
	err := e.Snapshot(tb.Context(), func(s store.Snapshot) error {
		for after := (store.Key{}); ; {
			page, err := s.Page(after, 7)
			if err != nil || len(page) == 0 {
				return err
			}
			after = page[len(page)-1].Key
			all = append(all, page...)
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// SameEntries compares what two engines hold.
func SameEntries(tb rapid.TB, got, want []store.Entry) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if !same(got[i].Record, want[i].Record) || got[i].Listed != want[i].Listed {
			tb.Fatalf("entry %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

func loadedIsFound(t *testing.T, e store.Durable) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		entries := Entries(rt, 30)
		half := rapid.IntRange(0, len(entries)).Draw(rt, "half")
		for _, l := range []store.Load{{Clear: true, Entries: entries[:half]}, {Entries: entries[half:]}} {
			if err := e.Load(t.Context(), l); err != nil {
				rt.Fatal(err)
			}
		}
		SameEntries(rt, Everything(t, e), entries)
		for _, entry := range entries {
			recs, err := store.Read(t.Context(), e, entry.Key)
			if err != nil || !same(recs[0], entry.Record) {
				rt.Fatalf("read %+v, %v, want %+v", recs, err, entry)
			}
			listed, err := e.List(t.Context(), entry.Partition, "", 1000)
			found := slices.ContainsFunc(listed, func(r store.Record) bool { return same(r, entry.Record) })
			if err != nil || found != entry.Listed {
				rt.Fatalf("%+v is listed: %v, %v", entry, found, err)
			}
		}
	})
}

func fill(t *testing.T, e store.Engine, n int, value string) {
	t.Helper()
	for i := range n {
		_, err := store.Apply(t.Context(), e, store.Commit{Partition: fmt.Sprint("p", i%3), Writes: []store.Write{
			{Name: fmt.Sprintf("n%03d", i), Value: []byte(value), Listed: i%2 == 0},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func snapshotStands(t *testing.T, e store.Durable) {
	t.Helper()
	fill(t, e, 20, "before")
	before := Everything(t, e)
	var seen []store.Entry
	err := e.Snapshot(t.Context(), func(s store.Snapshot) error {
		for after := (store.Key{}); ; {
			fill(t, e, 30, "after")
			_, err := store.Apply(t.Context(), e, store.Commit{Partition: "p0", Writes: []store.Write{{Name: "n018", Delete: true}}})
			page, failed := s.Page(after, 5)
			if err = errors.Join(err, failed); err != nil || len(page) == 0 {
				return err
			}
			after = page[len(page)-1].Key
			seen = append(seen, page...)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	SameEntries(t, seen, before)
	want(t, "what it is by now", len(Everything(t, e)), 29)
}

func pages(t *testing.T, e store.Durable) {
	t.Helper()
	fill(t, e, 10, "x")
	_, err := store.Apply(t.Context(), e, store.Commit{Partition: "q", Writes: []store.Write{{Name: "short", TTL: time.Minute}, {Name: "long", TTL: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Snapshot(t.Context(), func(s store.Snapshot) error {
		all, err := s.Page(store.Key{}, 1000)
		if err != nil {
			return err
		}
		want(t, "entries", len(all), 12)
		if last := all[len(all)-1].Version; s.Last < last || time.Until(s.Now).Abs() > 48*365*24*time.Hour {
			t.Errorf("snapshot %+v", s)
		}
		rest, err := s.Page(store.Key{Partition: "p1", Name: "nothing"}, 1)
		want(t, "after what is not there", fmt.Sprint(rest[0].Key, len(rest), err), fmt.Sprint(store.Key{Partition: "p2", Name: "n002"}, 1, nil))
		none, err := s.Page(store.Key{Partition: "q", Name: "short"}, 10)
		want(t, "after the last", fmt.Sprint(len(none), err), "0 <nil>")
		for _, limit := range []int{0, -1, 1001} {
			if _, err := s.Page(store.Key{}, limit); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("a page of %d: %v", limit, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func clearing(t *testing.T, e store.Durable) {
	t.Helper()
	fill(t, e, 10, "x")
	first, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entry := store.Entry{Record: store.Record{Key: store.Key{Partition: "a", Name: "a"}, Version: 7}}
	if err := e.Load(t.Context(), store.Load{Clear: true, Entries: []store.Entry{entry}}); err != nil {
		t.Fatal(err)
	}
	SameEntries(t, Everything(t, e), []store.Entry{entry})
	second, err := e.Fence(t.Context())
	if err != nil || second == first {
		t.Errorf("the fence is %q as before, %v", second, err)
	}
	if _, err := e.Do(t.Context(), store.Batch{Fence: first}); !errors.Is(err, store.ErrFence) {
		t.Errorf("who knew what was there before: %v", err)
	}
	if _, err := e.Do(t.Context(), store.Batch{Fence: second}); err != nil {
		t.Error(err)
	}
	if err := e.Load(t.Context(), store.Load{}); err != nil {
		t.Error(err)
	}
	if third, err := e.Fence(t.Context()); err != nil || third != second {
		t.Errorf("a load that clears nothing changed the fence, %v", err)
	}
}

func refusedLoads(t *testing.T, e store.Durable) {
	t.Helper()
	at := func(partition, name string, version uint64) store.Entry {
		return store.Entry{Record: store.Record{Key: store.Key{Partition: partition, Name: name}, Version: version}}
	}
	if err := e.Load(t.Context(), store.Load{Entries: []store.Entry{at("p", "there", 5)}}); err != nil {
		t.Fatal(err)
	}
	big, split := at("p", "n", 5), at("p", "n", 5)
	big.Value, split.Expires = make([]byte, store.MaxValue+1), time.Unix(2e9, 1)
	for name, l := range map[string]store.Load{
		"there already":         {Entries: []store.Entry{at("a", "a", 5), at("p", "there", 6)}},
		"out of order":          {Entries: []store.Entry{at("b", "a", 5), at("a", "b", 5)}},
		"twice":                 {Entries: []store.Entry{at("a", "a", 5), at("a", "a", 5)}},
		"no version":            {Entries: []store.Entry{at("a", "a", 0)}},
		"a version too high":    {Entries: []store.Entry{at("a", "a", 1<<53)}},
		"the last too high":     {Last: 1 << 53},
		"no name":               {Entries: []store.Entry{at("a", "", 5)}},
		"a name that is none":   {Entries: []store.Entry{at("a", "a\x00b", 5)}},
		"a value too big":       {Entries: []store.Entry{big}},
		"part of a millisecond": {Entries: []store.Entry{split}},
	} {
		if err := e.Load(t.Context(), l); !errors.Is(err, store.ErrInvalid) && !errors.Is(err, store.ErrTooBig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	SameEntries(t, Everything(t, e), []store.Entry{at("p", "there", 5)})
}

func versionsGoOn(t *testing.T, e store.Durable) {
	t.Helper()
	entry := store.Entry{Record: store.Record{Key: store.Key{Partition: "p", Name: "n"}, Version: 1 << 30}}
	for _, l := range []store.Load{{Entries: []store.Entry{entry}}, {Last: 1 << 40}, {Last: 3}} {
		if err := e.Load(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		out, err := store.Apply(t.Context(), e, store.Commit{Partition: "p", Writes: []store.Write{{Name: "m", Value: []byte("x")}}})
		if err != nil || out.Wrote[0].Version <= max(l.Last, entry.Version) {
			t.Errorf("after %d and %d: %+v, %v", entry.Version, l.Last, out, err)
		}
	}
	err := e.Snapshot(t.Context(), func(s store.Snapshot) error {
		if s.Last <= 1<<40 {
			t.Errorf("the last version is told to be %d", s.Last)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func snapshotEnds(t *testing.T, e store.Durable) {
	t.Helper()
	mine := errors.New("seen enough")
	if err := e.Snapshot(t.Context(), func(store.Snapshot) error { return mine }); !errors.Is(err, mine) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := e.Snapshot(ctx, func(s store.Snapshot) error {
		cancel()
		_, err := s.Page(store.Key{}, 1)
		return err
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a page when the caller has gone: %v", err)
	}
	if err := e.Load(ctx, store.Load{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a load when the caller has gone: %v", err)
	}
	fill(t, e, 1, "goes on")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Snapshot(t.Context(), func(store.Snapshot) error { return nil }); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a snapshot of what is closed: %v", err)
	}
	if err := e.Load(t.Context(), store.Load{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a load of what is closed: %v", err)
	}
}
