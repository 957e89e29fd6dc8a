package conformance_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// lossy stands before a server and passes everything on, but for the answers it is told to lose.
type lossy struct {
	addr  string
	watch atomic.Pointer[[]byte]

	mu   sync.Mutex
	lost []net.Conn // those whose answers went nowhere
}

// before starts one before the server at an address.
func before(t *testing.T, addr string) *lossy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &lossy{addr: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(conn, addr)
		}
	}()
	return p
}

// lose loses the answer to what holds the word, and to all that follows on its connection.
func (p *lossy) lose(word string) {
	b := []byte(word)
	p.watch.Store(&b)
}

// heal loses nothing from now on, and ends the connections on which something was lost. It returns how many there were.
func (p *lossy) heal() int {
	p.watch.Store(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.lost {
		conn.Close()
	}
	defer func() { p.lost = nil }()
	return len(p.lost)
}

func (p *lossy) carry(client net.Conn, addr string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, io.TeeReader(client, &ear{p: p, conn: server, mute: &mute}))
	}()
	answer := make([]byte, 64<<10)
	for {
		n, err := server.Read(answer)
		if !mute.Load() {
			_, _ = client.Write(answer[:n])
		}
		if err != nil {
			return
		}
	}
}

// ear hears what a client says, also where a word is cut in two.
type ear struct {
	p    *lossy
	conn net.Conn
	mute *atomic.Bool
	last []byte
}

// Write listens.
func (e *ear) Write(said []byte) (int, error) {
	word := e.p.watch.Load()
	heard := append(e.last, said...)
	if word != nil && bytes.Contains(heard, *word) && e.mute.CompareAndSwap(false, true) {
		e.p.mu.Lock()
		e.p.lost = append(e.p.lost, e.conn)
		e.p.mu.Unlock()
	}
	e.last = bytes.Clone(heard[max(0, len(heard)-256):])
	return len(said), nil
}
