package conformance_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/html"
)

// browser is a person at a browser without JavaScript: cookies, pages and forms.
type browser struct {
	user, password string
	signing        sync.Mutex // held while it signs in
	mu             sync.Mutex
	cookies        map[string]string
}

func newBrowser(user, password string) *browser {
	return &browser{user: user, password: password, cookies: map[string]string{}}
}

// header is the Cookie header.
func (b *browser) header() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pairs []string
	for name, v := range b.cookies {
		pairs = append(pairs, name+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "; ")
}

// page is what a browser shows: the answer after redirects within the server, or where it was sent out of it.
type page struct {
	c  *check
	b  *browser
	at string // the address
	answer
	doc   *html.Node
	gone  *url.URL // the address outside that it was sent to
	moves []int    // statuses of the redirects on the way
}

// person is the browser of a user of the configuration, signed in.
func (c *check) person(user string) *browser {
	c.Helper()
	password := alicePass
	if user == "bob" {
		password = bobPass
	}
	return c.signedIn(user, password)
}

// signedIn is the browser of a user who has signed in, opened once for an installation.
func (c *check) signedIn(user, password string) *browser {
	c.Helper()
	c.mu.Lock()
	b := c.people[user]
	if b == nil {
		b = newBrowser(user, password)
		c.people[user] = b
	}
	c.mu.Unlock()
	b.signing.Lock()
	defer b.signing.Unlock()
	if b.header() == "" {
		c.signIn(b)
	}
	return b
}

// newcomer registers a user of the case's own and returns the browser, signed in.
func (c *check) newcomer() *browser {
	c.Helper()
	id, password := c.name("user"), "newcomer-"+nonce()
	c.secret(password, "password")
	c.admin(http.MethodPut, "/users/"+id, obj{"name": "Newcomer " + id, "password": password})
	return c.signedIn(id, password)
}

// signIn signs a browser in by the page for it.
func (c *check) signIn(b *browser) {
	c.Helper()
	p := c.visit(b, "/sign-in")
	f := p.form(func(f form) bool { return f.has("password") })
	after := p.submit(f.fillIn(b.user, b.password), "")
	if after.status >= http.StatusBadRequest || b.header() == "" {
		c.Fatalf("%s cannot sign in: %d %.500s", b.user, after.status, after.text())
	}
}

// visit opens an address, follows redirects within the server and signs in where a page asks for that.
func (c *check) visit(b *browser, address string) page {
	c.Helper()
	p := c.open(b, address)
	if p.doc != nil && b.password != "" && address != "/sign-in" {
		if f, ok := p.find(func(f form) bool { return f.has("password") }); ok {
			return p.submit(f.fillIn(b.user, b.password), "")
		}
	}
	return p
}

// open opens an address and follows redirects within the server.
func (c *check) open(b *browser, address string) page {
	c.Helper()
	return c.browse(b, call{method: http.MethodGet, path: address}, nil)
}

func (c *check) browse(b *browser, r call, moves []int) page {
	c.Helper()
	at := r.path
	if !strings.Contains(at, "://") {
		at = c.issuer + at
	}
	header := http.Header{}
	maps.Copy(header, r.header)
	header.Set("Accept", "text/html")
	if _, set := header["Cookie"]; !set {
		header.Set("Cookie", b.header())
	}
	if r.method == http.MethodPost {
		origin, err := url.Parse(c.issuer)
		if err != nil {
			c.Fatal(err)
		}
		if _, set := header["Origin"]; !set {
			header.Set("Origin", origin.Scheme+"://"+origin.Host)
		}
		if _, set := header["Sec-Fetch-Site"]; !set {
			header.Set("Sec-Fetch-Site", "same-origin")
		}
	}
	for name, v := range header {
		if len(v) == 1 && v[0] == "" {
			delete(header, name)
		}
	}
	a := c.do(call{method: r.method, path: at, form: r.form, header: header, node: r.node})
	c.takeCookies(b, a)
	p := page{c: c, b: b, at: at, answer: a, moves: moves}
	if a.status >= 300 && a.status < 400 {
		return c.follow(p)
	}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		doc, err := html.Parse(bytes.NewReader(a.body))
		if err != nil {
			c.Fatal(err)
		}
		p.doc = doc
	}
	return p
}

func (c *check) follow(p page) page {
	c.Helper()
	from, err := url.Parse(p.at)
	if err != nil {
		c.Fatal(err)
	}
	to, err := from.Parse(p.header.Get("Location"))
	if err != nil {
		c.Fatalf("Location: %v", err)
	}
	p.moves = append(p.moves, p.status)
	if len(p.moves) > 10 {
		c.Fatalf("redirects without end, at %s", to)
	}
	if to.Host != from.Host || to.Scheme != from.Scheme || !strings.HasPrefix(to.String(), c.issuer) {
		p.gone = to
		if code := to.Query().Get("code"); code != "" {
			c.secret(code, "authorization code")
		}
		return p
	}
	return c.browse(p.b, call{method: http.MethodGet, path: to.String()}, p.moves)
}

func (c *check) takeCookies(b *browser, a answer) {
	c.Helper()
	res := http.Response{Header: a.header}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range res.Cookies() {
		if k.MaxAge < 0 || k.Value == "" {
			delete(b.cookies, k.Name)
			continue
		}
		b.cookies[k.Name] = k.Value
		c.secret(k.Value, "cookie")
		if !k.HttpOnly || k.SameSite < http.SameSiteLaxMode {
			c.Errorf("cookie %s is not HttpOnly and SameSite", k.Name)
		}
		if strings.HasPrefix(c.issuer, "https:") && (!k.Secure || !strings.HasPrefix(k.Name, "__Host-")) {
			c.Errorf("cookie %s is not Secure with the prefix __Host-", k.Name)
		}
	}
}

// text is what a person reads.
func (p page) text() string {
	var b strings.Builder
	var walk func(n *html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "style") {
			return
		}
		if n.Type == html.TextNode {
			b.WriteString(n.Data + " ")
		}
		for child := n.FirstChild; child != nil; child = child.NextSibling {
			walk(child)
		}
	}
	if p.doc != nil {
		walk(p.doc)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// field is a control of a form.
type field struct {
	name, value, kind, label string // label: the text of the button, or of the label around the control
	checked, disabled        bool
	options                  []string
}

// form is a form of a page.
type form struct {
	action, method string
	fields         []field
	buttons        []field
	set            url.Values // what a person changed
}

func (f form) has(kind string) bool {
	return slices.ContainsFunc(f.fields, func(x field) bool { return x.kind == kind })
}

// fillIn is for a sign-in form.
func (f form) fillIn(user, password string) form {
	values := url.Values{}
	for _, x := range f.fields {
		switch x.kind {
		case "text", "email":
			values.Set(x.name, user)
		case "password":
			values.Set(x.name, password)
		default:
		}
	}
	return f.with(values)
}

// with changes fields; an empty list of values unticks one.
func (f form) with(values url.Values) form {
	set := url.Values{}
	maps.Copy(set, f.set)
	maps.Copy(set, values)
	f.set = set
	return f
}

// values are what a browser would send.
func (f form) values(button string) url.Values {
	out := url.Values{}
	for _, x := range f.fields {
		switch {
		case x.name == "" || x.disabled:
		case (x.kind == "checkbox" || x.kind == "radio") && !x.checked:
		default:
			out.Add(x.name, x.value)
		}
	}
	for name, v := range f.set {
		out[name] = v
		if len(v) == 0 {
			delete(out, name)
		}
	}
	for _, b := range f.buttons {
		if b.name != "" && (button == "" && len(f.buttons) == 1 || button != "" && b.is(button)) {
			out.Set(b.name, b.value)
		}
	}
	return out
}

// is says whether a button is the one for a purpose.
func (x field) is(purpose string) bool {
	words := map[string][]string{
		"allow": {"allow", "approve", "accept"}, "deny": {"deny", "refuse", "reject", "decline"},
	}[purpose]
	if words == nil {
		words = []string{purpose}
	}
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(x.value+" "+x.label), w) })
}

// forms are those of the page.
func (p page) forms() []*form {
	var found []*form
	if p.doc == nil {
		return nil
	}
	for n := range p.doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" {
			continue
		}
		f := &form{action: attr(n, "action"), method: strings.ToUpper(cmp.Or(attr(n, "method"), "get"))}
		for d := range n.Descendants() {
			if d.Type == html.ElementNode {
				f.take(d)
			}
		}
		found = append(found, f)
	}
	return found
}

func (f *form) take(n *html.Node) {
	x := field{
		name: attr(n, "name"), value: attr(n, "value"), kind: cmp.Or(attr(n, "type"), "text"), checked: has(n, "checked"),
		disabled: has(n, "disabled"), label: textOf(n),
	}
	for up := n.Parent; up != nil; up = up.Parent {
		if up.Type == html.ElementNode && up.Data == "label" {
			x.label = textOf(up)
		}
	}
	switch n.Data {
	case "button":
		if cmp.Or(attr(n, "type"), "submit") == "submit" {
			f.buttons = append(f.buttons, x)
		}
	case "input":
		if x.kind == "submit" {
			x.label = x.value
			f.buttons = append(f.buttons, x)
			return
		}
		if (x.kind == "checkbox" || x.kind == "radio") && x.value == "" {
			x.value = "on"
		}
		f.fields = append(f.fields, x)
	case "textarea":
		x.kind, x.value = "textarea", textOf(n)
		f.fields = append(f.fields, x)
	case "select":
		x.kind = "select"
		for o := range n.Descendants() {
			if o.Type != html.ElementNode || o.Data != "option" {
				continue
			}
			v := cmp.Or(attr(o, "value"), textOf(o))
			if has(o, "selected") || len(x.options) == 0 {
				x.value = v
			}
			x.options = append(x.options, v)
		}
		f.fields = append(f.fields, x)
	default:
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

func (p page) find(match func(form) bool) (form, bool) {
	for _, f := range p.forms() {
		if match(*f) {
			return *f, true
		}
	}
	return form{}, false
}

// form finds a form of the page, which must be there.
func (p page) form(match func(form) bool) form {
	p.c.Helper()
	f, ok := p.find(match)
	if !ok {
		p.c.Fatalf("the page at %s (%d) has no such form: %.600s", p.at, p.status, p.text())
	}
	return f
}

// decision is the form by which a person allows or refuses.
func (p page) decision() form {
	p.c.Helper()
	return p.form(decides)
}

func decides(f form) bool {
	return slices.ContainsFunc(f.buttons, func(b field) bool { return b.is("deny") }) &&
		slices.ContainsFunc(f.buttons, func(b field) bool { return b.is("allow") })
}

// submit sends a form, by one of its buttons.
func (p page) submit(f form, button string) page {
	p.c.Helper()
	return p.c.browse(p.b, p.request(f, button), nil)
}

// request is what submit sends.
func (p page) request(f form, button string) call {
	p.c.Helper()
	from, err := url.Parse(p.at)
	if err != nil {
		p.c.Fatal(err)
	}
	to, err := from.Parse(f.action)
	if err != nil {
		p.c.Fatal(err)
	}
	r := call{method: f.method, path: to.String()}
	if f.method == http.MethodPost {
		r.form = f.values(button)
	} else {
		r.path = fmt.Sprint(to, "?", f.values(button).Encode())
	}
	return r
}
