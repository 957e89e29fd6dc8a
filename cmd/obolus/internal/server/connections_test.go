package server_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/server"
)

// visitors is a listener whose connections say where they come from.
type visitors struct {
	net.Listener
	come chan string
	mu   sync.Mutex
	far  []net.Conn
}

type visitor struct {
	net.Conn
	from string
}

func (v visitor) RemoteAddr() net.Addr {
	at, _ := net.ResolveTCPAddr("tcp", v.from)
	return at
}

func (v *visitors) Accept() (net.Conn, error) {
	from, ok := <-v.come
	if !ok {
		return nil, net.ErrClosed
	}
	near, far := net.Pipe()
	v.mu.Lock()
	v.far = append(v.far, far)
	v.mu.Unlock()
	return visitor{near, from}, nil
}

func (v *visitors) Close() error {
	close(v.come)
	return nil
}

// One address has half of what is left, of IPv6 one network; this machine and the exempt have all of it.
func TestConnectionsOfAnAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		from  []string
		taken int // of the first eight
	}{
		{"one address", []string{"192.0.2.1:1"}, 4},
		{"two", []string{"192.0.2.1:1", "192.0.2.2:1"}, 6},
		{"one network", []string{"[2001:db8::1]:1", "[2001:db8::2]:1"}, 4},
		{"two networks", []string{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1"}, 6},
		{"mapped", []string{"[::ffff:192.0.2.1]:1", "192.0.2.1:1"}, 4},
		{"this machine", []string{"127.0.0.1:1"}, 8},
		{"this machine by IPv6", []string{"[::1]:1"}, 8},
		{"a proxy", []string{"192.0.2.9:1"}, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inner := &visitors{come: make(chan string, 16)}
			l, many := server.Bounded(inner, 8, "192.0.2.9")
			taken := make(chan net.Conn, 16)
			go func() {
				defer close(taken)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					taken <- conn
				}
			}()
			for i := range 8 {
				inner.come <- c.from[i%len(c.from)]
			}
			inner.come <- "198.51.100.1:1" // somebody else is let in, or waits until one goes
			var open []net.Conn
			for range c.taken {
				open = append(open, <-taken)
			}
			if c.taken != 6 && many() != (c.taken == 8) {
				t.Errorf("many: %v", many())
			}
			if c.taken == 8 {
				select {
				case <-taken:
					t.Error("there are more than there may be")
				case <-time.After(20 * time.Millisecond):
				}
				_ = open[0].Close()
				_ = open[0].Close() // once more counts once
			}
			if last := <-taken; last.RemoteAddr().String() != "198.51.100.1:1" {
				t.Errorf("%s came in", last.RemoteAddr())
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			for range taken {
				t.Error("one more came in")
			}
		})
	}
}

// A listener that waits for a connection to end can be closed, and the place of one that ended is given on.
func TestAFullListenerEnds(t *testing.T) {
	t.Parallel()
	inner := &visitors{come: make(chan string, 16)}
	l, _ := server.Bounded(inner, 2, "192.0.2.9")
	var open []net.Conn
	for range 2 {
		inner.come <- "192.0.2.9:1"
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	for range 3 {
		_ = open[0].Close()
		inner.come <- "192.0.2.9:1"
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open[1:], conn)
	}
	over := make(chan error)
	go func() {
		_, err := l.Accept()
		over <- err
	}()
	_ = l.Close()
	if err := <-over; err == nil {
		t.Error("a listener that is closed accepts")
	}
}
