package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

func tokenCases() []testCase {
	return []testCase{
		{"AT-01", "tokens are signed, with typ at+jwt", atType},
		{"AT-02", "the algorithm is chosen for each resource", atAlgorithms},
		{"AT-03", "the claims of RFC 9068", atRequired},
		{"AT-04", "jti is random and unique, times are integers", atIDs},
		{"AT-05", "how the user signed in is kept through the exchange", atSignIn},
		{"AT-06", "scope is in the token", atScope},
		{"AT-07", "aud is the resource", atAudience},
		{"AT-08", "one audience, so that scopes mean one thing", func(c *check) {
			c.want(c.baseline().set("resource", mail, files).do(), 400, "invalid_target")
		}},
		{"AT-09", "who receives a token refuses what is not one", atReceived},
		{"AT-10", "names of users, agents and clients do not collide", atNames},
		{"AT-11", "no groups, roles or addresses", func(c *check) {
			j := c.decode(c.ok(c.baseline().do()).token()) // for each token of the run: everyToken
			for name, v := range j.claims {
				if s, _ := v.(string); strings.Contains(s, "@example.test") || strings.Contains(s, "Liddell") {
					c.Errorf("the claim %s tells %q", name, s)
				}
			}
		}},
		{"NEG-139", "a signing key is replaced, and taken out of use", negKeys},
		{"AT-12", "nbf is iat, and lives are short", atLives},
	}
}

func atType(c *check) {
	for _, tok := range []string{c.userToken("alice"), c.ok(c.baseline().do()).token()} {
		j := c.decode(tok)
		if j.header["typ"] != "at+jwt" || j.header["alg"] != "ES256" || j.header["kid"] == "" || len(j.header) != 3 {
			c.Errorf("header %v", j.header)
		}
	}
}

func atAlgorithms(c *check) {
	for _, alg := range []string{"ES256", "EdDSA", "PS256", "RS256"} {
		c.sub(alg, func(c *check) {
			id := c.name("alg")
			uri := "https://" + id + ".test"
			c.admin(http.MethodPut, "/resources/"+id, obj{
				"uri": uri, "scopes": obj{"mail.read": "Read"}, "redemption": "required", "servers": []string{"rs1"}, "algorithm": alg,
			})
			ceiling := wide()
			ceiling["resources"] = []string{id}
			x := c.allowed("alice", c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice")).set("resource", uri))
			tok := c.ok(x.do()).token()
			if j := c.decode(tok); j.header["alg"] != alg {
				c.Errorf("alg is %v", j.header["alg"])
			}
			c.first(c.rs1, tok)
		})
	}
	c.keySet()
}

// keySet reads the published keys and holds each to what a public key is: MD-03.
func (c *check) keySet() []obj {
	c.Helper()
	a := c.ok(c.get("/jwks.json", 0))
	list, _ := a.json["keys"].([]any)
	var keys []obj
	seen := map[any]bool{}
	for _, k := range list {
		key, _ := k.(obj)
		keys = append(keys, key)
		if seen[key["kid"]] || key["kid"] == nil || key["alg"] == nil || key["use"] != "sig" {
			c.Errorf("a key without or with another's kid, alg or use: %v", key)
		}
		seen[key["kid"]] = true
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "oth"} {
			if _, there := key[private]; there {
				c.Errorf("the private member %s is published", private)
			}
		}
	}
	if len(keys) == 0 {
		c.Errorf("no keys: %s", a.body)
	}
	return keys
}

func atRequired(c *check) {
	for _, tok := range []string{c.userToken("alice"), c.ok(c.baseline().do()).token()} {
		j := c.decode(tok) // for each token of the run: everyToken
		for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} {
			if _, there := j.claims[name]; !there {
				c.Errorf("the claim %s is missing", name)
			}
		}
	}
}

func atIDs(c *check) {
	base := c.baseline()
	seen := map[string]bool{}
	for range 20 {
		j := c.decode(c.ok(base.do()).token())
		if seen[j.str("jti")] || seen[j.str("txn")] {
			c.Errorf("seen before: %s %s", j.str("jti"), j.str("txn"))
		}
		seen[j.str("jti")], seen[j.str("txn")] = true, true
		for _, name := range []string{"iat", "exp", "nbf", "auth_time"} {
			if n, ok := j.claims[name].(json.Number); ok && strings.ContainsAny(n.String(), ".eE") {
				c.Errorf("%s is %s", name, n)
			}
		}
	}
}

func atSignIn(c *check) {
	user := c.decode(c.userToken("alice"))
	if user.num("auth_time") == 0 || user.num("auth_time") > in(0) {
		c.Errorf("auth_time of the user's token is %v", user.claims["auth_time"])
	}
	issued := c.decode(c.ok(c.baseline().do()).token())
	for _, name := range []string{"auth_time", "acr", "amr"} {
		if !reflect.DeepEqual(user.claims[name], issued.claims[name]) {
			c.Errorf("%s was %v and became %v", name, user.claims[name], issued.claims[name])
		}
	}
	x := c.baseline()
	authTime := in(-77)
	j := c.decode(c.ok(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"auth_time": authTime, "acr": "gold", "amr": []string{"otp"}})).do()).token())
	if j.num("auth_time") != authTime || j.str("acr") != "gold" {
		c.Errorf("auth_time %v acr %v", j.claims["auth_time"], j.claims["acr"])
	}
}

func atScope(c *check) {
	if s := c.decode(c.userToken("alice")).str("scope"); len(strings.Fields(s)) != len(strings.Fields(everything)) {
		c.Errorf("scope of the user's token is %q", s)
	}
	if s := c.decode(c.ok(c.baseline().do()).token()).str("scope"); s != "mail.read" {
		c.Errorf("scope is %q", s)
	}
}

func atAudience(c *check) {
	b := c.person("alice")
	if aud := c.decode(c.flow(b, "mail.read").set("resource", mail).token()).str("aud"); aud != mail {
		c.Errorf("with resource: aud is %q", aud)
	}
	if aud := c.decode(c.flow(b, "mail.read").set("resource", mail+"/").token()).str("aud"); aud != mail {
		c.Errorf("with an alias as resource: aud is %q", aud)
	}
	if aud := c.decode(c.flow(b, "mail.read").token()).str("aud"); aud == "" {
		c.Error("without resource: no audience")
	}
	if aud := c.decode(c.ok(c.baseline().do()).token()).str("aud"); aud != mail {
		c.Errorf("of an exchange: aud is %q", aud)
	}
}

func atReceived(c *check) {
	token, _ := c.mailToken()
	for what, tok := range broken(token) {
		if a := c.redeem(c.rs1, tok, nonce()).do(); a.status != http.StatusGone {
			c.Errorf("%s: redeemed with %d %s", what, a.status, a.code())
		}
		if c.active(c.rs1, tok) {
			c.Errorf("%s: active", what)
		}
	}
	j := c.decode(token)
	for what, header := range map[string]obj{
		"another key": {"typ": "at+jwt"}, "another key under our kid": {"typ": "at+jwt", "kid": j.header["kid"]}, "typ JWT": {"typ": "JWT", "kid": j.header["kid"]},
		"no typ": {"kid": j.header["kid"]},
	} {
		forged := newKey("ES256").sign(header, j.claims)
		if a := c.redeem(c.rs1, forged, nonce()).do(); a.status != http.StatusGone {
			c.Errorf("%s: redeemed with %d", what, a.status)
		}
		if c.active(c.rs1, forged) {
			c.Errorf("%s: active", what)
		}
	}
	c.want(c.redeem(c.rs3, token, nonce()).do(), 403, "wrong_audience")
	c.first(c.rs1, token)
}

func atNames(c *check) {
	taken := func(what string, a answer) {
		c.Helper()
		if a.status != http.StatusConflict && a.status != http.StatusUnprocessableEntity && a.status != http.StatusPreconditionRequired {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	like := newClient("alice", "ES256")
	taken("an agent like a user", c.tryAdmin(http.MethodPut, "/agents/alice", c.registration(like)))
	taken("a client like a user", c.tryAdmin(http.MethodPut, "/clients/alice", obj{"name": "x", "auth": "none"}))
	agent := c.agent()
	taken("a user like an agent", c.tryAdmin(http.MethodPut, "/users/"+agent.id, obj{"name": "x", "password": "a long password 12345"}))
	taken("a client like an agent", c.tryAdmin(http.MethodPut, "/clients/"+agent.id, obj{"name": "x", "auth": "none"}))
	taken("an agent like a client", c.tryAdmin(http.MethodPut, "/agents/app", c.registration(newClient("app", "ES256"))))
	c.remove("/agents/" + agent.id)
	taken("a user like an agent of the past", c.tryAdmin(http.MethodPut, "/users/"+agent.id, obj{"name": "x", "password": "a long password 12345"}))
}

func atLives(c *check) {
	once := c.decode(c.ok(c.baseline().do()).token())
	if life := once.num("exp") - once.num("iat"); life > tokenLifetime || once.num("nbf") != once.num("iat") || once.str("txn_mode") != "redeem" {
		c.Errorf("a one-transaction token: %s", once.body)
	}
	user := c.decode(c.userToken("alice"))
	if life := user.num("exp") - user.num("iat"); life > sessionLifetime || user.num("nbf") != user.num("iat") || user.claims["txn_mode"] != nil {
		c.Errorf("a session token: %s", user.body)
	}
}

func targetCases() []testCase {
	return []testCase{
		{"RI-01", "resource is read at every endpoint that takes it", riEverywhere},
		{"RI-02", "a token is for the resource of its code", riCode},
		{"RI-03", "resources are compared by case of scheme and host and by default port", riCompared},
		{"RI-04", "a resource is never fetched", riFetched},
		{"MD-01", "the metadata is where it must be and says what works", mdDocument},
		{"MD-02", "the metadata does not depend on the request", mdHost},
		{"MD-03", "the key set is public and follows a rotation", mdKeys},
		{"IS-01", "iss is in every authorization response", isEverywhere},
	}
}

func riEverywhere(c *check) {
	for _, uri := range []string{"foo", "https://rs1.test/mcp#f", "https://unknown.test"} {
		c.want(c.baseline().set("resource", uri).do(), 400, "invalid_target")
		f := c.flow(c.person("alice"), "mail.read").set("resource", uri)
		if q := f.back(f.open()); q.Get("error") != "invalid_target" {
			c.Errorf("authorize with %s: %v", uri, q)
		}
		f = c.flow(c.person("alice"), "mail.read").set("resource", uri)
		c.want(c.post("/par", f.query), 400, "invalid_target")
		f = c.flow(c.person("alice"), "mail.read")
		form := f.form(f.code())
		form.Set("resource", uri)
		c.want(c.post("/token", form), 400, "invalid_target")
	}
}

func riCode(c *check) {
	f := c.flow(c.person("alice"), "mail.read").set("resource", mail)
	form := f.form(f.code())
	other := url.Values{}
	maps.Copy(other, form)
	other.Set("resource", files)
	c.want(c.post("/token", other), 400, "invalid_target")
	form.Set("resource", mail)
	if aud := c.decode(c.ok(c.post("/token", form)).token()).str("aud"); aud != mail {
		c.Errorf("aud is %q", aud)
	}
}

func riCompared(c *check) {
	base := c.baseline()
	for _, uri := range []string{"https://RS1.test/mcp", "HTTPS://rs1.TEST:443/mcp", "https://rs1.test:443/mcp", mail + "/"} {
		if aud := c.decode(c.ok(base.but().set("resource", uri).do()).token()).str("aud"); aud != mail {
			c.Errorf("%s: aud is %q", uri, aud)
		}
	}
	for _, uri := range []string{
		"https://rs1.test/mcp/../mcp", "https://rs1.test/mcp/../x", "https://rs1.test/MCP", "https://rs1.test/%6dcp", "https://rs1.test/mcp?x=1",
		"https://rs1.test:8443/mcp", "http://rs1.test/mcp", "https://rs1.test/other", "https://rs1.test.evil.test/mcp", "https://rs1.test", files + "/",
	} {
		c.want(base.but().set("resource", uri).do(), 400, "invalid_target")
	}
}

func riFetched(c *check) {
	var hits atomic.Int32
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer trap.Close()
	base := c.baseline()
	c.want(base.but().set("resource", trap.URL+"/api").do(), 400, "invalid_target")
	c.want(base.but().drop("resource").set("audience", trap.URL).do(), 400, "invalid_target")
	c.post("/par", c.flow(c.person("alice"), "mail.read").set("resource", trap.URL+"/api").query)
	if hits.Load() != 0 {
		c.Errorf("the resource was fetched %d times", hits.Load())
	}
}

func mdDocument(c *check) {
	c.metadata("/.well-known/oauth-authorization-server")
	c.sub("an issuer with a path", func(c *check) {
		p := c.apart(func(o *options) { o.path = "/tenant1" })
		host := strings.TrimSuffix(p.issuer, "/tenant1")
		p.metadata(host + "/.well-known/oauth-authorization-server/tenant1")
		if a := p.get(host+"/.well-known/oauth-authorization-server/tenant2", 0); a.status != http.StatusNotFound {
			c.Errorf("the metadata of another tenant: %d", a.status)
		}
		token, _ := p.mailToken()
		p.first(p.rs1, token)
	})
}

// metadata holds the document at an address to RFC 8414.
func (c *check) metadata(address string) {
	c.Helper()
	a := c.ok(c.get(address, 0))
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.str("issuer") != c.issuer {
		c.Errorf("%s of %q", a.header.Get("Content-Type"), a.str("issuer"))
	}
	for _, name := range []string{
		"authorization_endpoint", "token_endpoint", "pushed_authorization_request_endpoint", "introspection_endpoint",
		"revocation_endpoint", "jwks_uri", "redemption_endpoint", "transaction_endpoint",
	} {
		if !strings.HasPrefix(a.str(name), c.issuer+"/") {
			c.Errorf("%s is %q", name, a.str(name))
		}
	}
	for name, want := range map[string][]string{
		"response_types_supported": {"code"}, "code_challenge_methods_supported": {"S256"},
	} {
		if got := stringsOf(a.json[name]); !slices.Equal(got, want) {
			c.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	for name, some := range map[string]string{
		"grant_types_supported": exchangeGrant, "token_endpoint_auth_methods_supported": "private_key_jwt",
		"token_endpoint_auth_signing_alg_values_supported": "ES256", "dpop_signing_alg_values_supported": "ES256",
		"introspection_endpoint_auth_methods_supported": "private_key_jwt", "revocation_endpoint_auth_methods_supported": "private_key_jwt",
		"authorization_details_types_supported": "payment", "response_modes_supported": "query",
	} {
		if got := stringsOf(a.json[name]); !slices.Contains(got, some) || slices.Contains(got, "") {
			c.Errorf("%s is %v, without %s", name, got, some)
		}
	}
	for name, v := range a.json {
		if strings.Contains(name, "alg_values") && (slices.Contains(stringsOf(v), "none") || slices.Contains(stringsOf(v), "HS256")) {
			c.Errorf("%s is %v", name, v)
		}
	}
	if a.json["authorization_response_iss_parameter_supported"] != true {
		c.Error("authorization_response_iss_parameter_supported is not true")
	}
	if _, there := a.json["registration_endpoint"]; there {
		c.Error("there is a registration endpoint that does not work")
	}
	if other := c.ok(c.get("/.well-known/openid-configuration", 0)); !bytes.Equal(other.body, a.body) {
		c.Error("the two documents differ")
	}
	c.ok(c.get(a.str("jwks_uri"), 0))
	for _, name := range []string{"token_endpoint", "introspection_endpoint", "revocation_endpoint", "redemption_endpoint"} {
		if got := c.do(call{method: http.MethodPost, path: strings.TrimPrefix(a.str(name), c.issuer), form: url.Values{}}); got.status == http.StatusNotFound {
			c.Errorf("there is nothing at %s", a.str(name))
		}
	}
}

func mdHost(c *check) {
	plain := c.ok(c.get("/.well-known/oauth-authorization-server", 1))
	for _, header := range []http.Header{
		{"X-Forwarded-Host": {"evil.test"}}, {"X-Forwarded-Proto": {"https"}}, {"Forwarded": {"host=evil.test;proto=https"}}, {"X-Forwarded-Prefix": {"/evil"}},
	} {
		a := c.do(call{method: http.MethodGet, path: "/.well-known/oauth-authorization-server", header: header})
		if !bytes.Equal(a.body, plain.body) {
			c.Errorf("%v changes the document", header)
		}
	}
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.nodes[0].base+"/.well-known/oauth-authorization-server", nil)
	if err != nil {
		c.Fatal(err)
	}
	req.Host = "evil.test"
	res, err := wire.RoundTrip(req)
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	var buf bytes.Buffer
	_, _ = buf.ReadFrom(res.Body)
	if res.StatusCode == http.StatusOK && !bytes.Equal(buf.Bytes(), plain.body) || strings.Contains(buf.String(), "evil") {
		c.Errorf("Host: evil.test: %d %s", res.StatusCode, buf.String())
	}
}

func mdKeys(c *check) {
	before, base := c.keySet(), c.baseline()
	old := c.ok(base.do()).token()
	rotated := c.admin(http.MethodPost, "/keys/rotate", obj{"algorithm": "ES256"})
	for n := range c.nodes {
		c.eventually(time.Minute, fmt.Sprint("the new key at process ", n+1), func() bool {
			list, _ := c.ok(c.get("/jwks.json", n+1)).json["keys"].([]any)
			return len(list) > len(before)
		})
	}
	after := c.keySet()
	for _, k := range before {
		if !slices.ContainsFunc(after, func(o obj) bool { return o["kid"] == k["kid"] }) {
			c.Errorf("the key %v is gone while its tokens live (after %s)", k["kid"], rotated.body)
		}
	}
	for n := range c.nodes {
		c.decode(c.ok(base.but().node(n + 1).do()).token())
	}
	c.first(c.rs1, old)
	c.first(c.rs1, c.ok(base.do()).token())
	age := c.ok(c.get("/jwks.json", 0)).header.Get("Cache-Control")
	if age == "" || strings.Contains(age, "immutable") {
		c.Errorf("Cache-Control of the key set is %q", age)
	}
}

func isEverywhere(c *check) {
	b := c.person("alice")
	c.flow(b, "mail.read").code() // back holds iss to the issuer, in each of these
	f := c.flow(b, "mail.read")
	p := f.open()
	if q := f.back(p.submit(p.decision(), "deny")); q.Get("error") != "access_denied" {
		c.Errorf("the user says no: %v", q)
	}
	f = c.flow(b, "no.such.scope")
	if q := f.back(f.open()); q.Get("error") != "invalid_scope" {
		c.Errorf("an unknown scope: %v", q)
	}
	if c.ok(c.get("/.well-known/oauth-authorization-server", 0)).json["authorization_response_iss_parameter_supported"] != true {
		c.Error("the metadata does not say so")
	}
}

// negKeys is a signing key that is replaced, and then taken out of use.
func negKeys(c *check) {
	p := c.apart(nil)
	g := p.reader()
	x := p.foreign(p.agent(), p.idp.token(p.env, "alice", "mail.read"))
	p.allow(p.person("alice"), x, limits{})
	var tokens []string
	for range 4 {
		tokens = append(tokens, p.ok(x.do()).token())
	}
	old, _ := p.decode(tokens[0]).header["kid"].(string)
	next := p.admin(http.MethodPost, "/keys/rotate", nil).str("id")
	keys := func() string {
		p.Helper()
		return string(p.ok(p.get(p.ok(p.get("/.well-known/openid-configuration", 0)).str("jwks_uri"), 0)).body)
	}
	p.eventually(time.Minute, "the new key beside the old one", func() bool { return strings.Contains(keys(), next) })
	if !strings.Contains(keys(), old) || p.decode(p.ok(x.do()).token()).header["kid"] != old {
		p.Error("a new key signs before others can have seen it")
	}
	p.first(p.rs1, tokens[0])
	g.want("by the old key", g.post(readPath, nil).bearer(tokens[1]).do(), 200, "", tokens[1], 1)
	own := p.userToken("alice")
	p.admin(http.MethodPost, "/keys/"+old+"/withdraw", obj{"why": "it was stolen"})
	for n := range p.nodes {
		if a := p.redeem(p.rs1, tokens[2], nonce()).node(n + 1).do(); a.status != http.StatusGone {
			p.Errorf("by the withdrawn key: %d %s", a.status, a.body)
		}
		if p.activeAt(n+1, p.rs1, tokens[2]) {
			p.Error("active")
		}
	}
	for i := range g.replicas {
		if a := g.post(readPath, nil).at(i).bearer(tokens[3]).do(); a.status != http.StatusUnauthorized {
			p.Errorf("by the withdrawn key: %d %s", a.status, a.body)
		}
	}
	if j, err := parseJWT(own); err == nil && j.header["kid"] == old {
		p.want(p.te(x.who, own).do(), 400, "invalid_request")
	}
	fresh := ""
	p.eventually(time.Minute, "that everybody signs by another", func() bool {
		for n := range p.nodes {
			fresh = p.ok(x.but().node(n + 1).do()).token()
			if j, err := parseJWT(fresh); err != nil || j.header["kid"] == old || strings.Contains(keys(), old) {
				return false
			}
		}
		return true
	})
	var a answer
	p.eventually(time.Minute, "that a guard looks for a key it does not know", func() bool { // it has just looked for one, and looks every two seconds
		a = g.post(readPath, nil).bearer(fresh).do()
		return a.status != http.StatusUnauthorized
	})
	g.want("by another key", a, 200, "", fresh, 1)
}
