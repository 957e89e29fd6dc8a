package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/token"
)

const (
	issuer   = "https://as.test"
	resource = "https://rs.test/api"
	method   = "POST"
	endpoint = "https://as.test/token"
	agentID  = "agent-a"
)

var (
	start = time.Unix(1_800_000_000, 0)
	clock = func() time.Time { return start }
	b64   = base64.RawURLEncoding
)

// pair is a key with its private part in the open, so that anything can be signed.
type pair struct {
	*token.SigningKey
	private crypto.Signer
}

// pairs are one key for every algorithm and a second one for ES256, made once.
var pairs = sync.OnceValue(func() map[string]pair {
	all := make(map[string]pair)
	for _, alg := range token.Algorithms() {
		all[alg] = newPair(alg)
	}
	all["other"] = newPair(token.ES256)
	return all
})

func newPair(alg string) pair {
	k, err := token.GenerateKey(alg, rand.Reader)
	if err != nil {
		panic(err)
	}
	return pairOf(k)
}

func pairOf(k *token.SigningKey) pair {
	pemKey, err := k.PEM()
	if err != nil {
		panic(err)
	}
	return pair{SigningKey: k, private: privateOf(pemKey)}
}

// sign makes a raw JWS signature by the standard library alone.
func (p pair) sign(alg string, data []byte) []byte {
	sum := sha256.Sum256(data)
	switch k := p.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(k, data)
	case *rsa.PrivateKey:
		var sig []byte
		var err error
		if alg == token.RS256 {
			sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		} else {
			sig, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		if err != nil {
			panic(err)
		}
		return sig
	default:
		panic("no such key")
	}
}

// object is a JSON object in the making.
type object map[string]any

func (o object) with(name string, value any) object {
	o = maps.Clone(o)
	o[name] = value
	return o
}

func (o object) without(name string) object {
	o = maps.Clone(o)
	delete(o, name)
	return o
}

func (o object) text() string {
	out, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// forge signs any two texts.
func forge(p pair, alg, head, payload string) string {
	signed := b64.EncodeToString([]byte(head)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(p.sign(alg, []byte(signed)))
}

func forgeHMAC(key []byte, head, payload string) string {
	signed := b64.EncodeToString([]byte(head)) + "." + b64.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + b64.EncodeToString(mac.Sum(nil))
}

// entrance is one place where a JWT is taken: what a good one there looks like, and the check.
type entrance struct {
	name    string
	key     pair
	head    object
	payload object
	check   func(compact string) error
}

// entrances are all of them, for keys of one algorithm.
func entrances(t testing.TB, alg string) []entrance {
	t.Helper()
	key := pairs()[alg]
	keys := token.NewPublicSet(key.Public())
	verifier, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: keys, Now: clock, Leeway: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	now := start.Unix()
	head := object{"alg": alg, "kid": key.KeyID()}
	return []entrance{
		{
			name: "access token", key: key, head: head.with("typ", "at+jwt"),
			payload: object{
				"iss": issuer, "sub": "alice", "aud": resource, "client_id": agentID, "iat": now, "nbf": now, "exp": now + 60, "jti": "j1",
				"act": object{"iss": issuer, "sub": agentID},
			},
			check: func(s string) error { _, err := verifier.Verify(t.Context(), s); return err },
		},
		{
			name: "JWT of an issuer", key: key, head: head.with("typ", "JWT"),
			payload: object{"iss": "https://idp.test", "sub": "alice", "aud": []string{issuer, "x"}, "iat": now, "exp": now + 60},
			check: func(s string) error {
				_, err := token.VerifyJWT(t.Context(), s, token.Expect{
					Issuer: "https://idp.test", Keys: keys, Algs: []string{alg}, Types: []string{"", "JWT"}, Audience: issuer, RequireExp: true, Now: clock,
				})
				return err
			},
		},
		{
			name: "client assertion", key: key, head: head.with("typ", "client-authentication+jwt"),
			payload: object{"iss": agentID, "sub": agentID, "aud": issuer, "iat": now, "exp": now + 60, "jti": "j2"},
			check: func(s string) error {
				_, err := token.VerifyAssertion(t.Context(), s, token.AssertionExpect{ClientID: agentID, Audience: issuer, Keys: keys, Now: clock})
				return err
			},
		},
		{
			name: "proof", key: key, head: object{"alg": alg, "typ": "dpop+jwt", "jwk": jwkOf(t, key)},
			payload: object{"jti": "j3", "htm": method, "htu": endpoint, "iat": now},
			check: func(s string) error {
				_, err := token.VerifyProof(s, token.ProofExpect{Method: method, URI: endpoint, Now: clock})
				return err
			},
		},
		{
			name: "JWT-SVID", key: key, head: head.with("typ", "JWT"),
			payload: object{"sub": "spiffe://example.org/mailer", "aud": []string{issuer}, "iat": now, "exp": now + 300},
			check: func(s string) error {
				_, err := token.VerifySVID(t.Context(), s, token.SVIDExpect{TrustDomain: "example.org", Audience: issuer, Keys: keys, Now: clock})
				return err
			},
		},
		{
			name: "token of a workload", key: key, head: head,
			payload: object{"iss": "https://cluster.test", "sub": "system:serviceaccount:mail:mailer", "aud": []string{issuer}, "iat": now, "exp": now + 3600},
			check: func(s string) error {
				_, err := token.VerifyWorkload(t.Context(), s, token.WorkloadExpect{
					Issuer: "https://cluster.test", Audience: issuer, Keys: keys, Algs: []string{alg}, Now: clock,
				})
				return err
			},
		},
	}
}

// jwkOf is the public JWK of a key.
func jwkOf(t testing.TB, p pair) object {
	t.Helper()
	set, err := token.NewPublicSet(p.Public()).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Keys []object }
	if err := json.Unmarshal(set, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Keys[0].without("kid").without("use").without("alg")
}

// parts takes a compact JWS apart.
func parts(compact string) (head, payload, signature string) {
	p := strings.Split(compact, ".")
	return p[0], p[1], p[2]
}
