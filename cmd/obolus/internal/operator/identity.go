package operator

import (
	"io"
	"maps"
	"slices"
	"strings"

	"obolus/agents"
	"obolus/oauth"
)

// identity is who a client is by the word of somebody else: a SPIFFE trust domain, the platform it runs on, an authority of certificates.
type identity struct {
	SPIFFEID        string            `group:"Credential" help:"The SPIFFE ID of its workload, which it proves by JWT-SVIDs, or with --auth spiffe_x509 by X.509 ones." name:"spiffe-id" placeholder:"URI" xor:"credential"`
	WorkloadIssuer  string            `group:"Credential" help:"The platform whose tokens prove it." placeholder:"URL" xor:"credential"`
	WorkloadSubject string            `group:"Credential" help:"The sub of those tokens." placeholder:"SUB"`
	WorkloadClaim   map[string]string `group:"Credential" help:"A claim of those tokens and its value; again for each." mapsep:"none" placeholder:"NAME=VALUE"`
	CertificateFor  string            `group:"Credential" help:"Whom its certificate is for: dn:…, dns:…, uri:…, ip:… or email:…" placeholder:"KIND:NAME" xor:"credential"`
	CertificateOnly *bool             `group:"Credential" help:"Bind its tokens to the certificate of its connection." name:"certificate-bound" negatable:""`
}

// apply puts the identity into a registration, and says whether there was one.
func (i *identity) apply(into *agents.Credential, auth string) (bool, error) {
	set(&into.CertificateBound, i.CertificateOnly)
	c := agents.Credential{DPoP: into.DPoP, CertificateBound: into.CertificateBound}
	switch {
	case i.SPIFFEID != "":
		c.Auth, c.SPIFFE = oauth.AuthSPIFFEJWT, i.SPIFFEID
		if auth == string(oauth.AuthSPIFFEX509) {
			c.Auth = oauth.AuthSPIFFEX509
		}
	case i.WorkloadIssuer != "":
		c.Auth = oauth.AuthFederated
		c.Federated = &agents.Federated{Issuer: i.WorkloadIssuer, Subject: i.WorkloadSubject, Claims: i.WorkloadClaim}
	case i.WorkloadSubject != "" || len(i.WorkloadClaim) > 0:
		return false, usage("say whose tokens have that subject or claim: --workload-issuer")
	case i.CertificateFor != "":
		subject, err := certificateSubject(i.CertificateFor)
		if err != nil {
			return false, err
		}
		c.Auth, c.CertificateSubject = oauth.AuthTLS, subject
	default:
		return false, nil
	}
	if auth != "" && auth != string(c.Auth) {
		return false, usage("who authenticates by %s is not known by that", auth)
	}
	*into = c
	return true, nil
}

func certificateSubject(s string) (agents.CertificateSubject, error) {
	kind, name, _ := strings.Cut(s, ":")
	var subject agents.CertificateSubject
	into, ok := map[string]*string{"dn": &subject.DN, "dns": &subject.DNS, "uri": &subject.URI, "ip": &subject.IP, "email": &subject.Email}[kind]
	if !ok || name == "" {
		return subject, usage("%q is none of dn:NAME, dns:NAME, uri:URI, ip:ADDRESS and email:ADDRESS", s)
	}
	*into = name
	return subject, nil
}

func printIdentity(w io.Writer, c agents.Credential) {
	pair(w, "SPIFFE ID", c.SPIFFE)
	if f := c.Federated; f != nil {
		row(w, "workload of", f.Issuer)
		pair(w, "subject", f.Subject)
		for _, name := range slices.Sorted(maps.Keys(f.Claims)) {
			row(w, "claim "+name, f.Claims[name])
		}
	}
	for _, s := range []struct{ kind, name string }{{"dn:", c.DN}, {"dns:", c.DNS}, {"uri:", c.URI}, {"ip:", c.IP}, {"email:", c.Email}} {
		if s.name != "" {
			row(w, "certificate for", s.kind+s.name)
		}
	}
	pair(w, "bound to its certificate", c.CertificateBound)
}
