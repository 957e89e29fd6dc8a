package endpoint_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"obolus/oauth"
	"obolus/oauth/endpoint"
)

var posts = []string{"/token", "/introspect", "/redeem", "/revoke", "/par"}

func TestDoor(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	good := s.te().Encode()
	many := strings.Repeat("x=1&", 100) + good
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		body   string
		status int
	}{
		{"GET", func(r *http.Request) { r.Method, r.Body = http.MethodGet, nil }, "", 405},
		{"HEAD", func(r *http.Request) { r.Method, r.Body = http.MethodHead, nil }, "", 405},
		{"PUT", func(r *http.Request) { r.Method = http.MethodPut }, good, 405},
		{"JSON", func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, `{"token":"x"}`, 400},
		{"multipart", func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }, "--x--", 400},
		{"plain text", func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, good, 400},
		{"no type", func(r *http.Request) { r.Header.Del("Content-Type") }, good, 400},
		{"two types", func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }, good, 400},
		{"another charset", func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-16")
		}, good, 400},
		{"another parameter of the type", func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded; a=b") }, good, 400},
		{"compressed", func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, good, 400},
		{"a query", func(r *http.Request) { r.URL.RawQuery = "subject_token=eyJsecret" }, good, 400},
		{"an empty query", func(r *http.Request) { r.URL.ForceQuery = true }, good, 400},
		{"a body of 65 KiB", nil, "x=" + strings.Repeat("a", 65<<10), 413},
		{"a token of 17 KiB", nil, "token=" + strings.Repeat("a", 17<<10), 413},
		{"an assertion of 17 KiB", nil, "client_assertion=" + strings.Repeat("a", 17<<10), 413},
		{"101 parameters", nil, many, 400},
		{"a repeated parameter", nil, good + "&grant_type=x&token=a&token=b", 400},
		{"a repeated unknown parameter", nil, good + "&foo=1&foo=2", 400},
		{"a repeated empty parameter", nil, good + "&foo=&foo=", 400},
		{"invalid UTF-8", nil, good + "&foo=%ff", 400},
		{"a control character", nil, good + "&foo=a%00b", 400},
		{"a line break", nil, good + "&foo=a%0d%0ab", 400},
		{"a bad escape", nil, good + "&foo=%zz", 400},
		{"a semicolon", nil, good + "&foo=a;bar=b", 400},
		{"no name", nil, good + "&=x", 400},
		{"early data", func(r *http.Request) { r.Header.Set("Early-Data", "1") }, good, 425},
	} {
		for _, path := range posts {
			t.Run(c.name+path, func(t *testing.T) {
				t.Parallel()
				s := s.on(t)
				r := s.request(http.MethodPost, path, c.body)
				if c.change != nil {
					c.change(r)
				}
				a := s.do(r)
				if c.name == "HEAD" {
					if a.status != 405 {
						t.Errorf("got %d", a.status)
					}
					return
				}
				s.refused(a, c.status, oauth.InvalidRequest)
				if c.status == 405 && a.header.Get("Allow") != "POST" {
					t.Errorf("Allow: %q", a.header.Get("Allow"))
				}
				if a.json["reason"] != nil || a.json["error_uri"] != nil {
					t.Errorf("a reason before anybody was authenticated: %s", a.body)
				}
			})
		}
	}
}

func TestDoorLetsThrough(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		extra  string
	}{
		{"a charset", func(r *http.Request) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
		}, ""},
		{"unknown parameters", nil, "&foo=bar&baz="},
		{"empty parameters", nil, "&actor_token=&actor_token_type=&audience="},
		{"the same resource twice", nil, "&resource=" + url.QueryEscape(mail)},
		{"resource and audience", nil, "&audience=urn%3Amail&audience=mail"},
		{"early data that was not", func(r *http.Request) { r.Header.Set("Early-Data", "0") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			r := s.request(http.MethodPost, "/token", s.te().Encode()+c.extra)
			if c.change != nil {
				c.change(r)
			}
			if a := s.do(r); a.status != http.StatusOK {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
}

// TestEarlyTLS: a request whose handshake has not finished.
func TestEarlyTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	w, r := httptest.NewRecorder(), s.request(http.MethodPost, "/token", s.te().Encode())
	r.TLS = &tls.ConnectionState{}
	s.mux.ServeHTTP(w, r)
	if w.Code != http.StatusTooEarly {
		t.Errorf("got %d", w.Code)
	}
}

// TestSlowBody: a body that does not come in time is not waited for.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	h := httptest.NewUnstartedServer(s.mux)
	h.Config.ReadHeaderTimeout, h.Config.ReadTimeout = time.Minute, 200*time.Millisecond
	h.Start()
	t.Cleanup(h.Close)
	body, feed := io.Pipe()
	defer feed.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+"/token", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	go feed.Write([]byte("grant_type="))
	a := s.do(r)
	if a.status != http.StatusRequestTimeout {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestErrorsAreClean(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, name := range []string{`a"b\c`, "héllo", "x\u202ey", strings.Repeat("long", 500)} {
		a := s.post("/token", form(name, "1", name, "2")) // its description names the parameter; do checks the characters
		s.refused(a, 400, oauth.InvalidRequest)
		if len(a.body) > 400 {
			t.Errorf("an answer of %d bytes", len(a.body))
		}
	}
}

// TestLogsHoldNoSecrets: whatever was sent, the log tells causes and no values.
func TestLogsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.te()
	f.Set("resource", "https://nowhere.test")
	s.post("/token", f)
	s.as("mail-server", "/redeem", form("token", f.Get("subject_token")))
	s.Engine.Down.Store(true)
	s.post("/token", s.asserted(f))
	s.Engine.Down.Store(false)
	for _, secret := range []string{f.Get("subject_token"), f.Get("client_assertion"), "secret\""} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %.20s…", secret)
		}
	}
	if !strings.Contains(s.log.String(), "path=/token") {
		t.Errorf("the failure is not in the log: %s", s.log.String())
	}
}

func TestStoresThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	obolus := s.obolus()
	calls := []struct {
		name string
		call func() answer
	}{
		{"exchange", func() answer { return s.post("/token", s.teOf(obolus)) }},
		{"code", func() answer {
			return s.post("/token", form("grant_type", "authorization_code", "client_id", "app", "code", strings.Repeat("A", 44)))
		}},
		{"introspect", func() answer { return s.as("mail-server", "/introspect", form("token", obolus)) }},
		{"redeem", func() answer { return s.as("mail-server", "/redeem", form("token", obolus)) }},
		{"revoke", func() answer { return s.post("/revoke", s.asserted(form("token", obolus))) }},
		{"push", func() answer { return s.post("/par", form("client_id", "app")) }},
	}
	s.Engine.Down.Store(true)
	for _, c := range calls {
		a := c.call()
		s.refused(a, 503, oauth.TemporarilyUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.name)
		}
	}
	s.Engine.Down.Store(false)
	if a := s.as("mail-server", "/redeem", form("token", obolus)); a.status != http.StatusOK {
		t.Errorf("after the store came back: %d %s", a.status, a.body)
	}
	s.Records.Down.Store(true) // the ledger
	a := s.post("/token", s.teOf(obolus))
	s.refused(a, 503, oauth.TemporarilyUnavailable)
}

// teOf is an exchange of a token that exists already, for when nothing can be issued.
func (s *site) teOf(subject string) url.Values {
	return s.asserted(form("grant_type", exchangeGrant, "subject_token", subject, "subject_token_type", accessToken, "resource", mail))
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*endpoint.Config)
	}{
		{"nothing", func(c *endpoint.Config) { *c = endpoint.Config{} }},
		{"an issuer with a query", func(c *endpoint.Config) { c.Issuer += "?a=b" }},
		{"an issuer with a slash", func(c *endpoint.Config) { c.Issuer += "/" }},
		{"nonces without a key", func(c *endpoint.Config) { c.Settings.RequireNonce = true }},
		{"no lifetime", func(c *endpoint.Config) { c.Settings.SessionLifetime = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var cfg endpoint.Config
			newSite(t, func(have *endpoint.Config) { cfg = *have })
			c.change(&cfg)
			if _, err := endpoint.New(cfg); err == nil {
				t.Error("it was taken")
			}
		})
	}
}
