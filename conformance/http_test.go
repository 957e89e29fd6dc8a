package conformance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// wire is how every request of the suite travels.
var wire = &http.Transport{
	MaxIdleConnsPerHost: 128, DisableCompression: true, ResponseHeaderTimeout: 2 * time.Minute,
	DialContext:     (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificates of the suite are signed by themselves
}

// check is one case at work on one installation.
type check struct {
	*testing.T
	*env
}

// sub runs a part of a case under a name of its own.
func (c *check) sub(name string, run func(c *check)) {
	c.Helper()
	c.Run(name, func(t *testing.T) { run(&check{t, c.env}) })
}

// call is a request to the server. Its path stands below the issuer.
type call struct {
	method string
	path   string
	form   url.Values // sent as the body, unless there is one
	body   []byte
	header http.Header
	node   int // 1, 2: that process; 0: whichever has its turn
	// proxied: it comes from the address of the trusted proxy.
	proxied bool
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   obj
	took   time.Duration
}

func (a answer) str(name string) string {
	s, _ := a.json[name].(string)
	return s
}

func (a answer) num(name string) int64 {
	n, ok := a.json[name].(json.Number)
	if !ok {
		return 0
	}
	v, err := n.Int64()
	if err != nil {
		return 0
	}
	return v
}

func (a answer) code() string { return a.str("error") }

func (a answer) token() string { return a.str("access_token") }

// do sends a request and holds the answer to what every answer must be.
func (c *check) do(r call) answer {
	c.Helper()
	a, err := c.send(c.Context(), r)
	if err != nil {
		c.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	c.everyAnswer(r, a)
	return a
}

// send sends a request.
func (e *env) send(ctx context.Context, r call) (answer, error) {
	body := r.body
	if body == nil && r.form != nil {
		body = []byte(r.form.Encode())
	}
	target := r.path
	if !strings.Contains(target, "://") {
		target = e.issuer + target
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	maps.Copy(req.Header, r.header)
	if r.form != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	e.remember(r)
	e.route(req, r.node)
	began := time.Now()
	res, err := r.transport().RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, header: res.Header, body: data, took: time.Since(began)}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		_ = dec.Decode(&a.json)
	}
	return a, nil
}

// route sends a request for the issuer to one of the processes behind that name, each in its turn.
func (e *env) route(req *http.Request, which int) {
	base, err := url.Parse(e.issuer)
	if err != nil || req.URL.Host != base.Host {
		return
	}
	if which == 0 {
		which = int(e.turn.Add(1)) % len(e.nodes)
	} else {
		which = (which - 1) % len(e.nodes)
	}
	req.Host = base.Host
	req.URL.Host = e.nodes[which].addr
}

// remember notes what a request carries that must not be in a log.
func (e *env) remember(r call) {
	for _, name := range []string{"subject_token", "actor_token", "client_assertion", "token", "code", "code_verifier", "client_secret"} {
		for _, v := range r.form[name] {
			e.secret(v, name)
		}
	}
	for _, v := range r.header["Dpop"] {
		e.secret(v, "DPoP proof")
	}
}

var (
	errorText = regexp.MustCompile(`^[\x20-\x21\x23-\x5b\x5d-\x7e]*$`)
	reason    = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// everyAnswer is what holds for all of them: TX-49, TX-58, and what each issued token must be.
func (c *check) everyAnswer(r call, a answer) {
	c.Helper()
	path, _, _ := strings.Cut(r.path, "?")
	oauth := false
	for _, p := range []string{"/token", "/par", "/introspect", "/redeem", "/revoke"} {
		oauth = oauth || path == p
	}
	if oauth && !strings.Contains(a.header.Get("Cache-Control"), "no-store") {
		c.Errorf("%s: %d without Cache-Control: no-store", path, a.status)
	}
	if oauth && a.status >= http.StatusBadRequest {
		if a.code() == "" || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			c.Errorf("%s: a refusal that is no OAuth error: %d %s %.200s", path, a.status, a.header.Get("Content-Type"), a.body)
		}
		for _, name := range []string{"error", "error_description", "error_uri"} {
			if v, there := a.json[name]; there && !errorText.MatchString(a.str(name)) {
				c.Errorf("%s: %s has characters that RFC 6749 section 5.2 does not allow: %q", path, name, v)
			}
		}
		if v, there := a.json["reason"]; there && !reason.MatchString(a.str("reason")) {
			c.Errorf("%s: reason %q", path, v)
		}
		if a.status == http.StatusUnauthorized && a.header.Get("Www-Authenticate") == "" && r.header.Get("Authorization") != "" {
			c.Errorf("%s: 401 without WWW-Authenticate", path)
		}
		if a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
			c.Errorf("%s: 503 without Retry-After", path)
		}
	}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		c.everyPage(path, a)
	}
	if tok := a.token(); path == "/token" && tok != "" {
		c.secret(tok, "token")
		if a.str("token_type") != "N_A" {
			c.everyToken(a, tok)
		}
	}
}

// everyPage is UI-02 for each page of the run, errors included.
func (c *check) everyPage(path string, a answer) {
	c.Helper()
	csp := a.header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action"} {
		if !strings.Contains(csp, directive) {
			c.Errorf("%s: %d: Content-Security-Policy has no %s: %q", path, a.status, directive, csp)
		}
	}
	for name, want := range map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
		"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := a.header.Get(name); !strings.Contains(got, want) {
			c.Errorf("%s: %d: %s is %q, not %s", path, a.status, name, got, want)
		}
	}
}

// want holds a refusal to its status and code, and sees that no token came with it.
func (c *check) want(a answer, status int, code string) answer {
	c.Helper()
	if a.status != status || a.code() != code {
		c.Errorf("got %d %s (%s: %s), want %d %s", a.status, a.code(), a.str("reason"), a.str("error_description"), status, code)
	}
	if a.token() != "" {
		c.Error("a refusal with a token")
	}
	return a
}

// ok holds an answer to 200.
func (c *check) ok(a answer) answer {
	c.Helper()
	if a.status != http.StatusOK {
		c.Fatalf("got %d %s (%s: %s) %.300s, want 200", a.status, a.code(), a.str("reason"), a.str("error_description"), a.body)
	}
	return a
}

// alike holds several answers to the same status and the same bytes.
func (c *check) alike(answers map[string]answer) {
	c.Helper()
	first := ""
	for name, a := range answers {
		if first == "" {
			first = name
			continue
		}
		if b := answers[first]; a.status != b.status || !bytes.Equal(a.body, b.body) {
			c.Errorf("%s and %s can be told apart:\n%d %s\n%d %s", name, first, a.status, a.body, b.status, b.body)
		}
	}
}

// get asks for a document.
func (c *check) get(path string, node int) answer {
	c.Helper()
	return c.do(call{method: http.MethodGet, path: path, node: node})
}

// post sends a form.
func (c *check) post(path string, form url.Values) answer {
	c.Helper()
	return c.do(call{method: http.MethodPost, path: path, form: form})
}

// admin asks the operators' API, and fails when it refuses.
func (c *check) admin(method, path string, body any) answer {
	c.Helper()
	a := c.tryAdmin(method, path, body)
	if a.status >= http.StatusBadRequest {
		c.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a
}

func (c *check) tryAdmin(method, path string, body any) answer {
	c.Helper()
	r := call{method: method, path: "/admin/v1" + path, header: http.Header{"Authorization": {"Bearer " + c.operator}}}
	if body != nil {
		r.body = mustJSON(body)
		r.header.Set("Content-Type", "application/json")
	}
	return c.do(r)
}

// change registers something anew over what is there.
func (c *check) change(path string, body obj) answer {
	c.Helper()
	return c.do(call{
		method: http.MethodPut, path: "/admin/v1" + path, body: mustJSON(body),
		header: http.Header{"Authorization": {"Bearer " + c.operator}, "Content-Type": {"application/json"}, "If-Match": {"*"}},
	})
}

// stop stops something with all that was derived from it.
func (c *check) stop(kind, id string) {
	c.Helper()
	c.admin(http.MethodPost, "/stops", obj{"kind": kind, "id": id, "why": "conformance"})
}

// event is an entry of the ledger.
type event struct {
	Seq                                                       uint64
	Kind, Error, Reason, User, Client, Actor, Target, By, Txn string
	Allowed                                                   bool
	Chain                                                     []string
	JTI                                                       string
	SubjectHash                                               string `json:"subject_token_hash"`
	Grant                                                     string
	AskedScope                                                string `json:"asked_scope"`
	GrantedScope                                              string `json:"granted_scope"`
	PolicyVersion                                             string `json:"policy_version"`
	Raw                                                       string `json:"-"`
}

// events reads the ledger from a number on.
func (c *check) events(after uint64, query string) []event {
	c.Helper()
	var all []event
	for {
		a := c.admin(http.MethodGet, "/audit?limit=1000&after="+uitoa(after)+query, nil)
		var page struct{ Events []json.RawMessage }
		if err := json.Unmarshal(a.body, &page); err != nil {
			c.Fatal(err)
		}
		for _, raw := range page.Events {
			e := event{Raw: string(raw)}
			if err := json.Unmarshal(raw, &e); err != nil {
				c.Fatal(err)
			}
			all = append(all, e)
			after = e.Seq
		}
		if len(page.Events) < 1000 {
			return all
		}
	}
}

// lastEvent is the number of the newest event.
func (c *check) lastEvent() uint64 {
	c.Helper()
	a := c.admin(http.MethodGet, "/audit?limit=1&order=newest", nil)
	var page struct{ Events []event }
	if err := json.Unmarshal(a.body, &page); err != nil {
		c.Fatal(err)
	}
	if len(page.Events) == 0 {
		return 0
	}
	return page.Events[0].Seq
}

// mustNumber reads a number of decoded JSON; zero when there is none.
func mustNumber(v any) int64 {
	n, ok := v.(json.Number)
	if !ok {
		return 0
	}
	i, err := n.Int64()
	if err != nil {
		return 0
	}
	return i
}
