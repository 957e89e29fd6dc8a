// Package browser is a person's browser as far as the pages need one: it keeps cookies, follows links and sends forms. There is no script and
// no style in it, and it does not leave the host that it was led to.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// Browser is one person's.
type Browser struct{ http *http.Client }

// New makes one that has no cookies yet.
func New(transport http.RoundTripper) (*Browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &Browser{&http.Client{Jar: jar, Transport: transport, Timeout: 10 * time.Second, CheckRedirect: stay}}, nil
}

func stay(r *http.Request, via []*http.Request) error {
	if len(via) > 10 || r.URL.Host != via[0].URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Page is what the browser shows.
type Page struct {
	At       *url.URL
	Location string // where it was led to outside
	Text     string // without tags
	forms    []form
}

// form is one form of a page, as it comes: what is filled in, what else could be chosen, and its buttons.
type form struct {
	action  string
	fields  url.Values
	options map[string][]string
	buttons []button
}

type button struct{ name, value string }

// Open follows a link. A page that is a refusal is an error.
func (b *Browser) Open(ctx context.Context, link string) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, http.NoBody)
	if err != nil {
		return nil, err
	}
	return b.do(req)
}

// ErrForm is for a page that has no form to send something with.
var ErrForm = errors.New("the page has no such form")

// Press presses the button of a name and a value, in its form as it comes but for what is typed. Without a value it sends the form
// that has a field of that name. A page that is a refusal is an error.
func (b *Browser) Press(ctx context.Context, p *Page, name, value string, typed url.Values) (*Page, error) {
	i := slices.IndexFunc(p.forms, func(f form) bool { return f.has(name, value) })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s has no %s %s", ErrForm, p.At.Path, name, value)
	}
	values := maps.Clone(p.forms[i].fields)
	maps.Copy(values, typed)
	if value != "" {
		values.Set(name, value)
	}
	to, err := p.At.Parse(p.forms[i].action)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.At.Scheme+"://"+p.At.Host)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(req)
}

func (f form) has(name, value string) bool {
	if value == "" {
		return f.fields.Has(name)
	}
	return slices.Contains(f.buttons, button{name, value})
}

// SignIn types a name and a password, if the page asks for them.
func (b *Browser) SignIn(ctx context.Context, p *Page, user, password string) (*Page, error) {
	next, err := b.Press(ctx, p, "password", "", url.Values{"user": {user}, "password": {password}})
	if errors.Is(err, ErrForm) {
		return p, nil
	}
	return next, err
}

// Allow allows what a page asks for, with what is typed.
func (b *Browser) Allow(ctx context.Context, p *Page, typed url.Values) (*Page, error) {
	return b.Press(ctx, p, "decision", "allow", typed)
}

const maxPage = 1 << 20

func (b *Browser) do(req *http.Request) (*Page, error) {
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	doc, err := html.Parse(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return nil, err
	}
	p := &Page{
		At: res.Request.URL, Location: res.Header.Get("Location"), forms: formsOf(doc), Text: strings.Join(strings.Fields(textOf(doc)), " "),
	}
	if res.StatusCode >= http.StatusBadRequest {
		return p, fmt.Errorf("%s answers %s: %s", p.At.Path, res.Status, p.Text)
	}
	return p, nil
}

// Options are what can be chosen from for a field.
func (p *Page) Options(name string) []string {
	for _, f := range p.forms {
		if all := f.options[name]; len(all) > 0 {
			return all
		}
	}
	return nil
}

func formsOf(doc *html.Node) []form {
	var found []form
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" && strings.EqualFold(attr(n, "method"), "post") {
			found = append(found, readForm(n))
		}
	}
	return found
}

func readForm(n *html.Node) form {
	f := form{action: attr(n, "action"), fields: url.Values{}, options: map[string][]string{}}
	for c := range n.Descendants() {
		if c.Type != html.ElementNode {
			continue
		}
		switch c.Data {
		case "input":
			f.input(c)
		case "button":
			f.buttons = append(f.buttons, button{attr(c, "name"), attr(c, "value")})
		case "select":
			f.choose(c)
		case "textarea":
			f.fields.Add(attr(c, "name"), textOf(c))
		}
	}
	return f
}

func (f *form) input(n *html.Node) {
	name := attr(n, "name")
	switch attr(n, "type") {
	case "checkbox", "radio":
		if has(n, "checked") && name != "" {
			f.fields.Add(name, attr(n, "value"))
		}
	case "submit":
		f.buttons = append(f.buttons, button{name, attr(n, "value")})
	default:
		if name != "" {
			f.fields.Add(name, attr(n, "value"))
		}
	}
}

// choose takes the option that is selected, or the first.
func (f *form) choose(n *html.Node) {
	name, chosen := attr(n, "name"), ""
	for c := range n.Descendants() {
		if c.Type != html.ElementNode || c.Data != "option" {
			continue
		}
		if len(f.options[name]) == 0 || has(c, "selected") {
			chosen = attr(c, "value")
		}
		f.options[name] = append(f.options[name], attr(c, "value"))
	}
	if len(f.options[name]) > 0 {
		f.fields.Add(name, chosen)
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
	for c := range n.Descendants() {
		if c.Type == html.TextNode && (c.Parent == nil || c.Parent.Data != "style" && c.Parent.Data != "script") {
			b.WriteString(c.Data + " ")
		}
	}
	return b.String()
}
