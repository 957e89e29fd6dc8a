package endpoint_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/endpoint"
	"obolus/token"
)

// postServer is a server whose secret and id need encoding in Basic.
var postServer = agents.Client{ID: "post:server", Name: "Post"}

func withPostServer(s *site) *site {
	c := postServer
	c.Credential = agents.Credential{Auth: oauth.AuthSecretPost, SecretHash: agents.HashSecret(s.Secret, "s e+c%ret")}
	s.register(c)
	return s
}

func basicOf(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	s := withPostServer(newSite(t, nil))
	obolus := s.obolus()
	tok := form("token", obolus)
	with := func(pairs ...string) url.Values {
		f := form(pairs...)
		f.Set("token", obolus)
		return f
	}
	expired := func() url.Values {
		f := form("token", obolus, "client_assertion_type", oauth.AssertionJWT)
		a, err := token.SignAssertion(s.agent, "agent-a", world.Issuer, s.Now().Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		f.Set("client_assertion", a)
		return f
	}
	meant := func(audience string) url.Values {
		f := form("token", obolus, "client_assertion_type", oauth.AssertionJWT)
		a, err := token.SignAssertion(s.agent, "agent-a", audience, s.Now())
		if err != nil {
			t.Fatal(err)
		}
		f.Set("client_assertion", a)
		return f
	}
	for _, c := range []struct {
		name   string
		header string
		form   url.Values
		status int
	}{
		{"Basic", basicOf("mail-server", "secret"), tok, 200},
		{"Basic in lower case", "basic " + basicOf("mail-server", "secret")[6:], tok, 200},
		{"Basic with its own client_id", basicOf("mail-server", "secret"), with("client_id", "mail-server"), 200},
		{"Basic, encoded as a form", basicOf("post:server", "s e+c%ret"), tok, 200},
		{"a secret in the body", "", with("client_id", "post:server", "client_secret", "s e+c%ret"), 200},
		{"an assertion", "", s.asserted(form("token", obolus)), 200},
		{"an assertion with its client_id", "", s.asserted(with("client_id", "agent-a")), 200},

		{"nothing", "", tok, 401},
		{"a wrong secret", basicOf("mail-server", "wrong"), tok, 401},
		{"no secret", basicOf("mail-server", ""), tok, 401},
		{"nobody's secret", basicOf("nobody", "secret"), tok, 401},
		{"an id that cannot be one", basicOf("a b\u00a0", "secret"), tok, 401},
		{"Basic that is no base64", "Basic !!!", tok, 401},
		{"Basic without a colon", "Basic " + base64.StdEncoding.EncodeToString([]byte("mail-server")), tok, 401},
		{"Bearer", "Bearer " + obolus, tok, 401},
		{"another client_id than Basic's", basicOf("mail-server", "secret"), with("client_id", "files-server"), 401},
		{"a secret without an id", "", with("client_secret", "secret"), 400},
		{"another client_id than the assertion's", "", s.asserted(with("client_id", "mail-server")), 401},
		{"a public client where proof is needed", "", with("client_id", "app"), 401},
		{"a confidential client's name alone", "", with("client_id", "mail-server"), 401},
		{"an expired assertion", "", expired(), 401},
		{"an assertion for the token endpoint", "", meant(world.Issuer + "/token"), 401},
		{"an assertion for the issuer with a slash", "", meant(world.Issuer + "/"), 401},
		{"an access token as assertion", "", with("client_assertion_type", oauth.AssertionJWT, "client_assertion", obolus), 401},
		{"a proof as assertion", "", with("client_assertion_type", oauth.AssertionJWT, "client_assertion", s.proof(s.agent, "/introspect", nil)), 401},
		{"an assertion that is none", "", with("client_assertion_type", oauth.AssertionJWT, "client_assertion", "x"), 401},
		{"another client_assertion_type", "", with("client_assertion_type", "urn:x", "client_assertion", "x"), 401},
		{"an assertion without its type", "", with("client_assertion", "x"), 400},
		{"a type without its assertion", "", with("client_assertion_type", oauth.AssertionJWT), 400},

		{"Basic and a secret", basicOf("mail-server", "secret"), with("client_secret", "secret"), 400},
		{"Basic and an assertion", basicOf("mail-server", "secret"), s.asserted(form("token", obolus)), 400},
		{"a secret and an assertion", "", s.asserted(with("client_secret", "x")), 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			r := s.request(http.MethodPost, "/introspect", c.form.Encode())
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
			a := s.do(r)
			switch c.status {
			case 200:
				if a.status != 200 {
					t.Errorf("got %d %s", a.status, a.body)
				}
				return
			case 400:
				s.refused(a, 400, oauth.InvalidRequest)
			case 401:
				s.refused(a, 401, oauth.InvalidClient)
				if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
					t.Errorf("WWW-Authenticate: %q", a.header.Get("WWW-Authenticate"))
				}
				if a.body != `{"error":"invalid_client","error_description":"client authentication failed"}` {
					t.Errorf("another body than for the other causes: %s", a.body)
				}
			}
			if a.json["reason"] != nil {
				t.Errorf("a reason: %s", a.body)
			}
		})
	}
}

func TestTwoAuthorizationHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	r := s.request(http.MethodPost, "/introspect", "token=x")
	r.Header.Add("Authorization", basicOf("mail-server", "secret"))
	r.Header.Add("Authorization", basicOf("mail-server", "secret"))
	s.refused(s.do(r), 400, oauth.InvalidRequest)
}

func TestFailedAuthenticationIsInTheLedger(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, path := range posts {
		events := s.eventsDuring(func() {
			r := s.request(http.MethodPost, path, form("grant_type", exchangeGrant, "token", "x").Encode())
			r.SetBasicAuth("mail-server", "wrong "+path)
			s.refused(s.do(r), 401, oauth.InvalidClient)
		})
		if len(events) != 1 || events[0].Kind != audit.KindClient || events[0].Client != "mail-server" || events[0].Allowed {
			t.Errorf("%s: %+v", path, events)
		}
	}
}

// TestAssertionsAreSpent races one assertion at every endpoint that takes one.
func TestAssertionsAreSpent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	key := s.Agent("agent-rs", nil)
	for _, c := range []struct {
		path string
		form url.Values
	}{
		{"/token", s.te()},
		{"/introspect", form("token", "x")},
		{"/revoke", form("token", "x")},
		{"/redeem", form("token", s.obolus())},
		{"/par", form()},
	} {
		f := c.form
		if c.path != "/token" {
			f = s.assertedBy("agent-rs", key, f)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		unauthenticated := 0
		for range 20 {
			all.Go(func() {
				a := s.post(c.path, f)
				mu.Lock()
				defer mu.Unlock()
				if a.status == 401 {
					unauthenticated++
				}
			})
		}
		all.Wait()
		if unauthenticated != 19 {
			t.Errorf("%s: %d of 20 were refused", c.path, unauthenticated)
		}
	}
}

func TestGuessingIsStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *endpoint.Config) {
		c.Remote = func(r *http.Request) string { return r.Header.Get("From-Here") }
	})
	try := func(id, secret, from string) answer {
		r := s.request(http.MethodPost, "/introspect", "token=x")
		r.SetBasicAuth(id, secret)
		r.Header.Set("From-Here", from)
		return s.do(r)
	}
	// From one address.
	for i := range 10 {
		s.refused(try("mail-server", fmt.Sprint(i), "a"), 401, oauth.InvalidClient)
	}
	a := try("mail-server", "wrong", "a")
	s.refused(a, 429, oauth.InvalidRequest)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.refused(try("mail-server", "secret", "a"), 429, oauth.InvalidRequest) // or a guesser would learn it
	if a := try("mail-server", "secret", "b"); a.status != 200 {
		t.Errorf("the server itself, elsewhere: %d", a.status)
	}
	s.Pass(time.Minute + time.Second)
	if a := try("mail-server", "secret", "a"); a.status != 200 {
		t.Errorf("a minute later: %d", a.status)
	}
	// From many addresses.
	limited := false
	for i := range 25 {
		limited = try("files-server", fmt.Sprint(i), fmt.Sprint(i)).status == 429
	}
	if !limited {
		t.Error("25 addresses may guess")
	}
	// An agent that authenticates by its key is not locked out by guesses at a secret that it does not have.
	for i := range 25 {
		try("agent-a", fmt.Sprint(i), "a")
	}
	if a := s.post("/token", s.te()); a.status != 200 {
		t.Errorf("the agent: %d %s", a.status, a.body)
	}
	// A flood of what is refused for its number does not fill the ledger.
	if n := len(s.Events(audit.KindClient)); n > 11+21+21 {
		t.Errorf("%d events", n)
	}
}
