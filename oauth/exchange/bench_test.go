package exchange_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/transaction"
)

// The benchmarks stand beside the floor they are built on: the signatures that cannot be avoided. Stores are in memory here; what
// a real one adds is its round trips.

func benchWorld(b *testing.B) (*world.World, func() (agents.Presented, exchange.Request)) {
	b.Helper()
	w := world.New(b)
	w.Populate()
	key := w.Agent("agent-a", nil)
	user := w.UserToken("alice", func(s *transaction.Session) { s.Lifetime = 100 * time.Hour })
	w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	return w, func() (agents.Presented, exchange.Request) {
		return w.Assertion("agent-a", key), exchange.Request{
			SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
		}
	}
}

// BenchmarkExchange is one exchange whose subject token was seen before, without the client's assertion.
func BenchmarkExchange(b *testing.B) {
	w, next := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		who, r := next()
		b.StartTimer()
		if _, err := w.Exchange.Do(b.Context(), who, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExchangeFloor is the one signature in BenchmarkExchange.
func BenchmarkExchangeFloor(b *testing.B) {
	key, digest := bareKey(b)
	for b.Loop() {
		if _, _, err := ecdsa.Sign(rand.Reader, key, digest); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAssertedExchange is one exchange with all its signatures: the assertion is verified, the subject token was seen before.
func BenchmarkAssertedExchange(b *testing.B) {
	w, _ := benchWorld(b)
	key := w.Agent("agent-b", nil)
	w.Consent("alice", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	user := w.UserToken("alice", func(s *transaction.Session) { s.Lifetime = 100 * time.Hour })
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		compact := w.SignedAssertion("agent-b", key)
		b.StartTimer()
		who, err := w.Clients.Present(b.Context(), agents.Credentials{Method: oauth.AuthPrivateKeyJWT, ClientID: "agent-b", Assertion: compact})
		if err != nil {
			b.Fatal(err)
		}
		_, err = w.Exchange.Do(b.Context(), who, exchange.Request{
			SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAssertedExchangeFloor is the verification and the signature in BenchmarkAssertedExchange.
func BenchmarkAssertedExchangeFloor(b *testing.B) {
	key, digest := bareKey(b)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.Verify(&key.PublicKey, digest, r, s) {
			b.Fatal("it does not verify")
		}
		if _, _, err := ecdsa.Sign(rand.Reader, key, digest); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRedeem is one redemption by a resource server with a secret: the token is verified, the receipt signed.
func BenchmarkRedeem(b *testing.B) {
	w, next := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		who, r := next()
		answer, err := w.Exchange.Do(b.Context(), who, r)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		server, err := w.Clients.Present(b.Context(), agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: "mail-server", Secret: "secret"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Tx.Redeem(b.Context(), transaction.Redemption{Server: server, Token: answer.AccessToken, ID: "r"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRedeemFloor is the verification and the signature in BenchmarkRedeem.
func BenchmarkRedeemFloor(b *testing.B) { BenchmarkAssertedExchangeFloor(b) }

func bareKey(b *testing.B) (*ecdsa.PrivateKey, []byte) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("the floor"))
	return key, digest[:]
}
