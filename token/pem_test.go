package token_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
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
