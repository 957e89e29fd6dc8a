//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/audit"
	obolus "obolus/token"
)

// TestMain makes the test its own child, as the command is.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestTorture is a short torture: every kind of fault once.
func TestTorture(t *testing.T) {
	s := settings{during: 4 * time.Second, each: 1, seed: uint64(time.Now().UnixNano()), out: t.TempDir()} //nolint:gosec // any will do
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r, err := torture(t.Context(), s, shapes(), out)
	if err != nil {
		t.Fatalf("seed %d: %v", s.seed, err)
	}
	if err := r.write(s.out); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.parts {
		if p.transactions == 0 || p.redemptions == 0 || p.events == 0 {
			t.Errorf("%s: %d transactions, %d redemptions, %d events", p.name, p.transactions, p.redemptions, p.events)
		}
		for _, v := range p.violations {
			t.Errorf("seed %d: %s: %s\n%s", s.seed, v.rule, v.about, v.text)
		}
	}
	for _, o := range r.outages() {
		if o.count == 0 {
			t.Errorf("there was no %s", o.kind)
		}
	}
	if svg, err := os.ReadFile(filepath.Join(s.out, "torture.svg")); err != nil || !strings.Contains(string(svg), "0 violations") {
		t.Errorf("%v: %.200s", err, svg)
	}
}

func TestThePlanFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	of := rate{during: time.Minute, each: 3}
	for _, s := range shapes() {
		one, same, other := s.plan(7, of), s.plan(7, of), s.plan(8, of)
		if !equal(one, same) || equal(one, other) {
			t.Errorf("%s: the plan does not follow from the seed", s.name)
		}
		for i, l := range s.lanes() {
			if len(one[i]) != 3*len(l.kinds) {
				t.Errorf("%s: %d faults of %v", s.name, len(one[i]), l.kinds)
			}
		}
	}
}

func equal(a, b [][]fault) bool { return slices.EqualFunc(a, b, slices.Equal[[]fault]) }

// at makes an answered request; times are in milliseconds.
func at(call, ret int64, o op) op {
	o.call, o.ret = call*1e6, ret*1e6
	if o.by == "" && o.action == redeem {
		o.by = mailServer
	}
	if o.epoch == 0 {
		o.epoch = 1
	}
	return o
}

func issued(call, ret int64, jti string) op {
	return at(call, ret, op{action: issue, outcome: granted, jti: jti})
}

func redeems(call, ret int64, id string, came outcome) op {
	return at(call, ret, op{action: redeem, outcome: came, jti: "a", id: id, hash: "h"})
}

func lost(o op) op {
	o.outcome, o.ret = unknown, forever
	return o
}

func stops(call, ret int64) op { return at(call, ret, op{action: stopTxn, outcome: granted}) }

// The checker must find every broken promise, and must not find one where there is none.
func TestTheCheckerCanFail(t *testing.T) {
	t.Parallel()
	otherHash := redeems(5, 6, "r", repeat)
	otherHash.hash = "another"
	foreign := redeems(2, 3, "r", first)
	foreign.by = filesServer
	second := redeems(5, 6, "r2", first)
	second.jti = "b"
	reissued := issued(5, 6, "b")
	nextEpoch := issued(5, 6, "b")
	nextEpoch.epoch = 2
	for _, c := range []struct {
		name   string
		broken bool
		ops    []op
		stops  map[string][]op
		epochs map[uint64]int64
	}{
		{name: "a redemption", ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first)}},
		{name: "two first", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(4, 5, "r2", first)}},
		{name: "two first at once", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 5, "r", first), redeems(3, 4, "r2", first)}},
		{name: "two first under one id", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(4, 5, "r", first)}},
		{name: "two first by two tokens", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), reissued, second}},
		{name: "a repeat", ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(4, 5, "r", repeat)}},
		{name: "a repeat of what was lost", ops: []op{issued(0, 1, "a"), lost(redeems(2, 3, "r", first)), redeems(4, 5, "r", repeat)}},
		{name: "a first after what was lost never came", ops: []op{issued(0, 1, "a"), lost(redeems(2, 3, "r", first)), redeems(4, 5, "r2", first)}},
		{name: "a repeat of nothing", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", repeat)}},
		{name: "a repeat before the first", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", repeat), redeems(4, 5, "r", first)}},
		{name: "a repeat of another id", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(4, 5, "r2", repeat)}},
		{name: "a repeat with another hash", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), otherHash}},
		{name: "refused to who redeemed", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(4, 5, "r", consumed)}},
		{name: "refused though nobody redeemed", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", consumed)}},
		{name: "another request, and there was none", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(4, 5, "r", mismatch)}},
		{name: "by another resource server", broken: true, ops: []op{issued(0, 1, "a"), foreign}},
		{name: "before it was issued", broken: true, ops: []op{redeems(0, 1, "r", first), issued(2, 3, "a")}},
		{name: "after a stop", broken: true, ops: []op{issued(0, 1, "a"), stops(2, 3), redeems(4, 5, "r", first)}},
		{name: "a repeat after a stop", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), stops(4, 5), redeems(6, 7, "r", repeat)}},
		{name: "while it is stopped", ops: []op{issued(0, 1, "a"), stops(2, 5), redeems(3, 4, "r", first)}},
		{name: "replaced and redeemed", broken: true, ops: []op{issued(0, 1, "a"), issued(2, 3, "b"), redeems(4, 5, "r", first)}},
		{name: "issued again after it was redeemed", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), reissued}},
		{name: "issued again after it was stopped", broken: true, ops: []op{issued(0, 1, "a"), stops(2, 3), reissued}},
		{name: "issued again in the next epoch", broken: true, ops: []op{issued(0, 1, "a"), nextEpoch}},
		{
			name: "after the stop of its agent", broken: true, ops: []op{issued(0, 1, "a"), redeems(4, 5, "r", first)},
			stops: map[string][]op{"agent/x": {at(2, 3, op{action: stopDerived, outcome: granted})}},
		},
		{
			name: "after the stop of another agent", ops: []op{issued(0, 1, "a"), redeems(4, 5, "r", first)},
			stops: map[string][]op{"agent/y": {at(2, 3, op{action: stopDerived, outcome: granted})}},
		},
		{
			name: "issued after the stop of its agent", ops: []op{issued(4, 5, "a"), redeems(6, 7, "r", first)},
			stops: map[string][]op{"agent/x": {at(2, 3, op{action: stopDerived, outcome: granted})}},
		},
		{
			name: "after the end of its grant", broken: true, ops: []op{issued(0, 1, "a"), redeems(4, 5, "r", first)},
			stops: map[string][]op{"grant/g": {at(2, 3, op{action: stopDerived, outcome: granted})}},
		},
		{name: "after a later epoch", broken: true, ops: []op{issued(0, 1, "a"), redeems(4, 5, "r", first)}, epochs: map[uint64]int64{2: 3e6}},
		{name: "a repeat after a later epoch", broken: true, ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first), redeems(5, 6, "r", repeat)}, epochs: map[uint64]int64{2: 4e6}},
		{name: "before a later epoch", ops: []op{issued(0, 1, "a"), redeems(4, 5, "r", first)}, epochs: map[uint64]int64{2: 6e6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(time.Now())
			h.txns["t"] = &txn{id: "t", agent: "x", grant: "g", target: mailServer, ops: c.ops, expires: time.Now().Add(time.Hour)}
			h.stops, h.epochs = c.stops, c.epochs
			found := h.transactions(true)
			if (len(found) > 0) != c.broken {
				t.Errorf("%d violations", len(found))
			}
			for i, v := range found {
				file := filepath.Join(t.TempDir(), "broken")
				if err := v.write(file); err != nil {
					t.Error(err)
				}
				if html, err := os.ReadFile(file + ".html"); i == 0 && (err != nil || len(html) == 0) {
					t.Errorf("no picture of it: %v", err)
				}
			}
		})
	}
}

// The plain invariants must be able to fail too.
func TestTheInvariantsCanFail(t *testing.T) {
	t.Parallel()
	made := func(change func(h *history)) *history {
		h := newHistory(time.Now())
		h.txns["t"] = &txn{id: "t", agent: "x", grant: "g", target: mailServer, expires: time.Now().Add(time.Hour), ops: []op{issued(0, 1, "a"), redeems(2, 3, "r", first)}}
		if change != nil {
			change(h)
		}
		return h
	}
	events := []audit.Event{
		{Kind: audit.KindExchange, Allowed: true, Txn: "t", JTI: "a"}, {Kind: audit.KindRedeem, Allowed: true, Txn: "t", RedemptionID: "r", Client: mailServer},
	}
	again := audit.Event{Kind: audit.KindRedeem, Allowed: true, Txn: "t", RedemptionID: "r2", Client: mailServer}
	stopped := made(func(h *history) { h.txns["t"].ops = append(h.txns["t"].ops, stops(4, 5)) })
	doubled := func(h *history, effects map[string]int) []violation { v, _ := h.doubles(effects); return v }
	for name, c := range map[string]struct {
		found []violation
		rule  string // empty: nothing is wrong
	}{
		"all is well":                       {slices.Concat(made(nil).recorded(events), doubled(made(nil), nil), made(nil).budgets(map[string]limit{"g": {1, 1}})), ""},
		"the guard did it too":              {doubled(made(nil), map[string]int{"t": 1}), "at most one effect"},
		"a redemption is not in the ledger": {made(nil).recorded(events[:1]), "no answer before its event"},
		"an exchange is not in the ledger":  {made(nil).recorded(events[1:]), "no answer before its event"},
		"a stop is not in the ledger":       {stopped.recorded(events), "no answer before its event"},
		"two redemptions in the ledger":     {made(nil).recorded(append(slices.Clone(events), again)), "one redemption in the ledger"},
		"more than a grant pays for":        {made(func(h *history) { h.txns["u"] = &txn{id: "u", grant: "g"} }).budgets(map[string]limit{"g": {1, 1}}), "a grant pays for so many"},
		"a draw that is forgotten":          {made(nil).budgets(map[string]limit{"g": {2, 0}}), "a draw is not forgotten"},
		"a grant that is forgotten":         {made(nil).budgets(nil), "a grant is not forgotten"},
		"after its end":                     {made(func(h *history) { h.txns["t"].expires = h.start.Add(-time.Minute) }).transactions(true), "nothing after its end"},
	} {
		switch {
		case c.rule == "" && len(c.found) > 0:
			t.Errorf("%s: %+v", name, c.found)
		case c.rule != "" && (len(c.found) == 0 || c.found[0].rule != c.rule):
			t.Errorf("%s: %+v", name, c.found)
		}
	}
}

// TestABrokenServerIsFound works against a server that breaks one promise: the whole way from the request to the verdict must find it.
func TestABrokenServerIsFound(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]breaks{
		"accepts twice":          {twice: true},
		"accepts after a stop":   {afterStop: true},
		"repeats whatever comes": {anyRepeat: true},
		"accepts from anybody":   {anybody: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if len(worked(t, breaks)) == 0 {
				t.Error("nothing was found")
			}
		})
	}
	if found := worked(t, breaks{}); len(found) > 0 {
		t.Errorf("of a server that is not broken: %s: %s", found[0].rule, found[0].text)
	}
}

// worked works for a moment against a server that is broken in some way, and judges.
func worked(t *testing.T, b breaks) []violation {
	t.Helper()
	door := httptest.NewServer(&broken{breaks: b, tokens: map[string]*state{}})
	defer door.Close()
	w := &world{shape: shape{servers: 1}, history: newHistory(time.Now()), http: door.Client()}
	var err error
	if w.key, err = obolus.GenerateKey(obolus.ES256, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if w.idp, err = newIssuer(); err != nil {
		t.Fatal(err)
	}
	defer w.idp.srv.Close()
	l, err := newLink("door", func() string { return strings.TrimPrefix(door.URL, "http://") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	w.issuer, w.rsAddr = door.URL, strings.TrimPrefix(door.URL, "http://")
	w.servers = []*replica{{door: l}}
	for i := range peopleCount {
		w.people = append(w.people, &person{name: userName(i)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	worker := &worker{world: w, dice: newRandom(1)}
	for range 400 {
		worker.story(ctx)
	}
	return w.history.transactions(false)
}

// breaks are the promises that a server breaks.
type breaks struct{ twice, afterStop, anyRepeat, anybody bool }

// broken is a server that keeps the law but for what it is told to break.
type broken struct {
	breaks

	mu     sync.Mutex
	serial int
	tokens map[string]*state // by jti, which is the txn's name too
}

func (b *broken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = r.ParseForm()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/token" && r.Header.Get("Idempotency-Key") != "":
		w.WriteHeader(http.StatusBadRequest)
	case r.URL.Path == "/token":
		b.serial++
		id := "e1." + strings.Repeat("x", b.serial)
		b.tokens[id] = &state{live: id, epoch: 1}
		claims := `{"jti":"` + id + `","txn":"` + id + `","client_id":"agent1","aud":"` + mailURI + `","exp":4000000000}`
		_, _ = w.Write([]byte(`{"access_token":"x.` + encoded(claims) + `.x"}`))
	case r.URL.Path == "/revoke":
		t, _ := readToken(r.Form.Get("token"))
		b.tokens[t.jti].stopped = true
	case r.URL.Path == "/redeem":
		t, _ := readToken(r.Form.Get("token"))
		by, _, _ := r.BasicAuth()
		status, said := b.answer(b.tokens[t.jti], op{action: redeem, jti: t.jti, epoch: 1, by: by, id: r.Form.Get("redemption_id"), hash: r.Form.Get("request_hash")})
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"redemption":"` + said + `"}`))
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (b *broken) answer(s *state, o op) (status int, said string) {
	law := *s
	if b.afterStop {
		law.stopped = false
	}
	if b.twice {
		law.claim = claim{}
	}
	if b.anybody {
		o.by = mailServer
	}
	for _, c := range []struct {
		outcome outcome
		status  int
		said    string
	}{{first, 200, "first"}, {repeat, 200, "repeat"}, {mismatch, 422, ""}, {consumed, 409, ""}} {
		o.outcome = c.outcome
		if allowed, next := law.step(o, mailServer); allowed {
			s.claim = next.claim
			return c.status, c.said
		}
		if b.anyRepeat && s.claim != (claim{}) {
			return 200, "repeat"
		}
	}
	return 410, ""
}

func encoded(claims string) string { return base64.RawURLEncoding.EncodeToString([]byte(claims)) }
