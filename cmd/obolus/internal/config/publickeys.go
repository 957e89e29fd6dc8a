package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
)

// PublicKeys reads public keys from a PEM file, a JWK or a JWKS, and gives them as a JWKS. It refuses private keys.
func PublicKeys(data []byte) (json.RawMessage, error) {
	if strings.HasPrefix(strings.TrimSpace(string(data)), "{") {
		return jsonKeys(data)
	}
	var keys []map[string]string
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		key, err := pemKey(block)
		if err != nil {
			return nil, err
		}
		jwk, err := jwkOf(key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, jwk)
	}
	if len(keys) == 0 {
		return nil, errors.New("holds neither PEM, nor a JWK, nor a JWKS")
	}
	return json.Marshal(map[string]any{"keys": keys})
}

func jsonKeys(data []byte) (json.RawMessage, error) {
	var set struct {
		Keys []map[string]any `json:"keys"`
		Kty  string           `json:"kty"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("is no JSON")
	}
	if set.Keys == nil && set.Kty != "" {
		set.Keys = make([]map[string]any, 1)
		if err := json.Unmarshal(data, &set.Keys[0]); err != nil {
			return nil, errors.New("is no JWK")
		}
	}
	for _, key := range set.Keys {
		if key["d"] != nil || key["k"] != nil {
			return nil, errors.New("holds a private key; give the public one")
		}
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("is neither a JWK nor a JWKS with keys")
	}
	return json.Marshal(map[string]any{"keys": set.Keys})
}

func pemKey(block *pem.Block) (any, error) {
	switch {
	case strings.Contains(block.Type, "PRIVATE"):
		return nil, errors.New("holds a private key; give the public one")
	case block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("holds a certificate that cannot be read")
		}
		return cert.PublicKey, nil
	case block.Type == "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("holds a key that cannot be read")
		}
		return key, nil
	}
}

// jwkOf writes a public key as a JWK (RFC 7517, RFC 7518 section 6, RFC 8037) whose kid is the key's thumbprint (RFC 7638).
func jwkOf(key any) (map[string]string, error) {
	enc := base64.RawURLEncoding.EncodeToString
	var jwk map[string]string
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes() // 0x04, x, y
		if err != nil {
			return nil, errors.New("holds a point that is not on its curve")
		}
		half := (len(point) - 1) / 2
		jwk = map[string]string{"kty": "EC", "crv": k.Curve.Params().Name, "x": enc(point[1 : 1+half]), "y": enc(point[1+half:])}
	case *rsa.PublicKey:
		jwk = map[string]string{"kty": "RSA", "n": enc(k.N.Bytes()), "e": enc(big.NewInt(int64(k.E)).Bytes())}
	case ed25519.PublicKey:
		jwk = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": enc(k)}
	default:
		return nil, errors.New("holds a key that is neither EC, nor RSA, nor Ed25519")
	}
	canonical, err := json.Marshal(jwk) // the required members in the order of their names, as RFC 7638 wants
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(canonical)
	jwk["kid"] = enc(sum[:])
	return jwk, nil
}
