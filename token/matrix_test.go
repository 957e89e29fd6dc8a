package token_test

import (
	"testing"
	"time"

	"obolus/token"
)

// TestOnlyTheDiagonalPasses gives every kind of JWT that we make or take to every place that takes one: RFC 8725 section
// 3.12. All are by the same key, of the same issuer, for the same audience, and carry the claims of all kinds, so
// that nothing but the rules of the kind tells them apart.
func TestOnlyTheDiagonalPasses(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	keys := token.NewPublicSet(key.Public())
	now := start.Unix()
	claims := object{
		"iss": issuer, "sub": issuer, "aud": issuer, "client_id": agentID, "iat": now, "nbf": now, "exp": now + 60, "jti": "j",
		"htm": method, "htu": endpoint, "txn": "t", "token_introspection": object{"active": true}, "events": object{"e": object{}}, "nonce": "n",
	}
	plain := object{"alg": token.ES256, "kid": key.KeyID()}
	kinds := map[string]object{
		"at+jwt":                    plain.with("typ", "at+jwt"),
		"client-authentication+jwt": plain.with("typ", "client-authentication+jwt"),
		"dpop+jwt":                  {"alg": token.ES256, "typ": "dpop+jwt", "jwk": jwkOf(t, key)},
		"txn-receipt+jwt":           plain.with("typ", "txn-receipt+jwt"),
		"JWT":                       plain.with("typ", "JWT"),
		"":                          plain,
		"logout+jwt":                plain.with("typ", "logout+jwt"),
		"secevent+jwt":              plain.with("typ", "secevent+jwt"),
		"token-introspection+jwt":   plain.with("typ", "token-introspection+jwt"),
		"oauth-id-jag+jwt":          plain.with("typ", "oauth-id-jag+jwt"),
		"txntoken+jwt":              plain.with("typ", "txntoken+jwt"),
		"statuslist+jwt":            plain.with("typ", "statuslist+jwt"),
	}
	verifier, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: keys, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	jwt := func(types ...string) func(string) error {
		return func(s string) error {
			_, err := token.VerifyJWT(t.Context(), s, token.Expect{
				Issuer: issuer, Keys: keys, Types: types, Audience: issuer, RequireExp: true, MaxLifetime: time.Hour, Now: clock,
			})
			return err
		}
	}
	places := []struct {
		name  string
		check func(string) error
		takes []string
	}{
		{"access token", func(s string) error { _, err := verifier.Verify(t.Context(), s); return err }, []string{"at+jwt"}},
		{"client assertion", func(s string) error {
			_, err := token.VerifyAssertion(t.Context(), s, token.AssertionExpect{ClientID: issuer, Audience: issuer, Keys: keys, Now: clock})
			return err
		}, []string{"client-authentication+jwt", "JWT", ""}},
		{"proof", func(s string) error {
			_, err := token.VerifyProof(s, token.ProofExpect{Method: method, URI: endpoint, Now: clock})
			return err
		}, []string{"dpop+jwt"}},
		{"ID token or JWT", jwt("", "JWT"), []string{"JWT", ""}},
		{"receipt", jwt("txn-receipt+jwt"), []string{"txn-receipt+jwt"}},
		{"introspection answer", jwt("application/token-introspection+jwt"), []string{"token-introspection+jwt"}},
		{"security event", jwt("secevent+jwt"), []string{"secevent+jwt"}},
		{"security event of a transmitter", func(s string) error {
			_, err := token.VerifySecurityEvent(t.Context(), s, token.Expect{Issuer: issuer, Keys: keys, Audience: issuer, Now: clock})
			return err
		}, []string{"secevent+jwt"}},
		{"logout token", jwt("logout+jwt"), []string{"logout+jwt"}},
	}
	for _, place := range places {
		for kind, head := range kinds {
			err := place.check(forge(key, token.ES256, head.text(), claims.text()))
			want := false
			for _, takes := range place.takes {
				want = want || takes == kind
			}
			if (err == nil) != want {
				t.Errorf("%q as %s: %v", kind, place.name, err)
			}
		}
	}
}

// TestTypeIsAMediaType: case does not count and application/ may be written out, RFC 8725 section 3.11.
func TestTypeIsAMediaType(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[0]
	for typ, good := range map[string]bool{
		"at+jwt": true, "AT+JWT": true, "application/at+jwt": true, "Application/AT+jwt": true,
		"application/application/at+jwt": false, "text/at+jwt": false, "application/at+jwt;x=1": false, "at+jwt ": false, "application/x/at+jwt": false,
	} {
		if err := e.check(headed(e, e.head.with("typ", typ))); (err == nil) != good {
			t.Errorf("%q: %v", typ, err)
		}
	}
}
