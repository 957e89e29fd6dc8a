package token

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"obolus/oauth/strict"
)

// ErrMalformed: what was presented is no JWS in compact form that this package would read, whoever signed it.
var ErrMalformed = errors.New("malformed token")

var (
	errType      = errors.New("not a token of the expected type")
	errAlgorithm = errors.New("the algorithm is not accepted here")
)

// base64url is RFC 7515 section 2: no padding, and exactly one encoding for every value. The line breaks that it would pass over
// are refused before.
var base64url = base64.RawURLEncoding.Strict() //nolint:gochecknoglobals // a constant encoding

// compact is a JWS in its three parts. Nothing in it is to be believed before verify.
type compact struct {
	head      header
	payload   []byte
	signed    []byte // the part that is signed
	signature []byte
}

// header are the members of a JOSE header that have a meaning here.
type header struct {
	alg string
	typ string // in short form and lower case; empty if there is none
	kid string
	jwk json.RawMessage
	// chain says that a certificate is named by its digest: no more than a hint, but not in a proof.
	hint bool
}

// parse takes a compact JWS apart: RFC 7515 section 7.1, with limits before everything else. It does not verify the
// signature, and does not look into the payload.
func parse(s []byte) (compact, error) {
	if len(s) > maxToken {
		return compact{}, fmt.Errorf("%w: larger than %d bytes", ErrMalformed, maxToken)
	}
	if bytes.IndexByte(s, '\n') >= 0 || bytes.IndexByte(s, '\r') >= 0 || bytes.Count(s, []byte{'.'}) != 2 {
		return compact{}, fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	first, last := bytes.IndexByte(s, '.'), bytes.LastIndexByte(s, '.')
	head, errHead := base64url.AppendDecode(make([]byte, 0, base64url.DecodedLen(len(s))), s[:first]) // there is room for all three
	payload, errPayload := base64url.AppendDecode(head[len(head):], s[first+1:last])
	signature, errSignature := base64url.AppendDecode(payload[len(payload):], s[last+1:])
	if err := errors.Join(errHead, errPayload, errSignature); err != nil {
		return compact{}, fmt.Errorf("%w: not base64url: %w", ErrMalformed, err)
	}
	c := compact{payload: slices.Clip(payload), signed: s[:last], signature: signature}
	var err error
	if c.head, err = readHeader(head); err != nil {
		return compact{}, err
	}
	return c, nil
}

func readHeader(data []byte) (header, error) {
	var h header
	err := strict.Object(data, strict.Limits{Depth: 3, Members: 16}, h.member)
	if err == nil && h.alg == "" {
		err = errors.New("no alg")
	}
	if err != nil {
		return header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	return h, nil
}

func (h *header) member(name string, value []byte) error {
	var err error
	switch name {
	case "alg":
		h.alg, err = text(value)
		if h.alg == "Ed25519" { // RFC 9864
			h.alg = EdDSA
		}
	case "typ":
		h.typ, err = mediaType(value)
	case "kid":
		if h.kid, err = text(value); err == nil && (h.kid == "" || len(h.kid) > maxKeyID) {
			err = errors.New("kid is empty or too long")
		}
	case "jwk":
		h.jwk, err = object(value)
	case "x5t", "x5t#S256":
		h.hint = true
	case "crit", "b64", "zip", "enc", "jku", "x5u", "x5c":
		err = fmt.Errorf("%s is not accepted", name)
	}
	return err
}

// mediaType reads typ as RFC 7515 section 4.1.9 and RFC 8725 section 3.11 say: case does not count, and application/ may
// be left out.
func mediaType(value []byte) (string, error) {
	typ, err := text(value)
	if err != nil {
		return "", err
	}
	for _, c := range []byte(typ) {
		if c <= 0x20 || c >= 0x7f {
			return "", errType
		}
	}
	typ = strings.ToLower(typ)
	if short, ok := strings.CutPrefix(typ, "application/"); ok && !strings.Contains(short, "/") {
		typ = short
	}
	if typ == "" {
		return "", errType
	}
	return typ, nil
}

// demand is what a header must be before a key is looked for.
type demand struct {
	types []string // short and in lower case; an empty one: none at all
	algs  []string
}

// meets holds the header to what the reader of this kind of token expects. A key in the header is nobody's.
func (h header) meets(d demand) error {
	switch {
	case !slices.Contains(d.types, h.typ):
		return fmt.Errorf("%w: typ %q", errType, h.typ)
	case !slices.Contains(d.algs, h.alg):
		return fmt.Errorf("%w: alg %q", errAlgorithm, h.alg)
	case h.jwk != nil:
		return fmt.Errorf("%w: header: jwk is not accepted", ErrMalformed)
	default:
		return nil
	}
}

// verifyBy finds the key that the header names and verifies the signature.
func (c compact) verifyBy(ctx context.Context, keys KeySource) (PublicKey, error) {
	if keys == nil {
		return PublicKey{}, ErrNoKey
	}
	key, err := keys.Key(ctx, c.head.kid)
	if err != nil {
		return PublicKey{}, err
	}
	return key, c.verify(key.Alg, key.Key)
}

func (c compact) verify(alg string, key crypto.PublicKey) error {
	if c.head.alg != alg {
		return errAlg
	}
	return verify(key, alg, c.signed, c.signature)
}
