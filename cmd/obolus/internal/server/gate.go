package server

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gate bounds how many requests are worked on at once, and how many others wait for a place. More at once would make nothing
// faster; who is beyond is told so while that is cheap, and who is let in is answered in time.
//
// Waiting is for bursts: when there were some who had to wait for longer than a burst lasts, each agent has few waiting. Who waits takes turns, by
// address and by agent, so that it matters little to one how much another sends. What tells whether a token still counts, and what stops one, goes before what
// makes new ones; every eighth turn is for those all the same.
type gate struct {
	mu      sync.Mutex
	free    int
	waiting [classes]line
	turns   int       // that were given to who waited
	since   time.Time // when the first came of those for whom there was no place, without a pause

	places   int
	patience time.Duration // how long a wait may last
	now      func() time.Time

	aside atomic.Int64 // requests that wait for a person
}

// class is what goes before what.
type class int

const (
	urgent class = iota
	later
	classes
)

const (
	burst  = time.Second // how long a wait may last, and how long some may wait until few may
	eighth = 8
	asides = 4096 // that may wait for a person
)

func newGate(places int, now func() time.Time) *gate {
	return &gate{free: places, places: places, patience: burst, now: now}
}

// place is that of one request.
type place struct {
	gate    *gate
	address string // whose it is
	agent   string // who it says to be of, if it has been looked at
	waited  bool
	held    bool
}

type placeKey struct{}

// admit waits for a place for a request from an address, which is then held. Where there is no hope of one it does not wait, nor read the request.
func (g *gate) admit(r *http.Request, address string) *place {
	c := classOf(r.URL.Path)
	p := &place{gate: g, address: address}
	g.mu.Lock()
	all, _ := g.waiting[c].weight(address)
	hope := g.free > 0 || all < g.most()
	g.mu.Unlock()
	if !hope {
		return p
	}
	form := received(r)
	if p.held = g.take(); !p.held {
		p.agent = claimed(r, form)
		p.held = g.enter(r.Context(), c, p)
	}
	return p
}

// room says whether one more may wait: as many as four for each place in all, and of an agent one for sixteen when some have had to wait for too long.
func (g *gate) room(c class, p *place) bool {
	all, own := g.waiting[c].weight(p.address, p.agent)
	if c == later && g.waiting[c].n > 0 && g.now().Sub(g.since) > burst && own >= (g.places+15)/16 {
		return false
	}
	return all < g.most()
}

func (g *gate) most() int { return 4 * g.places }

// classOf looks at the end of a path, since an issuer may have one of its own.
func classOf(path string) class {
	for _, end := range []string{"/redeem", "/introspect", "/revoke", "/authz", "/jwks.json"} {
		if strings.HasSuffix(path, end) {
			return urgent
		}
	}
	for _, part := range []string{"/txn/", "/authz/", "/agents"} {
		if strings.Contains(path, part) {
			return urgent
		}
	}
	return later
}

// take takes a place that is free.
func (g *gate) take() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free == 0 {
		return false
	}
	g.free--
	return true
}

// enter takes a place, or waits for one.
func (g *gate) enter(ctx context.Context, c class, p *place) bool {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return true
	}
	if !g.room(c, p) {
		g.mu.Unlock()
		return false
	}
	if g.waiting[urgent].n+g.waiting[later].n == 0 {
		g.since = g.now()
	}
	request := g.waiting[c].join(p.address, p.agent)
	g.mu.Unlock()
	p.waited = true
	over := time.NewTimer(g.patience)
	defer over.Stop()
	select {
	case <-request.turn:
		return true
	case <-over.C:
	case <-ctx.Done():
	}
	return g.giveUp(request)
}

// giveUp ends a wait, unless a place came at the last moment.
func (g *gate) giveUp(request *line) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-request.turn:
		return true
	default:
		request.leave()
		return false
	}
}

// exit gives a place to who waits, or back.
func (g *gate) exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	first, second := &g.waiting[urgent], &g.waiting[later]
	if g.turns++; g.turns%eighth == 0 {
		first, second = second, first
	}
	for _, l := range []*line{first, second} {
		if request := l.next(); request != nil {
			close(request.turn)
			return
		}
	}
	g.free++
}

// leave gives the place of a request back if it has one.
func (p *place) leave() {
	if p.held {
		p.held = false
		p.gate.exit()
	}
}

// aside gives the place of a request away for as long as it waits for a person. Back waits for another one, before all that
// is not urgent; a request that gets none has little left to do, and does it without.
func aside(ctx context.Context) (back func(), ok bool) {
	p, ok := ctx.Value(placeKey{}).(*place)
	if !ok {
		return func() {}, true
	}
	if p.gate.aside.Add(1) > asides {
		p.gate.aside.Add(-1)
		return nil, false
	}
	p.leave()
	return func() {
		p.gate.aside.Add(-1)
		p.held = p.gate.enter(ctx, urgent, p)
	}, true
}
