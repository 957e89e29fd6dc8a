package demo

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

// browser is a person's browser as far as the pages need one: it keeps cookies, follows links and sends forms.
type browser struct {
	http *http.Client
	// leave is where it stops: a location of the app that opened it.
	leave string
}

func newBrowser(transport http.RoundTripper) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	b := &browser{http: &http.Client{Jar: jar, Transport: transport, Timeout: 10 * time.Second}}
	b.http.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 || b.leave != "" && strings.HasPrefix(r.URL.String(), b.leave) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return b, nil
}

// page is what the browser shows.
type page struct {
	at       *url.URL
	status   int
	forms    []form
	location string // where it was led to outside
	text     string
}

// form is one form of a page.
type form struct {
	action  string
	fields  url.Values
	buttons []button
}

type button struct{ name, value, label string }

// open follows a link.
func (b *browser) open(ctx context.Context, link string) (*page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, http.NoBody)
	if err != nil {
		return nil, err
	}
	return b.do(req)
}

// send fills a form in and presses a button of it.
func (b *browser) send(ctx context.Context, p *page, f form, press button, typed url.Values) (*page, error) {
	values := url.Values{}
	maps.Copy(values, f.fields)
	maps.Copy(values, typed)
	if press.name != "" {
		values.Set(press.name, press.value)
	}
	to, err := p.at.Parse(f.action)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.at.Scheme+"://"+p.at.Host)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(req)
}

const maxPage = 1 << 20

func (b *browser) do(req *http.Request) (*page, error) {
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	p := &page{at: res.Request.URL, status: res.StatusCode, location: res.Header.Get("Location")}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return nil, err
	}
	doc, err := html.Parse(strings.NewReader(string(data)))
	if err != nil {
		return nil, err
	}
	p.forms, p.text = formsOf(doc), strings.Join(strings.Fields(textOf(doc)), " ")
	return p, nil
}

// find gives the form that has a field or a button of a name, and that button.
func (p *page) find(name string, values ...string) (form, button, error) {
	for _, f := range p.forms {
		for _, b := range f.buttons {
			if b.name == name && (len(values) == 0 || slices.Contains(values, b.value)) {
				return f, b, nil
			}
		}
		if _, ok := f.fields[name]; ok && len(values) == 0 {
			return f, button{}, nil
		}
	}
	return form{}, button{}, fmt.Errorf("the page %s (%d) has no %s to press or fill in: %w", p.at.Path, p.status, name, errPage)
}

// errPage: a page was not what it should be.
var errPage = errors.New("unexpected page")

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
	f := form{action: attr(n, "action"), fields: url.Values{}}
	for c := range n.Descendants() {
		if c.Type != html.ElementNode {
			continue
		}
		switch c.Data {
		case "input":
			f.input(c)
		case "button":
			f.buttons = append(f.buttons, button{attr(c, "name"), attr(c, "value"), strings.TrimSpace(textOf(c))})
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
		f.buttons = append(f.buttons, button{name, attr(n, "value"), attr(n, "value")})
	default:
		if name != "" {
			f.fields.Add(name, attr(n, "value"))
		}
	}
}

// choose takes the option that is selected, or the first.
func (f *form) choose(n *html.Node) {
	value, any := "", false
	for c := range n.Descendants() {
		if c.Type == html.ElementNode && c.Data == "option" && (!any || has(c, "selected")) {
			value, any = attr(c, "value"), true
		}
	}
	if any {
		f.fields.Add(attr(n, "name"), value)
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
