package token

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-jose/go-jose/v4"

	"obolus/oauth/strict"
)

// PublicKey is a key that verifies: exactly one algorithm, named by its kid.
type PublicKey struct {
	ID  string
	Alg string
	Key crypto.PublicKey
}

// KeySource finds the key that a header names. An empty kid is for keys of others, where it may be left out as long as there is only
// one key.
type KeySource interface {
	Key(ctx context.Context, kid string) (PublicKey, error)
}

// ErrNoKey: there is no key of that name.
var ErrNoKey = errors.New("no such key")

// SigningKey is one of our own keys.
type SigningKey struct {
	public PublicKey
	signer crypto.Signer
	head   string // encoded header of the access tokens it signs
	jwk    []byte // the public key, for the header of a proof
}

// KeyID is its kid: the SHA-256 thumbprint of RFC 7638.
func (k *SigningKey) KeyID() string { return k.public.ID }

// Public is its public part.
func (k *SigningKey) Public() PublicKey { return k.public }

// GenerateKey makes a key for one of Algorithms.
func GenerateKey(alg string, random io.Reader) (*SigningKey, error) {
	var signer crypto.Signer
	var err error
	switch alg {
	case ES256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), random)
	case EdDSA:
		_, signer, err = generateEd25519(random)
	case PS256, RS256:
		signer, err = rsa.GenerateKey(random, minRSA)
	default:
		return nil, fmt.Errorf("no key for algorithm %q: it is none of %v", alg, Algorithms())
	}
	if err != nil {
		return nil, err
	}
	return newSigningKey(alg, signer)
}

func generateEd25519(random io.Reader) (ed25519.PublicKey, crypto.Signer, error) {
	return ed25519.GenerateKey(random)
}

// NewSigningKey takes a private key that exists, as a resource server has for its assertions. An empty alg means that of the key.
func NewSigningKey(alg string, signer crypto.Signer) (*SigningKey, error) {
	alg, err := algOf(signer.Public(), alg)
	if err != nil {
		return nil, err
	}
	return newSigningKey(alg, signer)
}

func newSigningKey(alg string, signer crypto.Signer) (*SigningKey, error) {
	public := signer.Public()
	id, err := Thumbprint(public)
	k := &SigningKey{public: PublicKey{ID: id, Alg: alg, Key: public}, signer: signer}
	k.head = k.headOf(typeAccess)
	jwk, jwkErr := (&jose.JSONWebKey{Key: public}).MarshalJSON()
	k.jwk = jwk
	return k, errors.Join(err, jwkErr)
}

// Thumbprint is the JWK thumbprint of a public key, base64url: RFC 7638.
func Thumbprint(key crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// sealed is a private key at rest.
type sealed struct {
	Version int    `json:"v"`
	Alg     string `json:"alg"`
	Kid     string `json:"kid"`
	Nonce   []byte `json:"nonce"`
	Box     []byte `json:"box"` // AES-256-GCM of the PKCS #8 form, with kid and alg as additional data
}

// ErrMaster: the master key is not the one that sealed.
var ErrMaster = errors.New("the master key does not open it: it is not the one the key was sealed with")

// Seal encrypts a signing key under a master key.
func Seal(k *SigningKey, master [32]byte, random io.Reader) ([]byte, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, err
	}
	aead := aeadOf(master)
	s := sealed{Version: 1, Alg: k.public.Alg, Kid: k.public.ID, Nonce: make([]byte, aead.NonceSize())}
	if _, err := io.ReadFull(random, s.Nonce); err != nil {
		return nil, err
	}
	s.Box = aead.Seal(nil, s.Nonce, plain, []byte(s.Kid+" "+s.Alg))
	return json.Marshal(s)
}

// Open decrypts a sealed signing key. ErrMaster: with the wrong master key.
func Open(data []byte, master [32]byte) (*SigningKey, error) {
	var s sealed
	if err := strict.Unmarshal(data, &s, strict.Limits{}); err != nil {
		return nil, err
	}
	aead := aeadOf(master)
	if s.Version != 1 || len(s.Nonce) != aead.NonceSize() {
		return nil, errors.New("not a sealed key of this version")
	}
	plain, err := aead.Open(nil, s.Nonce, s.Box, []byte(s.Kid+" "+s.Alg))
	if err != nil {
		return nil, ErrMaster
	}
	return parsePKCS8(plain, s.Alg)
}

func aeadOf(master [32]byte) cipher.AEAD {
	block, _ := aes.NewCipher(master[:]) // fails for keys of another size only
	aead, _ := cipher.NewGCM(block)      // fails for blocks of another size only
	return aead
}

// PublicSet is a set of keys by value.
type PublicSet struct{ keys []PublicKey }

// NewPublicSet makes a set of keys.
func NewPublicSet(keys ...PublicKey) PublicSet { return PublicSet{keys: keys} }

// Key finds a key by its kid; without one, the only key of the set.
func (s PublicSet) Key(_ context.Context, kid string) (PublicKey, error) {
	if kid == "" && len(s.keys) == 1 {
		return s.keys[0], nil
	}
	for _, k := range s.keys {
		if k.ID == kid && kid != "" {
			return k, nil
		}
	}
	return PublicKey{}, ErrNoKey
}

// Keys lists the keys.
func (s PublicSet) Keys() []PublicKey { return append([]PublicKey(nil), s.keys...) }

// JWKS writes the set as RFC 7517 section 5 says: public members, kid, use and alg.
func (s PublicSet) JWKS() ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range s.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Algorithm: k.Alg, Use: "sig"})
	}
	return json.Marshal(set)
}

const (
	maxJWKS  = 256 << 10
	maxKeys  = 32
	maxKeyID = 256
)

// ParseJWKS reads the public keys of somebody else. It refuses private and symmetric keys, kinds and sizes that are not taken,
// more than 32 keys and a kid that stands twice; a key with another use than signatures is passed over. A key without kid gets its
// thumbprint; an RSA key without alg is for PS256.
func ParseJWKS(data []byte) (PublicSet, error) { return jwkRules{}.parseSet(data) }

// jwkRules are how keys are read. The zero value is for keys that are registered here.
type jwkRules struct {
	algs []string // a key that names no alg is for the first of them that fits it; empty: see ParseJWKS
	// foreign passes over keys of kinds that are not taken, as RFC 7517 section 5 says: the set was not made for us.
	foreign bool
	use     string // that a key must have; empty: sig, or none
	unnamed bool   // a kid in the key does not count: it is called by its thumbprint
}

var (
	errUse     = errors.New("the key is not for signatures")
	errPrivate = errors.New("it has a private member")
	errKind    = errors.New("it is not a public key of a kind that is taken")
)

func (r jwkRules) parseSet(data []byte) (PublicSet, error) {
	raws, err := keysIn(data)
	if err != nil {
		return PublicSet{}, err
	}
	set, seen := PublicSet{}, make(map[string]bool)
	for i, raw := range raws {
		k, err := r.parse(raw)
		if errors.Is(err, errUse) || r.foreign && errors.Is(err, errKind) {
			continue
		}
		if err != nil {
			return PublicSet{}, fmt.Errorf("key %d: %w", i, err)
		}
		if seen[k.ID] {
			return PublicSet{}, fmt.Errorf("key %d: kid %q stands twice", i, k.ID)
		}
		seen[k.ID] = true
		set.keys = append(set.keys, k)
	}
	if len(set.keys) == 0 {
		return PublicSet{}, errors.New("the key set holds no key for signatures")
	}
	return set, nil
}

// keysIn are the keys of a set, not decoded yet.
func keysIn(data []byte) ([]json.RawMessage, error) {
	var raws []json.RawMessage
	err := strict.Object(data, strict.Limits{Bytes: maxJWKS, Depth: 6, Members: 64}, func(name string, value []byte) error {
		if name == "keys" {
			return json.Unmarshal(value, &raws)
		}
		return nil
	})
	if err == nil && (len(raws) == 0 || len(raws) > maxKeys) {
		err = fmt.Errorf("a key set holds 1 to %d keys, not %d", maxKeys, len(raws))
	}
	return raws, err
}

func (r jwkRules) parse(raw []byte) (PublicKey, error) {
	if err := r.check(raw); err != nil {
		return PublicKey{}, err
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", errKind, err)
	}
	if !jwk.Valid() || !jwk.IsPublic() || len(jwk.KeyID) > maxKeyID {
		return PublicKey{}, errKind
	}
	alg, err := r.algOf(jwk)
	if err != nil {
		return PublicKey{}, err
	}
	if jwk.KeyID == "" || r.unnamed {
		jwk.KeyID, err = Thumbprint(jwk.Key)
	}
	return PublicKey{ID: jwk.KeyID, Alg: alg, Key: jwk.Key}, err
}

// check refuses what must not be in a key that is registered or sent, before it is decoded.
func (r jwkRules) check(raw []byte) error {
	use := ""
	err := strict.Object(raw, strict.Limits{Bytes: maxToken, Depth: 4, Members: 32}, func(name string, value []byte) error {
		switch name {
		case "d", "p", "q", "dp", "dq", "qi", "oth", "k": // RFC 7518 section 6
			return fmt.Errorf("%w: %s", errPrivate, name)
		case "use":
			return readText(&use, value)
		default:
			return nil
		}
	})
	if err == nil && use != r.use && (r.use != "" || use != "sig") {
		return errUse
	}
	return err
}

func (r jwkRules) algOf(jwk jose.JSONWebKey) (string, error) {
	if jwk.Algorithm == "" {
		for _, alg := range r.algs {
			if fit, err := algOf(jwk.Key, alg); err == nil {
				return fit, nil
			}
		}
	}
	alg, err := algOf(jwk.Key, jwk.Algorithm)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errKind, err)
	}
	return alg, nil
}
