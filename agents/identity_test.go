package agents_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/token"
)

const (
	cluster = "https://cluster.test"
	svid    = "spiffe://example.org/mailer"
)

// platform is a world in which workloads have identities: by a cluster that signs RS256, and by SPIFFE trust domains.
type platform struct {
	*world.World
	ca, evil, spire *world.Authority
	clusterKey      *token.SigningKey
	spireKey        *token.SigningKey
	evilKey         *token.SigningKey // of the trust domain evil.org
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{World: world.New(t), clusterKey: rsaKey(t), spireKey: world.Key(t), evilKey: world.Key(t)}
	p.ca, p.evil, p.spire = world.NewAuthority(t, p.Now), world.NewAuthority(t, p.Now), world.NewAuthority(t, p.Now)
	roots := x509.NewCertPool()
	roots.AddCert(p.ca.Cert)
	p.Identify = func(c *agents.AuthenticatorConfig) {
		c.ClientAuthorities = func() *x509.CertPool { return roots }
		c.TrustDomains = []agents.TrustDomain{
			{ID: "example.org", Keys: token.NewPublicSet(p.spireKey.Public()), Authorities: only(p.spire.Cert)},
			{ID: "evil.org", Keys: token.NewPublicSet(p.evilKey.Public()), Authorities: only(p.evil.Cert)},
		}
		c.Workloads = []agents.WorkloadIssuer{{Issuer: cluster, Keys: token.NewPublicSet(p.clusterKey.Public()), Algorithms: []string{token.RS256}}}
	}
	p.Start()
	p.Populate()
	p.workload("mailer", agents.Credential{Auth: oauth.AuthSPIFFEJWT, SPIFFE: svid})
	p.workload("pod", agents.Credential{Auth: oauth.AuthFederated, Federated: &agents.Federated{
		Issuer: cluster, Subject: "system:serviceaccount:mail:mailer", Claims: map[string]string{"/kubernetes.io/namespace": "mail"},
	}})
	return p
}

func only(c *x509.Certificate) func(context.Context) ([]*x509.Certificate, error) {
	return func(context.Context) ([]*x509.Certificate, error) { return []*x509.Certificate{c}, nil }
}

func rsaKey(t *testing.T) *token.SigningKey {
	t.Helper()
	key, err := token.GenerateKey(token.RS256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// workload registers an agent that is known by a credential.
func (p *platform) workload(id string, c agents.Credential) {
	p.Agent(id, func(a *agents.Agent) { a.Credential = c })
}

type claims map[string]any

func (c claims) but(name string, value any) claims {
	c = maps.Clone(c)
	if value == nil {
		delete(c, name)
	} else {
		c[name] = value
	}
	return c
}

func sign(t *testing.T, key *token.SigningKey, c claims) string {
	t.Helper()
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := token.NewIssuer("").SignAs("JWT", payload, key)
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func (p *platform) svid() claims {
	return claims{"sub": svid, "aud": world.Issuer, "iat": p.Now().Unix(), "exp": p.Now().Unix() + 300}
}

func (p *platform) pod() claims {
	return claims{
		"iss": cluster, "sub": "system:serviceaccount:mail:mailer", "aud": []string{world.Issuer}, "iat": p.Now().Unix(), "exp": p.Now().Unix() + 3600,
		"jti": rand.Text(), "kubernetes.io": map[string]any{"namespace": "mail"},
	}
}

var someProof = &token.Proof{JKT: "key", ID: "proof"}

func shown(c tls.Certificate) *agents.Certificate { return &agents.Certificate{Leaf: c.Leaf} }

// knows authenticates, and says which code refused it.
func (p *platform) knows(t *testing.T, c agents.Credentials) (agents.Authenticated, oauth.Code) {
	t.Helper()
	presented, err := p.Clients.Present(t.Context(), c)
	if err == nil {
		var who agents.Authenticated
		if who, err = p.Clients.Settle(t.Context(), presented); err == nil {
			return who, ""
		}
	}
	return agents.Authenticated{}, oauth.AsError(err).Code
}

func TestWhatIsNoIdentity(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	jwks, err := token.NewPublicSet(world.Key(t).Public()).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]agents.Credential{
		"no SPIFFE ID":                    {Auth: oauth.AuthSPIFFEJWT},
		"a trust domain alone":            {Auth: oauth.AuthSPIFFEJWT, SPIFFE: "spiffe://example.org"},
		"no URI":                          {Auth: oauth.AuthSPIFFEX509, SPIFFE: "mailer"},
		"a SPIFFE ID beside a key":        {Auth: oauth.AuthPrivateKeyJWT, JWKS: jwks, SPIFFE: "spiffe://example.org/x"},
		"no platform":                     {Auth: oauth.AuthFederated},
		"a platform without issuer":       {Auth: oauth.AuthFederated, Federated: &agents.Federated{Subject: "x"}},
		"everybody on the platform":       {Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: cluster}},
		"a claim without a value":         {Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: cluster, Claims: map[string]string{"ref": ""}}},
		"a claim without a name":          {Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: cluster, Claims: map[string]string{"": "x"}}},
		"a path into nothing":             {Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: cluster, Claims: map[string]string{"/a//b": "x"}}},
		"the audience as a claim":         {Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: cluster, Claims: map[string]string{"aud": "x"}}},
		"a platform beside a key":         {Auth: oauth.AuthPrivateKeyJWT, JWKS: jwks, Federated: &agents.Federated{Issuer: cluster, Subject: "x"}},
		"no subject of the certificate":   {Auth: oauth.AuthTLS},
		"two subjects of the certificate": {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DNS: "a.test", URI: "https://a.test"}},
		"a pattern":                       {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DNS: "*.test"}},
		"a name that is none":             {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DN: "mailer"}},
		"an address that is none":         {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{IP: "localhost"}},
		"a subject beside a key":          {Auth: oauth.AuthPrivateKeyJWT, JWKS: jwks, CertificateSubject: agents.CertificateSubject{DNS: "a.test"}},
		"self-signed without a key":       {Auth: oauth.AuthSelfSigned},
		"self-signed with keys elsewhere": {Auth: oauth.AuthSelfSigned, JWKSURI: "https://a.test/jwks"},
		"an unknown way":                  {Auth: "trust_me"},
	} {
		a := agents.Agent{ID: "x", Name: "X", State: agents.Active, Credential: c}
		if _, err := p.Registry.PutAgent(t.Context(), a, 0); !errors.Is(err, agents.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := agents.Agent{ID: "spiffe://example.org/a", Name: "X", State: agents.Active, Credential: agents.Credential{Auth: oauth.AuthSPIFFEJWT, SPIFFE: "spiffe://example.org/b"}}
	if _, err := p.Registry.PutAgent(t.Context(), a, 0); !errors.Is(err, agents.ErrInvalid) {
		t.Errorf("an id that is the SPIFFE ID of another workload: %v", err)
	}
}

// WL-01, WL-02, WL-04.
func TestJWTSVID(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.Agent("keyed", nil)
	p.workload("other", agents.Credential{Auth: oauth.AuthSPIFFEJWT, SPIFFE: "spiffe://example.org/other"})
	p.workload("x509", agents.Credential{Auth: oauth.AuthSPIFFEX509, SPIFFE: "spiffe://example.org/x509"})
	p.workload("nowhere", agents.Credential{Auth: oauth.AuthSPIFFEJWT, SPIFFE: "spiffe://unknown.org/x"})
	good := agents.Credentials{Method: oauth.AuthSPIFFEJWT, ClientID: "mailer", Assertion: sign(t, p.spireKey, p.svid()), Proof: someProof}
	for range 2 { // it is shown again with the next proof
		who, code := p.knows(t, good)
		if code != "" || who.ID() != "mailer" || !who.Bound() || who.Public() || who.Expires().Unix() != p.Now().Unix()+300 {
			t.Fatalf("%s: %+v", code, who)
		}
	}
	for name, c := range map[string]struct {
		change func(*agents.Credentials)
		want   oauth.Code
	}{
		"by its SPIFFE ID":            {func(c *agents.Credentials) { c.ClientID = svid }, ""},
		"with a certificate in place": {func(c *agents.Credentials) { c.Proof, c.Certificate = nil, shown(p.spire.SVID(svid)) }, ""},
		"without a proof":             {func(c *agents.Credentials) { c.Proof = nil }, oauth.InvalidDPoPProof},
		"of another workload":         {func(c *agents.Credentials) { c.ClientID = "other" }, oauth.InvalidClient},
		"for an agent with a key":     {func(c *agents.Credentials) { c.ClientID = "keyed" }, oauth.InvalidClient},
		"for an unknown agent":        {func(c *agents.Credentials) { c.ClientID = "nobody" }, oauth.InvalidClient},
		"for an unknown SPIFFE ID":    {func(c *agents.Credentials) { c.ClientID = "spiffe://example.org/nobody" }, oauth.InvalidClient},
		"of an unknown trust domain":  {func(c *agents.Credentials) { c.ClientID = "nowhere" }, oauth.InvalidClient},
		"as an assertion of its own":  {func(c *agents.Credentials) { c.Method = oauth.AuthPrivateKeyJWT }, oauth.InvalidClient},
		"as the token of a platform":  {func(c *agents.Credentials) { c.Method = oauth.AuthFederated }, oauth.InvalidClient},
		"unsigned":                    {func(c *agents.Credentials) { c.Assertion = c.Assertion[:strings.LastIndexByte(c.Assertion, '.')+1] }, oauth.InvalidClient},
		"an agent that shows X.509 ones": {func(c *agents.Credentials) {
			c.ClientID, c.Assertion = "x509", sign(t, p.spireKey, p.svid().but("sub", "spiffe://example.org/x509"))
		}, oauth.InvalidClient},
	} {
		creds := good
		c.change(&creds)
		if _, code := p.knows(t, creds); code != c.want {
			t.Errorf("%s: %q, want %q", name, code, c.want)
		}
	}
	for name, compact := range map[string]string{
		"signed by another trust domain":          sign(t, p.evilKey, p.svid()),
		"of another trust domain, by its own key": sign(t, p.evilKey, p.svid().but("sub", "spiffe://evil.org/mailer")),
		"of another trust domain, by ours":        sign(t, p.spireKey, p.svid().but("sub", "spiffe://evil.org/mailer")),
		"of an unknown trust domain":              sign(t, p.spireKey, p.svid().but("sub", "spiffe://unknown.org/mailer")),
		"of no workload":                          sign(t, p.spireKey, p.svid().but("sub", "mailer")),
		"for the token endpoint":                  sign(t, p.spireKey, p.svid().but("aud", world.Issuer+"/token")),
		"for two":                                 sign(t, p.spireKey, p.svid().but("aud", []string{world.Issuer, "https://x.test"})),
		"without an end":                          sign(t, p.spireKey, p.svid().but("exp", nil)),
		"over":                                    sign(t, p.spireKey, p.svid().but("exp", p.Now().Unix()-1)),
		"that is no token":                        "x",
	} {
		creds := good
		creds.Assertion = compact
		if _, code := p.knows(t, creds); code != oauth.InvalidClient {
			t.Errorf("an SVID %s: %q", name, code)
		}
	}
}

// A SPIFFE ID is that of one agent, and moves with the registration.
func TestASPIFFEIDIsOfOneAgent(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	creds := agents.Credentials{Method: oauth.AuthSPIFFEJWT, ClientID: svid, Assertion: sign(t, p.spireKey, p.svid()), Proof: someProof}
	if who, code := p.knows(t, creds); code != "" || who.ID() != "mailer" {
		t.Fatal(code, who.ID())
	}
	again := agents.Agent{ID: "again", Name: "Again", State: agents.Active, Credential: agents.Credential{Auth: oauth.AuthSPIFFEX509, SPIFFE: svid}}
	if _, err := p.Registry.PutAgent(t.Context(), again, 0); !errors.Is(err, agents.ErrTaken) {
		t.Errorf("a second agent with the SPIFFE ID: %v", err)
	}
	client := agents.Client{ID: "server", Name: "Server", Credential: again.Credential}
	if _, err := p.Registry.PutClient(t.Context(), client, 0); !errors.Is(err, agents.ErrTaken) {
		t.Errorf("a client with the SPIFFE ID of an agent: %v", err)
	}
	p.workload("mailer", agents.Credential{Auth: oauth.AuthSPIFFEJWT, SPIFFE: "spiffe://example.org/moved"})
	client.Auth = oauth.AuthSPIFFEJWT
	if _, err := p.Registry.PutClient(t.Context(), client, 0); err != nil {
		t.Fatal(err)
	}
	who, code := p.knows(t, creds)
	if code == oauth.InvalidClient { // the process had a guess; the next request knows better
		who, code = p.knows(t, creds)
	}
	if code != "" || who.ID() != "server" {
		t.Errorf("after it moved: %q %q", code, who.ID())
	}
	p.Records.Down.Store(true)
	p.Engine.Down.Store(true)
	creds.ClientID = "spiffe://example.org/unseen"
	if _, code := p.knows(t, creds); code != oauth.TemporarilyUnavailable {
		t.Errorf("with the stores down: %q", code)
	}
}

func TestTokenOfAPlatform(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.workload("job", agents.Credential{Auth: oauth.AuthFederated, Federated: &agents.Federated{
		Issuer: cluster, Claims: map[string]string{"repository": "acme/mail", "ref_protected": "true"},
	}})
	p.workload("elsewhere", agents.Credential{Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: "https://other.test", Subject: "system:serviceaccount:mail:mailer"}})
	creds := func(id string, c claims) agents.Credentials {
		return agents.Credentials{Method: oauth.AuthFederated, ClientID: id, Assertion: sign(t, p.clusterKey, c)}
	}
	once := creds("pod", p.pod())
	if who, code := p.knows(t, once); code != "" || who.ID() != "pod" || who.Bound() {
		t.Fatalf("%q %+v", code, who)
	}
	if _, code := p.knows(t, once); code != oauth.InvalidClient {
		t.Errorf("a second time without a proof: %q", code)
	}
	again := creds("pod", p.pod())
	again.Proof = someProof
	for range 2 {
		if who, code := p.knows(t, again); code != "" || !who.Bound() {
			t.Errorf("with a proof each time: %q %+v", code, who)
		}
	}
	job := p.pod().but("repository", "acme/mail").but("ref_protected", true)
	for name, c := range map[string]struct {
		creds agents.Credentials
		want  oauth.Code
	}{
		"its claims":                   {creds("job", job), ""},
		"another repository":           {creds("job", job.but("repository", "acme/mail2").but("jti", "2")), oauth.InvalidClient},
		"a repository that is missing": {creds("job", job.but("repository", nil).but("jti", "3")), oauth.InvalidClient},
		"an unprotected branch":        {creds("job", job.but("ref_protected", false).but("jti", "4")), oauth.InvalidClient},
		"without a jti":                {creds("pod", p.pod().but("jti", nil)), oauth.InvalidDPoPProof},
		"without a date":               {creds("pod", p.pod().but("iat", nil)), oauth.InvalidDPoPProof},
		"of another account":           {creds("pod", p.pod().but("sub", "system:serviceaccount:mail:other")), oauth.InvalidClient},
		"of another namespace":         {creds("pod", p.pod().but("kubernetes.io", map[string]any{"namespace": "evil"})), oauth.InvalidClient},
		"with a claim of that name":    {creds("pod", p.pod().but("kubernetes.io", nil).but("/kubernetes.io/namespace", "mail")), oauth.InvalidClient},
		"for another audience":         {creds("pod", p.pod().but("aud", "https://kubernetes.default.svc")), oauth.InvalidClient},
		"for two audiences":            {creds("pod", p.pod().but("aud", []string{world.Issuer, "https://kubernetes.default.svc"})), oauth.InvalidClient},
		"over":                         {creds("pod", p.pod().but("exp", p.Now().Unix())), oauth.InvalidClient},
		"for a year":                   {creds("pod", p.pod().but("exp", p.Now().Unix()+365*24*3600)), oauth.InvalidClient},
		"of an agent elsewhere":        {creds("elsewhere", p.pod()), oauth.InvalidClient},
		"of an unknown issuer":         {creds("pod", p.pod().but("iss", "https://evil.test")), oauth.InvalidClient},
		"for an unknown agent":         {creds("nobody", p.pod()), oauth.InvalidClient},
		"for an agent with an SVID":    {creds("mailer", p.pod()), oauth.InvalidClient},
	} {
		if _, code := p.knows(t, c.creds); code != c.want {
			t.Errorf("%s: %q, want %q", name, code, c.want)
		}
	}
	for name, key := range map[string]*token.SigningKey{"another key": rsaKey(t), "another algorithm": p.spireKey} {
		forged := creds("pod", p.pod())
		forged.Assertion = sign(t, key, p.pod())
		if _, code := p.knows(t, forged); code != oauth.InvalidClient {
			t.Errorf("signed by %s: %q", name, code)
		}
	}
	old := creds("pod", p.pod())
	p.Pass(time.Second)
	p.Restart() // what was spent before is forgotten
	if _, code := p.knows(t, old); code != oauth.InvalidClient {
		t.Errorf("a token from before the epoch: %q", code)
	}
	old.Proof = someProof
	if _, code := p.knows(t, old); code != "" {
		t.Errorf("with a proof it does not matter: %q", code)
	}
}

func TestATokenOfAPlatformIsSpentOnceByMany(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	creds := agents.Credentials{Method: oauth.AuthFederated, ClientID: "pod", Assertion: sign(t, p.clusterKey, p.pod())}
	const n = 20
	codes := make(chan oauth.Code, n)
	for range n {
		go func() { _, code := p.knows(t, creds); codes <- code }()
	}
	first := 0
	for range n {
		if code := <-codes; code == "" {
			first++
		} else if code != oauth.InvalidClient {
			t.Error(code)
		}
	}
	if first != 1 {
		t.Errorf("%d of %d got in", first, n)
	}
}

// ML-01, WL-03.
func TestCertificates(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	self := world.NewAuthority(t, p.Now)
	key, err := token.NewPublicSet(keyOf(t, self.Cert)).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	for id, c := range map[string]agents.Credential{
		"by-dn":    {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DN: `CN=mailer,OU=Agents+OU=Mail,O=Acme\, Inc.`}},
		"by-long":  {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DN: `DC=x, emailAddress=a@b.c, CN=mailer \C3\BC \#1, 2.5.4.10=\ A`}},
		"by-dns":   {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DNS: "Mailer.test"}},
		"by-uri":   {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{URI: "https://mailer.test/a"}},
		"by-ip":    {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{IP: "192.0.2.7"}},
		"by-email": {Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{Email: "mailer@acme.test"}},
		"self":     {Auth: oauth.AuthSelfSigned, JWKS: key},
		"svid":     {Auth: oauth.AuthSPIFFEX509, SPIFFE: "spiffe://example.org/svid"},
	} {
		p.workload(id, c)
	}
	full := func(c *x509.Certificate) {
		c.Subject = pkix.Name{ExtraNames: nil, CommonName: "mailer", OrganizationalUnit: []string{"Agents", "Mail"}, Organization: []string{"Acme, Inc."}}
		c.DNSNames, c.EmailAddresses, c.IPAddresses = []string{"mailer.test", "b.test"}, []string{"mailer@acme.test"}, []net.IP{net.IPv4(192, 0, 2, 7)}
		c.URIs = []*url.URL{{Scheme: "https", Host: "mailer.test", Path: "/a"}}
	}
	with := func(change func(*x509.Certificate)) *agents.Certificate {
		return shown(p.ca.Issue(func(c *x509.Certificate) { full(c); change(c) }))
	}
	good := shown(p.ca.Issue(full))
	long := func(organization string) *agents.Certificate {
		return shown(p.ca.Issue(func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "mailer ü #1", Organization: []string{organization}, ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: []int{1, 2, 840, 113549, 1, 9, 1}, Value: "a@b.c"}, {Type: []int{0, 9, 2342, 19200300, 100, 1, 25}, Value: "x"},
			}}
		}))
	}
	between := &agents.Certificate{Leaf: p.ca.Issue(full).Leaf, Chain: []*x509.Certificate{p.evil.Cert}}
	id := "spiffe://example.org/svid"
	for _, c := range []struct {
		name, client string
		cert         *agents.Certificate
		ok           bool
	}{
		{"subject", "by-dn", good, true},
		{"DNS name", "by-dns", good, true},
		{"subject with rare parts", "by-long", long(" A"), true},
		{"subject with other rare parts", "by-long", long("A"), false},
		{"URI", "by-uri", good, true},
		{"address", "by-ip", good, true},
		{"mail address", "by-email", good, true},
		{"a stranger in the chain", "by-dns", between, true},
		{"another common name", "by-dn", with(func(c *x509.Certificate) { c.Subject.CommonName = "mailer2" }), false},
		{"a name with more in it", "by-dn", with(func(c *x509.Certificate) { c.Subject.Country = []string{"CH"} }), false},
		{"a common name that looks like a whole one", "by-dn", with(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: `mailer,OU=Agents+OU=Mail,O=Acme\, Inc.`} }), false},
		{"another DNS name", "by-dns", with(func(c *x509.Certificate) { c.DNSNames = []string{"evil.test"} }), false},
		{"a pattern for the DNS name", "by-dns", with(func(c *x509.Certificate) { c.DNSNames = []string{"*.test"} }), false},
		{"the DNS name as common name", "by-dns", with(func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "mailer.test" }), false},
		{"another URI", "by-uri", with(func(c *x509.Certificate) { c.URIs[0].Path = "/A" }), false},
		{"another address", "by-ip", with(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 8)} }), false},
		{"another mail address", "by-email", with(func(c *x509.Certificate) { c.EmailAddresses = []string{"Mailer@acme.test"} }), false},
		{"of another authority", "by-dns", shown(p.evil.Issue(full)), false},
		{"of the SPIFFE authority", "by-dns", shown(p.spire.Issue(full)), false},
		{"self-signed", "by-dns", shown(tls.Certificate{Leaf: self.Cert}), false},
		{"expired", "by-dns", with(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = p.Now().Add(-2*time.Hour), p.Now().Add(-time.Hour)
		}), false},
		{"not yet in force", "by-dns", with(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = p.Now().Add(time.Hour), p.Now().Add(2*time.Hour) }), false},
		{"of a server", "by-dns", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		{"none", "by-dns", nil, false},
		{"of somebody else's client", "self", good, false},

		{"registered key", "self", shown(tls.Certificate{Leaf: self.Cert}), true},
		{"another self-signed", "self", shown(tls.Certificate{Leaf: p.evil.Cert}), false},

		{"X.509-SVID", "svid", shown(p.spire.SVID(id)), true},
		{"X.509-SVID by its name", id, shown(p.spire.SVID(id)), true},
		{"X.509-SVID for two workloads", "svid", shown(p.spire.SVID(id, "spiffe://example.org/other")), false},
		{"X.509-SVID with another URI beside it", "svid", shown(p.spire.SVID("https://x.test", id)), false},
		{"X.509-SVID without a URI", "svid", shown(p.spire.SVID()), false},
		{"X.509-SVID of another workload", "svid", shown(p.spire.SVID("spiffe://example.org/other")), false},
		{"X.509-SVID of another trust domain's authority", "svid", shown(p.evil.SVID(id)), false},
		{"X.509-SVID of the client authority", "svid", shown(p.ca.SVID(id)), false},
		{"X.509-SVID of another trust domain", "svid", shown(p.evil.SVID("spiffe://evil.org/svid")), false},
		{"X.509-SVID of an unknown trust domain", "svid", shown(p.spire.SVID("spiffe://unknown.org/svid")), false},
		{"X.509-SVID that may sign certificates", "svid", shown(p.spire.Issue(func(c *x509.Certificate) {
			c.URIs, c.KeyUsage = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/svid"}}, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
		})), false},
		{"X.509-SVID that may not sign", "svid", shown(p.spire.Issue(func(c *x509.Certificate) {
			c.URIs, c.KeyUsage = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/svid"}}, x509.KeyUsageKeyEncipherment
		})), false},
		{"X.509-SVID under another name", "spiffe://example.org/other", shown(p.spire.SVID(id)), false},
		{"X.509-SVID for an agent with JWT-SVIDs", svid, shown(p.spire.SVID(svid)), false},
		{"a certificate for nobody", "nobody", good, false},
	} {
		who, code := p.knows(t, agents.Credentials{Method: oauth.AuthNone, ClientID: c.client, Certificate: c.cert})
		switch {
		case c.ok && (code != "" || who.Public() || who.Certificate() != c.cert.Thumbprint() || !who.Expires().Equal(c.cert.Leaf.NotAfter)):
			t.Errorf("%s: %q %+v", c.name, code, who)
		case !c.ok && code != oauth.InvalidClient:
			t.Errorf("%s: %q", c.name, code)
		}
	}
}

func keyOf(t *testing.T, c *x509.Certificate) token.PublicKey {
	t.Helper()
	id, err := token.Thumbprint(c.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return token.PublicKey{ID: id, Alg: token.ES256, Key: c.PublicKey}
}

// Without authorities and trust domains nobody is known by their word.
func TestNobodysWord(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	ca := world.NewAuthority(t, w.Now)
	w.Agent("tls", func(a *agents.Agent) {
		a.Credential = agents.Credential{Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DNS: "a.test"}}
	})
	w.Agent("svid", func(a *agents.Agent) { a.Credential = agents.Credential{Auth: oauth.AuthSPIFFEX509, SPIFFE: svid} })
	p := &platform{World: w}
	cert := shown(ca.Issue(func(c *x509.Certificate) { c.DNSNames = []string{"a.test"} }))
	for id, c := range map[string]*agents.Certificate{"tls": cert, "svid": shown(ca.SVID(svid)), "nobody": cert} {
		if _, code := p.knows(t, agents.Credentials{Method: oauth.AuthNone, ClientID: id, Certificate: c}); code != oauth.InvalidClient {
			t.Errorf("%s: %q", id, code)
		}
	}
	if w.Clients.Federates(cluster) {
		t.Error("a cluster that nobody configured")
	}
	_, err := agents.NewAuthenticator(agents.AuthenticatorConfig{
		Registry: w.Registry, Live: w.Live, Mirror: w.Mirror, Issuer: world.Issuer, Now: w.Now, SecretKey: w.Secret,
		KeysAt: func(string) token.KeySource { return token.NewPublicSet() }, TrustDomains: []agents.TrustDomain{{ID: "spiffe://x"}},
	})
	if err == nil {
		t.Error("a trust domain with a scheme was taken")
	}
}

// ACT-11: an actor token is of the kind that the registration says, and of no other.
func TestActorTokens(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	key := p.Agent("keyed", nil)
	p.workload("x509", agents.Credential{Auth: oauth.AuthSPIFFEX509, SPIFFE: "spiffe://example.org/x509"})
	own := claims{"iss": "keyed", "sub": "keyed", "aud": world.Issuer, "exp": p.Now().Unix() + 60}
	for _, c := range []struct {
		name, agent, compact string
		want                 error // nil: accepted; errSome: refused for any reason
	}{
		{"own", "keyed", sign(t, key, own), nil},
		{"SVID", "mailer", sign(t, p.spireKey, p.svid()), nil},
		{"SVID of an agent with X.509 ones", "x509", sign(t, p.spireKey, p.svid().but("sub", "spiffe://example.org/x509")), nil},
		{"token of a platform", "pod", sign(t, p.clusterKey, p.pod().but("jti", nil)), nil},
		{"SVID of another", "x509", sign(t, p.spireKey, p.svid()), agents.ErrOther},
		{"token of another workload", "pod", sign(t, p.clusterKey, p.pod().but("sub", "x")), agents.ErrOther},
		{"own of another", "keyed", sign(t, key, own.but("sub", "mailer")), agents.ErrOther},
		{"SVID for an agent with a key", "keyed", sign(t, p.spireKey, p.svid()), agents.ErrOther},
		{"own for an agent with an SVID", "mailer", sign(t, p.spireKey, own.but("iss", "mailer").but("sub", "mailer")), errSome},
		{"token of a platform for an agent with an SVID", "mailer", sign(t, p.clusterKey, p.pod()), errSome},
		{"SVID for a pod", "pod", sign(t, p.spireKey, p.svid()), errSome},
		{"both at once", "mailer", sign(t, p.clusterKey, p.pod().but("sub", svid).but("aud", world.Issuer)), errSome},
		{"own for two hours", "keyed", sign(t, key, own.but("exp", p.Now().Unix()+7200)), errSome},
		{"own of another key", "keyed", sign(t, p.evilKey, own), errSome},
		{"of nobody", "nobody", sign(t, key, own.but("iss", "nobody").but("sub", "nobody")), errSome},
		{"nothing", "keyed", "x", errSome},
		{"nothing of a workload", "mailer", "x", errSome},
		{"nothing of a platform", "pod", "x", errSome},
	} {
		got, err := p.Clients.ActorToken(t.Context(), c.agent, c.compact)
		switch {
		case c.want == nil && (err != nil || got.Expires == 0):
			t.Errorf("%s: %v", c.name, err)
		case errors.Is(c.want, errSome) && err == nil, c.want != nil && !errors.Is(c.want, errSome) && !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

var errSome = errors.New("some error")

// Whatever would let somebody else be the agent changes what users are asked about.
func TestIdentity(t *testing.T) {
	t.Parallel()
	base := agents.Agent{Credential: agents.Credential{Auth: oauth.AuthFederated, Federated: &agents.Federated{
		Issuer: "a", Subject: "b", Claims: map[string]string{"x": "1", "y": "2"},
	}}}
	seen := map[string]string{base.Fingerprint(): "base"}
	for name, change := range map[string]func(*agents.Agent){
		"owner":    func(a *agents.Agent) { a.Owner = "o" },
		"operator": func(a *agents.Agent) { a.Operator = "o" },
		"auth":     func(a *agents.Agent) { a.Auth = oauth.AuthTLS },
		"issuer": func(a *agents.Agent) {
			a.Federated = &agents.Federated{Issuer: "c", Subject: "b", Claims: a.Federated.Claims}
		},
		"subject": func(a *agents.Agent) {
			a.Federated = &agents.Federated{Issuer: "a", Subject: "c", Claims: a.Federated.Claims}
		},
		"one claim": func(a *agents.Agent) {
			a.Federated = &agents.Federated{Issuer: "a", Subject: "b", Claims: map[string]string{"x": "1"}}
		},
		"other claims": func(a *agents.Agent) {
			a.Federated = &agents.Federated{Issuer: "a", Subject: "b", Claims: map[string]string{"x": "1", "y": "3"}}
		},
		"moved quotes": func(a *agents.Agent) { a.Federated = &agents.Federated{Issuer: `a" "b`, Claims: a.Federated.Claims} },
		"spiffe":       func(a *agents.Agent) { a.SPIFFE = svid },
		"dn":           func(a *agents.Agent) { a.DN = "CN=a" },
		"dns":          func(a *agents.Agent) { a.DNS = "a" },
		"uri":          func(a *agents.Agent) { a.URI = "a" },
		"ip":           func(a *agents.Agent) { a.IP = "a" },
		"email":        func(a *agents.Agent) { a.Email = "a" },
		"keys":         func(a *agents.Agent) { a.JWKS = json.RawMessage("{}") },
		"keys at":      func(a *agents.Agent) { a.JWKSURI = "https://a.test" },
		"secret":       func(a *agents.Agent) { a.SecretHash = "a" },
	} {
		a := base
		change(&a)
		print := a.Fingerprint()
		if was, there := seen[print]; there {
			t.Errorf("%s reads as %s", name, was)
		}
		seen[print] = name
	}
	same := base
	same.Name, same.Purpose, same.DPoP, same.CertificateBound = "other", "other", true, true
	if seen[same.Fingerprint()] != "base" {
		t.Error("what does not say who it is changes the fingerprint")
	}
}
