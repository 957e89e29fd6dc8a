package config

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// files reads what the configuration names: secrets, public keys and guardrails.
func (c *checker) files() {
	cfg := c.cfg
	c.secret("keys.encryption_key", &cfg.Keys.EncryptionKey, cfg.Keys.EncryptionKeyFile)
	for i := range cfg.Agents {
		a, at := &cfg.Agents[i], fmt.Sprintf("agents[%d]", i)
		c.secret(at+".secret", &a.Secret, a.SecretFile)
		c.publicKeys(at, &a.JWKS, a.JWKSURI, a.KeyFile)
	}
	for i := range cfg.Clients {
		cl, at := &cfg.Clients[i], fmt.Sprintf("clients[%d]", i)
		c.secret(at+".secret", &cl.Secret, cl.SecretFile)
		c.publicKeys(at, &cl.JWKS, cl.JWKSURI, cl.KeyFile)
	}
	for i := range cfg.Users {
		u, at := &cfg.Users[i], fmt.Sprintf("users[%d]", i)
		c.secret(at+".password", &u.Password, u.PasswordFile)
	}
	for i := range cfg.IdentityProviders {
		p, at := &cfg.IdentityProviders[i], fmt.Sprintf("identity_providers[%d]", i)
		c.secret(at+".client_secret", &p.ClientSecret, p.ClientSecretFile)
	}
	for i := range cfg.Policies {
		p, at := &cfg.Policies[i], fmt.Sprintf("policies[%d]", i)
		if p.File == "" {
			c.bad(at, "names no file")
			continue
		}
		if data, ok := c.read(at+".file", p.File); ok {
			p.Text = string(data)
		}
	}
}

// secret takes a secret from its file. The key of the file's name is that of the secret with _file behind it.
func (c *checker) secret(path string, into *string, file string) {
	switch {
	case file == "":
	case *into != "":
		c.bad(path, "is set twice: here and as a file")
	default:
		if data, ok := c.read(path+"_file", file); ok {
			*into = strings.TrimSpace(string(data))
			if *into == "" {
				c.bad(path+"_file", "the file %s is empty", file)
			}
		}
	}
}

// publicKeys takes a JWKS from a file, and sees that there is one source of keys only.
func (c *checker) publicKeys(path string, into *json.RawMessage, uri, file string) {
	sources := 0
	for _, set := range []bool{len(*into) > 0, uri != "", file != ""} {
		if set {
			sources++
		}
	}
	if sources > 1 {
		c.bad(path, "only one of jwks, jwks_uri and key_file is set")
		return
	}
	if uri != "" {
		c.webURL(path+".jwks_uri", uri)
	}
	if file == "" {
		return
	}
	data, ok := c.read(path+".key_file", file)
	if !ok {
		return
	}
	set, err := PublicKeys(data)
	if err != nil {
		c.bad(path+".key_file", "%s: %v", file, err)
		return
	}
	*into = set
}

func (c *checker) read(path, name string) ([]byte, bool) {
	if !c.exists(path, name) {
		return nil, false
	}
	data, err := os.ReadFile(name) //nolint:gosec // the operator says which file
	if err != nil {
		c.bad(path, "the file %s cannot be read", name)
		return nil, false
	}
	return data, true
}

// MasterKey is the configured key that seals the signing keys; nil: none was configured.
func (c Config) MasterKey() []byte {
	key, err := base64.StdEncoding.DecodeString(c.Keys.EncryptionKey)
	if err != nil || len(key) == 0 {
		return nil
	}
	return key
}
