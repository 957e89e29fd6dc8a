package server

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
)

// connections bounds how many there are at once. When there are as many as there may be the listener waits, and who comes waits in the backlog
// of the system. One address has half of what is left at most, but for this machine and the trusted proxies, which stand for many: what it opens
// beyond is closed.
type connections struct {
	net.Listener
	exempt func(netip.Addr) bool
	most   int
	now    atomic.Int64 // those that are open

	mu     sync.Mutex
	of     map[string]int // by address
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func bounded(l net.Listener, most int, exempt func(netip.Addr) bool) *connections {
	return &connections{
		Listener: l, exempt: exempt, most: most, of: map[string]int{}, places: make(chan struct{}, most), closed: make(chan struct{}),
	}
}

// Accept waits until there may be one more.
func (c *connections) Accept() (net.Conn, error) {
	for {
		select {
		case c.places <- struct{}{}:
		case <-c.closed:
			return nil, net.ErrClosed
		}
		conn, err := c.Listener.Accept()
		if err != nil {
			<-c.places
			return nil, err
		}
		address := addressOf(conn.RemoteAddr().String())
		if c.opened(address) {
			return &connection{Conn: conn, all: c, address: address}, nil
		}
		<-c.places
		_ = conn.Close() // what it says of that helps nobody
	}
}

// Close ends a wait, too.
func (c *connections) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Listener.Close()
}

// opened counts a connection if its address may have one more.
func (c *connections) opened(address string) bool {
	at, err := netip.ParseAddr(address)
	free := err == nil && (at.IsLoopback() || c.exempt(at))
	c.mu.Lock()
	defer c.mu.Unlock()
	if !free && int(c.now.Load())+c.of[address] >= c.most {
		return false
	}
	c.of[address]++
	c.now.Add(1)
	return true
}

func (c *connections) ended(address string) {
	c.mu.Lock()
	c.now.Add(-1)
	if c.of[address]--; c.of[address] == 0 {
		delete(c.of, address)
	}
	c.mu.Unlock()
	<-c.places
}

// many says that few more are free: then a client is asked to let go of its connection after an answer, so that another may have its turn.
func (c *connections) many() bool { return int(c.now.Load()) > c.most/4*3 }

// connection is one that counts until it is closed.
type connection struct {
	net.Conn
	all     *connections
	address string
	once    sync.Once
}

// Close closes it.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.all.ended(c.address) })
	return err
}

// CloseWrite is what net/http asks for, so that its last answer arrives where a request was not read to its end.
func (c *connection) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// addressOf is what stands for whoever is at an address with a port: the address, of IPv6 the network, since a host has all of its addresses.
func addressOf(remote string) string {
	i := strings.LastIndexByte(remote, ':')
	if i < 0 {
		return remote
	}
	host := remote[:i]
	if !strings.HasPrefix(host, "[") {
		return host
	}
	at, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return host
	}
	if at = at.Unmap(); at.Is4() || at.IsLoopback() {
		return at.String()
	}
	network, err := at.WithZone("").Prefix(64)
	if err != nil {
		return host
	}
	return network.Masked().Addr().String()
}
