package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// The signature algorithms, RFC 7518 section 3.1 and RFC 8037. One key has exactly one.
const (
	ES256 = "ES256"
	EdDSA = "EdDSA" // Ed25519
	PS256 = "PS256"
	RS256 = "RS256"
)

// Algorithms are those that our own tokens can be signed with.
func Algorithms() []string { return []string{ES256, EdDSA, PS256, RS256} }

// ProofAlgorithms are those of a DPoP proof and of an agent's assertion.
func ProofAlgorithms() []string { return []string{ES256, EdDSA, PS256, RS256} }

var errAlg = errors.New("the algorithm is not that of the key")

// ErrSignature: what was signed is not what the key signed.
var ErrSignature = errors.New("the signature does not verify")

const minRSA = 2048 // bits

// algOf is the algorithm of a key that does not name one: ES256, EdDSA, or PS256 for RSA. It refuses keys that are too weak or
// of another kind.
func algOf(key crypto.PublicKey, named string) (string, error) {
	var fits []string
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			fits = []string{ES256}
		}
	case ed25519.PublicKey:
		fits = []string{EdDSA, "Ed25519"}
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSA && k.N.BitLen() <= 8192 {
			fits = []string{PS256, RS256}
		}
	}
	switch {
	case len(fits) == 0:
		return "", fmt.Errorf("a key of kind %T is not taken: ES256, Ed25519, or RSA of 2048 bits and more", key)
	case named == "" || named == "Ed25519":
		return fits[0], nil
	case slices.Contains(fits, named):
		return named, nil
	default:
		return "", errAlg
	}
}

// verify checks a JWS signature over what was signed: RFC 7518 section 3, fixed-length values for ECDSA.
func verify(key crypto.PublicKey, alg string, signed, signature []byte) error {
	sum := sha256.Sum256(signed)
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if alg == ES256 && len(signature) == 64 {
			ok = ecdsa.VerifyASN1(k, sum[:], derOf(signature))
		}
	case ed25519.PublicKey:
		ok = alg == EdDSA && len(signature) == ed25519.SignatureSize && ed25519.Verify(k, signed, signature)
	case *rsa.PublicKey:
		switch alg {
		case PS256:
			ok = rsa.VerifyPSS(k, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		case RS256:
			ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil
		}
	}
	if !ok {
		return ErrSignature
	}
	return nil
}

// same says whether two keys are one, for one algorithm.
func (k PublicKey) same(other PublicKey) bool {
	return k.Alg == other.Alg && sameKey(k.Key, other.Key)
}

// sameKey says whether two public keys are one.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
