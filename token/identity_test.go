package token_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/token"
)

func TestSPIFFEID(t *testing.T) {
	t.Parallel()
	for s, domain := range map[string]string{
		"spiffe://example.org/mailer": "example.org", "spiffe://a/B/c.d-e_f": "a", "spiffe://10.0.0.1/x": "10.0.0.1", "spiffe://e_x-a.mple/...": "e_x-a.mple",
		"spiffe://example.org/" + strings.Repeat("a", 2027): "example.org",
	} {
		id, err := token.ParseSPIFFEID(s)
		if err != nil || id.TrustDomain != domain || id.String() != s {
			t.Errorf("%.60s: %+v %v", s, id, err)
		}
	}
	for _, s := range []string{
		"", "spiffe://", "spiffe://example.org", "spiffe://example.org/", "spiffe:///mailer", "SPIFFE://example.org/a", "https://example.org/a",
		"spiffe://Example.org/a", "spiffe://example.org:443/a", "spiffe://user@example.org/a", "spiffe://example.org/a?b", "spiffe://example.org/a#b",
		"spiffe://example.org/a//b", "spiffe://example.org/a/", "spiffe://example.org/./a", "spiffe://example.org/../a", "spiffe://example.org/%61",
		"spiffe://example.org/ä", "spiffe://exämple.org/a", "spiffe://" + strings.Repeat("a", 256) + "/a", "spiffe://example.org/" + strings.Repeat("a", 2028),
		"spiffe://example.org/a ", " spiffe://example.org/a", "spiffe://example.org\x00/a", "spiffe:/example.org/a",
	} {
		if id, err := token.ParseSPIFFEID(s); err == nil {
			t.Errorf("%.60q became %v", s, id)
		}
	}
}

func FuzzSPIFFEID(f *testing.F) {
	f.Add("spiffe://example.org/mailer")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := token.ParseSPIFFEID(s)
		if err == nil && (id.String() != s || !token.ValidTrustDomain(id.TrustDomain) || len(id.Path) < 2) {
			t.Errorf("%q became %+v", s, id)
		}
	})
}

// Claims that no workload's token may have, or must have, whichever kind it is.
func TestWorkloadClaims(t *testing.T) {
	t.Parallel()
	now := start.Unix()
	for _, e := range entrances(t, token.ES256) {
		if e.name != "JWT-SVID" && e.name != "token of a workload" {
			continue
		}
		for name, payload := range map[string]object{
			"two audiences":                e.payload.with("aud", []string{issuer, "https://other.test"}),
			"the token endpoint":           e.payload.with("aud", endpoint),
			"a slash behind the audience":  e.payload.with("aud", issuer+"/"),
			"no audience":                  e.payload.without("aud"),
			"an empty audience":            e.payload.with("aud", []string{}),
			"no end":                       e.payload.without("exp"),
			"it has ended":                 e.payload.with("exp", now),
			"it ends in a week":            e.payload.with("exp", now+7*24*3600),
			"issued in the future":         e.payload.with("iat", now+60),
			"not yet":                      e.payload.with("nbf", now+60),
			"somebody acts":                e.payload.with("act", object{"iss": issuer, "sub": "x"}),
			"somebody may act":             e.payload.with("may_act", object{"sub": "x"}),
			"bound to a key":               e.payload.with("cnf", object{"jkt": "k"}),
			"bound in an unknown way":      e.payload.with("cnf", object{"jwk": object{}}),
			"another subject's own claims": e.payload.with("sub", 7),
		} {
			if err := e.check(forge(e.key, token.ES256, e.head.text(), payload.text())); err == nil {
				t.Errorf("%s: %s was accepted", e.name, name)
			}
		}
		if err := e.check(forge(e.key, token.ES256, e.head.text(), e.payload.with("aud", issuer).text())); err != nil {
			t.Errorf("%s: aud as a string: %v", e.name, err)
		}
		for _, head := range []object{e.head.with("jku", "https://evil.test/keys"), e.head.with("x5u", "https://evil.test"), e.head.with("jwk", jwkOf(t, e.key)), e.head.with("typ", "at+jwt"), e.head.with("typ", "wit+jwt")} {
			if err := e.check(forge(e.key, token.ES256, head.text(), e.payload.text())); err == nil {
				t.Errorf("%s: the header %v was accepted", e.name, head)
			}
		}
	}
}

func TestSVID(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	expect := token.SVIDExpect{TrustDomain: "example.org", Audience: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock}
	claims := object{"sub": "spiffe://example.org/mailer", "aud": issuer, "exp": start.Unix() + 300}
	head := object{"alg": token.ES256, "kid": key.KeyID()}
	for _, typ := range []any{nil, "JWT", "JOSE", "jwt"} {
		h := head
		if typ != nil {
			h = head.with("typ", typ)
		}
		got, err := token.VerifySVID(t.Context(), forge(key, token.ES256, h.text(), claims.text()), expect)
		if err != nil || got.ID.String() != "spiffe://example.org/mailer" || got.Claims.Expires != start.Unix()+300 {
			t.Errorf("typ %v: %+v %v", typ, got, err)
		}
	}
	for name, payload := range map[string]string{
		"of another trust domain":       claims.with("sub", "spiffe://evil.org/mailer").text(),
		"of a domain that begins alike": claims.with("sub", "spiffe://example.org.evil/mailer").text(),
		"of the trust domain itself":    claims.with("sub", "spiffe://example.org").text(),
		"of no workload":                claims.with("sub", "mailer").text(),
		"of nobody":                     claims.without("sub").text(),
		"not claims":                    `[]`,
		"the subject twice":             `{"sub":"spiffe://example.org/a","sub":"spiffe://example.org/mailer","aud":"` + issuer + `","exp":1800000300}`,
	} {
		if got, err := token.VerifySVID(t.Context(), forge(key, token.ES256, head.text(), payload), expect); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, err := token.VerifySVID(t.Context(), "x.y", expect); !errors.Is(err, token.ErrMalformed) {
		t.Error(err)
	}
	none := expect
	none.Keys = nil
	if _, err := token.VerifySVID(t.Context(), forge(key, token.ES256, head.text(), claims.text()), none); !errors.Is(err, token.ErrNoKey) {
		t.Errorf("a domain without JWT authorities: %v", err)
	}
	none = expect
	none.Audience = ""
	if _, err := token.VerifySVID(t.Context(), forge(key, token.ES256, head.text(), claims.with("aud", "").text()), none); err == nil {
		t.Error("an audience of nothing")
	}
}

// clusterClaims are those of a Kubernetes service account.
func clusterClaims() object {
	return object{
		"iss": "https://cluster.test", "sub": "system:serviceaccount:mail:mailer", "aud": []string{issuer}, "iat": start.Unix(), "exp": start.Unix() + 3600,
		"kubernetes.io": object{"namespace": "mail", "serviceaccount": object{"name": "mailer", "uid": "u1"}, "warnafter": 7},
		"ref":           "main", "a/b": "slash", "m~n": "tilde", "protected": true, "run": 12, "none": nil, "list": []string{"main"}, "escaped": "a\"b",
	}
}

func TestWorkloadSays(t *testing.T) {
	t.Parallel()
	key := pairs()[token.RS256]
	compact := forge(key, token.RS256, object{"alg": token.RS256, "kid": key.KeyID()}.text(), clusterClaims().text())
	got, err := token.VerifyWorkload(t.Context(), compact, token.WorkloadExpect{
		Issuer: "https://cluster.test", Audience: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"ref", "main", true},
		{"/ref", "main", true},
		{"/kubernetes.io/namespace", "mail", true},
		{"/kubernetes.io/serviceaccount/name", "mailer", true},
		{"/a~1b", "slash", true},
		{"a/b", "slash", true},
		{"/m~0n", "tilde", true},
		{"protected", "true", true},
		{"run", "12", true},
		{"escaped", `a"b`, true},
		{"/kubernetes.io/warnafter", "7", true},
		{"ref", "Main", false},
		{"ref", "mai", false},
		{"ref", "main ", false},
		{"REF", "main", false},
		{"/kubernetes.io/namespace", "mail2", false},
		{"/kubernetes.io/namespace/x", "mail", false},
		{"/kubernetes.io/missing", "mail", false},
		{"kubernetes.io", "mail", false},
		{"kubernetes.io/namespace", "mail", false},
		{"list", "main", false},
		{"none", "null", false},
		{"none", "", false},
		{"missing", "", false},
		{"run", "12.0", false},
	} {
		if got.Says(c.name, c.value) != c.want {
			t.Errorf("%s = %q: %v", c.name, c.value, !c.want)
		}
	}
}

// What is registered is true of the token that was made by it, and of no other.
func TestWorkloadSaysExactly(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	keys := token.NewPublicSet(key.Public())
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z~/"\\.]{0,6}`)
		name, value, other := rapid.StringMatching(`[g-hq-z~./]{1,6}`).Draw(t, "name"), text.Draw(t, "value"), text.Draw(t, "other")
		claims := clusterClaims().with("nested", object{name: value})
		compact := forge(key, token.ES256, object{"alg": token.ES256, "kid": key.KeyID()}.text(), claims.text())
		got, err := token.VerifyWorkload(t.Context(), compact, token.WorkloadExpect{Issuer: "https://cluster.test", Audience: issuer, Keys: keys, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		path := "/nested/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		if !got.Says(path, value) || got.Says(path, other) != (other == value) {
			t.Fatalf("%s = %q, not %q", path, value, other)
		}
	})
}

func authority(t *testing.T, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: start, NotAfter: start.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func bundle(keys ...object) string {
	return object{"spiffe_sequence": 1, "spiffe_refresh_hint": 300, "keys": keys}.text()
}

func svidKey(t *testing.T, alg string) object {
	t.Helper()
	return jwkOf(t, pairs()[alg]).with("use", "jwt-svid").with("kid", "k-"+alg)
}

func certificateKey(c *x509.Certificate) object {
	return object{"kty": "EC", "use": "x509-svid", "x5c": []string{base64.StdEncoding.EncodeToString(c.Raw)}}
}

func TestBundle(t *testing.T) {
	t.Parallel()
	ca := authority(t, nil)
	got, err := token.ParseBundle([]byte(bundle(
		svidKey(t, token.ES256), svidKey(t, token.RS256), certificateKey(ca), svidKey(t, token.ES256).with("use", "wit-svid").with("kid", "later"),
		object{"kty": "EC", "crv": "P-384", "use": "jwt-svid", "kid": "big", "x": "AA", "y": "AA"},
	)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Keys.Keys()) != 2 || len(got.Authorities) != 1 || !got.Authorities[0].Equal(ca) {
		t.Errorf("%d keys, %d authorities", len(got.Keys.Keys()), len(got.Authorities))
	}
	if k, err := got.Keys.Key(t.Context(), "k-RS256"); err != nil || k.Alg != token.RS256 {
		t.Errorf("%+v %v", k, err)
	}
	for name, text := range map[string]string{
		"not JSON":                 `{`,
		"no keys":                  `{}`,
		"keys of another kind":     `{"keys":7}`,
		"only keys of other times": bundle(svidKey(t, token.ES256).with("use", "sig")),
		"a private key":            bundle(svidKey(t, token.ES256).with("d", "AA")),
		"one kid twice":            bundle(svidKey(t, token.ES256), svidKey(t, token.ES256)),
		"too many":                 bundle(make([]object, 33)...),
		"a key that is none":       `{"keys":[7]}`,
		"use is a number":          bundle(svidKey(t, token.ES256).with("use", 7)),
		"an authority of nothing":  bundle(object{"use": "x509-svid"}),
		"a chain":                  bundle(certificateKey(ca).with("x5c", []string{"AA", "AA"})),
		"a chain of numbers":       bundle(certificateKey(ca).with("x5c", []int{1})),
		"not base64":               bundle(certificateKey(ca).with("x5c", []string{"!"})),
		"not a certificate":        bundle(certificateKey(ca).with("x5c", []string{"AAAA"})),
		"a certificate of a leaf":  bundle(certificateKey(authority(t, func(c *x509.Certificate) { c.IsCA = false }))),
	} {
		if b, err := token.ParseBundle([]byte(text)); err == nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","use":"jwt-svid","crv":"P-256","kid":"a","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := token.ParseBundle(data)
		if err == nil && len(b.Keys.Keys())+len(b.Authorities) == 0 {
			t.Error("an empty bundle was accepted")
		}
	})
}

func TestRemoteBundle(t *testing.T) {
	t.Parallel()
	ca, next := authority(t, nil), authority(t, nil)
	h := newHost(t, publish(bundle(svidKey(t, token.ES256), certificateKey(ca))))
	c := &ticking{now: start}
	keys := token.NewRemoteKeys(token.RemoteConfig{URI: h.URL, Client: h.Client(), Now: c.Now, Bundle: true})
	have := func(want *x509.Certificate) {
		t.Helper()
		got, err := keys.Authorities(t.Context())
		if err != nil || len(got) != 1 || !got[0].Equal(want) {
			t.Errorf("%v %v", got, err)
		}
	}
	have(ca)
	have(ca)
	if _, err := keys.Key(t.Context(), "k-ES256"); err != nil || h.hits.Load() != 1 {
		t.Errorf("%v after %d hits", err, h.hits.Load())
	}
	h.will(publish(bundle(certificateKey(next))))
	c.pass(6 * time.Minute)
	have(next)
	h.will(publish(`{"keys":[]}`))
	c.pass(6 * time.Minute)
	have(next) // stale, while the host fails
	c.pass(2 * time.Hour)
	for range 5 {
		if _, err := keys.Authorities(t.Context()); !errors.Is(err, token.ErrUnreachable) {
			t.Errorf("after two hours: %v", err)
		}
	}
	if n := h.hits.Load(); n > 6 {
		t.Errorf("a failing host was asked %d times", n)
	}
	h.will(publish(bundle(certificateKey(ca))))
	c.pass(time.Minute)
	have(ca)

	slow := newHost(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := token.NewRemoteKeys(token.RemoteConfig{URI: slow.URL, Client: slow.Client(), Now: clock, Bundle: true}).Authorities(ctx); !errors.Is(err, token.ErrUnreachable) {
		t.Error(err)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := authority(t, nil)
	sum := sha256.Sum256(c.Raw)
	if got := token.CertificateThumbprint(c); got != b64.EncodeToString(sum[:]) {
		t.Error(got)
	}
	set := token.NewPublicSet(pairs()["other"].Public(), token.PublicKey{ID: "c", Alg: token.ES256, Key: c.PublicKey})
	if !set.HasKey(c.PublicKey) || set.HasKey(pairs()[token.ES256].Public().Key) || set.HasKey(pairs()[token.RS256].Public().Key) {
		t.Error("the set does not know its keys")
	}
}
