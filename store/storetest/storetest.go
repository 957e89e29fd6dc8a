// Package storetest is the suite that every driver of package store passes. It stands outside: it knows the contract
// and nothing else. What only one driver can do or suffer is tested beside that driver.
package storetest

import (
	"strings"
	"testing"
	"time"

	"obolus/store"
)

// Suite tells the tests how to come by engines of one driver. They run one after the other, so "the data" is that of
// the engine opened last.
type Suite struct {
	// Open returns an engine on fresh, empty data. The suite closes it.
	Open func(t *testing.T) store.Engine
	// Reopen returns an engine on the same data after the last one was closed; nil for an engine that forgets.
	Reopen func(t *testing.T) store.Engine
	// Second returns another engine on the same data beside the last one; nil where the driver takes one at a time.
	Second func(t *testing.T) store.Engine
	// Advance moves the store's clock; nil makes the tests wait.
	Advance func(d time.Duration)
}

// Run holds a driver to the contract.
func Run(t *testing.T, s Suite) {
	t.Helper()
	for _, part := range []struct {
		name string
		run  func(trial)
	}{
		{"reading", trial.reading},
		{"names", trial.names},
		{"versions", trial.versions},
		{"explicit versions", trial.explicitVersions},
		{"conditions", trial.conditions},
		{"refusal changes nothing", trial.refusal},
		{"not after", trial.notAfter},
		{"counters", trial.counters},
		{"counter limits", trial.counterLimits},
		{"expiry", trial.expiry},
		{"expiry of counters", trial.counterExpiry},
		{"listing", trial.listing},
		{"listing what expires", trial.listingExpiry},
		{"batches", trial.batches},
		{"limits", trial.limits},
		{"fence", trial.fence},
		{"context", trial.contexts},
		{"watching", trial.watching},
		{"watches end", trial.watchesEnd},
		{"claims race", trial.claimsRace},
		{"draws race", trial.drawsRace},
		{"increments race", trial.incrementsRace},
		{"batches race", trial.batchesRace},
		{"model", trial.model},
		{"reopening", trial.reopening},
		{"closed", trial.closed},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(trial{T: t, Suite: s}) })
	}
}

// life is a time to live that a round trip does not use up, and that a test can wait for.
const life = 200 * time.Millisecond

// trial is one test of the suite.
type trial struct {
	*testing.T
	Suite
}

func (t trial) pass(d time.Duration) {
	if t.Advance != nil {
		t.Advance(d)
		return
	}
	time.Sleep(d + 10*time.Millisecond)
}

// open returns a fresh engine that is closed when the test ends.
func (t trial) open() handle {
	t.Helper()
	return t.hold(t.Open(t.T))
}

func (t trial) hold(e store.Engine) handle {
	t.Helper()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return handle{Engine: e, t: t.T}
}

// handle is an engine whose errors end the test.
type handle struct {
	store.Engine
	t *testing.T
}

func (h handle) do(b store.Batch) store.Results {
	h.t.Helper()
	res, err := h.Do(h.t.Context(), b)
	if err != nil {
		h.t.Fatalf("do: %v", err)
	}
	if len(res.Outcomes) != len(b.Commits) || len(res.Records) != len(b.Reads) {
		h.t.Fatalf("got %d outcomes and %d records for %d commits and %d reads",
			len(res.Outcomes), len(res.Records), len(b.Commits), len(b.Reads))
	}
	return res
}

func (h handle) commit(c store.Commit) store.Outcome {
	h.t.Helper()
	return h.do(store.Batch{Commits: []store.Commit{c}}).Outcomes[0]
}

// write applies writes without conditions to partition "p" and returns what they wrote.
func (h handle) write(ws ...store.Write) []store.Record {
	h.t.Helper()
	out := h.commit(store.Commit{Partition: "p", Writes: ws})
	if !out.Applied || len(out.Wrote) != len(ws) {
		h.t.Fatalf("commit without conditions: applied %v, wrote %d of %d", out.Applied, len(out.Wrote), len(ws))
	}
	return out.Wrote
}

// read returns the records of partition "p" with these names.
func (h handle) read(names ...string) []store.Record {
	h.t.Helper()
	var keys []store.Key
	for _, name := range names {
		keys = append(keys, store.Key{Partition: "p", Name: name})
	}
	return h.do(store.Batch{Reads: keys}).Records
}

func (h handle) list(partition, after string, limit int) string {
	h.t.Helper()
	recs, err := h.List(h.t.Context(), partition, after, limit)
	if err != nil {
		h.t.Fatalf("list: %v", err)
	}
	got := make([]string, 0, len(recs))
	for _, r := range recs {
		if !r.Exists() || r.Partition != partition {
			h.t.Fatalf("listed a record that is none of the partition: %+v", r)
		}
		got = append(got, r.Name)
	}
	return strings.Join(got, " ")
}

func set(name, value string) store.Write {
	return store.Write{Name: name, Value: []byte(value)}
}

func same(a, b store.Record) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Version == b.Version && a.Expires.Equal(b.Expires)
}

func want[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}
