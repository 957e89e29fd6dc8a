package agents_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/agents"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/token"
)

func TestWhatIsNotRegistered(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Populate()
	w.Agent("agent-a", nil)
	jwks, err := token.NewPublicSet(world.Key(t).Public()).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	good := agents.Agent{ID: "x", Name: "X", State: agents.Active, Credential: agents.Credential{Auth: oauth.AuthPrivateKeyJWT, JWKS: jwks}}
	for _, c := range []struct {
		name   string
		change func(*agents.Agent)
		want   error
	}{
		{"no id", func(a *agents.Agent) { a.ID = "" }, agents.ErrInvalid},
		{"an id with a space", func(a *agents.Agent) { a.ID = "a b" }, agents.ErrInvalid},
		{"an id beyond ASCII", func(a *agents.Agent) { a.ID = "аgent" }, agents.ErrInvalid},
		{"a very long id", func(a *agents.Agent) { a.ID = strings.Repeat("a", 129) }, agents.ErrInvalid},
		{"no name", func(a *agents.Agent) { a.Name = "" }, agents.ErrInvalid},
		{"a name with letters of two scripts", func(a *agents.Agent) { a.Name = "Mаil" }, agents.ErrInvalid},
		{"a name that runs backwards", func(a *agents.Agent) { a.Name = "Mail\u202eliam" }, agents.ErrInvalid},
		{"the name of another agent", func(a *agents.Agent) { a.Name = "Agent agent-a" }, agents.ErrTaken},
		{"a name that looks like another's", func(a *agents.Agent) { a.Name = "AGENT agent-a" }, agents.ErrTaken},
		{"the name of a client", func(a *agents.Agent) { a.Name = "The app" }, agents.ErrTaken},
		{"an unknown state", func(a *agents.Agent) { a.State = "asleep" }, agents.ErrInvalid},
		{"no proof", func(a *agents.Agent) { a.Auth = oauth.AuthNone; a.JWKS = nil }, agents.ErrInvalid},
		{"no key", func(a *agents.Agent) { a.JWKS = nil }, agents.ErrInvalid},
		{"keys twice", func(a *agents.Agent) { a.JWKSURI = "https://x.test" }, agents.ErrInvalid},
		{"a broken key", func(a *agents.Agent) { a.JWKS = []byte(`{"keys":[{"kty":"oct","k":"AAAA"}]}`) }, agents.ErrInvalid},
		{"a secret without a hash", func(a *agents.Agent) { a.Auth = oauth.AuthSecretBasic }, agents.ErrInvalid},
		{"a malformed scope", func(a *agents.Agent) { a.Ceiling.Scopes = []string{"a b"} }, agents.ErrInvalid},
		{"a ceiling below zero", func(a *agents.Agent) { a.Ceiling.Uses = -1 }, agents.ErrInvalid},
		{"the id of a client", func(a *agents.Agent) { a.ID = "app" }, agents.ErrTaken},
		{"the alias of a resource", func(a *agents.Agent) { a.ID = "urn:mail" }, agents.ErrTaken},
		{"an id that is registered", func(a *agents.Agent) { a.ID = "agent-a" }, agents.ErrChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := good
			c.change(&a)
			if _, err := w.Registry.PutAgent(t.Context(), a, 0); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestWhatIsNoClient(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Agent("agent-a", nil)
	code := []oauth.GrantType{oauth.GrantAuthorizationCode}
	good := agents.Client{ID: "x", RedirectURIs: []string{"https://x.test/cb"}, GrantTypes: code, Credential: agents.Credential{Auth: oauth.AuthNone}}
	for _, c := range []struct {
		name   string
		change func(*agents.Client)
		ok     bool
	}{
		{"https", func(*agents.Client) {}, true},
		{"loopback", func(c *agents.Client) {
			c.RedirectURIs = []string{"http://127.0.0.1/cb", "http://[::1]:1/cb", "http://localhost/cb"}
		}, true},
		{"a private scheme", func(c *agents.Client) { c.RedirectURIs = []string{"com.example.app:/cb"} }, true},
		{"javascript", func(c *agents.Client) { c.RedirectURIs = []string{"javascript:alert(1)"} }, false},
		{"data", func(c *agents.Client) { c.RedirectURIs = []string{"data:text/html,x"} }, false},
		{"http", func(c *agents.Client) { c.RedirectURIs = []string{"http://x.test/cb"} }, false},
		{"a fragment", func(c *agents.Client) { c.RedirectURIs = []string{"https://x.test/cb#x"} }, false},
		{"a user", func(c *agents.Client) { c.RedirectURIs = []string{"https://u@x.test/cb"} }, false},
		{"a wildcard", func(c *agents.Client) { c.RedirectURIs = []string{"https://*.x.test/cb"} }, false},
		{"a code of its own", func(c *agents.Client) { c.RedirectURIs = []string{"https://x.test/cb?code=1"} }, false},
		{"a relative one", func(c *agents.Client) { c.RedirectURIs = []string{"/cb"} }, false},
		{"none", func(c *agents.Client) { c.RedirectURIs = nil }, false},
		{"token exchange", func(c *agents.Client) { c.GrantTypes = []oauth.GrantType{oauth.GrantTokenExchange} }, false},
		{"a password grant", func(c *agents.Client) { c.GrantTypes = []oauth.GrantType{"password"} }, false},
		{"the id of an agent", func(c *agents.Client) { c.ID = "agent-a" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := good
			client.ID = "x-" + strings.ReplaceAll(c.name, " ", "-")
			c.change(&client)
			if _, err := w.Registry.PutClient(t.Context(), client, 0); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

func TestAResourceTakesItsNames(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Populate()
	ctx := t.Context()
	good := agents.Resource{ID: "wiki", URI: "https://wiki.test", Redemption: agents.RedemptionNone}
	for _, c := range []struct {
		name   string
		change func(*agents.Resource)
		want   error
	}{
		{"the URI of another", func(r *agents.Resource) { r.URI = "https://mail.test/api" }, agents.ErrTaken},
		{"the alias of another", func(r *agents.Resource) { r.Aliases = []string{"urn:mail"} }, agents.ErrTaken},
		{"a client's id as alias", func(r *agents.Resource) { r.Aliases = []string{"app"} }, agents.ErrTaken},
		{"a relative URI", func(r *agents.Resource) { r.URI = "wiki" }, agents.ErrInvalid},
		{"a fragment", func(r *agents.Resource) { r.URI = "https://wiki.test#x" }, agents.ErrInvalid},
		{"not in canonical form", func(r *agents.Resource) { r.URI = "https://WIKI.test" }, agents.ErrInvalid},
		{"redemption by nobody", func(r *agents.Resource) { r.Redemption = agents.RedemptionRequired }, agents.ErrInvalid},
		{"an unknown redemption", func(r *agents.Resource) { r.Redemption = "maybe" }, agents.ErrInvalid},
		{"an unknown algorithm", func(r *agents.Resource) { r.Algorithm = "HS256" }, agents.ErrInvalid},
		{"a malformed scope", func(r *agents.Resource) { r.Scopes = map[string]string{"a b": ""} }, agents.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := good
			r.ID = "r-" + strings.ReplaceAll(c.name, " ", "-")
			c.change(&r)
			if _, err := w.Registry.PutResource(t.Context(), r, 0); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	good.Aliases = []string{"urn:wiki"}
	version, err := w.Registry.PutResource(ctx, good, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wiki", "https://wiki.test", "HTTPS://wiki.TEST:443", "urn:wiki"} {
		if r, err := w.Registry.ResourceAt(ctx, name); err != nil || r.ID != "wiki" {
			t.Errorf("%s: %v %v", name, r.ID, err)
		}
	}
	good.URI, good.Aliases = "https://other.test", nil
	if version, err = w.Registry.PutResource(ctx, good, version); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"https://wiki.test", "urn:wiki"} {
		if _, err := w.Registry.ResourceAt(ctx, name); !errors.Is(err, agents.ErrNotFound) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if err := w.Registry.RemoveResource(ctx, "wiki", version); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Registry.ResourceAt(ctx, "https://other.test"); !errors.Is(err, agents.ErrNotFound) {
		t.Errorf("a removed resource is found: %v", err)
	}
}

func TestCanonicalURI(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://RS1.test:443/mcp": "https://rs1.test/mcp", "HTTP://a.test:80": "http://a.test", "https://a.test/A/../b": "https://a.test/A/../b",
		"https://a.test/?Q=1": "https://a.test/?Q=1", "https://[2001:DB8::1]:443/x": "https://[2001:db8::1]/x", "URN:x:Y": "urn:x:Y",
		"https://a.test/%7e": "https://a.test/%7e", "https://a.test:8443/": "https://a.test:8443/",
		"": "", "foo": "", "//a.test": "", "https://a.test/#": "", "https://u:p@a.test": "", "https:///x": "", "https://a.test/ x": "",
		"https://a.test/\n": "", "https://%zz": "", "https://a.test/" + strings.Repeat("a", 400): "",
	} {
		got, err := agents.CanonicalURI(in)
		if (err == nil) != (want != "") || got != want {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
}

func FuzzCanonicalURI(f *testing.F) {
	f.Add("https://RS1.test:443/mcp?x=1")
	f.Fuzz(func(t *testing.T, s string) {
		once, err := agents.CanonicalURI(s)
		if err != nil {
			return
		}
		if twice, err := agents.CanonicalURI(once); err != nil || twice != once {
			t.Errorf("%q %q %v", once, twice, err)
		}
	})
}

func TestNobodyComesBackUnderARemovedName(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Agent("agent-a", nil)
	ctx := t.Context()
	_, version, err := w.Registry.Agent(ctx, "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Registry.Remove(ctx, "agent-a", version+7); !errors.Is(err, agents.ErrChanged) {
		t.Errorf("removed on an old view: %v", err)
	}
	if err := w.Registry.Remove(ctx, "agent-a", version); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Registry.Agents(ctx, "", 10); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	_, err = w.Registry.PutClient(ctx, agents.Client{ID: "agent-a", Name: "x", Credential: agents.Credential{Auth: oauth.AuthNone}}, 0)
	if !errors.Is(err, agents.ErrTaken) {
		t.Errorf("a client took the name of an agent: %v", err)
	}
}

func TestANameIsFreeAgain(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Agent("agent-a", func(a *agents.Agent) { a.Name = "Clerk" })
	w.Agent("agent-a", func(a *agents.Agent) { a.Name = "Secretary" })
	w.Agent("agent-b", func(a *agents.Agent) { a.Name = "Clerk" })
	_, version, err := w.Registry.Agent(t.Context(), "agent-b")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Registry.Remove(t.Context(), "agent-b", version); err != nil {
		t.Fatal(err)
	}
	w.Agent("agent-c", func(a *agents.Agent) { a.Name = "CIerk" }) // with a capital I
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Populate()
	key, other := w.Agent("agent-a", nil), w.Agent("agent-b", nil)
	assert := func(k *token.SigningKey, id, aud string, at time.Time) string {
		compact, err := token.SignAssertion(k, id, aud, at)
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	jwt := func(id, compact string) agents.Credentials {
		return agents.Credentials{Method: oauth.AuthPrivateKeyJWT, ClientID: id, Assertion: compact}
	}
	for _, c := range []struct {
		name  string
		creds agents.Credentials
		ok    bool
	}{
		{"an assertion", jwt("agent-a", assert(key, "agent-a", world.Issuer, w.Now())), true},
		{"by another agent's key", jwt("agent-a", assert(other, "agent-a", world.Issuer, w.Now())), false},
		{"of another agent", jwt("agent-a", assert(other, "agent-b", world.Issuer, w.Now())), false},
		{"for the token endpoint", jwt("agent-a", assert(key, "agent-a", world.Issuer+"/token", w.Now())), false},
		{"with a slash too many", jwt("agent-a", assert(key, "agent-a", world.Issuer+"/", w.Now())), false},
		{"from long ago", jwt("agent-a", assert(key, "agent-a", world.Issuer, w.Now().Add(-time.Hour))), false},
		{"from the future", jwt("agent-a", assert(key, "agent-a", world.Issuer, w.Now().Add(2*time.Minute))), false},
		{"garbage", jwt("agent-a", "a.b.c"), false},
		{"of nobody", jwt("nobody", assert(key, "nobody", world.Issuer, w.Now())), false},
		{"of no name", jwt("", assert(key, "", world.Issuer, w.Now())), false},
		{"of a client that has a secret", jwt("mail-server", assert(key, "mail-server", world.Issuer, w.Now())), false},
		{"a secret by Basic", agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: "mail-server", Secret: "secret"}, true},
		{"a secret in the body", agents.Credentials{Method: oauth.AuthSecretPost, ClientID: "mail-server", Secret: "secret"}, true},
		{"a wrong secret", agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: "mail-server", Secret: "Secret"}, false},
		{"no secret", agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: "mail-server"}, false},
		{"a secret of a client that has none", agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: "app", Secret: ""}, false},
		{"a secret of an agent with keys", agents.Credentials{Method: oauth.AuthSecretBasic, ClientID: "agent-a", Secret: "x"}, false},
		{"a public client", agents.Credentials{Method: oauth.AuthNone, ClientID: "app"}, true},
		{"a client with a secret that names itself only", agents.Credentials{Method: oauth.AuthNone, ClientID: "mail-server"}, false},
		{"an agent that names itself only", agents.Credentials{Method: oauth.AuthNone, ClientID: "agent-a"}, false},
		{"an unknown public client", agents.Credentials{Method: oauth.AuthNone, ClientID: "nobody"}, false},
		{"nothing", agents.Credentials{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := w.Clients.Present(t.Context(), c.creds)
			if err == nil {
				_, err = w.Clients.Settle(t.Context(), p)
			}
			if c.ok != (err == nil) {
				t.Fatal(err)
			}
			if refusal := oauth.AsError(err); err != nil && (refusal.Code != oauth.InvalidClient || refusal.Tell || refusal.Description != "client authentication failed") {
				t.Errorf("failures differ: %+v", refusal)
			}
		})
	}
}

func TestAnAssertionIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	key := w.Agent("agent-a", nil)
	p := w.Assertion("agent-a", key)
	var ok atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if _, err := w.Clients.Settle(t.Context(), p); err == nil {
				ok.Add(1)
			} else if oauth.AsError(err).Reason != oauth.ReasonAssertionUsed {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if ok.Load() != 1 {
		t.Errorf("used %d times", ok.Load())
	}
}

func TestAnAssertionFromBeforeTheEpoch(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	key := w.Agent("agent-a", nil)
	compact, err := token.SignAssertion(key, "agent-a", world.Issuer, w.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.Pass(2 * time.Second)
	w.Restart()
	p, err := w.Clients.Present(t.Context(), agents.Credentials{Method: oauth.AuthPrivateKeyJWT, ClientID: "agent-a", Assertion: compact})
	if err == nil {
		_, err = w.Clients.Settle(t.Context(), p)
	}
	if oauth.AsError(err).Reason != oauth.ReasonAssertionUsed {
		t.Errorf("%v", err)
	}
	w.Pass(2 * time.Second)
	if _, err := w.Clients.Settle(t.Context(), w.Assertion("agent-a", key)); err != nil {
		t.Errorf("a new assertion: %v", err)
	}
}

func TestAnAssertionDatedAheadIsNotAcceptedBeforeItsDate(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	key := w.Agent("agent-a", nil)
	compact, err := token.SignAssertion(key, "agent-a", world.Issuer, w.Now().Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	creds := agents.Credentials{Method: oauth.AuthPrivateKeyJWT, ClientID: "agent-a", Assertion: compact}
	began := time.Now()
	if _, err := w.Clients.Present(t.Context(), creds); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited < 900*time.Millisecond {
		t.Errorf("accepted after %s", waited)
	}
}

func TestAChangedKeyCountsAtOnce(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	old := w.Agent("agent-a", nil)
	if _, err := w.Clients.Settle(t.Context(), w.Assertion("agent-a", old)); err != nil {
		t.Fatal(err)
	}
	pending := w.Assertion("agent-a", old) // checked against the old registration, not yet settled
	fresh := w.Agent("agent-a", nil)       // the key is replaced
	if _, err := w.Clients.Settle(t.Context(), pending); oauth.AsError(err).Code != oauth.InvalidClient {
		t.Errorf("the old key still works: %v", err)
	}
	if _, err := w.Clients.Settle(t.Context(), w.Assertion("agent-a", fresh)); err != nil {
		t.Errorf("the new key: %v", err)
	}
}

func TestPresentedByNobody(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	if _, err := w.Clients.Settle(t.Context(), agents.Presented{}); err == nil {
		t.Error("nothing was authenticated")
	}
}
