package world

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"

	"obolus/token"
)

// Authority certifies clients and workloads in tests.
type Authority struct {
	Cert *x509.Certificate
	key  crypto.Signer
	tb   testing.TB
	now  func() time.Time
}

// NewAuthority makes a self-signed one, in force for a day by a clock.
func NewAuthority(tb testing.TB, now func() time.Time) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, now: now}
	var made tls.Certificate
	a.Cert, made = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "CA " + rand.Text()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.key, _ = made.PrivateKey.(crypto.Signer)
	return a
}

// sign makes a key and a certificate of it by the authority; before it has one, by that key itself.
func (a *Authority) sign(c *x509.Certificate) (*x509.Certificate, tls.Certificate) {
	a.tb.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(a.tb)
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = a.now().Add(-time.Hour), a.now().Add(24*time.Hour)
	}
	c.SerialNumber = must(rand.Int(rand.Reader, big.NewInt(1<<62)))(a.tb)
	parent, by := a.Cert, a.key
	if parent == nil {
		parent, by = c, key
	}
	der := must(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by))(a.tb)
	leaf := must(x509.ParseCertificate(der))(a.tb)
	return leaf, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Issue certifies a client: change says whom the certificate is for.
func (a *Authority) Issue(change func(*x509.Certificate)) tls.Certificate {
	a.tb.Helper()
	c := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	if change != nil {
		change(c)
	}
	_, made := a.sign(c)
	return made
}

// SVID certifies workloads: one by one name, as it should be.
func (a *Authority) SVID(ids ...string) tls.Certificate {
	a.tb.Helper()
	return a.Issue(func(c *x509.Certificate) {
		for _, id := range ids {
			c.URIs = append(c.URIs, must(url.Parse(id))(a.tb))
		}
	})
}

// PEM is the certificate of the authority.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw})
}

// Bundle is a SPIFFE trust bundle with this authority and keys for JWT-SVIDs.
func (a *Authority) Bundle(keys ...token.PublicKey) []byte {
	a.tb.Helper()
	var doc struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(must(token.NewPublicSet(keys...).JWKS())(a.tb), &doc); err != nil {
		a.tb.Fatal(err)
	}
	for _, k := range doc.Keys {
		k["use"] = "jwt-svid"
	}
	doc.Keys = append(doc.Keys, map[string]any{"kty": "EC", "use": "x509-svid", "x5c": []string{base64.StdEncoding.EncodeToString(a.Cert.Raw)}})
	return must(json.Marshal(doc))(a.tb)
}
