package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/admin"
	"obolus/agents"
	"obolus/audit"
	"obolus/cmd/obolus/internal/config"
	"obolus/cmd/obolus/internal/server"
	"obolus/store"
	"obolus/store/storetest/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

// load makes a configuration of YAML lines, with its data in a folder.
func load(t *testing.T, dir, lines string) config.Config {
	t.Helper()
	file := filepath.Join(dir, "obolus.yaml")
	if !strings.Contains(lines, "listen:") {
		lines += "\nlisten: 127.0.0.1:0\n"
	}
	if err := os.WriteFile(file, []byte("data: data\n"+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// running is a server that a test may ask.
type running struct {
	*server.Server
	t     *testing.T
	admin *admin.Client
	log   *logged
}

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, cfg config.Config, o server.Options) *running {
	t.Helper()
	r := &running{t: t, log: &logged{}}
	o.Log = slog.New(slog.NewTextHandler(r.log, nil))
	s, err := server.Start(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r.Server = s
	token, err := os.ReadFile(cfg.Operators.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	r.admin = &admin.Client{Server: "http://" + s.Addr() + path(s.Issuer()), Token: strings.TrimSpace(string(token)), HTTP: client()}
	return r
}

// path is what follows the host of an issuer.
func path(issuer string) string {
	_, rest, _ := strings.Cut(issuer, "://")
	_, p, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return "/" + p
}

func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
}

func (r *running) get(at string, headers ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.Addr()+at, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res, string(body)
}

const jwk = `{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}]}`

const declared = `
resources: [{id: mail, uri: 'https://mail.example.com', scopes: {mail.read: Read your mail}, servers: [mail-server]}]
clients: [{id: mail-server, name: Mail, secret: 0123456789abcdef}]
agents: [{id: mailer, name: Mail helper, jwks: ` + jwk + `, ceiling: {resources: [mail], scopes: [mail.read]}}]
users: [{id: alice, name: Alice, password: correct horse battery}]
`

func TestManyServersInOneProcessAndNothingIsLeft(t *testing.T) {
	for _, shape := range []struct{ name, lines string }{
		{"bolt and memory", declared},
		{"postgres and redis", "records: '" + servers.Postgres(t) + "'\nlive: '" + servers.Redis(t) + "'\n" +
			"keys: {encryption_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}\n" + declared},
	} {
		t.Run(shape.name, func(t *testing.T) { nothingIsLeft(t, shape.lines) })
	}
}

func nothingIsLeft(t *testing.T, lines string) {
	t.Helper()
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	for range 4 {
		dir := t.TempDir()
		cfg := load(t, dir, lines)
		all.Go(func() {
			s, err := server.Start(context.Background(), cfg, server.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			res, err := client().Get(s.Issuer() + "/.well-known/oauth-authorization-server")
			if err != nil {
				t.Error(err)
			} else {
				var meta struct {
					Issuer string `json:"issuer"`
				}
				if err := json.NewDecoder(res.Body).Decode(&meta); err != nil || meta.Issuer != s.Issuer() {
					t.Errorf("metadata of %q, %v, want %q", meta.Issuer, err, s.Issuer())
				}
				_ = res.Body.Close()
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error("closed twice:", err)
			}
		})
	}
	all.Wait()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestTheFileIsHeldByOne(t *testing.T) {
	t.Parallel()
	cfg := load(t, t.TempDir(), "")
	start(t, cfg, server.Options{})
	_, err := server.Start(t.Context(), cfg, server.Options{})
	if err == nil || !strings.Contains(err.Error(), "records.db") || !strings.Contains(err.Error(), store.ErrLocked.Error()) {
		t.Errorf("a second server: %v", err)
	}
	if _, _, err := server.Open(t.Context(), cfg); err == nil {
		t.Error("a command opened the file of a server that runs")
	}
}

func TestWhatOnlyTheOwnerMayRead(t *testing.T) {
	t.Parallel()
	cfg := load(t, t.TempDir(), "")
	start(t, cfg, server.Options{})
	for _, name := range []string{"operator.token", "master.key", "records.db"} {
		info, err := os.Stat(filepath.Join(cfg.Data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestAWrongMasterKeyIsNoticed(t *testing.T) {
	t.Parallel()
	cfg := load(t, t.TempDir(), "")
	if err := start(t, cfg, server.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(cfg.Data, "master.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Start(t.Context(), cfg, server.Options{}); err == nil || !strings.Contains(err.Error(), "the master key does not open it") {
		t.Errorf("got %v", err)
	}
}

func TestAnIssuerWithAPath(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), "issuer: https://as.example.com/tenant1\n"), server.Options{})
	for at, status := range map[string]int{
		"/.well-known/oauth-authorization-server/tenant1":     200,
		"/.well-known/openid-configuration/tenant1":           200,
		"/tenant1/.well-known/openid-configuration":           200,
		"/.well-known/oauth-authorization-server":             404,
		"/tenant1/jwks.json":                                  200,
		"/jwks.json":                                          404,
		"/tenant1/healthz":                                    200,
		"/healthz":                                            200,
		"/tenant1/readyz":                                     200,
		"/tenant1/metrics":                                    200,
		"/tenant1/admin/v1/status":                            401,
		"/admin/v1/status":                                    404,
		"/tenant1/sign-in":                                    200,
		"/sign-in":                                            404,
		"//tenant1/jwks.json":                                 404,
		"/tenant1/../jwks.json":                               404,
		"/.well-known/oauth-authorization-server/tenant1/../": 404,
	} {
		res, body := r.get(at)
		if res.StatusCode != status {
			t.Errorf("%s: %d, want %d: %.200s", at, res.StatusCode, status, body)
		}
		if res.Header.Get("Strict-Transport-Security") == "" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", at, res.Header)
		}
	}
	var st admin.Status
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/status"}, &st); err != nil || st.Issuer != "https://as.example.com/tenant1" || !st.Ready {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestTheHostHeaderChangesNothing(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), ""), server.Options{})
	_, want := r.get("/.well-known/oauth-authorization-server")
	for _, h := range []string{"X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "Forwarded: host=evil.test", "X-Original-URL: /admin/v1/status"} {
		if _, got := r.get("/.well-known/oauth-authorization-server", h); got != want {
			t.Errorf("%s changes the metadata", h)
		}
	}
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
		t.Errorf("the Host header changes the metadata: %s, %v", got, err)
	}
}

// What a request carries that is nobody's business is in neither log, metrics nor answer.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), declared), server.Options{})
	const secret = "s3cr3t-s3cr3t"
	r.get("/authorize?client_id=" + secret + "&state=" + secret)
	r.get("/"+secret+"?token="+secret, "Authorization: Bearer "+secret, "Cookie: "+secret+"="+secret)
	res, err := client().Post(r.Issuer()+"/token", "application/x-www-form-urlencoded",
		strings.NewReader("grant_type=authorization_code&code="+secret+"&client_id=mail-server&client_secret="+secret))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	req, err := http.NewRequestWithContext(t.Context(), secret, r.Issuer()+"/token", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if res, err = client().Do(req); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	_, numbers := r.get("/metrics")
	if strings.Contains(r.log.String(), secret) || strings.Contains(numbers, secret) {
		t.Errorf("it is told:\n%s", r.log)
	}
	for _, words := range []string{"route=/authorize", "route=none", "route=/token", "method=other", "status=", "duration=", "request="} {
		if !strings.Contains(r.log.String(), words) {
			t.Errorf("the log does not say %s:\n%s", words, r.log)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), declared), server.Options{Version: "v1.2.3"})
	r.get("/jwks.json")
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "POST", Path: "/agents/mailer/suspend"}, nil); err != nil {
		t.Fatal(err)
	}
	_, numbers := r.get("/metrics")
	for _, want := range []string{
		`obolus_build_info{version="v1.2.3"} 1`,
		`obolus_requests_total{method="GET",route="/jwks.json",status="200"} 1`,
		`obolus_events_total{kind="stop",outcome="ok",reason=""} 1`,
		`obolus_events_total{kind="registry",outcome="ok",reason=""} 4`,
		"go_goroutines ",
	} {
		if !strings.Contains(numbers, want) {
			t.Errorf("no %s in\n%s", want, numbers)
		}
	}
}

func TestMetricsAreNotForStrangers(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), "trusted_proxies: [127.0.0.1]\n"), server.Options{})
	for from, status := range map[string]int{"203.0.113.7": 404, "10.1.2.3": 200, "203.0.113.7, 127.0.0.1": 404, "nonsense": 200, "": 200} {
		if res, _ := r.get("/metrics", "X-Forwarded-For: "+from); res.StatusCode != status {
			t.Errorf("from %q: %d, want %d", from, res.StatusCode, status)
		}
	}
}

func TestWhoAsked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, proxies, forwarded, want string
	}{
		{"nobody in between", "", "", "127.0.0.1"},
		{"a stranger says he is somebody else", "", "203.0.113.7", "127.0.0.1"},
		{"a proxy of ours says", "[127.0.0.0/8]", "203.0.113.7", "203.0.113.7"},
		{"a stranger says it to a proxy of ours", "[127.0.0.0/8]", "198.51.100.1, 203.0.113.7", "203.0.113.7"},
		{"through two of ours", "[127.0.0.0/8, 10.0.0.0/8]", "203.0.113.7, 10.9.9.9", "203.0.113.7"},
		{"by IPv6", "[127.0.0.0/8]", "2001:db8::1", "2001:db8::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines := declared
			if c.proxies != "" {
				lines += "trusted_proxies: " + c.proxies + "\n"
			}
			r := start(t, load(t, t.TempDir(), lines), server.Options{})
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.Issuer()+"/admin/v1/agents/mailer/suspend", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+r.admin.Token)
			if c.forwarded != "" {
				req.Header.Set("X-Forwarded-For", c.forwarded)
			}
			res, err := client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			var got admin.EventList
			if err := json.Unmarshal([]byte(r.events("kind=stop")), &got); err != nil || len(got.Events) != 1 || got.Events[0].Remote != c.want {
				t.Errorf("the ledger says %+v, %v", got.Events, err)
			}
		})
	}
}

func (r *running) events(query string) string {
	r.t.Helper()
	_, body := r.get(path(r.Issuer())+"/admin/v1/audit?"+query, "Authorization: Bearer "+r.admin.Token)
	return body
}

// Whoever does not finish is cut off when the server ends, and that is no failure.
func TestItEndsWhateverClientsDo(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), ""), server.Options{Grace: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n", r.Addr())
	r.get("/healthz")
	began := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAPanicIsSurvived(t *testing.T) {
	t.Parallel()
	log := &logged{}
	door := httptest.NewServer(server.NewDoor(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			panic("s3cr3t in a panic")
		case "/late":
			w.WriteHeader(http.StatusTeapot)
			panic("too late")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}), slog.New(slog.NewTextHandler(log, nil)), 1))
	t.Cleanup(door.Close)
	for at, status := range map[string]int{"/early": 500, "/late": 418, "/": 200} {
		res, err := client().Get(door.URL + at)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != status || strings.Contains(string(body), "s3cr3t") {
			t.Errorf("%s: %d %s %v", at, res.StatusCode, body, err)
		}
		if status == 500 && !strings.Contains(string(body), `"error":"server_error"`) {
			t.Errorf("%s: %s", at, body)
		}
	}
	if res, err := client().Get(door.URL + "/abort"); err == nil {
		_ = res.Body.Close()
		t.Error("an aborted answer came through")
	}
	for range 3 { // the only place in the server was given back each time
		res, err := client().Get(door.URL + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("afterwards: %d", res.StatusCode)
		}
	}
	if strings.Count(log.String(), "msg=panic") != 2 || !strings.Contains(log.String(), "goroutine") {
		t.Errorf("the log: %s", log)
	}
}

func TestALongHeaderIsRefused(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), ""), server.Options{})
	if res, _ := r.get("/jwks.json", "X-Long: "+strings.Repeat("x", 64<<10)); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %d", res.StatusCode)
	}
}

// TestAnAddressThatLeadsNowhere is answered to people by a page, and to programs by JSON.
func TestAnAddressThatLeadsNowhere(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), ""), server.Options{})
	for accept, want := range map[string]string{
		"text/html,application/xhtml+xml,*/*;q=0.8": "text/html", "*/*": "application/json", "application/json": "application/json",
	} {
		res, body := r.get("/agent", "Accept: "+accept)
		if res.StatusCode != http.StatusNotFound || !strings.HasPrefix(res.Header.Get("Content-Type"), want) || !strings.Contains(body, "nothing here") {
			t.Errorf("to %s: %d %s %s", accept, res.StatusCode, res.Header.Get("Content-Type"), body)
		}
		if res.Header.Get("Cache-Control") != "no-store" || want == "text/html" && res.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("to %s: %v", accept, res.Header)
		}
	}
}

func TestWrongMethods(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), ""), server.Options{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.Issuer()+"/healthz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("%d, Allow: %s", res.StatusCode, res.Header.Get("Allow"))
	}
}

func TestTLSAndARenewedCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir, "first")
	r, err := server.Start(t.Context(), load(t, dir, "tls: {cert: cert.pem, key: key.pem}\n"), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if !strings.HasPrefix(r.Issuer(), "https://127.0.0.1:") {
		t.Errorf("issuer %s", r.Issuer())
	}
	name := func() string {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "first" {
		t.Errorf("it shows the certificate of %q", got)
	}
	certificate(t, dir, "second")
	for deadline := time.Now().Add(time.Minute); name() != "second"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the renewed certificate is not read")
		}
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}
	if conn, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", r.Addr()); err == nil {
		_ = conn.Close()
		t.Error("it speaks TLS 1.1")
	}
}

func certificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The live store goes away and comes back: the server says so, and works again without a restart.
func TestRedisGoesAndComesBack(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t)
	r := start(t, load(t, t.TempDir(), declared+"live: "+redis.URL+"\n"), server.Options{})
	if res, body := r.get("/readyz"); res.StatusCode != http.StatusOK {
		t.Fatalf("readyz: %d %s", res.StatusCode, body)
	}
	redis.Stop()
	res, _ := r.get("/readyz")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("readyz without Redis: %d", res.StatusCode)
	}
	if res, _ := r.get("/healthz"); res.StatusCode != http.StatusOK {
		t.Errorf("healthz without Redis: %d", res.StatusCode)
	}
	redis.Restart()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if res, _ := r.get("/readyz"); res.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not come back")
		}
	}
	var st admin.Status
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/status"}, &st); err != nil || st.Epoch < 2 || !st.Ready {
		t.Errorf("after the restart of Redis: %+v, %v", st, err)
	}
}

func TestStoresThatAreNotThere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, lines, want string }{
		{"redis", "live: 'redis://user:hunter2@127.0.0.1:1'\n", "the live store (redis://127.0.0.1:1)"},
		{"postgres", "records: 'postgres://user:hunter2@127.0.0.1:1/x'\n", "the store of records (postgres://127.0.0.1:1/x)"},
	} {
		_, err := server.Start(t.Context(), load(t, t.TempDir(), c.lines), server.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Guardrails are read again when their file changes; a set that is wrong leaves the old one in force.
func TestGuardrailsAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "night.cedar")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(`@id("one") forbid(principal, action, resource);`)
	r := start(t, load(t, dir, "policies: [{file: night.cedar}]\n"), server.Options{})
	set := func() admin.PolicySet {
		t.Helper()
		var got admin.PolicySet
		if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/policies"}, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := set()
	put("forbid(")
	if err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "night.cedar:1") {
		t.Errorf("half a policy: %v", err)
	}
	if got := set(); got.Version != first.Version {
		t.Errorf("half a policy is in force: %+v", got)
	}
	put(`@id("two") forbid(principal, action, resource);`)
	if err := r.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	second := set()
	if second.Version == first.Version || !strings.Contains(second.Policies[0].Text, "two") {
		t.Errorf("the new set is not in force: %+v", second)
	}
	put(`@id("three, and longer") forbid(principal, action, resource);`)
	for deadline := time.Now().Add(time.Minute); set().Version == second.Version; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody notices that the file changed")
		}
	}
}

func agent(t *testing.T, r *running) agents.Agent {
	t.Helper()
	var a agents.Agent
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents/mailer"}, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// What is declared is applied once; what was done by hand since then stays; nothing is removed, and nobody is set going again.
func TestDeclaredThings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	again := func(lines string) *running {
		t.Helper()
		return start(t, load(t, dir, lines), server.Options{})
	}
	stop := func(r *running) {
		t.Helper()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	count := func(r *running) int {
		t.Helper()
		var got admin.EventList
		if err := json.Unmarshal([]byte(r.events("kind=registry&limit=1000")), &got); err != nil {
			t.Fatal(err)
		}
		return len(got.Events)
	}

	r := again(declared)
	if a := agent(t, r); a.State != agents.Active || a.Changed.By != "configuration" {
		t.Errorf("the agent is %+v", a)
	}
	if n := count(r); n != 4 {
		t.Errorf("%d events of the registry, want 4", n)
	}
	stop(r)

	r = again(declared)
	if n := count(r); n != 4 {
		t.Errorf("a restart changed something: %d events", n)
	}
	for _, call := range []admin.Call{
		{Method: "POST", Path: "/agents/mailer/suspend", Body: admin.Why{Why: "too much mail"}},
		{Method: "POST", Path: "/users/alice/disable"},
	} {
		if _, err := r.admin.Do(t.Context(), call, nil); err != nil {
			t.Fatal(err)
		}
	}
	stop(r)

	changed := strings.Replace(strings.Replace(declared, "Mail helper", "Mail assistant", 1), "name: Alice", "name: Alicia", 1)
	r = again(changed)
	if a := agent(t, r); a.State != agents.Suspended || a.Name != "Mail assistant" {
		t.Errorf("a file set the agent going again, or was not applied: %+v", a)
	}
	var u admin.User
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/users/alice"}, &u); err != nil || !u.Disabled || u.Name != "Alicia" {
		t.Errorf("a file let the user in again, or was not applied: %+v, %v", u, err)
	}
	if !strings.Contains(r.log.String(), "stopped by hand") || !strings.Contains(r.log.String(), "disabled by hand") {
		t.Errorf("nobody is told:\n%s", r.log)
	}
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "POST", Path: "/agents/mailer/resume"}, nil); err != nil {
		t.Fatal(err)
	}
	stop(r)

	// A file may always stop, and set going again what a file had stopped.
	suspended := strings.Replace(changed, "name: Mail assistant,", "name: Mail assistant, state: suspended,", 1)
	r = again(suspended)
	if a := agent(t, r); a.State != agents.Suspended || a.Changed.By != "configuration" {
		t.Errorf("the file did not stop the agent: %+v", a)
	}
	stop(r)
	r = again(changed)
	if a := agent(t, r); a.State != agents.Active {
		t.Errorf("the file did not set going what it had stopped: %+v", a)
	}
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "DELETE", Path: "/agents/mailer"}, nil); err != nil {
		t.Fatal(err)
	}
	stop(r)

	r = again(changed)
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents/mailer"}, nil); err == nil {
		t.Error("an agent that was removed by hand came back with a restart")
	}
	stop(r)

	r = again("")
	if !strings.Contains(r.log.String(), "thing=resource/mail") {
		t.Errorf("nobody is told what left the file:\n%s", r.log)
	}
	if _, err := r.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/resources/mail"}, nil); err != nil {
		t.Errorf("what left the file was removed: %v", err)
	}
}

// Servers that start at once on the same stores do not get in each other's way.
func TestReplicasStartAtOnce(t *testing.T) {
	t.Parallel()
	shared := "records: '" + servers.Postgres(t) + "'\nlive: '" + servers.Redis(t) + "'\nissuer: https://as.example.com\n" +
		"keys: {encryption_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}\n" + declared
	var all sync.WaitGroup
	found := make([]*server.Server, 3)
	for i := range found {
		cfg := load(t, t.TempDir(), shared)
		all.Go(func() {
			s, err := server.Start(context.Background(), cfg, server.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			found[i] = s
		})
	}
	all.Wait()
	keys := map[string]bool{}
	for _, s := range found {
		if s == nil {
			continue
		}
		t.Cleanup(func() { _ = s.Close() })
		res, err := client().Get("http://" + s.Addr() + "/jwks.json")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		keys[string(body)] = true
	}
	if len(keys) != 1 {
		t.Errorf("the servers publish different keys: %v", keys)
	}
}

// An operator's API that was opened without a server does what a server does.
func TestOpen(t *testing.T) {
	t.Parallel()
	cfg := load(t, t.TempDir(), declared)
	api, closed, err := server.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(cfg.Operators.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/admin/v1/audit?limit=1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.RemoteAddr = "local"
	w := &recorder{header: http.Header{}}
	api.ServeHTTP(w, req)
	var got admin.EventList
	if err := json.Unmarshal(w.body.Bytes(), &got); err != nil || len(got.Events) != 1 || got.Events[0].Kind != audit.KindRegistry {
		t.Errorf("%s, %v", w.body.String(), err)
	}
	if err := closed(); err != nil {
		t.Error(err)
	}
}

type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(int)             {}
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// Whoever lost the operators' token, or had it stolen, removes its file and starts again: there is another, and the old one is worth
// nothing.
func TestALostOperatorsToken(t *testing.T) {
	t.Parallel()
	cfg := load(t, t.TempDir(), "")
	first := start(t, cfg, server.Options{})
	lost := first.admin.Token
	if err := errors.Join(first.Close(), os.Remove(cfg.Operators.TokenFile)); err != nil {
		t.Fatal(err)
	}
	second := start(t, cfg, server.Options{})
	if second.admin.Token == lost {
		t.Error("it is the same")
	}
	var st admin.Status
	if _, err := second.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/status"}, &st); err != nil {
		t.Error(err)
	}
	second.admin.Token = lost
	if _, err := second.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/status"}, &st); err == nil {
		t.Error("the old one opens it")
	}
}
