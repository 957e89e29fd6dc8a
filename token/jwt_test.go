package token_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"obolus/token"
)

func TestJWTOfAnIssuer(t *testing.T) {
	t.Parallel()
	const idp = "https://idp.test"
	key, second := pairs()[token.RS256], pairs()[token.ES256]
	now := start.Unix()
	head := object{"alg": token.RS256, "kid": key.KeyID()}
	payload := object{"iss": idp, "sub": "alice", "aud": []string{"a", issuer}, "exp": now + 60}
	base := token.Expect{
		Issuer: idp, Keys: token.NewPublicSet(key.Public(), second.Public()), Algs: []string{token.RS256}, Types: []string{"", "JWT"},
		Audience: issuer, RequireExp: true, Now: clock,
	}
	for _, c := range []struct {
		name    string
		head    object
		payload object
		expect  func(*token.Expect)
		good    bool
	}{
		{name: "as it is", good: true},
		{name: "typ in its long form", head: head.with("typ", "application/JWT"), good: true},
		{name: "typ of an access token", head: head.with("typ", "at+jwt")},
		{name: "typ demanded and missing", expect: func(e *token.Expect) { e.Types = []string{"x+jwt"} }},
		{name: "no types at all", expect: func(e *token.Expect) { e.Types = nil }},
		{name: "no issuer expected", expect: func(e *token.Expect) { e.Issuer = "" }},
		{name: "any of our algorithms", expect: func(e *token.Expect) { e.Algs = nil }, good: true},
		{name: "algorithm allowed but not for this issuer", expect: func(e *token.Expect) { e.Algs = []string{token.ES256} }},
		{name: "algorithm of the issuer but not of the key", head: head.with("alg", token.PS256), expect: func(e *token.Expect) { e.Algs = nil }},
		{name: "none demanded by mistake", head: head.with("alg", "none"), expect: func(e *token.Expect) { e.Algs = []string{"none"} }},
		{name: "no kid and two keys", head: head.without("kid")},
		{name: "no kid and one key", head: head.without("kid"), expect: func(e *token.Expect) { e.Keys = token.NewPublicSet(key.Public()) }, good: true},
		{name: "kid of another key", head: head.with("kid", second.KeyID())},
		{name: "kid of a key of another issuer", expect: func(e *token.Expect) { e.Keys = token.NewPublicSet(second.Public()) }},
		{name: "no keys", expect: func(e *token.Expect) { e.Keys = nil }},
		{name: "another audience", payload: payload.with("aud", "b")},
		{name: "audience in other case", payload: payload.with("aud", strings.ToUpper(issuer))},
		{name: "any audience", payload: payload.with("aud", "b"), expect: func(e *token.Expect) { e.Audience = "" }, good: true},
		{name: "no exp but demanded", payload: payload.without("exp")},
		{name: "no exp", payload: payload.without("exp"), expect: func(e *token.Expect) { e.RequireExp = false }, good: true},
		{name: "no exp but a longest life", payload: payload.without("exp"), expect: func(e *token.Expect) { e.RequireExp, e.MaxLifetime = false, time.Hour }},
		{name: "within the longest life", expect: func(e *token.Expect) { e.MaxLifetime = time.Minute }, good: true},
		{name: "beyond the longest life", expect: func(e *token.Expect) { e.MaxLifetime = 59 * time.Second }},
		{name: "over", payload: payload.with("exp", now)},
		{name: "iat 10 s ahead", payload: payload.with("iat", now+10), good: true},
		{name: "iat 11 s ahead", payload: payload.with("iat", now+11)},
		{name: "nbf 10 s ahead", payload: payload.with("nbf", now+10), good: true},
		{name: "nbf 11 s ahead", payload: payload.with("nbf", now+11)},
		{name: "a member we do not know", payload: payload.with("email", object{"x": []int{1}}), good: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := base
			if c.expect != nil {
				c.expect(&e)
			}
			h, p := c.head, c.payload
			if h == nil {
				h = head
			}
			if p == nil {
				p = payload
			}
			got, err := token.VerifyJWT(t.Context(), forge(key, token.RS256, h.text(), p.text()), e)
			if (err == nil) != c.good {
				t.Fatalf("got %v", err)
			}
			if c.good && (got.Claims.Subject != "alice" || got.KeyID != key.KeyID()) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestAnExpiredJWTSaysSo(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[1]
	if err := e.check(payloaded(e, e.payload.with("exp", start.Unix()))); !errors.Is(err, token.ErrExpired) {
		t.Errorf("got %v", err)
	}
}

func TestFullySpecifiedName(t *testing.T) {
	t.Parallel()
	for _, e := range entrances(t, token.EdDSA) {
		if err := e.check(forge(e.key, token.EdDSA, e.head.with("alg", "Ed25519").text(), e.payload.text())); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
	}
}

func TestPeek(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[1]
	iss, sub, err := token.Peek(resign(payloaded(e, e.payload), []byte("not verified")))
	if err != nil || iss != "https://idp.test" || sub != "alice" {
		t.Errorf("%q %q %v", iss, sub, err)
	}
	for _, bad := range []string{"", "a.b", payloaded(e, e.payload.with("sub", 1)), payloaded(e, e.payload.with("more", strings.Repeat("x", 16<<10)))} {
		if _, _, err := token.Peek(bad); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func TestAlgorithmsAreAsymmetric(t *testing.T) {
	t.Parallel()
	want := []string{token.ES256, token.EdDSA, token.PS256, token.RS256}
	if !slices.Equal(token.Algorithms(), want) || !slices.Equal(token.ProofAlgorithms(), want) {
		t.Error(token.Algorithms(), token.ProofAlgorithms())
	}
}
