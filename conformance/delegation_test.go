package conformance_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

func inputCases() []testCase {
	return []testCase{
		{"TX-23", "a token must be of the type it is declared as", txDeclared},
		{"TX-24", "an access token is one of this server", txForeignAccess},
		{"TX-25", "signature, issuer, times, type and revocation are checked, and all read alike", txChecked},
		{"TX-26", "holding a token is not enough to exchange it", txEntitled},
		{"TX-27", "a resource server may exchange what was sent to it, no other", txServer},
		{"TX-28", "an ID token is for the client it was issued to", txIDToken},
		{"TX-29", "a refresh token is no subject token", func(c *check) {
			c.want(c.baseline().set("subject_token_type", tokenType+"refresh_token").do(), 400, "invalid_request")
		}},
		{"TX-30", "a one-transaction token is no subject token", txSpentSubject},
		{"TX-31", "an actor token is not delegated", func(c *check) {
			x := c.baseline().actor(obj{"act": obj{"iss": c.issuer, "sub": "somebody"}})
			c.want(x.do(), 400, "invalid_request")
		}},
		{"TX-32", "the actor token names the client that sends it", txActorLinked},
		{"TX-33", "a bound actor token wants a proof", txBoundActor},
		{"TX-34", "subject and actor are not the same token", func(c *check) {
			x := c.baseline()
			c.want(x.set("actor_token", x.form.Get("subject_token")).set("actor_token_type", accessToken).do(), 400, "invalid_request")
		}},
		{"TX-35", "an exchange leaves its inputs as they are", txReusable},
		{"TX-36", "what ends the source ends what was derived", txCascade},
		{"TX-37", "the token outlives none of its sources", txLifetime},
	}
}

func txDeclared(c *check) {
	base := c.baseline()
	idp := c.foreign(base.who, c.idp.token(c.env, "alice", "mail.read"))
	c.ok(idp.but().do())
	c.alike(map[string]answer{
		"an access token as ID token": c.want(base.but().set("subject_token_type", idToken).do(), 400, "invalid_request"),
		"an access token as JWT":      c.want(base.but().set("subject_token_type", jwtType).do(), 400, "invalid_request"),
		"a JWT as access token":       c.want(idp.but().set("subject_token_type", accessToken).do(), 400, "invalid_request"),
		"an opaque token as JWT":      c.want(base.but().set("subject_token", "rt_opaque").set("subject_token_type", jwtType).do(), 400, "invalid_request"),
		"saml":                        c.want(base.but().set("subject_token_type", tokenType+"saml2").do(), 400, "invalid_request"),
		"an unknown type":             c.want(base.but().set("subject_token_type", "urn:example:x").do(), 400, "invalid_request"),
	})
}

func txForeignAccess(c *check) {
	agent := c.agent()
	claims := c.idp.claims(c.env, "alice", "mail.read")
	for _, tok := range []string{
		c.idp.key.sign(obj{"typ": "at+jwt"}, claims),
		c.idp.key.sign(obj{"typ": "at+jwt"}, merge(claims, obj{"iss": c.issuer})),
		newKey("ES256").sign(obj{"typ": "at+jwt"}, merge(claims, obj{"iss": c.issuer, "client_id": "app"})),
	} {
		c.want(c.te(agent, tok).do(), 400, "invalid_request")
	}
}

// broken are a token's variants that no longer verify.
func broken(token string) map[string]string {
	parts := strings.Split(token, ".")
	flip := func(s string) string {
		b := []byte(s)
		i := len(b) / 2
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		return string(b)
	}
	return map[string]string{
		"signature changed":  parts[0] + "." + parts[1] + "." + flip(parts[2]),
		"payload changed":    parts[0] + "." + flip(parts[1]) + "." + parts[2],
		"header changed":     flip(parts[0]) + "." + parts[1] + "." + parts[2],
		"signature missing":  parts[0] + "." + parts[1] + ".",
		"cut off":            token[:len(token)-10],
		"an empty signature": parts[0] + "." + parts[1],
	}
}

func txChecked(c *check) {
	agent := c.agent()
	answers := map[string]answer{}
	for what, tok := range broken(c.userToken("alice")) {
		answers[what] = c.want(c.te(agent, tok).do(), 400, "invalid_request")
	}
	for what, changes := range map[string]obj{
		"expired": {"exp": in(-120), "iat": in(-200)}, "not yet": {"nbf": in(300)}, "of another issuer": {"iss": "https://other.test"},
		"of nobody": {"iss": nil}, "for somebody else": {"aud": "https://other.test"}, "without end": {"exp": nil}, "without user": {"sub": nil},
		"for another user of the issuer's": {"iss": c.idp.issuer + "/"},
	} {
		answers[what] = c.want(c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", changes)).do(), 400, "invalid_request")
	}
	for _, typ := range []string{"at+jwt", "dpop+jwt", "secevent+jwt", "application/at+jwt"} {
		tok := c.idp.key.sign(obj{"typ": typ}, c.idp.claims(c.env, "alice", "mail.read"))
		answers["typ "+typ] = c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
	}
	revoked := c.ownToken(c.person("alice"), "mail.read")
	c.ok(c.post("/revoke", url.Values{"token": {revoked}, "client_id": {"app"}}))
	answers["revoked"] = c.want(c.te(agent, revoked).do(), 400, "invalid_request")
	c.sub("expired, of this server", func(c *check) {
		x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(blink, "mail.read"))
		short := c.ok(x.do()).token()
		c.outlive(short)
		answers["expired, of this server"] = c.want(c.te(x.who, short).do(), 400, "invalid_request")
	})
	c.alike(answers)

	base := c.baseline()
	actors := map[string]answer{}
	for what, changes := range map[string]obj{
		"expired": {"exp": in(-120), "iat": in(-200)}, "not yet": {"nbf": in(300)}, "of somebody else": {"iss": "https://other.test"},
		"for somebody else": {"aud": "https://other.test"}, "without end": {"exp": nil}, "names another": {"sub": "another"},
	} {
		actors[what] = c.want(base.but().actor(changes).do(), 400, "invalid_request")
	}
	for what, tok := range broken(base.who.assertion(c.issuer)) {
		actors[what] = c.want(base.but().set("actor_token", tok).set("actor_token_type", jwtType).do(), 400, "invalid_request")
	}
	c.alike(actors)
}

func txEntitled(c *check) {
	user := c.userToken("alice")
	a, b := c.agent(), c.agent()
	x := c.allowed("alice", c.te(a, user).at(notes, "notes.read"))
	delegated := c.ok(x.do()).token()
	c.alike(map[string]answer{
		"delegated to another agent": c.want(c.te(b, delegated).at(notes, "notes.read").do(), 400, "invalid_request"),
		"no token at all":            c.want(c.te(b, "x.y.z").at(notes, "notes.read").do(), 400, "invalid_request"),
	})
	c.sub("consent to one agent is none to another, and does not show", func(c *check) {
		with := c.want(c.te(b, user).at(notes, "notes.read").do(), 400, "interaction_required")
		without := c.want(c.te(c.agent(), c.userToken("bob")).at(notes, "notes.read").do(), 400, "interaction_required")
		if !slices.Equal(slices.Sorted(maps.Keys(with.json)), slices.Sorted(maps.Keys(without.json))) ||
			with.str("error_description") != without.str("error_description") {
			c.Errorf("%s and %s can be told apart", with.body, without.body)
		}
	})
}

// hub registers a resource that an agent serves, and that agent.
func (c *check) hub(redemption string) (uri string, server *client) {
	c.Helper()
	server = c.agent()
	id := c.name("hub")
	uri = "https://" + id + ".test"
	c.admin(http.MethodPut, "/resources/"+id, obj{
		"uri": uri, "scopes": obj{"mail.read": "Read", "mail.send": "Send"}, "redemption": redemption, "servers": []string{server.id},
	})
	return uri, server
}

// serving is a ceiling that has one more resource.
func serving(uri string) obj {
	ceiling := wide()
	id, _, _ := strings.Cut(strings.TrimPrefix(uri, "https://"), ".")
	ceiling["resources"] = append(ceiling["resources"].([]string), id)
	return obj{"ceiling": ceiling}
}

func txServer(c *check) {
	uri, server := c.hub("none")
	sent := c.ok(c.allowed("alice", c.te(c.agent(serving(uri)), c.userToken("alice")).at(uri, "mail.read mail.send")).do()).token()
	onward := c.te(server, sent)
	c.allow(c.person("alice"), onward, limits{})
	j := c.decode(c.ok(onward.do()).token())
	if act, _ := j.claims["act"].(obj); act["sub"] != server.id || act["act"] == nil {
		c.Errorf("act is %v", j.claims["act"])
	}
	_, other := c.hub("none")
	c.want(c.te(other, sent).do(), 400, "invalid_request")
}

func txIDToken(c *check) {
	agent := c.agent()
	id := func(changes obj) *exchange {
		return c.te(agent, c.idp.token(c.env, "alice", "", obj{"scope": nil, "aud": agent.id}, changes)).set("subject_token_type", idToken)
	}
	c.ok(c.allowed("alice", id(nil)).do())
	c.want(id(obj{"aud": "app"}).do(), 400, "invalid_request")
	c.want(id(obj{"aud": c.agent().id}).do(), 400, "invalid_request")
	c.want(id(obj{"iss": "https://other.test"}).do(), 400, "invalid_request")
	c.want(id(nil).set("subject_token_type", jwtType).do(), 400, "invalid_request")
}

func txSpentSubject(c *check) {
	token, agent := c.mailToken()
	c.want(c.te(agent, token).do(), 400, "invalid_request")
	c.want(c.te(agent, token).at(files, "files.read").do(), 400, "invalid_request")
	c.want(c.te(c.agent(), token).do(), 400, "invalid_request")
	c.first(c.rs1, token) // it was not touched
	c.want(c.te(agent, token).do(), 400, "invalid_request")
}

func txActorLinked(c *check) {
	base, other := c.baseline(), c.agent()
	c.want(base.but().set("actor_token", other.assertion(c.issuer)).set("actor_token_type", jwtType).do(), 400, "invalid_request")
	forged := base.who.key.sign(obj{"typ": "JWT"}, other.claims(c.issuer))
	c.want(base.but().set("actor_token", forged).set("actor_token_type", jwtType).do(), 400, "invalid_request")
	c.ok(base.but().actor().do())
}

func txBoundActor(c *check) {
	k := newKey("ES256")
	base := c.baseline()
	bound := obj{"cnf": obj{"jkt": k.thumbprint()}}
	c.want(base.but().actor(bound).do(), 400, "invalid_dpop_proof")
	c.want(base.but().actor(bound).proof(newKey("ES256")).do(), 400, "invalid_dpop_proof")
	c.ok(base.but().actor(bound).proof(k).do())
}

func txReusable(c *check) {
	own := c.flow(c.person("alice"), "mail.read").set("resource", mail).token()
	x := c.allowed("alice", c.te(c.agent(), own))
	c.ok(x.do())
	c.ok(x.do())
	if !c.active(c.rs1, own) {
		c.Error("the subject token is not active any more")
	}
}

func txCascade(c *check) {
	for what, end := range map[string]func(c *check, x *exchange, token string){
		"the consent is withdrawn": func(c *check, _ *exchange, token string) { c.withdraw("alice", c.consentOf(token)) },
		"the agent is suspended":   func(c *check, x *exchange, _ string) { c.suspended(x.who) },
		"the agent is removed":     func(c *check, x *exchange, _ string) { c.remove("/agents/" + x.who.id) },
		"the subject token is revoked": func(c *check, x *exchange, _ string) {
			c.ok(c.post("/revoke", url.Values{"token": {x.form.Get("subject_token")}, "client_id": {"app"}}))
		},
	} {
		c.sub(what, func(c *check) {
			x := c.allowed("alice", c.te(c.agent(), c.ownToken(c.person("alice"), "mail.read notes.read")))
			once, again := c.ok(x.do()).token(), c.ok(x.do()).token()
			if !c.active(c.rs1, once) || !c.active(c.rs1, again) {
				c.Fatal("not active before")
			}
			end(c, x, once)
			c.dead(c.rs1, once, what)
			c.dead(c.rs1, again, what)
			if a := c.redeem(c.rs1, once, nonce()).do(); a.status != http.StatusGone {
				c.Errorf("redeemed: %d %s", a.status, a.code())
			}
			if a := x.do(); a.status == http.StatusOK {
				c.Error("and a new one was issued")
			}
		})
	}
}

// consentOf is the grant that a token was issued under.
func (c *check) consentOf(token string) string {
	c.Helper()
	ctx, _ := c.decode(token).claims["tctx"].(obj)
	id, _ := ctx["consent"].(string)
	if id == "" {
		c.Fatal("the token does not say which consent it is from")
	}
	return id
}

// remove takes something out of the registry.
func (c *check) remove(path string) {
	c.Helper()
	a := c.do(call{method: http.MethodDelete, path: "/admin/v1" + path, header: http.Header{
		"Authorization": {"Bearer " + c.operator}, "If-Match": {"*"},
	}})
	if a.status != http.StatusNoContent {
		c.Fatalf("remove %s: %d %s", path, a.status, a.body)
	}
}

func txLifetime(c *check) {
	base := c.baseline()
	within := func(what string, x *exchange, seconds int64) {
		c.Helper()
		latest := in(seconds)
		if exp := c.decode(c.ok(x.do()).token()).num("exp"); exp > latest {
			c.Errorf("%s: the token outlives it by %d s", what, exp-latest)
		}
	}
	lives := func(what string, x *exchange, seconds int64) {
		c.Helper()
		if j := c.decode(c.ok(x.do()).token()); j.num("exp")-j.num("iat") > seconds {
			c.Errorf("%s: the token lives for %d s", what, j.num("exp")-j.num("iat"))
		}
	}
	within("the subject token", c.foreign(base.who, c.idp.token(c.env, "alice", "mail.read", obj{"exp": in(30)})), 30)
	within("the actor token", base.but().actor(obj{"exp": in(34)}), 34)
	within("the assertion", base.but().assertion(base.who.assertion(c.issuer, obj{"exp": in(38)})), 38)
	lives("the resource's lifetime", c.allowed("alice", base.but().at(brief, "brief.read")), shortLifetime)
	ceiling := wide()
	ceiling["lifetime"] = "20s"
	lives("the agent's ceiling", c.allowed("alice", c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice"))), 20)
	expires := time.Now().Add(45 * time.Second).UTC().Format(time.RFC3339)
	within("the agent's registration", c.allowed("alice", c.te(c.agent(obj{"expires": expires}), c.userToken("alice"))), 45)
}

func chainCases() []testCase {
	return []testCase{
		{"TX-38", "an agent never gets a token without act", txNoImpersonation},
		{"TX-39", "act names the agent, with its issuer", txAct},
		{"TX-40", "in act only identity counts", txActMembers},
		{"TX-41", "only the outermost actor decides", txOutermost},
		{"TX-42", "the inbound chain stays whole beneath the new actor", txChain},
		{"TX-43", "a chain that cannot be kept is refused", txDepth},
		{"TX-44", "introspection tells the chain", txIntrospectedAct},
		{"TX-45", "nobody delegates to itself", func(c *check) {
			agent := c.agent()
			c.want(c.foreign(agent, c.idp.token(c.env, agent.id, "mail.read")).do(), 400, "invalid_request")
			c.want(c.te(agent, agent.assertion(c.issuer)).set("subject_token_type", jwtType).do(), 400, "invalid_request")
		}},
		{"TX-46", "may_act names who may", txMayAct},
		{"TX-47", "may_act is no consent and is not passed on", txMayActOnly},
		{"TX-48", "tokens of unrelated delegations do not combine", txSplice},
	}
}

func txNoImpersonation(c *check) {
	base := c.baseline()
	for _, x := range []*exchange{base.but(), base.but().actor(), c.foreign(base.who, c.idp.token(c.env, "alice", "mail.read"))} {
		if c.decode(c.ok(x.do()).token()).claims["act"] == nil {
			c.Error("a token without act")
		}
	}
}

func txAct(c *check) {
	x := c.baseline()
	j := c.decode(c.ok(x.do()).token())
	act, _ := j.claims["act"].(obj)
	if act["sub"] != x.who.id || act["iss"] != c.issuer || act["act"] != nil {
		c.Errorf("act is %v", j.claims["act"])
	}
	if j.str("sub") != "alice" {
		c.Errorf("sub is %q", j.str("sub"))
	}
}

func txActMembers(c *check) {
	x := c.baseline()
	act, _ := c.decode(c.ok(x.do()).token()).claims["act"].(obj)
	for name := range act {
		if name != "iss" && name != "sub" && name != "sub_profile" && name != "act" {
			c.Errorf("act has the member %s", name)
		}
	}
	inner := obj{
		"iss": "https://elsewhere.test", "sub": "tool", "exp": in(-1000), "nbf": in(1000), "aud": "nobody",
		"cnf": obj{"jkt": newKey("ES256").thumbprint()},
	}
	a := c.ok(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"act": inner})).do())
	if j := c.decode(a.token()); j.claims["cnf"] != nil || a.str("token_type") != "Bearer" {
		c.Errorf("cnf of an actor became that of the token: %s", j.body)
	}
}

func txOutermost(c *check) {
	// The guardrail of the suite forbids agents called outcast-… as the actor.
	outcast := newClient(c.name("outcast"), "ES256")
	c.register(outcast, obj{"labels": obj{"standing": "outcast"}})
	x := c.te(outcast, c.userToken("alice"))
	c.allow(c.person("alice"), x, limits{})
	c.want(x.do(), 400, "actor_unauthorized")
	agent := c.agent()
	nested := obj{"act": obj{"iss": c.issuer, "sub": outcast.id, "sub_profile": "ai_agent"}}
	c.ok(c.allowed("alice", c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", nested))).do())
}

func txChain(c *check) {
	b := c.agent()
	a := c.agent(obj{"delegates_to": []string{b.id}})
	session := c.ok(c.allowed("alice", c.te(a, c.userToken("alice")).at(desk, "mail.read")).do()).token()
	j := c.decode(c.ok(c.allowed("alice", c.te(b, session)).do()).token())
	outer, _ := j.claims["act"].(obj)
	inner, _ := outer["act"].(obj)
	if outer["sub"] != b.id || inner["sub"] != a.id || inner["act"] != nil {
		c.Errorf("act is %v", j.claims["act"])
	}
	c.sub("byte for byte", func(c *check) {
		chain := `{"sub":"z\u00e9ro","iss":"https://elsewhere.test","zz":[1.50,{"b":1,"a":"x<y"}],"act":{"iss":"https://elsewhere.test","sub":"one"}}`
		claims := mustJSON(c.idp.claims(c.env, "alice", "mail.read"))
		payload := append(bytes.TrimSuffix(claims, []byte("}")), []byte(`,"act":`+chain+`}`)...)
		tok := c.idp.key.signRaw("ES256", mustJSON(obj{"alg": "ES256", "typ": "JWT", "kid": c.idp.key.kid}), payload)
		j := c.decode(c.ok(c.allowed("alice", c.foreign(c.agent(), tok)).do()).token())
		if !bytes.Contains(j.body, []byte(`"act":`+chain)) {
			c.Errorf("the chain was changed: %s", j.body)
		}
	})
}

// nest makes a chain of so many actors.
func nest(links int) obj {
	var act obj
	for i := range links {
		next := obj{"iss": "https://elsewhere.test", "sub": fmt.Sprint("actor", i)}
		if act != nil {
			next["act"] = act
		}
		act = next
	}
	return act
}

func txDepth(c *check) {
	x := c.baseline()
	with := func(act any) *exchange {
		return c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"act": act}))
	}
	c.ok(with(nest(3)).do()) // the limit is 4, with the agent itself
	for _, act := range []any{
		nest(4), nest(17),
		[]obj{nest(1)},
		"agent",
		obj{"sub": "x"},
		obj{"iss": "https://elsewhere.test"},
		obj{},
		obj{"iss": "https://elsewhere.test", "sub": "x", "act": "y"},
		obj{"iss": "https://elsewhere.test", "sub": 7},
	} {
		c.want(with(act).do(), 400, "invalid_request")
	}
	ceiling := wide()
	ceiling["depth"] = 1
	shallow := c.allowed("alice", c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice")))
	c.ok(shallow.do())
	c.want(c.foreign(shallow.who, c.idp.token(c.env, "alice", "mail.read", obj{"act": nest(1)})).do(), 400, "invalid_request")
	c.sub("no agent twice", func(c *check) {
		again := obj{"iss": "https://elsewhere.test", "sub": "between", "act": obj{"iss": c.issuer, "sub": x.who.id}}
		c.want(with(again).do(), 400, "invalid_request")
	})
}

func txIntrospectedAct(c *check) {
	x := c.baseline()
	tok := c.ok(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"act": nest(2)})).do()).token()
	if told, issued := mustJSON(c.introspect(c.rs1, tok).json["act"]), mustJSON(c.decode(tok).claims["act"]); !bytes.Equal(told, issued) {
		c.Errorf("told %s, token %s", told, issued)
	}
}

func txMayAct(c *check) {
	x := c.baseline()
	with := func(may any) *exchange {
		return c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"may_act": may}))
	}
	c.ok(with(obj{"sub": x.who.id, "iss": c.issuer}).do())
	c.ok(with(obj{"sub": x.who.id, "exp": in(-1000)}).do())
	for _, may := range []any{
		obj{"sub": "another", "iss": c.issuer}, obj{"sub": x.who.id, "iss": "https://other.test"}, obj{}, "agent", []string{x.who.id},
	} {
		c.want(with(may).do(), 400, "invalid_request")
	}
}

func txMayActOnly(c *check) {
	agent := c.agent()
	x := c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", obj{"may_act": obj{"sub": agent.id, "iss": c.issuer}}))
	c.allow(c.person("alice"), x, limits{}) // which it needed
	if c.decode(c.ok(x.do()).token()).claims["may_act"] != nil {
		c.Error("may_act was passed on")
	}
}

func txSplice(c *check) {
	a, stranger := c.agent(), c.agent()
	session := c.ok(c.allowed("alice", c.te(a, c.userToken("alice")).at(desk, "mail.read")).do()).token()
	c.allowed("alice", c.te(stranger, c.userToken("alice"))) // a consent of its own does not help
	c.alike(map[string]answer{
		"without actor token": c.want(c.te(stranger, session).do(), 400, "invalid_request"),
		"with its own":        c.want(c.te(stranger, session).actor().do(), 400, "invalid_request"),
	})
	c.want(c.te(stranger, session).set("actor_token", a.assertion(c.issuer)).set("actor_token_type", jwtType).do(), 400, "invalid_request")
}
