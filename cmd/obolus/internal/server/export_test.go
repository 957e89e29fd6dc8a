package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// NewDoor is the door before a handler, with so many places.
func NewDoor(next http.Handler, log *slog.Logger, places int) http.Handler {
	return newDoor(Options{Log: log, MaxInFlight: places}.filled(), newMetrics(""), next)
}

// Patient makes a door at which a wait for a place may last a minute.
func Patient(h http.Handler) http.Handler {
	if d, ok := h.(*door); ok {
		d.gate.patience = time.Minute
	}
	return h
}

// WaitingAt is how many wait for a place at a door.
func WaitingAt(h http.Handler) int {
	d, _ := h.(*door)
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	return d.gate.waiting[urgent].n + d.gate.waiting[later].n
}

// Aside is how a request waits for a person.
func Aside(ctx context.Context) (back func(), ok bool) { return aside(ctx) }

// Asleep are options of a server that does not look by itself which guardrails others were told.
func Asleep(o Options) Options {
	o.bookTime = time.Hour
	return o
}

// Bounded is a listener of so many connections, of which one address is exempt.
func Bounded(l net.Listener, most int, exempt string) (bounds net.Listener, many func() bool) {
	b := bounded(l, most, func(at netip.Addr) bool { return at.String() == exempt })
	return b, b.many
}

// Line is who waits.
type Line struct{ line line }

// Waiting is one of them.
type Waiting struct{ request *line }

// Join lets an agent at an address wait.
func (l *Line) Join(address, agent string) *Waiting { return &Waiting{l.line.join(address, agent)} }

// Leave ends a wait.
func (w *Waiting) Leave() { w.request.leave() }

// Next is whose turn it is.
func (l *Line) Next() *Waiting {
	if request := l.line.next(); request != nil {
		return &Waiting{request}
	}
	return nil
}

// Is says whether both are the same.
func (w *Waiting) Is(other *Waiting) bool { return w.request == other.request }

// Empty says that nothing is kept of those who waited.
func (l *Line) Empty() bool {
	return l.line.n == 0 && l.line.turns.Len() == 0 && len(l.line.under) == 0
}

// Weight is how much there is already of an agent at an address.
func (l *Line) Weight(address, agent string) (all, own int) { return l.line.weight(address, agent) }
