package token_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// privateOf opens a PEM key by the standard library alone.
func privateOf(data []byte) crypto.Signer {
	block, _ := pem.Decode(data)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic(err)
	}
	return k.(crypto.Signer)
}

// privateJWK is the private key as a JWK, which nobody should send.
func privateJWK(t testing.TB, p pair) []byte {
	t.Helper()
	out, err := (&jose.JSONWebKey{Key: p.private}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
