package resource

import (
	"crypto/subtle"
	"crypto/x509"
	"net/http"

	"obolus/token"
)

// certified is a part of step 2: RFC 8705 section 3. A token that is bound to a certificate comes over a connection with that certificate.
// Who issued the certificate, and whether it is still in force, makes no difference: it stands for its key.
func (g *Guard) certified(r *http.Request, c *Caller) error {
	if c.x5t == "" {
		return nil
	}
	cert := g.cfg.Certificate(r)
	if cert == nil {
		return invalidToken("the token is bound to a certificate, and none was shown", nil)
	}
	if subtle.ConstantTimeCompare([]byte(token.CertificateThumbprint(cert)), []byte(c.x5t)) != 1 {
		return invalidToken("the token is bound to another certificate", nil)
	}
	return nil
}

// peerCertificate is the one whose key the client has proved to have in the handshake.
func peerCertificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}
