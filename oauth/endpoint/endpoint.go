// Package endpoint is the protocol over HTTP: authorize, pushed requests, token, introspection, redemption, revocation, the
// status of transactions, forward authentication for proxies, keys and metadata. Requests are read once, at the door, into
// plain values; what is asked is carried out by the packages below. There is one place that reads forms, one that reads client
// credentials, and one that writes errors.
package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/details"
	"obolus/oauth/endpoint/internal/fositex"
	"obolus/oauth/exchange"
	"obolus/signals"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// Config is what the endpoints need; all members are needed but those that say otherwise.
type Config struct {
	// Issuer is the issuer identifier. Every path lies under its path.
	Issuer string

	Live         *store.Live
	Registry     *agents.Registry
	Clients      *agents.Authenticator
	Exchange     *exchange.Exchange
	Transactions *transaction.Transactions
	Flow         *authcode.Flow
	Details      *details.Registry
	Verifier     *token.Verifier
	Keys         Keys
	// Record is the ledger.
	Record func(context.Context, audit.Event) error

	// Receiver takes security events; nil: nobody's are taken.
	Receiver *signals.Receiver
	// Feed tells resource servers what was stopped; nil: they are not told.
	Feed *signals.Feed
	// Detach is told that an answer has become a stream, which goes on and is in hand no more; nil: nobody counts.
	Detach func(http.ResponseWriter)

	// User is who has signed in at the browser that sent a request; nil: people cannot ask for the status of a transaction.
	User func(*http.Request) (id string, ok bool)
	// Certificate is that of the client of a request, as far as it has proved to have its key; nil, or none: it showed no certificate.
	Certificate func(*http.Request) (*agents.Certificate, error)
	// Remote is the address of the peer, for the ledger and for limits; nil: that of the connection.
	Remote func(*http.Request) string

	Settings Settings
	Now      func() time.Time
	Log      *slog.Logger
}

// Keys are the server's public keys.
type Keys interface {
	// JWKS is the key set of RFC 7517 section 5.
	JWKS() []byte
}

// Settings are what an operator may choose.
type Settings struct {
	// SessionLifetime is that of a user's own token, unless the resource says less.
	SessionLifetime time.Duration
	// RequirePushed refuses authorization requests that were not pushed (RFC 9126 section 5).
	RequirePushed bool
	// RequireNonce refuses DPoP proofs without a nonce of this server (RFC 9449 section 8). NonceKey, of at least 32 bytes,
	// makes the nonces; servers that share it accept each other's.
	RequireNonce bool
	NonceKey     []byte
	// CertificateURL is where the endpoints are reached by clients with a certificate, if that is not the issuer (RFC 8705 section 5).
	CertificateURL string
	// ACRValues are the authentication context classes that a sign-in can have; a request for others only is refused.
	ACRValues []string
	// ErrorURI is where the reasons of refusals are explained; empty: a page of this server's.
	ErrorURI string
	// Streams is how many streams of events this server holds, and StreamsEach those of one client; zero: 512 and 16.
	Streams     int
	StreamsEach int
	// Beat is how often a stream says that it is alive; zero: 2 seconds.
	Beat time.Duration
	// Introspections is how many tokens one client may ask about per minute and server; zero: 6000.
	Introspections int
}

// Server answers the protocol's requests.
type Server struct {
	cfg      Config
	base     string // path of the issuer, without a slash at its end
	fosite   *fositex.Provider
	tries    *tries
	asked    *asked
	streams  *streams
	nonces   nonces
	metadata metadata
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	missing := cfg.Live == nil || cfg.Registry == nil || cfg.Clients == nil || cfg.Exchange == nil || cfg.Transactions == nil ||
		cfg.Flow == nil || cfg.Details == nil || cfg.Verifier == nil || cfg.Keys == nil || cfg.Record == nil || cfg.Now == nil || cfg.Log == nil
	if missing || cfg.Settings.SessionLifetime <= 0 {
		return nil, errors.New("endpoint: the configuration is not complete")
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(cfg.Issuer, "/") {
		return nil, fmt.Errorf("endpoint: the issuer %q is not an address without query, fragment and slash at its end", cfg.Issuer)
	}
	if cfg.Settings.RequireNonce && len(cfg.Settings.NonceKey) < 32 {
		return nil, errors.New("endpoint: nonces are required and there is no key of 32 bytes to make them")
	}
	if cfg.Settings.ErrorURI == "" {
		cfg.Settings.ErrorURI = cfg.Issuer + pathErrors
	}
	if cfg.Settings.Introspections <= 0 {
		cfg.Settings.Introspections = 6000
	}
	cfg.Settings.Streams = cmp.Or(cfg.Settings.Streams, 512)
	cfg.Settings.StreamsEach = cmp.Or(cfg.Settings.StreamsEach, 16)
	cfg.Settings.Beat = cmp.Or(cfg.Settings.Beat, 2*time.Second)
	if cfg.Detach == nil {
		cfg.Detach = func(http.ResponseWriter) {}
	}
	if cfg.Remote == nil {
		cfg.Remote = peer
	}
	return &Server{
		cfg: cfg, base: u.EscapedPath(), fosite: fositex.New(oauth.GrantAuthorizationCode, oauth.GrantTokenExchange),
		tries: newTries(cfg.Live), asked: newAsked(cfg.Settings.Introspections, cfg.Now),
		streams: &streams{most: cfg.Settings.Streams, each: cfg.Settings.StreamsEach, by: map[string]int{}},
		nonces:  nonces{key: cfg.Settings.NonceKey, now: cfg.Now},
	}, nil
}

// The paths, under that of the issuer.
const (
	pathAuthorize  = "/authorize"
	pathPush       = "/par"
	pathToken      = "/token"
	pathIntrospect = "/introspect"
	pathRedeem     = "/redeem"
	pathRevoke     = "/revoke"
	pathTxn        = "/txn/{txn}"
	pathForward    = "/authz"
	pathKeys       = "/jwks.json"
	pathErrors     = "/errors"
	pathEvents     = "/events"
	pathReceive    = "/events/receive"
	pathConsent    = "/consent/"
)

// peer is the address at the other end of the connection.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
