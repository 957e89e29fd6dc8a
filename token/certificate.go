package token

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
)

// CertificateThumbprint is the SHA-256 thumbprint of a certificate, base64url, as cnf has it: RFC 8705 section 3.1.
func CertificateThumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64url.EncodeToString(sum[:])
}

// HasKey says whether a public key, such as that of a certificate, is one of the set, whatever its kid.
func (s PublicSet) HasKey(key crypto.PublicKey) bool {
	for _, k := range s.keys {
		if sameKey(k.Key, key) {
			return true
		}
	}
	return false
}
