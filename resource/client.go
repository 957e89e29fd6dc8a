package resource

import (
	"crypto"
	"errors"
	"net/http"
	"net/url"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// Client is how a resource server authenticates at the authorization server. The zero value is nobody.
type Client struct {
	id     string
	key    *token.SigningKey
	secret string
	err    error
}

// PrivateKey authenticates by private_key_jwt: an assertion for each call, signed by a key whose public part is registered. The key is of P-256,
// Ed25519, or RSA with 2048 bits and more.
func PrivateKey(id string, key crypto.Signer) Client {
	c := Client{id: id}
	if key == nil {
		c.err = errors.New("no key")
		return c
	}
	c.key, c.err = token.NewSigningKey("", key)
	return c.named()
}

// PrivateKeyPEM is PrivateKey with a key as OpenSSL writes it (PKCS #8).
func PrivateKeyPEM(id string, pem []byte) Client {
	c := Client{id: id}
	c.key, c.err = token.ParsePrivateKeyPEM(pem, "")
	return c.named()
}

// Secret authenticates by client_secret_basic. A key is better: a secret can be copied by whoever sees one request.
func Secret(id, secret string) Client {
	c := Client{id: id, secret: secret}
	if secret == "" {
		c.err = errors.New("no secret")
	}
	return c.named()
}

func (c Client) named() Client {
	if c.id == "" && c.err == nil {
		c.err = errors.New("no id")
	}
	return c
}

// authenticate adds the credential to a request that is about to be made: an assertion to the form, or a header.
func (c Client) authenticate(h http.Header, form url.Values, issuer string, now time.Time) error {
	if c.key == nil {
		basic := http.Request{Header: h}
		basic.SetBasicAuth(url.QueryEscape(c.id), url.QueryEscape(c.secret)) // RFC 6749 section 2.3.1
		return nil
	}
	assertion, err := token.SignAssertion(c.key, c.id, issuer, now)
	form.Set("client_id", c.id)
	form.Set("client_assertion_type", oauth.AssertionJWT)
	form.Set("client_assertion", assertion)
	return err
}
