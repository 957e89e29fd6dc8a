package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// ErrExpired: the token was good, and is over.
var ErrExpired = errors.New("the token has expired")

// ErrEarly: the token will be good, or its issuer's clock is ahead of ours.
var ErrEarly = errors.New("the token is from the future")

var (
	errIssuer   = errors.New("the token is of another issuer")
	errAudience = errors.New("the token is for somebody else")
	errClaims   = errors.New("a claim is missing or not what it must be")
)

// VerifierConfig is what a Verifier needs; all but Leeway and Own is needed.
type VerifierConfig struct {
	Issuer string
	Keys   KeySource
	Now    func() time.Time
	// Leeway is how far iat and nbf may lie ahead, for clocks that differ. It does not lengthen a token's life.
	Leeway time.Duration
	// Own is an Issuer in this process; nil: there is none. The signature of a token that it has made lately is not verified again; all
	// else is checked as for any token.
	Own *Issuer
}

// Verifier checks access tokens of one issuer. It remembers a bounded number of tokens whose signature it has verified, so that
// a token that comes again costs a hash; its key must still be there and its times are looked at every time.
type Verifier struct {
	cfg  VerifierConfig
	seen recent[*remember]
	need demand
}

// NewVerifier makes a Verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if cfg.Issuer == "" || cfg.Keys == nil || cfg.Now == nil || cfg.Leeway < 0 {
		return nil, errors.New("verifier: the configuration is not complete")
	}
	if cfg.Own != nil && cfg.Own.iss != cfg.Issuer {
		return nil, errors.New("verifier: the issuer of its own is another one")
	}
	return &Verifier{cfg: cfg, seen: recent[*remember]{size: rememberedLimit}, need: demand{types: []string{typeAccess}, algs: Algorithms()}}, nil
}

// Verify checks an access token: form, type, signature by a key of the issuer, iss, the claims of RFC 9068 section 2.2 and the
// times. With ErrExpired and ErrEarly the answer is filled all the same, for who must know whose token it is. What it does not
// check is the audience, the binding to a key, revocation and redemption.
func (v *Verifier) Verify(ctx context.Context, s string) (Verified, error) {
	if len(s) > maxToken {
		return Verified{}, fmt.Errorf("%w: larger than %d bytes", ErrMalformed, maxToken)
	}
	data := []byte(s)
	got, err := v.signed(ctx, data, sha256.Sum256(data))
	if err != nil {
		return Verified{}, err
	}
	c, now := got.claims, v.cfg.Now().Unix()
	if ahead := now + int64(v.cfg.Leeway/time.Second); c.IssuedAt > ahead || c.NotBefore > ahead {
		return got, ErrEarly
	}
	if now >= c.Expires {
		return got, ErrExpired
	}
	return got, nil
}

// signed gives claims whose signature, type and issuer were checked, now or when the token was last seen.
func (v *Verifier) signed(ctx context.Context, s []byte, sum [sha256.Size]byte) (Verified, error) {
	if got, ok := v.seen.get(sum); ok {
		key, err := v.cfg.Keys.Key(ctx, got.verified.key)
		if err != nil {
			return Verified{}, err
		}
		if key.same(got.by) {
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
	key, err := v.verify(ctx, c, sum)
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

// verify verifies the signature, unless this process has made the very token, with a key that is still there.
func (v *Verifier) verify(ctx context.Context, c compact, sum [sha256.Size]byte) (PublicKey, error) {
	if by, made := v.cfg.Own.signed(sum); made {
		if key, err := v.cfg.Keys.Key(ctx, by.ID); err == nil && key.same(by) {
			return key, nil
		}
	}
	return c.verifyBy(ctx, v.cfg.Keys)
}

const rememberedLimit = 4096

type remember struct {
	verified Verified
	by       PublicKey
}
