package conformance_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenType     = "urn:ietf:params:oauth:token-type:"
	accessToken   = tokenType + "access_token"
	jwtType       = tokenType + "jwt"
	idToken       = tokenType + "id_token"
	jwtBearer     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }

// client is a confidential client that signs: an agent or a resource server.
type client struct {
	id  string
	key *key
}

func newClient(id, alg string) *client { return &client{id: id, key: newKey(alg)} }

// claims are those of a client assertion, RFC 7523 section 3.
func (cl *client) claims(audience string) obj {
	return obj{"iss": cl.id, "sub": cl.id, "aud": audience, "iat": in(0), "exp": in(60), "jti": nonce()}
}

// assertion proves the client, with changes to its claims.
func (cl *client) assertion(audience string, changes ...obj) string {
	return cl.key.sign(obj{"typ": "client-authentication+jwt"}, merge(cl.claims(audience), changes...))
}

// asserted adds a client assertion to a form.
func asserted(form url.Values, assertion string) url.Values {
	form.Set("client_assertion_type", jwtBearer)
	form.Set("client_assertion", assertion)
	return form
}

func basic(id, secret string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))}}
}

// name makes an id that no other case has.
func (c *check) name(prefix string) string {
	return prefix + "-" + strconv.Itoa(int(c.serial.Add(1)))
}

// wide is a ceiling above everything that the cases ask for.
func wide() obj {
	return obj{
		"resources": []string{"mail", "files", "notes", "brief", "desk", "blink", "fresh"},
		"scopes": []string{
			"mail.read", "mail.send", "files.read", "files.write", "notes.read", "notes.write", "brief.read", "fresh.read",
		},
		"details_types": []string{"payment", "mcp_tool_call"},
	}
}

// agent registers an agent of the case's own, with changes to its registration.
func (c *check) agent(changes ...obj) *client {
	c.Helper()
	return c.agentWith("ES256", changes...)
}

func (c *check) agentWith(alg string, changes ...obj) *client {
	c.Helper()
	a := newClient(c.name("agent"), alg)
	c.register(a, changes...)
	return a
}

func (c *check) register(a *client, changes ...obj) {
	c.Helper()
	c.admin(http.MethodPut, "/agents/"+url.PathEscape(a.id), c.registration(a, changes...))
}

func (c *check) registration(a *client, changes ...obj) obj {
	return merge(obj{
		"id": a.id, "name": "The agent called " + a.id, "description": "Works for the suite", "owner": "Conformance Ltd",
		"operator": "Conformance Ops", "auth": "private_key_jwt", "jwks": jwksOf(a.key), "ceiling": wide(), "state": "active",
	}, changes...)
}

// proof is a DPoP proof for a POST to a path of the server, RFC 9449 section 4.2, with changes to its claims.
func (c *check) proof(k *key, path string, changes ...obj) string {
	return k.sign(obj{"typ": "dpop+jwt", "kid": nil, "jwk": k.jwk}, merge(c.proofClaims(path), changes...))
}

func (c *check) proofClaims(path string) obj {
	return obj{"jti": nonce(), "htm": http.MethodPost, "htu": c.issuer + path, "iat": in(0)}
}

// exchange is a token exchange about to be sent: a valid one, to be changed in one place.
type exchange struct {
	c    *check
	who  *client
	form url.Values
	call call
	auth bool
}

// te is the request of checklist section 0.2 in its shortest form: an agent, a subject token, one target, one scope.
func (c *check) te(agent *client, subject string) *exchange {
	return &exchange{c: c, who: agent, auth: true, form: url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {subject}, "subject_token_type": {accessToken}, "resource": {mail}, "scope": {"mail.read"},
	}}
}

// foreign is te with a subject token of the foreign issuer.
func (c *check) foreign(agent *client, subject string) *exchange {
	return c.te(agent, subject).set("subject_token_type", jwtType)
}

// but is a copy to be changed.
func (x *exchange) but() *exchange {
	y := *x
	y.form = url.Values{}
	for name, v := range x.form {
		y.form[name] = slices.Clone(v)
	}
	y.call.header = x.call.header.Clone()
	return &y
}

func (x *exchange) set(name string, values ...string) *exchange {
	x.form[name] = values
	return x
}

func (x *exchange) drop(names ...string) *exchange {
	for _, n := range names {
		delete(x.form, n)
	}
	return x
}

func (x *exchange) at(resource, scope string) *exchange {
	return x.set("resource", resource).set("scope", scope)
}

func (x *exchange) header(name, value string) *exchange {
	if x.call.header == nil {
		x.call.header = http.Header{}
	}
	x.call.header.Add(name, value)
	return x
}

// actor adds an actor token that the agent signed.
func (x *exchange) actor(changes ...obj) *exchange {
	return x.set("actor_token", x.who.key.sign(obj{"typ": "JWT"}, merge(x.who.claims(x.c.issuer), changes...))).set("actor_token_type", jwtType)
}

func (x *exchange) proof(k *key, changes ...obj) *exchange {
	return x.header("Dpop", x.c.proof(k, "/token", changes...))
}

func (x *exchange) assertion(assertion string) *exchange {
	asserted(x.form, assertion)
	return x
}

// anonymous leaves the authentication out.
func (x *exchange) anonymous() *exchange {
	x.auth = false
	return x
}

func (x *exchange) node(n int) *exchange {
	x.call.node = n
	return x
}

// do sends the request; sent again it is the same request with a fresh assertion.
func (x *exchange) do() answer {
	x.c.Helper()
	return x.c.do(x.ready())
}

func (x *exchange) ready() call {
	form := url.Values{}
	for name, v := range x.form {
		form[name] = slices.Clone(v)
	}
	if x.auth && !form.Has("client_assertion") {
		asserted(form, x.who.assertion(x.c.issuer))
	}
	r := x.call
	r.method, r.path, r.form = http.MethodPost, "/token", form
	return r
}

// redemption is a redemption about to be sent.
type redemption struct {
	c    *check
	form url.Values
	by   *client // nil: rs2, by its secret
	auth bool
	call call
}

// redeem prepares the redemption of a token by a resource server; nil stands for rs2.
func (c *check) redeem(by *client, token, id string) *redemption {
	form := url.Values{"token": {token}}
	if id != "" {
		form.Set("redemption_id", id)
	}
	return &redemption{c: c, by: by, form: form, auth: true}
}

func (r *redemption) set(name string, values ...string) *redemption {
	r.form[name] = values
	return r
}

func (r *redemption) node(n int) *redemption {
	r.call.node = n
	return r
}

func (r *redemption) anonymous() *redemption {
	r.auth = false
	return r
}

func (r *redemption) do() answer {
	r.c.Helper()
	return r.c.do(r.ready())
}

func (r *redemption) ready() call {
	form := url.Values{}
	for name, v := range r.form {
		form[name] = slices.Clone(v)
	}
	out := r.call
	out.method, out.path, out.form = http.MethodPost, "/redeem", form
	switch {
	case !r.auth:
	case r.by == nil:
		out.header = basic("rs2", rs2Secret)
	case !form.Has("client_assertion"):
		asserted(form, r.by.assertion(r.c.issuer))
	}
	return out
}

// first redeems a token, which must be for the first time.
func (c *check) first(by *client, token string) answer {
	c.Helper()
	a := c.ok(c.redeem(by, token, nonce()).do())
	if a.str("redemption") != "first" {
		c.Fatalf("redemption is %q, not first", a.str("redemption"))
	}
	return a
}

// introspect asks about a token; nil stands for rs2.
func (c *check) introspect(by *client, token string) answer {
	c.Helper()
	return c.ok(c.ask("/introspect", by, url.Values{"token": {token}}))
}

// ask posts a form to an endpoint as a client.
func (c *check) ask(path string, by *client, form url.Values) answer {
	c.Helper()
	r := call{method: http.MethodPost, path: path, form: form}
	if by == nil {
		r.header = basic("rs2", rs2Secret)
	} else {
		asserted(form, by.assertion(c.issuer))
	}
	return c.do(r)
}

// active says what introspection says of a token.
func (c *check) active(by *client, token string) bool {
	c.Helper()
	a := c.introspect(by, token)
	active, _ := a.json["active"].(bool)
	if !active && strings.TrimSpace(string(a.body)) != `{"active":false}` {
		c.Errorf("an inactive token has members: %s", a.body)
	}
	return active
}

// decode takes a token of the server apart and checks its signature against the published keys.
func (c *check) decode(token string) jwt {
	c.Helper()
	j, err := parseJWT(token)
	if err != nil {
		c.Fatalf("the token cannot be read: %v", err)
	}
	kid, _ := j.header["kid"].(string)
	jwk := c.published(kid)
	if jwk == nil {
		c.Fatalf("the key %q of the token is not published", kid)
	}
	if err := j.verify(jwk); err != nil {
		c.Fatalf("the token does not verify: %v", err)
	}
	return j
}

// published finds a key of the server's set.
func (c *check) published(kid string) obj {
	c.Helper()
	c.mu.Lock()
	jwk := c.jwks[kid]
	c.mu.Unlock()
	if jwk != nil {
		return jwk
	}
	meta := c.ok(c.get("/.well-known/openid-configuration", 0))
	set := c.ok(c.get(meta.str("jwks_uri"), 0))
	keys, _ := set.json["keys"].([]any)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if k, ok := k.(obj); ok {
			id, _ := k["kid"].(string)
			c.jwks[id] = k
		}
	}
	return c.jwks[kid]
}

// everyToken is what holds for each token that the run issues: AT-01, AT-03, AT-04, AT-11, AT-12, TX-37, TX-49 to TX-54, TX-56.
func (c *check) everyToken(a answer, token string) {
	c.Helper()
	j := c.decode(token)
	if j.header["typ"] != "at+jwt" {
		c.Errorf("typ is %v", j.header["typ"])
	}
	for _, name := range []string{"iss", "sub", "client_id", "jti", "aud"} {
		if j.str(name) == "" {
			c.Errorf("the claim %s is missing or not one string: %v", name, j.claims[name])
		}
	}
	if j.str("iss") != c.issuer {
		c.Errorf("iss is %q", j.str("iss"))
	}
	c.onceSeen(j.str("jti"))
	life := j.num("exp") - j.num("iat")
	limit := int64(sessionLifetime)
	if j.str("txn_mode") == "redeem" {
		limit = tokenLifetime
	}
	if life <= 0 || life > limit {
		c.Errorf("exp - iat is %d, the limit is %d", life, limit)
	}
	if nbf, there := j.claims["nbf"]; there && j.num("nbf") != j.num("iat") {
		c.Errorf("nbf is %v, iat %d", nbf, j.num("iat"))
	}
	for _, name := range []string{"email", "name", "groups", "roles", "preferred_username", "may_act", "refresh_token"} {
		if _, there := j.claims[name]; there {
			c.Errorf("the token says more than it must: %s", name)
		}
	}
	if a.num("expires_in") < life-1 || a.num("expires_in") > life {
		c.Errorf("expires_in is %v, exp - iat is %d", a.json["expires_in"], life)
	}
	if a.str("scope") != j.str("scope") {
		c.Errorf("scope of the answer %q, of the token %q", a.str("scope"), j.str("scope"))
	}
	if _, there := a.json["refresh_token"]; there && j.claims["act"] != nil {
		c.Error("an exchange gave a refresh token")
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.status != http.StatusOK {
		c.Errorf("a token in an answer of %d %s", a.status, a.header.Get("Content-Type"))
	}
	want := "Bearer"
	if cnf, _ := j.claims["cnf"].(obj); cnf["jkt"] != nil {
		want = "DPoP"
	}
	if a.str("token_type") != want {
		c.Errorf("token_type is %q, not %s", a.str("token_type"), want)
	}
}

func (c *check) onceSeen(jti string) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if where, twice := c.jtis[jti]; twice {
		c.Errorf("the jti %s was seen before, in %s", jti, where)
	}
	c.jtis[jti] = c.Name()
	if len(jti) < 22 {
		c.Errorf("the jti %s has less than 128 bits", jti)
	}
}
