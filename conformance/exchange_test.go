package conformance_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// baseline is an agent with its user's consent, and the request that is then granted.
func (c *check) baseline() *exchange {
	c.Helper()
	return c.allowed("alice", c.te(c.agent(), c.userToken("alice")))
}

func transportCases() []testCase {
	return []testCase{
		{"TX-01", "the exchange is a form, posted to the token endpoint", txForm},
		{"TX-02", "parameters in the URL are not read", txQuery},
		{"TX-03", "every exchange needs client authentication", txAnonymous},
		{"TX-04", "one way to authenticate for each request", txTwoWays},
		{"TX-05", "a failed header authentication is answered with a challenge", txChallenge},
		{"TX-06", "the client must be registered for the grant", txUnregistered},
		{"TX-07", "a client assertion authenticates an exchange", func(c *check) { c.ok(c.baseline().do()) }},
		{"TX-08", "unknown parameters are ignored and empty ones are absent", txUnknown},
		{"TX-09", "no parameter repeats but resource and audience", txRepeated},
		{"TX-10", "what the metadata lists works, what it does not list fails", txAdvertised},
	}
}

func txForm(c *check) {
	base := c.baseline()
	full := base.but().actor().proof(newKey("ES256"))
	j := c.decode(c.ok(full.do()).token())
	if act, _ := j.claims["act"].(obj); act["sub"] != base.who.id {
		c.Errorf("act is %v", j.claims["act"])
	}
	form := asserted(base.but().form, base.who.assertion(c.issuer))
	flat := obj{}
	for name := range form {
		flat[name] = form.Get(name)
	}
	var parts bytes.Buffer
	w := multipart.NewWriter(&parts)
	for name := range form {
		_ = w.WriteField(name, form.Get(name))
	}
	_ = w.Close()
	for kind, body := range map[string][]byte{
		"application/json": mustJSON(flat), w.FormDataContentType(): parts.Bytes(), "text/plain": []byte(form.Encode()),
	} {
		c.want(c.do(call{method: http.MethodPost, path: "/token", body: body, header: http.Header{"Content-Type": {kind}}}), 400, "invalid_request")
	}
	a := c.do(call{method: http.MethodGet, path: "/token?" + form.Encode()})
	if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost || a.token() != "" {
		c.Errorf("GET /token: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	if other := base.but().set("grant_type", "client_credentials").do(); other.status != 400 || other.token() != "" {
		c.Errorf("client_credentials: %d %s", other.status, other.body)
	}
}

func txQuery(c *check) {
	base := c.baseline()
	token := base.form.Get("subject_token")
	r := base.but().drop("subject_token").ready()
	r.path += "?subject_token=" + token
	c.want(c.do(r), 400, "invalid_request")
	r = base.but().ready()
	r.path += "?scope=mail.send"
	if a := c.do(r); a.status != 400 && a.str("scope") != "mail.read" {
		c.Errorf("a parameter in the query was read: %d %s", a.status, a.body)
	}
	if strings.Contains(c.logs(), token) {
		c.Error("the token is in the log")
	}
}

func txAnonymous(c *check) {
	base := c.baseline()
	c.want(base.but().anonymous().do(), 401, "invalid_client")
	if a := base.but().anonymous().set("client_id", "app").do(); a.status != 401 && a.code() != "unauthorized_client" || a.token() != "" {
		c.Errorf("a public client: %d %s", a.status, a.body)
	}
	c.want(base.but().anonymous().set("client_id", base.who.id).do(), 401, "invalid_client")
}

func txTwoWays(c *check) {
	base := c.baseline()
	x := base.but()
	x.call.header = basic("rs2", rs2Secret)
	c.want(x.do(), 400, "invalid_request")
	c.want(base.but().set("client_secret", "whatever").set("client_id", base.who.id).do(), 400, "invalid_request")
	both := base.but().anonymous().set("client_id", "rs2").set("client_secret", rs2Secret)
	both.call.header = basic("rs2", rs2Secret)
	c.want(both.do(), 400, "invalid_request")
}

func txChallenge(c *check) {
	x := c.te(c.agent(), c.userToken("alice")).anonymous()
	x.call.header = basic("rs2", "not the secret of rs2")
	a := c.want(x.do(), 401, "invalid_client")
	if !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Basic") {
		c.Errorf("WWW-Authenticate is %q", a.header.Get("Www-Authenticate"))
	}
}

func txUnregistered(c *check) {
	c.want(c.te(c.rs1, c.userToken("alice")).do(), 400, "unauthorized_client")
	x := c.te(c.rs1, c.userToken("alice")).anonymous()
	x.call.header = basic("rs2", rs2Secret)
	c.want(x.do(), 400, "unauthorized_client")
}

func txUnknown(c *check) {
	base := c.baseline()
	c.ok(base.but().set("foo", "bar").do())
	c.ok(base.but().set("actor_token", "").do())
	c.ok(base.but().set("actor_token", "").set("actor_token_type", "").set("requested_token_type", "").do())
	c.want(base.but().set("subject_token", "").do(), 400, "invalid_request")
}

func txRepeated(c *check) {
	base := c.baseline()
	full := base.but().actor().set("requested_token_type", accessToken).set("foo", "bar")
	asserted(full.form, base.who.assertion(c.issuer))
	for name := range full.form {
		if name == "resource" || name == "foo" {
			continue
		}
		x := full.but()
		v := x.form.Get(name)
		c.want(x.set(name, v, v).do(), 400, "invalid_request")
	}
	c.ok(base.but().set("resource", mail, mail).do())
	c.ok(base.but().set("audience", "mail-service", "mail-service").do())
}

func txAdvertised(c *check) {
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	grants := stringsOf(meta.json["grant_types_supported"])
	if !slices.Contains(grants, exchangeGrant) {
		c.Errorf("grant_types_supported is %v", grants)
	}
	for _, g := range []string{"password", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"} {
		a := c.te(c.agent(), c.userToken("alice")).set("grant_type", g).set("assertion", "x").do()
		if !slices.Contains(grants, g) {
			c.want(a, 400, "unsupported_grant_type")
		}
	}
	algs := stringsOf(meta.json["token_endpoint_auth_signing_alg_values_supported"])
	if len(algs) == 0 || slices.Contains(algs, "none") {
		c.Errorf("token_endpoint_auth_signing_alg_values_supported is %v", algs)
	}
	for _, alg := range algs {
		c.sub(alg, func(c *check) {
			c.asks(c.te(c.agentWith(alg), c.userToken("alice")))
		})
	}
	for _, method := range stringsOf(meta.json["token_endpoint_auth_methods_supported"]) {
		if !slices.Contains([]string{
			"private_key_jwt", "client_secret_basic", "client_secret_post", "none",
			"tls_client_auth", "self_signed_tls_client_auth", "spiffe_jwt", "spiffe_x509", "federated_jwt", // identityCases
		}, method) {
			c.Errorf("unexpected authentication method %s", method)
		}
	}
	weak := newClient(c.name("agent"), "ES384")
	if a := c.tryAdmin(http.MethodPut, "/agents/"+weak.id, c.registration(weak)); a.status < 400 {
		c.want(c.te(weak, c.userToken("alice")).do(), 401, "invalid_client")
	}
}

func stringsOf(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, x := range list {
		s, _ := x.(string)
		out = append(out, s)
	}
	return out
}

func requestCases() []testCase {
	return []testCase{
		{"TX-11", "subject_token and its type are both required", txSubjectRequired},
		{"TX-12", "actor_token and its type go together", txActorType},
		{"TX-13", "resource is an absolute URI without fragment", txResource},
		{"TX-14", "audience is a name of one namespace", txAudience},
		{"TX-15", "resource and audience may be combined and repeated", txSameTarget},
		{"TX-16", "a token has one audience", txOneAudience},
		{"TX-17", "without a target only a registered default is meant", txDefault},
		{"TX-18", "scope is a list of case-sensitive tokens", txScopeSyntax},
		{"TX-19", "without scope what was consented is meant", txNoScope},
		{"TX-20", "requested_token_type is known or refused", txRequestedType},
		{"TX-21", "no refresh token and no ID token", txNoPersistence},
		{"TX-22", "jwt is no synonym for access token", func(c *check) {
			c.want(c.baseline().set("requested_token_type", jwtType).do(), 400, "invalid_request")
		}},
	}
}

func txSubjectRequired(c *check) {
	base := c.baseline()
	c.want(base.but().drop("subject_token").do(), 400, "invalid_request")
	c.want(base.but().drop("subject_token_type").do(), 400, "invalid_request")
	c.want(base.but().drop("subject_token", "subject_token_type").do(), 400, "invalid_request")
}

func txActorType(c *check) {
	base := c.baseline().actor()
	c.want(base.but().drop("actor_token_type").do(), 400, "invalid_request")
	c.want(base.but().drop("actor_token").do(), 400, "invalid_request")
	c.ok(base.do())
}

func txResource(c *check) {
	base := c.baseline()
	for _, uri := range []string{"foo", "//x", "https://rs1.test/#f", mail + "#", "/mcp", "https://", "https://u:p@rs1.test/mcp", "https://rs1.test/ mcp"} {
		c.want(base.but().set("resource", uri).do(), 400, "invalid_target")
	}
	c.sub("with a query", func(c *check) {
		id := c.name("res")
		uri := "https://query.test/api?tenant=" + id
		c.admin(http.MethodPut, "/resources/"+id, obj{"uri": uri, "scopes": obj{"mail.read": "Read"}, "redemption": "none"})
		ceiling := wide()
		ceiling["resources"] = []string{id}
		x := c.allowed("alice", c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice")).set("resource", uri))
		if aud := c.decode(c.ok(x.do()).token()).str("aud"); aud != uri {
			c.Errorf("aud is %q", aud)
		}
	})
}

func txAudience(c *check) {
	base := c.baseline()
	if aud := c.decode(c.ok(base.but().drop("resource").set("audience", "mail-service").do()).token()).str("aud"); aud != mail {
		c.Errorf("aud is %q", aud)
	}
	for _, name := range []string{"nobody", "MAIL-SERVICE", "rs1", "app", base.who.id, c.issuer} {
		c.want(base.but().drop("resource").set("audience", name).do(), 400, "invalid_target")
	}
	a := c.tryAdmin(http.MethodPut, "/resources/"+c.name("res"), obj{
		"uri": "https://" + c.name("alias") + ".test", "aliases": []string{"app"}, "scopes": obj{}, "redemption": "none",
	})
	if a.status != http.StatusConflict {
		c.Errorf("an alias like a client's id: %d %s", a.status, a.body)
	}
}

func txSameTarget(c *check) {
	x := c.baseline().set("audience", "mail-service", mail).set("resource", mail, mail+"/")
	if aud := c.decode(c.ok(x.do()).token()).str("aud"); aud != mail {
		c.Errorf("aud is %q", aud)
	}
}

func txOneAudience(c *check) {
	base := c.baseline()
	c.want(base.but().set("resource", mail, files).do(), 400, "invalid_target")
	c.want(base.but().set("audience", files).do(), 400, "invalid_target")
	c.want(base.but().set("resource", mail, "https://unknown.test").do(), 400, "invalid_target")
}

func txDefault(c *check) {
	c.want(c.baseline().drop("resource").do(), 400, "invalid_target")
	x := c.allowed("alice", c.te(c.agent(obj{"default_resource": "mail"}), c.userToken("alice")).drop("resource"))
	if aud := c.decode(c.ok(x.do()).token()).str("aud"); aud != mail {
		c.Errorf("aud is %q", aud)
	}
}

func txScopeSyntax(c *check) {
	base := c.baseline()
	for _, scope := range []string{
		"MAIL.READ", "mail.read  mail.read", "mail.read\tmail.read", `mail.read "x"`, " mail.read", "mail.read ", "mail.r\u00e9ad", "*", `mail\read`,
		"mail.read\u00a0", strings.TrimSpace(strings.Repeat("x ", 1000)),
	} {
		c.want(base.but().set("scope", scope).do(), 400, "invalid_scope")
	}
}

func txNoScope(c *check) {
	a := c.ok(c.baseline().drop("scope").do())
	if a.str("scope") != "mail.read" {
		c.Errorf("scope is %q, consented was mail.read", a.str("scope"))
	}
}

func txRequestedType(c *check) {
	base := c.baseline()
	for _, typ := range []string{tokenType + "saml2", tokenType + "saml1", "urn:example:token", "access_token", tokenType + "ACCESS_TOKEN"} {
		c.want(base.but().set("requested_token_type", typ).do(), 400, "invalid_request")
	}
	for _, x := range []*exchange{base.but(), base.but().set("requested_token_type", accessToken)} {
		if a := c.ok(x.do()); a.str("issued_token_type") != accessToken {
			c.Errorf("issued_token_type is %q", a.str("issued_token_type"))
		}
	}
}

func txNoPersistence(c *check) {
	base := c.baseline()
	c.want(base.but().set("requested_token_type", tokenType+"refresh_token").do(), 400, "invalid_request")
	c.want(base.but().set("requested_token_type", idToken).do(), 400, "invalid_request")
}

func responseCases() []testCase {
	return []testCase{
		{"TX-49", "the answer is JSON, not stored, with its three members", txAnswer},
		{"TX-50", "issued_token_type names what was issued", txIssuedType},
		{"TX-51", "token_type says how the token is used", txTokenType},
		{"TX-52", "expires_in is what is left", txExpiresIn},
		{"TX-53", "scope is always told", txScopeTold},
		{"TX-54", "an exchange gives no refresh token", txNoRefresh},
		{"TX-55", "granted authorization_details are told", txDetailsTold},
		{"TX-56", "the token has scope and client_id", txClaims},
		{"TX-57", "refusals use the codes of the table", txCodes},
		{"TX-58", "what is in an error cannot break out of it", txCharset},
		{"TX-59", "the token says no more of the user than it must", txMinimal},
		{"TX-60", "each exchange leaves one event", txAudit},
	}
}

func txAnswer(c *check) {
	a := c.ok(c.baseline().do())
	for _, name := range []string{"access_token", "issued_token_type", "token_type"} {
		if a.str(name) == "" {
			c.Errorf("%s is missing", name)
		}
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || !strings.Contains(a.header.Get("Cache-Control"), "no-store") {
		c.Errorf("headers %v", a.header)
	}
}

func txIssuedType(c *check) {
	a := c.ok(c.baseline().do())
	if typ := c.decode(a.token()).header["typ"]; a.str("issued_token_type") != accessToken || typ != "at+jwt" {
		c.Errorf("issued_token_type %s with typ %v", a.str("issued_token_type"), typ)
	}
}

func txTokenType(c *check) {
	base := c.baseline()
	if a := c.ok(base.but().do()); a.str("token_type") != "Bearer" {
		c.Errorf("token_type is %q", a.str("token_type"))
	}
	if a := c.ok(base.but().proof(newKey("ES256")).do()); a.str("token_type") != "DPoP" {
		c.Errorf("token_type is %q", a.str("token_type"))
	}
}

func txExpiresIn(c *check) {
	a := c.ok(c.baseline().do())
	j := c.decode(a.token())
	if left := j.num("exp") - j.num("iat"); a.num("expires_in") < left-1 || a.num("expires_in") > left {
		c.Errorf("expires_in %d, left %d", a.num("expires_in"), left)
	}
}

func txScopeTold(c *check) {
	base := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).set("scope", "mail.read mail.send"))
	for _, scope := range []string{"mail.read mail.send", "mail.send", ""} {
		a := c.ok(base.but().set("scope", scope).do())
		if a.str("scope") == "" || a.str("scope") != c.decode(a.token()).str("scope") {
			c.Errorf("asked %q, told %q, token %q", scope, a.str("scope"), c.decode(a.token()).str("scope"))
		}
	}
}

func txNoRefresh(c *check) {
	a := c.ok(c.baseline().set("requested_token_type", accessToken).do())
	if _, there := a.json["refresh_token"]; there {
		c.Error("there is a refresh token")
	}
}

// payment is one entry of the built-in type.
func payment(value, currency string) obj {
	return obj{"type": "payment", "locations": []string{mail}, "amount": obj{"value": value, "currency": currency}, "payee": "Merchant A"}
}

// toolCall is one entry of the built-in type.
func toolCall(tool string) obj {
	return obj{"type": "mcp_tool_call", "locations": []string{mail}, "tool": tool}
}

func txDetailsTold(c *check) {
	x := c.te(c.agent(), c.userToken("alice")).set("authorization_details", string(mustJSON([]obj{toolCall("send_mail")})))
	a := c.ok(c.allowed("alice", x).do())
	told, issued := mustJSON(a.json["authorization_details"]), mustJSON(c.decode(a.token()).claims["authorization_details"])
	if !bytes.Equal(told, issued) || !bytes.Contains(told, []byte("send_mail")) {
		c.Errorf("told %s, token %s", told, issued)
	}
	if _, there := c.ok(c.baseline().do()).json["authorization_details"]; there {
		c.Error("authorization_details that nobody asked for")
	}
}

func txClaims(c *check) {
	base := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).set("scope", "mail.read mail.send"))
	j := c.decode(c.ok(base.do()).token())
	if j.str("client_id") != base.who.id || j.str("scope") != "mail.read mail.send" {
		c.Errorf("client_id %q, scope %v", j.str("client_id"), j.claims["scope"])
	}
}

func txCodes(c *check) {
	base := c.baseline()
	user := c.userToken("alice")
	c.want(base.but().set("subject_token", "not.a.token").do(), 400, "invalid_request")
	c.want(base.but().set("resource", "https://unknown.test").do(), 400, "invalid_target")
	c.want(base.but().set("scope", "mail.read mail.send").do(), 400, "invalid_scope")
	c.want(base.but().set("authorization_details", `[{"type":"unknown"}]`).do(), 400, "invalid_authorization_details")
	c.want(c.te(c.agent(), user).do(), 400, "interaction_required")
	c.want(base.but().set("grant_type", "urn:example:unknown").do(), 400, "unsupported_grant_type")
	c.sub("the user says no", func(c *check) {
		x := c.te(c.agent(), user)
		p := c.visit(c.person("alice"), c.asks(x))
		p.submit(p.decision(), "deny")
		c.want(x.do(), 400, "access_denied")
	})
	c.sub("the agent is suspended", func(c *check) {
		x := c.baseline()
		c.admin(http.MethodPost, "/agents/"+x.who.id+"/suspend", obj{"why": "conformance"})
		c.want(x.do(), 400, "actor_unauthorized")
	})
	c.sub("the target is above the ceiling", func(c *check) {
		ceiling := wide()
		ceiling["resources"] = []string{"files"}
		c.want(c.te(c.agent(obj{"ceiling": ceiling}), user).do(), 400, "invalid_target")
	})
	c.sub("the user signed in too long ago", func(c *check) {
		x := c.foreign(c.agent(), c.idp.token(c.env, "alice", "fresh.read", obj{"auth_time": in(-60)})).at(fresh, "fresh.read")
		if a := c.want(x.do(), 400, "insufficient_user_authentication"); a.num("max_age") != 1 {
			c.Errorf("max_age is %v", a.json["max_age"])
		}
	})
	c.sub("as an operator wants it", txSettings)
	c.sub("a request that waits", txWait)
	c.sub("too large", func(c *check) {
		if a := base.but().set("foo", strings.Repeat("x", 10<<20)).do(); a.status != http.StatusRequestEntityTooLarge {
			c.Errorf("10 MiB: %d", a.status)
		}
	})
}

// txSettings: an operator may want the words of RFC 8693 alone, and narrower tokens instead of refusals.
func txSettings(c *check) {
	p := c.apart(func(o *options) {
		o.change = func(cfg obj) { cfg["exchange"] = obj{"error_profile": "rfc8693", "scope_mode": "narrow"} }
	})
	x := p.baseline()
	if a := p.ok(x.but().set("scope", "mail.read mail.send mail.delete").do()); a.str("scope") != "mail.read" {
		c.Errorf("narrowed to %q", a.str("scope"))
	}
	p.want(x.but().set("scope", "mail.delete").do(), 400, "invalid_scope")
	p.suspended(x.who)
	p.want(x.do(), 400, "invalid_request")
}

// txWait: who can wait gets the answer to the very request that asked.
func txWait(c *check) {
	x := c.te(c.agent(), c.userToken("alice"))
	uri := c.asks(x)
	answered := make(chan answer, 1)
	r := x.but().header("Prefer", "wait=60").ready()
	go func() {
		a, err := c.send(c.Context(), r)
		if err != nil {
			a = answer{}
		}
		answered <- a
	}()
	time.Sleep(200 * time.Millisecond)
	c.decide(uri, c.person("alice"), limits{})
	a := <-answered
	c.everyAnswer(r, a)
	c.ok(a)
	if a.took > 45*time.Second {
		c.Errorf("it took %s", a.took)
	}
	y := c.te(c.agent(), c.userToken("alice")).header("Prefer", "wait=1")
	if a := c.want(y.do(), 400, "interaction_required"); a.took < 500*time.Millisecond || a.took > 45*time.Second {
		c.Errorf("wait=1 took %s", a.took)
	}
}

func txCharset(c *check) {
	base := c.baseline()
	nasty := "a\"b\\c\r\nX-Injected: 1\u00e9\x00\u202e<script>"
	for _, name := range []string{
		"grant_type", "subject_token", "subject_token_type", "actor_token", "resource", "audience", "scope", "requested_token_type",
		"authorization_details", "client_id",
	} {
		x := base.but().set(name, nasty)
		if name == "actor_token" {
			x.set("actor_token_type", nasty)
		}
		a := x.do() // holds the characters of the answer to RFC 6749 section 5.2
		if a.status < 400 || a.status >= 500 || a.header.Get("X-Injected") != "" {
			c.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
}

func txMinimal(c *check) {
	known := []string{
		"iss", "sub", "aud", "client_id", "iat", "nbf", "exp", "jti", "txn", "txn_mode", "scope", "act", "cnf", "authorization_details",
		"auth_time", "acr", "amr", "tctx",
	}
	x := c.te(c.agent(), c.userToken("alice"))
	for _, tok := range []string{
		c.ok(c.allowed("alice", x.but()).do()).token(), c.ok(c.allowed("alice", x.but().at(files, "files.read")).do()).token(), c.userToken("alice"),
	} {
		for name := range c.decode(tok).claims {
			if !slices.Contains(known, name) {
				c.Errorf("the token has the claim %s", name)
			}
		}
	}
}

func txAudit(c *check) {
	base := c.baseline()
	subject := base.form.Get("subject_token")
	j, err := parseJWT(subject)
	if err != nil {
		c.Fatal(err)
	}
	count := func(what string, x *exchange) event {
		c.Helper()
		from := c.lastEvent()
		a := x.do()
		var mine []event
		for _, e := range c.events(from, "") {
			if e.Client == base.who.id && (e.Kind == "exchange" || e.Kind == "client_authentication") {
				mine = append(mine, e)
			}
			if strings.Contains(e.Raw, subject) || a.token() != "" && strings.Contains(e.Raw, a.token()) {
				c.Error("a token is in the ledger")
			}
		}
		if len(mine) != 1 {
			c.Fatalf("%s: %d events, not one: %+v", what, len(mine), mine)
		}
		if e := mine[0]; e.Allowed != (a.status == 200) || e.Error != a.code() {
			c.Errorf("%s: answered %d %s, the event says %v %s", what, a.status, a.code(), e.Allowed, e.Error)
		}
		return mine[0]
	}
	e := count("granted", base.but())
	if e.User != "alice" || e.Actor != base.who.id || len(e.Chain) != 1 || e.JTI == "" || e.Txn == "" || e.Target != mail ||
		e.AskedScope != "mail.read" || e.GrantedScope != "mail.read" || e.Grant == "" || e.SubjectHash != s256(j.str("jti")) || e.PolicyVersion == "" {
		c.Errorf("the event is incomplete: %s", e.Raw)
	}
	if e := count("too wide", base.but().set("scope", "mail.read mail.send")); e.Reason == "" || e.User != "alice" || e.Target != mail {
		c.Errorf("the event is incomplete: %s", e.Raw)
	}
	count("a bad subject token", base.but().set("subject_token", "x.y.z"))
	count("an unknown target", base.but().set("resource", "https://unknown.test"))
	count("a bad assertion", base.but().assertion(base.who.assertion("https://other.test")))
	count("a missing parameter", base.but().drop("subject_token"))
}

func (c *check) suspended(agent *client) {
	c.Helper()
	c.admin(http.MethodPost, "/agents/"+agent.id+"/suspend", obj{"why": "conformance"})
}

func (c *check) withdraw(user, grant string) {
	c.Helper()
	c.admin(http.MethodPost, "/grants/"+grant+"/withdraw?user="+url.QueryEscape(user), obj{"why": "conformance"})
}

// soon is how long anything may take to be known everywhere.
const soon = time.Second

func (c *check) dead(by *client, token, why string) {
	c.Helper()
	for n := range c.nodes {
		c.eventually(soon, fmt.Sprintf("%s: process %d refusing the token", why, n+1), func() bool { return !c.activeAt(n+1, by, token) })
	}
}

func (c *check) activeAt(node int, by *client, token string) bool {
	c.Helper()
	form := url.Values{"token": {token}}
	r := call{method: http.MethodPost, path: "/introspect", form: form, node: node}
	if by == nil {
		r.header = basic("rs2", rs2Secret)
	} else {
		asserted(form, by.assertion(c.issuer))
	}
	active, _ := c.ok(c.do(r)).json["active"].(bool)
	return active
}
