package fetch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/token/fetch"
)

func TestPublic(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "100.63.255.255": true, "172.15.0.1": true, "172.32.0.1": true, "192.0.1.1": true,
		"2606:4700::1111": true, "2001:4860:4860::8888": true, "::ffff:8.8.8.8": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "10.255.255.255": false, "100.64.0.1": false, "127.0.0.1": false, "127.1.2.3": false,
		"169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false,
		"192.168.1.1": false, "198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false,
		"240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::7f00:1": false, "::ffff:127.0.0.1": false, "::ffff:7f00:1": false, "::ffff:10.0.0.1": false,
		"::ffff:169.254.169.254": false, "64:ff9b::7f00:1": false, "64:ff9b::808:808": false, "64:ff9b:1::1": false, "100::1": false, "2001::1": false,
		"2001:2::1": false, "2001:10::1": false, "2001:db8::1": false, "2002:7f00:1::1": false, "3fff::1": false, "5f00::1": false, "fc00::1": false,
		"fd00::1": false, "fe80::1": false, "fe80::1%eth0": false, "2606:4700::1%eth0": false, "fec0::1": false, "ff02::1": false,
	} {
		if got := fetch.Public(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if fetch.Public(netip.Addr{}) {
		t.Error("no address at all")
	}
}

// counted is a server that counts the connections it gets.
func counted(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewUnstartedServer(handler)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, &n
}

func roots(s *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

func ok(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }

func get(t *testing.T, c *http.Client, uri string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, uri, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestNothingInsideIsReached(t *testing.T) {
	t.Parallel()
	s, connections := counted(t, ok)
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	client := fetch.New(fetch.Options{Roots: roots(s)})
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]"} {
		if body, err := get(t, client, "https://"+host+port+"/"); !errors.Is(err, fetch.ErrAddress) && !noRoute(err) {
			t.Errorf("%s: %q, %v", host, body, err)
		}
	}
	for _, host := range []string{"10.0.0.1", "169.254.169.254", "[fd00::1]", "[64:ff9b::a9fe:a9fe]"} {
		if body, err := get(t, client, "https://"+host+"/"); !errors.Is(err, fetch.ErrAddress) && !noRoute(err) {
			t.Errorf("%s: %q, %v", host, body, err)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// noRoute is for machines without IPv6, where a socket of that kind does not even come to be.
func noRoute(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && strings.Contains(err.Error(), "[") && !strings.Contains(err.Error(), "refused")
}

func TestWhatIsAllowedIsReached(t *testing.T) {
	t.Parallel()
	s, _ := counted(t, ok)
	for name, o := range map[string]fetch.Options{
		"loopback":   {InsecureLoopback: true},
		"by address": {InsecureAllow: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") }},
	} {
		o.Roots = roots(s)
		if body, err := get(t, fetch.New(o), s.URL); err != nil || body != "hello" {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	other := fetch.Options{Roots: roots(s), InsecureAllow: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.2") }}
	if _, err := get(t, fetch.New(other), s.URL); !errors.Is(err, fetch.ErrAddress) {
		t.Errorf("another address: %v", err)
	}
	if _, err := get(t, fetch.New(fetch.Options{InsecureLoopback: true}), s.URL); err == nil {
		t.Error("a certificate of nobody was taken")
	}
}

func TestOnlyHTTPS(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(ok))
	t.Cleanup(s.Close)
	strict, loose := fetch.New(fetch.Options{}), fetch.New(fetch.Options{InsecureLoopback: true, InsecureAllow: func(netip.Addr) bool { return true }})
	if _, err := get(t, strict, s.URL); !errors.Is(err, fetch.ErrScheme) {
		t.Errorf("http: %v", err)
	}
	if body, err := get(t, loose, s.URL); err != nil || body != "hello" {
		t.Errorf("http to loopback: %q, %v", body, err)
	}
	if _, err := get(t, loose, "http://192.0.2.1/"); !errors.Is(err, fetch.ErrScheme) {
		t.Errorf("http to elsewhere: %v", err)
	}
	if _, err := get(t, loose, "ftp://127.0.0.1/"); !errors.Is(err, fetch.ErrScheme) {
		t.Errorf("ftp: %v", err)
	}
	loose.CloseIdleConnections()
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"/there", "http://127.0.0.1:1/", "https://169.254.169.254/latest/meta-data"} {
		var hits atomic.Int64
		s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
			hits.Add(1)
			http.Redirect(w, r, to, http.StatusFound)
		})
		if _, err := get(t, fetch.New(fetch.Options{InsecureLoopback: true, Roots: roots(s)}), s.URL); !errors.Is(err, fetch.ErrRedirect) {
			t.Errorf("%s: %v", to, err)
		}
		if hits.Load() != 1 {
			t.Errorf("%s: %d requests", to, hits.Load())
		}
	}
}

func TestNoProxy(t *testing.T) {
	proxied, _ := counted(t, ok)
	t.Setenv("HTTPS_PROXY", proxied.URL)
	t.Setenv("NO_PROXY", "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://192.0.2.1/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := fetch.New(fetch.Options{InsecureLoopback: true}).Do(req); !errors.Is(err, fetch.ErrAddress) {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	bomb := new(bytes.Buffer)
	z := gzip.NewWriter(bomb)
	z.Write(make([]byte, 16<<20))
	z.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		good   bool
	}{
		"a MiB":         {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }, true},
		"a byte more":   {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20+1)) }, false},
		"a long header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 256<<10)) }, false},
		"a bomb in gzip": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}, true},
	} {
		s, _ := counted(t, c.answer)
		body, err := get(t, fetch.New(fetch.Options{InsecureLoopback: true, Roots: roots(s)}), s.URL)
		if (err == nil) != c.good || len(body) > 1<<20 {
			t.Errorf("%s: %d bytes, %v", name, len(body), err)
		}
	}
}

func TestASlowAnswerIsGivenUp(t *testing.T) {
	t.Parallel()
	s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		for range 1000 {
			if _, err := w.Write([]byte(".")); err != nil {
				panic(http.ErrAbortHandler) // to return would end the answer, as if it were whole
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	began := time.Now()
	_, err := get(t, fetch.New(fetch.Options{InsecureLoopback: true, Roots: roots(s)}), s.URL)
	var timeout *url.Error
	if err == nil || !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}
