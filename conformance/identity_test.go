package conformance_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/resource"
)

const (
	jwtSPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
	// proxyAddress is the one address of this machine from which the server believes a header with a client's certificate.
	proxyAddress = "127.0.0.2"
)

// identities are those whose word the server takes for who a client is: an authority of clients, a SPIFFE trust domain, a cluster. The evil
// ones sign the same and are nobody to it.
type identities struct {
	ca, spire, evil *authority
	svid, evilSVID  *key
	cluster         *foreign
	trap            *httptest.Server // no token may make the server call it
	caught          atomic.Int32
}

// authority certifies.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{}
	a.cert, a.key = a.issue(tb, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes a certificate by the authority; before it has one, by the key of the certificate itself.
func (a *authority) issue(tb testing.TB, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		tb.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return c, key
}

// leaf certifies a client by a DNS name.
func (a *authority) leaf(tb testing.TB, name string, change ...func(*x509.Certificate)) *x509.Certificate {
	tb.Helper()
	c := &x509.Certificate{DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, f := range change {
		f(c)
	}
	c, _ = a.issue(tb, c)
	return c
}

// workload certifies by URIs.
func (a *authority) workload(tb testing.TB, ids ...string) *x509.Certificate {
	tb.Helper()
	return a.leaf(tb, "workload.test", func(c *x509.Certificate) {
		c.DNSNames = nil
		for _, id := range ids {
			u, err := url.Parse(id)
			if err != nil {
				tb.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	})
}

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return b64(sum[:])
}

func newIdentities(t *testing.T) *identities {
	t.Helper()
	ids := &identities{
		ca: newAuthority(t), spire: newAuthority(t), evil: newAuthority(t), svid: newKey("ES256"), evilSVID: newKey("ES256"), cluster: newForeign(t),
	}
	ids.trap = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		ids.caught.Add(1)
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(mustJSON(jwksOf(ids.evilSVID)))
	}))
	t.Cleanup(ids.trap.Close)
	return ids
}

// configure adds them to the configuration of the server.
func (ids *identities) configure(t *testing.T, dir string, cfg obj) {
	t.Helper()
	bundle := obj{"spiffe_sequence": 1, "keys": []obj{
		merge(obj{"kid": ids.svid.kid, "use": "jwt-svid"}, ids.svid.jwk),
		{"kty": "EC", "use": "x509-svid", "x5c": []string{base64.StdEncoding.EncodeToString(ids.spire.cert.Raw)}},
	}}
	write(t, filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ids.ca.cert.Raw}))
	write(t, filepath.Join(dir, "bundle.json"), mustJSON(bundle))
	cfg["trusted_proxies"] = []string{proxyAddress}
	own, _ := cfg["tls"].(obj)
	cfg["tls"] = merge(own, obj{"certificate_header": "Client-Cert", "client_ca": filepath.Join(dir, "ca.pem")})
	cfg["trust_domains"] = []obj{{"id": "example.org", "bundle_file": filepath.Join(dir, "bundle.json")}}
	cfg["workload_issuers"] = []obj{{"issuer": ids.cluster.issuer, "jwks_uri": ids.cluster.issuer + "/jwks", "algorithms": []string{"ES256"}}}
}

// proxyWire sends from the address of the proxy.
var proxyWire = &http.Transport{
	DisableCompression: true, ResponseHeaderTimeout: 2 * time.Minute,
	DialContext: (&net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(proxyAddress)}}).DialContext,
}

// transport is how a call travels.
func (r call) transport() *http.Transport {
	if r.proxied {
		return proxyWire
	}
	return wire
}

// over says that the request came through the proxy, from a client with a certificate.
func (x *exchange) over(cert *x509.Certificate) *exchange {
	x.call.proxied = true
	if cert != nil {
		x.header("Client-Cert", headerOf(cert))
	}
	return x
}

// headerOf is RFC 9440 section 2.1.
func headerOf(c *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":"
}

func identityCases() []testCase {
	return []testCase{
		{"ML-01", "a certificate with the registered subject, or the registered key, authenticates", mlAuthenticates},
		{"ML-02", "a token that is bound to a certificate goes with it", mlBound},
		{"ML-03", "clients with a certificate have a name for it, and nothing else changes", mlAliases},
		{"ML-04", "the header of a proxy is believed of the proxy alone", mlHeader},
		{"WL-01", "a JWT-SVID authenticates the workload it names, here and for a while", wlSVID},
		{"WL-02", "keys are those of the trust domain, never of the token", wlKeys},
		{"WL-03", "an X.509-SVID names one workload, which is the client", wlX509},
		{"WL-04", "an SVID is shown again with a fresh proof, and never without", wlAgain},
		{"WL-05", "a workload identity token is no token here", wlNoToken},
		{"WL-06", "nor does a proof with it prove anything", wlNoProof},
		{"WL-07", "nor does it name an actor", wlNoActor},
		{"ACT-07", "an agent comes back into a chain only where a pair may turn, once", actTurn},
		{"ACT-11", "an actor token is of the kind that the agent is registered for", actKinds},
		{"DP-16", "a nonce is demanded, and one server takes another's", dpNonce},
		{"DP-18", "without the nonce nothing passes", dpNoNonce},
		{"NEG-146", "an SVID of nobody, a token of another workload", negWorkload},
	}
}

// identified registers an agent that is known by a credential.
func (c *check) identified(credential obj) *client {
	c.Helper()
	a := newClient(c.name("agent"), "ES256")
	c.admin(http.MethodPut, "/agents/"+url.PathEscape(a.id), merge(c.registration(a), obj{"jwks": nil, "auth": nil}, credential))
	return a
}

// quiet is an exchange that only names its agent.
func (c *check) quiet(agent *client) *exchange {
	c.Helper()
	return c.te(agent, c.userToken("alice")).anonymous().set("client_id", agent.id)
}

// byCert is an exchange of an agent that shows a certificate.
func (c *check) byCert(agent *client, cert *x509.Certificate) *exchange {
	c.Helper()
	return c.quiet(agent).over(cert)
}

func mlAuthenticates(c *check) {
	cert := c.ids.ca.leaf(c, "mailer.test")
	tls := c.identified(obj{"auth": "tls_client_auth", "tls_client_auth_san_dns": "mailer.test"})
	self := newAuthority(c)
	size := (self.key.Params().BitSize + 7) / 8
	pub := self.key.PublicKey
	jwk := obj{"kty": "EC", "crv": "P-256", "x": b64(pub.X.FillBytes(make([]byte, size))), "y": b64(pub.Y.FillBytes(make([]byte, size))), "kid": "self"} //nolint:staticcheck // the members of a JWK
	own := c.identified(obj{"auth": "self_signed_tls_client_auth", "jwks": obj{"keys": []obj{jwk}}})
	for _, good := range []*exchange{c.byCert(tls, cert), c.byCert(own, self.cert)} {
		c.allow(c.person("alice"), good, limits{})
		j := c.decode(c.ok(good.do()).token())
		if act, _ := j.claims["act"].(obj); act["sub"] != good.who.id {
			c.Errorf("act is %v", j.claims["act"])
		}
	}
	c.alike(map[string]answer{
		"none":                   c.want(c.byCert(tls, nil).do(), 401, "invalid_client"),
		"another subject":        c.want(c.byCert(tls, c.ids.ca.leaf(c, "other.test")).do(), 401, "invalid_client"),
		"another authority":      c.want(c.byCert(tls, c.ids.evil.leaf(c, "mailer.test")).do(), 401, "invalid_client"),
		"the SPIFFE authority":   c.want(c.byCert(tls, c.ids.spire.leaf(c, "mailer.test")).do(), 401, "invalid_client"),
		"self-signed":            c.want(c.byCert(tls, self.cert).do(), 401, "invalid_client"),
		"another self-signed":    c.want(c.byCert(own, newAuthority(c).cert).do(), 401, "invalid_client"),
		"certified, not its own": c.want(c.byCert(own, cert).do(), 401, "invalid_client"),
		"for nobody":             c.want(c.byCert(newClient("nobody", "ES256"), cert).do(), 401, "invalid_client"),
		"for a client with keys": c.want(c.byCert(c.agent(), cert).do(), 401, "invalid_client"),
		"expired": c.want(c.byCert(tls, c.ids.ca.leaf(c, "mailer.test", func(x *x509.Certificate) {
			x.NotBefore, x.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
		})).do(), 401, "invalid_client"),
	})
	for _, path := range []string{"/introspect", "/revoke", "/redeem"} {
		r := call{method: http.MethodPost, path: path, form: url.Values{"client_id": {tls.id}, "token": {"x"}}, proxied: true, header: http.Header{"Client-Cert": {headerOf(cert)}}}
		if a := c.do(r); a.status == http.StatusUnauthorized {
			c.Errorf("%s: %d %s", path, a.status, a.body)
		}
		r.header = nil
		c.want(c.do(r), 401, "invalid_client")
	}
	for what, credential := range map[string]obj{
		"two subjects": {"auth": "tls_client_auth", "tls_client_auth_san_dns": "a.test", "tls_client_auth_san_uri": "https://a.test"}, "none": {"auth": "tls_client_auth"},
	} {
		a := newClient(c.name("agent"), "ES256")
		if got := c.tryAdmin(http.MethodPut, "/agents/"+a.id, merge(c.registration(a), obj{"jwks": nil}, credential)); got.status < 400 {
			c.Errorf("%s: %d", what, got.status)
		}
	}
}

// certified is an agent whose tokens for the files are bound to its certificate, with alice's consent.
func (c *check) certified() (*exchange, *x509.Certificate) {
	c.Helper()
	cert := c.ids.ca.leaf(c, "bound.test")
	agent := c.identified(obj{"auth": "tls_client_auth", "tls_client_auth_san_dns": "bound.test", "tls_client_certificate_bound_access_tokens": true})
	x := c.byCert(agent, cert).at(files, "files.read")
	c.allow(c.person("alice"), x, limits{})
	return x, cert
}

func mlBound(c *check) {
	x, cert := c.certified()
	other := c.ids.ca.leaf(c, "bound.test")
	token := c.ok(x.do()).token()
	if cnf, _ := c.decode(token).claims["cnf"].(obj); cnf["x5t#S256"] != thumbprint(cert) || len(cnf) != 1 {
		c.Errorf("cnf is %v", cnf)
	}
	told := c.introspect(nil, token)
	if cnf, _ := told.json["cnf"].(obj); cnf["x5t#S256"] != thumbprint(cert) || told.str("token_type") != "Bearer" {
		c.Errorf("introspection says %s", told.body)
	}
	at := func(cert *x509.Certificate, proxied bool) int {
		c.Helper()
		r := call{method: http.MethodGet, path: "/authz?resource=" + url.QueryEscape(files) + "&scope=files.read", proxied: proxied, header: http.Header{
			"X-Obolus-Client": {basic("rs2", rs2Secret).Get("Authorization")}, "Authorization": {"Bearer " + token},
		}}
		if cert != nil {
			r.header.Set("Client-Cert", headerOf(cert))
		}
		return c.do(r).status
	}
	for _, k := range []struct {
		what    string
		cert    *x509.Certificate
		proxied bool
		want    int
	}{
		{"another certificate", other, true, 401},
		{"no certificate", nil, true, 401},
		{"a header of a stranger", cert, false, 401},
		{"its certificate", cert, true, 200},
		{"its certificate again", cert, true, 401}, // one transaction
	} {
		if got := at(k.cert, k.proxied); got != k.want {
			c.Errorf("%s: %d, want %d", k.what, got, k.want)
		}
	}
	token = c.ok(x.do()).token()
	c.want(c.redeem(nil, token, nonce()).set("x5t#S256", thumbprint(other)).do(), 403, "key_mismatch")
	if a := c.ok(c.redeem(nil, token, nonce()).set("x5t#S256", thumbprint(cert)).do()); a.str("redemption") != "first" {
		c.Errorf("%s", a.body)
	}
	c.want(c.byCert(x.who, nil).do(), 401, "invalid_client")

	// Registered for it, whatever proves the agent: a key.
	keyed := c.agent(obj{"tls_client_certificate_bound_access_tokens": true})
	y := c.te(keyed, c.userToken("alice")).over(cert)
	c.allow(c.person("alice"), y, limits{})
	if cnf, _ := c.decode(c.ok(y.do()).token()).claims["cnf"].(obj); cnf["x5t#S256"] != thumbprint(cert) {
		c.Errorf("cnf is %v", cnf)
	}
	c.want(c.te(keyed, c.userToken("alice")).do(), 400, "invalid_request")
}

func mlAliases(c *check) {
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	if meta.json["tls_client_certificate_bound_access_tokens"] != true || meta.json["mtls_endpoint_aliases"] != nil {
		c.Errorf("%s", meta.body)
	}
	methods := stringsOf(meta.json["token_endpoint_auth_methods_supported"])
	for _, m := range []string{"tls_client_auth", "self_signed_tls_client_auth", "spiffe_jwt", "spiffe_x509", "federated_jwt"} {
		if !slices.Contains(methods, m) {
			c.Errorf("%s works and is not listed", m)
		}
	}
	p := c.apart(func(o *options) {
		o.change = func(cfg obj) {
			cfg["tls"] = merge(cfg["tls"].(obj), obj{"certificate_url": "https://mtls.obolus.test"})
		}
	})
	meta = p.ok(p.get("/.well-known/oauth-authorization-server", 0))
	aliases, _ := meta.json["mtls_endpoint_aliases"].(obj)
	for _, name := range []string{"token_endpoint", "introspection_endpoint", "revocation_endpoint", "redemption_endpoint", "pushed_authorization_request_endpoint"} {
		want := strings.Replace(meta.str(name), p.issuer, "https://mtls.obolus.test", 1)
		if got, _ := aliases[name].(string); got != want || !strings.HasPrefix(meta.str(name), p.issuer) {
			p.Errorf("the alias of %s is %q, not %q", name, got, want)
		}
	}
	x := p.baseline()
	p.ok(x.but().assertion(x.who.assertion(p.issuer)).do()) // aud stays the issuer
	p.want(x.but().assertion(x.who.assertion("https://mtls.obolus.test")).do(), 401, "invalid_client")
	p.want(x.but().assertion(x.who.assertion("https://mtls.obolus.test/token")).do(), 401, "invalid_client")
}

func mlHeader(c *check) {
	cert := c.ids.ca.leaf(c, "header.test")
	agent := c.identified(obj{"auth": "tls_client_auth", "tls_client_auth_san_dns": "header.test"})
	c.asks(c.byCert(agent, cert))
	direct := func(headers ...string) *exchange {
		x := c.quiet(agent)
		for i := 0; i < len(headers); i += 2 {
			x.header(headers[i], headers[i+1])
		}
		return x
	}
	c.alike(map[string]answer{
		"straight to the server":            c.want(direct("Client-Cert", headerOf(cert)).do(), 401, "invalid_client"),
		"in the proxy's name":               c.want(direct("Client-Cert", headerOf(cert), "X-Forwarded-For", proxyAddress).do(), 401, "invalid_client"),
		"in another header":                 c.want(direct("X-Forwarded-Client-Cert", "Cert="+url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))).do(), 401, "invalid_client"),
		"nothing":                           c.want(direct().do(), 401, "invalid_client"),
		"twice":                             c.want(c.byCert(agent, cert).header("Client-Cert", headerOf(cert)).do(), 401, "invalid_client"),
		"another header, through the proxy": c.want(c.byCert(agent, nil).header("X-Ssl-Cert", headerOf(cert)).do(), 401, "invalid_client"),
		"not a certificate":                 c.want(c.byCert(agent, nil).header("Client-Cert", ":AAAA:").do(), 401, "invalid_client"),
		"not in its form":                   c.want(c.byCert(agent, nil).header("Client-Cert", base64.StdEncoding.EncodeToString(cert.Raw)).do(), 401, "invalid_client"),
	})
	// A certificate that nobody can read refuses also those who are known otherwise: their tokens could end up bound to nothing.
	x := c.baseline()
	c.want(x.but().over(nil).header("Client-Cert", "x").do(), 401, "invalid_client")
	c.ok(x.but().header("Client-Cert", "x").do()) // of a stranger it is nothing
}

// workload is an agent with a SPIFFE ID of its own.
func (c *check) workload(auth string) (agent *client, id string) {
	c.Helper()
	id = "spiffe://example.org/" + c.name("workload")
	return c.identified(obj{"auth": auth, "spiffe_id": id}), id
}

func svidClaims(c *check, id string) obj {
	return obj{"sub": id, "aud": c.issuer, "iat": in(0), "exp": in(300)}
}

// shows makes a request of the form that an agent shows a workload's token by, with a fresh proof.
func (x *exchange) shows(kind, token string, k *key) *exchange {
	y := x.but().anonymous().set("client_assertion_type", kind).set("client_assertion", token)
	if k != nil {
		y.proof(k)
	}
	return y
}

func wlSVID(c *check) {
	agent, id := c.workload("spiffe_jwt")
	k := newKey("ES256")
	x := c.te(agent, c.userToken("alice"))
	good := c.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(c, id))
	c.decide(c.asks(x.shows(jwtSPIFFE, good, k)), c.person("alice"), limits{})
	j := c.decode(c.ok(x.shows(jwtSPIFFE, good, k).do()).token())
	act, _ := j.claims["act"].(obj)
	cnf, _ := j.claims["cnf"].(obj)
	if act["sub"] != agent.id || cnf["jkt"] != k.thumbprint() || j.num("exp") > in(300) {
		c.Errorf("%s", j.body)
	}
	c.ok(x.shows(jwtSPIFFE, good, k).set("client_id", agent.id).do())
	c.ok(x.shows(jwtSPIFFE, good, k).set("client_id", id).do())
	other, otherID := c.workload("spiffe_jwt")
	answers := map[string]answer{}
	for what, claims := range map[string]obj{
		"a workload that nobody knows": {"sub": id + "/x"}, "no workload": {"sub": "mailer"}, "nobody": {"sub": nil}, "the trust domain": {"sub": "spiffe://example.org"},
		"the token endpoint": {"aud": c.issuer + "/token"}, "two audiences": {"aud": []string{c.issuer, "https://other.test"}}, "another audience": {"aud": "https://other.test"},
		"no audience": {"aud": nil}, "no end": {"exp": nil}, "over": {"exp": in(-1)}, "for a year": {"exp": in(365 * 24 * 3600)}, "from the future": {"iat": in(600)},
	} {
		answers[what] = c.want(x.shows(jwtSPIFFE, c.ids.svid.sign(obj{"typ": "JWT"}, merge(svidClaims(c, id), claims)), k).do(), 401, "invalid_client")
	}
	for what, header := range map[string]obj{"at+jwt": {"typ": "at+jwt"}, "dpop+jwt": {"typ": "dpop+jwt"}, "wit+jwt": {"typ": "wit+jwt"}} {
		answers[what] = c.want(x.shows(jwtSPIFFE, c.ids.svid.sign(header, svidClaims(c, id)), k).do(), 401, "invalid_client")
	}
	answers["client_id of another"] = c.want(x.shows(jwtSPIFFE, good, k).set("client_id", other.id).do(), 401, "invalid_client")
	answers["client_id of another, by SPIFFE ID"] = c.want(x.shows(jwtSPIFFE, good, k).set("client_id", otherID).do(), 401, "invalid_client")
	answers["as jwt-bearer"] = c.want(x.shows(jwtBearer, good, k).do(), 401, "invalid_client")
	answers["unsigned"] = c.want(x.shows(jwtSPIFFE, good[:strings.LastIndexByte(good, '.')+1], k).do(), 401, "invalid_client")
	c.alike(answers)
}

func wlKeys(c *check) {
	agent, id := c.workload("spiffe_jwt")
	k, evil := newKey("ES256"), c.ids.evilSVID
	x := c.te(agent, c.userToken("alice"))
	before := c.ids.caught.Load()
	answers := map[string]answer{}
	for what, token := range map[string]string{
		"another key":             evil.sign(obj{"typ": "JWT"}, svidClaims(c, id)),
		"another key, our kid":    evil.sign(obj{"typ": "JWT", "kid": c.ids.svid.kid}, svidClaims(c, id)),
		"jku":                     evil.sign(obj{"typ": "JWT", "jku": c.ids.trap.URL}, svidClaims(c, id)),
		"x5u":                     evil.sign(obj{"typ": "JWT", "x5u": c.ids.trap.URL}, svidClaims(c, id)),
		"jwk":                     evil.sign(obj{"typ": "JWT", "jwk": evil.jwk}, svidClaims(c, id)),
		"x5c":                     evil.sign(obj{"typ": "JWT", "x5c": []string{base64.StdEncoding.EncodeToString(c.ids.evil.cert.Raw)}}, svidClaims(c, id)),
		"iss":                     evil.sign(obj{"typ": "JWT"}, merge(svidClaims(c, id), obj{"iss": c.ids.trap.URL})),
		"kid that is an address":  evil.sign(obj{"typ": "JWT", "kid": c.ids.trap.URL}, svidClaims(c, id)),
		"another trust domain":    evil.sign(obj{"typ": "JWT"}, merge(svidClaims(c, id), obj{"sub": strings.Replace(id, "example.org", "evil.org", 1)})),
		"another, by our key":     c.ids.svid.sign(obj{"typ": "JWT"}, merge(svidClaims(c, id), obj{"sub": strings.Replace(id, "example.org", "evil.org", 1)})),
		"the cluster's key":       c.ids.cluster.key.sign(obj{"typ": "JWT"}, svidClaims(c, id)),
		"the agent's DPoP key":    k.sign(obj{"typ": "JWT"}, svidClaims(c, id)),
		"the X.509 authority":     (&key{alg: "ES256", kid: c.ids.svid.kid, signer: c.ids.spire.key}).sign(obj{"typ": "JWT"}, svidClaims(c, id)),
		"HS256 by the public key": hmacSign(mustJSON(c.ids.svid.jwk), obj{"alg": "HS256", "typ": "JWT", "kid": c.ids.svid.kid}, svidClaims(c, id)),
		"none":                    b64(mustJSON(obj{"alg": "none", "typ": "JWT"})) + "." + b64(mustJSON(svidClaims(c, id))) + ".",
	} {
		answers[what] = c.want(x.shows(jwtSPIFFE, token, k).do(), 401, "invalid_client")
	}
	c.alike(answers)
	if n := c.ids.caught.Load() - before; n != 0 {
		c.Errorf("a token made the server call its host %d times", n)
	}
	c.asks(x.shows(jwtSPIFFE, c.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(c, id)), k))
}

func wlX509(c *check) {
	agent, id := c.workload("spiffe_x509")
	cert := c.ids.spire.workload(c, id)
	x := c.byCert(agent, cert)
	c.allow(c.person("alice"), x, limits{})
	c.ok(x.do())
	c.ok(x.but().set("client_id", id).do())
	usage := func(u x509.KeyUsage) *x509.Certificate {
		return c.ids.spire.leaf(c, "", func(x *x509.Certificate) {
			x.DNSNames, x.KeyUsage = nil, u
			at, err := url.Parse(id)
			if err != nil {
				c.Fatal(err)
			}
			x.URIs = []*url.URL{at}
		})
	}
	_, otherID := c.workload("spiffe_x509")
	c.alike(map[string]answer{
		"another client_id":      c.want(x.but().set("client_id", otherID).do(), 401, "invalid_client"),
		"another workload":       c.want(c.byCert(agent, c.ids.spire.workload(c, otherID)).do(), 401, "invalid_client"),
		"two URIs":               c.want(c.byCert(agent, c.ids.spire.workload(c, id, otherID)).do(), 401, "invalid_client"),
		"two URIs, ours last":    c.want(c.byCert(agent, c.ids.spire.workload(c, "https://x.test", id)).do(), 401, "invalid_client"),
		"no URI":                 c.want(c.byCert(agent, c.ids.spire.workload(c)).do(), 401, "invalid_client"),
		"another authority":      c.want(c.byCert(agent, c.ids.evil.workload(c, id)).do(), 401, "invalid_client"),
		"the clients' authority": c.want(c.byCert(agent, c.ids.ca.workload(c, id)).do(), 401, "invalid_client"),
		"another trust domain":   c.want(c.byCert(agent, c.ids.spire.workload(c, strings.Replace(id, "example.org", "evil.org", 1))).do(), 401, "invalid_client"),
		"not for signatures":     c.want(c.byCert(agent, usage(x509.KeyUsageKeyEncipherment)).do(), 401, "invalid_client"),
		"it signs certificates":  c.want(c.byCert(agent, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign)).do(), 401, "invalid_client"),
		"the authority itself":   c.want(c.byCert(agent, c.ids.spire.cert).do(), 401, "invalid_client"),
		"none":                   c.want(c.byCert(agent, nil).do(), 401, "invalid_client"),
	})
}

func wlAgain(c *check) {
	agent, id := c.workload("spiffe_jwt")
	k := newKey("ES256")
	x := c.te(agent, c.userToken("alice"))
	svid := c.ids.svid.sign(obj{"typ": "JWT"}, merge(svidClaims(c, id), obj{"jti": "the same"}))
	c.decide(c.asks(x.shows(jwtSPIFFE, svid, k)), c.person("alice"), limits{})
	for range 3 {
		c.ok(x.shows(jwtSPIFFE, svid, k).do())
	}
	c.want(x.shows(jwtSPIFFE, svid, nil).do(), 400, "invalid_dpop_proof")
	again := x.shows(jwtSPIFFE, svid, k)
	c.ok(again.do())
	c.want(again.do(), 400, "invalid_dpop_proof")
	for _, path := range []string{"/introspect", "/revoke", "/redeem"} {
		form := url.Values{"token": {"x"}, "client_assertion_type": {jwtSPIFFE}, "client_assertion": {svid}}
		c.want(c.post(path, maps.Clone(form)), 400, "invalid_dpop_proof")
		r := call{method: http.MethodPost, path: path, form: form, header: http.Header{"Dpop": {c.proof(k, path)}}}
		if a := c.do(r); a.status == 401 || a.code() == "invalid_dpop_proof" {
			c.Errorf("%s: %d %s", path, a.status, a.body)
		}
		c.want(c.do(r), 400, "invalid_dpop_proof")
		c.want(c.do(call{method: http.MethodPost, path: path, form: form, header: http.Header{"Dpop": {c.proof(k, "/token")}}}), 400, "invalid_dpop_proof")
	}

	// A certificate in place of the proof, and the token is then bound to that.
	cert := c.ids.spire.workload(c, id)
	tok := c.ok(x.shows(jwtSPIFFE, svid, nil).over(cert).do()).token()
	if cnf, _ := c.decode(tok).claims["cnf"].(obj); cnf["x5t#S256"] != thumbprint(cert) {
		c.Errorf("cnf is %v", cnf)
	}

	// The token of a platform: once by its jti, or as often as it likes with a proof.
	pod := c.identified(obj{"auth": "federated_jwt", "federated": obj{"issuer": c.ids.cluster.issuer, "subject": "system:serviceaccount:mail:again"}})
	y := c.te(pod, c.userToken("alice")).set("client_id", pod.id)
	sa := func(jti any) string {
		return c.ids.cluster.key.sign(obj{"typ": nil}, merge(obj{
			"iss": c.ids.cluster.issuer, "sub": "system:serviceaccount:mail:again", "aud": []string{c.issuer}, "iat": in(0), "exp": in(3600),
		}, obj{"jti": jti}))
	}
	c.decide(c.asks(y.shows(jwtBearer, sa("1-"+pod.id), nil)), c.person("alice"), limits{})
	once := y.shows(jwtBearer, sa("2-"+pod.id), nil)
	c.ok(once.do())
	c.want(once.do(), 401, "invalid_client")
	c.want(y.shows(jwtBearer, sa(nil), nil).do(), 400, "invalid_dpop_proof")
	many := sa("3-" + pod.id)
	for range 3 {
		c.ok(y.shows(jwtBearer, many, k).do())
	}
	together := sa("4-" + pod.id)
	first := 0
	for _, a := range c.together(20, func(int) call { return y.shows(jwtBearer, together, nil).ready() }) {
		if a.status == http.StatusOK {
			first++
		} else if a.code() != "invalid_client" {
			c.Errorf("%d %s", a.status, a.body)
		}
	}
	if first != 1 {
		c.Errorf("%d of 20 got in by one token", first)
	}
}

// workloadToken is one of a workload of the trust domain, bound to a key, and the key's proof of it for an address, WIMSE.
func (c *check) workloadToken(id string, k *key, target string) (wit, wpt string) {
	wit = c.ids.svid.sign(obj{"typ": "wit+jwt"}, obj{"iss": "spiffe://example.org", "sub": id, "exp": in(60), "iat": in(0), "jti": nonce(), "cnf": obj{"jwk": merge(k.jwk, obj{"alg": "ES256"})}})
	wpt = k.sign(obj{"typ": "wpt+jwt", "kid": nil}, obj{"aud": target, "exp": in(30), "jti": nonce(), "wth": s256(wit)})
	return wit, wpt
}

func wlNoToken(c *check) {
	agent, id := c.workload("spiffe_jwt")
	wit, _ := c.workloadToken(id, newKey("ES256"), c.issuer+"/token")
	c.refusedEverywhere("a workload identity token", wit)
	if a := c.guarded(mail, map[string]resource.Rule{"POST " + readPath: {}}).post(readPath, nil).bearer(wit).do(); a.status != 401 || a.code() != "invalid_token" {
		c.Errorf("at a resource server: %d %s", a.status, a.body)
	}
	if a := c.forward(http.Header{"Authorization": {"Bearer " + wit}}); a.status != 401 {
		c.Errorf("at a proxy: %d %s", a.status, a.body)
	}
	x := c.te(agent, c.userToken("alice"))
	c.want(x.shows(jwtSPIFFE, wit, newKey("ES256")).do(), 401, "invalid_client")
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	if strings.Contains(string(meta.body), "wit") || strings.Contains(string(meta.body), "wpt") {
		c.Errorf("the metadata speaks of it: %s", meta.body)
	}
}

func wlNoProof(c *check) {
	agent, id := c.workload("spiffe_jwt")
	k := newKey("ES256")
	wit, wpt := c.workloadToken(id, k, c.issuer+"/token")
	shown := func(x *exchange) *exchange {
		return x.header("Workload-Identity-Token", wit).header("Workload-Proof-Token", wpt)
	}
	named := c.te(agent, c.userToken("alice")).anonymous()
	c.want(shown(named.but()).do(), 401, "invalid_client")
	c.want(shown(named.but().set("client_id", agent.id)).do(), 401, "invalid_client")
	c.want(shown(named.but().set("client_id", id)).do(), 401, "invalid_client")
	svid := c.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(c, id))
	again := named.but().set("client_assertion_type", jwtSPIFFE).set("client_assertion", svid)
	c.want(shown(again).do(), 400, "invalid_dpop_proof") // an SVID wants a proof, and this is none
	x := c.baseline()
	if token := c.ok(shown(x.but()).do()).token(); c.keyOf(token) != "" {
		c.Error("beside another credential it binds")
	}
	c.want(x.but().header("Dpop", wpt).do(), 400, "invalid_dpop_proof")
}

func wlNoActor(c *check) {
	agent, id := c.workload("spiffe_jwt")
	k := newKey("ES256")
	wit, wpt := c.workloadToken(id, k, c.issuer+"/token")
	svid := c.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(c, id))
	x := c.te(agent, c.userToken("alice"))
	c.asks(x.shows(jwtSPIFFE, svid, k))
	for _, kind := range []string{jwtType, accessToken, idToken, tokenType + "wit", "urn:ietf:params:oauth:token-type:wit+jwt"} {
		y := x.shows(jwtSPIFFE, svid, k).set("actor_token", wit).set("actor_token_type", kind).header("Workload-Proof-Token", wpt)
		c.want(y.do(), 400, "invalid_request")
		z := c.baseline().set("actor_token", wit).set("actor_token_type", kind).proof(k)
		c.want(z.do(), 400, "invalid_request")
	}
}

func negWorkload(c *check) {
	account := "system:serviceaccount:mail:" + c.name("sa")
	pod := c.identified(obj{"auth": "federated_jwt", "federated": obj{
		"issuer": c.ids.cluster.issuer, "subject": account, "claims": obj{"/kubernetes.io/namespace": "mail", "ref_protected": "true"},
	}})
	k := newKey("ES256")
	x := c.te(pod, c.userToken("alice")).set("client_id", pod.id)
	good := obj{
		"iss": c.ids.cluster.issuer, "sub": account, "aud": []string{c.issuer}, "iat": in(0), "exp": in(3600), "kubernetes.io": obj{"namespace": "mail"}, "ref_protected": true,
	}
	by := func(signer *key, changes obj) *exchange {
		return x.shows(jwtBearer, signer.sign(obj{"typ": nil}, merge(good, changes)), k)
	}
	c.asks(by(c.ids.cluster.key, obj{"jti": nonce()}))
	answers := map[string]answer{}
	for what, changes := range map[string]obj{
		"another account": {"sub": account + "2"}, "another namespace": {"kubernetes.io": obj{"namespace": "evil"}}, "no namespace": {"kubernetes.io": nil},
		"a namespace beside it": {"kubernetes.io": nil, "/kubernetes.io/namespace": "mail"}, "a list of namespaces": {"kubernetes.io": obj{"namespace": []string{"mail"}}},
		"not protected": {"ref_protected": false}, "the API server's": {"aud": []string{"https://kubernetes.default.svc"}},
		"the API server's too": {"aud": []string{c.issuer, "https://kubernetes.default.svc"}}, "over": {"exp": in(-1)}, "for ever": {"exp": nil}, "for a month": {"exp": in(30 * 24 * 3600)},
		"another issuer": {"iss": c.idp.issuer}, "an issuer with a slash": {"iss": c.ids.cluster.issuer + "/"}, "delegated": {"act": obj{"sub": "x"}}, "bound to a key": {"cnf": obj{"jkt": k.thumbprint()}},
	} {
		answers[what] = c.want(by(c.ids.cluster.key, changes).do(), 401, "invalid_client")
	}
	answers["by another key"] = c.want(by(c.ids.evilSVID, nil).do(), 401, "invalid_client")
	answers["by the trust domain's key"] = c.want(by(c.ids.svid, nil).do(), 401, "invalid_client")
	answers["by a trusted issuer of users"] = c.want(by(c.idp.key, nil).do(), 401, "invalid_client")
	answers["for another agent"] = c.want(by(c.ids.cluster.key, nil).set("client_id", c.agent().id).do(), 401, "invalid_client")
	answers["an SVID of another trust domain"] = c.want(x.shows(jwtSPIFFE, c.ids.evilSVID.sign(obj{"typ": "JWT"}, svidClaims(c, "spiffe://evil.org/mailer")), k).do(), 401, "invalid_client")
	answers["a WIT"] = c.want(x.shows(jwtSPIFFE, c.ids.svid.sign(obj{"typ": "wit+jwt"}, merge(svidClaims(c, "spiffe://example.org/x"), obj{"cnf": obj{"jwk": k.jwk}})), k).do(), 401, "invalid_client")
	c.alike(answers)
	c.want(by(c.ids.cluster.key, nil).drop("client_id").do(), 400, "invalid_request")
	// The token of a workload is nobody's subject token.
	c.want(c.te(c.agent(), c.ids.cluster.key.sign(obj{"typ": "JWT"}, good)).set("subject_token_type", jwtType).do(), 400, "invalid_request")
}

func actTurn(c *check) {
	a, b := newClient(c.name("agent"), "ES256"), newClient(c.name("agent"), "ES256")
	alone := c.agent(obj{"delegates_to": []string{b.id}})
	c.register(a, obj{"delegates_to": []string{b.id}})
	c.register(b, obj{"delegates_to": []string{a.id, alone.id}})
	hop := func(who *client, subject string) *exchange { return c.te(who, subject).at(notes, "notes.read") }
	allowed := map[string]bool{}
	pass := func(who *client, subject string) string {
		c.Helper()
		if !allowed[who.id] {
			c.allowed("alice", hop(who, subject))
			allowed[who.id] = true
		}
		return c.ok(hop(who, subject).do()).token()
	}
	turned := pass(a, pass(b, pass(a, c.userToken("alice"))))
	act, _ := c.decode(turned).claims["act"].(obj)
	var chain []string
	for act != nil {
		sub, _ := act["sub"].(string)
		chain = append(chain, sub)
		act, _ = act["act"].(obj)
	}
	if !slices.Equal(chain, []string{a.id, b.id, a.id}) {
		c.Errorf("the chain is %v", chain)
	}
	refused := c.want(hop(b, turned).do(), 400, "invalid_request")
	if refused.str("reason") != "chain_cycle" {
		c.Errorf("a second turn: %s", refused.body)
	}
	// b may hand on to alone, and alone to b; but it was a who handed on to b.
	third := pass(alone, pass(b, pass(a, c.userToken("alice"))))
	if got := c.want(hop(a, third).do(), 400, "invalid_request"); got.token() != "" {
		c.Errorf("around: %s", got.body)
	}
}

func actKinds(c *check) {
	agent, id := c.workload("spiffe_jwt")
	k := newKey("ES256")
	svid := c.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(c, id))
	x := c.te(agent, c.userToken("alice"))
	as := func(actor string) *exchange {
		return x.shows(jwtSPIFFE, svid, k).set("actor_token", actor).set("actor_token_type", jwtType)
	}
	c.decide(c.asks(as(svid)), c.person("alice"), limits{})
	c.ok(as(svid).do())
	own := agent.key.sign(obj{"typ": "JWT"}, agent.claims(c.issuer))
	pod := c.ids.cluster.key.sign(obj{"typ": "JWT"}, obj{"iss": c.ids.cluster.issuer, "sub": id, "aud": c.issuer, "iat": in(0), "exp": in(60)})
	answers := map[string]answer{}
	for what, actor := range map[string]string{
		"of its own making":      own,
		"a platform's":           pod,
		"another workload's":     c.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(c, id+"/x")),
		"another trust domain's": c.ids.evilSVID.sign(obj{"typ": "JWT"}, svidClaims(c, "spiffe://evil.org/x")),
		"an SVID that acts":      c.ids.svid.sign(obj{"typ": "JWT"}, merge(svidClaims(c, id), obj{"act": obj{"sub": "x"}})),
	} {
		answers[what] = c.want(as(actor).do(), 400, "invalid_request")
	}
	keyed := c.baseline()
	answers["an SVID of an agent with a key"] = c.want(keyed.but().set("actor_token", svid).set("actor_token_type", jwtType).do(), 400, "invalid_request")
	c.alike(answers)
}

// nonced is an installation that demands nonces.
func (c *check) nonced() *check {
	c.Helper()
	return c.apart(func(o *options) {
		o.change = func(cfg obj) { cfg["tokens"] = merge(cfg["tokens"].(obj), obj{"dpop_nonce": true}) }
	})
}

func dpNonce(c *check) {
	p := c.nonced()
	k, agent := newKey("ES256"), p.agent()
	x := p.te(agent, p.userToken("alice"))
	first := p.want(x.but().proof(k).do(), 400, "use_dpop_nonce")
	values := first.header.Values("Dpop-Nonce")
	if len(values) != 1 || len(values[0]) < 22 {
		p.Fatalf("nonces %q", values)
	}
	p.decide(p.asks(x.but().proof(k, obj{"nonce": values[0]})), p.person("alice"), limits{})
	for node := range p.nodes {
		a := p.ok(x.but().node(node+1).proof(k, obj{"nonce": values[0]}).do())
		if next := a.header.Values("Dpop-Nonce"); len(next) > 1 || len(next) == 1 && next[0] == values[0] {
			p.Errorf("process %d says %q with a 200", node+1, next)
		}
	}
	if again := p.want(x.but().proof(k, obj{"nonce": "x"}).do(), 400, "use_dpop_nonce"); again.header.Get("Dpop-Nonce") == "" {
		p.Error("no nonce with the refusal")
	}
}

func dpNoNonce(c *check) {
	p := c.nonced()
	k, agent := newKey("ES256"), p.agent(obj{"dpop_bound_access_tokens": true})
	x := p.te(agent, p.userToken("alice"))
	current := p.want(x.but().proof(k).do(), 400, "use_dpop_nonce").header.Get("Dpop-Nonce")
	p.asks(x.but().proof(k, obj{"nonce": current}))
	for what, v := range map[string]any{
		"none": nil, "empty": "", "cut off": current[:len(current)-1], "longer": current + "A", "another's": nonce(), "in another case": strings.ToUpper(current) + strings.ToLower(current),
	} {
		if a := x.but().proof(k, obj{"nonce": v}).do(); a.code() != "use_dpop_nonce" || a.status != 400 {
			p.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	p.want(x.but().proof(k, obj{"nonce": 7}).do(), 400, "invalid_dpop_proof")
	p.want(x.but().do(), 400, "invalid_dpop_proof") // and no way around by leaving the proof out
	svid, id := p.workload("spiffe_jwt")
	token := p.ids.svid.sign(obj{"typ": "JWT"}, svidClaims(p, id))
	y := p.te(svid, p.userToken("alice"))
	p.want(y.shows(jwtSPIFFE, token, k).do(), 400, "use_dpop_nonce")
	p.asks(y.but().anonymous().set("client_assertion_type", jwtSPIFFE).set("client_assertion", token).proof(k, obj{"nonce": current}))
}

// TestStop measures how long a replica still says yes after another one has acknowledged that an agent is stopped. While requests of the agent
// stream in at one process, it is suspended at the other; what began after the acknowledgement must be refused.
func TestStop(t *testing.T) {
	t.Parallel()
	c := &check{t, postgresRedis(t).start(t, nil)}
	rounds := rounds(t, 5)
	var acknowledged, refused []time.Duration // since it was asked
	for range rounds {
		agent := c.agent()
		x := c.allowed("alice", c.te(agent, c.userToken("alice")).at(notes, "notes.read"))
		c.ok(x.but().node(2).do())
		held := c.ok(c.allowed("alice", c.te(agent, c.userToken("alice"))).do()).token() // good for one transaction
		type seen struct {
			began time.Time
			took  time.Duration
			code  int
		}
		results, stop := make(chan []seen), make(chan struct{})
		for range 4 {
			go func() {
				var list []seen
				for {
					select {
					case <-stop:
						results <- list
						return
					default:
					}
					began := time.Now()
					a, err := c.send(t.Context(), x.but().node(2).ready())
					if err != nil {
						t.Error(err)
						a.status = -1
					}
					list = append(list, seen{began, time.Since(began), a.status})
				}
			}()
		}
		time.Sleep(150 * time.Millisecond)
		asked := time.Now()
		if a := c.do(call{
			method: http.MethodPost, path: "/admin/v1/agents/" + agent.id + "/suspend", node: 1,
			header: http.Header{"Authorization": {"Bearer " + c.operator}, "Content-Type": {"application/json"}}, body: []byte(`{"why":"measured"}`),
		}); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		ack := time.Now()
		c.want(c.redeem(c.rs1, held, nonce()).node(2).do(), 410, "token_revoked")
		time.Sleep(150 * time.Millisecond)
		close(stop)
		before, after := 0, 0
		var first time.Time // the first refusal
		for range 4 {
			for _, s := range <-results {
				switch {
				case s.code == http.StatusOK && s.began.After(ack):
					t.Errorf("a request that began %s after the acknowledgement was allowed", s.began.Sub(ack))
				case s.code == http.StatusOK:
					before++
				case s.code == http.StatusBadRequest:
					after++
					if end := s.began.Add(s.took); first.IsZero() || end.Before(first) {
						first = end
					}
				default:
					t.Errorf("status %d", s.code)
				}
			}
		}
		if before == 0 || after == 0 {
			t.Fatalf("%d allowed, %d refused: nothing was measured", before, after)
		}
		acknowledged, refused = append(acknowledged, ack.Sub(asked)), append(refused, first.Sub(asked))
	}
	of := func(list []time.Duration) string {
		slices.Sort(list)
		return fmt.Sprintf("%s, at most %s", list[len(list)/2].Round(time.Millisecond), list[len(list)-1].Round(time.Millisecond))
	}
	fmt.Printf("stop: %d rounds; from the command to its acknowledgement by one replica %s; to the first refusal at another %s; "+
		"of the requests that began after the acknowledgement none was allowed\n", rounds, of(acknowledged), of(refused))
}
