package fetch_test

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"obolus/token/fetch"
)

// names answers look-ups of every name with the addresses that it has at the moment.
type names struct {
	addrs atomic.Pointer[[]netip.Addr]
	asked atomic.Int32
}

func (n *names) are(addrs ...string) {
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	n.addrs.Store(&list)
}

// serve answers what comes until the connection is closed.
func (n *names) serve(t *testing.T, conn net.PacketConn) {
	t.Helper()
	query := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(query)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(query[:size]); err != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		q := m.Questions[0]
		for _, a := range *n.addrs.Load() {
			if q.Type == dnsmessage.TypeA {
				n.asked.Add(1)
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: a.As4()},
				})
			}
		}
		answer, err := m.Pack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.WriteTo(answer, from)
	}
}

// NEG-097: a name that leads to an allowed address when it is first looked up, and inside when it is dialled again. The address that is allowed
// is another one of this machine, so that nothing leaves it. It changes how names are looked up in this process, and so runs alone.
func TestARebindingName(t *testing.T) {
	var named names
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go named.serve(t, conn)
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}

	inside, connections := counted(t, ok)
	port := inside.URL[strings.LastIndexByte(inside.URL, ':'):]
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2"+port)
	if err != nil {
		t.Fatal(err)
	}
	outside := httptest.NewUnstartedServer(inside.Config.Handler)
	_ = outside.Listener.Close()
	outside.Listener = l
	outside.StartTLS()
	t.Cleanup(outside.Close)
	client := fetch.New(fetch.Options{Roots: roots(outside), InsecureAllow: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.2") }})
	uri := "https://example.com" + port // as the certificate of the test servers says

	named.are("127.0.0.2")
	if body, err := get(t, client, uri); err != nil || body != "hello" {
		t.Fatalf("where it leads first: %q, %v", body, err)
	}
	for _, addrs := range [][]string{{"127.0.0.1"}, {"169.254.169.254"}, {"10.0.0.1", "127.0.0.1"}} {
		client.CloseIdleConnections()
		named.are(addrs...)
		if body, err := get(t, client, uri); !errors.Is(err, fetch.ErrAddress) {
			t.Errorf("then to %v: %q, %v", addrs, body, err)
		}
	}
	client.CloseIdleConnections()
	named.are("127.0.0.1", "127.0.0.2")
	if body, err := get(t, client, uri); err != nil || body != "hello" {
		t.Errorf("to both: %q, %v", body, err)
	}
	if n := connections.Load(); n != 0 || named.asked.Load() < 4 {
		t.Errorf("%d connections inside, %d look-ups", n, named.asked.Load())
	}
}
