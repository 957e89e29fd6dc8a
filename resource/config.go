package resource

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config is what a Guard needs. Issuer and Resource must be set; every other member has a usable zero value.
type Config struct {
	// Issuer is the authorization server, as it is written in the claim iss. Its endpoints and keys are found by its metadata.
	Issuer string
	// Resource is this resource server, as it is registered there: the aud of its tokens.
	Resource string
	// Client is how this resource server proves who it is when it redeems. Without one all one-transaction tokens are refused.
	Client Client

	// External is the scheme, the host and, if a proxy takes one away, the path prefix under which clients reach this server;
	// DPoP proofs name it. Empty: scheme and host of Resource. The Host header is never believed.
	External string
	// URL gives the URL that the client called, for servers with more than one name, in place of External and the path of the
	// request. It must not take the host from a header that strangers can set.
	URL func(*http.Request) string

	// Includes lists for a scope those that it stands for besides itself.
	Includes map[string][]string
	// Certificate gives the certificate of the client that sent a request, for tokens that are bound to one (RFC 8705 section 3); nil: that of the TLS
	// connection. A server behind a proxy reads the header of its own proxy here, which strangers must not be able to set.
	Certificate func(*http.Request) *x509.Certificate
	// RequireDPoP refuses tokens that are not bound to a key.
	RequireDPoP bool
	// NonceKey, 32 bytes and more, makes DPoP proofs carry a nonce of this server (RFC 9449 section 9). Replicas share it. Empty: none.
	NonceKey []byte
	// Replay remembers a proof until a time and says whether it is new, in one atomic step. Replicas that are to refuse each
	// other's proofs share one. Nil: this process remembers, at most MaxProofs; above that it answers 503.
	Replay func(ctx context.Context, proof string, until time.Time) (bool, error)
	// MaxProofs is how many proofs this process remembers; each is remembered for two minutes. Zero: about a million.
	MaxProofs int
	// Leeway is how far in the future a token may have been issued, for clocks that differ: at most 5 s, which is also the default. A
	// negative one is none. It never lengthens the life of a token.
	Leeway time.Duration
	// MaxBody is how much of a body is read before the handler runs, to be checked and hashed. Zero: 1 MiB.
	MaxBody int64

	// Stops is what becomes of session tokens that were stopped before they expire; see [Guard.Follow].
	Stops Stops
	// StopsLost is how long the stream of stops may be lost before that matters. Zero: 5 s.
	StopsLost time.Duration
	// MaxStops is how many stops this process remembers, each for as long as a token may live. Above that, tokens issued before the latest of
	// them are all refused. Zero: 100,000.
	MaxStops int

	// Journal keeps redemptions in progress over a crash; nil: nothing is kept.
	Journal Journal
	// Results keeps answers for agents that lost them; nil: nothing is kept, and a repeated request is refused.
	Results ResultStore

	// Profile is what the protected resource metadata says besides what follows from the above.
	Profile Profile

	// Patience is how long a redemption is tried while the authorization server does not answer. Zero: 5 s.
	Patience time.Duration
	// HTTP calls the authorization server; nil: a client with timeouts. Redirects are never followed.
	HTTP *http.Client
	// Now is the clock; nil: the machine's.
	Now func() time.Time
	// Log gets what an operator must know: a credential that is not accepted, a server that does not answer. Nil: nothing.
	Log *slog.Logger
}

const (
	maxLeeway = 5 * time.Second
	maxBody   = 1 << 20
	maxToken  = 16 << 10
	maxProof  = 8 << 10
	maxChain  = 16
)

func (c Config) check() error {
	if err := checkServerURL(c.Issuer); err != nil {
		return fmt.Errorf("issuer %q: %w", c.Issuer, err)
	}
	if u, err := url.Parse(c.Resource); err != nil || !u.IsAbs() || strings.Contains(c.Resource, "#") {
		return fmt.Errorf("resource %q is no absolute URI without fragment", c.Resource)
	}
	if c.Client.err != nil {
		return fmt.Errorf("client %q: %w", c.Client.id, c.Client.err)
	}
	if err := c.checkExternal(); err != nil {
		return err
	}
	if c.Leeway > maxLeeway {
		return fmt.Errorf("a leeway of %s is above %s", c.Leeway, maxLeeway)
	}
	if c.Stops < StopsUnheard || c.Stops > InsecureStopsIfHeard || c.Stops != StopsUnheard && c.Client.id == "" {
		return errors.New("to follow stops, a resource server has a client to authenticate by")
	}
	if n := len(c.NonceKey); n > 0 && n < 32 {
		return errors.New("the nonce key is shorter than 32 bytes")
	}
	if slices.Contains(c.Profile.Scopes, "offline_access") {
		return errors.New("offline_access is not a scope of a resource")
	}
	return nil
}

func (c Config) checkExternal() error {
	external := c.External
	if external == "" {
		if c.URL != nil {
			return nil
		}
		external = origin(c.Resource)
	}
	u, err := url.Parse(external)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("external %q is no URL such as https://api.example.com", external)
	}
	return nil
}

// checkServerURL holds the issuer to https, or http on this machine.
func checkServerURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(s, "?#"):
		return errors.New("not a URL such as https://obolus.example.com")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	default:
		return errors.New("not https, nor http on this machine")
	}
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// complete fills in what was left out.
func (c Config) complete() Config {
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the clock of those who hand in none
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Certificate == nil {
		c.Certificate = peerCertificate
	}
	if c.External == "" {
		c.External = origin(c.Resource)
	}
	c.External = strings.TrimRight(c.External, "/")
	switch {
	case c.Leeway == 0:
		c.Leeway = maxLeeway
	case c.Leeway < 0:
		c.Leeway = 0
	}
	if c.MaxBody <= 0 {
		c.MaxBody = maxBody
	}
	if c.Replay == nil {
		c.Replay = newProofs(c.Now, c.MaxProofs).remember
	}
	if c.StopsLost <= 0 {
		c.StopsLost = stopsLost
	}
	if c.MaxStops <= 0 {
		c.MaxStops = stopsMost
	}
	if c.Patience <= 0 {
		c.Patience = redeemBudget
	}
	c.HTTP = client(c.HTTP)
	return c
}

// client is the HTTP client for calls to the authorization server: with a timeout, and blind to redirects, by which a token and
// a credential would go to somebody else.
func client(given *http.Client) *http.Client {
	c := http.Client{}
	if given != nil {
		c = *given
	} else if base, ok := http.DefaultTransport.(*http.Transport); ok {
		own := base.Clone()
		own.MaxIdleConnsPerHost, own.MaxIdleConns = 64, 64
		own.DialContext = (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext
		c.Transport = own
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

func origin(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
