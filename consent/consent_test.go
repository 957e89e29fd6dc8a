package consent_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/audit"
	"obolus/consent"
	"obolus/store"
	"obolus/store/memory"
)

// world is a book on engines that forget, with a clock that can be moved.
type world struct {
	live   *store.Live
	book   *consent.Book
	mirror *store.Mirror
	now    atomic.Pointer[time.Time]
	mu     sync.Mutex
	events []audit.Event
}

func newWorld(t interface{ Context() context.Context }) *world {
	w := &world{}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w.now.Store(&start)
	clock := func() time.Time { return *w.now.Load() }
	records := memory.New(clock)
	live, err := store.OpenLive(t.Context(), memory.New(clock), records)
	if err != nil {
		panic(err)
	}
	w.live, w.mirror = live, store.NewMirror(records, live)
	w.book = consent.NewBook(consent.BookConfig{
		Records: records, Live: live, Mirror: w.mirror, Now: clock,
		Record: func(_ context.Context, e audit.Event) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
			return nil
		},
		InteractionLifetime: 10 * time.Minute, MaxLifetime: 24 * time.Hour,
	})
	return w
}

func (w *world) pass(d time.Duration) {
	later := w.now.Load().Add(d)
	w.now.Store(&later)
}

func (w *world) clock() time.Time { return *w.now.Load() }

func ask() consent.Ask {
	return consent.Ask{
		User: "alice", Agent: "agent-a", Target: "mail", Scopes: []string{"mail.read", "mail.send"},
		Details: json.RawMessage(`[{"type":"a"},{"type":"b"}]`), AgentKeys: "k1",
	}
}

func (w *world) ask(t *testing.T, a consent.Ask) consent.Interaction {
	t.Helper()
	in, err := w.book.Ask(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (w *world) allow(t *testing.T, in consent.Interaction, d consent.Decision) consent.Drawn {
	t.Helper()
	d.Allow = true
	if d.Expires.IsZero() {
		d.Expires = w.clock().Add(time.Hour)
	}
	if d.Scopes == nil {
		d.Scopes = []string{"mail.read"}
	}
	decided, err := w.book.Decide(t.Context(), in.ID, in.Ask.User, d)
	if err != nil {
		t.Fatal(err)
	}
	return w.grant(t, decided.Ask.User, decided.Grant)
}

func (w *world) grant(t *testing.T, user, id string) consent.Drawn {
	t.Helper()
	all, err := w.book.GrantsOf(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if g.ID == id {
			return g
		}
	}
	t.Fatalf("no grant %q of %s", id, user)
	return consent.Drawn{}
}

func TestTheSameQuestionIsOneInteraction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.ask(t, ask())
	turned := ask()
	turned.Scopes = []string{"mail.send", "mail.read"}
	if again := w.ask(t, turned); again.ID != first.ID {
		t.Error("the order of scopes made another question")
	}
	for name, change := range map[string]func(*consent.Ask){
		"user":   func(a *consent.Ask) { a.User = "bob" },
		"agent":  func(a *consent.Ask) { a.Agent = "agent-b" },
		"target": func(a *consent.Ask) { a.Target = "files" },
		"scope":  func(a *consent.Ask) { a.Scopes = []string{"mail.read"} },
		"keys":   func(a *consent.Ask) { a.AgentKeys = "k2" },
	} {
		other := ask()
		change(&other)
		if w.ask(t, other).ID == first.ID {
			t.Errorf("another %s is the same question", name)
		}
	}
}

func TestADecisionNarrows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		d    consent.Decision
		ok   bool
	}{
		{"one scope", consent.Decision{Scopes: []string{"mail.read"}}, true},
		{"one detail alone", consent.Decision{Scopes: []string{}, Details: []int{1}}, true},
		{"a scope that was not asked for", consent.Decision{Scopes: []string{"mail.read", "mail.delete"}}, false},
		{"a detail that was not asked for", consent.Decision{Scopes: []string{"mail.read"}, Details: []int{2}}, false},
		{"a detail below zero", consent.Decision{Scopes: []string{"mail.read"}, Details: []int{-1}}, false},
		{"nothing", consent.Decision{Scopes: []string{}}, false},
		{"uses below zero", consent.Decision{Scopes: []string{"mail.read"}, Uses: -1}, false},
		{"already over", consent.Decision{Scopes: []string{"mail.read"}, Expires: time.Unix(1, 0)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			in := w.ask(t, ask())
			c.d.Allow = true
			if c.d.Expires.IsZero() {
				c.d.Expires = w.clock().Add(time.Hour)
			}
			_, err := w.book.Decide(t.Context(), in.ID, "alice", c.d)
			if c.ok != (err == nil) {
				t.Fatalf("%v", err)
			}
			if still, err := w.book.Interaction(t.Context(), in.ID); !c.ok && (err != nil || still.Status != consent.Pending) {
				t.Errorf("a refused decision changed the interaction: %v %v", still.Status, err)
			}
			if grants, _ := w.book.GrantsOf(t.Context(), "alice"); !c.ok && len(grants) > 0 {
				t.Error("a refused decision made a grant")
			}
		})
	}
}

func TestAGrantIsNeverWiderThanTheAsk(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		a := ask()
		a.MaxUses = rapid.IntRange(0, 5).Draw(rt, "max uses")
		in, err := w.book.Ask(t.Context(), a)
		if err != nil {
			rt.Fatal(err)
		}
		d := consent.Decision{
			Allow: true, Uses: rapid.IntRange(-2, 2000).Draw(rt, "uses"),
			Scopes:  rapid.SliceOfDistinct(rapid.SampledFrom([]string{"mail.read", "mail.send", "mail.delete", ""}), rapid.ID).Draw(rt, "scopes"),
			Details: rapid.SliceOfDistinct(rapid.IntRange(-1, 2), rapid.ID).Draw(rt, "details"),
			Expires: w.clock().Add(time.Duration(rapid.IntRange(-1, 100).Draw(rt, "hours")) * time.Hour),
		}
		decided, err := w.book.Decide(t.Context(), in.ID, "alice", d)
		if err != nil {
			return
		}
		g := w.grant(t, "alice", decided.Grant)
		for _, s := range g.Scopes {
			if s != "mail.read" && s != "mail.send" {
				rt.Errorf("scope %q", s)
			}
		}
		if g.Expires.After(w.clock().Add(24*time.Hour)) || !g.Expires.After(w.clock()) {
			rt.Errorf("until %s", g.Expires)
		}
		if a.MaxUses > 0 && (g.Uses == 0 || g.Uses > a.MaxUses) || g.Uses < 0 || g.Uses > 1000 {
			rt.Errorf("%d uses of %d", g.Uses, a.MaxUses)
		}
		if len(g.Scopes) == 0 && len(g.Details) == 0 {
			rt.Error("a grant of nothing")
		}
	})
}

func TestADecisionIsMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.ask(t, ask())
	var allowed, decided atomic.Int32
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			_, err := w.book.Decide(t.Context(), in.ID, "alice", consent.Decision{
				Allow: i%2 == 0, Scopes: []string{"mail.read"}, Expires: w.clock().Add(time.Hour),
			})
			switch {
			case err == nil && i%2 == 0:
				allowed.Add(1)
			case err == nil, errors.Is(err, consent.ErrDecided):
			default:
				t.Error(err)
			}
			if err == nil {
				decided.Add(1)
			}
		})
	}
	all.Wait()
	grants, err := w.book.GrantsOf(t.Context(), "alice")
	if err != nil || decided.Load() != 1 || len(grants) != int(allowed.Load()) || len(w.events) != 1 {
		t.Errorf("%d decisions, %d grants, %d events: %v", decided.Load(), len(grants), len(w.events), err)
	}
}

func TestOnlyWhoWasAskedDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.ask(t, ask())
	d := consent.Decision{Allow: true, Scopes: []string{"mail.read"}, Expires: w.clock().Add(time.Hour)}
	if _, err := w.book.Decide(t.Context(), in.ID, "bob", d); !errors.Is(err, consent.ErrNotYours) {
		t.Errorf("bob: %v", err)
	}
	for _, id := range []string{"", "r_", "r_AAAAAAAAAAAAAAAAAAAAAA", strings.Repeat("a", 65), "r_with space and/slash", "r_\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if _, err := w.book.Decide(t.Context(), id, "alice", d); !errors.Is(err, consent.ErrNotFound) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	w.pass(11 * time.Minute)
	if _, err := w.book.Decide(t.Context(), in.ID, "alice", d); !errors.Is(err, consent.ErrNotFound) {
		t.Errorf("too late: %v", err)
	}
}

func TestNoIsRememberedAndYesIsNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.ask(t, ask())
	if _, err := w.book.Decide(t.Context(), in.ID, "alice", consent.Decision{}); err != nil {
		t.Fatal(err)
	}
	if again := w.ask(t, ask()); again.ID != in.ID || again.Status != consent.Denied {
		t.Errorf("after no: %+v", again)
	}
	w.pass(11 * time.Minute)
	next := w.ask(t, ask())
	if next.ID == in.ID || next.Status != consent.Pending {
		t.Errorf("no is for ever: %+v", next)
	}
	w.allow(t, next, consent.Decision{})
	if after := w.ask(t, ask()); after.ID == next.ID {
		t.Error("an answered question is asked again under its old name")
	}
}

func TestPromptsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := ask()
	for i := range 10 {
		a.MaxUses = i + 1
		w.ask(t, a)
	}
	a.MaxUses = 100
	if _, err := w.book.Ask(t.Context(), a); !errors.Is(err, consent.ErrTooMany) {
		t.Errorf("the eleventh question: %v", err)
	}
	other := a
	other.User = "bob"
	if _, err := w.book.Ask(t.Context(), other); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	w.pass(11 * time.Minute)
	if _, err := w.book.Ask(t.Context(), a); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestABudgetIsDrawnExactly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.allow(t, w.ask(t, ask()), consent.Decision{Uses: 3})
	var drawn, refused atomic.Int32
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			copies, err := w.book.Draw(t.Context(), g.Grant, "")
			switch {
			case err == nil:
				drawn.Add(1)
				if _, err := w.live.Do(t.Context(), store.Batch{Commits: copies}); err != nil {
					t.Error(err)
				}
			case errors.Is(err, consent.ErrExhausted):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if drawn.Load() != 3 || refused.Load() != 37 {
		t.Errorf("%d drawn, %d refused", drawn.Load(), refused.Load())
	}
	recs, err := w.mirror.Read(t.Context(), consent.Key("alice", "agent-a", "mail"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := consent.ReadBundle(recs[0])
	if err != nil || len(bundle.Grants) != 1 || !bundle.Grants[0].Exhausted() {
		t.Errorf("the copy says %+v, %v", bundle, err)
	}
}

// TestTheFormOfABundleIsThatOfItsVersion: a change is seen in the next record, however often the one before was read.
func TestTheFormOfABundleIsThatOfItsVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	read := func() consent.Drawn {
		t.Helper()
		recs, err := w.mirror.Read(t.Context(), consent.Key("alice", "agent-a", "mail"))
		if err != nil {
			t.Fatal(err)
		}
		want, errWant := consent.ReadBundle(recs[0])
		for range 2 {
			got, err := w.book.Bundle(recs[0])
			if err != nil || errWant != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v, %v; want %+v, %v", got, err, want, errWant)
			}
		}
		if len(want.Grants) == 0 {
			return consent.Drawn{}
		}
		return want.Grants[0]
	}
	if g := read(); g.ID != "" {
		t.Errorf("before anybody was asked: %+v", g)
	}
	g := w.allow(t, w.ask(t, ask()), consent.Decision{Uses: 3})
	if got := read(); got.ID != g.ID || got.Used != 0 {
		t.Errorf("allowed: %+v", got)
	}
	copies, err := w.book.Draw(t.Context(), g.Grant, "")
	if err == nil {
		_, err = w.live.Do(t.Context(), store.Batch{Commits: copies})
	}
	if got := read(); err != nil || got.Used != 1 {
		t.Errorf("drawn: %+v, %v", got, err)
	}
	if _, err := w.book.Withdraw(t.Context(), "alice", g.ID, "alice"); err != nil {
		t.Fatal(err)
	}
	if got := read(); got.Withdrawn.IsZero() {
		t.Errorf("withdrawn: %+v", got)
	}
}

func TestWhatIsOverGivesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(t *testing.T, w *world, g consent.Grant)
	}{
		{"withdrawn", func(t *testing.T, w *world, g consent.Grant) {
			t.Helper()
			for range 2 { // ending it again is no error
				if got, err := w.book.Withdraw(t.Context(), "alice", g.ID, "alice"); err != nil || got.Withdrawn.IsZero() {
					t.Fatalf("%+v %v", got, err)
				}
			}
		}},
		{"expired", func(_ *testing.T, w *world, _ consent.Grant) { w.pass(2 * time.Hour) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.allow(t, w.ask(t, ask()), consent.Decision{Uses: 3})
			c.end(t, w, g.Grant)
			if _, err := w.book.Draw(t.Context(), g.Grant, ""); !errors.Is(err, consent.ErrGone) {
				t.Errorf("draw: %v", err)
			}
			if w.grant(t, "alice", g.ID).LiveAt(w.clock()) {
				t.Error("it is alive")
			}
		})
	}
	w := newWorld(t)
	if _, err := w.book.Withdraw(t.Context(), "bob", "g_none", "bob"); !errors.Is(err, consent.ErrNotFound) {
		t.Errorf("withdrawing what is not there: %v", err)
	}
}

func TestAnUnlimitedGrantCostsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.allow(t, w.ask(t, ask()), consent.Decision{})
	if copies, err := w.book.Draw(t.Context(), g.Grant, ""); copies != nil || err != nil {
		t.Errorf("%v %v", copies, err)
	}
}

func TestATransactionIsPaidForOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.allow(t, w.ask(t, ask()), consent.Decision{Uses: 2})
	for _, txn := range []string{"txn_1", "txn_1", "txn_2", "txn_2"} {
		if _, err := w.book.Draw(t.Context(), g.Grant, txn); err != nil {
			t.Fatal(txn, err)
		}
	}
	if used := w.grant(t, "alice", g.ID).Used; used != 2 {
		t.Errorf("%d uses", used)
	}
	if _, err := w.book.Draw(t.Context(), g.Grant, "txn_3"); !errors.Is(err, consent.ErrExhausted) {
		t.Error(err)
	}
}

func TestABundleStaysBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 40 {
		w.pass(12 * time.Minute)
		w.allow(t, w.ask(t, ask()), consent.Decision{Uses: 1})
	}
	grants, err := w.book.GrantsOf(t.Context(), "alice")
	if err != nil || len(grants) > 32 {
		t.Errorf("%d grants, %v", len(grants), err)
	}
}

func TestADecisionIsAwaited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := w.ask(t, ask())
	hints, err := w.book.Watch(t.Context(), in.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.allow(t, in, consent.Decision{})
	select {
	case <-hints:
	case <-time.After(time.Minute):
		t.Error("nobody was told")
	}
}
