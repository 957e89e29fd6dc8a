package operator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"

	"obolus/admin"
	"obolus/agents"
	"obolus/cmd/obolus/internal/config"
	"obolus/oauth"
)

// credential is how a client is to prove who it is.
type credential struct {
	KeyFile string `group:"Credential" help:"Its public key: PEM, JWK or JWKS." placeholder:"FILE" type:"existingfile" xor:"credential"`
	NewKey  string `group:"Credential" help:"Make a key, write the private part here and register the public one." placeholder:"FILE" xor:"credential"`
	JWKSURI string `group:"Credential" help:"Where it publishes its keys." name:"jwks-uri" placeholder:"URL" xor:"credential"`
	Auth    string `enum:",private_key_jwt,spiffe_jwt,spiffe_x509,federated_jwt,tls_client_auth,self_signed_tls_client_auth,client_secret_basic,client_secret_post,none" default:"" group:"Credential" help:"How it authenticates: private_key_jwt, spiffe_jwt, spiffe_x509, federated_jwt, tls_client_auth, self_signed_tls_client_auth, client_secret_basic, client_secret_post or none. If not said, by what else is said of it, or with a key." placeholder:"METHOD"`
	identity
}

// apply puts the credential into a registration.
func (c *credential) apply(into *agents.Credential, usual oauth.AuthMethod) error {
	into.Auth = oauth.AuthMethod(c.Auth)
	if into.Auth == "" {
		into.Auth = usual
	}
	if known, err := c.identity.apply(into, c.Auth); known || err != nil {
		return err
	}
	if c.KeyFile != "" || c.NewKey != "" || c.JWKSURI != "" {
		into.JWKS, into.JWKSURI = nil, c.JWKSURI
		if into.Auth != oauth.AuthSelfSigned {
			into.Auth = oauth.AuthPrivateKeyJWT
		}
		into.SPIFFE, into.Federated, into.CertificateSubject = "", nil, agents.CertificateSubject{}
	}
	var err error
	switch {
	case c.KeyFile != "":
		var data []byte
		if data, err = os.ReadFile(c.KeyFile); err == nil {
			into.JWKS, err = config.PublicKeys(data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.KeyFile, err)
		}
	case c.NewKey != "":
		into.JWKS, err = newKey(c.NewKey)
	case into.Auth == oauth.AuthPrivateKeyJWT && c.JWKSURI == "":
		err = usage("say its key: --new-key FILE makes one")
	}
	return err
}

// tell says what the person must keep.
func (c *credential) tell(s *Session, secret string) {
	if c.NewKey != "" {
		s.say("Its private key is in %s.", c.NewKey)
	}
	if secret != "" {
		s.say("Its secret, shown once:\n\n  %s", secret)
	}
}

// refused takes back the new key of a registration that was refused, so that it can be tried again. A key is kept when nobody knows what became of
// its registration.
func (c *credential) refused(err error) error {
	if p, told := errors.AsType[*admin.Problem](err); c.NewKey == "" || !told || p.Status >= http.StatusInternalServerError {
		return err
	}
	return errors.Join(err, os.Remove(c.NewKey))
}

// newKey makes an ES256 key, writes it to a file of its own and gives the public part.
func newKey(file string) (json.RawMessage, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator says which file
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already, and no key is written over: name another file, or register the public key of that one with --key-file", file)
	}
	if err != nil {
		return nil, fmt.Errorf("write the new key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("write the new key: %w", err)
	}
	return config.PublicKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
}

type keySet struct {
	Keys []map[string]any `json:"keys"`
}

func keyNames(jwks json.RawMessage) []string {
	var set keySet
	if len(jwks) == 0 || json.Unmarshal(jwks, &set) != nil {
		return nil
	}
	var names []string
	for _, k := range set.Keys {
		names = append(names, fmt.Sprint(k["kid"]))
	}
	return names
}

// mergeKeys puts a set before another, each key once.
func mergeKeys(first, then json.RawMessage) (json.RawMessage, error) {
	var a, b keySet
	if err := json.Unmarshal(first, &a); err != nil {
		return nil, err
	}
	if len(then) > 0 {
		if err := json.Unmarshal(then, &b); err != nil {
			return nil, err
		}
	}
	for _, k := range b.Keys {
		if !slices.ContainsFunc(a.Keys, func(have map[string]any) bool { return have["kid"] == k["kid"] }) {
			a.Keys = append(a.Keys, k)
		}
	}
	return json.Marshal(a)
}
