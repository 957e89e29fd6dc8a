package token_test

import (
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/token"
)

// host publishes documents, and can be told to answer otherwise.
type host struct {
	*httptest.Server
	hits   atomic.Int64
	mu     sync.Mutex
	answer http.HandlerFunc
}

func newHost(t *testing.T, answer http.HandlerFunc) *host {
	t.Helper()
	h := &host{answer: answer}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.hits.Add(1)
		h.mu.Lock()
		answer := h.answer
		h.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) will(answer http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

// publish answers with a document.
func publish(document string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.Write([]byte(document))
	}
}

func fail(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

func jwks(t *testing.T, names ...string) string {
	t.Helper()
	var keys []token.PublicKey
	for _, name := range names {
		keys = append(keys, pairs()[name].Public())
	}
	text, err := token.NewPublicSet(keys...).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ticking is a clock that is set by hand.
type ticking struct {
	mu  sync.Mutex
	now time.Time
}

func (c *ticking) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *ticking) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func remote(h *host, c *ticking) *token.RemoteKeys {
	return token.NewRemoteKeys(token.RemoteConfig{URI: h.URL, Client: h.Client(), Now: c.Now})
}

func TestRemoteKeysAreKeptWhileFresh(t *testing.T) {
	t.Parallel()
	kid := pairs()[token.ES256].KeyID()
	for _, c := range []struct {
		control string
		fresh   time.Duration
	}{
		{"", 5 * time.Minute},
		{"public", 5 * time.Minute},
		{"max-age=600", 10 * time.Minute},
		{`public, Max-Age="600"`, 10 * time.Minute},
		{"max-age=1", time.Minute},
		{"max-age=99999999", time.Hour},
		{"max-age=99999999999999999999", 5 * time.Minute},
		{"max-age=-5", 5 * time.Minute},
		{"max-age=3600, no-store", time.Minute},
		{"no-cache", time.Minute},
	} {
		h := newHost(t, publish(jwks(t, token.ES256), "Cache-Control", c.control))
		clock := &ticking{now: start}
		keys := remote(h, clock)
		for _, step := range []struct {
			pass time.Duration
			hits int64
		}{{0, 1}, {0, 1}, {c.fresh - 1, 1}, {1, 2}, {0, 2}} {
			clock.pass(step.pass)
			if _, err := keys.Key(t.Context(), kid); err != nil {
				t.Errorf("%q: %v", c.control, err)
			}
			if got := h.hits.Load(); got != step.hits {
				t.Errorf("%q: %d fetches, want %d", c.control, got, step.hits)
			}
		}
	}
}

func TestAFloodOfUnknownKeysFetchesOncePerInterval(t *testing.T) {
	t.Parallel()
	h := newHost(t, publish(jwks(t, token.ES256), "Cache-Control", "max-age=3600"))
	clock := &ticking{now: start}
	keys := remote(h, clock)
	if _, err := keys.Key(t.Context(), pairs()[token.ES256].KeyID()); err != nil {
		t.Fatal(err)
	}
	flood := func() {
		for range 50 {
			if _, err := keys.Key(t.Context(), "nobody"); !errors.Is(err, token.ErrNoKey) {
				t.Fatal(err)
			}
		}
	}
	for want := int64(1); want < 4; want++ {
		flood()
		if got := h.hits.Load(); got != want {
			t.Errorf("%d fetches, want %d", got, want)
		}
		clock.pass(30 * time.Second)
	}
	// A key that has come meanwhile is found by the first who asks for it.
	h.will(publish(jwks(t, token.ES256, token.EdDSA)))
	if _, err := keys.Key(t.Context(), pairs()[token.EdDSA].KeyID()); err != nil {
		t.Error(err)
	}
	// Without a name there must be one key only.
	if _, err := keys.Key(t.Context(), ""); !errors.Is(err, token.ErrNoKey) {
		t.Error(err)
	}
}

func TestManyAskAndOneFetches(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	document := jwks(t, token.ES256)
	h := newHost(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		publish(document)(w, r)
	})
	keys := remote(h, &ticking{now: start})
	var left, wg sync.WaitGroup
	ask := func(ctx context.Context, good bool) {
		_, err := keys.Key(ctx, pairs()[token.ES256].KeyID())
		if (err == nil) != good {
			t.Errorf("got %v", err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	left.Go(func() { ask(gone, false) }) // the one who fetches goes away, and the others are served all the same
	<-arrived
	for range 20 {
		wg.Go(func() { ask(t.Context(), true) })
	}
	leave()
	left.Wait()
	close(release)
	wg.Wait()
	if got := h.hits.Load(); got != 1 {
		t.Errorf("%d fetches", got)
	}
}

func TestFailuresAreNotRemembered(t *testing.T) {
	t.Parallel()
	good := jwks(t, token.ES256)
	kid := pairs()[token.ES256].KeyID()
	for name, bad := range map[string]http.HandlerFunc{
		"500": fail(500),
		"404": fail(404),
		"204": fail(204),
		"201": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			w.Write([]byte(good))
		},
		"a redirect":          func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"no JSON":             publish("<html>"),
		"HTML":                publish(good, "Content-Type", "text/html"),
		"a private key":       publish(`{"keys":[` + string(privateJWK(t, pairs()[token.ES256])) + `]}`),
		"no keys":             publish(`{"keys":[]}`),
		"keys of other kinds": publish(`{"keys":[{"kty":"XY"}]}`),
		"a kid twice":         publish(strings.Replace(good, "[", "["+strings.TrimSuffix(strings.TrimPrefix(good, `{"keys":[`), `]}`)+",", 1)),
		"more than 256 KiB":   publish(good + strings.Repeat(" ", 257<<10)),
		"cut short":           publish(good, "Content-Length", "9999"),
		"no content type":     func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil; w.Write([]byte(good)) },
		"a gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(make([]byte, 8<<20))
			z.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, bad)
			if name == "HTML" {
				h.will(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					w.Write([]byte(good))
				})
			}
			keys := remote(h, &ticking{now: start})
			if _, err := keys.Key(t.Context(), kid); err == nil || errors.Is(err, token.ErrNoKey) {
				t.Errorf("got %v", err)
			}
			if got := h.hits.Load(); got != 1 {
				t.Errorf("%d fetches: it followed", got)
			}
			h.will(publish(good))
			if _, err := keys.Key(t.Context(), kid); err != nil {
				t.Errorf("then: %v", err)
			}
		})
	}
}

func TestAHostThatKeepsFailingIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t, fail(500))
	clock := &ticking{now: start}
	keys := remote(h, clock)
	for range 20 {
		if _, err := keys.Key(t.Context(), "x"); !errors.Is(err, token.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if got := h.hits.Load(); got != 3 {
		t.Errorf("%d fetches", got)
	}
	h.will(publish(jwks(t, token.ES256)))
	clock.pass(30 * time.Second)
	if _, err := keys.Key(t.Context(), pairs()[token.ES256].KeyID()); err != nil {
		t.Error(err)
	}
}

func TestStaleKeysServeForABoundedTime(t *testing.T) {
	t.Parallel()
	kid := pairs()[token.ES256].KeyID()
	h := newHost(t, publish(jwks(t, token.ES256)))
	clock := &ticking{now: start}
	keys := token.NewRemoteKeys(token.RemoteConfig{URI: h.URL, Client: h.Client(), Now: clock.Now, MinRefresh: time.Second, MaxStale: time.Minute})
	if _, err := keys.Key(t.Context(), kid); err != nil {
		t.Fatal(err)
	}
	h.will(fail(503))
	clock.pass(5 * time.Minute)
	for range 5 { // by a fetch that fails, and later without one
		if _, err := keys.Key(t.Context(), kid); err != nil {
			t.Errorf("stale: %v", err)
		}
		if _, err := keys.Key(t.Context(), "nobody"); !errors.Is(err, token.ErrNoKey) {
			t.Errorf("stale, unknown: %v", err)
		}
	}
	clock.pass(time.Minute)
	if _, err := keys.Key(t.Context(), kid); !errors.Is(err, token.ErrUnreachable) {
		t.Errorf("too stale: %v", err)
	}
	if _, err := keys.Key(t.Context(), kid); !errors.Is(err, token.ErrUnreachable) {
		t.Errorf("too stale, without a fetch: %v", err)
	}
}

func TestKeysOfOtherKindsArePassedOver(t *testing.T) {
	t.Parallel()
	rs := jwkOf(t, pairs()[token.RS256]).with("kid", "rs")
	document := object{"keys": []object{
		{"kty": "OKP", "crv": "X25519", "x": b64.EncodeToString(make([]byte, 32))},
		{"kty": "XY", "kid": "y"},
		rs.with("use", "enc").with("kid", "enc").with("alg", "RSA-OAEP"), rs,
	}}.text()
	h := newHost(t, publish(document, "Content-Type", "application/jwk-set+json"))
	for want, algs := range map[string][]string{token.PS256: nil, token.RS256: {token.ES256, token.RS256}} {
		keys := token.NewRemoteKeys(token.RemoteConfig{URI: h.URL, Client: h.Client(), Now: clock, Algs: algs})
		if got, err := keys.Key(t.Context(), "rs"); err != nil || got.Alg != want {
			t.Errorf("%v: %+v, %v", algs, got, err)
		}
	}
	if _, err := token.ParseJWKS([]byte(document)); err == nil {
		t.Error("such a set was taken for a registration")
	}
}

func TestKeysOfAnIssuer(t *testing.T) {
	t.Parallel()
	document := jwks(t, token.ES256)
	kid := pairs()[token.ES256].KeyID()
	for _, c := range []struct {
		name string
		path string // of the issuer
		at   string // where the metadata is
		meta func(issuer string) object
		good bool
	}{
		{"OpenID Connect", "", "/.well-known/openid-configuration", nil, true},
		{"OpenID Connect, with a path", "/tenant", "/tenant/.well-known/openid-configuration", nil, true},
		{"OpenID Connect, with a slash", "/", "/.well-known/openid-configuration", nil, true},
		{"RFC 8414", "", "/.well-known/oauth-authorization-server", nil, true},
		{"RFC 8414, with a path", "/tenant", "/.well-known/oauth-authorization-server/tenant", nil, true},
		{"of another issuer", "", "/.well-known/openid-configuration", func(iss string) object {
			return object{"issuer": "https://other.test", "jwks_uri": iss + "/jwks"}
		}, false},
		{"of the issuer with a slash", "", "/.well-known/openid-configuration", func(iss string) object {
			return object{"issuer": iss + "/", "jwks_uri": iss + "/jwks"}
		}, false},
		{"without keys", "", "/.well-known/openid-configuration", func(iss string) object { return object{"issuer": iss} }, false},
		{"with keys in a file", "", "/.well-known/openid-configuration", func(iss string) object {
			return object{"issuer": iss, "jwks_uri": "file:///etc/passwd"}
		}, false},
		{"with keys nowhere", "", "/.well-known/openid-configuration", func(iss string) object {
			return object{"issuer": iss, "jwks_uri": "http://%zz/"}
		}, false},
		{"with an issuer that is a number", "", "/.well-known/openid-configuration", func(iss string) object {
			return object{"issuer": 1, "jwks_uri": iss + "/jwks"}
		}, false},
		{"nowhere", "", "/elsewhere", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, fail(500))
			iss := h.URL + c.path
			h.will(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/jwks":
					publish(document)(w, r)
				case c.at:
					meta := object{"issuer": iss, "jwks_uri": h.URL + "/jwks", "token_endpoint": h.URL + "/token"}
					if c.meta != nil {
						meta = c.meta(iss)
					}
					publish(meta.text())(w, r)
				default:
					fail(404)(w, r)
				}
			})
			keys := token.NewRemoteKeys(token.RemoteConfig{Issuer: iss, Client: h.Client(), Now: clock})
			if _, err := keys.Key(t.Context(), kid); (err == nil) != c.good {
				t.Errorf("got %v", err)
			}
			meta, err := token.Discover(t.Context(), h.Client(), iss)
			if (err == nil) != c.good || c.good && (meta.Issuer != iss || !strings.Contains(string(meta.Raw), "token_endpoint")) {
				t.Errorf("discovered %+v, %v", meta, err)
			}
		})
	}
}

func TestIssuersThatCannotBeFound(t *testing.T) {
	t.Parallel()
	for _, iss := range []string{"", "https://", "not a host", "https://x.test/?a=b", "https://x.test/#a", "https://u@x.test", "https://%zz"} {
		if _, err := token.Discover(t.Context(), http.DefaultClient, iss); !errors.Is(err, token.ErrUnreachable) {
			t.Errorf("%q: %v", iss, err)
		}
	}
	for name, cfg := range map[string]token.RemoteConfig{
		"no client":  {URI: "https://x.test", Now: clock},
		"no address": {Client: http.DefaultClient, Now: clock},
		"no URI":     {URI: "http://\x00", Client: http.DefaultClient, Now: clock},
		"no scheme":  {URI: "x", Client: http.DefaultClient, Now: clock},
	} {
		if _, err := token.NewRemoteKeys(cfg).Key(t.Context(), "x"); !errors.Is(err, token.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASlowHostIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range 1000 {
			if _, err := w.Write([]byte(" ")); err != nil {
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
	if _, err := remote(h, &ticking{now: start}).Key(t.Context(), "x"); !errors.Is(err, token.ErrUnreachable) {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}
