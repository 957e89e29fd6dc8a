package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/operator"
)

// platforms writes a configuration that knows a trust domain, a platform and an authority of certificates.
func platforms(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Acme"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "obolus.yaml")
	for name, text := range map[string]string{
		filepath.Join(dir, "ca.pem"): string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		file: `trust_domains: [{id: example.org, bundle_uri: 'https://127.0.0.1:1/bundle'}]
workload_issuers: [{issuer: 'https://cluster.example.com', jwks_uri: 'https://127.0.0.1:1/keys'}]
tls: {certificate_header: Client-Cert, client_ca: ca.pem}
trusted_proxies: [127.0.0.1]
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// Agents that are known by the word of somebody else, from the command line.
func TestIdentitiesByHand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir, "--config", platforms(t, dir))
	do := func(code int, words string, args ...string) said {
		t.Helper()
		return obolus(t, append(args, p.flags()...)...).want(t, code, words)
	}
	do(0, "", "agent", "add", "mesh", "--spiffe-id", "spiffe://example.org/mesh", "--dpop")
	do(0, "spiffe_jwt", "agent", "show", "mesh")
	do(0, "spiffe://example.org/mesh", "agent", "show", "mesh")
	do(0, "", "agent", "add", "peer", "--spiffe-id", "spiffe://example.org/peer", "--auth", "spiffe_x509", "--certificate-bound")
	do(0, "spiffe_x509", "agent", "show", "peer")
	do(operator.ExitConflict, "spiffe://example.org/mesh", "agent", "add", "twin", "--spiffe-id", "spiffe://example.org/mesh")
	do(0, "", "agent", "add", "pod", "--workload-issuer", "https://cluster.example.com", "--workload-subject", "system:serviceaccount:mail:pod",
		"--workload-claim", "/kubernetes.io/namespace=mail", "--workload-claim", "ref=a,b=c")
	do(0, "system:serviceaccount:mail:pod", "agent", "show", "pod")
	do(0, "a,b=c", "agent", "show", "pod")
	do(0, "", "agent", "add", "tls", "--certificate-for", "dn:CN=tls,O=Acme")
	do(0, "dn:CN=tls,O=Acme", "agent", "show", "tls")
	do(0, "federated_jwt", "client", "add", "server", "--workload-issuer", "https://cluster.example.com", "--workload-subject", "server")
	do(operator.ExitUsage, "--workload-issuer", "agent", "add", "x", "--workload-subject", "y")
	do(operator.ExitUsage, "is none of dn:NAME", "agent", "add", "x", "--certificate-for", "cn:y")
	do(operator.ExitUsage, "is not known by that", "agent", "add", "x", "--spiffe-id", "spiffe://a/b", "--auth", "tls_client_auth")
	do(operator.ExitUsage, "", "agent", "add", "x", "--spiffe-id", "spiffe://a/b", "--workload-issuer", "https://c.test")
	do(operator.ExitRefused, "not the SPIFFE ID of a workload", "agent", "add", "x", "--spiffe-id", "b")
	do(operator.ExitRefused, "name a subject or claims", "agent", "add", "x", "--workload-issuer", "https://c.test")
	do(operator.ExitRefused, `"elsewhere.org" is not among the trust_domains`, "agent", "add", "x", "--spiffe-id", "spiffe://elsewhere.org/x")
	do(operator.ExitRefused, `"https://c.test" is not among the workload_issuers`, "agent", "add", "x", "--workload-issuer", "https://c.test", "--workload-subject", "x")
	do(operator.ExitRefused, `"https://c.test" is not among the workload_issuers`, "client", "add", "x", "--workload-issuer", "https://c.test", "--workload-subject", "x")
	plain := serve(t, t.TempDir())
	obolus(t, append([]string{"agent", "add", "x", "--certificate-for", "dns:x.test"}, plain.flags()...)...).want(t, operator.ExitRefused, "set tls.client_certificates or tls.certificate_header")
}
