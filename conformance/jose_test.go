package conformance_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"time"
)

// obj is a JSON object.
type obj = map[string]any

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// nonce has 128 bits.
func nonce() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	return b64(raw)
}

// key is a key pair of a client, an agent, a proof or a foreign issuer.
type key struct {
	alg, kid string
	signer   crypto.Signer
	jwk      obj // public
}

// newKey makes a key for an algorithm of RFC 7518 or RFC 8037.
func newKey(alg string) *key {
	k := &key{alg: alg}
	var err error
	switch alg {
	case "ES256":
		k.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k.signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RS256", "PS256":
		k.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		_, k.signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = errors.New("no key for " + alg)
	}
	if err != nil {
		panic(err)
	}
	k.jwk = publicJWK(k.signer.Public())
	k.kid = k.thumbprint()
	return k
}

func publicJWK(public crypto.PublicKey) obj {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			panic(err)
		}
		half := (len(point) - 1) / 2
		return obj{"kty": "EC", "crv": p.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	case *rsa.PublicKey:
		return obj{"kty": "RSA", "n": b64(p.N.Bytes()), "e": b64(big.NewInt(int64(p.E)).Bytes())}
	case ed25519.PublicKey:
		return obj{"kty": "OKP", "crv": "Ed25519", "x": b64(p)}
	default:
		panic(fmt.Sprintf("%T", public))
	}
}

// thumbprint is RFC 7638: the required members in the order of their names, which encoding/json writes.
func (k *key) thumbprint() string {
	sum := sha256.Sum256(mustJSON(k.jwk))
	return b64(sum[:])
}

// public is the JWK as it is registered.
func (k *key) public() obj {
	jwk := obj{"kid": k.kid, "alg": k.alg, "use": "sig"}
	maps.Copy(jwk, k.jwk)
	return jwk
}

func jwksOf(keys ...*key) obj {
	set := []obj{}
	for _, k := range keys {
		set = append(set, k.public())
	}
	return obj{"keys": set}
}

func mustJSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(buf.Bytes())
}

// raw signs bytes as RFC 7515 wants it for an algorithm.
func (k *key) raw(alg string, signed []byte) []byte {
	sum := sha256.Sum256(signed)
	switch s := k.signer.(type) {
	case *ecdsa.PrivateKey:
		size := (s.Params().BitSize + 7) / 8
		r, v, err := ecdsa.Sign(rand.Reader, s, sum[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		var sig []byte
		var err error
		if alg == "PS256" {
			sig, err = rsa.SignPSS(rand.Reader, s, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, s, crypto.SHA256, sum[:])
		}
		if err != nil {
			panic(err)
		}
		return sig
	case ed25519.PrivateKey:
		return ed25519.Sign(s, signed)
	default:
		panic(fmt.Sprintf("%T", s))
	}
}

// sign makes a compact JWS. The header gets alg and kid unless it has them; a nil value takes one out.
func (k *key) sign(header obj, claims any) string {
	h := obj{"alg": k.alg, "kid": k.kid}
	for name, v := range header {
		h[name] = v
		if v == nil {
			delete(h, name)
		}
	}
	alg, _ := h["alg"].(string)
	return k.signRaw(alg, mustJSON(h), mustJSON(claims))
}

// signRaw signs a header and a payload as they are.
func (k *key) signRaw(alg string, header, payload []byte) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(k.raw(alg, []byte(signed)))
}

// hmacSign makes an HS256 JWS.
func hmacSign(secret []byte, header, claims obj) string {
	signed := b64(mustJSON(header)) + "." + b64(mustJSON(claims))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

// jwt is a token taken apart.
type jwt struct {
	raw    string
	header obj
	claims obj
	body   []byte
}

func parseJWT(compact string) (jwt, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return jwt{}, fmt.Errorf("a token of %d parts", len(parts))
	}
	j := jwt{raw: compact}
	head, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil {
		return j, err
	}
	if j.body, err = base64.RawURLEncoding.Strict().DecodeString(parts[1]); err != nil {
		return j, err
	}
	if err := json.Unmarshal(head, &j.header); err != nil {
		return j, err
	}
	dec := json.NewDecoder(bytes.NewReader(j.body))
	dec.UseNumber()
	return j, dec.Decode(&j.claims)
}

func (j jwt) str(name string) string {
	s, _ := j.claims[name].(string)
	return s
}

func (j jwt) num(name string) int64 {
	n, ok := j.claims[name].(json.Number)
	if !ok {
		return 0
	}
	v, err := n.Int64()
	if err != nil {
		return 0
	}
	return v
}

// verify checks the signature against a JWK of the server.
func (j jwt) verify(jwk obj) error {
	parts := strings.Split(j.raw, ".")
	signed := []byte(parts[0] + "." + parts[1])
	sig, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return err
	}
	member := func(name string) []byte {
		s, _ := jwk[name].(string)
		data, _ := base64.RawURLEncoding.DecodeString(s)
		return data
	}
	sum := sha256.Sum256(signed)
	alg, _ := j.header["alg"].(string)
	if jwk["alg"] != alg {
		return fmt.Errorf("the key is for %v, the token says %s", jwk["alg"], alg)
	}
	var ok bool
	switch alg {
	case "ES256":
		point := append(append([]byte{4}, member("x")...), member("y")...)
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil || len(sig) != 64 {
			return fmt.Errorf("bad key or signature: %w", err)
		}
		ok = ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	case "EdDSA":
		ok = ed25519.Verify(ed25519.PublicKey(member("x")), signed, sig)
	case "RS256", "PS256":
		pub := &rsa.PublicKey{N: new(big.Int).SetBytes(member("n")), E: int(new(big.Int).SetBytes(member("e")).Int64())}
		if alg == "RS256" {
			return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig)
		}
		return rsa.VerifyPSS(pub, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		return errors.New("unexpected alg " + alg)
	}
	if !ok {
		return errors.New("the signature does not verify")
	}
	return nil
}

// merge lays changes over claims; a nil value takes one out.
func merge(base obj, changes ...obj) obj {
	out := obj{}
	maps.Copy(out, base)
	for _, c := range changes {
		for name, v := range c {
			out[name] = v
			if v == nil {
				delete(out, name)
			}
		}
	}
	return out
}

// in is a NumericDate so many seconds from now.
func in(seconds int64) int64 { return time.Now().Unix() + seconds }

// s256 is the PKCE challenge of a verifier, RFC 7636 section 4.2.
func s256(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return b64(sum[:])
}
