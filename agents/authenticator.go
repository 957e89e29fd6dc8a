package agents

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"obolus/oauth"
	"obolus/store"
	"obolus/token"
)

// Authenticator checks who a client is: private_key_jwt by RFC 7523 and its update (the issuer as the only audience, one use
// for each assertion), the identity of its workload (an SVID, the token of its platform), its TLS certificate, a shared secret, or no proof
// at all for a public client. docs/decisions/0008-proof-of-who-it-is.md says what each of them is worth.
//
// It works in two steps, so that the steady state costs no round trip of its own. Present checks the credential
// against the registration as this process last saw it. Settle, or Batch and Confirm as a part of somebody else's round
// trip, spends the assertion and compares that registration with the one in the store.
type Authenticator struct {
	cfg       AuthenticatorConfig
	decoy     token.PublicSet
	domains   map[string]TrustDomain
	workloads map[string]WorkloadIssuer
}

// AuthenticatorConfig is what an Authenticator needs; all members are needed but those that say otherwise.
type AuthenticatorConfig struct {
	Registry *Registry
	Live     *store.Live
	Mirror   *store.Mirror
	Issuer   string // the only audience of an assertion
	Now      func() time.Time
	// SecretKey is the key under which client secrets are hashed, 32 bytes.
	SecretKey []byte
	// KeysAt gives the keys published at a jwks_uri.
	KeysAt func(uri string) token.KeySource
	// Decoy is a public key set that no client has: unknown clients are checked against it, at the same cost.
	Decoy token.PublicSet
	// TrustDomains and Workloads are whose identities are taken; there may be none.
	TrustDomains []TrustDomain
	Workloads    []WorkloadIssuer
	// ClientAuthorities are those who certify clients for tls_client_auth; nil: nobody does.
	ClientAuthorities func() *x509.CertPool
}

// NewAuthenticator makes an Authenticator.
func NewAuthenticator(cfg AuthenticatorConfig) (*Authenticator, error) {
	if cfg.Registry == nil || cfg.Live == nil || cfg.Mirror == nil || cfg.Issuer == "" || cfg.Now == nil || len(cfg.SecretKey) != 32 || cfg.KeysAt == nil {
		return nil, errors.New("authenticator: the configuration is not complete")
	}
	a := &Authenticator{cfg: cfg, decoy: cfg.Decoy, domains: map[string]TrustDomain{}, workloads: map[string]WorkloadIssuer{}}
	for _, d := range cfg.TrustDomains {
		if !token.ValidTrustDomain(d.ID) {
			return nil, fmt.Errorf("authenticator: %q is not the name of a trust domain", d.ID)
		}
		a.domains[d.ID] = d
	}
	for _, w := range cfg.Workloads {
		if w.Audience == "" {
			w.Audience = cfg.Issuer
		}
		a.workloads[w.Issuer] = w
	}
	return a, nil
}

// errClient is what every failure of authentication looks like from outside.
func errClient(reason oauth.Reason, cause error) error {
	return oauth.Conceal(oauth.InvalidClient, reason, "client authentication failed", cause)
}

// Present checks a credential. The error is a refusal: invalid_client, alike for every cause, or 503.
func (a *Authenticator) Present(ctx context.Context, creds Credentials) (Presented, error) {
	var err error
	if creds.ClientID, err = a.named(ctx, creds.ClientID); err != nil {
		return Presented{}, err
	}
	known, version, err := a.guess(ctx, creds.ClientID)
	if err != nil {
		return Presented{}, err
	}
	p, err := a.check(ctx, creds, known, version)
	if err == nil || version == 0 {
		return p, err
	}
	// The registration may have changed since this process saw it.
	fresh, now, readErr := a.read(ctx, creds.ClientID)
	if readErr != nil {
		return Presented{}, readErr
	}
	if now == version {
		return Presented{}, err
	}
	return a.check(ctx, creds, fresh, now)
}

// Settle makes the presented client an authenticated one, in one round trip. The error is a refusal.
func (a *Authenticator) Settle(ctx context.Context, p Presented) (Authenticated, error) {
	commits, reads := a.Batch(p)
	res, err := a.cfg.Live.Do(ctx, store.Batch{Commits: commits, Reads: reads})
	if err != nil {
		return Authenticated{}, unavailable(err)
	}
	return a.Confirm(ctx, p, res)
}

// Batch is what Confirm needs to have been carried out: the commits and reads come first in a batch of the caller's.
func (a *Authenticator) Batch(p Presented) ([]store.Commit, []store.Key) {
	reads := []store.Key{a.cfg.Mirror.Key(a.cfg.Registry.partyKey(p.id))}
	if p.jti == "" {
		return nil, reads
	}
	return []store.Commit{Once("assertion", p.id+" "+p.jti, p.expires.Sub(a.cfg.Now())+leeway)}, reads
}

// Confirm reads the results of Batch. What it does not check is whether an agent is active: that is for who acts on it.
func (a *Authenticator) Confirm(ctx context.Context, p Presented, res store.Results) (Authenticated, error) {
	if !p.verified {
		return Authenticated{}, errClient(oauth.ReasonClientAuth, errors.New("nothing was presented"))
	}
	if p.jti != "" {
		if !res.Outcomes[0].Applied {
			return Authenticated{}, errClient(oauth.ReasonAssertionUsed, errors.New("the assertion was used before"))
		}
		if began := a.cfg.Live.Epoch().Began; !began.IsZero() && !p.issued.After(began.Truncate(time.Second)) {
			return Authenticated{}, errClient(oauth.ReasonAssertionUsed, errors.New("the assertion is older than the epoch"))
		}
	}
	rec, err := a.cfg.Mirror.Resolve(ctx, a.cfg.Registry.partyKey(p.id), res.Records[0], res.Now)
	if err != nil {
		return Authenticated{}, unavailable(err)
	}
	if !rec.Exists() {
		return Authenticated{}, errClient(oauth.ReasonClientAuth, errors.New("the client was removed"))
	}
	if rec.Version != p.version {
		fresh, err := a.cfg.Registry.readParty(rec)
		if err != nil {
			return Authenticated{}, unavailable(err)
		}
		if p, err = a.check(ctx, p.creds, fresh, rec.Version); err != nil {
			return Authenticated{}, err
		}
	}
	return Authenticated{
		party: p.known, method: p.method, expires: p.expires, x5t: p.creds.Certificate.Thumbprint(), reusable: p.reusable,
	}, nil
}

const leeway = 10 * time.Second

// keys are those of a registration; a client without any gets keys that nobody has.
func (a *Authenticator) keys(known party) token.KeySource {
	switch c := known.credential(); {
	case c.Auth != oauth.AuthPrivateKeyJWT:
		return a.decoy
	case c.JWKSURI != "":
		return a.cfg.KeysAt(c.JWKSURI)
	default:
		return known.keys
	}
}

// Once is the commit that succeeds for the first who names a thing of a kind, for as long as ttl. It is how
// assertions, proofs and codes are spent.
func Once(kind, id string, ttl time.Duration) store.Commit {
	return store.Commit{
		Partition: "once/" + kind + "/" + token.Hash(id),
		If:        []store.Condition{{Name: "spent", Is: store.Absent}},
		Writes:    []store.Write{{Name: "spent", Value: []byte("1"), TTL: max(ttl, time.Second)}},
		Spends:    true,
	}
}

// HashSecret is how a client's secret is kept: HMAC-SHA256 under the server's key. Secrets are made by the server with
// 256 bits of entropy, or chosen by an operator who was told so; a slow hash would cost more than a signature.
func HashSecret(key []byte, secret string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// guess is the registration as last seen by this process, or as the store has it. Version zero: there is none.
func (a *Authenticator) guess(ctx context.Context, id string) (party, uint64, error) {
	if !validID(id) {
		return party{}, 0, nil
	}
	seen, version, _ := a.cfg.Registry.seen.Latest(a.cfg.Registry.partyKey(id))
	if p, ok := seen.(party); ok {
		return p, version, nil
	}
	return a.read(ctx, id)
}

func (a *Authenticator) read(ctx context.Context, id string) (party, uint64, error) {
	recs, err := a.cfg.Mirror.Read(ctx, a.cfg.Registry.partyKey(id))
	if err != nil {
		return party{}, 0, unavailable(err)
	}
	if !recs[0].Exists() {
		return party{}, 0, nil
	}
	p, err := a.cfg.Registry.readParty(recs[0])
	if err != nil {
		return party{}, 0, unavailable(err)
	}
	return p, recs[0].Version, nil
}

// check holds the credential against a registration; without one it does the same work for nothing.
func (a *Authenticator) check(ctx context.Context, creds Credentials, known party, version uint64) (Presented, error) {
	want := known.credential()
	p := Presented{id: creds.ClientID, known: known, version: version, creds: creds, verified: true, method: creds.way(want)}
	if p.method != want.Auth && !p.method.Asserts() && !secret(p.method, want.Auth) {
		return Presented{}, errClient(oauth.ReasonClientAuth, errors.New("not the client's way to authenticate"))
	}
	if known.client != nil && known.client.Disabled {
		return Presented{}, errClient(oauth.ReasonClientAuth, errors.New("the client is disabled"))
	}
	switch p.method {
	case oauth.AuthPrivateKeyJWT:
		return a.checkAssertion(ctx, p)
	case oauth.AuthSPIFFEJWT:
		return a.checkSVID(ctx, p)
	case oauth.AuthFederated:
		return a.checkFederated(ctx, p)
	case oauth.AuthTLS, oauth.AuthSelfSigned, oauth.AuthSPIFFEX509:
		return a.checkCertificate(ctx, p)
	case oauth.AuthSecretBasic, oauth.AuthSecretPost:
		got := HashSecret(a.cfg.SecretKey, creds.Secret)
		if want.SecretHash == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want.SecretHash)) != 1 {
			return Presented{}, errClient(oauth.ReasonClientAuth, errors.New("wrong secret"))
		}
		return p, nil
	case oauth.AuthNone:
		if version == 0 {
			a.pretend(creds)
			return Presented{}, errClient(oauth.ReasonClientAuth, errors.New("unknown client"))
		}
		return p, nil
	default:
		return Presented{}, errClient(oauth.ReasonClientAuth, errors.New("no credential"))
	}
}

// way is how the credentials are meant: a client that only names itself, over a connection with a certificate, is known by that if its
// registration says so.
func (c Credentials) way(want Credential) oauth.AuthMethod {
	if c.Method == oauth.AuthNone && c.Certificate != nil && want.Auth.ByCertificate() {
		return want.Auth
	}
	return c.Method
}

// pretend does for a client that is not known what is done for one that is.
func (a *Authenticator) pretend(creds Credentials) {
	if creds.Certificate != nil {
		_ = creds.Certificate.verify(a.cfg.clientAuthorities(), a.cfg.Now()) // nobody is to be known by it
	}
}

// secret says whether both are ways to send a secret: a client may use either (RFC 6749 section 2.3.1).
func secret(got, want oauth.AuthMethod) bool {
	return (got == oauth.AuthSecretBasic || got == oauth.AuthSecretPost) && (want == oauth.AuthSecretBasic || want == oauth.AuthSecretPost)
}

func (a *Authenticator) checkAssertion(ctx context.Context, p Presented) (Presented, error) {
	got, err := token.VerifyAssertion(ctx, p.creds.Assertion, token.AssertionExpect{
		ClientID: p.id, Audience: a.cfg.Issuer, Keys: a.keys(p.known), Now: a.cfg.Now,
	})
	if err != nil {
		return Presented{}, errClient(oauth.ReasonAssertion, err)
	}
	p.jti, p.expires, p.issued = got.ID, got.Expires, got.IssuedAt
	if p.issued.IsZero() {
		p.issued = got.Expires.Add(-token.MaxAssertionLifetime)
	}
	return p, a.Await(ctx, p.issued)
}

// Await waits until a time that a client's clock has reached and ours has not: the few seconds by which a credential may be dated
// ahead. So nothing is ever accepted before its own date, and what an epoch has seen is older than the next one.
func (a *Authenticator) Await(ctx context.Context, at time.Time) error {
	ahead := at.Sub(a.cfg.Now())
	if ahead <= 0 {
		return nil
	}
	timer := time.NewTimer(min(ahead, leeway))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}
