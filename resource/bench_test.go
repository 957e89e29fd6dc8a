package resource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"obolus/resource"
)

// BenchmarkVerification is the floor: one bare verification of ES256.
func BenchmarkVerification(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte("a token"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], signature) {
			b.Fatal("not verified")
		}
	}
}

// BenchmarkGuard is everything that the guard does for a request with a session token that it has not seen before: at most 1.1 times a bare
// verification.
func BenchmarkGuard(b *testing.B) {
	is := newIssuer(b)
	tokens := make([]*http.Request, 12000)
	for i := range tokens {
		tokens[i] = request("GET", "/mail/send", "", is.token())
	}
	benchmark(b, is, tokens)
}

// BenchmarkGuardAgain is for a session token that comes again and again.
func BenchmarkGuardAgain(b *testing.B) {
	is := newIssuer(b)
	benchmark(b, is, []*http.Request{request("GET", "/mail/send", "", is.token())})
}

func benchmark(b *testing.B, is *issuer, requests []*http.Request) {
	b.Helper()
	start := time.Now()
	g := is.guard(func(c *resource.Config) { c.Now = func() time.Time { return start } })
	handler := g.Require(send)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, requests[0])
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		handler.ServeHTTP(w, requests[i%len(requests)])
		i++
	}
	if w.Code != http.StatusOK {
		b.Fatal(w.Code)
	}
}
