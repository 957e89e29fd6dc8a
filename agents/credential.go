package agents

import (
	"crypto/x509"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"obolus/oauth"
	"obolus/token"
)

// CertificateSubject names the subject of a client's certificate by exactly one member: RFC 8705 section 2.1.2.
type CertificateSubject struct {
	DN    string `json:"tls_client_auth_subject_dn,omitempty"` // as RFC 4514 writes it
	DNS   string `json:"tls_client_auth_san_dns,omitempty"`
	URI   string `json:"tls_client_auth_san_uri,omitempty"`
	IP    string `json:"tls_client_auth_san_ip,omitempty"`
	Email string `json:"tls_client_auth_san_email,omitempty"`
}

func (s CertificateSubject) check(id string) error {
	named := 0
	for _, v := range []string{s.DN, s.DNS, s.URI, s.IP, s.Email} {
		if v != "" {
			named++
		}
	}
	if named != 1 {
		return invalid("%q authenticates by tls_client_auth and names %d subjects of its certificate, not one", id, named)
	}
	if _, err := netip.ParseAddr(s.IP); s.IP != "" && err != nil {
		return invalid("%q: tls_client_auth_san_ip %q is no address", id, s.IP)
	}
	if _, err := parseDN(s.DN); s.DN != "" && err != nil {
		return invalid("%q: tls_client_auth_subject_dn %q is %v", id, s.DN, err)
	}
	if strings.Contains(s.DNS, "*") {
		return invalid("%q: tls_client_auth_san_dns %q is a pattern; it is compared as it is", id, s.DNS)
	}
	return nil
}

// names says whether a certificate is for the subject. A name of the kind that is registered may stand among others of that kind.
func (s CertificateSubject) names(c *x509.Certificate) bool {
	switch {
	case s.DN != "":
		want, err := parseDN(s.DN)
		return err == nil && want.equal(subjectOf(c))
	case s.DNS != "":
		return slices.ContainsFunc(c.DNSNames, func(name string) bool { return strings.EqualFold(name, s.DNS) })
	case s.URI != "":
		return slices.Contains(urisOf(c), s.URI)
	case s.IP != "":
		want, err := netip.ParseAddr(s.IP)
		return err == nil && slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool {
			got, ok := netip.AddrFromSlice(ip)
			return ok && got.Unmap() == want.Unmap()
		})
	default:
		return s.Email != "" && slices.Contains(c.EmailAddresses, s.Email)
	}
}

// Federated is the identity that a platform gives to its workloads: every token of the issuer with this subject and these claims is one of
// the agent's.
type Federated struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject,omitempty"`
	// Claims are further claims and the values they must have; a name that begins with a slash is a path into nested ones (RFC 6901).
	Claims map[string]string `json:"claims,omitempty"`
}

func (f *Federated) check(id string) error {
	switch {
	case f == nil || f.Issuer == "":
		return invalid("%q authenticates by federated_jwt and names no issuer", id)
	case f.Subject == "" && len(f.Claims) == 0:
		return invalid("%q: every workload of %s would be this one; name a subject or claims", id, f.Issuer)
	}
	for name, value := range f.Claims {
		if name == "" || value == "" || slices.Contains(token.Pointer(name), "") {
			return invalid("%q: federated: claim %q: a name and a value are needed", id, name)
		}
		if slices.Contains([]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}, name) {
			return invalid("%q: federated: %s is looked at anyway", id, name)
		}
	}
	return nil
}

// is says whether a verified token of the issuer is one of the agent's.
func (f *Federated) is(w token.Workload) bool {
	if f == nil || w.Claims.Issuer != f.Issuer || f.Subject != "" && w.Claims.Subject != f.Subject {
		return false
	}
	for name, value := range f.Claims {
		if !w.Says(name, value) {
			return false
		}
	}
	return f.Subject != "" || len(f.Claims) > 0
}

// Identity is all by which a client is known, in one line that is the same for the same. Keys, secrets and everything that could be
// changed to let somebody else be this client are in it.
func (c Credential) Identity() string {
	id := string(c.Auth) + "\n" + strconv.Quote(string(c.JWKS)) + "\n" + c.JWKSURI + "\n" + c.SecretHash
	if c.CertificateSubject == (CertificateSubject{}) && c.SPIFFE == "" && c.Federated == nil {
		return id
	}
	parts := []string{id}
	for _, more := range []string{c.DN, c.DNS, c.URI, c.IP, c.Email, c.SPIFFE} {
		parts = append(parts, strconv.Quote(more))
	}
	if f := c.Federated; f != nil {
		parts = append(parts, strconv.Quote(f.Issuer)+" "+strconv.Quote(f.Subject))
		for _, name := range slices.Sorted(maps.Keys(f.Claims)) {
			parts = append(parts, strconv.Quote(name)+"="+strconv.Quote(f.Claims[name]))
		}
	}
	return strings.Join(parts, "\n")
}

// Fingerprint names what a user trusts an agent by: all by which it proves who it is, its owner and its operator. When one of them changes
// users are asked anew. Keys that it publishes at a jwks_uri, or that its platform signs by, change without that.
func (a Agent) Fingerprint() string {
	return token.Hash(strings.Join([]string{a.Identity(), strconv.Quote(a.Owner), strconv.Quote(a.Operator)}, "\n"))
}

// Check holds the credential of a client to what its way to authenticate needs, and to nothing of another way: a client is known by one
// thing. The error is ErrInvalid.
func (c Credential) Check(id string) error {
	if err := c.checkWay(id); err != nil {
		return err
	}
	for _, foreign := range []struct {
		what string
		set  bool
		of   []oauth.AuthMethod
	}{
		{"spiffe_id", c.SPIFFE != "", []oauth.AuthMethod{oauth.AuthSPIFFEJWT, oauth.AuthSPIFFEX509}},
		{"federated", c.Federated != nil, []oauth.AuthMethod{oauth.AuthFederated}},
		{"tls_client_auth_…", c.CertificateSubject != CertificateSubject{}, []oauth.AuthMethod{oauth.AuthTLS}},
	} {
		if foreign.set && !slices.Contains(foreign.of, c.Auth) {
			return invalid("%q authenticates by %s, to which %s does not belong", id, c.Auth, foreign.what)
		}
	}
	if strings.HasPrefix(id, "spiffe://") && c.SPIFFE != id {
		return invalid("%q is the SPIFFE ID of somebody else than spiffe_id says", id)
	}
	if len(c.JWKS) == 0 {
		return nil
	}
	if _, err := token.ParseJWKS(c.JWKS); err != nil {
		return invalid("%q: jwks: %v", id, err)
	}
	return nil
}

func (c Credential) checkWay(id string) error {
	switch c.Auth {
	case oauth.AuthPrivateKeyJWT:
		if (len(c.JWKS) == 0) == (c.JWKSURI == "") {
			return invalid("%q authenticates by private_key_jwt and needs either jwks or jwks_uri", id)
		}
	case oauth.AuthSecretBasic, oauth.AuthSecretPost:
		if c.SecretHash == "" {
			return invalid("%q authenticates by a secret and has none", id)
		}
	case oauth.AuthNone:
	case oauth.AuthTLS:
		return c.CertificateSubject.check(id) //nolint:staticcheck // of the subject, not of the whole
	case oauth.AuthSelfSigned:
		if len(c.JWKS) == 0 || c.JWKSURI != "" {
			return invalid("%q authenticates by self_signed_tls_client_auth and needs the key of its certificate in jwks", id)
		}
	case oauth.AuthSPIFFEJWT, oauth.AuthSPIFFEX509:
		if _, err := token.ParseSPIFFEID(c.SPIFFE); err != nil {
			return invalid("%q authenticates by an SVID, and spiffe_id %q is not the SPIFFE ID of a workload", id, c.SPIFFE)
		}
	case oauth.AuthFederated:
		return c.Federated.check(id)
	default:
		return invalid("%q: auth %q is none of %s", id, c.Auth, strings.Join(AuthMethods(), ", "))
	}
	return nil
}

// AuthMethods are the ways to authenticate that can be registered.
func AuthMethods() []string {
	return []string{
		string(oauth.AuthPrivateKeyJWT), string(oauth.AuthSPIFFEJWT), string(oauth.AuthSPIFFEX509), string(oauth.AuthFederated),
		string(oauth.AuthTLS), string(oauth.AuthSelfSigned), string(oauth.AuthSecretBasic), string(oauth.AuthSecretPost), string(oauth.AuthNone),
	}
}
