package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/store"
	"obolus/store/memory"
)

var mirrored = store.Key{Partition: "grants/u", Name: "g"}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

func change(t testing.TB, m *store.Mirror, value string) store.Outcome {
	t.Helper()
	w := store.Write{Name: mirrored.Name, Value: []byte(value)}
	if value == "" {
		w = store.Write{Name: mirrored.Name, Delete: true}
	}
	out, err := m.Commit(t.Context(), store.Commit{Partition: mirrored.Partition, Writes: []store.Write{w}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func look(t testing.TB, m *store.Mirror) store.Record {
	t.Helper()
	recs, err := m.Read(t.Context(), mirrored)
	if err != nil {
		t.Fatal(err)
	}
	return recs[0]
}

func TestMirror(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, live := memory.New(c.now), still{memory.New(c.now)}
	m := store.NewMirror(records, live)
	for _, step := range []struct {
		name string
		do   func() store.Outcome
		want string
	}{
		{"never was", func() store.Outcome { return store.Outcome{} }, ""},
		{"created", func() store.Outcome { return change(t, m, "one") }, "one"},
		{"changed", func() store.Outcome { return change(t, m, "two") }, "two"},
		{"deleted", func() store.Outcome { change(t, m, ""); return store.Outcome{} }, ""},
		{"created again", func() store.Outcome { return change(t, m, "three") }, "three"},
	} {
		out := step.do()
		for _, copies := range []string{"with its copy", "from its copy", "without one"} {
			if copies == "without one" {
				c.advance(time.Hour)
			}
			rec := look(t, m)
			if string(rec.Value) != step.want || rec.Exists() != (step.want != "") || rec.Key != mirrored {
				t.Errorf("%s, %s: got %+v", step.name, copies, rec)
			}
			if len(out.Wrote) > 0 && rec.Version != out.Wrote[0].Version {
				t.Errorf("%s, %s: version %d, written as %d", step.name, copies, rec.Version, out.Wrote[0].Version)
			}
		}
	}
	refused, err := m.Commit(t.Context(), store.Commit{
		Partition: mirrored.Partition, If: []store.Condition{{Name: mirrored.Name, Is: store.Absent}},
		Writes: []store.Write{{Name: mirrored.Name, Value: []byte("four")}},
	})
	if err != nil || refused.Applied || string(look(t, m).Value) != "three" {
		t.Errorf("refused: %+v, %v", refused, err)
	}
	records.Close()
	if rec := look(t, m); string(rec.Value) != "three" {
		t.Errorf("without records: got %+v", rec)
	}
	c.advance(time.Hour)
	if _, err := m.Read(t.Context(), mirrored); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without records and copies: got %v", err)
	}
}

func TestCopiesDoNotShareAPlace(t *testing.T) {
	t.Parallel()
	m := store.NewMirror(nil, nil)
	long := strings.Repeat("x", store.MaxKey)
	seen := map[store.Key]store.Key{}
	for _, k := range []store.Key{
		{Partition: "a", Name: "b/c"},
		{Partition: "a/b", Name: "c"},
		{Partition: "1/a", Name: "b"},
		{Partition: "a/1", Name: "b"},
		{Partition: long, Name: "n"},
		{Partition: long, Name: long},
		{Partition: "n", Name: long},
		{Partition: long[1:], Name: long},
	} {
		at := m.Key(k)
		if other, taken := seen[at]; taken {
			t.Errorf("%v and %v share %v", k, other, at)
		}
		seen[at] = k
		if err := (store.Batch{Reads: []store.Key{at}}).Validate(); err != nil {
			t.Errorf("%v: %v", k, err)
		}
	}
}

// late starts a read that finds no copy, and that has the record from records when it returns. Calling what it returns lets
// it fill the copy.
func late(t testing.TB, records, live store.Engine) (fill func() error) {
	t.Helper()
	g := gate(live)
	ended := make(chan error, 1)
	go func() {
		_, err := store.NewMirror(records, g).Read(t.Context(), mirrored)
		ended <- err
	}()
	select {
	case <-g.come:
	case err := <-ended:
		t.Fatalf("there was a copy, or an error: %v", err)
	}
	return func() error {
		g.let <- struct{}{}
		return <-ended
	}
}

func TestASlowFillDoesNotBringBackWhatWas(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(c *clock, engine *forgetful){
		"at once":                     func(*clock, *forgetful) {},
		"a while later":               func(c *clock, _ *forgetful) { c.advance(29 * time.Second) },
		"after half a life":           func(c *clock, _ *forgetful) { c.advance(31 * time.Second) },
		"when the newer copy expired": func(c *clock, _ *forgetful) { c.advance(time.Hour) },
		"after a restart":             func(_ *clock, engine *forgetful) { engine.restart() },
		"after a restart that was noticed": func(_ *clock, engine *forgetful) {
			engine.restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &clock{}
			records, engine := memory.New(c.now), newForgetful(c.now)
			live := openLive(t, engine, records)
			m := store.NewMirror(records, live)
			set(t, records, mirrored.Partition, mirrored.Name, "old")
			fill := late(t, records, live)
			change(t, m, "new")
			meanwhile(c, engine)
			if strings.HasSuffix(name, "noticed") {
				if _, err := live.Do(t.Context(), store.Batch{}); !errors.Is(err, store.ErrFence) {
					t.Fatal(err)
				}
			}
			err := fill()
			if restarted := strings.Contains(name, "restart"); restarted != errors.Is(err, store.ErrFence) || !restarted && err != nil {
				t.Errorf("fill: got %v", err)
			}
			for range 2 {
				if rec := look(t, m); string(rec.Value) != "new" {
					t.Errorf("read %q", rec.Value)
				}
			}
		})
	}
}

func TestASlowCopyDoesNotBringBackWhatWas(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, live := memory.New(c.now), still{memory.New(c.now)}
	m, g := store.NewMirror(records, live), gate(live)
	slow := make(chan error, 1)
	go func() {
		_, err := store.NewMirror(records, g).Commit(t.Context(), store.Commit{
			Partition: mirrored.Partition, Writes: []store.Write{{Name: mirrored.Name, Value: []byte("old")}},
		})
		slow <- err
	}()
	<-g.come
	change(t, m, "new")
	c.advance(4 * time.Minute)
	g.let <- struct{}{}
	if err := <-slow; err != nil {
		t.Fatal(err)
	}
	if rec := look(t, m); string(rec.Value) != "new" {
		t.Errorf("read %q", rec.Value)
	}
}

// TestASlowCopyOfAnEarlierEpochIsNotWritten holds a change up before its copy, until a newer change was acknowledged and the live
// store has forgotten that one's copy.
func TestASlowCopyOfAnEarlierEpochIsNotWritten(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, engine := memory.New(c.now), newForgetful(c.now)
	live := openLive(t, engine, records)
	m, g := store.NewMirror(records, live), gate(live)
	slow := make(chan error, 1)
	go func() {
		_, err := store.NewMirror(records, g).Commit(t.Context(), store.Commit{
			Partition: mirrored.Partition, Writes: []store.Write{{Name: mirrored.Name, Value: []byte("old")}},
		})
		slow <- err
	}()
	<-g.come
	change(t, m, "new")
	engine.restart()
	if _, err := live.Do(t.Context(), store.Batch{}); !errors.Is(err, store.ErrFence) {
		t.Fatal(err)
	}
	g.let <- struct{}{}
	select {
	case <-g.come: // what records say now
		g.let <- struct{}{}
	case err := <-slow:
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Error(err)
	}
	if rec := look(t, m); string(rec.Value) != "new" {
		t.Errorf("read %q", rec.Value)
	}
}

// TestAnEpochIsNotOpenedWithAFenceOfBefore holds a process up between its look at the fence and its look at the epoch, until others
// have met the next engine. It must not make the epoch a number higher that they would not hear of.
func TestAnEpochIsNotOpenedWithAFenceOfBefore(t *testing.T) {
	t.Parallel()
	c := &clock{}
	records, engine := memory.New(c.now), newForgetful(c.now)
	quick := openLive(t, engine, records)
	slow := &heldUp{Engine: records}
	late := openLive(t, engine, slow)
	engine.restart() // the late one will be told so
	slow.before = func() {
		slow.before = nil
		engine.restart()
		if err := quick.Renew(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := late.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := late.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := quick.Do(t.Context(), store.Batch{}); err == nil && quick.Epoch().Number != late.Epoch().Number {
		t.Errorf("one works in epoch %d and another in %d", quick.Epoch().Number, late.Epoch().Number)
	}
}

// heldUp calls before ahead of its next batch.
type heldUp struct {
	store.Engine
	before func()
}

func (h *heldUp) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if h.before != nil {
		h.before()
	}
	return h.Engine.Do(ctx, b)
}

// TestACopyIsNeverOlder plays random histories: changes, reads that are slow to fill, time that passes, restarts.
func TestACopyIsNeverOlder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		c := &clock{}
		records, engine := memory.New(c.now), newForgetful(c.now)
		live := openLive(t, engine, records)
		m := store.NewMirror(records, live)
		acked, serial := "", 0
		var waiting []func() error
		again := func(err error) {
			if err != nil && !errors.Is(err, store.ErrFence) {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"change": func(rt *rapid.T) {
				serial++
				w := store.Write{Name: mirrored.Name, Value: fmt.Append(nil, serial)}
				if rapid.IntRange(0, 4).Draw(rt, "delete") == 0 {
					w.Delete, w.Value = true, nil
				}
				if _, err := m.Commit(t.Context(), store.Commit{Partition: mirrored.Partition, Writes: []store.Write{w}}); err != nil {
					rt.Fatal(err)
				}
				acked = string(w.Value)
			},
			"begin to read": func(rt *rapid.T) {
				recs, err := store.Read(t.Context(), live, m.Key(mirrored))
				if again(err); err != nil || recs[0].Exists() {
					return
				}
				waiting = append(waiting, late(t, records, live))
			},
			"fill": func(rt *rapid.T) {
				if len(waiting) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(rt, "which")
				again(waiting[i]())
				waiting = append(waiting[:i], waiting[i+1:]...)
			},
			"wait": func(rt *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(1, 400).Draw(rt, "seconds")) * time.Second)
			},
			"restart": func(*rapid.T) { engine.restart() },
			"": func(rt *rapid.T) {
				recs, err := m.Read(t.Context(), mirrored)
				if again(err); err == nil && string(recs[0].Value) != acked {
					rt.Fatalf("read %q, acknowledged %q", recs[0].Value, acked)
				}
			},
		})
		for _, fill := range waiting {
			again(fill())
		}
	})
}

// TestACopyIsNeverOlderInARace has processes that change and read one counter while the live store restarts.
func TestACopyIsNeverOlderInARace(t *testing.T) {
	t.Parallel()
	const processes, each = 4, 150
	records, engine := memory.New(time.Now), newForgetful(time.Now)
	var acked, stale, reads atomic.Int64
	var all sync.WaitGroup
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(500 * time.Microsecond):
				engine.restart()
			}
		}
	}()
	for range processes {
		m := store.NewMirror(records, openLive(t, engine, records))
		all.Go(func() {
			for range each {
				out, err := m.Commit(t.Context(), store.Commit{
					Partition: mirrored.Partition, Writes: []store.Write{{Name: mirrored.Name, Add: 1}},
				})
				if err != nil {
					continue // in force, and not acknowledged
				}
				for now := out.Wrote[0].Count(); ; {
					if was := acked.Load(); was >= now || acked.CompareAndSwap(was, now) {
						break
					}
				}
			}
		})
		all.Go(func() {
			for range 4 * each {
				least := acked.Load()
				recs, err := m.Read(t.Context(), mirrored)
				if err != nil {
					continue
				}
				reads.Add(1)
				if recs[0].Count() < least {
					stale.Add(1)
				}
			}
		})
	}
	all.Wait()
	close(done)
	if stale.Load() > 0 || reads.Load() == 0 {
		t.Errorf("%d of %d reads were stale", stale.Load(), reads.Load())
	}
}

// TestACopyInAFormerStoreIsNone changes a record through a server that still writes to a store whose place another one has taken.
func TestACopyInAFormerStoreIsNone(t *testing.T) {
	t.Parallel()
	var c clock
	records, former := memory.New(c.now), memory.New(c.now)
	behind := store.NewMirror(records, openLive(t, former, records))
	change := store.Commit{Partition: mirrored.Partition, Writes: []store.Write{{Name: mirrored.Name, Value: []byte("new")}}}
	if _, err := behind.Commit(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	ahead := store.NewMirror(records, openLive(t, memory.New(c.now), records))
	if _, err := ahead.Read(t.Context(), mirrored); err != nil { // there is a copy now
		t.Fatal(err)
	}
	if _, err := behind.Commit(t.Context(), change); !errors.Is(err, store.ErrFence) {
		recs, _ := ahead.Read(t.Context(), mirrored)
		t.Errorf("%v; the others see %q", err, recs[0].Value)
	}
	if _, err := ahead.Commit(t.Context(), change); err != nil {
		t.Error(err)
	}
}
