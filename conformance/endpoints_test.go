package conformance_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

func introspectionCases() []testCase {
	return []testCase{
		{"IN-01", "introspection is a POST of an authenticated client", inWho},
		{"IN-02", "what is not active, or not for the caller, says nothing", inInactive},
		{"IN-03", "an active token is told as it is", inActive},
		{"IN-04", "nothing but access tokens is active", inOthers},
		{"IN-05", "looking changes nothing, and a redeemed token is inactive", inHarmless},
		{"IN-06", "no scanning for tokens", inFlood},
	}
}

func inWho(c *check) {
	token, agent := c.mailToken()
	form := func() url.Values { return url.Values{"token": {token}} }
	c.want(c.post("/introspect", form()), 401, "invalid_client")
	c.want(c.do(call{method: http.MethodPost, path: "/introspect", form: form(), header: http.Header{"Authorization": {"Bearer " + token}}}), 401, "invalid_client")
	named := form()
	named.Set("client_id", "app")
	c.want(c.post("/introspect", named), 401, "invalid_client")
	c.want(c.ask("/introspect", c.rs1, url.Values{}), 400, "invalid_request")
	if a := c.get("/introspect?token="+token, 0); a.status != http.StatusMethodNotAllowed {
		c.Errorf("GET: %d", a.status)
	}
	c.want(c.do(call{method: http.MethodPost, path: "/introspect", form: form(), header: basic("rs2", "wrong for rs2, once")}), 401, "invalid_client")
	for _, by := range []*client{c.rs1, agent} {
		if !c.active(by, token) {
			c.Errorf("not active for %s", by.id)
		}
	}
}

func inInactive(c *check) {
	redeemed, _ := c.mailToken()
	c.first(c.rs1, redeemed)
	revoked, agent := c.mailToken()
	c.ok(c.ask("/revoke", agent, url.Values{"token": {revoked}}))
	other, _ := c.mailToken()
	short := c.ok(c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(brief, "brief.read")).do()).token()
	c.outlive(short)
	answers := map[string]answer{
		"unknown": c.introspect(c.rs1, "x.y.z"), "opaque": c.introspect(c.rs1, nonce()), "redeemed": c.introspect(c.rs1, redeemed),
		"revoked": c.introspect(c.rs1, revoked), "for another": c.introspect(c.rs3, other), "for another, with a secret": c.introspect(nil, other),
		"of another agent": c.introspect(c.agent(), other), "expired": c.introspect(c.rs1, short),
	}
	for what, tok := range broken(other) {
		answers[what] = c.introspect(c.rs1, tok)
	}
	c.alike(answers)
	if got := bytes.TrimSpace(answers["unknown"].body); string(got) != `{"active":false}` {
		c.Errorf("it says %s", got)
	}
}

func inActive(c *check) {
	k := newKey("ES256")
	x := c.te(c.agent(), c.userToken("alice")).set("authorization_details", string(mustJSON([]obj{toolCall("send_mail")})))
	c.allowed("alice", x)
	for _, tok := range []string{c.ok(x.but().proof(k).do()).token(), c.ok(x.do()).token()} {
		a, j := c.introspect(c.rs1, tok), c.decode(tok)
		if a.json["active"] != true {
			c.Fatalf("not active: %s", a.body)
		}
		for _, name := range []string{
			"scope", "client_id", "sub", "aud", "iss", "exp", "iat", "nbf", "jti", "act", "cnf", "authorization_details", "txn", "acr", "auth_time",
		} {
			if told, issued := mustJSON(a.json[name]), mustJSON(j.claims[name]); !bytes.Equal(told, issued) {
				c.Errorf("%s: told %s, token %s", name, told, issued)
			}
		}
		want := "Bearer"
		if j.claims["cnf"] != nil {
			want = "DPoP"
		}
		if a.str("token_type") != want {
			c.Errorf("token_type is %q", a.str("token_type"))
		}
	}
}

func inOthers(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	pushed := c.post("/par", c.flow(c.person("alice"), "mail.read").query)
	token, _ := c.mailToken()
	receipt := c.first(c.rs1, token).str("receipt")
	for what, tok := range map[string]string{
		"a code": f.code(), "a request_uri": pushed.str("request_uri"), "a client assertion": c.rs1.assertion(c.issuer),
		"a token of a trusted issuer": c.idp.token(c.env, "alice", "mail.read"), "a proof": c.proof(newKey("ES256"), "/token"), "a receipt": receipt,
	} {
		if tok == "" {
			c.Errorf("%s: there is none", what)
		} else if c.active(c.rs1, tok) {
			c.Errorf("%s is active", what)
		}
	}
}

func inHarmless(c *check) {
	token, _ := c.mailToken()
	for range 3 {
		a := c.introspect(c.rs1, token)
		if a.json["active"] != true || !strings.Contains(a.header.Get("Cache-Control"), "no-store") {
			c.Fatalf("%v %s", a.header, a.body)
		}
	}
	c.first(c.rs1, token)
	if c.active(c.rs1, token) {
		c.Error("active after it was redeemed")
	}
}

func inFlood(c *check) {
	// A resource server of the case's own asks for more tokens than anybody has.
	id := c.name("scanner")
	secret := c.admin(http.MethodPut, "/clients/"+id, obj{"name": "Scanner " + id, "auth": "client_secret_basic"}).str("client_secret")
	c.secret(secret, "client secret")
	limited := answer{}
	for i := 0; i < 20000 && limited.status == 0; i++ {
		a, err := c.send(c.Context(), call{
			method: http.MethodPost, path: "/introspect", form: url.Values{"token": {"x.y." + nonce()}}, header: basic(id, secret), node: 1,
		})
		if err != nil {
			c.Fatal(err)
		}
		switch a.status {
		case http.StatusOK:
		case http.StatusTooManyRequests:
			limited = a
		default:
			c.Fatalf("%d %s", a.status, a.body)
		}
	}
	if limited.status == 0 || limited.header.Get("Retry-After") == "" {
		c.Errorf("no limit: %d %v", limited.status, limited.header)
	}
	token, _ := c.mailToken()
	if !c.active(c.rs1, token) {
		c.Error("another resource server suffers")
	}
}

func revocationCases() []testCase {
	return []testCase{
		{"RV-01", "revocation is a POST of the client, with a token", rvForm},
		{"RV-02", "what is unknown or over is revoked", rvUnknown},
		{"RV-03", "the token of another client is not revoked", rvForeign},
		{"RV-04", "the hint changes nothing", rvHint},
		{"RV-05", "what was derived ends with its source", rvDerived},
		{"RV-06", "without the store nothing is revoked", rvStore},
		{"RV-07", "a revoked token is not redeemed", rvRedeem},
		{"RV-08", "a revocation is known everywhere at once", rvEverywhere},
		{"RV-09", "everything that a token stands on can be revoked", rvScopes},
	}
}

func rvForm(c *check) {
	token, agent := c.mailToken()
	c.want(c.ask("/revoke", agent, url.Values{}), 400, "invalid_request")
	c.want(c.post("/revoke", url.Values{"token": {token}}), 401, "invalid_client")
	if a := c.get("/revoke?token="+token, 0); a.status != http.StatusMethodNotAllowed {
		c.Errorf("GET: %d", a.status)
	}
	if !c.active(c.rs1, token) {
		c.Error("revoked nevertheless")
	}
	own := c.flow(c.person("alice"), "mail.read").set("resource", mail).token()
	c.ok(c.post("/revoke", url.Values{"token": {own}, "client_id": {"app"}}))
	if c.active(c.rs1, own) {
		c.Error("the public client's token is still active")
	}
}

func rvUnknown(c *check) {
	token, agent := c.mailToken()
	c.ok(c.ask("/revoke", agent, url.Values{"token": {token}}))
	answers := map[string]answer{"again": c.ask("/revoke", agent, url.Values{"token": {token}})}
	for what, tok := range map[string]string{"unknown": "x.y.z", "opaque": nonce(), "of a stranger": c.idp.token(c.env, "alice", "mail.read")} {
		answers[what] = c.ok(c.ask("/revoke", agent, url.Values{"token": {tok}}))
	}
	c.alike(answers)
}

func rvForeign(c *check) {
	token, _ := c.mailToken()
	c.want(c.ask("/revoke", c.agent(), url.Values{"token": {token}}), 400, "unauthorized_client")
	c.want(c.post("/revoke", url.Values{"token": {token}, "client_id": {"app"}}), 400, "unauthorized_client")
	if !c.active(c.rs1, token) {
		c.Error("it was revoked")
	}
	own := c.flow(c.person("alice"), "mail.read").set("resource", mail).token()
	c.want(c.post("/revoke", url.Values{"token": {own}, "client_id": {"app2"}}), 400, "unauthorized_client")
	if !c.active(c.rs1, own) {
		c.Error("the user's token was revoked")
	}
}

func rvHint(c *check) {
	for _, hint := range []string{"access_token", "refresh_token", "nonsense"} {
		token, agent := c.mailToken()
		c.ok(c.ask("/revoke", agent, url.Values{"token": {token}, "token_type_hint": {hint}}))
		if c.active(c.rs1, token) {
			c.Errorf("with the hint %s it is still active", hint)
		}
	}
}

func rvDerived(c *check) {
	own := c.ownToken(c.person("alice"), "mail.read")
	first := c.allowed("alice", c.te(c.agent(), own).at(desk, "mail.read"))
	session := c.ok(first.do()).token()
	onward := c.allowed("alice", c.te(first.who, session))
	child := c.ok(onward.do()).token()
	c.ok(c.post("/revoke", url.Values{"token": {own}, "client_id": {"app"}}))
	c.dead(c.rs1, session, "revoking the user's token")
	c.dead(c.rs1, child, "revoking the user's token")
	c.want(onward.do(), 400, "invalid_request")
}

func rvStore(c *check) {
	if c.redis == nil {
		// The live store is in the process: it is down when the server is, and nothing is answered at all.
		p := c.apart(nil)
		token, agent := p.mailToken()
		p.nodes[0].kill()
		if a, err := p.send(c.Context(), call{method: http.MethodPost, path: "/revoke", form: asserted(url.Values{"token": {token}}, agent.assertion(p.issuer))}); err == nil {
			c.Errorf("answered %d", a.status)
		}
		return
	}
	p := c.apart(hasty)
	token, agent := p.mailToken()
	p.redis.pause()
	p.want(p.ask("/revoke", agent, url.Values{"token": {token}}), 503, "temporarily_unavailable")
	p.redis.resume()
	p.eventually(time.Minute, "introspection", func() bool {
		a := p.ask("/introspect", p.rs1, url.Values{"token": {token}})
		return a.status == http.StatusOK && a.json["active"] == true
	})
	p.eventually(time.Minute, "revocation", func() bool {
		return p.ask("/revoke", agent, url.Values{"token": {token}}).status == http.StatusOK
	})
	p.dead(p.rs1, token, "revocation")
}

func rvRedeem(c *check) {
	token, agent := c.mailToken()
	c.ok(c.ask("/revoke", agent, url.Values{"token": {token}}))
	c.want(c.redeem(c.rs1, token, nonce()).do(), 410, "token_revoked")
}

func rvEverywhere(c *check) {
	for range 5 {
		token, agent := c.mailToken()
		form := asserted(url.Values{"token": {token}}, agent.assertion(c.issuer))
		c.ok(c.do(call{method: http.MethodPost, path: "/revoke", form: form, node: 1}))
		if c.activeAt(2, c.rs1, token) { // at once, not only within a second
			c.Error("active at the other process")
		}
		c.want(c.redeem(c.rs1, token, nonce()).node(2).do(), 410, "token_revoked")
	}
	c.sub("by a guard that follows", rvFollowed)
}

func rvScopes(c *check) {
	alice := c.newcomer()
	for what, stop := range map[string]func(c *check, j jwt){
		"token":       func(c *check, j jwt) { c.stop("token", j.str("jti")) },
		"transaction": func(c *check, j jwt) { c.stop("txn", j.str("txn")) },
		"grant":       func(c *check, j jwt) { c.stop("grant", c.consentOf(j.raw)) },
		"consent":     func(c *check, j jwt) { c.withdraw(j.str("sub"), c.consentOf(j.raw)) },
		"agent":       func(c *check, j jwt) { c.stop("agent", j.str("client_id")) },
		"user":        func(c *check, j jwt) { c.stop("user", j.str("sub")) },
		"client": func(c *check, j jwt) {
			ctx, _ := j.claims["tctx"].(obj)
			c.stop("client", fmt.Sprint(ctx["origin"]))
		},
	} {
		c.sub(what, func(c *check) {
			// The client is one of the case's own, since its stop reaches everybody who came through it.
			app := c.name("app")
			c.admin(http.MethodPut, "/clients/"+app, obj{
				"name": "App called " + app, "auth": "none", "redirect_uris": []string{redirect}, "grant_types": []string{"authorization_code"},
			})
			f := c.flow(alice, "mail.read").set("client_id", app)
			f.client = app
			x := c.te(c.agent(), f.token())
			c.allow(alice, x, limits{})
			token := c.ok(x.do()).token()
			if !c.active(c.rs1, token) {
				c.Fatal("not active before")
			}
			stop(c, c.decode(token))
			c.dead(c.rs1, token, what)
			c.want(c.redeem(c.rs1, token, nonce()).do(), 410, "token_revoked")
		})
	}
	c.sub("key", func(c *check) {
		p := c.apart(nil)
		token, _ := p.mailToken()
		kid, _ := p.decode(token).header["kid"].(string)
		p.admin(http.MethodPost, "/keys/rotate", obj{"algorithm": "ES256"})
		p.admin(http.MethodPost, "/keys/"+url.PathEscape(kid)+"/withdraw", obj{"why": "leaked"})
		p.dead(p.rs1, token, "withdrawing its key")
		if a := p.redeem(p.rs1, token, nonce()).do(); a.status != http.StatusGone {
			c.Errorf("redeemed: %d", a.status)
		}
	})
	c.sub("issuer", rvIssuer)
	c.sub("user and agent", func(c *check) {
		x := c.te(c.agent(), c.ownToken(alice, "mail.read mail.send"))
		c.allow(alice, x, limits{})
		y := x.but().set("scope", "mail.send")
		c.allow(alice, y, limits{})
		tokens := map[string]bool{c.ok(x.do()).token(): true, c.ok(y.do()).token(): true}
		c.stopAgentPage(alice, x.who.id)
		for tok := range maps.Keys(tokens) {
			c.dead(c.rs1, tok, "the user stopping the agent")
		}
	})
}

func clientCases() []testCase {
	return []testCase{
		{"CA-01", "an assertion is for the issuer and nobody else", caAudience},
		{"CA-02", "at every endpoint", caEndpoints},
		{"CA-03", "the issuer is compared character by character", func(c *check) {
			x := c.te(c.agent(), c.userToken("alice"))
			for _, aud := range []string{c.issuer + "/", strings.Replace(c.issuer, "http", "HTTP", 1), c.issuer + "?", " " + c.issuer} {
				c.want(x.but().assertion(x.who.assertion(c.issuer, obj{"aud": aud})).do(), 401, "invalid_client")
			}
		}},
		{"CA-04", "iss and sub are the client, and exp is there", caClaims},
		{"CA-05", "an assertion is used once, and ends soon", caOnce},
		{"CA-06", "typ may be missing, but not another's", caType},
		{"CA-07", "keys and algorithm are those of the client", caKeys},
		{"CA-08", "a secret works in the body, and cannot be guessed", caSecrets},
		{"CA-09", "an assertion that authenticates is no grant", func(c *check) {
			agent := c.agent()
			form := asserted(url.Values{
				"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {agent.assertion(c.issuer)},
			}, agent.assertion(c.issuer))
			c.want(c.post("/token", form), 400, "unsupported_grant_type")
		}},
		{"CA-10", "why authentication failed does not show", caAlike},
	}
}

func caAudience(c *check) {
	x := c.te(c.agent(), c.userToken("alice"))
	c.asks(x.but().assertion(x.who.assertion(c.issuer)))
	for _, aud := range []any{
		c.issuer + "/token", c.issuer + "/par",
		[]string{c.issuer, c.issuer + "/token"},
		[]string{c.issuer, "https://other.test"},
		"https://other.test", nil,
		[]string{},
		"",
		obj{"aud": c.issuer},
		x.who.id,
	} {
		c.want(x.but().assertion(x.who.assertion(c.issuer, obj{"aud": aud})).do(), 401, "invalid_client")
	}
}

func caEndpoints(c *check) {
	token, agent := c.mailToken()
	for path, form := range map[string]url.Values{
		"/par": c.flow(c.person("alice"), "mail.read").query, "/revoke": {"token": {token}}, "/introspect": {"token": {token}},
		"/redeem": {"token": {token}, "redemption_id": {nonce()}},
	} {
		by := c.rs1
		if path == "/revoke" {
			by = agent
		}
		for _, aud := range []any{c.issuer + path, c.issuer + "/token", []string{c.issuer, c.issuer + path}} {
			f := url.Values{}
			maps.Copy(f, form)
			f.Del("client_id")
			c.want(c.post(path, asserted(f, by.assertion(c.issuer, obj{"aud": aud}))), 401, "invalid_client")
		}
	}
	c.first(c.rs1, token)
}

func caClaims(c *check) {
	x := c.te(c.agent(), c.userToken("alice"))
	for what, changes := range map[string]obj{
		"another iss": {"iss": "another"}, "another sub": {"sub": "another"}, "no iss": {"iss": nil}, "no sub": {"sub": nil}, "no exp": {"exp": nil},
		"expired": {"exp": in(-120), "iat": in(-200)}, "exp as text": {"exp": "tomorrow"}, "not yet": {"nbf": in(120)},
	} {
		c.sub(what, func(c *check) {
			y := x.but()
			y.c = c
			c.want(y.assertion(x.who.assertion(c.issuer, changes)).do(), 401, "invalid_client")
		})
	}
	c.want(x.but().set("client_id", "another").do(), 401, "invalid_client")
	c.asks(x.but().set("client_id", x.who.id))
	c.want(x.but().set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer").set("client_assertion", x.who.assertion(c.issuer)).do(), 401, "invalid_client")
}

func caOnce(c *check) {
	x := c.baseline()
	used := x.who.assertion(c.issuer)
	c.ok(x.but().assertion(used).node(1).do())
	c.want(x.but().assertion(used).node(1).do(), 401, "invalid_client")
	c.want(x.but().assertion(used).node(2).do(), 401, "invalid_client")
	c.want(c.post("/introspect", asserted(url.Values{"token": {"x"}}, used)), 401, "invalid_client")
	for what, changes := range map[string]obj{
		"no jti": {"jti": nil}, "an empty jti": {"jti": ""}, "too long": {"exp": in(3600)}, "from the future": {"iat": in(90)},
	} {
		if a := x.but().assertion(x.who.assertion(c.issuer, changes)).do(); a.status != 401 {
			c.Errorf("%s: %d %s", what, a.status, a.code())
		}
	}
	c.ok(x.but().assertion(x.who.assertion(c.issuer, obj{"iat": in(5), "nbf": in(5)})).do())
	c.sub("a bad signature burns nothing", func(c *check) {
		claims := x.who.claims(c.issuer)
		forged := newKey("ES256").sign(obj{"kid": x.who.key.kid}, claims)
		y := x.but()
		y.c = c
		c.want(y.but().assertion(forged).do(), 401, "invalid_client")
		elsewhere := x.who.key.sign(nil, merge(claims, obj{"aud": "https://other.test"}))
		c.want(y.but().assertion(elsewhere).do(), 401, "invalid_client")
		c.ok(y.but().assertion(x.who.key.sign(nil, claims)).do())
	})
	c.sub("of a hundred copies one counts", func(c *check) {
		y := x.but()
		y.c = c
		y.assertion(x.who.assertion(c.issuer))
		won := 0
		for _, a := range c.together(100, func(int) call { return y.ready() }) {
			switch {
			case a.status == http.StatusOK:
				won++
			case a.status != http.StatusUnauthorized:
				c.Errorf("%d %s", a.status, a.body)
			}
		}
		if won != 1 {
			c.Errorf("%d of 100 counted", won)
		}
	})
}

func caType(c *check) {
	x := c.baseline()
	for _, typ := range []any{nil, "JWT", "jwt", "client-authentication+jwt"} {
		c.ok(x.but().assertion(x.who.key.sign(obj{"typ": typ}, x.who.claims(c.issuer))).do())
	}
	for _, typ := range []any{"at+jwt", "dpop+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "secevent+jwt", "txn-receipt+jwt", "token-introspection+jwt", 7} {
		c.want(x.but().assertion(x.who.key.sign(obj{"typ": typ}, x.who.claims(c.issuer))).do(), 401, "invalid_client")
	}
}

func caKeys(c *check) {
	x, other := c.te(c.agent(), c.userToken("alice")), c.agent()
	c.want(x.but().assertion(other.key.sign(nil, x.who.claims(c.issuer))).do(), 401, "invalid_client")
	c.want(x.but().assertion(other.key.sign(obj{"kid": x.who.key.kid}, x.who.claims(c.issuer))).do(), 401, "invalid_client")
	c.want(x.but().assertion(x.who.key.sign(obj{"kid": other.key.kid}, x.who.claims(c.issuer))).do(), 401, "invalid_client")
	c.want(x.but().assertion(x.who.key.sign(obj{"kid": strings.Repeat("k", 5000)}, x.who.claims(c.issuer))).do(), 401, "invalid_client")
	c.asks(x.but().assertion(x.who.key.sign(obj{"kid": nil}, x.who.claims(c.issuer)))) // the only key it has
	r := c.agentWith("PS256")
	y := c.te(r, c.userToken("alice"))
	c.want(y.but().assertion(r.key.sign(obj{"alg": "RS256"}, r.claims(c.issuer))).do(), 401, "invalid_client")
	c.asks(y.but())
	c.sub("two keys", func(c *check) {
		both := newClient(c.name("agent"), "ES256")
		second := newKey("EdDSA")
		c.register(both, obj{"jwks": jwksOf(both.key, second)})
		z := c.te(both, c.userToken("alice"))
		c.asks(z.but())
		c.asks(z.but().assertion(second.sign(nil, both.claims(c.issuer))))
		c.want(z.but().assertion(second.sign(obj{"kid": both.key.kid}, both.claims(c.issuer))).do(), 401, "invalid_client")
		c.want(z.but().assertion(second.sign(obj{"kid": nil}, both.claims(c.issuer))).do(), 401, "invalid_client")
	})
}

func caSecrets(c *check) {
	id := c.name("secretive")
	secret := c.admin(http.MethodPut, "/clients/"+id, obj{"name": "Secretive " + id, "auth": "client_secret_post"}).str("client_secret")
	c.secret(secret, "client secret")
	body := func(secret string) url.Values {
		return url.Values{"token": {"x"}, "client_id": {id}, "client_secret": {secret}}
	}
	c.ok(c.post("/introspect", body(secret)))
	c.ok(c.do(call{method: http.MethodPost, path: "/introspect", form: url.Values{"token": {"x"}}, header: basic(id, secret)}))
	limited := answer{}
	for range 25 {
		a := c.post("/introspect", body("wrong-"+nonce()))
		if a.status == http.StatusTooManyRequests {
			limited = a
			break
		}
		c.want(a, 401, "invalid_client")
	}
	if limited.header.Get("Retry-After") == "" {
		c.Errorf("guessing has no limit: %d %v", limited.status, limited.header)
	}
	if a := c.post("/introspect", body(secret)); a.status != http.StatusTooManyRequests {
		c.Errorf("the right secret after too many wrong ones: %d, which tells the guesser", a.status)
	}
	agent := newClient(c.name("agent"), "ES256")
	a := c.tryAdmin(http.MethodPut, "/agents/"+agent.id, c.registration(agent, obj{"auth": "client_secret_basic", "jwks": nil}))
	if a.status != http.StatusUnprocessableEntity {
		c.Errorf("an agent with a secret: %d %s", a.status, a.body)
	}
}

func caAlike(c *check) {
	x := c.te(c.agent(), c.userToken("alice"))
	used := x.who.assertion(c.issuer)
	c.asks(x.but().assertion(used))
	nobody := newClient(c.name("nobody"), "ES256")
	answers := map[string]answer{
		"unknown":      c.want(x.but().assertion(nobody.assertion(c.issuer)).do(), 401, "invalid_client"),
		"wrong key":    c.want(x.but().assertion(newKey("ES256").sign(obj{"kid": x.who.key.kid}, x.who.claims(c.issuer))).do(), 401, "invalid_client"),
		"expired":      c.want(x.but().assertion(x.who.assertion(c.issuer, obj{"exp": in(-120), "iat": in(-130)})).do(), 401, "invalid_client"),
		"replayed":     c.want(x.but().assertion(used).do(), 401, "invalid_client"),
		"for others":   c.want(x.but().assertion(x.who.assertion("https://other.test")).do(), 401, "invalid_client"),
		"no assertion": c.want(x.but().anonymous().set("client_id", x.who.id).do(), 401, "invalid_client"),
	}
	gone := c.agent()
	c.remove("/agents/" + gone.id)
	answers["removed"] = c.want(x.but().assertion(gone.assertion(c.issuer)).do(), 401, "invalid_client")
	c.alike(answers)
}
