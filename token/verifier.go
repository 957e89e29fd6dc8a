package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrExpired: the token was good, and is over.
var ErrExpired = errors.New("the token has expired")

var (
	errIssuer   = errors.New("the token is of another issuer")
	errAudience = errors.New("the token is for somebody else")
	errEarly    = errors.New("the token is from the future")
	errClaims   = errors.New("a claim is missing or not what it must be")
)

// VerifierConfig is what a Verifier needs; all but Leeway is needed.
type VerifierConfig struct {
	Issuer string
	Keys   KeySource
	Now    func() time.Time
	// Leeway is how far iat and nbf may lie ahead, for clocks that differ. It does not lengthen a token's life.
	Leeway time.Duration
}

// Verifier checks access tokens of one issuer. It remembers a bounded number of tokens whose signature it has verified, so that
// a token that comes again costs a hash; its key must still be there and its times are looked at every time.
type Verifier struct {
	cfg  VerifierConfig
	seen remembered
	need demand
}

// NewVerifier makes a Verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if cfg.Issuer == "" || cfg.Keys == nil || cfg.Now == nil || cfg.Leeway < 0 {
		return nil, errors.New("verifier: the configuration is not complete")
	}
	return &Verifier{cfg: cfg, need: demand{types: []string{typeAccess}, algs: Algorithms()}}, nil
}

// Verify checks an access token: form, type, signature by a key of the issuer, iss, the claims of RFC 9068 section 2.2 and the
// times. With ErrExpired the answer is filled all the same, for who must know whose token it was. What it does not
// check is the audience, the binding to a key, revocation and redemption.
func (v *Verifier) Verify(ctx context.Context, s string) (Verified, error) {
	if len(s) > maxToken {
		return Verified{}, fmt.Errorf("%w: larger than %d bytes", ErrMalformed, maxToken)
	}
	sum := sha256.Sum256([]byte(s))
	got, err := v.signed(ctx, s, sum)
	if err != nil {
		return Verified{}, err
	}
	c, now := got.claims, v.cfg.Now().Unix()
	if ahead := now + int64(v.cfg.Leeway/time.Second); c.IssuedAt > ahead || c.NotBefore > ahead {
		return Verified{}, errEarly
	}
	if now >= c.Expires {
		return got, ErrExpired
	}
	return got, nil
}

// signed gives claims whose signature, type and issuer were checked, now or when the token was last seen.
func (v *Verifier) signed(ctx context.Context, s string, sum [sha256.Size]byte) (Verified, error) {
	if got, ok := v.seen.get(sum); ok {
		key, err := v.cfg.Keys.Key(ctx, got.verified.key)
		if err != nil {
			return Verified{}, err
		}
		if key.Alg == got.by.Alg && sameKey(key.Key, got.by.Key) {
			return got.verified, nil
		}
	}
	c, err := parse(s)
	if err != nil {
		return Verified{}, err
	}
	if err := c.head.meets(v.need); err != nil {
		return Verified{}, err
	}
	key, err := c.verifyBy(ctx, v.cfg.Keys)
	if err != nil {
		return Verified{}, err
	}
	got := Verified{key: key.ID, sum: sum}
	if err := got.claims.UnmarshalJSON(c.payload); err != nil {
		return Verified{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if got.claims.Issuer != v.cfg.Issuer {
		return Verified{}, errIssuer
	}
	if err := got.claims.complete(); err != nil {
		return Verified{}, err
	}
	v.seen.put(sum, &remember{verified: got, by: key})
	return got, nil
}

const rememberedLimit = 4096

// remembered are verified tokens by their hash, in two generations so that there are at most twice rememberedLimit.
type remembered struct {
	mu    sync.RWMutex
	young map[[sha256.Size]byte]*remember
	old   map[[sha256.Size]byte]*remember
}

type remember struct {
	verified Verified
	by       PublicKey
}

func (r *remembered) get(sum [sha256.Size]byte) (*remember, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if got, ok := r.young[sum]; ok {
		return got, true
	}
	got, ok := r.old[sum]
	return got, ok
}

func (r *remembered) put(sum [sha256.Size]byte, got *remember) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.young == nil || len(r.young) >= rememberedLimit {
		r.old, r.young = r.young, make(map[[sha256.Size]byte]*remember)
	}
	r.young[sum] = got
}
