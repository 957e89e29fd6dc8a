package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"obolus/agents"
	"obolus/oauth"
	"obolus/token"
)

// guessIdentity is how a client authenticates that does not say, by the identity of its workload that is declared; empty: by none.
func guessIdentity(c agents.Credential) oauth.AuthMethod {
	switch {
	case c.SPIFFE != "":
		return oauth.AuthSPIFFEJWT
	case c.Federated != nil:
		return oauth.AuthFederated
	case c.CertificateSubject != (agents.CertificateSubject{}):
		return oauth.AuthTLS
	default:
		return ""
	}
}

// identity checks what proves a client otherwise than by a key or a secret of its own, and that the server can tell.
func (c *checker) identity(path, id string, cred agents.Credential) {
	for _, p := range c.cfg.unprovable(cred) {
		c.bad(path+"."+p.member, "%s", p.why)
	}
	if way := cred.Auth; way.ByCertificate() || way == oauth.AuthSPIFFEJWT || way == oauth.AuthFederated || guessIdentity(cred) != "" {
		if err := cred.Check(id); err != nil && !c.noted(path+".spiffe_id") && !c.noted(path+".key_file") {
			c.bad(path, "%s", strings.TrimSuffix(err.Error(), ": "+agents.ErrInvalid.Error()))
		}
	}
}

// unprovable is a member of a credential by which the server, as it is configured, can never know anybody.
type unprovable struct{ member, why string }

func (c Config) unprovable(cred agents.Credential) []unprovable {
	var found []unprovable
	bad := func(member, why string) { found = append(found, unprovable{member, why}) }
	if cred.Auth.ByCertificate() && c.TLS.noCertificates() {
		bad("auth", "needs the client's certificate; set tls.client_certificates or tls.certificate_header")
	}
	if cred.CertificateBound && c.TLS.noCertificates() {
		bad("tls_client_certificate_bound_access_tokens", "needs the client's certificate; set tls.client_certificates or tls.certificate_header")
	}
	if cred.Auth == oauth.AuthTLS && c.TLS.ClientCA == "" {
		bad("auth", "needs tls.client_ca, the authorities that certify clients")
	}
	if cred.SPIFFE != "" {
		parsed, err := token.ParseSPIFFEID(cred.SPIFFE)
		if err != nil {
			bad("spiffe_id", fmt.Sprintf("%q is no SPIFFE ID such as spiffe://example.org/mailer", cred.SPIFFE))
		} else if !slices.ContainsFunc(c.TrustDomains, func(d TrustDomain) bool { return d.ID == parsed.TrustDomain }) {
			bad("spiffe_id", fmt.Sprintf("%q is not among the trust_domains", parsed.TrustDomain))
		}
	}
	if f := cred.Federated; f != nil && !slices.ContainsFunc(c.WorkloadIssuers, func(w WorkloadIssuer) bool { return w.Issuer == f.Issuer }) {
		bad("federated.issuer", fmt.Sprintf("%q is not among the workload_issuers", f.Issuer))
	}
	return found
}

// CanProve says, by nil, that a client with a credential could prove to the server who it is, as far as the configuration goes: that a trust
// domain, an issuer of workloads or a source of certificates is there. It does not say that the credential is in order.
func (c Config) CanProve(cred agents.Credential) error {
	found := c.unprovable(cred)
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", found[0].member, found[0].why, agents.ErrInvalid)
}

// noCertificates says that the server is never told of a client's certificate.
func (t TLS) noCertificates() bool { return !t.ClientCertificates && t.CertificateHeader == "" }

func (c *checker) clientCertificates() {
	t := c.cfg.TLS
	if t.ClientCertificates && t.Cert == "" {
		c.bad("tls.client_certificates", "needs tls.cert and tls.key: certificates are shown in the handshake")
	}
	if t.CertificateHeader != "" && len(c.cfg.TrustedProxies) == 0 {
		c.bad("tls.certificate_header", "needs trusted_proxies: whoever else sends the header is not believed")
	}
	if h := t.CertificateHeader; h != "" && (http.CanonicalHeaderKey(h) != http.CanonicalHeaderKey(strings.TrimSpace(h)) || strings.ContainsAny(h, " \t:")) {
		c.bad("tls.certificate_header", "%q is no name of a header such as Client-Cert", h)
	}
	if t.ClientCA != "" {
		if data, ok := c.read("tls.client_ca", t.ClientCA); ok {
			c.authorities("tls.client_ca", data)
		}
	}
	if (t.ClientCA != "" || t.CertificateURL != "") && t.noCertificates() {
		c.bad("tls", "client_ca and certificate_url are of no use without client_certificates or certificate_header")
	}
	if t.CertificateURL != "" {
		c.issuer("tls.certificate_url", t.CertificateURL)
	}
}

func (c *checker) authorities(path string, pem []byte) {
	if _, err := Authorities(pem); err != nil {
		c.bad(path, "%v", err)
	}
}

// Authorities reads certificates in PEM.
func Authorities(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("holds no certificate in PEM")
	}
	return pool, nil
}

// AuthoritiesIn reads a file of certificates; an empty name stands for those whom the system trusts.
func AuthoritiesIn(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // net/http takes it so
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator says which file
	if err != nil {
		return nil, err
	}
	return Authorities(data)
}

// platforms checks where the identities of workloads come from.
func (c *checker) platforms() {
	seen := names{}
	for i, d := range c.cfg.TrustDomains {
		path := fmt.Sprintf("trust_domains[%d]", i)
		c.trustDomain(path, d, seen)
		seen[d.ID] = holder{"trust domain", path}
	}
	seen = names{}
	for i, w := range c.cfg.WorkloadIssuers {
		path := fmt.Sprintf("workload_issuers[%d]", i)
		c.workloadIssuer(path, w, seen)
		seen[w.Issuer] = holder{"issuer", path}
	}
}

func (c *checker) trustDomain(path string, d TrustDomain, seen names) {
	if !token.ValidTrustDomain(d.ID) {
		c.bad(path+".id", "%q is no name of a trust domain such as example.org", d.ID)
	}
	if other, ok := seen[d.ID]; ok {
		c.bad(path+".id", "is already at %s", c.tree.At(other.path))
	}
	if (d.BundleFile == "") == (d.BundleURI == "") {
		c.bad(path, "wants one of bundle_file and bundle_uri")
	}
	if d.BundleURI != "" {
		c.webURL(path+".bundle_uri", d.BundleURI)
	}
	if d.BundleFile != "" {
		if data, ok := c.read(path+".bundle_file", d.BundleFile); ok {
			if _, err := token.ParseBundle(data); err != nil {
				c.bad(path+".bundle_file", "is no SPIFFE trust bundle: %v; `spire-server bundle show -format spiffe` writes one", err)
			}
		}
	}
	c.caFile(path, d.CAFile)
}

func (c *checker) caFile(path, file string) {
	if file == "" {
		return
	}
	if data, ok := c.read(path+".ca_file", file); ok {
		c.authorities(path+".ca_file", data)
	}
}

func (c *checker) workloadIssuer(path string, w WorkloadIssuer, seen names) {
	c.webURL(path+".issuer", w.Issuer)
	if other, ok := seen[w.Issuer]; ok {
		c.bad(path+".issuer", "is already at %s", c.tree.At(other.path))
	}
	if w.Issuer == c.cfg.IssuerAt(c.cfg.Listen) {
		c.bad(path+".issuer", "is this server itself; its tokens are no proof of a workload")
	}
	if slices.ContainsFunc(c.cfg.TrustedIssuers, w.confused) {
		c.bad(path+".issuer", "is among the trusted_issuers too, with the same audience: a workload could pass for a user; let that take id_token alone, or name another audience")
	}
	if w.JWKSURI != "" {
		c.webURL(path+".jwks_uri", w.JWKSURI)
	}
	for i, alg := range w.Algorithms {
		c.oneOf(fmt.Sprintf("%s.algorithms[%d]", path, i), alg, token.ProofAlgorithms()...)
	}
	c.caFile(path, w.CAFile)
}

// confused says whether one token could be that of a workload and that of a user.
func (w WorkloadIssuer) confused(t TrustedIssuer) bool {
	takesJWT := len(t.Types) == 0 || slices.Contains(t.Types, "jwt")
	return t.Issuer == w.Issuer && t.Audience == w.Audience && takesJWT
}
