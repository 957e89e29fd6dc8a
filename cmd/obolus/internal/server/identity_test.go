package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/server"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/token"
)

// certified is a folder with the files of a server that asks clients for certificates.
type certified struct {
	*world.Authority // of the server and of clients
	spire            *world.Authority
	dir              string
}

func newCertified(t *testing.T) *certified {
	t.Helper()
	c := &certified{Authority: world.NewAuthority(t, time.Now), spire: world.NewAuthority(t, time.Now), dir: t.TempDir()}
	own := c.Issue(func(x *x509.Certificate) {
		x.DNSNames, x.IPAddresses = []string{"localhost", "mtls.localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]}))
	c.write(t, "tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	c.write(t, "ca.pem", c.PEM())
	c.write(t, "bundle.json", c.spire.Bundle())
	return c
}

func (c *certified) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const identified = `
resources: [{id: mail, uri: 'https://mail.example.com', scopes: {mail.read: Read your mail}, servers: [mail-server]}]
clients: [{id: mail-server, name: Mail, auth: tls_client_auth, tls_client_auth_san_dns: mail.test}]
agents:
  - {id: mailer, name: Mail helper, tls_client_auth_san_dns: mailer.test}
  - {id: svid, name: Workload, auth: spiffe_x509, spiffe_id: 'spiffe://example.org/svid'}
trust_domains: [{id: example.org, bundle_file: bundle.json}]
`

// asks sends the simplest request that authenticates, and tells the status.
func asks(t *testing.T, at, host, client string, cert []tls.Certificate, roots *x509.Certificate, headers ...string) int {
	t.Helper()
	pool := x509.NewCertPool()
	if roots != nil {
		pool.AddCert(roots)
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}
	c := &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: cert}, ForceAttemptHTTP2: true,
	}, Timeout: time.Minute}
	form := url.Values{"token": {"x"}, "client_id": {client}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, host+"/introspect", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// ML-01, ML-04, WL-03 in the handshake of the server itself.
func TestCertificatesInTheHandshake(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	r := start(t, load(t, c.dir, `tls: {cert: tls.crt, key: tls.key, client_certificates: true, client_ca: ca.pem}`+identified), server.Options{})
	host := "https://localhost"
	mailer := c.Issue(func(x *x509.Certificate) { x.DNSNames = []string{"mailer.test"} })
	other := c.spire.Issue(func(x *x509.Certificate) { x.DNSNames = []string{"mailer.test"} })
	old := c.Issue(func(x *x509.Certificate) {
		x.DNSNames, x.NotBefore, x.NotAfter = []string{"mailer.test"}, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	encoded := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mailer.Certificate[0]})))
	for _, k := range []struct {
		name, client string
		cert         []tls.Certificate
		want         int
		headers      []string
	}{
		{"its certificate", "mailer", []tls.Certificate{mailer}, 200, nil},
		{"no certificate", "mailer", nil, 401, nil},
		{"a certificate of another authority", "mailer", []tls.Certificate{other}, 401, nil},
		{"an expired one", "mailer", []tls.Certificate{old}, 401, nil},
		{"that of another client", "mail-server", []tls.Certificate{mailer}, 401, nil},
		{"an X.509-SVID", "svid", []tls.Certificate{c.spire.SVID("spiffe://example.org/svid")}, 200, nil},
		{"an X.509-SVID by its name", "spiffe://example.org/svid", []tls.Certificate{c.spire.SVID("spiffe://example.org/svid")}, 200, nil},
		{"an X.509-SVID of another authority", "svid", []tls.Certificate{c.SVID("spiffe://example.org/svid")}, 401, nil},
		{"an X.509-SVID for two", "svid", []tls.Certificate{c.spire.SVID("spiffe://example.org/svid", "spiffe://example.org/x")}, 401, nil},
		{"a header of a stranger", "mailer", nil, 401, []string{"Client-Cert", ":" + base64.StdEncoding.EncodeToString(mailer.Certificate[0]) + ":", "X-Forwarded-Client-Cert", "Cert=" + encoded, "Ssl-Client-Cert", encoded}},
	} {
		if got := asks(t, r.Addr(), host, k.client, k.cert, c.Cert, k.headers...); got != k.want {
			t.Errorf("%s: %d, want %d", k.name, got, k.want)
		}
	}

	// The bundle of the trust domain is replaced: those of the new authority are known, those of the old one no more.
	next := world.NewAuthority(t, time.Now)
	c.write(t, "bundle.json", []byte("{"))
	if got := asks(t, r.Addr(), host, "svid", []tls.Certificate{c.spire.SVID("spiffe://example.org/svid")}, c.Cert); got != 200 {
		t.Errorf("with a bundle that cannot be read: %d", got)
	}
	c.write(t, "bundle.json", next.Bundle())
	svid := next.SVID("spiffe://example.org/svid")
	for end := time.Now().Add(time.Minute); asks(t, r.Addr(), host, "svid", []tls.Certificate{svid}, c.Cert) != 200; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new bundle is not read")
		}
	}
	if got := asks(t, r.Addr(), host, "svid", []tls.Certificate{c.spire.SVID("spiffe://example.org/svid")}, c.Cert); got != 401 {
		t.Errorf("by the authority of before: %d", got)
	}
}

// ML-03: only who comes by the name for it is asked for a certificate.
func TestTheNameForCertificates(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	r := start(t, load(t, c.dir, "issuer: https://localhost\ntls: {cert: tls.crt, key: tls.key, client_certificates: true, client_ca: ca.pem, certificate_url: 'https://mtls.localhost'}"+identified), server.Options{})
	mailer := c.Issue(func(x *x509.Certificate) { x.DNSNames = []string{"mailer.test"} })
	for name, want := range map[string]bool{"localhost": false, "mtls.localhost": true, "MTLS.localhost": true, "": false} {
		asked := false
		cfg := &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"h2"}, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &mailer, nil
		}}
		conn, err := (&tls.Dialer{Config: cfg}).DialContext(t.Context(), "tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if asked != want || conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != "h2" {
			t.Errorf("%q: asked %t, %s", name, asked, conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
		}
		_ = conn.Close()
	}
	for host, want := range map[string]int{"https://localhost": 401, "https://mtls.localhost": 200} {
		if got := asks(t, r.Addr(), host, "mailer", []tls.Certificate{mailer}, c.Cert); got != want {
			t.Errorf("%s: %d", host, got)
		}
	}
}

// ML-04: the header of a proxy, in the forms that there are, and who is believed.
func TestCertificatesOfAProxy(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	mailer := c.Issue(func(x *x509.Certificate) { x.DNSNames = []string{"mailer.test"} })
	evil := c.spire.Issue(func(x *x509.Certificate) { x.DNSNames = []string{"mailer.test"} })
	der := func(cert tls.Certificate) string { return base64.StdEncoding.EncodeToString(cert.Certificate[0]) }
	text := func(certs ...tls.Certificate) string {
		var all []byte
		for _, cert := range certs {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})...)
		}
		return url.PathEscape(string(all))
	}
	ca := tls.Certificate{Certificate: [][]byte{c.Cert.Raw}}
	for _, k := range []struct {
		header string
		cases  map[string][]string // values of the header, then of Client-Cert-Chain → want
		want   int
	}{
		{"Client-Cert", map[string][]string{
			"its certificate": {":" + der(mailer) + ":"}, "with a chain": {":" + der(mailer) + ":", ":" + der(ca) + ": , :" + der(evil) + ":"},
		}, 200},
		{"Client-Cert", map[string][]string{
			"another authority's": {":" + der(evil) + ":"}, "no colons": {der(mailer)}, "one colon": {":" + der(mailer)}, "not base64": {":!:"}, "not a certificate": {":AAAA:"},
			"a broken chain": {":" + der(mailer) + ":", "x"}, "another form": {text(mailer)}, "nothing": {""}, "parameters": {":" + der(mailer) + ":;a=1"},
		}, 401},
		{"X-Forwarded-Client-Cert", map[string][]string{
			"its certificate":   {`Hash=abc;Cert="` + text(mailer) + `";Subject="CN=a,O=\"b\";c";URI=`},
			"in any case":       {`cert=` + text(mailer)},
			"with its chain":    {`Cert="` + text(mailer) + `";Chain="` + text(mailer, ca) + `"`},
			"with its own name": {`By=spiffe://x/y;Cert="` + text(mailer) + `"`},
		}, 200},
		{"X-Forwarded-Client-Cert", map[string][]string{
			"two elements": {`Cert="` + text(mailer) + `",Cert="` + text(mailer) + `"`}, "a forged one in front": {`Cert="` + text(mailer) + `",By=x;Cert="` + text(evil) + `"`},
			"twice": {`Cert="` + text(mailer) + `";Cert="` + text(evil) + `"`}, "a forged one in a quote": {`Subject="\";Cert=` + text(mailer) + `"`},
			"a quote without end": {`Cert="` + text(mailer)}, "a hash alone": {`Hash=abc`}, "not pairs": {"abc"}, "a chain of another": {`Cert="` + text(evil) + `";Chain="` + text(mailer) + `"`},
			"two in Cert": {`Cert="` + text(mailer, ca) + `"`}, "a broken chain": {`Cert="` + text(mailer) + `";Chain="x"`},
		}, 401},
		{"Ssl-Client-Cert", map[string][]string{
			"PEM as nginx has it": {text(mailer)}, "PEM with its chain": {text(mailer, ca)}, "DER as Caddy has it": {der(mailer)}, "DER as Traefik has it": {der(mailer) + "," + der(ca)},
		}, 200},
		{"Ssl-Client-Cert", map[string][]string{
			"another authority's": {text(evil)}, "a key": {url.PathEscape("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")}, "PEM of nothing": {"-----BEGIN"},
			"a broken escape": {"%zz"}, "a broken certificate": {url.PathEscape("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, "(null)": {"(null)"},
		}, 401},
	} {
		lines := "issuer: https://obolus.example.com\ntrusted_proxies: [127.0.0.1]\ntls: {client_ca: ca.pem, certificate_header: " + k.header + "}" + identified
		r := start(t, load(t, c.dir, lines), server.Options{})
		for name, values := range k.cases {
			headers := []string{k.header, values[0]}
			if len(values) > 1 {
				headers = append(headers, "Client-Cert-Chain", values[1])
			}
			if got := asks(t, r.Addr(), "http://obolus.example.com", "mailer", nil, nil, headers...); got != k.want {
				t.Errorf("%s, %s: %d, want %d", k.header, name, got, k.want)
			}
		}
		for _, values := range k.cases { // there twice is one too many
			if got := asks(t, r.Addr(), "http://obolus.example.com", "mailer", nil, nil, k.header, values[0], k.header, values[0]); got != 401 {
				t.Errorf("%s twice: %d", k.header, got)
			}
			break
		}
		_ = r.Close()
	}

	// From anybody else the header is nothing, and behind a proxy the connection is the proxy's.
	stranger := start(t, load(t, c.dir, "issuer: https://obolus.example.com\ntrusted_proxies: [192.0.2.0/24]\ntls: {client_ca: ca.pem, certificate_header: Client-Cert}"+identified), server.Options{})
	if got := asks(t, stranger.Addr(), "http://obolus.example.com", "mailer", nil, nil, "Client-Cert", ":"+der(mailer)+":", "X-Forwarded-For", "192.0.2.1"); got != 401 {
		t.Errorf("a stranger's header: %d", got)
	}
	_ = stranger.Close()
	both := start(t, load(t, c.dir, "issuer: https://localhost\ntrusted_proxies: [127.0.0.1]\ntls: {cert: tls.crt, key: tls.key, client_certificates: true, client_ca: ca.pem, certificate_header: Client-Cert}"+identified), server.Options{})
	proxy := c.Issue(func(x *x509.Certificate) { x.DNSNames = []string{"mailer.test"} })
	if got := asks(t, both.Addr(), "https://localhost", "mailer", []tls.Certificate{proxy}, c.Cert); got != 401 {
		t.Errorf("the proxy's own certificate counted for its client: %d", got)
	}
	if got := asks(t, both.Addr(), "https://localhost", "mailer", []tls.Certificate{proxy}, c.Cert, "Client-Cert", ":"+der(mailer)+":"); got != 200 {
		t.Errorf("what the proxy tells: %d", got)
	}
}

// hostile answers as a test says, and counts.
type hostile struct {
	*httptest.Server
	hits   atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.hits.Add(1)
		(*h.answer.Load())(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hostile) will(f http.HandlerFunc) { h.answer.Store(&f) }

func publishes(t *testing.T, keys ...*token.SigningKey) http.HandlerFunc {
	t.Helper()
	var list []token.PublicKey
	for _, k := range keys {
		list = append(list, k.Public())
	}
	set, err := token.NewPublicSet(list...).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(set)
	}
}

// introspects asks as an agent that signs, and tells the status, the code and how long it took.
func introspects(t *testing.T, r *running, id string, key *token.SigningKey, now time.Time) (status int, code string, took time.Duration) {
	t.Helper()
	assertion, err := token.SignAssertion(key, id, r.Issuer(), now)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"token": {"x"}, "client_assertion_type": {oauth.AssertionJWT}, "client_assertion": {assertion}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addr()+"/introspect", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	begin := time.Now()
	res, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct{ Error string }
	data, err := io.ReadAll(res.Body)
	if err != nil || json.Unmarshal(data, &body) != nil {
		t.Fatalf("%s %v", data, err)
	}
	return res.StatusCode, body.Error, time.Since(begin)
}

// CA-07, CM-06: keys at a jwks_uri, of a host that rotates them, and of one that is broken, slow or worse.
func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	first, second, thief := world.Key(t), world.Key(t), world.Key(t)
	host := newHostile(t)
	host.will(publishes(t, first))
	agent := func(id, uri string) string {
		return fmt.Sprintf("\n  - {id: %s, name: Agent %s, jwks_uri: '%s'}", id, id, uri)
	}
	lines := "agents:" + agent("good", host.URL+"/good")
	for _, id := range []string{"html", "huge", "slow", "drip", "redirect", "oct", "down", "bomb", "endless", "crowd", "curve", "heads", "hangup", "wrongkid", "private"} {
		lines += agent(id, host.URL+"/"+id)
	}
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	r := start(t, load(t, t.TempDir(), lines), server.Options{Now: now})
	must := func(id string, key *token.SigningKey, want int) {
		t.Helper()
		if status, code, took := introspects(t, r, id, key, now()); status != want || want == 401 && code != "invalid_client" || took > 20*time.Second {
			t.Errorf("%s: %d %s after %s, want %d", id, status, code, took, want)
		}
	}
	must("good", first, 200)
	must("good", thief, 401)
	before := host.hits.Load()
	host.will(publishes(t, first, second))
	must("good", first, 200)
	must("good", second, 401) // the unknown kid of the thief was looked for a moment ago; the old key serves meanwhile
	if n := host.hits.Load() - before; n != 0 {
		t.Errorf("a key that is not there was fetched %d times", n)
	}
	ahead.Store(int64(31 * time.Second))
	must("good", second, 200)
	must("good", first, 200) // both, while the host publishes both
	host.will(publishes(t, second))
	ahead.Store(int64(10 * time.Minute))
	must("good", first, 401)
	must("good", second, 200)

	elsewhere := newHostile(t)
	elsewhere.will(publishes(t, thief))
	for id, answer := range map[string]http.HandlerFunc{
		"html": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(make([]byte, 2<<20))
		},
		"slow":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"oct": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"` + thief.KeyID() + `"}]}`))
		},
		"down": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("\x1f\x8b\x08\x00"))
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"keys":[`))
			for junk := []byte(strings.Repeat(`{"kty":"XY"},`, 1000)); r.Context().Err() == nil; {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		},
		"crowd": func(w http.ResponseWriter, _ *http.Request) { // as many keys as a document may hold, and not the one
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"keys":[` + strings.Repeat(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},`, 2900) + `{"kty":"XY"}]}`))
		},
		"curve": func(w http.ResponseWriter, _ *http.Request) { // a point that is on no curve, under the right kid
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","kid":"` + thief.KeyID() + `"}]}`))
		},
		"heads": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
			}
		},
		"hangup": func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = c.Close()
			}
		},
		"wrongkid": publishes(t, second),
		"private": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
		},
		"drip": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		host.will(answer)
		must(id, thief, 401)
		host.will(publishes(t, first)) // nothing of that is remembered
		if id == "wrongkid" || id == "crowd" {
			ahead.Add(int64(31 * time.Second)) // but a set that was in order is, until a kid that is not in it may be looked for again
		}
		must(id, first, 200)
	}
	if elsewhere.hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// CM-06: a server that is not there to try it out never calls its own machine, and no proxy, header or token makes it.
func TestKeysOnThisMachine(t *testing.T) {
	t.Parallel()
	key := world.Key(t)
	host := newHostile(t)
	host.will(publishes(t, key))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(host.URL, "http://"))
	lines := "issuer: https://obolus.example.com\nagents:"
	ids := []string{}
	for i, uri := range []string{host.URL, "https://127.0.0.1:" + port, "https://localhost:" + port, "https://[::1]:" + port, "https://[::ffff:127.0.0.1]:" + port, "https://169.254.169.254/latest"} {
		id := fmt.Sprint("agent", i)
		ids = append(ids, id)
		lines += fmt.Sprintf("\n  - {id: %s, name: Agent %d, jwks_uri: '%s'}", id, i, uri)
	}
	r := start(t, load(t, t.TempDir(), lines), server.Options{})
	for _, id := range ids {
		if status, code, took := introspects(t, r, id, key, time.Now()); status != 401 || code != "invalid_client" || took > 20*time.Second {
			t.Errorf("%s: %d %s after %s", id, status, code, took)
		}
	}
	if host.hits.Load() != 0 {
		t.Errorf("the server called its own machine %d times", host.hits.Load())
	}
}

// WL-02: the keys of a workload come from its trust domain or its platform as configured, never from what it says.
func TestNoTokenSaysWhereItsKeysAre(t *testing.T) {
	t.Parallel()
	c := newCertified(t)
	platform := newHostile(t)
	key, thief := world.Key(t), world.Key(t)
	platform.will(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks" {
			publishes(t, key)(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, platform.URL, platform.URL+"/jwks")
	})
	trap := newHostile(t)
	trap.will(publishes(t, thief))
	c.write(t, "bundle.json", c.spire.Bundle(key.Public()))
	r := start(t, load(t, c.dir, `
agents:
  - {id: mailer, name: Mail helper, spiffe_id: 'spiffe://example.org/mailer'}
  - {id: pod, name: Pod, federated: {issuer: '`+platform.URL+`', subject: pod}}
trust_domains: [{id: example.org, bundle_file: bundle.json}]
workload_issuers: [{issuer: '`+platform.URL+`'}]
`), server.Options{})
	proofKey := world.Key(t)
	ask := func(kind, compact string) int {
		proof, err := token.SignProof(proofKey, token.ProofClaims{Method: http.MethodPost, URI: r.Issuer() + "/introspect"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{"token": {"x"}, "client_assertion_type": {kind}, "client_assertion": {compact}}
		if kind == oauth.AssertionJWT {
			form.Set("client_id", "pod")
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addr()+"/introspect", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("DPoP", proof)
		res, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	now := time.Now().Unix()
	for kind, claims := range map[string]map[string]any{
		oauth.AssertionSPIFFE: {"sub": "spiffe://example.org/mailer", "aud": r.Issuer(), "exp": now + 300},
		oauth.AssertionJWT:    {"iss": platform.URL, "sub": "pod", "aud": r.Issuer(), "exp": now + 300, "iat": now},
	} {
		if got := ask(kind, forgeJWT(t, key, nil, claims)); got != 200 {
			t.Errorf("%s: %d", kind, got)
		}
		for name, head := range map[string]map[string]any{
			"jku": {"jku": trap.URL}, "x5u": {"x5u": trap.URL}, "jwk": {"jwk": map[string]any{"kty": "EC"}}, "nothing": nil, "a kid that is an address": {"kid": trap.URL},
		} {
			if got := ask(kind, forgeJWT(t, thief, head, claims)); got != 401 {
				t.Errorf("%s with %s: %d", kind, name, got)
			}
		}
	}
	if trap.hits.Load() != 0 {
		t.Errorf("a token made the server call a stranger %d times", trap.hits.Load())
	}
	if n := platform.hits.Load(); n > 4 {
		t.Errorf("the platform was asked %d times", n)
	}
}

// forgeJWT signs anything.
func forgeJWT(t *testing.T, key *token.SigningKey, more, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := token.NewIssuer("").SignAs("JWT", payload, key)
	if err != nil || more == nil {
		return compact
	}
	head := map[string]any{"alg": "ES256", "typ": "JWT", "kid": key.KeyID()}
	maps.Copy(head, more)
	raw, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(compact, ".")
	return base64.RawURLEncoding.EncodeToString(raw) + "." + rest // the signature is then that of another head, which comes to the same
}

// DP-16: servers that share the master key accept each other's nonces, and nobody gets through without one.
func TestNoncesOfTwoServers(t *testing.T) {
	t.Parallel()
	key, proofKey := world.Key(t), world.Key(t)
	jwks, err := token.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	lines := "issuer: https://obolus.example.com\ntokens: {dpop_nonce: true}\nkeys: {encryption_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}\n" +
		"agents: [{id: mailer, name: Mail helper, jwks: " + string(jwks) + "}]"
	one, two := start(t, load(t, t.TempDir(), lines), server.Options{}), start(t, load(t, t.TempDir(), lines), server.Options{})
	ask := func(r *running, nonce string) (status int, code, next string) {
		proof, err := token.SignProof(proofKey, token.ProofClaims{Method: http.MethodPost, URI: "https://obolus.example.com/token", Nonce: nonce}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		assertion, err := token.SignAssertion(key, "mailer", "https://obolus.example.com", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_assertion_type": {oauth.AssertionJWT}, "client_assertion": {assertion},
			"subject_token": {"x"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addr()+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("DPoP", proof)
		res, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var body struct{ Error string }
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		if n := len(res.Header.Values("DPoP-Nonce")); body.Error == "use_dpop_nonce" && n != 1 {
			t.Errorf("%d nonces", n)
		}
		return res.StatusCode, body.Error, res.Header.Get("DPoP-Nonce")
	}
	_, code, nonce := ask(one, "")
	if code != "use_dpop_nonce" || nonce == "" {
		t.Fatalf("%s %q", code, nonce)
	}
	for _, r := range []*running{one, two} {
		if _, code, _ := ask(r, nonce); code != "invalid_request" { // the subject token is what is wrong now
			t.Errorf("with the nonce: %s", code)
		}
		if _, code, _ := ask(r, nonce+"x"); code != "use_dpop_nonce" {
			t.Errorf("with a nonce of nobody: %s", code)
		}
	}
}
