package conformance_test

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// flow is a run of the authorization code flow of a public client with PKCE.
type flow struct {
	c        *check
	b        *browser
	client   string
	verifier string
	query    url.Values
}

// flow prepares the code flow of the app.
func (c *check) flow(b *browser, scope string) *flow {
	verifier := nonce() + nonce()
	return &flow{c: c, b: b, client: "app", verifier: verifier, query: url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {redirect}, "scope": {scope}, "state": {nonce()},
		"code_challenge": {s256(verifier)}, "code_challenge_method": {"S256"},
	}}
}

func (f *flow) set(name string, values ...string) *flow {
	f.query[name] = values
	return f
}

func (f *flow) drop(name string) *flow {
	delete(f.query, name)
	return f
}

// open opens the authorization endpoint and signs in if it must.
func (f *flow) open() page {
	f.c.Helper()
	return f.c.visit(f.b, "/authorize?"+f.query.Encode())
}

// callback is what the client got: the parameters of its redirect URI.
func (f *flow) callback() url.Values {
	f.c.Helper()
	p := f.open()
	if p.gone == nil {
		p = p.submit(f.all(p.decision()), "allow")
	}
	return f.back(p)
}

// all ticks every box of a form.
func (f *flow) all(d form) form { return allowAll(d) }

func allowAll(d form) form {
	ticked := url.Values{}
	for _, x := range d.fields {
		if x.kind == "checkbox" && !x.disabled {
			ticked.Add(x.name, x.value)
		}
	}
	return d.with(ticked)
}

// back reads where the browser was sent, which must be the client.
func (f *flow) back(p page) url.Values {
	f.c.Helper()
	want, err := url.Parse(f.query.Get("redirect_uri"))
	if err != nil {
		f.c.Fatal(err)
	}
	if p.gone == nil || p.gone.Host != want.Host || p.gone.Path != want.Path || p.gone.Scheme != want.Scheme {
		f.c.Fatalf("the browser is at %s (%d), not at the client: %v %.600s", p.at, p.status, p.gone, p.text())
	}
	q := p.gone.Query()
	if q.Get("state") != f.query.Get("state") {
		f.c.Errorf("state came back as %q", q.Get("state"))
	}
	if q.Get("iss") != f.c.issuer {
		f.c.Errorf("iss of the authorization response is %q", q.Get("iss"))
	}
	for _, status := range p.moves {
		if status != http.StatusSeeOther && status != http.StatusFound {
			f.c.Errorf("a redirect with %d", status)
		}
	}
	return q
}

// code runs the flow up to the code.
func (f *flow) code() string {
	f.c.Helper()
	q := f.callback()
	if q.Get("code") == "" {
		f.c.Fatalf("no code: %v", q)
	}
	return q.Get("code")
}

// form is the token request for a code.
func (f *flow) form(code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {f.client}, "code": {code}, "redirect_uri": {f.query.Get("redirect_uri")},
		"code_verifier": {f.verifier},
	}
}

// token runs the flow up to the user's token.
func (f *flow) token() string {
	f.c.Helper()
	return f.c.ok(f.c.post("/token", f.form(f.code()))).token()
}

// everything that the cases ask a user for.
const everything = "mail.read mail.send files.read files.write notes.read notes.write brief.read fresh.read"

// userToken is a user's own token for the app, for all scopes, shared by the cases that do not spoil it.
func (c *check) userToken(user string) string {
	c.Helper()
	b := c.person(user)
	b.signing.Lock()
	defer b.signing.Unlock()
	c.mu.Lock()
	token := c.subjects[user]
	c.mu.Unlock()
	if token != "" {
		if j, err := parseJWT(token); err == nil && j.num("exp") > in(120) {
			return token
		}
	}
	token = c.flow(b, everything).token()
	c.mu.Lock()
	c.subjects[user] = token
	c.mu.Unlock()
	return token
}

// ownToken is a user's token that no other case knows.
func (c *check) ownToken(b *browser, scope string) string {
	c.Helper()
	return c.flow(b, scope).token()
}

// limits are what a user sets on the consent page.
type limits struct {
	uses   int // zero: any number, until it ends
	scopes []string
}

// allow has a user allow what a request asks for. The request must lack the consent.
func (c *check) allow(b *browser, x *exchange, l limits) {
	c.Helper()
	c.decide(c.asks(x), b, l)
}

// asks sends a request that lacks consent and returns where the user decides.
func (c *check) asks(x *exchange) string {
	c.Helper()
	a := c.want(x.do(), http.StatusBadRequest, "interaction_required")
	uri := a.str("interaction_uri")
	if !strings.HasPrefix(uri, c.issuer+"/consent/") || a.num("expires_in") <= 0 || a.num("interval") <= 0 {
		c.Fatalf("interaction_required with %s", a.body)
	}
	return uri
}

// decide allows at a page.
func (c *check) decide(uri string, b *browser, l limits) page {
	c.Helper()
	p := c.visit(b, uri)
	after := p.submit(l.on(c, p.decision()), "allow")
	if after.status >= http.StatusBadRequest {
		c.Fatalf("the decision was not taken: %d %.600s", after.status, after.text())
	}
	return after
}

// on sets the limits on a decision's form.
func (l limits) on(c *check, d form) form {
	c.Helper()
	d = allowAll(d)
	if l.scopes != nil {
		d = d.only(c, l.scopes...)
	}
	return d.uses(l.uses)
}

// only leaves the boxes for these scopes ticked.
func (f form) only(c *check, scopes ...string) form {
	c.Helper()
	name, values := "", []string{}
	for _, x := range f.fields {
		if x.kind != "checkbox" || !strings.Contains(x.name, "scope") {
			continue
		}
		name = x.name
		if slices.ContainsFunc(scopes, func(s string) bool { return strings.Contains(x.label, s) }) {
			values = append(values, x.value)
		}
	}
	if name == "" || len(values) != len(scopes) {
		c.Fatalf("the page has no boxes for %v", scopes)
	}
	return f.with(url.Values{name: values})
}

// uses says how often: the page has a choice between once, so many times, and any number of times.
func (f form) uses(n int) form {
	values := url.Values{}
	for _, x := range f.fields {
		switch {
		case x.kind == "number":
			values.Set(x.name, strconv.Itoa(max(n, 1)))
		case x.kind == "radio" && (n == 0) == (x.value == "any") && (n == 1) == (x.value == "once"):
			values.Set(x.name, x.value)
		default:
		}
	}
	return f.with(values)
}

// allowed is an exchange that its user has allowed without limit.
func (c *check) allowed(user string, x *exchange) *exchange {
	c.Helper()
	c.allow(c.person(user), x, limits{})
	return x
}

// mailToken is a fresh one-transaction token for the mail server, and the agent it was issued to.
func (c *check) mailToken() (string, *client) {
	c.Helper()
	agent := c.agent()
	return c.ok(c.allowed("alice", c.te(agent, c.userToken("alice"))).do()).token(), agent
}

// eventually repeats a check until it agrees, for as long as patience.
func (c *check) eventually(patience time.Duration, what string, agree func() bool) {
	c.Helper()
	for end := time.Now().Add(patience); !agree(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("%s did not happen within %s", what, patience)
		}
	}
}
