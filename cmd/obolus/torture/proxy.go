//go:build linux

package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// What a link does with what is sent over it.
type linkState int

const (
	linkOpen linkState = iota
	linkCut            // connections are reset, and new ones too
	linkHeld           // nothing arrives until the link is open again; then everything does
	linkDeaf           // what is asked arrives, and what is answered does not; then the connections are reset
	linkSlow           // everything arrives a while later
)

// link is the network between two processes: a TCP proxy that can be told to be a bad one.
type link struct {
	name   string
	listen net.Listener
	target func() string // the address to connect to; empty: nobody is there

	mu      sync.Mutex
	changed *sync.Cond
	state   linkState
	delay   time.Duration
	conns   map[*wire]bool
	closed  bool
}

// wire is one connection.
type wire struct {
	down, up net.Conn
	lost     bool // an answer was not delivered
}

func (w *wire) reset() {
	for _, c := range []net.Conn{w.down, w.up} {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

func newLink(name string, target func() string) (*link, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // close closes it
	if err != nil {
		return nil, err
	}
	l := &link{name: name, listen: listen, target: target, conns: map[*wire]bool{}}
	l.changed = sync.NewCond(&l.mu)
	go l.serve()
	return l, nil
}

func (l *link) addr() string { return l.listen.Addr().String() }

// set changes what the link does. What was lost while it was deaf is made known by a reset.
func (l *link) set(state linkState, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.conns {
		if state == linkCut || l.state == linkDeaf && w.lost {
			w.reset()
		}
	}
	l.state, l.delay = state, delay
	l.changed.Broadcast()
}

func (l *link) close() {
	_ = l.listen.Close()
	l.set(linkCut, 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
}

func (l *link) serve() {
	for {
		conn, err := l.listen.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go l.carry(conn)
		}
	}
}

func (l *link) carry(conn net.Conn) {
	w := &wire{down: conn, up: nowhere{}}
	defer w.reset()
	if l.pass(w, true) != nil {
		return
	}
	up, err := net.DialTimeout("tcp", l.target(), time.Second) //nolint:noctx // it has a timeout
	if err != nil {
		return
	}
	w.up = up
	l.mu.Lock()
	cut := l.state == linkCut || l.closed
	l.conns[w] = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, w)
	}()
	if cut {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(w, w.up, w.down, true) })
	both.Go(func() { l.copy(w, w.down, w.up, false) })
	both.Wait()
}

// copy carries one direction; asking is the one towards the target.
func (l *link) copy(w *wire, to, from net.Conn, asking bool) { //nolint:revive // the two directions differ in this alone
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			dropped := l.pass(w, asking)
			if dropped == nil {
				_, dropped = to.Write(buf[:n])
			}
			if dropped != nil && !errors.Is(dropped, errDropped) {
				err = dropped
			}
		}
		if err != nil {
			w.reset()
			return
		}
	}
}

var errDropped = errors.New("it was lost on the way")

// pass waits as long as the link wants, and says what becomes of what is to be carried.
func (l *link) pass(w *wire, asking bool) error { //nolint:revive // see copy
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed, l.state == linkCut:
			return io.ErrClosedPipe
		case l.state == linkOpen:
			return nil
		case l.state == linkDeaf && asking:
			return nil
		case l.state == linkDeaf:
			w.lost = true
			return errDropped
		case l.state == linkSlow:
			delay := l.delay
			l.mu.Unlock()
			time.Sleep(delay)
			l.mu.Lock()
			return nil
		}
		l.changed.Wait()
	}
}

// nowhere is the other end of a connection that has none yet.
type nowhere struct{ net.Conn }

// Close does nothing.
func (nowhere) Close() error { return nil }
