package token

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"obolus/oauth/strict"
)

// ErrUnreachable: the keys of somebody else could not be had. It says nothing about the token.
var ErrUnreachable = errors.New("the keys cannot be fetched")

// Bounds of what is fetched.
const (
	fetchTimeout = 3 * time.Second
	minFresh     = time.Minute
	maxFresh     = time.Hour
	defaultFresh = 5 * time.Minute
	minRefresh   = 30 * time.Second
	maxStale     = time.Hour
	fastFailures = 3
)

// RemoteConfig says where keys are published.
type RemoteConfig struct {
	// URI is the jwks_uri. If it is empty, the metadata of Issuer names it.
	URI    string
	Issuer string
	// Client fetches. Package fetch makes one that does not reach into the own network; without a client there are no keys.
	Client *http.Client
	Now    func() time.Time
	// Algs are those of the issuer: a key that names no alg is for the first of them that fits it. Empty: an RSA key is for PS256.
	Algs []string
	// Bundle says that what is published is a SPIFFE trust bundle, to be read by ParseBundle.
	Bundle bool
	// MinRefresh is how soon an unknown kid is looked for again; zero: 30 seconds.
	MinRefresh time.Duration
	// MaxStale is how long keys that should have been fetched anew serve on while that fails; zero: one hour. A key
	// that its owner has taken back meanwhile is then still good for as long.
	MaxStale time.Duration
}

// RemoteKeys are the keys that somebody publishes. They are fetched when first needed, when they are no longer fresh (Cache-Control
// within a minute and an hour), and for an unknown kid; never twice at once. Failures and documents that are not
// acceptable are not remembered, but after three in a row they are not repeated sooner than MinRefresh.
type RemoteKeys struct {
	cfg RemoteConfig

	mu       sync.Mutex
	got      fetched
	tried    time.Time     // start of the last fetch
	failures int           // in a row
	failed   error         // of the last fetch
	flight   chan struct{} // closed at the end of the fetch that is under way
}

// fetched is a key set and the time until which it is fresh; the zero value is none.
type fetched struct {
	set         PublicSet
	authorities []*x509.Certificate
	until       time.Time
}

var _ KeySource = (*RemoteKeys)(nil)

// NewRemoteKeys makes a source of the keys at a URI. It fetches nothing yet.
func NewRemoteKeys(cfg RemoteConfig) *RemoteKeys {
	if cfg.MinRefresh <= 0 {
		cfg.MinRefresh = minRefresh
	}
	if cfg.MaxStale <= 0 {
		cfg.MaxStale = maxStale
	}
	return &RemoteKeys{cfg: cfg}
}

// Key finds a key by its kid; without one, the only key of the set. ErrUnreachable: there are no keys to look in.
func (r *RemoteKeys) Key(ctx context.Context, kid string) (PublicKey, error) {
	key, again, err := r.look(ctx, kid)
	if !again {
		return key, err
	}
	if err := r.refresh(ctx); err != nil {
		return PublicKey{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.cfg.Now().Before(r.got.until.Add(r.cfg.MaxStale)) {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrUnreachable, r.failed)
	}
	return r.got.set.Key(ctx, kid)
}

// look looks into the set at hand, and says whether it is to be fetched first.
func (r *RemoteKeys) look(ctx context.Context, kid string) (key PublicKey, again bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	fresh := now.Before(r.got.until)
	key, err = r.got.set.Key(ctx, kid)
	if fresh && err == nil {
		return key, false, nil
	}
	if r.flight != nil {
		return PublicKey{}, true, nil
	}
	wait := now.Before(r.tried.Add(r.cfg.MinRefresh)) && (fresh || r.failures >= fastFailures)
	switch {
	case !wait:
		return PublicKey{}, true, nil
	case now.Before(r.got.until.Add(r.cfg.MaxStale)):
		return key, false, err
	default:
		return PublicKey{}, false, fmt.Errorf("%w: %w", ErrUnreachable, r.failed)
	}
}

// refresh waits for a fetch, its own or that of another. Its own goes on when the caller goes away: others wait for it.
func (r *RemoteKeys) refresh(ctx context.Context) error {
	r.mu.Lock()
	flight := r.flight
	if flight == nil {
		flight = make(chan struct{})
		r.flight, r.tried = flight, r.cfg.Now()
		go r.fly(context.WithoutCancel(ctx), flight)
	}
	r.mu.Unlock()
	select {
	case <-flight:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
}

func (r *RemoteKeys) fly(ctx context.Context, flight chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	got, err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed = err; err != nil {
		r.failures++
	} else {
		r.got, r.failures = got, 0
	}
	r.flight = nil
	close(flight)
}

func (r *RemoteKeys) fetch(ctx context.Context) (fetched, error) {
	uri := r.cfg.URI
	if uri == "" {
		meta, err := Discover(ctx, r.cfg.Client, r.cfg.Issuer)
		if err != nil {
			return fetched{}, err
		}
		uri = meta.JWKSURI
	}
	body, head, err := get(ctx, r.cfg.Client, uri)
	if err != nil {
		return fetched{}, err
	}
	until := r.cfg.Now().Add(freshness(head))
	if r.cfg.Bundle {
		bundle, err := ParseBundle(body)
		return fetched{set: bundle.Keys, authorities: bundle.Authorities, until: until}, err
	}
	set, err := jwkRules{algs: r.cfg.Algs, foreign: true}.parseSet(body)
	return fetched{set: set, until: until}, err
}

// Authorities are the X.509 authorities of a trust bundle, as fresh as the keys are. ErrUnreachable: there are none to be had.
func (r *RemoteKeys) Authorities(ctx context.Context) ([]*x509.Certificate, error) {
	r.mu.Lock()
	now := r.cfg.Now()
	wait := r.flight == nil && r.failures >= fastFailures && now.Before(r.tried.Add(r.cfg.MinRefresh))
	fresh := now.Before(r.got.until)
	r.mu.Unlock()
	if !fresh && !wait {
		if err := r.refresh(ctx); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !now.Before(r.got.until.Add(r.cfg.MaxStale)) {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, r.failed)
	}
	return r.got.authorities, nil
}

// freshness reads Cache-Control: max-age, within bounds. What must not be stored is kept for the shortest time.
func freshness(head http.Header) time.Duration {
	fresh := defaultFresh
	for part := range strings.SplitSeq(strings.ToLower(strings.Join(head.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "no-store", "no-cache":
			return minFresh
		case "max-age":
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
				fresh = min(max(time.Duration(n)*time.Second, minFresh), maxFresh)
			}
		}
	}
	return fresh
}

// Metadata is what an issuer publishes of itself: OpenID Connect Discovery, RFC 8414.
type Metadata struct {
	Issuer  string
	JWKSURI string
	Raw     []byte // the whole document
}

// Discover fetches the metadata of an issuer: where OpenID Connect Discovery puts it, and if there is none where RFC 8414 does. The
// document must name this very issuer, and its jwks_uri must be https unless the issuer's is not.
func Discover(ctx context.Context, client *http.Client, issuer string) (Metadata, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Metadata{}, fmt.Errorf("%w: %q is not the identifier of an issuer", ErrUnreachable, issuer)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	root := u.Scheme + "://" + u.Host
	body, _, err := get(ctx, client, root+path+"/.well-known/openid-configuration")
	if err != nil {
		if body, _, err = get(ctx, client, root+"/.well-known/oauth-authorization-server"+path); err != nil {
			return Metadata{}, err
		}
	}
	return readMetadata(body, issuer, u.Scheme)
}

func readMetadata(body []byte, issuer, scheme string) (Metadata, error) {
	meta := Metadata{Raw: body}
	err := strict.Object(body, strict.Limits{Depth: 16}, func(name string, value []byte) error {
		switch name {
		case "issuer":
			return readText(&meta.Issuer, value)
		case "jwks_uri":
			return readText(&meta.JWKSURI, value)
		default:
			return nil
		}
	})
	if err != nil {
		return Metadata{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if meta.Issuer != issuer {
		return Metadata{}, fmt.Errorf("%w: the metadata is of issuer %q", ErrUnreachable, meta.Issuer)
	}
	keys, err := url.Parse(meta.JWKSURI)
	if err != nil || keys.Host == "" || keys.Scheme != "https" && keys.Scheme != scheme {
		return Metadata{}, fmt.Errorf("%w: the metadata has no acceptable jwks_uri", ErrUnreachable)
	}
	return meta, nil
}

// get fetches a JSON document: no redirects, 200 only, 256 KiB at most.
func get(ctx context.Context, client *http.Client, uri string) ([]byte, http.Header, error) {
	if client == nil {
		return nil, nil, fmt.Errorf("%w: there is no client to fetch with", ErrUnreachable)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, http.NoBody)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	straight := *client
	straight.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := straight.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%w: %s answered %d", ErrUnreachable, uri, resp.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return nil, nil, fmt.Errorf("%w: %s answered no JSON", ErrUnreachable, uri)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if len(body) > maxJWKS {
		return nil, nil, fmt.Errorf("%w: %s answered more than %d bytes", ErrUnreachable, uri, maxJWKS)
	}
	return body, resp.Header, nil
}
