package token_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"obolus/token"
)

// TestProofs follows DP-02 to DP-09.
func TestProofs(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[3]
	key, other := e.key, pairs()["other"]
	now := start.Unix()
	jwk := jwkOf(t, key)
	var private object
	if err := json.Unmarshal(privateJWK(t, key), &private); err != nil {
		t.Fatal(err)
	}
	head, payload := e.head, e.payload
	for _, c := range []struct {
		name    string
		head    object
		payload object
		good    bool
	}{
		{name: "as it is", good: true},
		{name: "typ JWT", head: head.with("typ", "JWT")},
		{name: "typ missing", head: head.without("typ")},
		{name: "typ in its long form", head: head.with("typ", "application/dpop+jwt"), good: true},
		{name: "jwk missing", head: head.without("jwk")},
		{name: "jwk null", head: head.with("jwk", nil)},
		{name: "jwk of another", head: head.with("jwk", jwkOf(t, other))},
		{name: "jwk private", head: head.with("jwk", private)},
		{name: "jwk symmetric", head: head.with("jwk", object{"kty": "oct", "k": "AAAA"})},
		{name: "jwk for encryption", head: head.with("jwk", jwk.with("use", "enc"))},
		{name: "jwk for signatures", head: head.with("jwk", jwk.with("use", "sig")), good: true},
		{name: "jwk with a kid of its own", head: head.with("jwk", jwk.with("kid", "mine")), good: true},
		{name: "jwk for another algorithm", head: head.with("jwk", jwk.with("alg", "ES384"))},
		{name: "jwk off the curve", head: head.with("jwk", jwk.with("x", jwk["y"]))},
		{name: "jwk without y", head: head.with("jwk", jwk.without("y"))},
		{name: "jwk with x twice", head: head, payload: nil},
		{name: "kid beside it", head: head.with("kid", key.KeyID())},
		{name: "x5t beside it", head: head.with("x5t", "abc")},
		{name: "jti missing", payload: payload.without("jti")},
		{name: "jti empty", payload: payload.with("jti", "")},
		{name: "jti of 256 bytes", payload: payload.with("jti", strings.Repeat("j", 256)), good: true},
		{name: "jti of 10 KiB", payload: payload.with("jti", strings.Repeat("j", 10<<10))},
		{name: "htm missing", payload: payload.without("htm")},
		{name: "htm in lower case", payload: payload.with("htm", "post")},
		{name: "htm of another method", payload: payload.with("htm", "GET")},
		{name: "htm a list", payload: payload.with("htm", []string{"POST"})},
		{name: "htu missing", payload: payload.without("htu")},
		{name: "htu empty", payload: payload.with("htu", "")},
		{name: "htu a number", payload: payload.with("htu", 1)},
		{name: "htu with a query", payload: payload.with("htu", endpoint+"?a=b"), good: true},
		{name: "htu with a fragment", payload: payload.with("htu", endpoint+"#x"), good: true},
		{name: "htu with scheme and host in capitals", payload: payload.with("htu", "HTTPS://AS.TEST/token"), good: true},
		{name: "htu with the default port", payload: payload.with("htu", "https://as.test:443/token"), good: true},
		{name: "htu with another port", payload: payload.with("htu", "https://as.test:8443/token")},
		{name: "htu with the port of http", payload: payload.with("htu", "https://as.test:80/token")},
		{name: "htu with another scheme", payload: payload.with("htu", "http://as.test/token")},
		{name: "htu with another host", payload: payload.with("htu", "https://rs.test/token")},
		{name: "htu with another path", payload: payload.with("htu", "https://as.test/Token")},
		{name: "htu with a slash behind", payload: payload.with("htu", "https://as.test/token/")},
		{name: "htu with a user", payload: payload.with("htu", "https://x@as.test/token")},
		{name: "htu without scheme", payload: payload.with("htu", "//as.test/token")},
		{name: "htu with a path alone", payload: payload.with("htu", "/token")},
		{name: "htu no URI", payload: payload.with("htu", "https://as.test/%zz")},
		{name: "iat missing", payload: payload.without("iat")},
		{name: "iat 60 s ago", payload: payload.with("iat", now-60), good: true},
		{name: "iat 61 s ago", payload: payload.with("iat", now-61)},
		{name: "iat 5 s ahead", payload: payload.with("iat", now+5), good: true},
		{name: "iat 6 s ahead", payload: payload.with("iat", now+6)},
		{name: "nonce a number", payload: payload.with("nonce", 1)},
		{name: "ath a number", payload: payload.with("ath", 1)},
		{name: "ath though no token is expected", payload: payload.with("ath", "x"), good: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, p := c.head, c.payload
			if h == nil {
				h = head
			}
			if p == nil {
				p = payload
			}
			text := h.text()
			if c.name == "jwk with x twice" {
				text = strings.Replace(text, `"jwk":{`, `"jwk":{"x":"AA",`, 1)
			}
			if err := e.check(forge(key, token.ES256, text, p.text())); (err == nil) != c.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSignProof(t *testing.T) {
	t.Parallel()
	for _, alg := range token.ProofAlgorithms() {
		key := pairs()[alg]
		compact, err := token.SignProof(key.SigningKey, token.ProofClaims{
			Method: "GET", URI: "https://rs.test/a?q=1#f", AccessToken: "the token", Nonce: "n",
		}, start)
		if err != nil {
			t.Fatal(err)
		}
		expect := token.ProofExpect{Method: "GET", URI: "https://rs.test/a", AccessToken: "the token", Now: clock}
		got, err := token.VerifyProof(compact, expect)
		if err != nil {
			t.Fatal(alg, err)
		}
		jkt, err := token.Thumbprint(key.Public().Key)
		if err != nil || got.JKT != jkt || got.ID == "" || got.Nonce != "n" || !got.IssuedAt.Equal(start) {
			t.Errorf("%s: %+v, %v", alg, got, err)
		}
		expect.AccessToken = "another token"
		if _, err := token.VerifyProof(compact, expect); err == nil {
			t.Errorf("%s: a proof for another token was taken", alg)
		}
		bare, err := token.SignProof(key.SigningKey, token.ProofClaims{Method: "GET", URI: "https://rs.test/a"}, start)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.VerifyProof(bare, expect); err == nil {
			t.Errorf("%s: a proof without ath was taken", alg)
		}
	}
}

func TestWhereAProofIsFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		htu, uri string
		same     bool
	}{
		{"http://127.0.0.1:8420/token", "http://127.0.0.1:8420/token", true},
		{"http://rs.test:80/", "http://rs.test", true},
		{"http://rs.test", "http://rs.test/?x", true},
		{"https://[::1]:443/a", "https://[::1]/a", true},
		{"https://rs.test/a%2fb", "https://rs.test/a/b", false},
		{"ftp://rs.test/a", "FTP://rs.test/a", false},
		{"https://rs.test/a", "https://rs.test/%zz", false},
		{"https://rs.test/a/../b", "https://rs.test/b", false},
	} {
		compact, err := token.SignProof(pairs()[token.EdDSA].SigningKey, token.ProofClaims{Method: "GET", URI: c.htu}, start)
		if err != nil {
			t.Fatal(err)
		}
		_, err = token.VerifyProof(compact, token.ProofExpect{Method: "GET", URI: c.uri, Now: clock})
		if (err == nil) != c.same {
			t.Errorf("%s for %s: %v", c.htu, c.uri, err)
		}
	}
	compact, err := token.SignProof(pairs()[token.EdDSA].SigningKey, token.ProofClaims{}, start)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.VerifyProof(compact, token.ProofExpect{Now: func() time.Time { return start }}); err == nil {
		t.Error("a proof for nothing was taken")
	}
}
