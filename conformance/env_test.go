package conformance_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/store/storetest/servers"
)

// The world of the cases.
const (
	mail      = "https://rs1.test/mcp" // one transaction for each token; resource server rs1
	files     = "https://rs2.test/api" // one transaction for each token; resource server rs2
	notes     = "https://notes.test"   // session tokens; resource server rs1, hub
	brief     = "https://brief.test"   // one transaction, tokens of a few seconds; resource server rs1
	desk      = "https://desk.test"    // session tokens; resource server rs1
	blink     = "https://blink.test"   // session tokens of a few seconds; resource server rs1
	fresh     = "https://fresh.test"   // wants a sign-in of the last moment
	redirect  = "https://app.test/callback"
	redirect2 = "https://app2.test/callback"

	rs2Secret = "rs2-secret-of-the-conformance-suite-0123456789"
	alicePass = "alice-has-a-long-passphrase-31"
	bobPass   = "bob-has-another-passphrase-47"

	trustDomain = "trust.test"

	tokenLifetime   = 60  // seconds, at most, of a one-transaction token
	sessionLifetime = 600 // and of another
	shortLifetime   = 6   // at brief and blink
)

// guardrails of the suite: nobody acts through an agent that is labelled an outcast.
const guardrails = `@id("no-outcasts")
forbid (principal, action, resource)
when { principal.hasTag("standing") && principal.getTag("standing") == "outcast" };
`

// env is an installation that runs: the processes, what they stand on, and what was said to and by them.
type env struct {
	shape    string
	issuer   string
	nodes    []*node
	operator string // token
	config   string // file
	records  string // where they are
	idp      *foreign
	ids      *identities
	redis    *fleet                                         // nil: live data is in the process
	rs1, rs3 *client                                        // rs2 is a client with a secret
	again    func(t *testing.T, change func(*options)) *env // another installation of the same shape
	turn     atomic.Uint32
	serial   atomic.Uint32

	mu       sync.Mutex
	secrets  map[string]string // what must not be in a log → what it is
	jtis     map[string]string // jti → where it was seen
	people   map[string]*browser
	subjects map[string]string
	jwks     map[string]obj // kid → JWK
}

// options of an installation.
type options struct {
	records, live string
	nodes         int
	redis         *fleet
	path          string    // of the issuer
	tls           bool      // the issuer is https
	change        func(obj) // of the configuration
}

// shape is what an installation can look like. The stores of a shape are shared by its environments where that is safe.
type shape struct {
	name  string
	nodes int
	// stores makes fresh ones.
	stores func(t *testing.T) options
}

func boltMemory() shape {
	return shape{name: "bolt+memory", nodes: 1, stores: func(t *testing.T) options {
		t.Helper()
		return options{records: "bolt:" + filepath.Join(t.TempDir(), "records.db"), live: "memory:", nodes: 1}
	}}
}

// postgresRedis shares one PostgreSQL cluster among the environments of a test, each with a database and a Redis of its own.
func postgresRedis(t *testing.T) shape {
	t.Helper()
	return postgresAnd(t, "redis", one)
}

// postgresAnd is two processes on a PostgreSQL and a Redis of some kind.
func postgresAnd(t *testing.T, kind string, live func(t *testing.T) (string, *fleet)) shape {
	t.Helper()
	cluster := servers.StartPostgres(t, "-c", "fsync=off", "-c", "max_connections=500")
	return shape{name: "postgres+" + kind, nodes: 2, stores: func(t *testing.T) options {
		t.Helper()
		url, redis := live(t)
		return options{records: cluster.Database(t), live: url, nodes: 2, redis: redis}
	}}
}

// start runs an installation until the test ends.
func start(t *testing.T, name string, o options) *env {
	t.Helper()
	dir := t.TempDir()
	e := &env{
		shape: name, operator: nonce() + nonce(), records: o.records, redis: o.redis, idp: newForeign(t), ids: newIdentities(t),
		rs1: newClient("rs1", "ES256"), rs3: newClient("rs3", "ES256"),
		secrets: map[string]string{}, jtis: map[string]string{}, people: map[string]*browser{}, subjects: map[string]string{}, jwks: map[string]obj{},
	}
	maps.Copy(e.secrets, map[string]string{
		rs2Secret: "client secret", alicePass: "password", bobPass: "password", e.operator: "operators' token",
	})
	ports := make([]int, o.nodes)
	for i := range ports {
		ports[i] = servers.FreePort(t)
	}
	port := ports[0]
	if o.nodes > 1 {
		port = servers.FreePort(t) // a name that stands for all of them
	}
	scheme := "http://"
	if o.tls {
		scheme = "https://"
	}
	e.issuer = scheme + loopback(port) + o.path
	e.config = filepath.Join(dir, "obolus.yaml")
	write(t, filepath.Join(dir, "operator.token"), []byte(e.operator))
	write(t, filepath.Join(dir, "guardrails.cedar"), []byte(guardrails))
	cfg := e.configuration(t, dir, o)
	write(t, e.config, mustJSON(cfg))
	for i := range o.nodes {
		addr := loopback(ports[i])
		e.nodes = append(e.nodes, &node{
			base: scheme + addr, addr: addr, log: filepath.Join(dir, fmt.Sprintf("node%d.log", i)),
			args: []string{"serve", "--config", e.config},
			env:  []string{"OBOLUS_LISTEN=" + addr, "OBOLUS_DATA=" + filepath.Join(dir, fmt.Sprint("data", i))},
		})
	}
	t.Cleanup(func() { e.readLogs(t) }) // after the processes have ended
	for _, n := range e.nodes {
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.end)
	}
	e.settle()
	return e
}

// settle waits into the next second: what was signed in the second in which an epoch begins is refused.
func (e *env) settle() {
	now := time.Now()
	time.Sleep(time.Until(now.Truncate(time.Second).Add(time.Second + 20*time.Millisecond)))
}

// outlive waits until a token is over, for clocks that differ too.
func (c *check) outlive(token string) {
	c.Helper()
	time.Sleep(time.Until(time.Unix(c.decode(token).num("exp"), 0)) + 2*time.Second)
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// configuration is that of the server: JSON, which is YAML.
func (e *env) configuration(t *testing.T, dir string, o options) obj {
	t.Helper()
	scopes := func(names ...string) obj {
		s := obj{}
		for _, n := range names {
			s[n] = "May do " + n
		}
		return s
	}
	cfg := obj{
		"issuer": e.issuer, "data": dir, "records": o.records, "live": o.live,
		"keys":      obj{"encryption_key": base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))},
		"tokens":    obj{"lifetime": fmt.Sprintf("%ds", tokenLifetime), "leeway": "1s"},
		"operators": obj{"token_file": filepath.Join(dir, "operator.token")},
		"log":       obj{"level": "debug", "format": "json"},
		"consent":   obj{"interval": "1s"},
		"exchange":  obj{"trust_domain": trustDomain},
		"users": []obj{
			{"id": "alice", "name": "Alice Liddell", "email": "alice@example.test", "password": alicePass},
			{"id": "bob", "name": "Bob Cratchit", "email": "bob@example.test", "password": bobPass},
		},
		"clients": []obj{
			{
				"id": "app", "name": "The app", "redirect_uris": []string{redirect, "http://127.0.0.1/callback"},
				"grant_types": []string{"authorization_code"},
			},
			{"id": "app2", "name": "Another app", "redirect_uris": []string{redirect2}, "grant_types": []string{"authorization_code"}},
			{"id": "rs1", "name": "Mail server", "jwks": jwksOf(e.rs1.key)},
			{"id": "rs2", "name": "File server", "secret": rs2Secret},
			{"id": "rs3", "name": "Third server", "jwks": jwksOf(e.rs3.key)},
		},
		"resources": []obj{
			{
				"id": "mail", "uri": mail, "aliases": []string{"mail-service", mail + "/"}, "name": "Mail",
				"scopes": scopes("mail.read", "mail.send", "mail.delete"), "redemption": "required", "servers": []string{"rs1"},
				"details_types": []string{"payment", "mcp_tool_call"},
			},
			{
				"id": "files", "uri": files, "name": "Files", "scopes": scopes("files.read", "files.write"), "redemption": "required",
				"servers": []string{"rs2"},
			},
			{
				"id": "notes", "uri": notes, "name": "Notes", "scopes": scopes("notes.read", "notes.write"), "redemption": "none",
				"servers": []string{"rs1"},
			},
			{
				"id": "brief", "uri": brief, "name": "Brief", "scopes": scopes("brief.read"), "redemption": "required", "lifetime": fmt.Sprintf("%ds", shortLifetime),
				"servers": []string{"rs1"},
			},
			{
				"id": "desk", "uri": desk, "name": "Desk", "scopes": scopes("mail.read", "mail.send"), "redemption": "none",
				"servers": []string{"rs1"},
			},
			{
				"id": "blink", "uri": blink, "name": "Blink", "scopes": scopes("mail.read"), "redemption": "none", "lifetime": fmt.Sprintf("%ds", shortLifetime),
				"servers": []string{"rs1"},
			},
			{
				"id": "fresh", "uri": fresh, "name": "Fresh", "scopes": scopes("fresh.read"), "redemption": "required",
				"max_auth_age": "1s", "servers": []string{"rs1"},
			},
		},
		"policies": []obj{{"file": filepath.Join(dir, "guardrails.cedar")}},
		"details":  []obj{roomType()},
		"trusted_issuers": []obj{{
			"issuer": e.idp.issuer, "jwks_uri": e.idp.issuer + "/jwks", "algorithms": []string{"ES256"},
			"types": []string{"jwt", "id_token"}, "scopes": []string{"mail.read"}, "events": obj{},
		}},
	}
	if o.tls {
		cfg["tls"] = certificate(t, dir)
	}
	e.ids.configure(t, dir, cfg)
	if o.change != nil {
		o.change(cfg)
	}
	return cfg
}

// certificate makes one for loopback, signed by itself.
func certificate(t *testing.T, dir string) obj {
	t.Helper()
	k := newKey("ES256")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.signer.Public(), k.signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return obj{"cert": filepath.Join(dir, "cert.pem"), "key": filepath.Join(dir, "key.pem")}
}

// foreign is a trusted issuer that the suite runs: its tokens can be subject tokens.
type foreign struct {
	issuer string
	key    *key
	hits   atomic.Int32 // how often its keys were fetched
}

func newForeign(t *testing.T) *foreign {
	t.Helper()
	f := &foreign{key: newKey("ES256")}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/jwks" {
			http.NotFound(w, r)
			return
		}
		f.hits.Add(1)
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_ = json.NewEncoder(w).Encode(jwksOf(f.key))
	}))
	t.Cleanup(s.Close)
	f.issuer = s.URL
	return f
}

// claims are those of a subject token of the foreign issuer for the server.
func (f *foreign) claims(e *env, user, scope string) obj {
	return obj{
		"iss": f.issuer, "sub": user, "aud": e.issuer, "iat": in(0), "exp": in(300), "jti": nonce(), "scope": scope,
		"auth_time": in(-30), "acr": "urn:test:acr",
	}
}

// token signs a subject token, with changes to its claims.
func (f *foreign) token(e *env, user, scope string, changes ...obj) string {
	return f.key.sign(obj{"typ": "JWT"}, merge(f.claims(e, user, scope), changes...))
}

// secret remembers a string that must never be in a log.
func (e *env) secret(s, what string) {
	if len(s) < 8 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.secrets[s] = what
}

var looksLikeToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}`)

// readLogs reads everything that the processes said, and fails the test for what must not be in it.
func (e *env) readLogs(t *testing.T) {
	t.Helper()
	for _, n := range e.nodes {
		data, err := os.ReadFile(n.log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may never have been started
			t.Error(err)
		}
		text := string(data)
		for _, sign := range []string{"WARNING: DATA RACE", "panic:", "panic serving", "goroutine 1 ["} {
			if i := strings.Index(text, sign); i >= 0 {
				t.Errorf("%s: %s:\n%s", e.shape, sign, text[max(0, i-200):min(len(text), i+3000)])
			}
		}
		if found := looksLikeToken.FindString(text); found != "" {
			t.Errorf("%s: there is a token in the log: %s…", e.shape, found[:min(len(found), 40)])
		}
		e.mu.Lock()
		for secret, what := range e.secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s: there is a %s in the log: …%s…", e.shape, what, text[max(0, i-200):i])
			}
		}
		e.mu.Unlock()
	}
}

// logs are what all processes said so far.
func (e *env) logs() string {
	var all strings.Builder
	for _, n := range e.nodes {
		data, err := os.ReadFile(n.log)
		if err == nil {
			all.Write(data)
		}
	}
	return all.String()
}
