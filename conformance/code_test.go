package conformance_test

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
)

func pushedCases() []testCase {
	return []testCase{
		{"PAR-01", "a pushed request gets a name that cannot be guessed", parName},
		{"PAR-02", "a request_uri is not pushed", parNested},
		{"PAR-03", "the name is good for its client alone", parClient},
		{"PAR-04", "it is good until the decision, once", parOnce},
		{"PAR-05", "what was true when it was pushed is checked again", parAgain},
		{"PAR-06", "refusals are those of the token endpoint", parRefusals},
		{"PAR-07", "pushing can be demanded, of one client too", parDemanded},
		{"PAR-08", "a redirect URI that is not registered is not pushed", func(c *check) {
			c.want(c.post("/par", c.flow(c.person("alice"), "mail.read").set("redirect_uri", "https://evil.test/").query), 400, "invalid_request")
		}},
	}
}

// push pushes the request of a flow, and makes the flow go on by its name.
func (c *check) push(f *flow) string {
	c.Helper()
	a := c.post("/par", f.query)
	if a.status != http.StatusCreated || a.str("request_uri") == "" {
		c.Fatalf("%d %s", a.status, a.body)
	}
	f.query = url.Values{
		"client_id": {f.client}, "request_uri": {a.str("request_uri")}, "redirect_uri": f.query["redirect_uri"], "state": f.query["state"],
	}
	return a.str("request_uri")
}

func parName(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	a := c.post("/par", f.query)
	uri := a.str("request_uri")
	if a.status != http.StatusCreated || !strings.HasPrefix(uri, "urn:ietf:params:oauth:request_uri:") || len(uri) < 34+22 {
		c.Errorf("%d %s", a.status, a.body)
	}
	if n := a.num("expires_in"); n < 5 || n > 600 {
		c.Errorf("expires_in is %d", n)
	}
	c.push(f)
	if scope := c.decode(f.token()).str("scope"); scope != "mail.read" {
		c.Errorf("scope is %q", scope)
	}
}

func parDemanded(c *check) {
	only := c.name("pusher")
	c.admin(http.MethodPut, "/clients/"+only, obj{
		"id": only, "name": "The app called " + only, "auth": "none", "redirect_uris": []string{redirect}, "grant_types": []string{"authorization_code"},
		"require_pushed_authorization_requests": true,
	})
	f := c.flow(c.person("alice"), "mail.read").set("client_id", only)
	f.client = only
	if q := f.back(f.open()); q.Get("error") != "invalid_request" || q.Get("code") != "" {
		c.Errorf("a request that was not pushed: %v", q)
	}
	c.push(f)
	f.token()
	c = c.apart(func(o *options) { o.change = func(cfg obj) { cfg["require_pushed_authorization_requests"] = true } })
	if meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0)); meta.json["require_pushed_authorization_requests"] != true {
		c.Error("the metadata does not say so")
	}
	g := c.flow(c.person("alice"), "mail.read")
	if q := g.back(g.open()); q.Get("error") != "invalid_request" {
		c.Errorf("a request that was not pushed, to a server that demands it: %v", q)
	}
	c.push(g)
	g.token()
}

func parNested(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	uri := c.push(c.flow(c.person("alice"), "mail.read"))
	c.want(c.post("/par", f.set("request_uri", uri).query), 400, "invalid_request")
	c.want(c.post("/par", url.Values{"client_id": {"app"}, "request_uri": {"https://evil.test/request"}}), 400, "invalid_request")
}

// errorPage holds a page to a refusal that leads nowhere.
func (c *check) errorPage(p page, what string) {
	c.Helper()
	if p.gone != nil || p.status < 400 || p.status >= 500 || p.doc == nil {
		c.Errorf("%s: %d, sent to %v: %.300s", what, p.status, p.gone, p.text())
	}
}

func parClient(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	c.push(f)
	q := url.Values{"client_id": {"app2"}, "request_uri": f.query["request_uri"]}
	c.errorPage(c.open(f.b, "/authorize?"+q.Encode()), "another client")
	q = url.Values{"request_uri": f.query["request_uri"]}
	c.errorPage(c.open(f.b, "/authorize?"+q.Encode()), "no client")
	c.errorPage(c.open(f.b, "/authorize?client_id=app&request_uri=urn:ietf:params:oauth:request_uri:"+nonce()), "an unknown name")
	f.code() // it was not touched
}

func parOnce(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	c.push(f)
	first, again := f.open(), f.open() // a page that is loaded anew
	if first.doc == nil || again.doc == nil {
		c.Fatalf("%d %d", first.status, again.status)
	}
	q := f.back(again.submit(allowAll(again.decision()), "allow"))
	if q.Get("code") == "" {
		c.Errorf("%v", q)
	}
	c.errorPage(f.open(), "used before")
}

func parAgain(c *check) {
	id := c.name("app")
	registration := obj{"name": "App called " + id, "auth": "none", "redirect_uris": []string{redirect}, "grant_types": []string{"authorization_code"}}
	c.admin(http.MethodPut, "/clients/"+id, registration)
	pushed := func() *flow {
		f := c.flow(c.person("alice"), "mail.read").set("client_id", id)
		f.client = id
		c.push(f)
		return f
	}
	moved, disabled, shown := pushed(), pushed(), pushed()
	p := shown.open()
	c.change("/clients/"+id, merge(registration, obj{"redirect_uris": []string{redirect2}}))
	c.errorPage(moved.open(), "the redirect URI is gone")
	c.change("/clients/"+id, merge(registration, obj{"disabled": true}))
	c.errorPage(disabled.open(), "the client is disabled")
	if after := p.submit(allowAll(p.decision()), "allow"); after.gone != nil && after.gone.Query().Get("code") != "" {
		c.Error("a code for a disabled client")
	}
}

func parRefusals(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	if a := c.get("/par?"+f.query.Encode(), 0); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
		c.Errorf("GET: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	if a := c.post("/par", url.Values{"client_id": {"app"}, "x": {strings.Repeat("x", 1<<20)}}); a.status != http.StatusRequestEntityTooLarge {
		c.Errorf("1 MiB: %d", a.status)
	}
	c.want(c.post("/par", url.Values{"client_id": {"nobody"}}), 401, "invalid_client")
	c.want(c.ask("/par", c.rs1, url.Values{"response_type": {"code"}}), 400, "unauthorized_client")
	for name, change := range map[string]struct{ value, code string }{
		"scope": {"no.such.scope", "invalid_scope"}, "resource": {"https://unknown.test", "invalid_target"}, "code_challenge": {"", "invalid_request"},
		"code_challenge_method": {"plain", "invalid_request"}, "response_type": {"token", "unsupported_response_type"},
		"authorization_details": {`[{"type":"unknown"}]`, "invalid_authorization_details"}, "request": {"x.y.z", "request_not_supported"},
	} {
		f := c.flow(c.person("alice"), "mail.read").set(name, change.value)
		if a := c.post("/par", f.query); a.status != 400 || a.code() != change.code {
			c.Errorf("%s=%s: %d %s", name, change.value, a.status, a.body)
		}
	}
	f = c.flow(c.person("alice"), "mail.read").set("scope", "mail.read", "mail.read")
	c.want(c.post("/par", f.query), 400, "invalid_request")
}

func codeCases() []testCase {
	return []testCase{
		{"O21-01", "redirect URIs are compared as they are, but for the port on loopback", o21Redirect},
		{"O21-02", "a wrong client or redirect URI is redirected nowhere", o21Nowhere},
		{"O21-03", "no parameter repeats, unknown ones are ignored, empty ones are absent", o21Parameters},
		{"O21-04", "PKCE by S256, for everybody", o21PKCE},
		{"O21-05", "a code is for one use by its client", o21Code},
		{"O21-06", "redirect_uri at the token endpoint may be left out, but not be another", o21TokenRedirect},
		{"O21-07", "a code that comes again ends its token only if it is right otherwise", o21Replay},
		{"O21-08", "the answer is not stored and has no refresh token", o21Answer},
		{"O21-09", "401 is for the client, 400 for the rest", o21Statuses},
		{"O21-10", "a form is answered by 303", o21SeeOther},
		{"O21-11", "a client that proves nothing is asked for each time", o21Prompt},
		{"O21-16", "no implicit grant, no password", o21Retired},
	}
}

func o21Redirect(c *check) {
	b := c.person("alice")
	for _, uri := range []string{"http://127.0.0.1/callback", "http://127.0.0.1:8080/callback", "http://127.0.0.1:65000/callback"} {
		f := c.flow(b, "mail.read").set("redirect_uri", uri)
		if f.code() == "" {
			c.Errorf("%s: no code", uri)
		}
	}
	for _, uri := range []string{
		redirect + "/", redirect + "?x=1", redirect + "#f", "https://app.test", "https://APP.test/callback", "https://app.test:443/callback", "http://app.test/callback",
		"https://app.test.evil.test/callback", "https://user@app.test/callback", "https://app.test/callback/../callback", "https://app.test/%63allback",
		"http://localhost/callback", "http://127.0.0.1/other", "https://127.0.0.1/callback", "http://127.0.0.1:8080/callback?x", "http://127.0.0.1@evil.test/callback",
		"http://127.0.0.1:80:80/callback", "http://[::1]/callback", "javascript:alert(1)", redirect2, "http://127.0.0.2/callback", "http://127.0.0.1.evil.test/callback",
	} {
		f := c.flow(b, "mail.read").set("redirect_uri", uri)
		c.errorPage(f.open(), uri)
	}
}

func o21Nowhere(c *check) {
	b := c.person("alice")
	c.errorPage(c.flow(b, "mail.read").set("client_id", "nobody").open(), "an unknown client")
	c.errorPage(c.flow(b, "mail.read").drop("client_id").open(), "no client")
	c.errorPage(c.flow(b, "mail.read").set("redirect_uri", "https://evil.test/").open(), "a foreign redirect URI")
	c.errorPage(c.flow(b, "no.such.scope").set("redirect_uri", "https://evil.test/").open(), "two mistakes")
	c.errorPage(c.flow(b, "mail.read").set("client_id", "app", "app").open(), "two clients")
	c.errorPage(c.flow(b, "mail.read").set("redirect_uri", redirect, redirect).open(), "two redirect URIs")
	c.errorPage(c.flow(b, "mail.read").set("client_id", c.agent().id).open(), "an agent as client")
}

func o21Parameters(c *check) {
	b := c.person("alice")
	for _, name := range []string{"response_type", "scope", "state", "code_challenge", "code_challenge_method"} {
		f := c.flow(b, "mail.read")
		v := f.query.Get(name)
		f.set(name, v, v)
		p := f.open()
		if p.gone == nil || p.gone.Query().Get("error") != "invalid_request" || p.gone.Query().Get("iss") != c.issuer {
			c.Errorf("%s twice: %d %v", name, p.status, p.gone)
		}
	}
	c.flow(b, "mail.read").set("foo", "bar").set("nonce", "").code()
	f := c.flow(b, "mail.read")
	form := f.form(f.code())
	for name := range form {
		twice := url.Values{}
		maps.Copy(twice, form)
		twice[name] = []string{form.Get(name), form.Get(name)}
		c.want(c.post("/token", twice), 400, "invalid_request")
	}
	form.Set("foo", "bar")
	form.Set("resource", "")
	c.ok(c.post("/token", form))
	token, agent := c.mailToken()
	for path, by := range map[string]*client{"/introspect": c.rs1, "/revoke": agent, "/redeem": c.rs1} {
		c.want(c.ask(path, by, url.Values{"token": {token, token}}), 400, "invalid_request")
	}
	c.first(c.rs1, token)
}

func o21PKCE(c *check) {
	b := c.person("alice")
	for what, f := range map[string]*flow{
		"no challenge": c.flow(b, "mail.read").drop("code_challenge"), "plain": c.flow(b, "mail.read").set("code_challenge_method", "plain"),
		"no method": c.flow(b, "mail.read").drop("code_challenge_method"), "a short challenge": c.flow(b, "mail.read").set("code_challenge", "abc"),
		"neither": c.flow(b, "mail.read").drop("code_challenge").drop("code_challenge_method"),
	} {
		if q := f.back(f.open()); q.Get("error") != "invalid_request" || q.Get("code") != "" {
			c.Errorf("%s: %v", what, q)
		}
	}
	for what, verifier := range map[string]string{
		"42 characters": strings.Repeat("a", 42), "129 characters": strings.Repeat("a", 129), "bad characters": strings.Repeat("a", 42) + "!",
		"another": nonce() + nonce(), "none": "",
	} {
		f := c.flow(b, "mail.read")
		if what != "another" && what != "none" {
			f.set("code_challenge", s256(verifier))
		}
		form := f.form(f.code())
		form.Set("code_verifier", verifier)
		if a := c.post("/token", form); a.status != 400 || a.code() != "invalid_grant" {
			c.Errorf("verifier of %s: %d %s", what, a.status, a.body)
		}
	}
	longest := c.flow(b, "mail.read")
	longest.verifier = strings.Repeat("a.-_~Z9", 18) + "ab"
	longest.set("code_challenge", s256(longest.verifier)).token()
}

func o21Code(c *check) {
	b := c.person("alice")
	f := c.flow(b, "mail.read")
	form := f.form(f.code())
	other := url.Values{}
	maps.Copy(other, form)
	other.Set("client_id", "app2")
	c.want(c.post("/token", other), 400, "invalid_grant")
	other.Set("client_id", "nobody")
	c.want(c.post("/token", other), 401, "invalid_client")
	counts := tally(c.together(40, func(int) call { return call{method: http.MethodPost, path: "/token", form: form} }))
	if counts["OK token"] != 1 || counts["Bad Request invalid_grant"] != 39 {
		c.Errorf("%v", counts)
	}
	for _, code := range []string{"x", nonce() + nonce(), form.Get("code") + "x", ""} {
		bad := url.Values{}
		maps.Copy(bad, form)
		bad.Set("code", code)
		if a := c.post("/token", bad); a.status != 400 || a.code() != "invalid_grant" && a.code() != "invalid_request" {
			c.Errorf("%d %s", a.status, a.body)
		}
	}
}

func o21TokenRedirect(c *check) {
	b := c.person("alice")
	f := c.flow(b, "mail.read")
	form := f.form(f.code())
	form.Set("redirect_uri", redirect+"/")
	c.want(c.post("/token", form), 400, "invalid_grant")
	form.Del("redirect_uri")
	c.ok(c.post("/token", form))
}

func o21Replay(c *check) {
	b := c.person("alice")
	issued := func() (url.Values, string) {
		f := c.flow(b, "mail.read").set("resource", mail)
		form := f.form(f.code())
		return form, c.ok(c.post("/token", form)).token()
	}
	form, token := issued()
	c.want(c.post("/token", form), 400, "invalid_grant")
	c.dead(c.rs1, token, "the code coming again")
	for what, change := range map[string]url.Values{
		"by another client": {"client_id": {"app2"}}, "with another verifier": {"code_verifier": {nonce() + nonce()}}, "with another redirect URI": {"redirect_uri": {redirect2}},
	} {
		form, token := issued()
		maps.Copy(form, change)
		c.want(c.post("/token", form), 400, "invalid_grant")
		if !c.active(c.rs1, token) {
			c.Errorf("%s: the first token was ended", what)
		}
	}
}

func o21Answer(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	a := c.ok(c.post("/token", f.form(f.code())))
	if _, there := a.json["refresh_token"]; there {
		c.Error("there is a refresh token, which nothing here can use")
	}
	if !strings.Contains(a.header.Get("Cache-Control"), "no-store") || a.str("token_type") != "Bearer" || a.str("scope") != "mail.read" {
		c.Errorf("%v %s", a.header, a.body)
	}
}

func o21Statuses(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	form := f.form(f.code())
	form.Set("client_id", "nobody")
	c.want(c.post("/token", form), 401, "invalid_client")
	form.Del("client_id")
	if a := c.post("/token", form); a.status != 401 && a.status != 400 {
		c.Errorf("no client: %d", a.status)
	}
	form.Set("client_id", "app")
	form.Set("code", "x")
	c.want(c.post("/token", form), 400, "invalid_grant")
	c.want(c.post("/token", url.Values{"client_id": {"app"}}), 400, "invalid_request")
	c.want(c.post("/token", url.Values{"client_id": {"rs2"}, "client_secret": {rs2Secret}, "grant_type": {"authorization_code"}, "code": {"x"}}), 400, "unauthorized_client")
}

func o21SeeOther(c *check) {
	f := c.flow(c.person("alice"), "mail.read")
	p := f.open()
	after := p.submit(allowAll(p.decision()), "allow")
	if len(after.moves) == 0 || after.moves[0] != http.StatusSeeOther {
		c.Errorf("allow: %v", after.moves)
	}
	p = c.flow(c.person("alice"), "mail.read").open()
	if after := p.submit(p.decision(), "deny"); len(after.moves) == 0 || after.moves[0] != http.StatusSeeOther {
		c.Errorf("deny: %v", after.moves)
	}
}

func o21Prompt(c *check) {
	b := c.person("alice")
	for range 2 {
		f := c.flow(b, "mail.read")
		p := f.open()
		if p.gone != nil {
			c.Fatal("a client that proves nothing got a code without a question")
		}
		f.back(p.submit(allowAll(p.decision()), "allow"))
	}
	f := c.flow(b, "mail.read").set("prompt", "none")
	if q := f.back(f.open()); q.Get("code") != "" || q.Get("error") == "" {
		c.Errorf("prompt=none: %v", q)
	}
	c.sub("a client of the house that proves itself", func(c *check) {
		id := c.name("house")
		secret := c.admin(http.MethodPut, "/clients/"+id, obj{
			"name": "House " + id, "auth": "client_secret_basic", "first_party": true, "redirect_uris": []string{redirect},
			"grant_types": []string{"authorization_code"},
		}).str("client_secret")
		c.secret(secret, "client secret")
		f := c.flow(b, "mail.read").set("client_id", id)
		p := f.open()
		form := f.form(f.back(p).Get("code"))
		form.Del("client_id")
		c.want(c.post("/token", form), 401, "invalid_client")
		c.ok(c.do(call{method: http.MethodPost, path: "/token", form: form, header: basic(id, secret)}))
	})
}

func o21Retired(c *check) {
	b := c.person("alice")
	for _, kind := range []string{"token", "id_token", "code token", "none", "code id_token token"} {
		f := c.flow(b, "mail.read").set("response_type", kind)
		if q := f.back(f.open()); q.Get("error") != "unsupported_response_type" {
			c.Errorf("response_type=%s: %v", kind, q)
		}
	}
	for _, mode := range []string{"fragment", "form_post", "web_message"} {
		f := c.flow(b, "mail.read").set("response_mode", mode)
		if q := f.back(f.open()); q.Get("error") == "" || q.Get("code") != "" {
			c.Errorf("response_mode=%s: %v", mode, q)
		}
	}
	for _, grant := range []string{"password", "implicit", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"} {
		c.want(c.post("/token", url.Values{
			"grant_type": {grant}, "client_id": {"app"}, "username": {"alice"}, "password": {"not hers, anyway"}, "refresh_token": {nonce()},
		}), 400, "unsupported_grant_type")
	}
	token := c.userToken("alice")
	if a := c.get("/agents?access_token="+token, 0); a.status == http.StatusOK {
		c.Error("a token in the query opens a page")
	}
}
