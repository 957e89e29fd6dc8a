// Package token makes and reads the JSON Web Tokens of Obolus: claims, the act chain, the Issuer that signs, the
// Verifier that checks, keys and JWKS. It is the only package that knows go-jose. It decides nothing: whether a
// verified token is still good is for package transaction, whether it suffices for package exchange.
package token

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
)

// Claims are the claims of a JWT access token: RFC 9068 section 2.2, RFC 8693 section 4, RFC 9396 section 9.1, RFC 9449
// section 6, and ours. Times are seconds since 1970. They are plain data; [Verified] says that they were checked.
type Claims struct {
	Issuer    string          `json:"iss"`
	Audience  Audience        `json:"aud"`
	Subject   string          `json:"sub"`
	ClientID  string          `json:"client_id,omitempty"`
	IssuedAt  int64           `json:"iat"`
	NotBefore int64           `json:"nbf,omitempty"`
	Expires   int64           `json:"exp"`
	ID        string          `json:"jti,omitempty"`
	Txn       string          `json:"txn,omitempty"`
	TxnMode   string          `json:"txn_mode,omitempty"` // oauth.ModeRedeem or absent
	Scope     string          `json:"scope,omitempty"`
	Act       *Actor          `json:"act,omitempty"`
	MayAct    *Actor          `json:"may_act,omitempty"`
	Confirm   *Confirmation   `json:"cnf,omitempty"`
	Details   json.RawMessage `json:"authorization_details,omitempty"`
	AuthTime  int64           `json:"auth_time,omitempty"`
	ACR       string          `json:"acr,omitempty"`
	AMR       []string        `json:"amr,omitempty"`
	Party     string          `json:"azp,omitempty"` // of an ID token of somebody else: the client it was issued to
	Context   *Context        `json:"tctx,omitempty"`
	Event     bool            `json:"-"` // it has events: a security event or a logout token, which is good for nothing else
}

// Scopes splits the scope claim at its spaces.
func (c Claims) Scopes() []string { return strings.Fields(c.Scope) }

// Context is the transaction context (claim tctx) that the server itself asserts: opaque references, by which a
// redemption finds in one read everything that could have stopped the token.
type Context struct {
	Consent string `json:"consent,omitempty"` // the grant's id
	Source  string `json:"source,omitempty"`  // jti of the user's token that it was derived from
	Origin  string `json:"origin,omitempty"`  // client to which the user's token was issued
	Issuer  string `json:"issuer,omitempty"`  // who issued the user's token, if that was not this server
}

// Confirmation binds a token to a key: the SHA-256 thumbprint of a JWK (RFC 9449 section 6.1) or of a certificate
// (RFC 8705 section 3.1).
type Confirmation struct {
	JKT string `json:"jkt,omitempty"`
	X5T string `json:"x5t#S256,omitempty"`
}

// Audience is the aud claim: written as a string when it has one member, read as a string or an array.
type Audience []string

// MarshalJSON writes a single audience as a string.
func (a Audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal(append([]string{}, a...))
}

// UnmarshalJSON reads a string or an array of at most 8 strings.
func (a *Audience) UnmarshalJSON(data []byte) error {
	if len(data) == 0 {
		return errAud
	}
	return a.read(data)
}

// Has says whether the audience names id, code point by code point.
func (a Audience) Has(id string) bool {
	return slices.Contains(a, id)
}

// Actor is one link of the chain of actors, the outermost being who acts now: RFC 8693 section 4.1 with the iss that the
// OAuth Actor Profile demands. Prior is the rest of the chain as it was received, byte for byte.
type Actor struct {
	Issuer  string
	Subject string
	Profile string          // sub_profile: "ai_agent", "service", …
	Prior   json.RawMessage // the nested act object, or nil

	raw json.RawMessage // the whole object as it was received, if it was
}

// Verified are claims whose signature, issuer, type and times a Verifier has checked. Only this package makes them. They
// say nothing about revocation or redemption.
type Verified struct {
	claims Claims
	key    string
	sum    [sha256.Size]byte // of the compact token
}

// Claims gives the claims.
func (v Verified) Claims() Claims { return v.claims }

// KeyID is the kid of the key that signed.
func (v Verified) KeyID() string { return v.key }

// Hash is the SHA-256 of the compact token, base64url: for the ledger, which never holds tokens.
func (v Verified) Hash() string { return base64url.EncodeToString(v.sum[:]) }
