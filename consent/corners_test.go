package consent_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"obolus/audit"
	"obolus/consent"
	core "obolus/internal/world"
	"obolus/store"
)

// at has something happen right before the live store is given a commit that writes to a partition.
func at(w *core.World, partition string, happen func()) {
	hook := func(b store.Batch) {
		if slices.ContainsFunc(b.Commits, func(c store.Commit) bool { return strings.Contains(c.Partition, partition) }) {
			w.Engine.Hook.Store(nil)
			happen()
		}
	}
	w.Engine.Hook.Store(&hook)
}

// Of two who open the same question at once both get the one that was first.
func TestTheSameQuestionAtOnce(t *testing.T) {
	t.Parallel()
	w := core.New(t)
	var first consent.Interaction
	at(w, "interaction/", func() {
		var err error
		if first, err = w.Consents.Ask(t.Context(), ask()); err != nil {
			t.Error(err)
		}
	})
	second, err := w.Consents.Ask(t.Context(), ask())
	if err != nil || second.ID != first.ID || first.ID == "" {
		t.Errorf("%q and %q, %v", first.ID, second.ID, err)
	}
}

// Of two decisions at once the first counts, and the second makes no grant.
func TestTwoDecisionsAtOnce(t *testing.T) {
	t.Parallel()
	w := core.New(t)
	in, err := w.Consents.Ask(t.Context(), ask())
	if err != nil {
		t.Fatal(err)
	}
	at(w, "interaction/", func() {
		if _, err := w.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{}); err != nil {
			t.Error(err)
		}
	})
	_, err = w.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{Allow: true, Scopes: []string{"mail.read"}, Expires: w.Now().Add(time.Hour)})
	if !errors.Is(err, consent.ErrDecided) {
		t.Errorf("the second decision: %v", err)
	}
	if grants, err := w.Consents.GrantsOf(t.Context(), "alice"); err != nil || len(grants) != 0 {
		t.Errorf("%+v %v", grants, err)
	}
	if events := w.Events(audit.KindConsent); len(events) != 1 || events[0].Allowed {
		t.Errorf("%+v", events)
	}
}

// How often and how long: at most what the agent may, what a person can mean, and what the server allows.
func TestLimitsOfAGrant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ most, uses, want int }{
		{0, 0, 0}, {0, 1, 1}, {0, 1000, 1000}, {0, 1001, -1}, {0, -1, -1}, {3, 0, 3}, {3, 1, 1}, {3, 3, 3}, {3, 4, 3}, {3, 2000, 3}, {3, -1, -1}, {1, 0, 1},
	} {
		w := newWorld(t)
		a := ask()
		a.MaxUses = c.most
		in := w.ask(t, a)
		decided, err := w.book.Decide(t.Context(), in.ID, "alice", consent.Decision{
			Allow: true, Scopes: []string{"mail.read"}, Uses: c.uses, Expires: w.clock().Add(time.Hour),
		})
		if (err != nil) != (c.want < 0) {
			t.Errorf("%d of %d uses: %v", c.uses, c.most, err)
		}
		if err == nil && w.grant(t, "alice", decided.Grant).Uses != c.want {
			t.Errorf("%d of %d uses: %d, want %d", c.uses, c.most, w.grant(t, "alice", decided.Grant).Uses, c.want)
		}
	}
	for _, c := range []struct{ asked, want time.Duration }{{time.Hour, time.Hour}, {24 * time.Hour, 24 * time.Hour}, {25 * time.Hour, 24 * time.Hour}, {0, 0}, {-time.Hour, 0}} {
		w := newWorld(t)
		in := w.ask(t, ask())
		decided, err := w.book.Decide(t.Context(), in.ID, "alice", consent.Decision{Allow: true, Scopes: []string{"mail.read"}, Expires: w.clock().Add(c.asked)})
		if (err != nil) != (c.want == 0) {
			t.Errorf("for %s: %v", c.asked, err)
		}
		if err == nil && !w.grant(t, "alice", decided.Grant).Expires.Equal(w.clock().Add(c.want)) {
			t.Errorf("for %s: until %s", c.asked, w.grant(t, "alice", decided.Grant).Expires)
		}
	}
}

// What is not there is neither drawn from nor taken back.
func TestAGrantThatIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.allow(t, w.ask(t, ask()), consent.Decision{Uses: 2})
	other := g.Grant
	other.ID = "g_other"
	if _, err := w.book.Draw(t.Context(), other, "t"); !errors.Is(err, consent.ErrGone) {
		t.Errorf("drawn: %v", err)
	}
	if _, err := w.book.Withdraw(t.Context(), "alice", "g_other", "alice"); !errors.Is(err, consent.ErrNotFound) {
		t.Errorf("taken back: %v", err)
	}
	if _, err := w.book.Withdraw(t.Context(), "bob", g.ID, "bob"); !errors.Is(err, consent.ErrNotFound) {
		t.Errorf("taken back by somebody else: %v", err)
	}
	if got := w.grant(t, "alice", g.ID); got.Used != 0 || !got.Withdrawn.IsZero() {
		t.Errorf("%+v", got)
	}
}

// Of a bundle that is full those go first that say nothing any more, then the oldest.
func TestWhatABundleForgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids []string
	allow := func(d consent.Decision) string {
		w.pass(11 * time.Minute)
		d.Expires = w.clock().Add(24 * time.Hour)
		ids = append(ids, w.allow(t, w.ask(t, ask()), d).ID)
		return ids[len(ids)-1]
	}
	for range 30 {
		allow(consent.Decision{})
	}
	back, spent := allow(consent.Decision{}), allow(consent.Decision{Uses: 1})
	if _, err := w.book.Withdraw(t.Context(), "alice", back, "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.book.Draw(t.Context(), w.grant(t, "alice", spent).Grant, "t"); err != nil {
		t.Fatal(err)
	}
	has := func(want ...string) {
		t.Helper()
		all, err := w.book.GrantsOf(t.Context(), "alice")
		if err != nil || len(all) != 32 {
			t.Errorf("%d grants, %v", len(all), err)
		}
		for _, id := range want {
			if !slices.ContainsFunc(all, func(d consent.Drawn) bool { return d.ID == id }) {
				t.Errorf("grant %d is forgotten", slices.Index(ids, id))
			}
		}
	}
	has(ids...)
	allow(consent.Decision{})
	has(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == back })...)
	allow(consent.Decision{})
	has(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == back || id == spent })...)
	allow(consent.Decision{})
	has(slices.DeleteFunc(slices.Clone(ids[1:]), func(id string) bool { return id == back || id == spent })...)
}

// A hold reaches all that a user has allowed, however much that is, and a later one stays.
func TestAHoldReachesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const many = 501 // more than are read at once
	for i := range many {
		a := ask()
		a.Agent = fmt.Sprintf("agent-%03d", i)
		w.allow(t, w.ask(t, a), consent.Decision{})
	}
	for _, at := range []time.Time{w.clock().Add(-time.Hour), w.clock(), w.clock().Add(-time.Minute)} {
		if err := w.book.Hold(t.Context(), "alice", at); err != nil {
			t.Fatal(err)
		}
	}
	for _, agent := range []string{"agent-000", "agent-499", "agent-500"} {
		recs, err := w.mirror.Read(t.Context(), consent.Key("alice", agent, "mail"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := consent.ReadBundle(recs[0]); err != nil || !b.Held.Equal(w.clock()) {
			t.Errorf("%s: held since %s, %v", agent, b.Held, err)
		}
	}
	if all, err := w.book.GrantsOf(t.Context(), "alice"); err != nil || len(all) != many {
		t.Errorf("%d grants, %v", len(all), err)
	}
	if err := w.book.Hold(t.Context(), "nobody", w.clock()); err != nil {
		t.Error(err)
	}
}
