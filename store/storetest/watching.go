package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"obolus/store"
)

// patience bounds how long a test waits for what must come.
const patience = time.Minute

func (t trial) watching() {
	h := t.open()
	writer := h
	if t.Second != nil {
		writer = t.hold(t.Second(t.T))
	}
	told, err := h.Watch(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	writer.commit(store.Commit{Partition: "q", Writes: []store.Write{set("elsewhere", "")}})
	writer.commit(store.Commit{Partition: "p", If: []store.Condition{{Name: "x", Is: store.Present}}, Writes: []store.Write{set("refused", "")}})
	writer.write(set("a", "1"), set("b", "1"))
	writer.write(store.Write{Name: "a", Delete: true})
	writer.write(store.Write{Name: "end", Add: 1})
	got := map[string]bool{}
	for !got["end"] {
		name, ok := next(t.T, told)
		if !ok {
			t.Fatal("the watch ended by itself")
		}
		got[name] = true
	}
	want(t, "names told", len(got), 3)
	want(t, "told of a and b", got["a"] && got["b"], true)
	h.write(set("own", ""))
	name, _ := next(t.T, told)
	want(t, "told of our own", name, "own")
}

func (t trial) watchesEnd() {
	h := t.open()
	ctx, cancel := context.WithCancel(t.Context())
	first, err := h.Watch(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.Watch(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	ended(t.T, first)
	h.write(set("a", ""))
	name, _ := next(t.T, second)
	want(t, "the other watch goes on", name, "a")
	if err := h.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	ended(t.T, second)
}

func next(t *testing.T, told <-chan string) (string, bool) {
	t.Helper()
	select {
	case name, ok := <-told:
		return name, ok
	case <-time.After(patience):
		t.Fatal("nothing was told")
		return "", false
	}
}

func ended(t *testing.T, told <-chan string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-told:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatal("the watch does not end")
		}
	}
}

func (t trial) fence() {
	h := t.open()
	f, err := h.Fence(t.Context())
	if err != nil || f == "" {
		t.Fatalf("fence %q, %v", f, err)
	}
	if again, _ := h.Fence(t.Context()); again != f {
		t.Errorf("fence was %q and is %q", f, again)
	}
	c := []store.Commit{{Partition: "p", Writes: []store.Write{set("a", "1")}}}
	h.do(store.Batch{Fence: f, Commits: c, Reads: []store.Key{{Partition: "q", Name: "a"}}})
	h.do(store.Batch{Fence: f})
	for _, b := range []store.Batch{
		{Fence: "other", Commits: c},
		{Fence: "other", Reads: []store.Key{{Partition: "p", Name: "a"}}},
		{Fence: "other"},
	} {
		if _, err := h.Do(t.Context(), b); !errors.Is(err, store.ErrFence) {
			t.Errorf("other fence: got %v", err)
		}
	}
	h.do(store.Batch{Fence: f})
	if t.Second == nil {
		return
	}
	second := t.hold(t.Second(t.T))
	second.do(store.Batch{Fence: f, Commits: c})
	if other, _ := second.Fence(t.Context()); other != f {
		t.Errorf("a second engine says %q, the first %q", other, f)
	}
}

func (t trial) contexts() {
	h := t.open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Do(ctx, store.Batch{Reads: []store.Key{{Partition: "p", Name: "a"}}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("do: got %v", err)
	}
	if _, err := h.List(ctx, "p", "", 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("list: got %v", err)
	}
	h.write(set("a", "1"))
}

func (t trial) closed() {
	e := t.Open(t.T)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	_, do := e.Do(t.Context(), store.Batch{})
	_, commit := store.Apply(t.Context(), e, store.Commit{Partition: "p", Writes: []store.Write{set("a", "")}})
	_, read := store.Read(t.Context(), e, store.Key{Partition: "p", Name: "a"})
	_, list := e.List(t.Context(), "p", "", 1)
	_, watch := e.Watch(t.Context(), "p")
	_, fence := e.Fence(t.Context())
	for name, err := range map[string]error{"do": do, "commit": commit, "read": read, "list": list, "watch": watch, "fence": fence} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s after close: got %v", name, err)
		}
	}
	if err := e.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func (t trial) reopening() {
	if t.Reopen == nil {
		return
	}
	first := t.Open(t.T)
	h := handle{Engine: first, t: t.T}
	before, err := h.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrote := h.write(store.Write{Name: "a", Value: []byte("1"), Listed: true}, store.Write{Name: "n", Add: 7, TTL: time.Hour}, set("gone", ""))
	last := h.write(store.Write{Name: "gone", Delete: true})[0].Version
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	h = t.hold(t.Reopen(t.T))
	for i, rec := range h.read("a", "n") {
		if !same(rec, wrote[i]) {
			t.Errorf("found %+v, left %+v", rec, wrote[i])
		}
	}
	want(t, "listed", h.list("p", "", 10), "a")
	if v := h.write(set("gone", ""))[0].Version; v <= last {
		t.Errorf("version %d after %d", v, last)
	}
	if after, _ := h.Fence(t.Context()); after != before {
		t.Errorf("fence was %q and is %q", before, after)
	}
}
