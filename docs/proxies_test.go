package docs_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// files are everybody around the API of the third section of resource-server.md.
type files struct {
	t      *testing.T
	dir    string
	server string // Obolus
	agent  *token.SigningKey
	bound  *token.SigningKey // that tokens are bound to
	secret string            // of the proxy
	user   string            // alice's token
	behind *httptest.Server  // what the proxy protects: it answers with the headers that reached it
}

// newFiles registers them as the guide does. Alice lets the agent read her files any number of times.
func newFiles(t *testing.T) *files {
	t.Helper()
	f := &files{t: t, dir: t.TempDir(), server: port(t)}
	build(t, filepath.Join(f.dir, "obolus"), "./cmd/obolus")
	start(t, f.dir, f.server, filepath.Join(f.dir, "obolus"), "serve", "--listen", f.server)
	run := func(script string) string {
		t.Helper()
		out, err := carryOut(t, f.dir, f.server, script)
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return out
	}
	secret := regexp.MustCompile(`(?m)^  (\S{20,})$`).FindStringSubmatch(run(blocks(read(t, "resource-server.md"), "sh")[2]))
	if secret == nil {
		t.Fatal("no secret was shown")
	}
	f.secret = secret[1]
	run(`
		obolus agent add helper --new-key helper.pem --resource files --scope files.read
		obolus client add app --redirect-uri http://127.0.0.1/callback --scope files.read
		echo "correct horse battery" | obolus user add alice --password-file -
		obolus token login --client app --resource https://files.example.com --scope files.read > alice.token
		obolus token exchange --agent helper --key helper.pem --subject alice.token --resource https://files.example.com`)
	f.user = strings.TrimSpace(read(t, filepath.Join(f.dir, "alice.token")))
	var err error
	if f.agent, err = token.ParsePrivateKeyPEM([]byte(read(t, filepath.Join(f.dir, "helper.pem"))), ""); err != nil {
		t.Fatal(err)
	}
	if f.bound, err = token.GenerateKey(token.ES256, rand.Reader); err != nil {
		t.Fatal(err)
	}
	f.behind = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(f.behind.Close)
	return f
}

// obolus is a token for one transaction, bound to a key if there is one.
func (f *files) obolus(key *token.SigningKey) string {
	f.t.Helper()
	issuer := "http://" + f.server
	assertion, err := token.SignAssertion(f.agent, "helper", issuer, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	form := url.Values{
		"grant_type": {string(oauth.GrantTokenExchange)}, "subject_token": {f.user}, "subject_token_type": {string(oauth.TypeAccessToken)},
		"resource": {"https://files.example.com"}, "client_assertion_type": {oauth.AssertionJWT}, "client_assertion": {assertion},
	}
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != nil {
		req.Header.Set("DPoP", f.proof(key, http.MethodPost, issuer+"/token", ""))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	var got oauth.TokenAnswer
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.AccessToken == "" {
		f.t.Fatalf("no token: %s %v", res.Status, err)
	}
	return got.AccessToken
}

func (f *files) proof(key *token.SigningKey, method, uri, access string) string {
	f.t.Helper()
	proof, err := token.SignProof(key, token.ProofClaims{Method: method, URI: uri, AccessToken: access}, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	return proof
}

// proxy is one that was started.
type proxy struct {
	t       *testing.T
	f       *files
	address string
	scheme  string
}

// report is the file that is asked for.
const report = "https://files.example.com/files/report.pdf"

// get asks for the report with headers, and gives the answer and the headers that reached what is behind the proxy; nil: nothing did.
func (p proxy) get(headers map[string]string) (*http.Response, http.Header) {
	p.t.Helper()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.address)
		},
	}}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.scheme+strings.TrimPrefix(report, "https"), http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	for late := time.Now().Add(2 * time.Minute); time.Now().Before(late); { // it may not have its certificate yet
		if err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
		res, err = client.Do(req)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	var reached http.Header
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &reached); err != nil {
			p.t.Fatalf("%v: %s", err, body)
		}
	}
	return res, reached
}

// installed finds a proxy.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		t.Fatalf("%v; .ci/prepare installs it", err)
	}
	return path
}

// nginx starts it with the configuration of the guide.
func (f *files) nginx(t *testing.T, config string) proxy {
	t.Helper()
	dir, at := t.TempDir(), port(t)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	text := user + " daemon off; pid nginx.pid; worker_processes 1; events {} http { access_log off; client_body_temp_path a; proxy_temp_path b; " +
		"fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e; server { listen " + at + ";\n" + config + "\n} }\n"
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir, at, installed(t, "nginx"), "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	return proxy{t, f, at, "http"}
}

// caddy starts it with the configuration of the guide. Only the port, and who certifies it, are others.
func (f *files) caddy(t *testing.T, config string) proxy {
	t.Helper()
	dir, at := t.TempDir(), port(t)
	_, number, _ := strings.Cut(at, ":")
	text := "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tstorage file_system " + dir + "\n}\n" +
		strings.Replace(config, "files.example.com {\n", "files.example.com:"+number+" {\n\tbind 127.0.0.1\n\ttls internal\n", 1)
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir, at, installed(t, "caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile")
	return proxy{t, f, at, "https"}
}

// The configurations for proxies, run as they are written: only the ports and the secret are others.
func TestProxies(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	guide := read(t, "resource-server.md")
	for _, c := range []struct {
		language string
		start    func(t *testing.T, config string) proxy
	}{{"nginx", f.nginx}, {"caddyfile", f.caddy}} {
		t.Run(c.language, func(t *testing.T) {
			written := blocks(guide, c.language)[0]
			with := func(server, secret string) proxy {
				t.Helper()
				config := written
				for _, other := range [][2]string{
					{"127.0.0.1:8420", server},
					{"127.0.0.1:9000", f.behind.Listener.Addr().String()},
					{"bWFpbC1wcm94eTpzZWNyZXQ=", base64.StdEncoding.EncodeToString([]byte("mail-proxy:" + secret))},
				} {
					if !strings.Contains(written, other[0]) {
						t.Fatalf("the configuration does not have %s", other[0])
					}
					config = strings.ReplaceAll(config, other[0], other[1])
				}
				return c.start(t, config)
			}
			lets(t, with(f.server, f.secret))
			for why, p := range map[string]proxy{"the proxy has another secret": with(f.server, "wrong"), "there is no server": with(port(t), f.secret)} {
				res, reached := p.get(map[string]string{"Authorization": "Bearer " + f.obolus(nil)})
				if res.StatusCode < http.StatusInternalServerError || reached != nil {
					t.Errorf("%s: %s", why, res.Status)
				}
				if c.language == "nginx" && (res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "") {
					t.Errorf("%s: %s, to be repeated after %q", why, res.Status, res.Header.Get("Retry-After"))
				}
			}
		})
	}
}

// lets holds a proxy to what it must let through, and to what it must not.
func lets(t *testing.T, p proxy) {
	t.Helper()
	f := p.f
	refused := func(why string, headers map[string]string) {
		t.Helper()
		res, reached := p.get(headers)
		if res.StatusCode != http.StatusUnauthorized || reached != nil || !strings.Contains(res.Header.Get("WWW-Authenticate"), ` realm="obolus"`) {
			t.Errorf("%s: %s, %q", why, res.Status, res.Header.Values("WWW-Authenticate"))
		}
	}
	refused("no token", nil)
	refused("no token of this server", map[string]string{"Authorization": "Bearer x"})

	once := f.obolus(nil)
	res, reached := p.get(map[string]string{
		"Authorization": "Bearer " + once, "X-Obolus-Subject": "mallory", "X-Obolus-Actor": "mallory", "X-Obolus-Client": "mallory", "X-Obolus-Scope": "mallory",
		"X-Obolus-Txn": "mallory",
	})
	if res.StatusCode != http.StatusOK {
		t.Fatalf("a good token: %s", res.Status)
	}
	if reached.Get("X-Obolus-Subject") != "alice" || reached.Get("X-Obolus-Actor") != "helper" || !strings.HasPrefix(reached.Get("X-Obolus-Txn"), "txn_") {
		t.Errorf("what is behind the proxy is told %v", reached)
	}
	for name, values := range reached {
		if all := strings.Join(values, " "); strings.Contains(all, "mallory") || strings.Contains(all, once) {
			t.Errorf("what the agent sent reached the API in %s: %s", name, all)
		}
	}
	refused("a token that was used", map[string]string{"Authorization": "Bearer " + once})

	access := f.obolus(f.bound)
	elsewhere := "https://files.example.com/files/else.pdf"
	other := f.proof(f.bound, http.MethodGet, elsewhere, access)
	refused("a bound token without a proof", map[string]string{"Authorization": "DPoP " + access})
	refused("a proof for another file", map[string]string{"Authorization": "DPoP " + access, "DPoP": other})
	refused("a proof for another file, with headers that say so", map[string]string{
		"Authorization": "DPoP " + access, "DPoP": other, "X-Original-URL": elsewhere, "X-Forwarded-Uri": "/files/else.pdf", "X-Original-Uri": "/files/else.pdf",
	})
	res, reached = p.get(map[string]string{"Authorization": "DPoP " + access, "DPoP": f.proof(f.bound, http.MethodGet, report, access)})
	if res.StatusCode != http.StatusOK || reached.Get("Authorization")+reached.Get("DPoP") != "" {
		t.Errorf("a bound token with its proof: %s, %v", res.Status, reached)
	}
}
