package token_test

import (
	"strings"
	"testing"
	"time"

	"obolus/token"
)

// TestAssertions follows CA-01 to CA-07.
func TestAssertions(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[2]
	now := start.Unix()
	five := now + int64(token.MaxAssertionLifetime/time.Second)
	for _, c := range []struct {
		name    string
		payload object
		head    object
		good    bool
	}{
		{name: "as it is", good: true},
		{name: "aud an array of the issuer alone", payload: e.payload.with("aud", []string{issuer}), good: true},
		{name: "aud the token endpoint", payload: e.payload.with("aud", endpoint)},
		{name: "aud the PAR endpoint", payload: e.payload.with("aud", issuer+"/par")},
		{name: "aud the issuer and the token endpoint", payload: e.payload.with("aud", []string{issuer, endpoint})},
		{name: "aud the issuer twice", payload: e.payload.with("aud", []string{issuer, issuer})},
		{name: "aud with a slash", payload: e.payload.with("aud", issuer+"/")},
		{name: "aud with the port", payload: e.payload.with("aud", issuer+":443")},
		{name: "aud in other case", payload: e.payload.with("aud", "HTTPS://as.test")},
		{name: "aud another server", payload: e.payload.with("aud", "https://other.test")},
		{name: "aud empty", payload: e.payload.with("aud", "")},
		{name: "aud an empty array", payload: e.payload.with("aud", []string{})},
		{name: "aud missing", payload: e.payload.without("aud")},
		{name: "iss another client", payload: e.payload.with("iss", "agent-b")},
		{name: "sub another client", payload: e.payload.with("sub", "agent-b")},
		{name: "iss and sub another client", payload: e.payload.with("sub", "agent-b").with("iss", "agent-b")},
		{name: "sub missing", payload: e.payload.without("sub")},
		{name: "iss missing", payload: e.payload.without("iss")},
		{name: "exp missing", payload: e.payload.without("exp")},
		{name: "exp now", payload: e.payload.with("exp", now)},
		{name: "exp in five minutes", payload: e.payload.with("exp", five), good: true},
		{name: "exp in five minutes and a second", payload: e.payload.with("exp", five+1)},
		{name: "exp in a year", payload: e.payload.with("exp", now+365*86400)},
		{name: "jti missing", payload: e.payload.without("jti")},
		{name: "jti empty", payload: e.payload.with("jti", "")},
		{name: "jti of 256 bytes", payload: e.payload.with("jti", strings.Repeat("j", 256)), good: true},
		{name: "jti of 257 bytes", payload: e.payload.with("jti", strings.Repeat("j", 257))},
		{name: "iat missing", payload: e.payload.without("iat"), good: true},
		{name: "iat 10 s ahead", payload: e.payload.with("iat", now+10), good: true},
		{name: "iat 61 s ahead", payload: e.payload.with("iat", now+61)},
		{name: "nbf 10 s ahead", payload: e.payload.with("nbf", now+10), good: true},
		{name: "nbf 61 s ahead", payload: e.payload.with("nbf", now+61)},
		{name: "typ missing", head: e.head.without("typ"), good: true},
		{name: "typ JWT", head: e.head.with("typ", "JWT"), good: true},
		{name: "typ in its long form", head: e.head.with("typ", "application/client-authentication+jwt"), good: true},
		{name: "typ at+jwt", head: e.head.with("typ", "at+jwt")},
		{name: "typ dpop+jwt", head: e.head.with("typ", "dpop+jwt")},
		{name: "digest of a certificate as a hint", head: e.head.with("x5t", "abc").with("x5t#S256", "abc"), good: true},
		{name: "no kid and one key", head: e.head.without("kid"), good: true},
		{name: "key of the caller in the header", head: e.head.with("jwk", jwkOf(t, e.key))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			head, payload := c.head, c.payload
			if head == nil {
				head = e.head
			}
			if payload == nil {
				payload = e.payload
			}
			if err := e.check(forge(e.key, token.ES256, head.text(), payload.text())); (err == nil) != c.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnAssertionIsByTheClientsOwnKey(t *testing.T) {
	t.Parallel()
	own, other := pairs()[token.ES256], pairs()["other"]
	compact, err := token.SignAssertion(other.SigningKey, agentID, issuer, start)
	if err != nil {
		t.Fatal(err)
	}
	expect := token.AssertionExpect{ClientID: agentID, Audience: issuer, Keys: token.NewPublicSet(own.Public()), Now: clock}
	if _, err := token.VerifyAssertion(t.Context(), compact, expect); err == nil {
		t.Error("another client's key was taken")
	}
	expect.Keys = token.NewPublicSet(other.Public())
	if _, err := token.VerifyAssertion(t.Context(), compact, expect); err != nil {
		t.Error(err)
	}
	for name, e := range map[string]token.AssertionExpect{
		"no client":   {Audience: issuer, Keys: expect.Keys, Now: clock},
		"no audience": {ClientID: agentID, Keys: expect.Keys, Now: clock},
	} {
		if _, err := token.VerifyAssertion(t.Context(), compact, e); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSignAssertion(t *testing.T) {
	t.Parallel()
	for _, alg := range token.Algorithms() {
		key := pairs()[alg]
		seen := make(map[string]bool)
		for range 2 {
			compact, err := token.SignAssertion(key.SigningKey, `agent-"ä`, issuer, start)
			if err != nil {
				t.Fatal(err)
			}
			got, err := token.VerifyAssertion(t.Context(), compact, token.AssertionExpect{
				ClientID: `agent-"ä`, Audience: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock,
			})
			if err != nil || seen[got.ID] || !got.IssuedAt.Equal(start) || !got.Expires.Equal(start.Add(time.Minute)) {
				t.Errorf("%s: %+v, %v", alg, got, err)
			}
			seen[got.ID] = true
		}
	}
}

func TestAnAssertionWithoutIssueTime(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[2]
	got, err := token.VerifyAssertion(t.Context(), payloaded(e, e.payload.without("iat")), token.AssertionExpect{
		ClientID: agentID, Audience: issuer, Keys: token.NewPublicSet(e.key.Public()), Now: clock,
	})
	if err != nil || !got.IssuedAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}
