package token

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// ParsePrivateKeyPEM reads a private key as OpenSSL writes it (PKCS #8, "PRIVATE KEY"). An empty alg means that of the key. Other blocks,
// and encrypted keys, are refused.
func ParsePrivateKeyPEM(data []byte, alg string) (*SigningKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("not a PEM block of type PRIVATE KEY")
	}
	if other, _ := pem.Decode(rest); other != nil {
		return nil, errors.New("one PEM block is expected, and there are more")
	}
	return parsePKCS8(block.Bytes, alg)
}

// PEM writes the private key as ParsePrivateKeyPEM reads it.
func (k *SigningKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parsePKCS8(der []byte, alg string) (*SigningKey, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key does not sign")
	}
	return NewSigningKey(alg, signer)
}
