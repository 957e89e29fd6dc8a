package resource_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/resource"
	"obolus/token"
)

func results(t *testing.T, most int, now func() time.Time) *resource.MemoryResults {
	t.Helper()
	m, err := resource.NewMemoryResults(most, now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// OT-23: who lost an answer gets it again with the same key, the same request and a fresh proof, and in no other way.
func TestRetainedResult(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key, thief := testKey(t), testKey(t)
	effect := new(effects)
	handler := is.guard(func(c *resource.Config) { c.Results = results(t, 10, time.Now) }).Require(send)(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Mail", "7")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, "mail %d", effect.Add(1))
		}))
	compact := is.token(once, bound(key))
	call := func(body string, k *token.SigningKey) (int, string, string) {
		w := do(handler, prove(t, request("POST", "/mail/send", body, ""), k, compact))
		return w.Code, w.Body.String(), w.Header().Get("X-Mail")
	}
	status, body, head := call(`{"to":"bob"}`, key)
	if status != http.StatusCreated || body != "mail 1" || head != "7" {
		t.Fatal(status, body)
	}
	if s, b, h := call(` {"to": "bob"}`, key); s != status || b != body || h != head {
		t.Errorf("again: %d %q %q", s, b, h)
	}
	if s, _, _ := call(`{"to":"eve"}`, key); s != http.StatusForbidden {
		t.Errorf("another request: %d", s)
	}
	if s, _, _ := call(`{"to":"bob"}`, thief); s != http.StatusUnauthorized {
		t.Errorf("another key: %d", s)
	}
	if effect.Load() != 1 || is.calls.Load() != 1 {
		t.Errorf("%d effects, %d redemptions", effect.Load(), is.calls.Load())
	}

	bearer := is.token(once)
	if w := do(handler, request("POST", "/mail/send", "{}", bearer)); w.Code != http.StatusCreated {
		t.Errorf("a token without a key: %d", w.Code)
	}
	if w := do(handler, request("POST", "/mail/send", "{}", bearer)); w.Code != http.StatusUnauthorized || effect.Load() != 2 {
		t.Errorf("a token without a key, again: %d, %d effects", w.Code, effect.Load())
	}
}

// While one is being carried out the same request waits; what had no effect is forgotten.
func TestRetainedResultOfWhatIsNotFinished(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	g := is.guard(func(c *resource.Config) { c.Results = results(t, 10, time.Now) })
	started, finish := make(chan struct{}), make(chan struct{})
	handler := g.Require(send)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(started)
		<-finish
	}))
	compact := is.token(once, bound(key))
	fresh := func() *http.Request { return prove(t, request("POST", "/mail/send", "{}", ""), key, compact) }
	done := make(chan int)
	go func() { done <- do(handler, fresh()).Code }()
	<-started
	if w := do(handler, fresh()); w.Code != http.StatusConflict || w.Header().Get("Retry-After") != "1" {
		t.Errorf("meanwhile: %d %v", w.Code, w.Header())
	}
	close(finish)
	if status := <-done; status != http.StatusOK {
		t.Error(status)
	}
	if w := do(handler, fresh()); w.Code != http.StatusOK || is.calls.Load() != 1 {
		t.Errorf("afterwards: %d, %d redemptions", w.Code, is.calls.Load())
	}

	// The authorization server was away: nothing was kept, and the same token does later.
	compact = is.token(once, bound(key))
	is.breaks(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "3600") // beyond all patience
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	var n atomic.Int64
	handler = g.Require(send)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	if w := do(handler, fresh()); w.Code != http.StatusServiceUnavailable {
		t.Errorf("while it is away: %d", w.Code)
	}
	is.breaks(nil)
	func() {
		defer func() { _ = recover() }()
		do(handler, fresh())
	}()
	if w := do(handler, fresh()); w.Code != http.StatusUnauthorized || n.Load() != 1 {
		t.Errorf("after a crash in the handler: %d, it ran %d times", w.Code, n.Load())
	}

	// A late handler that asked back has done nothing yet.
	compact = is.token(once, bound(key))
	late := g.Require(resource.Rule{Scopes: []string{"mail.send"}, Late: true})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 2 {
			fmt.Fprint(w, "which bob?")
			return
		}
		if err := resource.CallerFrom(r.Context()).Redeem(r.Context()); err != nil {
			g.Refuse(w, err)
			return
		}
		fmt.Fprint(w, "sent")
	}))
	for i, want := range []string{"which bob?", "sent", "sent"} {
		if w := do(late, fresh()); w.Body.String() != want {
			t.Errorf("call %d: %d %q, want %q", i, w.Code, w.Body, want)
		}
	}
	if n.Load() != 3 {
		t.Errorf("the late handler ran %d times", n.Load()-1)
	}
}

type brokenResults struct{ resource.ResultStore }

func (brokenResults) Begin(context.Context, resource.ResultKey, string) (*resource.Held, error) {
	return nil, errors.New("down")
}

func TestResultsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	effect := new(effects)
	down := is.guard(func(c *resource.Config) { c.Results = brokenResults{} }).Require(send)(effect)
	compact := is.token(once, bound(key))
	if w := do(down, prove(t, request("POST", "/mail/send", "{}", ""), key, compact)); w.Code != http.StatusServiceUnavailable || is.calls.Load() != 0 {
		t.Errorf("a store that is down: %d, %d redemptions", w.Code, is.calls.Load())
	}
	big := is.guard(func(c *resource.Config) { c.Results = results(t, 10, time.Now) }).Require(send)(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			for range 3 {
				fmt.Fprint(w, strings.Repeat("x", 100<<10))
			}
			effect.Add(1)
		}))
	if w := do(big, prove(t, request("POST", "/mail/send", "{}", ""), key, compact)); w.Code != http.StatusOK || w.Body.Len() != 300<<10 {
		t.Errorf("a large answer: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := do(big, prove(t, request("POST", "/mail/send", "{}", ""), key, compact)); w.Code != http.StatusUnauthorized || effect.Load() != 1 {
		t.Errorf("a large answer again: %d, %d effects", w.Code, effect.Load())
	}
}

func TestMemoryResultsAreBounded(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	m := results(t, 2, func() time.Time { return time.Unix(clock.Load(), 0) })
	key := func(txn string) resource.ResultKey { return resource.ResultKey{User: "alice", Txn: txn, JKT: "k"} }
	begin := func(txn string) bool {
		t.Helper()
		held, err := m.Begin(t.Context(), key(txn), "d")
		if err != nil {
			t.Fatal(err)
		}
		return held == nil
	}
	if !begin("a") || begin("a") || !begin("b") || !begin("c") {
		t.Fatal("beginning")
	}
	if begin("c") || !begin("a") {
		t.Error("the oldest is not the one that went")
	}
	clock.Add(int64(6 * time.Minute / time.Second))
	if !begin("c") {
		t.Error("kept for too long")
	}
	if err := m.Finish(t.Context(), key("unknown"), resource.Result{}); err != nil {
		t.Error(err)
	}
	if err := m.Abandon(t.Context(), key("unknown")); err != nil {
		t.Error(err)
	}
	if _, err := resource.NewMemoryResults(0, time.Now); err == nil {
		t.Error("a store for nothing")
	}
}
