package conformance_test

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"obolus/resource"
)

func actorCases() []testCase {
	return []testCase{
		{"ACT-01", "each actor has a name and who gave it", actNamed},
		{"ACT-02", "an actor of ours says what it is, another's stays what it was", actProfile},
		{"ACT-03", "a client is an actor because it is registered as one", actInferred},
		{"ACT-04", "the chain of the token to be has a limit", actDepth},
		{"ACT-05", "a new actor goes around the chain, the same one leaves it, and nobody gives none", actCarried},
		{"ACT-06", "who acted before decides nothing", actPrior},
		{"ACT-08", "the key stays, or is that of the new actor", actPresenter},
		{"ACT-09", "what is bound to nothing has nothing to go on with", actContinued},
		{"ACT-10", "a key within act is nobody's", actInnerKey},
		{"ACT-12", "the user stays the same, and scope only shrinks, and says so", actOutput},
		{"ACT-13", "introspection tells the whole chain, or nothing", actIntrospected},
		{"ACT-14", "of a token that was stopped nothing is told", actStopped},
		{"ACT-16", "nothing is announced that the exchange does otherwise", actAnnounced},
		{"ACT-17", "an actor without an issuer is refused, and gets none from us", actMigrated},
	}
}

// chainIn takes the claim act apart, outermost first.
func chainIn(act any) []obj {
	var chain []obj
	for one, ok := act.(obj); ok; one, ok = one["act"].(obj) {
		chain = append(chain, one)
	}
	return chain
}

// acting gives a token of the foreign issuer with a chain, to be exchanged by an agent.
func (c *check) acting(agent *client, act any) *exchange {
	c.Helper()
	return c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", obj{"act": act}))
}

// elsewhere is an actor of somebody else.
func elsewhere(sub string, more ...obj) obj {
	return merge(obj{"iss": "https://elsewhere.test", "sub": sub}, more...)
}

// toInternal is the transaction token for a one-transaction token of the mail server.
func (c *check) toInternal(token string) jwt {
	c.Helper()
	return c.decode(c.ok(c.do(c.exchanged(c.rs1, token, nonce()))).token())
}

func actNamed(c *check) {
	x := c.baseline()
	mine := func(who string) obj { return obj{"iss": c.issuer, "sub": who} }
	token := c.ok(c.acting(x.who, elsewhere("tool")).do()).token()
	for what, h := range map[string]struct {
		act  any
		want []obj
	}{
		"one actor":           {c.decode(c.ok(x.do()).token()).claims["act"], []obj{mine(x.who.id)}},
		"around another's":    {c.decode(token).claims["act"], []obj{mine(x.who.id), elsewhere("tool")}},
		"introspected":        {c.introspect(c.rs1, token).json["act"], []obj{mine(x.who.id), elsewhere("tool")}},
		"a transaction token": {c.toInternal(token).claims["act"], []obj{mine("rs1"), mine(x.who.id), elsewhere("tool")}},
	} {
		var got []obj
		for _, a := range chainIn(h.act) {
			got = append(got, obj{"iss": a["iss"], "sub": a["sub"]})
		}
		if !bytes.Equal(mustJSON(got), mustJSON(h.want)) {
			c.Errorf("%s: %s, want %s", what, mustJSON(got), mustJSON(h.want))
		}
	}
}

func actProfile(c *check) {
	rule := reading()
	rule.Chain = actors
	g := c.guarded(mail, map[string]resource.Rule{"POST " + readPath: rule})
	x := c.baseline()
	for what, h := range map[string]struct {
		inner  obj
		status int
	}{
		"unclassified": {elsewhere("tool"), 403}, "an agent": {elsewhere("tool", obj{"sub_profile": "ai_agent"}), 200}, "a service": {elsewhere("tool", obj{"sub_profile": "service"}), 403},
	} {
		token := c.ok(c.acting(x.who, h.inner).do()).token()
		chain := chainIn(c.decode(token).claims["act"])
		if len(chain) != 2 || chain[0]["sub_profile"] != "ai_agent" || !bytes.Equal(mustJSON(chain[1]), mustJSON(h.inner)) {
			c.Errorf("%s: act is %s", what, mustJSON(chain))
		}
		code := map[int]string{403: "actor_unauthorized"}[h.status]
		g.want(what, g.post(readPath, nil).bearer(token).do(), h.status, code, token, map[int]int{200: 1}[h.status])
	}
	spent, _ := c.mailToken()
	if chain := chainIn(c.toInternal(spent).claims["act"]); len(chain) != 2 || chain[0]["sub_profile"] != "service" {
		c.Errorf("act is %s", mustJSON(chain))
	}
}

func actInferred(c *check) {
	x, other := c.baseline(), c.agent()
	c.want(c.te(c.rs1, c.userToken("alice")).do(), 400, "unauthorized_client") // a client, and no agent
	c.want(c.te(c.rs1, c.userToken("alice")).actor().do(), 400, "unauthorized_client")
	c.want(x.but().anonymous().set("client_id", "app").do(), 400, "unauthorized_client") // the client that the token was issued to
	for what, changes := range map[string]obj{
		"client_id": {"client_id": other.id}, "azp": {"azp": other.id}, "both": {"client_id": other.id, "azp": other.id}, "its own": {"client_id": x.who.id, "azp": x.who.id},
	} {
		chain := chainIn(c.decode(c.ok(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", changes)).do()).token()).claims["act"])
		if len(chain) != 1 || chain[0]["sub"] != x.who.id {
			c.Errorf("%s: act is %s", what, mustJSON(chain))
		}
	}
	if chain := chainIn(c.decode(c.ok(x.do()).token()).claims["act"]); len(chain) != 1 { // its subject token says client_id app
		c.Errorf("act is %s", mustJSON(chain))
	}
	if a := x.but().set("client_id", other.id).do(); a.status != 401 || a.code() != "invalid_client" {
		c.Errorf("as another: %d %s", a.status, a.body)
	}
	c.want(x.but().set("actor_token", other.assertion(c.issuer)).set("actor_token_type", jwtType).do(), 400, "invalid_request")
	nobody := newClient(c.name("agent"), "ES256")
	c.want(c.te(nobody, c.userToken("alice")).do(), 401, "invalid_client")
}

func actDepth(c *check) {
	end := c.agent()
	last := c.agent(obj{"delegates_to": []string{end.id}})
	first := c.agent(obj{"delegates_to": []string{last.id}})
	hop := func(x *exchange) *exchange { return x.at(desk, "mail.read") }
	three := c.ok(c.allowed("alice", hop(c.acting(first, nest(2)))).do()).token()
	four := c.ok(c.allowed("alice", hop(c.te(last, three))).do()).token()
	if n := len(chainIn(c.decode(four).claims["act"])); n != 4 {
		c.Errorf("a chain of %d", n)
	}
	if a := c.want(hop(c.te(end, four)).do(), 400, "invalid_request"); a.str("reason") != "chain_too_deep" {
		c.Errorf("five: %s", a.body)
	}
	c.ok(hop(c.te(last, four)).do()) // nobody comes to it
}

func actCarried(c *check) {
	b := c.agent()
	a := c.agent(obj{"delegates_to": []string{b.id}})
	act := func(token string) any { return c.decode(token).claims["act"] }
	own := c.userToken("alice")
	if act(own) != nil || c.introspect(c.rs1, c.flow(c.person("alice"), "mail.read").set("resource", mail).token()).json["act"] != nil {
		c.Error("the user's own token has an actor")
	}
	one := c.ok(c.allowed("alice", c.te(a, own).at(desk, "mail.read")).do()).token()
	same := c.ok(c.allowed("alice", c.te(a, one)).do()).token()
	if !bytes.Equal(mustJSON(act(same)), mustJSON(act(one))) {
		c.Errorf("the same actor: %s became %s", mustJSON(act(one)), mustJSON(act(same)))
	}
	two := c.ok(c.allowed("alice", c.te(b, one)).do()).token()
	outer, _ := act(two).(obj)
	if outer["sub"] != b.id || !bytes.Equal(mustJSON(outer["act"]), mustJSON(act(one))) {
		c.Errorf("another: %s became %s", mustJSON(act(one)), mustJSON(act(two)))
	}
	server := c.toInternal(two)
	if outer, _ := server.claims["act"].(obj); outer["sub"] != "rs1" || !bytes.Equal(mustJSON(outer["act"]), mustJSON(act(two))) {
		c.Errorf("the resource server: %s", server.body)
	}
	for what, bad := range map[string]any{"a word": "agent", "a list": []obj{nest(1)}, "too deep": nest(4), "nobody": obj{}} {
		if a := c.acting(a, bad).do(); a.status != 400 || a.code() != "invalid_request" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func actPrior(c *check) {
	// The guardrail of the suite forbids outcasts to act. That one acted before is another matter: only who signed the token says so.
	outcast, stopped := c.agent(obj{"labels": obj{"standing": "outcast"}}), c.agent()
	c.suspended(stopped)
	x := c.baseline()
	for _, before := range []string{outcast.id, stopped.id, c.name("nobody")} {
		inner := elsewhere("tool", obj{"act": obj{"iss": c.issuer, "sub": before, "sub_profile": "ai_agent"}})
		c.ok(c.acting(x.who, inner).do())
	}
	// Nor does a name in the chain give anything: neither its consent nor its right to hand on.
	trusted, hand := c.baseline(), c.agent()
	named := obj{"iss": c.issuer, "sub": trusted.who.id, "sub_profile": "ai_agent"}
	c.asks(c.acting(hand, named))
	c.want(c.foreign(hand, c.idp.key.sign(obj{"typ": "JWT"}, merge(c.idp.claims(c.env, "alice", "mail.read"), obj{"iss": c.issuer, "act": named}))).do(), 400, "invalid_request")
}

func actPresenter(c *check) {
	subject, actor, other := newKey("ES256"), newKey("ES256"), newKey("ES256")
	x := c.te(c.agent(), c.boundToken(subject, "mail.read"))
	c.allow(c.person("alice"), x.but().proof(subject), limits{})
	as := func(k *key) *exchange { return x.but().actor(obj{"cnf": obj{"jkt": k.thumbprint()}}) }
	for what, h := range map[string]struct {
		x    *exchange
		want *key
	}{
		"continued": {x.but().proof(subject), subject}, "rebound": {as(actor).proof(actor), actor}, "rebound to the same": {as(subject).proof(subject), subject},
		"rebound by the credential": {x.but().actor().proof(other), other},
	} {
		if got := c.keyOf(c.ok(h.x.do()).token()); got != h.want.thumbprint() {
			c.Errorf("%s: bound to %q", what, got)
		}
	}
	for what, y := range map[string]*exchange{
		"continued by another": x.but().proof(other), "continued by nobody": x.but(), "rebound by the old key": as(actor).proof(subject), "rebound by another": as(actor).proof(other),
		"rebound by nobody": as(actor), "rebound by the credential of nobody": x.but().actor(),
	} {
		if a := y.do(); a.status != 400 || a.code() != "invalid_dpop_proof" || a.token() != "" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func actContinued(c *check) {
	x, k := c.baseline(), newKey("ES256")
	id := c.te(x.who, c.idp.token(c.env, "alice", "", obj{"scope": nil, "aud": x.who.id})).set("subject_token_type", idToken)
	for what, y := range map[string]*exchange{"a free access token": x.but(), "another's JWT": c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read")), "an ID token": id} {
		free, bound := c.ok(y.but().do()), c.ok(y.but().proof(k).do())
		if free.str("token_type") != "Bearer" || c.keyOf(free.token()) != "" {
			c.Errorf("%s is bound by itself: %s", what, free.body)
		}
		if c.keyOf(bound.token()) != k.thumbprint() {
			c.Errorf("%s, with a proof: bound to %q", what, c.keyOf(bound.token()))
		}
		for _, a := range []answer{free, bound} { // it is a new actor that presents it
			if chain := chainIn(c.decode(a.token()).claims["act"]); len(chain) != 1 || chain[0]["sub"] != x.who.id {
				c.Errorf("%s: act is %s", what, mustJSON(chain))
			}
		}
	}
	cnf := obj{"cnf": obj{"jkt": k.thumbprint()}}
	for what, y := range map[string]*exchange{
		"another's JWT that says it is bound": c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", cnf)),
		"an ID token that says it is bound":   c.te(x.who, c.idp.token(c.env, "alice", "", obj{"scope": nil, "aud": x.who.id}, cnf)).set("subject_token_type", idToken),
		"a refresh token":                     x.but().set("subject_token", "rt_"+nonce()).set("subject_token_type", tokenType+"refresh_token"),
	} {
		for _, y := range []*exchange{y.but(), y.but().proof(newKey("ES256"))} {
			if a := y.do(); a.status != 400 || a.code() != "invalid_request" && a.code() != "invalid_dpop_proof" || a.token() != "" {
				c.Errorf("%s: %d %s", what, a.status, a.body)
			}
		}
	}
}

func actInnerKey(c *check) {
	x, evil, k := c.baseline(), newKey("ES256"), newKey("ES256")
	g := c.reader()
	inner := func() *exchange { return c.acting(x.who, elsewhere("tool", obj{"cnf": obj{"jkt": evil.thumbprint()}})) }
	free := c.ok(inner().do()).token()
	chain := chainIn(c.decode(free).claims["act"])
	if len(chain) != 2 || chain[1]["cnf"] == nil { // it was kept as it came, and
		c.Errorf("act is %s", mustJSON(chain))
	}
	if c.keyOf(free) != "" || c.introspect(c.rs1, free).json["cnf"] != nil {
		c.Error("the key of an actor became that of the token")
	}
	c.want(c.redeem(c.rs1, free, nonce()).set("jkt", evil.thumbprint()).do(), 403, "key_mismatch")
	g.want("by the inner key", g.post(readPath, nil).proving(evil, free).do(), 401, "invalid_token", free, 0)
	g.want("by nobody", g.post(readPath, nil).bearer(free).do(), 200, "", free, 1)
	bound := c.ok(inner().proof(k).do()).token()
	if c.keyOf(bound) != k.thumbprint() {
		c.Errorf("bound to %q", c.keyOf(bound))
	}
	g.want("bound, by the inner key", g.post(readPath, nil).proving(evil, bound).do(), 401, "invalid_token", bound, 0)
	g.want("bound, by its own", g.post(readPath, nil).proving(k, bound).do(), 200, "", bound, 1)
}

func actOutput(c *check) {
	own := c.flow(c.person("alice"), "mail.read notes.read").token()
	x := c.allowed("alice", c.te(c.agent(), own))
	c.want(x.but().set("scope", "mail.send").do(), 400, "invalid_scope")
	c.want(x.but().set("scope", "mail.read mail.send").do(), 400, "invalid_scope")
	c.want(x.but().set("scope", "notes.read").do(), 400, "invalid_scope")
	b := c.agent()
	a := c.agent(obj{"delegates_to": []string{b.id}})
	session := c.ok(c.allowed("alice", c.te(a, c.userToken("alice")).at(desk, "mail.read")).do()).token()
	c.want(c.te(b, session).set("scope", "mail.send").do(), 400, "invalid_scope")
	if j := c.decode(c.ok(c.allowed("alice", c.te(b, session)).do()).token()); j.str("sub") != "alice" || j.str("scope") != "mail.read" {
		c.Errorf("%s", j.body)
	}
	// What the operator takes from the actor is gone from scope, and with the last of it the token.
	y := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).set("scope", "mail.read mail.send"))
	ceiling := func(scopes ...string) {
		c.Helper()
		if a := c.change("/agents/"+y.who.id, c.registration(y.who, obj{"ceiling": merge(wide(), obj{"scopes": scopes})})); a.status >= 400 {
			c.Fatalf("%d %s", a.status, a.body)
		}
	}
	ceiling("mail.read")
	if a := c.ok(y.but().drop("scope").do()); a.str("scope") != "mail.read" || c.decode(a.token()).str("scope") != "mail.read" || c.decode(a.token()).str("sub") != "alice" {
		c.Errorf("narrowed: %s", a.body)
	}
	c.want(y.but().do(), 400, "invalid_scope")
	ceiling("files.read")
	c.want(y.but().drop("scope").do(), 400, "invalid_scope")
}

func actIntrospected(c *check) {
	x := c.baseline()
	token := c.ok(c.acting(x.who, nest(2)).do()).token()
	j, told := c.decode(token), c.introspect(c.rs1, token)
	if len(chainIn(told.json["act"])) != 3 || !bytes.Equal(mustJSON(told.json["act"]), mustJSON(j.claims["act"])) {
		c.Errorf("act is told as %s", mustJSON(told.json["act"]))
	}
	for _, name := range []string{"sub", "iss", "scope", "client_id"} {
		if told.str(name) == "" || told.str(name) != j.str(name) {
			c.Errorf("%s is told as %v", name, told.json[name])
		}
	}
	if complete, there := told.json["chain_complete"]; there && complete != true {
		c.Errorf("chain_complete is %v of a whole chain", complete)
	}
	for what, by := range map[string]*client{"another": nil, "a third": c.rs3, "another agent": c.agent()} {
		if c.active(by, token) { // which says active: false and no more
			c.Errorf("told to %s", what)
		}
	}
}

func actStopped(c *check) {
	for what, stop := range map[string]func(c *check, x *exchange, token string){
		"revoked": func(c *check, x *exchange, token string) {
			c.ok(c.ask("/revoke", x.who, url.Values{"token": {token}}))
		},
		"redeemed":    func(c *check, _ *exchange, token string) { c.first(c.rs1, token) },
		"withdrawn":   func(c *check, _ *exchange, token string) { c.withdraw("alice", c.consentOf(token)) },
		"its agent's": func(c *check, x *exchange, _ string) { c.suspended(x.who) },
	} {
		c.sub(what, func(c *check) {
			x := c.baseline()
			token := c.ok(c.acting(x.who, nest(2)).do()).token()
			if chainIn(c.introspect(c.rs1, token).json["act"]) == nil {
				c.Error("no chain before")
			}
			stop(c, x, token)
			for n := range c.nodes {
				form := asserted(url.Values{"token": {token}}, c.rs1.assertion(c.issuer))
				a := c.ok(c.do(call{method: http.MethodPost, path: "/introspect", form: form, node: n + 1}))
				if strings.TrimSpace(string(a.body)) != `{"active":false}` {
					c.Errorf("%s", a.body)
				}
			}
		})
	}
}

func actAnnounced(c *check) {
	g := c.reader()
	for _, path := range []string{
		"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", g.replicas[0].URL + "/.well-known/oauth-protected-resource/mcp",
	} {
		for name := range c.ok(c.get(path, 0)).json {
			if strings.Contains(name, "actor") || strings.Contains(name, "entity_profiles") {
				c.Errorf("%s has %s", path, name)
			}
		}
	}
	// For the draft has a new actor bring an actor token; here it is whoever authenticates.
	x := c.baseline()
	if chain := chainIn(c.decode(c.ok(x.do()).token()).claims["act"]); len(chain) != 1 || chain[0]["sub"] != x.who.id || x.form.Has("actor_token") {
		c.Errorf("act is %s", mustJSON(chain))
	}
}

func actMigrated(c *check) {
	x := c.baseline()
	bare, whole := obj{"sub": "tool"}, elsewhere("tool")
	answers := map[string]answer{}
	for what, act := range map[string]any{
		"alone": bare, "outermost": merge(bare, obj{"act": whole}), "innermost": merge(whole, obj{"act": bare}), "empty": merge(bare, obj{"iss": ""}), "a number": merge(bare, obj{"iss": 7}),
		"in the middle": merge(whole, obj{"act": merge(bare, obj{"act": elsewhere("other")})}), "by another name": merge(bare, obj{"issuer": "https://elsewhere.test"}),
		"two": []obj{whole, bare},
	} {
		answers[what] = c.want(c.acting(x.who, act).do(), 400, "invalid_request")
	}
	c.alike(answers)
	deep := merge(whole, obj{"act": elsewhere("other", obj{"sub_profile": "service"})})
	chain := chainIn(c.decode(c.ok(c.acting(x.who, deep).do()).token()).claims["act"])
	var issuers []any
	for _, one := range chain {
		issuers = append(issuers, one["iss"])
	}
	if !slices.Equal(issuers, []any{c.issuer, "https://elsewhere.test", "https://elsewhere.test"}) {
		c.Errorf("issuers %v", issuers)
	}
}
