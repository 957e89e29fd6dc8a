package token_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"obolus/token"
)

func TestKeySetsAreRead(t *testing.T) {
	t.Parallel()
	ec, ed, rs := jwkOf(t, pairs()[token.ES256]), jwkOf(t, pairs()[token.EdDSA]), jwkOf(t, pairs()[token.RS256])
	var private object
	if err := json.Unmarshal(privateJWK(t, pairs()[token.ES256]), &private); err != nil {
		t.Fatal(err)
	}
	p384 := foreignJWK(t, must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)).Public())
	weak := object{"kty": "RSA", "e": "AQAB", "n": b64.EncodeToString(append([]byte{0x80}, make([]byte, 127)...))}
	huge := object{"kty": "RSA", "e": "AQAB", "n": b64.EncodeToString(append([]byte{0x80}, make([]byte, 1200)...))}
	many := make([]object, 33)
	for i := range many {
		many[i] = ec.with("kid", fmt.Sprint(i))
	}
	for _, c := range []struct {
		name string
		keys any
		want []string // algorithms
	}{
		{"one", []object{ec}, []string{"ES256"}},
		{"three", []object{ec.with("alg", "ES256"), ed, rs}, []string{"ES256", "EdDSA", "PS256"}},
		{"RSA that names its algorithm", []object{rs.with("alg", "RS256")}, []string{"RS256"}},
		{"the full name of EdDSA", []object{ed.with("alg", "Ed25519")}, []string{"EdDSA"}},
		{"a key for encryption beside", []object{ec, rs.with("use", "enc").with("kid", "x")}, []string{"ES256"}},
		{"only a key for encryption", []object{ec.with("use", "enc")}, nil},
		{"use a number", []object{ec.with("use", 1)}, nil},
		{"32 keys", many[:32], slices.Repeat([]string{"ES256"}, 32)},
		{"33 keys", many, nil},
		{"none", []object{}, nil},
		{"an object", object{}, nil},
		{"null", nil, nil},
		{"a key null", []any{nil}, nil},
		{"a private key", []object{private}, nil},
		{"a private key beside", []object{ed, private}, nil},
		{"a symmetric key", []object{{"kty": "oct", "k": "AAAA"}}, nil},
		{"kid twice", []object{ec.with("kid", "a"), ed.with("kid", "a")}, nil},
		{"a key twice", []object{ec, ec}, nil},
		{"kid too long", []object{ec.with("kid", strings.Repeat("k", 257))}, nil},
		{"another curve", []object{p384}, nil},
		{"off the curve", []object{ec.with("x", ec["y"])}, nil},
		{"RSA of 1024 bits", []object{weak}, nil},
		{"RSA of 9600 bits", []object{huge}, nil},
		{"algorithm of another kind", []object{ec.with("alg", "RS256")}, nil},
		{"algorithm none", []object{ec.with("alg", "none")}, nil},
		{"a kind that nobody knows", []object{{"kty": "XY"}}, nil},
		{"x of another length", []object{ec.with("x", "AAAA")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set, err := token.ParseJWKS([]byte(object{"keys": c.keys, "more": 1}.text()))
			if (err == nil) != (c.want != nil) {
				t.Fatal(err)
			}
			var got []string
			for _, k := range set.Keys() {
				got = append(got, k.Alg)
				if k.ID == "" {
					t.Error("a key without kid")
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v", got)
			}
		})
	}
	for name, text := range map[string]string{
		"no JSON": `{`, "a list": `[]`, "keys twice": `{"keys":[` + ec.text() + `],"keys":[` + ed.text() + `]}`,
		"a member of a key twice": `{"keys":[` + strings.Replace(ec.text(), "{", `{"kty":"RSA",`, 1) + `]}`,
		"too large":               `{"keys":[` + ec.text() + `],"x":"` + strings.Repeat("x", 256<<10) + `"}`,
		"names in other case":     `{"KEYS":[` + ec.text() + `]}`,
	} {
		if _, err := token.ParseJWKS([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func foreignJWK(t testing.TB, key crypto.PublicKey) object {
	t.Helper()
	text, err := (&jose.JSONWebKey{Key: key}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestKeySetsAreWritten(t *testing.T) {
	t.Parallel()
	var all []token.PublicKey
	for _, alg := range token.Algorithms() {
		all = append(all, pairs()[alg].Public())
	}
	set := token.NewPublicSet(all...)
	text, err := set.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Keys []object }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for i, k := range doc.Keys {
		if k["use"] != "sig" || k["alg"] != all[i].Alg || k["kid"] != all[i].ID || k["d"] != nil {
			t.Errorf("written as %v", k)
		}
	}
	back, err := token.ParseJWKS(text)
	if err != nil || len(back.Keys()) != len(all) {
		t.Fatal(back, err)
	}
	for _, k := range all {
		got, err := back.Key(t.Context(), k.ID)
		if err != nil || got.Alg != k.Alg {
			t.Errorf("%s: %+v, %v", k.Alg, got, err)
		}
	}
	if empty, err := token.NewPublicSet().JWKS(); err != nil || string(empty) != `{"keys":[]}` {
		t.Errorf("%s, %v", empty, err)
	}
}

func TestKeysAreFoundByName(t *testing.T) {
	t.Parallel()
	a, b := pairs()[token.ES256].Public(), pairs()[token.EdDSA].Public()
	one, two := token.NewPublicSet(a), token.NewPublicSet(a, b)
	unnamed := token.NewPublicSet(token.PublicKey{Alg: a.Alg, Key: a.Key}, b)
	for _, c := range []struct {
		name string
		set  token.PublicSet
		kid  string
		good bool
	}{
		{"by name", two, b.ID, true},
		{"the only one without a name", one, "", true},
		{"one of two without a name", two, "", false},
		{"an unnamed one without a name", unnamed, "", false},
		{"an unknown name", one, "x", false},
		{"in no set", token.PublicSet{}, "", false},
	} {
		if _, err := c.set.Key(t.Context(), c.kid); (err == nil) != c.good || !c.good && !errors.Is(err, token.ErrNoKey) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	keys := two.Keys()
	keys[0] = b
	if two.Keys()[0].ID != a.ID {
		t.Error("the list is the set's own")
	}
}

func TestThumbprint(t *testing.T) {
	t.Parallel()
	// The example of RFC 7638 section 3.1.
	const rfc = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst` +
		`n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4` +
		`vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256"}`
	set, err := token.ParseJWKS([]byte(`{"keys":[` + rfc + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if k := set.Keys()[0]; k.ID != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" || k.Alg != token.RS256 {
		t.Errorf("%+v", k)
	}
	if _, err := token.Thumbprint("no key"); err == nil {
		t.Error("the thumbprint of a string")
	}
}

func TestSealedKeys(t *testing.T) {
	t.Parallel()
	master, other := [32]byte{1}, [32]byte{2}
	for _, alg := range token.Algorithms() {
		key := pairs()[alg].SigningKey
		box, err := token.Seal(key, master, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := token.Open(box, master)
		if err != nil || got.KeyID() != key.KeyID() || got.Public().Alg != alg {
			t.Fatalf("%s: %+v, %v", alg, got, err)
		}
		if _, err := token.Open(box, other); !errors.Is(err, token.ErrMaster) {
			t.Errorf("%s: with another master key: %v", alg, err)
		}
	}
	box, err := token.Seal(pairs()[token.PS256].SigningKey, master, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(box, &o); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no JSON":           `{`,
		"another version":   o.with("v", 2).text(),
		"another nonce":     o.with("nonce", "AAAAAAAAAAAAAAAA").text(),
		"a short nonce":     o.with("nonce", "AAAA").text(),
		"another algorithm": o.with("alg", token.RS256).text(),
		"another name":      o.with("kid", "x").text(),
		"another box":       o.with("box", "AAAA").text(),
	} {
		if _, err := token.Open([]byte(text), master); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := token.Seal(pairs()[token.ES256].SigningKey, master, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without randomness: %v", err)
	}
}

func TestPEM(t *testing.T) {
	t.Parallel()
	for _, alg := range token.Algorithms() {
		key := pairs()[alg].SigningKey
		text, err := key.PEM()
		if err != nil {
			t.Fatal(err)
		}
		got, err := token.ParsePrivateKeyPEM(text, alg)
		if err != nil || got.KeyID() != key.KeyID() || got.Public().Alg != alg {
			t.Errorf("%s: %+v, %v", alg, got, err)
		}
	}
	ec, err := pairs()[token.ES256].PEM()
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
	}
	for name, c := range map[string]struct {
		text []byte
		alg  string
	}{
		"nothing":                    {nil, ""},
		"a public key":               {publicPEM(pairs()[token.ES256]), ""},
		"two keys":                   {append(ec, ec...), ""},
		"broken":                     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), ""},
		"another algorithm":          {ec, token.RS256},
		"a key that does not sign":   {pkcs8(must(ecdh.X25519().GenerateKey(rand.Reader))), ""},
		"a curve that is not taken":  {pkcs8(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))), ""},
		"an algorithm nobody knows":  {ec, "none"},
		"a PEM block of another age": {[]byte(strings.ReplaceAll(string(ec), "PRIVATE", "EC PRIVATE")), ""},
	} {
		if _, err := token.ParsePrivateKeyPEM(c.text, c.alg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	if _, err := token.GenerateKey("HS256", rand.Reader); err == nil {
		t.Error("made a key for HS256")
	}
	if _, err := token.GenerateKey(token.EdDSA, strings.NewReader("short")); err == nil {
		t.Error("made a key without randomness")
	}
}

// strange is a signer that gives what it was told to.
type strange struct {
	public crypto.PublicKey
	answer []byte
	err    error
}

func (s strange) Public() crypto.PublicKey { return s.public }

func (s strange) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return s.answer, s.err }

func TestSignersThatMisbehave(t *testing.T) {
	t.Parallel()
	public := pairs()[token.ES256].Public().Key
	good := must(pairs()[token.ES256].private.Sign(rand.Reader, make([]byte, 32), crypto.SHA256))
	big257 := new(big.Int).Lsh(big.NewInt(1), 256).Bytes()
	for name, s := range map[string]strange{
		"an error":      {public, nil, errors.New("the HSM is asleep")},
		"nothing":       {public, nil, nil},
		"not DER":       {public, bytes.Repeat([]byte{1}, 64), nil},
		"more than DER": {public, append(good, 0), nil},
		"r = 0":         {public, []byte{0x30, 6, 2, 1, 0, 2, 1, 1}, nil},
		"s = 0":         {public, []byte{0x30, 6, 2, 1, 1, 2, 1, 0}, nil},
		"r negative":    {public, []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1}, nil},
		"s of 33 bytes": {public, append([]byte{0x30, byte(5 + len(big257)), 2, 1, 1, 2, byte(len(big257))}, big257...), nil},
	} {
		key, err := token.NewSigningKey("", s)
		if err != nil {
			t.Fatal(name, err)
		}
		if compact, err := token.NewIssuer(issuer).Sign(sampleClaims(), key); err == nil {
			t.Errorf("%s: signed %s", name, compact)
		}
		if _, err := token.Seal(key, [32]byte{}, rand.Reader); err == nil {
			t.Errorf("%s: sealed", name)
		}
		if _, err := key.PEM(); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	for name, public := range map[string]crypto.PublicKey{
		"a string":        "key",
		"another curve":   must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)).Public(),
		"a short RSA key": &rsa.PublicKey{N: big.NewInt(35), E: 5},
	} {
		if _, err := token.NewSigningKey("", strange{public: public}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := token.NewSigningKey("", pairs()[token.EdDSA].private.(ed25519.PrivateKey)); err != nil {
		t.Error(err)
	}
}
