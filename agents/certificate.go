package agents

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// Certificate is the certificate of a client that has proved to have its key: in the TLS handshake with this server, or with a proxy
// that the operator trusts to say so. Nothing else of it was checked.
type Certificate struct {
	Leaf  *x509.Certificate
	Chain []*x509.Certificate // what the client sent beside it
}

// Thumbprint is its SHA-256, base64url; of none, the empty string.
func (c *Certificate) Thumbprint() string {
	if c == nil {
		return ""
	}
	return token.CertificateThumbprint(c.Leaf)
}

// verify checks the chain up to an authority, for a client, at a time. What it does not check is whom the certificate is for, and
// whether it was revoked.
func (c *Certificate) verify(authorities *x509.CertPool, now time.Time) error {
	if authorities == nil {
		return errors.New("there are no authorities for such a certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range c.Chain {
		between.AddCert(cert)
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// inForce checks the dates of a certificate that no authority stands for.
func (c *Certificate) inForce(now time.Time) error {
	if now.Before(c.Leaf.NotBefore) || now.After(c.Leaf.NotAfter) {
		return errors.New("the certificate is not in force")
	}
	return nil
}

// spiffeID is the name in an X.509-SVID: X509-SVID section 2, of a leaf as section 4.1 wants it.
func (c *Certificate) spiffeID() (token.SPIFFEID, error) {
	uris := urisOf(c.Leaf)
	if len(uris) != 1 {
		return token.SPIFFEID{}, fmt.Errorf("an X.509-SVID has one URI, not %d", len(uris))
	}
	usage := c.Leaf.KeyUsage
	if c.Leaf.IsCA || usage&x509.KeyUsageDigitalSignature == 0 || usage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return token.SPIFFEID{}, errors.New("the certificate is not that of a workload")
	}
	return token.ParseSPIFFEID(uris[0])
}

// urisOf are the URIs of a certificate in the letters in which they stand there.
func urisOf(c *x509.Certificate) []string {
	uris := make([]string, len(c.URIs))
	for i, u := range c.URIs {
		uris[i] = u.String()
	}
	return uris
}

// checkCertificate is RFC 8705 section 2, and for an X.509-SVID OAuth SPIFFE Client Authentication.
func (a *Authenticator) checkCertificate(ctx context.Context, p Presented) (Presented, error) {
	if err := a.knows(ctx, p); err != nil {
		return Presented{}, errClient(oauth.ReasonCertificate, err)
	}
	p.expires = p.creds.Certificate.Leaf.NotAfter
	return p, nil
}

func (a *Authenticator) knows(ctx context.Context, p Presented) error {
	cert, want, now := p.creds.Certificate, p.known.credential(), a.cfg.Now()
	switch p.method {
	case oauth.AuthTLS:
		if err := cert.verify(a.cfg.clientAuthorities(), now); err != nil {
			return err
		}
		if !want.names(cert.Leaf) {
			return errors.New("the certificate is for another subject")
		}
		return nil
	case oauth.AuthSelfSigned:
		if err := cert.inForce(now); err != nil {
			return err
		}
		if !p.known.keys.HasKey(cert.Leaf.PublicKey) {
			return errors.New("the key of the certificate is none of the client's")
		}
		return nil
	default:
		return a.knowsSVID(ctx, cert, want.SPIFFE)
	}
}

func (a *Authenticator) knowsSVID(ctx context.Context, cert *Certificate, want string) error {
	id, err := cert.spiffeID()
	if err != nil {
		return err
	}
	domain, ok := a.domains[id.TrustDomain]
	if !ok || domain.Authorities == nil {
		return fmt.Errorf("the trust domain %q is not configured", id.TrustDomain)
	}
	list, err := domain.Authorities(ctx)
	if err != nil {
		return err
	}
	authorities := x509.NewCertPool()
	for _, cert := range list {
		authorities.AddCert(cert)
	}
	if err := cert.verify(authorities, a.cfg.Now()); err != nil {
		return err
	}
	if id.String() != want {
		return errors.New("the X.509-SVID is of another workload")
	}
	return nil
}

// clientAuthorities are those of tls_client_auth; nil: none.
func (c AuthenticatorConfig) clientAuthorities() *x509.CertPool {
	if c.ClientAuthorities == nil {
		return nil
	}
	return c.ClientAuthorities()
}
