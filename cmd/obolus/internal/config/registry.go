package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"obolus/agents"
	"obolus/cmd/obolus/internal/strictyaml"
	"obolus/oauth"
	"obolus/oauth/details"
	"obolus/token"
)

// names remembers who has an id. Agents, clients, users and resources share one space, but that a resource may be called
// like a client that serves it.
type names map[string]holder

type holder struct{ kind, path string }

// registry checks the declared things, each by itself and then what they say of each other.
func (c *checker) registry() {
	taken := names{}
	for i := range c.cfg.Agents {
		c.agent(fmt.Sprintf("agents[%d]", i), &c.cfg.Agents[i], taken)
	}
	for i := range c.cfg.Clients {
		c.client(fmt.Sprintf("clients[%d]", i), &c.cfg.Clients[i], taken)
	}
	for i := range c.cfg.Users {
		c.user(fmt.Sprintf("users[%d]", i), &c.cfg.Users[i], taken)
	}
	targets := names{}
	for i := range c.cfg.Resources {
		c.resource(fmt.Sprintf("resources[%d]", i), &c.cfg.Resources[i], targets, taken)
	}
	for i := range c.cfg.Agents {
		c.ceiling(fmt.Sprintf("agents[%d]", i), &c.cfg.Agents[i])
	}
	c.types()
	c.providers()
	c.issuers(taken)
	c.platforms()
}

func (c *checker) claim(taken names, id, kind, path string) {
	if err := agents.CheckID(id); err != nil {
		c.bad(path, "%q is no id: 1 to 128 printable characters without space, quotes, backslash, <, > and |", id)
		return
	}
	if other, ok := taken[id]; ok {
		c.bad(path, "%q is already the id of the %s at %s", id, other.kind, c.tree.At(other.path))
		return
	}
	taken[id] = holder{kind, path}
}

func (c *checker) agent(path string, a *Agent, taken names) {
	c.claim(taken, a.ID, "agent", path+".id")
	if a.Name == "" {
		c.bad(path, "has no name; people are asked to trust it by its name")
	}
	if a.Changed != (agents.Change{}) || a.SecretHash != "" {
		c.bad(path, "changed and secret_hash are kept by the server and not declared")
	}
	c.oneOf(path+".state", string(a.State), "proposed", "active", "suspended", "retired")
	switch a.Auth {
	case oauth.AuthPrivateKeyJWT:
		c.needsKeys(path, a.Credential)
	case oauth.AuthSecretBasic, oauth.AuthSecretPost:
		if !c.cfg.AllowAgentSecrets {
			c.bad(path+".auth", "agents authenticate by private_key_jwt; `allow_agent_secrets: true` allows secrets")
		}
	case oauth.AuthNone:
		c.bad(path+".auth", "an agent must prove who it is")
	default:
		c.oneOf(path+".auth", string(a.Auth), authMethods()...)
	}
	c.identity(path, a.ID, a.Credential)
	c.needsSecret(path, a.Auth, a.Secret)
	if a.Ceiling.Uses < 0 || a.Ceiling.Depth < 0 || a.Ceiling.Lifetime < 0 || a.Ceiling.Rate < 0 {
		c.bad(path+".ceiling", "uses, depth, rate and lifetime cannot be negative")
	}
}

func authMethods() []string { return agents.AuthMethods() }

func (c *checker) needsKeys(path string, cred agents.Credential) {
	if len(cred.JWKS) == 0 && cred.JWKSURI == "" {
		if !c.noted(path + ".key_file") {
			c.bad(path, "authenticates by private_key_jwt and has no jwks, jwks_uri or key_file")
		}
		return
	}
	if len(cred.JWKS) == 0 {
		return
	}
	if _, err := token.ParseJWKS(cred.JWKS); err != nil {
		c.bad(path+".jwks", "%v", err)
	}
}

// noted says whether a problem with a path is known already.
func (c *checker) noted(path string) bool {
	return slices.ContainsFunc(c.problems, func(p strictyaml.Problem) bool { return p.Path == path })
}

func (c *checker) needsSecret(path string, auth oauth.AuthMethod, secret string) {
	shared := auth == oauth.AuthSecretBasic || auth == oauth.AuthSecretPost
	switch {
	case !shared && secret != "":
		c.bad(path+".secret", "has a secret and does not authenticate by one")
	case shared && secret == "" && !c.noted(path+".secret_file"):
		c.bad(path, "authenticates by a secret and has no secret or secret_file")
	case shared && secret != "" && len(secret) < 16:
		c.bad(path+".secret", "is shorter than 16 characters; `openssl rand -base64 32` makes a good one")
	}
}

func (c *checker) client(path string, cl *Client, taken names) {
	c.claim(taken, cl.ID, "client", path+".id")
	if cl.SecretHash != "" {
		c.bad(path, "secret_hash is kept by the server and not declared")
	}
	c.oneOf(path+".auth", string(cl.Auth), authMethods()...)
	if cl.Auth == oauth.AuthPrivateKeyJWT {
		c.needsKeys(path, cl.Credential)
	}
	c.identity(path, cl.ID, cl.Credential)
	c.needsSecret(path, cl.Auth, cl.Secret)
	if cl.FirstParty && cl.Auth == oauth.AuthNone {
		c.bad(path+".first_party", "a client that stands for its users' consent must prove who it is; set auth")
	}
	for i, g := range cl.GrantTypes {
		c.oneOf(fmt.Sprintf("%s.grant_types[%d]", path, i), string(g), string(oauth.GrantAuthorizationCode))
	}
	if slices.Contains(cl.GrantTypes, oauth.GrantAuthorizationCode) && len(cl.RedirectURIs) == 0 {
		c.bad(path, "uses the authorization code and has no redirect_uris")
	}
	for i, uri := range cl.RedirectURIs {
		c.redirect(fmt.Sprintf("%s.redirect_uris[%d]", path, i), uri)
	}
}

// guessAuth is how a client authenticates that does not say: by what it has.
func (cl *Client) guessAuth() oauth.AuthMethod {
	if way := guessIdentity(cl.Credential); way != "" {
		return way
	}
	switch {
	case len(cl.JWKS) > 0 || cl.JWKSURI != "" || cl.KeyFile != "":
		return oauth.AuthPrivateKeyJWT
	case cl.Secret != "" || cl.SecretFile != "":
		return oauth.AuthSecretBasic
	default:
		return oauth.AuthNone
	}
}

func (c *checker) redirect(path, uri string) {
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs():
		c.bad(path, "%q is no absolute URI", uri)
	case strings.Contains(uri, "#"):
		c.bad(path, "a redirect URI has no fragment (RFC 6749 section 3.1.2)")
	case strings.Contains(uri, "*"):
		c.bad(path, "redirect URIs are compared as they are; there are no wildcards")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		c.bad(path, "http is only for 127.0.0.1, ::1 and localhost; use https")
	case u.Scheme != "http" && u.Scheme != "https" && !strings.Contains(u.Scheme, "."):
		c.bad(path, "a private scheme has a dot, as in com.example.app (RFC 8252 section 7.1)")
	}
}

func (c *checker) user(path string, u *User, taken names) {
	c.claim(taken, u.ID, "user", path+".id")
	ways := 0
	for _, s := range []string{u.Password, u.PasswordHash} {
		if s != "" {
			ways++
		}
	}
	if ways != 1 && !c.noted(path+".password_file") {
		c.bad(path, "wants one of password, password_file and password_hash")
	}
	if u.PasswordHash != "" && !strings.HasPrefix(u.PasswordHash, "$argon2id$") {
		c.bad(path+".password_hash", "begins with $argon2id$; `obolus user hash` makes one")
	}
}

func (c *checker) resource(path string, r *agents.Resource, targets, taken names) { //nolint:gocognit // one question after the other
	c.claim(targets, r.ID, "resource", path+".id")
	if other, ok := taken[r.ID]; ok && !slices.Contains(r.Servers, r.ID) {
		c.bad(path+".id", "%q is already the id of the %s at %s", r.ID, other.kind, c.tree.At(other.path))
	}
	if canonical, err := agents.CanonicalURI(r.URI); err != nil {
		c.bad(path+".uri", "%q: %v; wanted is an absolute URI such as https://api.example.com/mcp", r.URI, err)
	} else if canonical != r.URI {
		c.bad(path+".uri", "write it as %s", canonical)
	}
	for i, alias := range append([]string{r.URI}, r.Aliases...) {
		at := path + ".uri"
		if i > 0 {
			at = fmt.Sprintf("%s.aliases[%d]", path, i-1)
		}
		if alias == "" {
			continue
		}
		if other, ok := targets[alias]; ok {
			c.bad(at, "%q is already a name of the resource at %s", alias, c.tree.At(other.path))
		} else if other, ok := taken[alias]; ok && !slices.Contains(r.Servers, alias) {
			c.bad(at, "%q is already the id of the %s at %s", alias, other.kind, c.tree.At(other.path))
		}
		targets[alias] = holder{"resource", at}
	}
	c.oneOf(path+".algorithm", r.Algorithm, algorithms()...)
	c.oneOf(path+".redemption", string(r.Redemption), "required", "none")
	if r.Lifetime < 0 || r.MaxAuthAge < 0 {
		c.bad(path, "a duration cannot be negative")
	}
	for scope := range r.Scopes {
		if !oauth.ValidScope(scope) {
			c.bad(path+".scopes", "%q has characters that a scope cannot have (RFC 6749 section 3.3)", scope)
		}
	}
	if r.Redemption == agents.RedemptionRequired && len(r.Servers) == 0 {
		c.bad(path, "requires redemption and has no servers: nobody could redeem its tokens")
	}
	for i, id := range r.Servers {
		if h, ok := taken[id]; !ok || h.kind == "user" {
			c.bad(fmt.Sprintf("%s.servers[%d]", path, i), "there is no client or agent %q", id)
		}
	}
}

// ceiling checks that what an agent may get exists.
func (c *checker) ceiling(path string, a *Agent) {
	scopes := map[string]bool{}
	for i, id := range a.Ceiling.Resources {
		j := slices.IndexFunc(c.cfg.Resources, func(r agents.Resource) bool { return r.ID == id })
		if j < 0 {
			c.bad(fmt.Sprintf("%s.ceiling.resources[%d]", path, i), "there is no resource %q", id)
			continue
		}
		for s := range c.cfg.Resources[j].Scopes {
			scopes[s] = true
		}
	}
	for i, s := range a.Ceiling.Scopes {
		if !scopes[s] {
			c.bad(fmt.Sprintf("%s.ceiling.scopes[%d]", path, i), "none of its resources has the scope %q", s)
		}
	}
	if a.Default != "" && !slices.Contains(a.Ceiling.Resources, a.Default) {
		c.bad(path+".default_resource", "%q is not among the resources of its ceiling", a.Default)
	}
	for i, id := range a.DelegatesTo {
		if !slices.ContainsFunc(c.cfg.Agents, func(other Agent) bool { return other.ID == id }) {
			c.bad(fmt.Sprintf("%s.delegates_to[%d]", path, i), "there is no agent %q", id)
		}
	}
}

// types checks that the types of authorization_details that things name are there, and that ceilings are of them.
func (c *checker) types() {
	known, err := details.New(c.cfg.Details)
	if err != nil {
		c.bad("details", "%v", err)
		return
	}
	for i, r := range c.cfg.Resources {
		c.known(fmt.Sprintf("resources[%d].details_types", i), r.Details, known)
	}
	for i, a := range c.cfg.Agents {
		path := fmt.Sprintf("agents[%d].ceiling", i)
		c.known(path+".details_types", a.Ceiling.DetailTypes, known)
		if len(a.Ceiling.Details) == 0 {
			continue
		}
		if _, err := known.Parse(a.Ceiling.Details); err != nil {
			c.bad(path+".authorization_details", "%v", err)
		}
	}
}

func (c *checker) known(path string, names []string, types *details.Registry) {
	for i, name := range names {
		if !types.Has(name) {
			c.bad(fmt.Sprintf("%s[%d]", path, i), "there is no type %q of authorization_details; known here: %s", name, strings.Join(types.Names(), ", "))
		}
	}
}

func (c *checker) providers() {
	seen := names{}
	for i, p := range c.cfg.IdentityProviders {
		path := fmt.Sprintf("identity_providers[%d]", i)
		c.claim(seen, p.ID, "identity provider", path+".id")
		c.webURL(path+".issuer", p.Issuer)
		if p.ClientID == "" {
			c.bad(path, "has no client_id")
		}
		c.events(path+".events", p.Events)
	}
}

func (c *checker) issuers(taken names) {
	seen := names{}
	for i, t := range c.cfg.TrustedIssuers {
		path := fmt.Sprintf("trusted_issuers[%d]", i)
		c.webURL(path+".issuer", t.Issuer)
		if other, ok := seen[t.Issuer]; ok {
			c.bad(path+".issuer", "is already trusted at %s", c.tree.At(other.path))
		}
		seen[t.Issuer] = holder{"issuer", path}
		if t.Issuer == c.cfg.IssuerAt(c.cfg.Listen) {
			c.bad(path+".issuer", "is this server itself, which is trusted anyway")
		}
		if t.JWKSURI != "" {
			c.webURL(path+".jwks_uri", t.JWKSURI)
		}
		for j, alg := range t.Algorithms {
			c.oneOf(fmt.Sprintf("%s.algorithms[%d]", path, j), alg, verifying()...)
		}
		c.events(path+".events", t.Events)
		if t.Events != nil && t.Events.Email {
			c.bad(path+".events.email", "the users of a trusted issuer have no accounts here that an address could be looked up in")
		}
		for j, kind := range t.Types {
			c.oneOf(fmt.Sprintf("%s.types[%d]", path, j), kind, "jwt", "id_token")
		}
		for from, to := range t.Clients {
			if h, ok := taken[to]; !ok || h.kind == "user" {
				c.bad(path+".clients."+from, "there is no agent or client %q", to)
			}
		}
	}
}

// events checks what is said of the events of a provider.
func (c *checker) events(path string, e *Events) {
	if e == nil {
		return
	}
	if e.Issuer != "" {
		c.webURL(path+".issuer", e.Issuer)
	}
	if e.JWKSURI != "" {
		c.webURL(path+".jwks_uri", e.JWKSURI)
	}
	for i, alg := range e.Algorithms {
		c.oneOf(fmt.Sprintf("%s.algorithms[%d]", path, i), alg, verifying()...)
	}
	if raw, err := hex.DecodeString(e.TokenHash); err != nil || len(raw) != 0 && len(raw) != sha256.Size {
		c.bad(path+".token_hash", "is no SHA-256 in hex; `printf %%s \"$TOKEN\" | sha256sum` makes one")
	}
}

// verifying are the algorithms that tokens of others may be signed with.
func verifying() []string {
	return []string{"ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}
