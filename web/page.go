package web

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"obolus/agents"
	"obolus/consent"
	"obolus/oauth"
	"obolus/store"
	"obolus/transaction"
	"obolus/users"
)

const maxForm = 64 << 10

// handler answers a visit, or says why not.
type handler func(*visit) error

// visit is one request for a page, taken apart at the door.
type visit struct {
	w      http.ResponseWriter
	r      *http.Request
	vars   map[string]string
	query  url.Values
	form   url.Values // of a POST
	remote string
	// session is that of the user, if signedIn; operator that of an operator, on the pages of the console.
	session  users.Session
	signedIn bool
	operator users.Session
	browser  string   // what this browser and no other knows
	targets  []string // where forms of the page may lead besides here
}

func (v *visit) ctx() context.Context { return v.r.Context() }

// page wraps handlers: the headers that every answer has, the method, the form and where it came from.
func (s *Server) page(get, post handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		v := &visit{w: w, r: r, vars: mux.Vars(r), remote: peer(r.RemoteAddr)}
		h, err := s.enter(v, get, post)
		if err == nil {
			err = h(v)
		}
		if err != nil {
			s.fail(v, err)
		}
	})
}

// enter finds the handler and what it is going to need.
func (s *Server) enter(v *visit, get, post handler) (handler, error) {
	var err error
	if v.query, err = url.ParseQuery(v.r.URL.RawQuery); err != nil {
		return nil, refusal(http.StatusBadRequest, "The address cannot be read")
	}
	if err := s.recognise(v); err != nil {
		return nil, err
	}
	switch {
	case (v.r.Method == http.MethodGet || v.r.Method == http.MethodHead) && get != nil:
		return get, nil
	case v.r.Method == http.MethodPost && post != nil:
		return post, s.readForm(v)
	}
	allow := []string{}
	if get != nil {
		allow = append(allow, http.MethodGet, http.MethodHead)
	}
	if post != nil {
		allow = append(allow, http.MethodPost)
	}
	v.w.Header().Set("Allow", strings.Join(allow, ", "))
	return nil, refusal(http.StatusMethodNotAllowed, "That cannot be done here")
}

// readForm reads a form that one of our own pages sent. Whether this page sent it in this session is for the handler, which
// knows the token to look for.
func (s *Server) readForm(v *visit) error {
	if !s.sameOrigin(v.r) {
		return refusal(http.StatusForbidden, "This did not come from a page of this server")
	}
	if kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return refusal(http.StatusUnsupportedMediaType, "That is no form of this server")
	}
	body, err := io.ReadAll(http.MaxBytesReader(v.w, v.r.Body, maxForm))
	if err != nil {
		return refusal(http.StatusRequestEntityTooLarge, "The form is too large")
	}
	if v.form, err = url.ParseQuery(string(body)); err != nil {
		return refusal(http.StatusBadRequest, "The form cannot be read")
	}
	return nil
}

// sameOrigin looks at what the browser says of where a form came from. A page with the policy no-referrer sends the origin
// "null", so Sec-Fetch-Site decides where there is one. A client that sends neither is no browser that could be tricked.
func (s *Server) sameOrigin(r *http.Request) bool {
	site, origin := r.Header.Values("Sec-Fetch-Site"), r.Header.Values("Origin")
	if len(site) > 1 || len(origin) > 1 {
		return false
	}
	if len(site) == 1 {
		return site[0] == "same-origin" && (len(origin) == 0 || origin[0] == "null" || origin[0] == s.origin)
	}
	return len(origin) == 0 || origin[0] == s.origin
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy("", nil))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), publickey-credentials-get=()")
}

// contentPolicy is the content security policy of a page, with what it has besides a style and a picture: a script, and forms that
// may lead to further places.
func contentPolicy(scripts string, targets []string) string {
	return "default-src 'none'; style-src 'self'; img-src 'self'; " + scripts +
		"form-action " + strings.Join(append([]string{"'self'"}, targets...), " ") + "; frame-ancestors 'none'; base-uri 'none'"
}

// view is what a template is given.
type view struct {
	Title   string
	Base    string
	User    string // who is signed in, to be shown
	SignOut string // token of the form that signs out
	Console bool
	Here    string // the page, by its template
	Body    any
}

// show renders a page. It is complete before anything of it is sent.
func (s *Server) show(v *visit, status int, name, title string, body any) error {
	data := view{Title: title, Base: s.base, Here: name, Body: body}
	switch {
	case v.operator.Operator:
		data.Console, data.User, data.SignOut = true, "operator", v.operator.Form(formConsole)
	case v.signedIn:
		data.User, data.SignOut = nameOf(v.session), v.session.Form(formSignOut)
	}
	var buf bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&buf, "layout", data); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	scripts := ""
	switch name {
	case "ask", "app":
		scripts = "script-src 'self'; "
	case "agent", "stop", "since":
		scripts = "script-src 'self'; connect-src 'self'; "
	}
	h.Set("Content-Security-Policy", contentPolicy(scripts, v.targets))
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(buf.Bytes())
	}
	return nil
}

// see leads the browser to another place by GET.
func (s *Server) see(v *visit, location string) error {
	v.w.Header().Set("Location", location)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// readPages parses each page together with the layout.
func (s *Server) readPages() (map[string]*template.Template, error) {
	layout, err := template.New("").Funcs(s.words()).ParseFS(files, "templates/layout.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, file := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "templates/"), ".html")
		if name == "layout" {
			continue
		}
		page, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if pages[name], err = page.ParseFS(files, file); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// words are what templates can say besides what they are given.
func (s *Server) words() template.FuncMap {
	return template.FuncMap{
		"asset":   s.assetPath,
		"initial": sign,
		"kinds":   stopKinds,
		"choices": func(name string, list []choice) any {
			return struct {
				Name string
				List []choice
			}{name, list}
		},
		"sinceAt": func(base string, what *since) any {
			return struct {
				Base  string
				Since *since
			}{base, what}
		},
		"entries": func(base, name string, list []entry) any {
			return struct {
				Base, Name string
				List       []entry
			}{base, name, list}
		},
	}
}

// pageError is a refusal that a person reads.
type pageError struct {
	status int
	title  string
	text   string
}

func (e *pageError) Error() string { return e.title }

func refusal(status int, title string, text ...string) error {
	return &pageError{status: status, title: title, text: strings.Join(text, " ")}
}

// fail shows an error page. What is not known says nothing outside.
func (s *Server) fail(v *visit, err error) {
	p, known := errors.AsType[*pageError](err)
	if !known {
		p = asPage(err)
	}
	if p.status >= http.StatusInternalServerError {
		s.cfg.Log.ErrorContext(v.ctx(), "page failed", "path", v.r.URL.Path, "cause", err)
	}
	if p.status == http.StatusServiceUnavailable {
		v.w.Header().Set("Retry-After", "1")
	}
	if err := s.show(v, p.status, "error", p.title, p.text); err != nil {
		s.cfg.Log.ErrorContext(v.ctx(), "error page failed", "cause", err)
		v.w.WriteHeader(http.StatusInternalServerError)
	}
}

// asPage finds the page for an error of the packages below.
func asPage(err error) *pageError {
	for _, known := range []struct {
		is error
		pageError
	}{
		{consent.ErrNotFound, notHere()},
		{agents.ErrNotFound, notHere()},
		{transaction.ErrNotFound, notHere()},
		{consent.ErrNotYours, pageError{http.StatusForbidden, "This was asked of somebody else", "Only the person who was asked can answer."}},
		{consent.ErrGone, pageError{http.StatusConflict, "That has ended already", ""}},
		{agents.ErrChanged, pageError{http.StatusConflict, "Somebody was faster", "It was changed meanwhile. Go back and look again."}},
		{transaction.ErrState, pageError{http.StatusConflict, "The agent cannot change to that state", ""}},
		{transaction.ErrUnknownTarget, pageError{http.StatusBadRequest, "Nothing of that kind can be stopped", ""}},
		{users.ErrTooMany, pageError{http.StatusTooManyRequests, "Too many attempts", "Wait a quarter of an hour and try again."}},
	} {
		if errors.Is(err, known.is) {
			return &known.pageError
		}
	}
	down := errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFence) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if e, ok := errors.AsType[*oauth.Error](err); ok && e.Code == oauth.TemporarilyUnavailable {
		down = true
	}
	if down {
		return &pageError{http.StatusServiceUnavailable, "Not right now", "The server cannot tell for sure what holds at the moment. Try again."}
	}
	return &pageError{http.StatusInternalServerError, "Something went wrong", "It was not your fault, and nothing was allowed."}
}

func notHere() pageError {
	return pageError{http.StatusNotFound, "There is nothing here", "The link is wrong, or what it led to is over."}
}

// over is the page for a question that is not there, or not any more.
func over() pageError {
	return pageError{
		http.StatusNotFound, "There is nothing to answer here",
		"The link is wrong, or it is too late: a question is open for a few minutes only. Nothing was allowed. If the agent or the app still wants something, it asks again.",
	}
}

func peer(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
