package token_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"obolus/token"
)

func benchClaims() token.Claims {
	now := start.Unix()
	act := token.Nest(token.Actor{Issuer: issuer, Subject: agentID, Profile: "ai_agent"}, nil)
	return token.Claims{
		Issuer: issuer, Audience: token.Audience{resource}, Subject: "alice", ClientID: agentID, IssuedAt: now, NotBefore: now, Expires: now + 60,
		ID: "01j8zq3vb0.4c8f9a2d7e6b5a4c3d2e1f0a9b8c7d6e", Txn: "txn_4c8f9a2d7e6b5a4c3d2e1f0a9b8c7d6e", TxnMode: "redeem", Scope: "files:read files:write",
		Act: &act, Details: json.RawMessage(`[{"type":"payment","amount":{"currency":"EUR","value":"12.50"},"creditor":"Acme"}]`),
		AuthTime: now - 100, ACR: "urn:mace:incommon:iap:silver", AMR: []string{"pwd", "otp"},
		Context: &token.Context{Consent: "g_123456", Source: "01j8zq3vb0.aaaa", Origin: "app"},
	}
}

// The floor: what the cryptography alone costs over as many bytes.

func BenchmarkFloorSign(b *testing.B) {
	key := pairs()[token.ES256].private.(*ecdsa.PrivateKey)
	data := []byte(strings.Repeat("x", 1000))
	for b.Loop() {
		sum := sha256.Sum256(data)
		if _, err := ecdsa.SignASN1(rand.Reader, key, sum[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloorVerify(b *testing.B) {
	key := pairs()[token.ES256].private.(*ecdsa.PrivateKey)
	data := []byte(strings.Repeat("x", 1000))
	sum := sha256.Sum256(data)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		sum := sha256.Sum256(data)
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

func BenchmarkSign(b *testing.B) {
	iss, key, c := token.NewIssuer(issuer), pairs()[token.ES256].SigningKey, benchClaims()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := iss.Sign(c, key); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify verifies tokens that were not seen before: more of them than are remembered, in turn.
func BenchmarkVerify(b *testing.B) {
	key := pairs()[token.ES256]
	many := make([]string, 10_000)
	c := benchClaims()
	for i := range many {
		c.ID = strconv.Itoa(i)
		many[i] = must(token.NewIssuer(issuer).Sign(c, key.SigningKey))
	}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := v.Verify(b.Context(), many[i%len(many)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyAgain(b *testing.B) {
	key := pairs()[token.ES256]
	compact, err := token.NewIssuer(issuer).Sign(benchClaims(), key.SigningKey)
	if err != nil {
		b.Fatal(err)
	}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), compact); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyAssertion(b *testing.B) {
	key := pairs()[token.ES256]
	compact, err := token.SignAssertion(key.SigningKey, agentID, issuer, start)
	if err != nil {
		b.Fatal(err)
	}
	e := token.AssertionExpect{ClientID: agentID, Audience: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.VerifyAssertion(b.Context(), compact, e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyProof(b *testing.B) {
	compact, err := token.SignProof(pairs()[token.ES256].SigningKey, token.ProofClaims{Method: method, URI: endpoint}, start)
	if err != nil {
		b.Fatal(err)
	}
	e := token.ProofExpect{Method: method, URI: endpoint, Now: func() time.Time { return start }}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.VerifyProof(compact, e); err != nil {
			b.Fatal(err)
		}
	}
}
