package server

import (
	"bytes"
	"container/list"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gate bounds how many requests are worked on at once, and how long others wait for a place. More at once would make nothing
// faster; who is beyond is told so while that is cheap, and who is let in is answered in time.
//
// Waiting is for bursts. Who comes when somebody has had to wait for longer than a burst lasts waits a moment and no more. What
// tells whether a token still counts, and what stops one, goes before what makes new ones, and always waits for as long as a burst lasts.
type gate struct {
	mu      sync.Mutex
	free    int
	waiting [classes]list.List // of chan struct{}
	places  int
	since   time.Time // when the first came of those for whom there was no place, without a pause
	now     func() time.Time

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
	burst   = time.Second           // how long a wait may last, and how long there may be some until there are too many
	crowded = 50 * time.Millisecond // how long a wait may last then
	asides  = 4096                  // that may wait for a person
)

func newGate(places int, now func() time.Time) *gate {
	return &gate{free: places, places: places, now: now}
}

// place is that of one request.
type place struct {
	gate *gate
	held bool
}

type placeKey struct{}

// admit waits for a place for a request. Where there is no hope of one it says so before the request was read.
func (g *gate) admit(r *http.Request) (*place, bool) {
	c := classOf(r.URL.Path)
	g.mu.Lock()
	_, hope := g.patience(c)
	g.mu.Unlock()
	if !hope {
		return nil, false
	}
	received(r)
	if !g.enter(r.Context(), c) {
		return nil, false
	}
	return &place{gate: g, held: true}, true
}

// patience is how long a request may wait, if it may: four for each place, and one for four of them when they are too many.
func (g *gate) patience(c class) (time.Duration, bool) {
	switch all := g.waiting[urgent].Len() + g.waiting[later].Len(); {
	case g.free > 0 || all == 0:
		return burst, true
	case c == later && g.now().Sub(g.since) > burst:
		return crowded, g.waiting[c].Len() < (g.places+3)/4
	default:
		return burst, g.waiting[c].Len() < 4*g.places
	}
}

// classOf looks at the end of a path, since an issuer may have one of its own.
func classOf(path string) class {
	for _, end := range []string{"/redeem", "/introspect", "/revoke", "/authz", "/jwks.json"} {
		if strings.HasSuffix(path, end) {
			return urgent
		}
	}
	for _, part := range []string{"/txn/", "/authz/", "/admin/"} {
		if strings.Contains(path, part) {
			return urgent
		}
	}
	return later
}

func (g *gate) enter(ctx context.Context, c class) bool {
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return true
	}
	patience, hope := g.patience(c)
	if !hope {
		g.mu.Unlock()
		return false
	}
	if g.waiting[urgent].Len()+g.waiting[later].Len() == 0 {
		g.since = g.now()
	}
	turn := make(chan struct{})
	at := g.waiting[c].PushBack(turn)
	g.mu.Unlock()
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case <-turn:
		return true
	case <-over.C:
	case <-ctx.Done():
	}
	return g.giveUp(c, at, turn)
}

// giveUp ends a wait, unless a place came at the last moment.
func (g *gate) giveUp(c class, at *list.Element, turn <-chan struct{}) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-turn:
		return true
	default:
		g.waiting[c].Remove(at)
		return false
	}
}

// exit gives a place to who waits, or back.
func (g *gate) exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.waiting {
		if at := g.waiting[c].Front(); at != nil {
			turn, _ := g.waiting[c].Remove(at).(chan struct{})
			close(turn)
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
		p.held = p.gate.enter(ctx, urgent)
	}, true
}

// crowd counts those who were not let in.
type crowd struct {
	mu   sync.Mutex
	n    int
	told time.Time
}

// count says how many there were since it was last said, once a second.
func (c *crowd) count(now time.Time) (n int, say bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if now.Sub(c.told) < time.Second {
		return 0, false
	}
	n, c.n, c.told = c.n, 0, now
	return n, true
}

// maxReceived bounds what is received of a request before it has a place: more than any form may have.
const maxReceived = 128 << 10

// received waits until a request is here as a whole, so that who sends slowly holds no place meanwhile. What is longer is received as
// it is read.
func received(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return
	}
	var start bytes.Buffer
	if r.ContentLength > 0 {
		start.Grow(int(min(r.ContentLength, maxReceived)) + bytes.MinRead)
	}
	rest := r.Body
	_, err := start.ReadFrom(io.LimitReader(rest, maxReceived))
	r.Body = &body{Reader: io.MultiReader(&start, &failing{rest, err}), Closer: rest}
}

// body is one whose beginning was received.
type body struct {
	io.Reader
	io.Closer
}

// failing is what follows of a body: an error, if there was one.
type failing struct {
	rest io.Reader
	err  error
}

// Read reads on.
func (f *failing) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.rest.Read(p)
}
