package token

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"obolus/oauth/strict"
)

const (
	typeProof   = "dpop+jwt" // RFC 9449 section 4.2
	proofPast   = 60 * time.Second
	proofFuture = 5 * time.Second
)

// Proof is a verified DPoP proof: RFC 9449. Whether it was used before is the caller's matter.
type Proof struct {
	JKT      string // thumbprint of the key that made it
	ID       string // its jti
	IssuedAt time.Time
	Nonce    string // as it says; whether it is ours is the caller's matter
}

// ProofExpect is the request that a proof must be for.
type ProofExpect struct {
	Method string
	URI    string // as the server is reached from outside
	Now    func() time.Time
	// AccessToken is the token that came with the proof, if any: ath must match it.
	AccessToken string
}

type proofClaims struct {
	jti, htm, htu, ath, nonce string
	iat                       int64
}

func (c *proofClaims) member(name string, value []byte) error {
	switch name {
	case "jti":
		return readText(&c.jti, value)
	case "htm":
		return readText(&c.htm, value)
	case "htu":
		return readText(&c.htu, value)
	case "ath":
		return readText(&c.ath, value)
	case "nonce":
		return readText(&c.nonce, value)
	case "iat":
		return readTime(&c.iat, value)
	default:
		return nil
	}
}

// VerifyProof checks a DPoP proof by the steps of RFC 9449 section 4.3 that need no memory.
func VerifyProof(s string, e ProofExpect) (*Proof, error) {
	c, err := parse([]byte(s))
	if err != nil {
		return nil, err
	}
	jwk := c.head.jwk
	if c.head.kid != "" || c.head.hint || jwk == nil {
		return nil, fmt.Errorf("%w: the key of a proof is its jwk and nothing else", ErrMalformed)
	}
	c.head.jwk = nil
	if err := c.head.meets(demand{types: []string{typeProof}, algs: ProofAlgorithms()}); err != nil {
		return nil, err
	}
	key, err := jwkRules{algs: []string{c.head.alg}, unnamed: true}.parse(jwk)
	if err != nil {
		return nil, fmt.Errorf("the jwk of the proof: %w", err)
	}
	if err := c.verify(key.Alg, key.Key); err != nil {
		return nil, err
	}
	var claims proofClaims
	if err := strict.Object(c.payload, payloadLimits(), claims.member); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := e.check(claims); err != nil {
		return nil, err
	}
	return &Proof{JKT: key.ID, ID: claims.jti, IssuedAt: time.Unix(claims.iat, 0), Nonce: claims.nonce}, nil
}

func (e ProofExpect) check(c proofClaims) error {
	now := e.Now()
	switch {
	case c.jti == "" || len(c.jti) > maxJTI:
		return fmt.Errorf("%w: jti", errClaims)
	case c.htm == "" || c.htm != e.Method:
		return fmt.Errorf("%w: htm", errClaims)
	case !sameURI(c.htu, e.URI):
		return fmt.Errorf("%w: htu", errClaims)
	case c.iat < now.Add(-proofPast).Unix():
		return ErrExpired
	case c.iat > now.Add(proofFuture).Unix():
		return ErrEarly
	case e.AccessToken != "" && subtle.ConstantTimeCompare([]byte(c.ath), []byte(Hash(e.AccessToken))) != 1:
		return fmt.Errorf("%w: ath", errClaims)
	default:
		return nil
	}
}

// sameURI compares without query and fragment, after normalising: RFC 9449 section 4.3, step 9.
func sameURI(a, b string) bool {
	if a == b {
		return a != ""
	}
	x, errX := normalURI(a)
	y, errY := normalURI(b)
	return errX == nil && errY == nil && x == y
}

// normalURI gives scheme, host, port and path in the form that is compared.
func normalURI(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", err
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if host == "" || u.User != nil {
		return "", errors.New("not the URI of a request")
	}
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", errors.New("not the URI of a request")
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return scheme + "://" + host + path, nil
}

// ProofClaims is the request that a proof is made for.
type ProofClaims struct {
	Method      string
	URI         string
	AccessToken string // the token that goes with it, if any
	Nonce       string // of the server, if it gave one
}

// SignProof makes what VerifyProof checks: for agents that bind their tokens to a key.
func SignProof(key *SigningKey, c ProofClaims, now time.Time) (string, error) {
	head := quoted([]byte(`{"typ":"`+typeProof+`","alg":`), key.public.Alg)
	head = append(append(append(head, `,"jwk":`...), key.jwk...), '}')
	uri, _, _ := strings.Cut(c.URI, "#")
	uri, _, _ = strings.Cut(uri, "?")
	payload := quoted([]byte(`{"jti":`), rand.Text())
	payload = quoted(append(payload, `,"htm":`...), c.Method)
	payload = quoted(append(payload, `,"htu":`...), uri)
	if c.AccessToken != "" {
		payload = quoted(append(payload, `,"ath":`...), Hash(c.AccessToken))
	}
	if c.Nonce != "" {
		payload = quoted(append(payload, `,"nonce":`...), c.Nonce)
	}
	payload = fmt.Appendf(payload, `,"iat":%d}`, now.Unix())
	return key.sign(base64url.EncodeToString(head), payload)
}
