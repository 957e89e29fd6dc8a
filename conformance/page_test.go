package conformance_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

func pageCases() []testCase {
	return []testCase{
		{"UI-01", "a decision comes from this page, in this session, for this question", uiForm},
		{"UI-02", "every page has its headers", uiHeaders},
		{"UI-03", "the form can narrow what is asked, never widen it", uiNarrow},
		{"UI-04", "the page says who asks for what, where, how often and until when", uiWords},
		{"UI-05", "names are text and nothing else", uiText},
		{"UI-06", "names cannot be confused", uiNames},
		{"UI-07", "nothing new is allowed without a question", uiQuestion},
		{"UI-08", "a question is decided once", uiOnce},
		{"UI-09", "a question belongs to the one who was asked", uiOwner},
		{"UI-10", "people see what they allowed and can stop it", uiMine},
		{"UI-11", "everything works without JavaScript", uiPlain},
	}
}

func uiForm(c *check) {
	alice, bob := c.person("alice"), c.person("bob")
	user := c.userToken("alice")
	x := c.te(c.agent(), user)
	p := c.visit(alice, c.asks(x))
	other := c.visit(alice, c.asks(c.te(c.agent(), user)))
	f := limits{}.on(c, p.decision())
	for what, change := range map[string]func(r *call){
		"without the form's token":         func(r *call) { r.form.Del("form") },
		"with another token":               func(r *call) { r.form.Set("form", nonce()+nonce()) },
		"with the token of another form":   func(r *call) { r.form["form"] = other.request(other.decision(), "allow").form["form"] },
		"from another site":                func(r *call) { r.header = http.Header{"Origin": {"https://evil.test"}} },
		"from another site, says the page": func(r *call) { r.header = http.Header{"Sec-Fetch-Site": {"cross-site"}} },
		"from a sibling":                   func(r *call) { r.header = http.Header{"Sec-Fetch-Site": {"same-site"}} },
	} {
		r := p.request(f, "allow")
		change(&r)
		if after := c.browse(alice, r, nil); after.status != http.StatusForbidden {
			c.Errorf("%s: %d %.200s", what, after.status, after.text())
		}
	}
	if after := c.browse(bob, p.request(f, "allow"), nil); after.status != http.StatusForbidden {
		c.Errorf("by another user: %d", after.status)
	}
	r := p.request(f, "allow")
	r.header = http.Header{"Cookie": {"nobody=x"}}
	if after := c.browse(newBrowser("", ""), r, nil); after.status < 400 && !strings.Contains(after.text(), "Sign in") {
		c.Errorf("by nobody: %d %.200s", after.status, after.text())
	}
	c.want(x.do(), 400, "interaction_required") // nothing was decided
	p.submit(f, "allow")
	c.ok(x.do())
}

func uiHeaders(c *check) {
	b := c.person("alice")
	x := c.te(c.agent(), c.userToken("alice"))
	uri := c.asks(x)
	for _, address := range []string{uri, "/agents", "/sign-in", "/consent/r_" + nonce(), "/consent/nonsense", "/authorize", "/authorize?client_id=nobody", "/console"} {
		p := c.open(b, address) // everyPage looks at the headers
		if p.doc == nil && p.gone == nil {
			c.Errorf("%s is no page: %d %s", address, p.status, p.header.Get("Content-Type"))
		}
		if strings.Contains(string(p.body), "https://") && strings.Contains(string(p.body), "<link rel=\"stylesheet\" href=\"https://") {
			c.Errorf("%s loads from elsewhere", address)
		}
	}
	c.sub("over TLS", uiSecure)
	f := c.flow(b, "mail.read")
	if csp := f.open().header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' https://app.test") {
		c.Errorf("the form of the app's page may lead to %q", csp)
	}
	for _, path := range []string{"/authorize", "/agents", "/consent/r_" + nonce()} {
		a := c.do(call{method: http.MethodOptions, path: path, header: http.Header{"Origin": {"https://evil.test"}, "Access-Control-Request-Method": {"POST"}}})
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			c.Errorf("%s allows other origins", path)
		}
	}
}

// uiSecure: over TLS the cookies are for TLS alone, which takeCookies looks at, and everything works as it does without.
func uiSecure(c *check) {
	p := c.apart(func(o *options) { o.tls = true })
	token, _ := p.mailToken()
	p.first(p.rs1, token)
	if header := p.person("alice").header(); !strings.Contains(header, "__Host-") {
		p.Errorf("the cookies are %q", header)
	}
}

func uiNarrow(c *check) {
	alice := c.person("alice")
	x := c.te(c.agent(), c.userToken("alice")).set("scope", "mail.read mail.send")
	p := c.visit(alice, c.asks(x))
	tampered := []url.Values{
		{"scope": {"0", "1", "2"}},
		{"scope": {"mail.delete"}},
		{"scope": {"0", "mail.delete"}},
		{"scope": {"-1"}},
		{"detail": {"0"}},
		{"uses": {"1000000"}},
		{"uses": {"times"}, "times": {"100000"}},
		{"until": {"999999999"}},
	}
	for _, change := range tampered {
		if after := p.submit(limits{}.on(c, p.decision()).with(change), "allow"); after.status < 400 {
			c.Errorf("%v: %d", change, after.status)
		}
	}
	more := limits{}.on(c, p.decision()).only(c, "mail.read").with(url.Values{"agent": {"somebody"}, "target": {"files"}, "user": {"bob"}, "max_uses": {"9"}})
	p.submit(more, "allow")
	a := c.ok(x.but().set("scope", "mail.read").do())
	if a.str("scope") != "mail.read" {
		c.Errorf("scope is %q", a.str("scope"))
	}
	c.want(x.do(), 400, "invalid_scope") // the other one was unticked
	c.want(x.but().at(files, "files.read").do(), 400, "interaction_required")
}

func uiWords(c *check) {
	alice := c.person("alice")
	agent := c.agent()
	x := c.te(agent, c.userToken("alice")).set("scope", "mail.read mail.send").set("authorization_details", string(mustJSON([]obj{payment("12.50", "EUR")})))
	text := c.visit(alice, c.asks(x)).text()
	for _, want := range []string{
		"The agent called " + agent.id, agent.id, "Conformance Ltd", "automated agent", "Mail", "rs1.test", "May do mail.read", "May do mail.send", "12.50", "EUR",
		"Merchant A", "Once", "from now",
	} {
		if !strings.Contains(text, want) {
			c.Errorf("the page does not say %q: %s", want, text)
		}
	}
	text = c.flow(alice, "mail.read").set("resource", mail).open().text()
	for _, want := range []string{"The app", "app.test", "May do mail.read", "Mail"} {
		if !strings.Contains(text, want) {
			c.Errorf("the app's page does not say %q: %s", want, text)
		}
	}
	text = c.flow(alice, "mail.read").set("redirect_uri", "http://127.0.0.1:9999/callback").open().text()
	if !strings.Contains(text, "this very device") || !strings.Contains(text, "127.0.0.1") {
		c.Errorf("the page does not warn of a program on this device: %s", text)
	}
}

func uiText(c *check) {
	alice := c.person("alice")
	nasty := `<script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover="x`
	agent := newClient(c.name("agent"), "ES256")
	a := c.tryAdmin(http.MethodPut, "/agents/"+agent.id, c.registration(agent, obj{"description": nasty, "owner": nasty, "purpose": "evil\u202etxt\u200b\u0007"}))
	if a.status >= 400 {
		c.register(agent, obj{"description": nasty, "owner": nasty}) // a control character may be refused, a bracket not
	}
	x := c.te(agent, c.userToken("alice")).set("authorization_details", string(mustJSON([]obj{{
		"type": "mcp_tool_call", "locations": []string{mail}, "tool": "send<b>mail</b>", "arguments": obj{"to": nasty},
	}})))
	p := c.visit(alice, c.asks(x))
	body := string(p.body)
	for _, bad := range []string{"<script>alert", "<img src=x", `" onmouseover="`, "<b>mail</b>", "\u202e", "\u200b", "\u0007"} {
		if strings.Contains(body, bad) {
			c.Errorf("the page has %q in it", bad)
		}
	}
	if !strings.Contains(p.text(), "alert(1)") {
		c.Error("what was said is not shown")
	}
}

func uiNames(c *check) {
	genuine := newClient(c.name("mailagent"), "ES256")
	c.register(genuine, obj{"name": "Paypal " + genuine.id})
	for what, name := range map[string]string{
		"Cyrillic": strings.Replace("Paypal "+genuine.id, "Pay", "Р\u0430y", 1), "bidi": "Pay\u202epal", "zero width": "Pay\u200bpal", "control": "Pay\x07pal",
	} {
		a := newClient(c.name("agent"), "ES256")
		if got := c.tryAdmin(http.MethodPut, "/agents/"+a.id, c.registration(a, obj{"name": name})); got.status < 400 {
			x := c.te(a, c.userToken("alice"))
			p := c.visit(c.person("alice"), c.asks(x))
			if strings.Contains(string(p.body), name) {
				c.Errorf("%s: registered, and shown as it is", what)
			}
		}
	}
}

func uiQuestion(c *check) {
	alice := c.person("alice")
	x := c.baseline()
	c.ok(x.do())
	c.want(x.but().at(files, "files.read").do(), 400, "interaction_required")
	c.want(x.but().set("scope", "mail.send").do(), 400, "interaction_required")
	c.want(c.te(c.agent(), c.userToken("alice")).do(), 400, "interaction_required")
	changed := newKey("ES256")
	registration := c.registration(x.who, obj{"jwks": jwksOf(changed)})
	if a := c.change("/agents/"+x.who.id, registration); a.status >= 400 {
		c.Fatalf("%d %s", a.status, a.body)
	}
	other := *x.who
	other.key = changed
	y := x.but()
	y.who = &other
	c.want(y.do(), 400, "interaction_required") // it has another key: it is somebody else
	p := c.visit(alice, c.asks(y))
	d := p.decision()
	if i := slices.IndexFunc(d.buttons, func(b field) bool { return b.is("deny") }); i != 0 {
		c.Error("the first button is not the one that refuses")
	}
}

func uiOnce(c *check) {
	alice := c.person("alice")
	x := c.te(c.agent(), c.userToken("alice"))
	p := c.visit(alice, c.asks(x))
	d := limits{}.on(c, p.decision())
	cookie := http.Header{"Cookie": {alice.header()}, "Sec-Fetch-Site": {"same-origin"}}
	answers := c.together(20, func(i int) call {
		r := p.request(d, "allow")
		if i%2 == 1 {
			r = p.request(p.decision(), "deny")
		}
		r.header = cookie
		return r
	})
	for _, a := range answers {
		if a.status != http.StatusSeeOther && a.status != http.StatusConflict {
			c.Errorf("%d", a.status)
		}
	}
	grants := c.admin(http.MethodGet, "/grants?user=alice&agent="+x.who.id, nil)
	list, _ := grants.json["grants"].([]any)
	if a := x.do(); len(list) > 1 || len(list) == 1 != (a.status == 200) || len(list) == 0 && a.code() != "access_denied" {
		c.Errorf("%d grants, and then %d %s", len(list), a.status, a.body)
	}
	c.sub("an app's", func(c *check) {
		f := c.flow(alice, "mail.read")
		p := f.open()
		d := allowAll(p.decision())
		codes := map[string]bool{}
		for _, a := range c.together(20, func(int) call {
			r := p.request(d, "allow")
			r.header = cookie
			return r
		}) {
			if to, err := url.Parse(a.header.Get("Location")); err == nil && to.Query().Get("code") != "" {
				codes[to.Query().Get("code")] = true
				c.secret(to.Query().Get("code"), "authorization code")
			}
		}
		if len(codes) != 1 {
			c.Errorf("%d codes", len(codes))
		}
	})
}

func uiOwner(c *check) {
	x := c.te(c.agent(), c.userToken("alice"))
	uri := c.asks(x)
	if p := c.visit(c.person("bob"), uri); p.status != http.StatusForbidden && p.status != http.StatusNotFound {
		c.Errorf("another user sees it: %d %.200s", p.status, p.text())
	}
	f := c.flow(c.person("alice"), "mail.read")
	p := f.open()
	if after := c.open(c.person("bob"), p.at); after.status != http.StatusForbidden && after.status != http.StatusNotFound {
		c.Errorf("another user sees the app's question: %d", after.status)
	}
	c.sub("the session changes at sign-in", func(c *check) {
		b := newBrowser("bob", bobPass)
		b.cookies["obolus_session"] = "fixed-by-somebody"
		c.open(b, "/sign-in")
		before := b.header()
		c.signIn(b)
		if b.header() == before || strings.Contains(b.header(), "fixed-by-somebody") && strings.Count(b.header(), "=") < 2 {
			c.Errorf("the cookies stayed %q", before)
		}
	})
}

// stopAgentPage has a user stop an agent on the user's own page.
func (c *check) stopAgentPage(b *browser, agent string) {
	c.Helper()
	p := c.visit(b, "/agents")
	f := p.form(func(f form) bool {
		return slices.ContainsFunc(f.fields, func(x field) bool { return x.name == "agent" && x.value == agent })
	})
	if after := p.submit(f, ""); after.status >= 400 {
		c.Fatalf("%d %.300s", after.status, after.text())
	}
}

func uiMine(c *check) {
	b := c.newcomer()
	x := c.te(c.agent(), c.ownToken(b, "mail.read mail.send notes.read"))
	c.allow(b, x, limits{})
	y := x.but().set("scope", "mail.send")
	c.allow(b, y, limits{uses: 3})
	first, second := c.ok(x.do()).token(), c.ok(y.do()).token()
	c.first(c.rs1, second)
	p := c.visit(b, "/agents")
	for _, want := range []string{"The agent called " + x.who.id, "May do mail.read", "May do mail.send", "2 of 3 times left", "Carried out a transaction"} {
		if !strings.Contains(p.text(), want) {
			c.Errorf("the page does not say %q: %s", want, p.text())
		}
	}
	grant := c.consentOf(first)
	f := p.form(func(f form) bool {
		return slices.ContainsFunc(f.fields, func(x field) bool { return x.name == "grant" && x.value == grant })
	})
	p.submit(f, "")
	c.dead(c.rs1, first, "stopping a grant")
	c.want(x.do(), 400, "access_denied")
	third := c.ok(y.do()).token()
	c.stopAgentPage(b, x.who.id)
	c.dead(c.rs1, third, "stopping the agent")
	c.want(y.do(), 400, "access_denied")
}

func uiPlain(c *check) {
	// The browser of the suite has no JavaScript; whatever the cases do works without. What is left is that each control has a name.
	p := c.visit(c.person("alice"), c.asks(c.te(c.agent(), c.userToken("alice"))))
	for _, f := range p.forms() {
		for _, x := range f.fields {
			if x.kind != "hidden" && x.kind != "select" && x.label == "" {
				c.Errorf("%s %q has no label", x.kind, x.name)
			}
		}
		for _, b := range f.buttons {
			if b.label == "" || b.disabled {
				c.Errorf("a button %q without words, or disabled", b.name)
			}
		}
	}
	if strings.Contains(string(p.body), "onclick=") || strings.Contains(string(p.body), "javascript:") {
		c.Error("there is script in the markup")
	}
}
