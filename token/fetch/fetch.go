// Package fetch makes the HTTP client for addresses that strangers name: a jwks_uri, the metadata of an issuer, a logo. It reaches
// the public Internet and nothing else, whatever a name resolves to and whenever. What is done with the answer is for
// the caller, who still bounds what it reads.
package fetch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// The refusals.
var (
	ErrAddress  = errors.New("the address is not on the public internet")
	ErrScheme   = errors.New("only https is fetched")
	ErrRedirect = errors.New("redirects are not followed")
)

const (
	timeout = 3 * time.Second // for everything from the name to the last byte
	maxBody = 1 << 20         // bytes
	maxHead = 64 << 10        // bytes
)

// Options widen or narrow what a client reaches. The zero value is right for addresses that strangers name.
type Options struct {
	// InsecureLoopback lets plain http and https reach this machine, and http nothing else: for development and tests.
	InsecureLoopback bool
	// InsecureAllow says that an address may be reached although it is not public: for installations whose
	// identity provider is in their own network. Nil: none.
	InsecureAllow func(netip.Addr) bool
	// Roots are the certificate authorities; nil: those of the system.
	Roots *x509.CertPool
}

// New makes a client: no proxy, no redirects, no decompression, no cookies, https only, three seconds and one MiB for an answer.
// The address is checked when it is dialled, after every look-up.
func New(o Options) *http.Client {
	d := door{secure: o.transport(o.check), plain: o.transport(o.checkLoopback), loopback: o.InsecureLoopback}
	return &http.Client{
		Transport:     d,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return ErrRedirect },
	}
}

func (o Options) transport(check func(netip.Addr) error) *http.Transport {
	dialer := &net.Dialer{
		Timeout: timeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrAddress, err)
			}
			return check(at.Addr())
		},
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		TLSHandshakeTimeout:    timeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           16,
		MaxConnsPerHost:        4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxHead,
	}
}

func (o Options) check(addr netip.Addr) error {
	addr = addr.Unmap()
	if Public(addr) || o.InsecureLoopback && addr.IsLoopback() || o.InsecureAllow != nil && o.InsecureAllow(addr) {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrAddress, addr)
}

func (Options) checkLoopback(addr netip.Addr) error {
	if addr.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrScheme, addr)
}

// door is the way out: https by one transport, and http to this machine by the other if that is allowed.
type door struct {
	secure, plain *http.Transport
	loopback      bool
}

// RoundTrip sends a request by its scheme and bounds the answer.
func (d door) RoundTrip(req *http.Request) (*http.Response, error) {
	var way *http.Transport
	switch {
	case req.URL.Scheme == "https":
		way = d.secure
	case req.URL.Scheme == "http" && d.loopback:
		way = d.plain
	default:
		return nil, ErrScheme
	}
	resp, err := way.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxBody)
	return resp, nil
}

// CloseIdleConnections lets go of connections that are kept.
func (d door) CloseIdleConnections() {
	d.secure.CloseIdleConnections()
	d.plain.CloseIdleConnections()
}

// Public says whether an address is a unicast address of the public Internet: none of the special-purpose registries of RFC 6890
// and its successors. An IPv4 address in IPv6 clothes counts as what it is; those that a gateway translates are refused.
func Public(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" || addr.Is6() && !global6.Contains(addr) {
		return false
	}
	for _, p := range special {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

var global6 = netip.MustParsePrefix("2000::/3") //nolint:gochecknoglobals // a constant

var special = []netip.Prefix{ //nolint:gochecknoglobals // a constant table
	netip.MustParsePrefix("0.0.0.0/8"),         // this network
	netip.MustParsePrefix("10.0.0.0/8"),        // private
	netip.MustParsePrefix("100.64.0.0/10"),     // shared by a carrier
	netip.MustParsePrefix("127.0.0.0/8"),       // loopback
	netip.MustParsePrefix("169.254.0.0/16"),    // link local, and where clouds answer for a machine
	netip.MustParsePrefix("172.16.0.0/12"),     // private
	netip.MustParsePrefix("192.0.0.0/24"),      // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),      // documentation
	netip.MustParsePrefix("192.31.196.0/24"),   // AS112
	netip.MustParsePrefix("192.52.193.0/24"),   // AMT
	netip.MustParsePrefix("192.88.99.0/24"),    // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),    // private
	netip.MustParsePrefix("192.175.48.0/24"),   // AS112
	netip.MustParsePrefix("198.18.0.0/15"),     // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"),   // documentation
	netip.MustParsePrefix("203.0.113.0/24"),    // documentation
	netip.MustParsePrefix("224.0.0.0/4"),       // multicast
	netip.MustParsePrefix("240.0.0.0/4"),       // reserved, broadcast
	netip.MustParsePrefix("2001::/23"),         // protocol assignments: Teredo, ORCHID
	netip.MustParsePrefix("2001:db8::/32"),     // documentation
	netip.MustParsePrefix("2002::/16"),         // 6to4
	netip.MustParsePrefix("2620:4f:8000::/48"), // AS112
	netip.MustParsePrefix("3fff::/20"),         // documentation
}
