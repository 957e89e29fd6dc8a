package token

import (
	"crypto/sha256"
	"encoding/base64"
)

// Hash names a token or another secret without showing it: base64url of its SHA-256, without padding.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
