package resource_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/resource"
	"obolus/token"
)

// The four combinations of RFC 9449 section 7, and what else a thief could try with a bound token. Nothing of it burns the token.
func TestProofOfPossession(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key, thief := testKey(t), testKey(t)
	g := is.guard()
	handler := g.Require(send)(new(effects))
	compact, plain := is.token(once, bound(key)), is.token()
	fresh := func(change ...func(*token.ProofClaims)) *http.Request {
		return prove(t, request("POST", "/mail/send", "{}", ""), key, compact, change...)
	}
	at := func(uri string) func(*token.ProofClaims) { return func(c *token.ProofClaims) { c.URI = uri } }
	aged := func(age time.Duration) *http.Request {
		r := fresh()
		proof, err := token.SignProof(key, token.ProofClaims{Method: "POST", URI: api + "/send", AccessToken: compact}, time.Now().Add(-age))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("DPoP", proof)
		return r
	}
	with := func(change func(*http.Request)) *http.Request {
		r := fresh()
		change(r)
		return r
	}
	spent := fresh()
	proof := spent.Header.Get("DPoP")
	for name, c := range map[string]struct {
		r    *http.Request
		want string // in the challenge
	}{
		"bound, as Bearer":         {with(func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+compact); r.Header.Del("DPoP") }), `DPoP error="invalid_token"`},
		"bound, as Bearer, proof":  {with(func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+compact) }), `DPoP error="invalid_token"`},
		"not bound, as DPoP":       {prove(t, request("POST", "/mail/send", "{}", ""), key, plain), `DPoP error="invalid_token"`},
		"no proof":                 {with(func(r *http.Request) { r.Header.Del("DPoP") }), `error="invalid_dpop_proof"`},
		"two proofs":               {with(func(r *http.Request) { r.Header.Add("DPoP", proof) }), `error="invalid_dpop_proof"`},
		"two proofs in one header": {with(func(r *http.Request) { r.Header.Set("DPoP", proof+", "+proof) }), `error="invalid_dpop_proof"`},
		"proof that is too large":  {with(func(r *http.Request) { r.Header.Set("DPoP", strings.Repeat("a", 9<<10)) }), `error="invalid_dpop_proof"`},
		"the thief's key":          {prove(t, request("POST", "/mail/send", "{}", ""), thief, compact), `error="invalid_token"`},
		"another method":           {fresh(func(c *token.ProofClaims) { c.Method = "GET" }), `error="invalid_dpop_proof"`},
		"method in another case":   {fresh(func(c *token.ProofClaims) { c.Method = "post" }), `error="invalid_dpop_proof"`},
		"another host":             {fresh(at("http://evil.test/mail/send")), `error="invalid_dpop_proof"`},
		"another port":             {fresh(at("http://127.0.0.1:10/mail/send")), `error="invalid_dpop_proof"`},
		"another scheme":           {fresh(at("https://127.0.0.1:9/mail/send")), `error="invalid_dpop_proof"`},
		"another path":             {fresh(at("http://127.0.0.1:9/mail/delete")), `error="invalid_dpop_proof"`},
		"for another token":        {fresh(func(c *token.ProofClaims) { c.AccessToken = plain }), `error="invalid_dpop_proof"`},
		"for no token":             {fresh(func(c *token.ProofClaims) { c.AccessToken = "" }), `error="invalid_dpop_proof"`},
		"too old":                  {aged(2 * time.Minute), `error="invalid_dpop_proof"`},
		"from the future":          {aged(-time.Minute), `error="invalid_dpop_proof"`},
		"before this server":       {aged(5 * time.Second), `error="invalid_dpop_proof"`},
		"host of a header": {with(func(r *http.Request) {
			r.Host = "evil.test"
			r.Header.Set("X-Forwarded-Host", "evil.test")
			proof, _ := token.SignProof(key, token.ProofClaims{Method: "POST", URI: "http://evil.test/mail/send", AccessToken: compact}, time.Now())
			r.Header.Set("DPoP", proof)
		}), `error="invalid_dpop_proof"`},
		"claims changed": {with(func(r *http.Request) {
			r.Header.Set("DPoP", mutate(proof, 1, func(m map[string]any) { m["jti"] = "other" }))
		}), `error="invalid_dpop_proof"`},
		"algorithm none": {with(func(r *http.Request) {
			r.Header.Set("DPoP", mutate(proof, 0, func(m map[string]any) { m["alg"] = "none" }))
		}), `error="invalid_dpop_proof"`},
		"an access token": {with(func(r *http.Request) { r.Header.Set("DPoP", compact) }), `error="invalid_dpop_proof"`},
		"a symmetric sign": {with(func(r *http.Request) {
			r.Header.Set("DPoP", mutate(proof, 0, func(m map[string]any) { m["alg"] = "HS256" }))
		}), `error="invalid_dpop_proof"`},
	} {
		w := do(handler, c.r)
		if w.Code != http.StatusUnauthorized || !strings.Contains(challenge(w), c.want) || !strings.Contains(challenge(w), `algs="ES256 `) {
			t.Errorf("%s: %d %q, want %q", name, w.Code, challenge(w), c.want)
		}
	}
	if is.calls.Load() != 0 {
		t.Fatal("a bad proof burnt the token")
	}
	if w := do(handler, spent); w.Code != http.StatusOK {
		t.Fatalf("the good proof: %d %s", w.Code, challenge(w))
	}
	// A proof replay and a transaction replay are two things.
	again := request("POST", "/mail/send", "{}", "")
	again.Header.Set("Authorization", "DPoP "+compact)
	again.Header.Set("DPoP", proof)
	if w := do(handler, again); w.Code != http.StatusUnauthorized || !strings.Contains(challenge(w), "invalid_dpop_proof") {
		t.Errorf("the same proof: %d %q", w.Code, challenge(w))
	}
	if w := do(handler, fresh()); w.Code != http.StatusUnauthorized || !strings.Contains(challenge(w), "invalid_token") {
		t.Errorf("a fresh proof for a spent token: %d %q", w.Code, challenge(w))
	}
}

func TestOneProofForAHundredRequests(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	handler := is.guard().Require(send)(new(effects))
	compact := is.token(bound(key))
	r := prove(t, request("GET", "/mail/send", "", ""), key, compact)
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if do(handler, r.Clone(t.Context())).Code == http.StatusOK {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 {
		t.Errorf("one proof did for %d requests", ok.Load())
	}
}

func TestOwnURL(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	compact := is.token(bound(key))
	for name, c := range map[string]struct {
		change func(*resource.Config)
		uri    string
	}{
		"behind a proxy": {func(c *resource.Config) { c.External = "https://api.test/v1/" }, "https://api.test/v1/mail/send"},
		"default port":   {func(c *resource.Config) { c.External = "https://API.test:443" }, "https://api.test/mail/send"},
		"by a function of its own": {func(c *resource.Config) {
			c.URL = func(r *http.Request) string { return "https://b.test" + r.URL.Path }
		}, "https://b.test/send"},
		"a resource without a host": {func(c *resource.Config) {
			c.Resource, c.URL = "urn:example:mail", func(*http.Request) string { return "https://b.test/x" }
		}, "https://b.test/x"},
	} {
		cfg := is.guard(c.change)
		mine := compact
		if strings.HasPrefix(name, "a resource") {
			mine = is.token(bound(key), func(c *token.Claims) { c.Audience = token.Audience{"urn:example:mail"} })
		}
		r := prove(t, request("POST", "/mail/send?x=y", "", ""), key, mine, func(p *token.ProofClaims) { p.URI = c.uri })
		if w := do(http.StripPrefix("/mail", cfg.Require(send)(new(effects))), r); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", name, w.Code, challenge(w))
		}
	}
}

// A nonce is of this resource, of this minute or the one before, and once demanded always demanded.
func TestNonces(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	var clock atomic.Int64
	start := time.Now().Truncate(time.Minute).Add(70 * time.Second)
	clock.Store(start.UnixNano())
	is.now = func() time.Time { return time.Unix(0, clock.Load()) }
	key := testKey(t)
	secret := []byte(strings.Repeat("k", 32))
	nonced := func(c *resource.Config) { c.NonceKey = secret }
	one, two := is.guard(nonced).Require(send)(new(effects)), is.guard(nonced).Require(send)(new(effects))
	foreign := is.guard(func(c *resource.Config) { c.NonceKey = []byte(strings.Repeat("x", 32)) }).Require(send)(new(effects))
	sibling := is.guard(nonced, func(c *resource.Config) { c.Resource = api + "2" }).Require(send)(new(effects))
	call := func(h http.Handler, nonce string, audience string) (int, string, string) {
		t.Helper()
		compact := is.token(bound(key), func(c *token.Claims) { c.Audience = token.Audience{audience} })
		r := request("POST", "/mail/send", "", "")
		proof, err := token.SignProof(key, token.ProofClaims{Method: "POST", URI: api + "/send", AccessToken: compact, Nonce: nonce}, is.now())
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "DPoP "+compact)
		r.Header.Set("DPoP", proof)
		w := do(h, r)
		return w.Code, w.Header().Get("DPoP-Nonce"), challenge(w)
	}

	status, nonce, says := call(one, "", api)
	if status != http.StatusUnauthorized || nonce == "" || !strings.Contains(says, `DPoP error="use_dpop_nonce"`) {
		t.Fatalf("without a nonce: %d %q %q", status, nonce, says)
	}
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) < 32 {
		t.Errorf("nonce %q", nonce)
	}
	if status, next, _ := call(two, nonce, api); status != http.StatusOK || next != "" {
		t.Errorf("the nonce at another replica: %d %q", status, next)
	}
	_, other, _ := call(foreign, "", api)
	_, siblings, _ := call(sibling, "", api+"2")
	for name, bad := range map[string]string{"another server's": other, "another resource's": siblings, "forged": nonce[:len(nonce)-4] + "AAAA", "none": ""} {
		if status, next, says := call(one, bad, api); status != http.StatusUnauthorized || next != nonce || !strings.Contains(says, "use_dpop_nonce") {
			t.Errorf("%s nonce: %d %q %q", name, status, next, says)
		}
	}
	clock.Add(int64(time.Minute))
	status, next, _ := call(one, nonce, api)
	if status != http.StatusOK || next == "" || next == nonce {
		t.Errorf("the nonce of the minute before: %d %q", status, next)
	}
	clock.Add(int64(time.Minute))
	if status, _, _ := call(one, nonce, api); status != http.StatusUnauthorized {
		t.Errorf("the nonce of two minutes before: %d", status)
	}
}

func TestReplayMemoryOfOthers(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	compact := is.token(bound(key))
	var fresh bool
	var fails error
	var until time.Time
	g := is.guard(func(c *resource.Config) {
		c.Replay = func(_ context.Context, proof string, end time.Time) (bool, error) {
			until = end
			if strings.Contains(proof, ".") || proof == "" {
				t.Errorf("it gets %q", proof)
			}
			return fresh, fails
		}
	})
	call := func() int {
		return do(g.Require(send)(new(effects)), prove(t, request("POST", "/mail/send", "", ""), key, compact)).Code
	}
	before := time.Now()
	if fresh = true; call() != http.StatusOK {
		t.Error("a fresh proof is refused")
	}
	if d := until.Sub(before); d < time.Minute || until.After(time.Now().Add(2*time.Minute)) {
		t.Errorf("to be remembered for %s", d)
	}
	if fresh = false; call() != http.StatusUnauthorized {
		t.Error("a proof that was seen is taken")
	}
	if fresh, fails = true, errors.New("down"); call() != http.StatusServiceUnavailable {
		t.Error("a memory that is down lets proofs through")
	}
}

// The memory forgets a proof when it could not be used any more, and not earlier.
func TestProofsAreForgottenInTime(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	is.now = func() time.Time { return time.Unix(0, clock.Load()) }
	key := testKey(t)
	handler := is.guard().Require(send)(new(effects))
	compact := is.token(bound(key), func(c *token.Claims) { c.Expires += 3600 })
	fresh := func() *http.Request {
		r := request("POST", "/mail/send", "", "")
		proof, err := token.SignProof(key, token.ProofClaims{Method: "POST", URI: api + "/send", AccessToken: compact}, is.now().Add(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "DPoP "+compact)
		r.Header.Set("DPoP", proof)
		return r
	}
	for range 4 {
		r := fresh()
		if w := do(handler, r); w.Code != http.StatusOK {
			t.Fatal(w.Code, challenge(w))
		}
		for range 14 {
			clock.Add(int64(5 * time.Second))
			if w := do(handler, r.Clone(t.Context())); w.Code != http.StatusUnauthorized {
				t.Fatalf("the proof did again after a while: %d", w.Code)
			}
		}
	}
}

// A flood of proofs fills the memory: then nothing goes through, rather than a proof twice, until the old ones are over.
func TestProofsAreBounded(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	is.now = func() time.Time { return time.Unix(0, clock.Load()) }
	key := testKey(t)
	handler := is.guard(func(c *resource.Config) { c.MaxProofs = 64 }).Require(send)(new(effects))
	compact := is.token(bound(key), func(c *token.Claims) { c.Expires += 3600 })
	call := func() int {
		r := request("POST", "/mail/send", "", "")
		proof, err := token.SignProof(key, token.ProofClaims{Method: "POST", URI: api + "/send", AccessToken: compact}, is.now())
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "DPoP "+compact)
		r.Header.Set("DPoP", proof)
		return do(handler, r).Code
	}
	seen := map[int]int{}
	for range 200 {
		seen[call()]++
	}
	if seen[http.StatusOK] > 64 || seen[http.StatusOK] < 16 || seen[http.StatusOK]+seen[http.StatusServiceUnavailable] != 200 {
		t.Errorf("answers %v", seen)
	}
	clock.Add(int64(3 * time.Minute))
	if status := call(); status != http.StatusOK {
		t.Errorf("when the flood is over: %d", status)
	}
}
