package endpoint_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/internal/world"
	"obolus/oauth"
	"obolus/token"
	"obolus/transaction"
)

const forwardMail = "/authz?resource=mail&scope=mail.read"

// forward asks as a proxy does.
func (s *site) forward(path string, set ...func(*http.Request)) answer {
	s.t.Helper()
	r := s.request(http.MethodGet, path, "")
	r.Header.Set("X-Obolus-Client", basicOf("mail-server", "secret"))
	r.Header.Set("X-Forwarded-Method", "POST")
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-Host", "mail.test")
	r.Header.Set("X-Forwarded-Uri", "/api/messages?folder=1")
	for _, f := range set {
		f(r)
	}
	return s.do(r)
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del(name)
		for _, v := range values {
			r.Header.Add(name, v)
		}
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	exchanged := s.post("/token", s.te())
	bearer := header("Authorization", "Bearer "+exchanged.str("access_token"))
	a := s.forward(forwardMail, bearer)
	if a.status != 200 || a.body != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	for name, want := range map[string]string{
		"Subject": "alice", "Actor": "agent-a", "Client": "agent-a", "Txn": exchanged.str("txn"), "Scope": "mail.read",
	} {
		if got := a.header.Get("X-Obolus-" + name); got != want {
			t.Errorf("X-Obolus-%s: %q, want %q", name, got, want)
		}
	}
	again := s.forward(forwardMail, bearer)
	s.refused(again, 401, oauth.InvalidToken)
	if challenge := strings.Join(again.header.Values("WWW-Authenticate"), "\n"); !strings.Contains(challenge, `Bearer realm="obolus", error="invalid_token", scope="mail.read"`) ||
		!strings.Contains(challenge, `DPoP realm="obolus", algs="ES256`) {
		t.Errorf("challenge %s", challenge)
	}
}

// TestForwardSession: a resource that does not redeem, and a user's own token.
func TestForwardSession(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.UserToken("alice", func(c *transaction.Session) { c.Audience, c.Scope = "https://files.test", "files.read" })
	files := func() answer {
		return s.forward("/authz?resource=files&scope=files.read", header("Authorization", "bearer "+compact), header("X-Obolus-Client", basicOf("files-server", "secret")))
	}
	for range 3 {
		if a := files(); a.status != 200 || a.header.Get("X-Obolus-Subject") != "alice" || a.header.Get("X-Obolus-Actor") != "" || a.header.Get("X-Obolus-Client") != "app" {
			t.Fatalf("got %d %s %v", a.status, a.body, a.header)
		}
	}
	s.post("/revoke", form("client_id", "app", "token", compact))
	s.refused(files(), 401, oauth.InvalidToken)
}

// TestForwardNames: whatever a user is called, a header stays one header, and no two users look the same in a header, however an issuer names them.
func TestForwardNames(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, user := range []string{
		"alice", "alice ", " alice", "%20alice", "al ice", "al%20ice", "al%2520ice", "zoë", "zo%C3%AB", "zoe\u0308", "a,b", "a\u00a0b", "100%", "oidc:jürgen",
	} {
		compact := s.UserToken(user, func(c *transaction.Session) { c.Audience, c.Scope = "https://files.test", "files.read" })
		a := s.forward("/authz?resource=files", header("Authorization", "Bearer "+compact), header("X-Obolus-Client", basicOf("files-server", "secret")))
		if got, err := url.PathUnescape(a.header.Get("X-Obolus-Subject")); a.status != 200 || err != nil || got != user {
			t.Errorf("%q: %d %q, which is %q: %v", user, a.status, a.header.Get("X-Obolus-Subject"), got, err)
		}
	}
}

// TestForwardRefusals: what is the agent's fault is 401 or 403 and burns nothing; what is the proxy's is 503.
func TestForwardRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	key := world.Key(t)
	for _, c := range []struct {
		name   string
		path   string
		set    func(compact string) []func(*http.Request)
		status int
		code   oauth.Code
	}{
		{"no token", forwardMail, func(string) []func(*http.Request) { return nil }, 401, oauth.InvalidToken},
		{"another scheme", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Token "+c)}
		}, 401, oauth.InvalidToken},
		{"a token that is none", forwardMail, func(string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer x")}
		}, 401, oauth.InvalidToken},
		{"two tokens", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c, "Bearer "+c)}
		}, 400, oauth.InvalidRequest},
		{"an unbound token as DPoP", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "DPoP "+c), header("DPoP", s.proof(key, "/", nil))}
		}, 401, oauth.InvalidToken},
		{"a scope that the token does not have", "/authz?resource=mail&scope=mail.read+mail.send", nil, 403, oauth.InsufficientScope},
		{"another resource", "/authz?resource=files", func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("X-Obolus-Client", basicOf("files-server", "secret"))}
		}, 401, oauth.InvalidToken},
		{"early data", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("Early-Data", "1")}
		}, 425, oauth.InvalidRequest},

		{"a resource that is none", "/authz?resource=nowhere", nil, 503, oauth.TemporarilyUnavailable},
		{"no resource", "/authz?scope=mail.read", nil, 503, oauth.TemporarilyUnavailable},
		{"two resources", "/authz?resource=mail&resource=files", nil, 503, oauth.TemporarilyUnavailable},
		{"two spaces", "/authz?resource=mail&scope=a++b", nil, 503, oauth.TemporarilyUnavailable},
		{"a resource in a header beside the query", "/authz?scope=", func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("X-Obolus-Resource", "mail")}
		}, 503, oauth.TemporarilyUnavailable},
		{"a proxy without credentials", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("X-Obolus-Client")}
		}, 503, oauth.TemporarilyUnavailable},
		{"a proxy with a wrong secret", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("X-Obolus-Client", basicOf("mail-server", "wrong"))}
		}, 503, oauth.TemporarilyUnavailable},
		{"a proxy of another resource", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("X-Obolus-Client", basicOf("files-server", "secret"))}
		}, 503, oauth.TemporarilyUnavailable},
		{"the token's own holder as proxy", forwardMail, func(c string) []func(*http.Request) {
			return []func(*http.Request){header("Authorization", "Bearer "+c), header("X-Obolus-Client", basicOf("agent-a", "secret"))}
		}, 503, oauth.TemporarilyUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			compact := s.obolus()
			bearer := []func(*http.Request){header("Authorization", "Bearer "+compact)}
			set := bearer
			if c.set != nil {
				set = c.set(compact)
			}
			s.refused(s.forward(c.path, set...), c.status, c.code)
			if a := s.forward(forwardMail, bearer...); a.status != 200 {
				t.Errorf("afterwards, rightly: %d %s", a.status, a.body)
			}
		})
	}
}

func TestForwardProofs(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	key, other := world.Key(t), world.Key(t)
	bound := func() string {
		r := s.request(http.MethodPost, "/token", s.te().Encode())
		r.Header.Set("DPoP", s.proof(key, "/token", nil))
		return s.do(r).str("access_token")
	}
	const uri = "https://mail.test/api/messages"
	proof := func(by *token.SigningKey, method, uri, compact string) string {
		p, err := token.SignProof(by, token.ProofClaims{Method: method, URI: uri, AccessToken: compact}, s.Now())
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		name   string
		proofs func(compact string) []string
		scheme string
		code   oauth.Code
	}{
		{"none", func(string) []string { return nil }, "DPoP ", oauth.InvalidDPoPProof},
		{"as Bearer", func(c string) []string { return []string{proof(key, "POST", uri, c)} }, "Bearer ", oauth.InvalidToken},
		{"two", func(c string) []string { return []string{proof(key, "POST", uri, c), proof(key, "POST", uri, c)} }, "DPoP ", oauth.InvalidDPoPProof},
		{"another method", func(c string) []string { return []string{proof(key, "GET", uri, c)} }, "DPoP ", oauth.InvalidDPoPProof},
		{"another path", func(c string) []string { return []string{proof(key, "POST", uri+"/1", c)} }, "DPoP ", oauth.InvalidDPoPProof},
		{"another token", func(string) []string { return []string{proof(key, "POST", uri, "x")} }, "DPoP ", oauth.InvalidDPoPProof},
		{"no token", func(string) []string { return []string{proof(key, "POST", uri, "")} }, "DPoP ", oauth.InvalidDPoPProof},
		{"another key", func(c string) []string { return []string{proof(other, "POST", uri, c)} }, "DPoP ", oauth.InvalidToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.on(t)
			compact := bound()
			s.refused(s.forward(forwardMail, header("Authorization", c.scheme+compact), header("DPoP", c.proofs(compact)...)), 401, c.code)
			a := s.forward(forwardMail, header("Authorization", "DPoP "+compact), header("DPoP", proof(key, "POST", uri, compact)))
			if a.status != 200 {
				t.Errorf("afterwards, rightly: %d %s", a.status, a.body)
			}
		})
	}
	// Other ways in which proxies tell what they ask about.
	for name, set := range map[string][]func(*http.Request){
		"nginx": {
			header("X-Forwarded-Method"), header("X-Forwarded-Uri"), header("X-Forwarded-Host"), header("X-Forwarded-Proto"),
			header("X-Original-Method", "POST"), header("X-Original-URL", uri+"?folder=1"),
		},
		"nginx with a path": {header("X-Forwarded-Method"), header("X-Forwarded-Uri"), header("X-Original-Method", "POST"), header("X-Original-Uri", "/api/messages")},
	} {
		compact := bound()
		set = append(set, header("Authorization", "DPoP "+compact), header("DPoP", proof(key, "POST", uri, compact)))
		if a := s.forward(forwardMail, set...); a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	// Envoy: the request's own method and path, appended.
	compact := bound()
	r := s.request(http.MethodPost, "/authz/api/messages?folder=1", "")
	for _, set := range []func(*http.Request){
		header("X-Obolus-Client", basicOf("mail-server", "secret")), header("X-Obolus-Resource", "mail"), header("X-Obolus-Scopes", "mail.read"),
		header("Authorization", "DPoP "+compact), header("DPoP", proof(key, "POST", uri, compact)), header("X-Forwarded-Proto", "https"),
	} {
		set(r)
	}
	r.Host = "mail.test"
	if a := s.do(r); a.status != 200 {
		t.Errorf("Envoy: %d %s", a.status, a.body)
	}
}

// TestForwardProofReplay: a proof is spent, though a session token is not.
func TestForwardProofReplay(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	key := world.Key(t)
	jkt, _ := token.Thumbprint(key.Public().Key)
	compact := s.UserToken("alice", func(c *transaction.Session) { c.Audience, c.Scope, c.JKT = "https://files.test", "files.read", jkt })
	p, err := token.SignProof(key, token.ProofClaims{Method: "POST", URI: "https://mail.test/api/messages", AccessToken: compact}, s.Now())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	counts := map[int]int{}
	for range 20 {
		all.Go(func() {
			a := s.forward("/authz?resource=files", header("X-Obolus-Client", basicOf("files-server", "secret")), header("Authorization", "DPoP "+compact), header("DPoP", p))
			mu.Lock()
			defer mu.Unlock()
			counts[a.status]++
		})
	}
	all.Wait()
	if counts[200] != 1 || counts[401] != 19 {
		t.Errorf("counts %v", counts)
	}
}

func TestForwardOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.obolus()
	var all sync.WaitGroup
	var mu sync.Mutex
	counts := map[int]int{}
	for range 50 {
		all.Go(func() {
			a := s.forward(forwardMail, header("Authorization", "Bearer "+compact))
			mu.Lock()
			defer mu.Unlock()
			counts[a.status]++
		})
	}
	all.Wait()
	if counts[200] != 1 || counts[401] != 49 {
		t.Errorf("counts %v", counts)
	}
	late := s.obolus()
	s.Pass(2 * time.Minute)
	s.refused(s.forward(forwardMail, header("Authorization", "Bearer "+late)), 401, oauth.InvalidToken)
	fresh := s.obolus()
	s.Engine.Down.Store(true)
	a := s.forward(forwardMail, header("Authorization", "Bearer "+fresh))
	s.refused(a, 503, oauth.TemporarilyUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.Engine.Down.Store(false)
	if a := s.forward(forwardMail, header("Authorization", "Bearer "+fresh)); a.status != 200 {
		t.Errorf("after the store came back: %d %s", a.status, a.body)
	}
}

// TestForwardDetails: a token that is limited by what a proxy cannot see is not let through.
func TestForwardDetails(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	compact := s.UserToken("alice", func(c *transaction.Session) {
		c.Audience, c.Scope, c.Details = mail, "mail.read", []byte(`[{"type":"mcp_tool_call","tool":"send"}]`)
	})
	s.refused(s.forward(forwardMail, header("Authorization", "Bearer "+compact)), 403, oauth.InsufficientScope)
}
