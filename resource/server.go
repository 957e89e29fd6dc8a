package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"obolus/oauth/strict"
	"obolus/token"
)

const (
	metadataFresh = 10 * time.Minute // how long endpoints are believed without looking again
	metadataPause = time.Second      // between attempts that fail
	keysPause     = 2 * time.Second  // how soon an unknown kid is looked for again
)

// authServer is what is known of the authorization server: its endpoints and its keys, both from its metadata and never from a
// token.
type authServer struct {
	issuer string
	http   *http.Client
	now    func() time.Time

	known atomic.Pointer[endpoints]
	turn  chan struct{} // whoever takes what is in it may fetch, and has tried and why
	tried time.Time     // the last attempt that failed
	why   error
}

// endpoints are what the metadata says.
type endpoints struct {
	redemption  string
	transaction string // a template with {txn}
	events      string // empty: there is no stream
	keysURI     string
	keys        *token.RemoteKeys
	until       time.Time
}

var _ token.KeySource = (*authServer)(nil)

func newAuthServer(cfg Config) *authServer {
	s := &authServer{issuer: cfg.Issuer, http: cfg.HTTP, now: cfg.Now, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// Key finds a key of the authorization server. token.ErrUnreachable: it is not known whether there is one.
func (s *authServer) Key(ctx context.Context, kid string) (token.PublicKey, error) {
	at, err := s.endpoints(ctx)
	if err != nil {
		return token.PublicKey{}, err
	}
	return at.keys.Key(ctx, kid)
}

func (s *authServer) ready(ctx context.Context) error {
	_, err := s.Key(ctx, "-")
	if errors.Is(err, token.ErrNoKey) {
		return nil // there are keys, and none of that name
	}
	return err
}

// endpoints gives what is known, and looks again when that is old. While the server does not answer, old addresses serve on: they
// decide nothing.
func (s *authServer) endpoints(ctx context.Context) (*endpoints, error) {
	at := s.known.Load()
	if at != nil && s.now().Before(at.until) {
		return at, nil
	}
	if at != nil {
		select {
		case <-s.turn:
		default:
			return at, nil // another is looking
		}
	} else {
		select {
		case <-s.turn:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", token.ErrUnreachable, ctx.Err())
		}
	}
	defer func() { s.turn <- struct{}{} }()
	return s.look(ctx, s.known.Load())
}

// look fetches the metadata, unless it was tried a moment ago. Others wait for it, so it goes on when its caller goes away.
func (s *authServer) look(ctx context.Context, have *endpoints) (*endpoints, error) {
	now := s.now()
	if have != nil && now.Before(have.until) {
		return have, nil
	}
	if !s.tried.IsZero() && now.Sub(s.tried) < metadataPause && now.Sub(s.tried) >= 0 {
		return s.orOld(have)
	}
	meta, err := token.Discover(context.WithoutCancel(ctx), s.http, s.issuer)
	var at *endpoints
	if err == nil {
		at, err = s.read(meta, have)
	}
	if err != nil {
		s.tried, s.why = now, err
		return s.orOld(have)
	}
	s.tried, s.why = time.Time{}, nil
	s.known.Store(at)
	return at, nil
}

func (s *authServer) orOld(have *endpoints) (*endpoints, error) {
	if have != nil {
		return have, nil
	}
	return nil, fmt.Errorf("%w: %w", token.ErrUnreachable, s.why)
}

// read takes the endpoints from the metadata. Keys that are cached stay as long as they are published in the same place.
func (s *authServer) read(meta token.Metadata, have *endpoints) (*endpoints, error) {
	var doc struct {
		Redemption  string `json:"redemption_endpoint"`
		Transaction string `json:"transaction_endpoint"`
		Events      string `json:"events_endpoint"`
	}
	if err := strict.Unmarshal(meta.Raw, &doc, strict.Limits{Depth: 16}); err != nil {
		return nil, err
	}
	at := &endpoints{
		redemption: doc.Redemption, transaction: doc.Transaction, events: doc.Events, keysURI: meta.JWKSURI, until: s.now().Add(metadataFresh),
	}
	for _, uri := range []string{at.redemption, at.transaction, at.events, at.keysURI} {
		if uri == "" {
			continue
		}
		if err := checkServerURL(uri); err != nil {
			return nil, fmt.Errorf("metadata: %q: %w", uri, err)
		}
	}
	if have != nil && have.keysURI == at.keysURI {
		at.keys = have.keys
		return at, nil
	}
	at.keys = token.NewRemoteKeys(token.RemoteConfig{
		URI: at.keysURI, Client: s.http, Now: s.now, Algs: token.Algorithms(), MinRefresh: keysPause,
	})
	return at, nil
}
