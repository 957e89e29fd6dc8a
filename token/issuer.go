package token

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"obolus/oauth/strict"
)

const typeAccess = "at+jwt" // RFC 9068 section 2.1

// Issuer signs the tokens of one issuer. It remembers a bounded number of the access tokens that it has signed, by their hash and the
// key, for a Verifier in the same process.
type Issuer struct {
	iss  string
	made recent[*SigningKey]
}

const madeLimit = 8192

// NewIssuer makes the Issuer of an issuer identifier.
func NewIssuer(iss string) *Issuer {
	return &Issuer{iss: iss, made: recent[*SigningKey]{size: madeLimit}}
}

// Sign makes an access token of complete claims: RFC 9068. It refuses those that no Verifier would accept.
func (i *Issuer) Sign(c Claims, key *SigningKey) (string, error) {
	if c.Issuer != i.iss {
		return "", fmt.Errorf("the claims are of issuer %q, not of %q", c.Issuer, i.iss)
	}
	if err := c.complete(); err != nil {
		return "", err
	}
	payload := c.payload()
	if c.foreign() {
		if err := strict.Check(payload, payloadLimits()); err != nil {
			return "", fmt.Errorf("sign claims: %w", err)
		}
	}
	compact, err := key.sign(key.head, payload)
	if err == nil {
		i.made.put(sha256.Sum256([]byte(compact)), key)
	}
	return compact, err
}

// signed gives the key by which the token of a hash was made lately. A nil Issuer has made none.
func (i *Issuer) signed(sum [sha256.Size]byte) (PublicKey, bool) {
	if i == nil {
		return PublicKey{}, false
	}
	key, ok := i.made.get(sum)
	if !ok {
		return PublicKey{}, false
	}
	return key.public, true
}

// complete holds claims to RFC 9068 section 2.2.
func (c Claims) complete() error {
	aud := len(c.Audience)
	if c.Issuer == "" || c.Subject == "" || c.ClientID == "" || c.ID == "" || aud == 0 || aud > maxAudiences || c.IssuedAt <= 0 || c.Expires <= c.IssuedAt {
		return errors.New("an access token has iss, sub, aud, client_id, jti, iat and a later exp")
	}
	return nil
}

// SignAs signs a payload of another type: a receipt, an introspection answer. The payload must be an object, and is not
// looked at.
func (i *Issuer) SignAs(typ string, payload []byte, key *SigningKey) (string, error) {
	if typ == "" || typ == typeAccess {
		return "", fmt.Errorf("typ %q is not for SignAs", typ)
	}
	if len(payload) < 2 || payload[0] != '{' || !json.Valid(payload) {
		return "", errors.New("the payload is not an object")
	}
	return key.sign(key.headOf(typ), payload)
}

// headOf is the encoded header of a token by this key.
func (k *SigningKey) headOf(typ string) string {
	out := quoted([]byte(`{"alg":`), k.public.Alg)
	out = quoted(append(out, `,"kid":`...), k.public.ID)
	out = quoted(append(out, `,"typ":`...), typ)
	return base64url.EncodeToString(append(out, '}'))
}

// sign makes a compact JWS of an encoded header and a payload.
func (k *SigningKey) sign(head string, payload []byte) (string, error) {
	size := len(head) + 1 + base64url.EncodedLen(len(payload)) + 1
	out := make([]byte, 0, size+88)
	out = append(append(out, head...), '.')
	out = base64url.AppendEncode(out, payload)
	signature, err := k.signature(out)
	if err != nil {
		return "", err
	}
	out = base64url.AppendEncode(append(out, '.'), signature)
	if len(out) > maxToken {
		return "", fmt.Errorf("the token would be larger than %d bytes", maxToken)
	}
	return string(out), nil
}

// signature signs as RFC 7518 section 3 and RFC 8037 section 3.1 say.
func (k *SigningKey) signature(data []byte) ([]byte, error) {
	if k.public.Alg == EdDSA {
		return k.signer.Sign(rand.Reader, data, crypto.Hash(0))
	}
	sum := sha256.Sum256(data)
	var opts crypto.SignerOpts = crypto.SHA256
	if k.public.Alg == PS256 {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := k.signer.Sign(rand.Reader, sum[:], opts)
	if err != nil || k.public.Alg != ES256 {
		return signature, err
	}
	return rawECDSA(signature)
}

// rawECDSA turns what a signer gives into two numbers of fixed length, RFC 7518 section 3.4.
func rawECDSA(der []byte) ([]byte, error) {
	var s struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &s); err != nil || len(rest) != 0 || !fits(s.R) || !fits(s.S) {
		return nil, errors.New("the signer gave no ECDSA signature")
	}
	out := make([]byte, 64)
	s.R.FillBytes(out[:32])
	s.S.FillBytes(out[32:])
	return out, nil
}

func fits(n *big.Int) bool { return n.Sign() > 0 && n.BitLen() <= 256 }
