package endpoint

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"obolus/agents"
	"obolus/oauth"
	"obolus/token"
)

// workload is a client that shows the identity of its workload. client_id names it; without one, the SPIFFE ID does.
func (s *Server) workload(f form, way oauth.AuthMethod, named, assertion string) (agents.Credentials, error) {
	if id := f.get("client_id"); id != "" {
		named = id
	}
	if named == "" && way == oauth.AuthFederated {
		return agents.Credentials{}, missing("client_id")
	}
	return agents.Credentials{Method: way, ClientID: named, Assertion: assertion}, nil
}

// beside adds to the credentials what the request proves beside them: the certificate of the connection, and, where the credential can be shown
// more than once, the key of a DPoP proof.
func (s *Server) beside(r *http.Request, creds agents.Credentials) (agents.Credentials, error) {
	var err error
	if creds.Certificate, err = s.certificate(r); err != nil {
		return creds, oauth.Conceal(oauth.InvalidClient, oauth.ReasonCertificate, "client authentication failed", err)
	}
	if creds.Method == oauth.AuthSPIFFEJWT || creds.Method == oauth.AuthFederated {
		creds.Proof, err = s.verifyProof(r, s.path(r))
	}
	return creds, err
}

// certificate is that of the client; nil: it showed none.
func (s *Server) certificate(r *http.Request) (*agents.Certificate, error) {
	if s.cfg.Certificate == nil {
		return nil, nil //nolint:nilnil // most clients have none
	}
	return s.cfg.Certificate(r)
}

// path is the endpoint that is called.
func (s *Server) path(r *http.Request) string { return strings.TrimPrefix(r.URL.EscapedPath(), s.base) }

// spendBeside spends the proof beside a credential, except where what is asked binds a token to it and spends it with that.
func (s *Server) spendBeside(r *http.Request, f form, p agents.Presented) error {
	proof, at := p.Proof(), s.path(r)
	binds := at == pathPush || at == pathToken && f.get("requested_token_type") != string(oauth.TypeTxnToken)
	if proof == nil || binds {
		return nil
	}
	out, err := s.apply(r.Context(), once("proof", proof))
	if err == nil {
		err = s.spent(proof, out)
	}
	if err != nil {
		return s.failed(r, agents.Credentials{ClientID: p.ClientID()}, err)
	}
	return nil
}

// proof is the DPoP proof of the request, at which authentication may have looked.
func (t *tokenRequest) proof() (*token.Proof, error) {
	p := t.who.Proof()
	if p == nil {
		return t.s.proof(t.w, t.r, pathToken)
	}
	t.s.announce(t.w, p)
	return p, nil
}

// bind says by which certificate a token of the code grant is bound: RFC 8705 section 3.4. It is where the registration says so, and where the
// client's credential could be shown again and no proof came with it.
func bind(who agents.Authenticated, client agents.Client, proof *token.Proof) (string, error) {
	x5t := who.Certificate()
	switch {
	case client.CertificateBound && x5t == "":
		return "", oauth.Refuse(oauth.InvalidRequest, oauth.ReasonCertificate, "the client is registered for tokens bound to its certificate, and showed none")
	case client.CertificateBound, proof == nil && who.Bound():
		return x5t, nil
	default:
		return "", nil
	}
}

// aliases are the endpoints for clients with a certificate: RFC 8705 section 5.
type aliases struct {
	Token         string `json:"token_endpoint"`
	Push          string `json:"pushed_authorization_request_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	Redemption    string `json:"redemption_endpoint"`
	Transaction   string `json:"transaction_endpoint"`
}

// aliases gives them; nil: they are the endpoints of everybody.
func (s *Server) aliases() *aliases {
	at := s.cfg.Settings.CertificateURL
	if at == "" || s.cfg.Certificate == nil {
		return nil
	}
	return &aliases{
		Token: at + pathToken, Push: at + pathPush, Introspection: at + pathIntrospect, Revocation: at + pathRevoke,
		Redemption: at + pathRedeem, Transaction: at + pathTxn,
	}
}

// methods are the ways to authenticate that work.
func (s *Server) methods() []oauth.AuthMethod {
	return slices.DeleteFunc(s.cfg.Clients.Methods(), func(m oauth.AuthMethod) bool { return m.ByCertificate() && s.cfg.Certificate == nil })
}

// target is the address by which the client has called this server, as far as DPoP proofs name it: the issuer's, or that for
// clients with a certificate.
func (s *Server) target(r *http.Request) string {
	alias := s.cfg.Settings.CertificateURL
	if alias == "" {
		return s.cfg.Issuer
	}
	if u, err := url.Parse(alias); err == nil && strings.EqualFold(u.Host, r.Host) {
		return alias
	}
	return s.cfg.Issuer
}
