package token

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"obolus/oauth/strict"
)

const skew = 10 * time.Second // how far the clocks of others may be ahead

// Expect is what a JWT of somebody else must be.
type Expect struct {
	Issuer string
	Keys   KeySource
	Algs   []string // empty: ProofAlgorithms
	Types  []string // the values of typ; an empty one stands for none at all
	// Audience must be among the audiences; empty: the caller looks at them.
	Audience   string
	RequireExp bool
	// MaxLifetime is how far exp may lie ahead; zero: as far as it likes.
	MaxLifetime time.Duration
	Now         func() time.Time
}

// JWT is a verified JWT of somebody else.
type JWT struct {
	Claims Claims
	Type   string // in short form and lower case; empty if there was none
	KeyID  string
	Raw    json.RawMessage // the payload as it was signed
}

// VerifyJWT checks a JWT of somebody else: form, type, algorithm, signature by a key of theirs, iss, aud and the times. What it
// does not check is what the claims must be for its kind, and whether it was used before.
func VerifyJWT(ctx context.Context, s string, e Expect) (JWT, error) {
	c, err := parse([]byte(s))
	if err != nil {
		return JWT{}, err
	}
	if err := c.head.meets(e.demand()); err != nil {
		return JWT{}, err
	}
	key, err := c.verifyBy(ctx, e.Keys)
	if err != nil {
		return JWT{}, err
	}
	got := JWT{Type: c.head.typ, KeyID: key.ID, Raw: c.payload}
	if err := got.Claims.UnmarshalJSON(c.payload); err != nil {
		return JWT{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return got, e.claims(got.Claims)
}

func (e Expect) demand() demand {
	d := demand{algs: ProofAlgorithms(), types: make([]string, 0, len(e.Types))}
	if len(e.Algs) > 0 {
		d.algs = make([]string, len(e.Algs))
		for i, alg := range e.Algs {
			if d.algs[i] = alg; alg == "Ed25519" {
				d.algs[i] = EdDSA
			}
		}
	}
	for _, typ := range e.Types {
		d.types = append(d.types, strings.TrimPrefix(strings.ToLower(typ), "application/"))
	}
	return d
}

func (e Expect) claims(c Claims) error {
	switch {
	case e.Issuer == "" || c.Issuer != e.Issuer:
		return errIssuer
	case e.Audience != "" && !c.Audience.Has(e.Audience):
		return errAudience
	default:
		return e.times(c)
	}
}

func (e Expect) times(c Claims) error {
	now := e.Now()
	ahead := now.Add(skew).Unix()
	switch {
	case c.IssuedAt > ahead || c.NotBefore > ahead:
		return ErrEarly
	case c.Expires == 0 && (e.RequireExp || e.MaxLifetime > 0):
		return fmt.Errorf("%w: exp", errClaims)
	case c.Expires != 0 && c.Expires <= now.Unix():
		return ErrExpired
	case e.MaxLifetime > 0 && c.Expires > now.Add(e.MaxLifetime).Unix():
		return fmt.Errorf("%w: exp is too far ahead", errClaims)
	default:
		return nil
	}
}

// Peek reads iss and sub of a JWT and checks nothing else: good only to find the keys that will verify it.
func Peek(s string) (iss, sub string, err error) {
	if len(s) > maxToken {
		return "", "", fmt.Errorf("%w: larger than %d bytes", ErrMalformed, maxToken)
	}
	_, rest, _ := strings.Cut(s, ".")
	encoded, _, _ := strings.Cut(rest, ".")
	payload, err := base64url.DecodeString(encoded)
	if err == nil {
		err = strict.Object(payload, payloadLimits(), func(name string, value []byte) error {
			switch name {
			case "iss":
				return readText(&iss, value)
			case "sub":
				return readText(&sub, value)
			default:
				return nil
			}
		})
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return iss, sub, nil
}
