package conformance_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// attackCases are rows of the list of attacks that no other case goes through.
func attackCases() []testCase {
	return []testCase{
		{"NEG-008", "unknown keys do not make the server fetch", negUnknownKeys},
		{"NEG-023", "an assertion replayed at two processes", negAssertion},
		{"NEG-031", "other methods, media types and character sets", negTransport},
		{"NEG-032", "large bodies, many parameters, slow senders", negSize},
		{"NEG-034", "nothing breaks out of an error or a header", negInjection},
		{"NEG-037", "TLS early data", negEarly},
		{"NEG-061", "no lifetime is stretched by exchanging again", negStretch},
		{"NEG-062", "a consent withdrawn on the way", negWithdrawn},
		{"NEG-064", "a budget of one, a hundred requests, two processes", negBudget},
		{"NEG-065", "ids of others as parameters", negForeignIDs},
		{"NEG-074", "redirect URIs that run something", negRedirects("javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:x")},
		{"NEG-079", "request objects, and requests by reference", negObjects},
		{"NEG-080", "redirect URIs that bring parameters of the answer", negRedirects(redirect+"?code=x", redirect+"?state=x", redirect+"?iss=x", redirect+"?error=x")},
		{"NEG-086", "a form from long ago, or of an agent that has changed", negStale},
		{"NEG-089", "asking a user over and over", negFatigue},
		{"NEG-092", "no user or consent can be told from none", negEnumerate},
		{"NEG-094", "sign-in leads nowhere else", negOpenRedirect},
		{"NEG-103", "registrations that collide", negCollide},
		{"NEG-104", "documents that are cached", negPoison},
		{"NEG-115", "a key smuggled into act or details", negSmuggle},
		{"NEG-130", "looking for transactions", negStatus},
	}
}

func negUnknownKeys(c *check) {
	agent := c.agent()
	c.asks(c.foreign(agent, c.idp.token(c.env, "alice", "mail.read"))) // its keys are known now
	before := c.idp.hits.Load()
	for range 40 {
		tok := newKey("ES256").sign(obj{"typ": "JWT"}, c.idp.claims(c.env, "alice", "mail.read"))
		c.want(c.foreign(agent, tok).do(), 400, "invalid_request")
	}
	if n := int(c.idp.hits.Load() - before); n > 2*len(c.nodes) {
		c.Errorf("40 tokens by unknown keys made the server fetch %d times", n)
	}
}

// negRedirects has the registry refuse redirect URIs.
func negRedirects(uris ...string) func(c *check) {
	return func(c *check) {
		for _, uri := range uris {
			id := c.name("app")
			a := c.tryAdmin(http.MethodPut, "/clients/"+id, obj{
				"name": "App " + id, "auth": "none", "redirect_uris": []string{uri}, "grant_types": []string{"authorization_code"},
			})
			if a.status != http.StatusUnprocessableEntity {
				c.Errorf("%s: %d %s", uri, a.status, a.body)
			}
		}
	}
}

func negObjects(c *check) {
	b := c.person("alice")
	object := newKey("ES256").sign(obj{"typ": "oauth-authz-req+jwt"}, obj{"client_id": "app", "scope": "mail.send", "aud": c.issuer, "iss": "app"})
	none := b64(mustJSON(obj{"alg": "none"})) + "." + b64(mustJSON(obj{"client_id": "app", "scope": "mail.send"})) + "."
	for _, v := range []string{object, none} {
		f := c.flow(b, "mail.read").set("request", v)
		if q := f.back(f.open()); q.Get("error") != "request_not_supported" || q.Get("code") != "" {
			c.Errorf("request: %v", q)
		}
	}
	for _, uri := range []string{c.idp.issuer + "/request", "https://evil.test/request.jwt", "urn:example:request"} {
		f := c.flow(b, "mail.read").set("request_uri", uri)
		if p := f.open(); p.doc != nil && p.status < 400 || p.gone != nil && p.gone.Query().Get("code") != "" {
			c.Errorf("request_uri %s: %d %v", uri, p.status, p.gone)
		}
	}
}

func negAssertion(c *check) {
	x := c.baseline()
	x.assertion(x.who.assertion(c.issuer))
	counts := tally(c.together(100, func(int) call { return x.ready() }))
	if counts["OK token"] != 1 || counts["Unauthorized invalid_client"] != 99 {
		c.Errorf("%v", counts)
	}
}

func negTransport(c *check) {
	x := c.baseline()
	body := []byte(x.ready().form.Encode())
	for _, kind := range []string{
		"application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded; charset=utf-16",
		"application/x-www-form-urlencoded; charset=utf-7", "application/xml", "application/x-www-form-urlencoded, text/plain", "",
	} {
		header := http.Header{"Content-Type": {kind}}
		if kind == "" {
			header = http.Header{}
		}
		c.want(c.do(call{method: http.MethodPost, path: "/token", body: body, header: header}), 400, "invalid_request")
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		a := c.do(call{method: method, path: "/token", form: x.ready().form})
		if a.status != http.StatusMethodNotAllowed || a.token() != "" {
			c.Errorf("%s: %d", method, a.status)
		}
	}
	compressed := c.do(call{method: http.MethodPost, path: "/token", body: body, header: http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Content-Encoding": {"gzip"},
	}})
	if compressed.status < 400 || compressed.token() != "" {
		c.Errorf("gzip: %d", compressed.status)
	}
	c.ok(c.do(call{method: http.MethodPost, path: "/token", body: []byte(x.ready().form.Encode()), header: http.Header{
		"Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"},
	}}))
}

func negSize(c *check) {
	for _, path := range []string{"/token", "/par", "/introspect", "/redeem", "/revoke"} {
		a, err := c.send(c.Context(), call{method: http.MethodPost, path: path, form: url.Values{"client_id": {"app"}, "x": {strings.Repeat("x", 10<<20)}}})
		if err == nil && a.status != http.StatusRequestEntityTooLarge {
			c.Errorf("%s: 10 MiB: %d", path, a.status)
		}
		many := strings.Repeat("a=b&", 15000)
		if a := c.do(call{method: http.MethodPost, path: path, body: []byte(many), header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}); a.status != 400 && a.status != 413 {
			c.Errorf("%s: 15 000 parameters: %d", path, a.status)
		}
	}
	// Whoever sends one byte now and then holds up nobody.
	var slow []net.Conn
	for range 50 {
		conn, err := net.Dial("tcp", c.nodes[0].addr)
		if err != nil {
			c.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\na")
		slow = append(slow, conn)
	}
	x := c.baseline()
	if a := c.ok(x.but().node(1).do()); a.took > 20*time.Second {
		c.Errorf("with %d slow senders an exchange takes %s", len(slow), a.took)
	}
}

func negInjection(c *check) {
	nasty := "x\r\nSet-Cookie: a=b\r\n\r\n<script>alert(1)</script>\"\\\u00e9\u2028"
	f := c.flow(c.person("alice"), "mail.read").set("state", nasty)
	f2 := c.flow(c.person("alice"), "no.such.scope").set("state", "a&b=c#d%0d%0a")
	if q := f2.back(f2.open()); q.Get("b") != "" {
		c.Errorf("state became a parameter: %v", q)
	}
	p := f.open()
	if p.header.Get("Set-Cookie") == "a=b" {
		c.Error("a header was injected")
	}
	for _, name := range []string{"client_id", "redirect_uri", "scope", "response_type", "resource"} {
		p := c.flow(c.person("alice"), "mail.read").set(name, nasty).open()
		if strings.Contains(string(p.body), "<script>alert(1)") {
			c.Errorf("%s is markup on the page", name)
		}
		if p.header.Get("Set-Cookie") == "a=b" {
			c.Error("a header was injected")
		}
	}
}

func negEarly(c *check) {
	x := c.baseline()
	a := x.but().header("Early-Data", "1").do()
	if a.status != http.StatusTooEarly || a.token() != "" {
		c.Errorf("token: %d", a.status)
	}
	token, _ := c.mailToken()
	r := c.redeem(c.rs1, token, nonce()).ready()
	r.header = http.Header{"Early-Data": {"1"}}
	if a := c.do(r); a.status != http.StatusTooEarly {
		c.Errorf("redeem: %d", a.status)
	}
	c.first(c.rs1, token)
}

func negStretch(c *check) {
	x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(blink, "mail.read"))
	first := c.ok(x.do())
	end := c.decode(first.token()).num("exp")
	onward := c.te(x.who, first.token()).at(desk, "mail.read")
	c.allow(c.person("alice"), c.te(x.who, c.userToken("alice")).at(desk, "mail.read"), limits{})
	token := first.token()
	for range 5 {
		a := onward.but().set("subject_token", token).do()
		if a.status != http.StatusOK {
			break // it is over, which is right as well
		}
		token = a.token()
		if exp := c.decode(token).num("exp"); exp > end {
			c.Fatalf("the token lasts %d s longer than the one it came of", exp-end)
		}
	}
}

func negWithdrawn(c *check) {
	x := c.baseline()
	token := c.ok(x.do()).token()
	c.withdraw("alice", c.consentOf(token))
	c.want(x.do(), 400, "access_denied")
	c.want(c.redeem(c.rs1, token, nonce()).do(), 410, "token_revoked")
	for n := range c.nodes {
		c.want(x.but().node(n+1).do(), 400, "access_denied")
	}
}

func negBudget(c *check) {
	for range 3 {
		x := c.te(c.agent(), c.userToken("alice"))
		c.allow(c.person("alice"), x, limits{uses: 1})
		counts := tally(c.together(60, func(int) call { return x.ready() }))
		if counts["OK token"] != 1 || counts["Bad Request access_denied"] != 59 {
			c.Errorf("%v", counts)
		}
	}
}

func negForeignIDs(c *check) {
	x, other := c.baseline(), c.baseline()
	token := c.ok(other.do()).token()
	j := c.decode(token)
	for name, v := range map[string]string{
		"consent": c.consentOf(token), "grant": c.consentOf(token), "txn": j.str("txn"), "interaction": "r_" + nonce(), "user": "bob", "sub": "bob", "act": "{}",
		"client": other.who.id, "jti": j.str("jti"), "tctx": "{}", "uses": "100", "expires_in": "100000",
	} {
		got := c.decode(c.ok(x.but().set(name, v).do()).token())
		if got.str("sub") != "alice" || got.str("client_id") != x.who.id || got.str("txn") == j.str("txn") || c.consentOf(got.raw) == c.consentOf(token) {
			c.Errorf("%s changes the token: %s", name, got.body)
		}
	}
}

func negStale(c *check) {
	alice := c.person("alice")
	x := c.te(c.agent(), c.userToken("alice"))
	p := c.visit(alice, c.asks(x))
	f := limits{}.on(c, p.decision())
	if a := c.change("/agents/"+x.who.id, c.registration(x.who, obj{"owner": "Somebody else"})); a.status >= 400 {
		c.Fatalf("%d %s", a.status, a.body)
	}
	if after := p.submit(f, "allow"); after.status != http.StatusConflict && after.status != http.StatusBadRequest {
		c.Errorf("after its owner changed: %d", after.status)
	}
	y := c.te(c.agent(), c.userToken("alice"))
	q := c.visit(alice, c.asks(y))
	g := limits{}.on(c, q.decision())
	c.remove("/agents/" + y.who.id)
	if after := q.submit(g, "allow"); after.status < 400 {
		c.Errorf("after it was removed: %d", after.status)
	}
	z := c.te(c.agent(), c.userToken("alice"))
	r := c.visit(alice, c.asks(z))
	h := limits{}.on(c, r.decision())
	c.suspended(z.who)
	if after := r.submit(h, "allow"); after.status < 400 {
		c.Errorf("after it was suspended: %d", after.status)
	}
}

func negFatigue(c *check) {
	agent := c.agent()
	links := map[string]bool{}
	limited := answer{}
	for i := range 30 {
		entry := details(merge(toolCall("send_mail"), obj{"arguments": obj{"n": i}}))
		a := c.te(agent, c.userToken("bob")).set("authorization_details", entry).do()
		switch {
		case a.code() == "interaction_required":
			links[a.str("interaction_uri")] = true
		case a.status == http.StatusTooManyRequests:
			limited = a
		default:
			c.Fatalf("%d %s", a.status, a.body)
		}
	}
	if limited.header.Get("Retry-After") == "" || len(links) > 15 {
		c.Errorf("%d questions, then %d", len(links), limited.status)
	}
	x := c.te(c.agent(), c.userToken("bob"))
	first, again := c.asks(x), c.asks(x)
	if first != again {
		c.Error("the same request asks twice")
	}
}

func negEnumerate(c *check) {
	b := newBrowser("", "")
	try := func(user string) page {
		p := c.open(b, "/sign-in")
		f := p.form(func(f form) bool { return f.has("password") })
		return p.submit(f.fillIn(user, "not the password"), "")
	}
	// A user of the case's own, so that nobody is locked out.
	known := c.newcomer().user
	one, two := try(known), try(c.name("nobody"))
	if one.status != two.status || strings.ReplaceAll(one.text(), known, "") != strings.ReplaceAll(two.text(), two.b.user, "") {
		c.Errorf("%d %q and %d %q", one.status, one.text(), two.status, two.text())
	}
	signed := c.person("bob")
	x := c.te(c.agent(), c.userToken("alice"))
	foreign, none := c.open(signed, c.asks(x)), c.open(signed, "/consent/r_"+nonce())
	if foreign.status == http.StatusOK || none.status == http.StatusOK {
		c.Errorf("%d %d", foreign.status, none.status)
	}
}

func negOpenRedirect(c *check) {
	for _, to := range []string{
		"https://evil.test/", "//evil.test/", `/\evil.test/`, `\\evil.test`, "/%2f%2fevil.test", "javascript:alert(1)", "/agents\r\nSet-Cookie: a=b", "https:evil.test", "/./../../evil",
		"https://evil.test@" + strings.TrimPrefix(c.issuer, "http://"), "/consent/../../evil.test",
	} {
		b := newBrowser("alice", alicePass)
		p := c.open(b, "/sign-in?return_to="+url.QueryEscape(to))
		f, ok := p.find(func(f form) bool { return f.has("password") })
		if !ok {
			continue // refused at once
		}
		for _, x := range f.fields {
			if x.kind == "hidden" && strings.Contains(x.value, "evil") && !strings.HasPrefix(x.value, "/") {
				c.Errorf("the form carries %q", x.value)
			}
		}
	}
	b := newBrowser("alice", alicePass)
	p := c.open(b, "/sign-in?return_to="+url.QueryEscape("//evil.test/"))
	f := p.form(func(f form) bool { return f.has("password") })
	if after := p.submit(f.fillIn("alice", alicePass).with(url.Values{"return_to": {"https://evil.test/"}}), ""); after.gone != nil {
		c.Errorf("sent to %s", after.gone)
	}
}

func negCollide(c *check) {
	id := c.name("res")
	uri := "https://" + id + ".test/api"
	registration := obj{"uri": uri, "scopes": obj{"mail.read": "Read"}, "redemption": "none", "aliases": []string{id + "-alias"}}
	c.admin(http.MethodPut, "/resources/"+id, registration)
	for what, other := range map[string]obj{
		"the same address": {"uri": uri}, "its name as an alias": {"uri": uri + "/x", "aliases": []string{id}}, "its alias": {"uri": uri + "/y", "aliases": []string{id + "-alias"}},
		"its address as an alias": {"uri": uri + "/z", "aliases": []string{uri}}, "by case of the host": {"uri": uri + "/w", "aliases": []string{strings.ToUpper("https://"+id+".test") + "/api"}},
		"a client's id": {"uri": uri + "/v", "aliases": []string{"app2"}}, "a user's id": {"uri": uri + "/u", "aliases": []string{"alice"}},
	} {
		a := c.tryAdmin(http.MethodPut, "/resources/"+c.name("res"), merge(registration, obj{"aliases": nil}, other))
		if a.status != http.StatusConflict && a.status != http.StatusUnprocessableEntity {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	for what, bad := range map[string]string{
		"upper case": "https://UPPER.test/", "fragment": "https://x.test/#f", "relative": "/x", "default port": "https://x.test:443/", "user": "https://u@x.test/", "space": "https://x.test/ y",
	} {
		if a := c.tryAdmin(http.MethodPut, "/resources/"+c.name("res"), merge(registration, obj{"aliases": nil, "uri": bad})); a.status != http.StatusUnprocessableEntity {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	for _, bad := range []string{"Ünicode", "with space", "a<b", `a"b`, "a\u200bb", strings.Repeat("x", 200)} {
		agent := newClient(bad, "ES256")
		if a := c.tryAdmin(http.MethodPut, "/agents/"+url.PathEscape(bad), c.registration(agent)); a.status < 400 {
			c.Errorf("the id %q was taken", bad)
		}
	}
}

func negPoison(c *check) {
	plain := c.ok(c.get("/.well-known/oauth-authorization-server", 1))
	for _, variant := range []string{"?issuer=https://evil.test", "?x=1", "/", "//", "/../oauth-authorization-server", "/evil", "%2fevil", ";x=1"} {
		a, err := c.send(c.Context(), call{method: http.MethodGet, path: "/.well-known/oauth-authorization-server" + variant, node: 1})
		if err != nil {
			continue
		}
		if a.status == http.StatusOK && !bytes.Equal(a.body, plain.body) || strings.Contains(string(a.body), "evil") {
			c.Errorf("%s: %d %.200s", variant, a.status, a.body)
		}
	}
}

func negSmuggle(c *check) {
	k := newKey("ES256")
	x := c.baseline()
	cnf := obj{"jkt": k.thumbprint()}
	act := obj{"iss": "https://elsewhere.test", "sub": "x", "cnf": cnf}
	j := c.decode(c.ok(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"act": act})).do()).token())
	if j.claims["cnf"] != nil {
		c.Errorf("cnf came out of act: %s", j.body)
	}
	entry := details(merge(toolCall("send_mail"), obj{"cnf": cnf}))
	c.want(x.but().set("authorization_details", entry).do(), 400, "invalid_authorization_details")
	c.want(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"cnf": cnf})).do(), 400, "invalid_request")
	if j := c.decode(c.ok(x.but().set("cnf", string(mustJSON(cnf))).set("dpop_jkt", k.thumbprint()).do()).token()); j.claims["cnf"] != nil {
		c.Errorf("cnf came out of a parameter: %s", j.body)
	}
}

func negStatus(c *check) {
	token, agent := c.mailToken()
	txn := c.decode(token).str("txn")
	status := func(by *client, txn string) answer {
		return c.do(call{method: http.MethodGet, path: "/txn/" + url.PathEscape(txn), header: http.Header{"Client-Assertion": {by.assertion(c.issuer)}}})
	}
	if a := c.ok(status(agent, txn)); a.str("status") != "issued" {
		c.Errorf("%s", a.body)
	}
	if a := c.ok(status(c.rs1, txn)); a.str("status") != "issued" {
		c.Errorf("%s", a.body)
	}
	if a := c.get("/txn/"+txn, 0); a.status != http.StatusUnauthorized && a.status != http.StatusNotFound {
		c.Errorf("by nobody: %d %s", a.status, a.body)
	}
	none := map[string]answer{
		"another resource server": status(c.rs3, txn), "another agent": status(c.agent(), txn), "none such": status(c.rs1, "txn_"+nonce()),
		"nonsense": status(c.rs1, "nonsense"),
	}
	for what, a := range none {
		if a.status != http.StatusNotFound {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	c.alike(none)
	c.first(c.rs1, token)
	if a := c.ok(status(agent, txn)); a.str("status") != "redeemed" {
		c.Errorf("%s", a.body)
	}
}
