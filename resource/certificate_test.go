package resource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"obolus/resource"
	"obolus/token"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// ML-02: a token that is bound to a certificate is good over a connection with that certificate, by the handshake itself.
func TestABoundCertificate(t *testing.T) {
	t.Parallel()
	is, mine, other, key := newIssuer(t), certificate(t), certificate(t), testKey(t)
	effect := new(effects)
	server := httptest.NewUnstartedServer(is.guard().Require(send)(effect))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	x5t := token.CertificateThumbprint(mine.Leaf)
	certified := func(c *token.Claims) { c.Confirm = &token.Confirmation{X5T: x5t} }
	both := func(c *token.Claims) { c.Confirm = &token.Confirmation{X5T: x5t, JKT: key.KeyID()} }
	for _, c := range []struct {
		name  string
		token string
		certs []tls.Certificate
		proof bool
		want  int
	}{
		{"the certificate", is.token(certified), []tls.Certificate{mine}, false, 200},
		{"the certificate, for one transaction", is.token(certified, once), []tls.Certificate{mine}, false, 200},
		{"another certificate", is.token(certified), []tls.Certificate{other}, false, 401},
		{"another certificate, for one transaction", is.token(certified, once), []tls.Certificate{other}, false, 401},
		{"no certificate", is.token(certified), nil, false, 401},
		{"a proof in its place", is.token(certified), nil, true, 401},
		{"an unbound token over it", is.token(), []tls.Certificate{mine}, false, 200},
		{"both, and both are shown", is.token(both), []tls.Certificate{mine}, true, 200},
		{"both, and the proof is missing", is.token(both), []tls.Certificate{mine}, false, 401},
		{"both, and the certificate is missing", is.token(both), nil, true, 401},
		{"both, and another certificate is shown", is.token(both), []tls.Certificate{other}, true, 401},
	} {
		before := effect.Load()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: c.certs}}}
		r := request("POST", "/mail/send", "", c.token)
		if c.proof {
			prove(t, r, key, c.token)
		}
		r.RequestURI = ""
		var err error
		if r.URL, err = url.Parse(server.URL + "/mail/send"); err != nil {
			t.Fatal(err)
		}
		// What a stranger writes into headers is not looked at.
		r.Header.Set("Client-Cert", ":AAAA:")
		r.Header.Set("X-Forwarded-Client-Cert", `Cert="x"`)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.want || (effect.Load() > before) != (c.want == 200) {
			t.Errorf("%s: %d, %s", c.name, res.StatusCode, res.Header.Values("WWW-Authenticate"))
		}
	}
	if form, ok := is.last.Load().(url.Values); !ok || form.Get("x5t#S256") != x5t {
		t.Errorf("the redemption said %v", form)
	}
}

// Behind a proxy the certificate comes from where the server says.
func TestACertificateFromElsewhere(t *testing.T) {
	t.Parallel()
	is, mine := newIssuer(t), certificate(t)
	shown := mine.Leaf
	g := is.guard(func(c *resource.Config) { c.Certificate = func(*http.Request) *x509.Certificate { return shown } })
	handler := g.Require(send)(new(effects))
	tok := is.token(func(c *token.Claims) { c.Confirm = &token.Confirmation{X5T: token.CertificateThumbprint(mine.Leaf)} })
	if w := do(handler, request("POST", "/mail/send", "", tok)); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	shown = certificate(t).Leaf
	if w := do(handler, request("POST", "/mail/send", "", tok)); w.Code != 401 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
