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

// verification makes one bare verification of ES256, the floor.
func verification(b *testing.B) func() {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte("a token"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], signature) {
			b.Fatal("not verified")
		}
	}
}

// BenchmarkVerification is the floor.
func BenchmarkVerification(b *testing.B) {
	verify := verification(b)
	for b.Loop() {
		verify()
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
	// The floor is measured in between, so that both run on the same machine at the same time.
	verify, floor, i := verification(b), time.Duration(0), 0
	for b.Loop() {
		handler.ServeHTTP(w, requests[i%len(requests)])
		if i++; i%100 == 0 {
			b.StopTimer()
			began := time.Now()
			for range 100 {
				verify()
			}
			floor += time.Since(began)
			b.StartTimer()
		}
	}
	if i >= 100 {
		b.ReportMetric(float64(b.Elapsed())/float64(i)/(float64(floor)/float64(i/100*100)), "verifications/op")
	}
	if w.Code != http.StatusOK {
		b.Fatal(w.Code)
	}
}
