package token

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// MaxAssertionLifetime is how far the exp of a client's assertion may lie ahead.
const MaxAssertionLifetime = 5 * time.Minute

const (
	typeAssertion     = "client-authentication+jwt"
	assertionLifetime = time.Minute // of those that SignAssertion makes
	maxJTI            = 256
)

// AssertionExpect is what a client's assertion must be; all members are needed.
type AssertionExpect struct {
	ClientID string
	Audience string // the issuer identifier of this server
	Keys     KeySource
	Now      func() time.Time
}

// Assertion is a verified client assertion.
type Assertion struct {
	ID       string
	Expires  time.Time
	IssuedAt time.Time // zero: it did not say
}

// VerifyAssertion checks the assertion by which a client authenticates: RFC 7523 section 3 and its update. The issuer is the only
// audience, the client is iss and sub, exp is at most MaxAssertionLifetime ahead, and it has a jti. What it does not check is
// whether that was used before.
func VerifyAssertion(ctx context.Context, s string, e AssertionExpect) (Assertion, error) {
	got, err := VerifyJWT(ctx, s, Expect{
		Issuer: e.ClientID, Keys: e.Keys, Types: []string{"", "jwt", typeAssertion}, RequireExp: true, MaxLifetime: MaxAssertionLifetime, Now: e.Now,
	})
	if err != nil {
		return Assertion{}, err
	}
	c := got.Claims
	switch {
	case len(c.Audience) != 1 || e.Audience == "" || c.Audience[0] != e.Audience:
		return Assertion{}, errAudience
	case c.Subject != e.ClientID:
		return Assertion{}, fmt.Errorf("%w: sub", errClaims)
	case c.ID == "" || len(c.ID) > maxJTI:
		return Assertion{}, fmt.Errorf("%w: jti", errClaims)
	}
	a := Assertion{ID: c.ID, Expires: time.Unix(c.Expires, 0)}
	if c.IssuedAt != 0 {
		a.IssuedAt = time.Unix(c.IssuedAt, 0)
	}
	return a, nil
}

// SignAssertion makes what VerifyAssertion checks: for agents and resource servers that authenticate by private_key_jwt.
// The audience is the issuer identifier of the authorization server.
func SignAssertion(key *SigningKey, clientID, audience string, now time.Time) (string, error) {
	iat := now.Unix()
	payload := quoted([]byte(`{"iss":`), clientID)
	payload = quoted(append(payload, `,"sub":`...), clientID)
	payload = quoted(append(payload, `,"aud":`...), audience)
	payload = quoted(append(payload, `,"jti":`...), rand.Text())
	payload = fmt.Appendf(payload, `,"iat":%d,"exp":%d}`, iat, iat+int64(assertionLifetime/time.Second))
	return key.sign(key.headOf(typeAssertion), payload)
}
