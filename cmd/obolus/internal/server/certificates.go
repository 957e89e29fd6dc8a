package server

import (
	"context"
	"net/http"

	"obolus/agents"
	"obolus/cmd/obolus/internal/certheader"
	"obolus/cmd/obolus/internal/config"
)

// certificates says how the server learns of the certificate of a client: from the handshake, and from a header of a trusted proxy. The
// header of anybody else is taken out before a route sees it.
type certificates struct {
	direct bool
	header string // canonical; empty: none
}

func certificatesOf(cfg config.Config) certificates {
	return certificates{direct: cfg.TLS.ClientCertificates, header: http.CanonicalHeaderKey(cfg.TLS.CertificateHeader)}
}

func (c certificates) any() bool { return c.direct || c.header != "" }

// told is what was learnt of a client's certificate.
type told struct {
	cert *agents.Certificate
	err  error
}

type toldKey struct{}

// note puts the certificate of the client into the context of the request. Behind a proxy the certificate of the connection is the proxy's
// own, so that there only the header counts.
func (c certificates) note(r *http.Request, fromProxy func(*http.Request) bool) *http.Request {
	var found told
	switch {
	case c.header != "" && fromProxy(r):
		found.cert, found.err = c.forwarded(r.Header)
	case c.direct && r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		found.cert = &agents.Certificate{Leaf: r.TLS.PeerCertificates[0], Chain: r.TLS.PeerCertificates[1:]}
	}
	if c.header != "" {
		r.Header.Del(c.header)
		r.Header.Del(certheader.Chain)
	}
	if found == (told{}) {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), toldKey{}, found))
}

// of is for the endpoints.
func (certificates) of(r *http.Request) (*agents.Certificate, error) {
	found, _ := r.Context().Value(toldKey{}).(told)
	return found.cert, found.err
}

// forwarded reads the header of a proxy; nil: its client showed no certificate.
func (c certificates) forwarded(h http.Header) (*agents.Certificate, error) {
	chain, err := certheader.Read(c.header, h)
	if err != nil || len(chain) == 0 {
		return nil, err
	}
	return &agents.Certificate{Leaf: chain[0], Chain: chain[1:]}, nil
}
