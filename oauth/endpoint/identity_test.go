package endpoint_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/endpoint"
	"obolus/token"
	"obolus/transaction"
)

const (
	cluster = "https://cluster.test"
	svidID  = "spiffe://example.org/mailer"
)

// platform is a site where agents have the identity of their workload: mailer by SPIFFE, pod by a cluster; and where a test says which
// certificate the client of the next requests has.
type platform struct {
	*site
	spire    *world.Authority
	key      *token.SigningKey // of both
	cert     *agents.Certificate
	certFail error
}

func newPlatform(t *testing.T, change func(*endpoint.Config)) *platform {
	t.Helper()
	w := world.New(t)
	p := &platform{spire: world.NewAuthority(t, w.Now), key: world.Key(t)}
	keys := token.NewPublicSet(p.key.Public())
	w.Identify = func(c *agents.AuthenticatorConfig) {
		c.Workloads = []agents.WorkloadIssuer{{Issuer: cluster, Keys: keys}}
		c.TrustDomains = []agents.TrustDomain{{
			ID: "example.org", Keys: keys, Authorities: func(context.Context) ([]*x509.Certificate, error) { return []*x509.Certificate{p.spire.Cert}, nil },
		}}
	}
	w.Start()
	p.site = newSiteOn(t, w, func(c *endpoint.Config) {
		c.Certificate = func(*http.Request) (*agents.Certificate, error) { return p.cert, p.certFail }
		if change != nil {
			change(c)
		}
	})
	for id, cred := range map[string]agents.Credential{
		"mailer":  {Auth: oauth.AuthSPIFFEJWT, SPIFFE: svidID},
		"x509":    {Auth: oauth.AuthSPIFFEX509, SPIFFE: "spiffe://example.org/x509"},
		"pod":     {Auth: oauth.AuthFederated, Federated: &agents.Federated{Issuer: cluster, Subject: "system:serviceaccount:mail:mailer"}},
		"onepeer": {Auth: oauth.AuthSelfSigned, JWKS: jwksOf(t, p.spire.Cert)},
	} {
		w.Agent(id, func(a *agents.Agent) { a.Credential = cred })
		w.Consent("alice", id, "mail", consent.Decision{Scopes: []string{"mail.read"}})
	}
	return p
}

func jwksOf(t *testing.T, c *x509.Certificate) json.RawMessage {
	t.Helper()
	id, err := token.Thumbprint(c.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.NewPublicSet(token.PublicKey{ID: id, Alg: token.ES256, Key: c.PublicKey}).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func (p *platform) sign(claims map[string]any) string {
	p.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	compact, err := token.NewIssuer("").SignAs("JWT", payload, p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return compact
}

func (p *platform) svid() string {
	return p.sign(map[string]any{"sub": svidID, "aud": world.Issuer, "exp": p.Now().Unix() + 300})
}

func (p *platform) pod(jti string) string {
	c := map[string]any{
		"iss": cluster, "sub": "system:serviceaccount:mail:mailer", "aud": []string{world.Issuer}, "iat": p.Now().Unix(), "exp": p.Now().Unix() + 3600,
	}
	if jti != "" {
		c["jti"] = jti
	}
	return p.sign(c)
}

// plain is a token exchange without credentials.
func (p *platform) plain() url.Values {
	f := p.te()
	f.Del("client_assertion")
	f.Del("client_assertion_type")
	return f
}

// with sends a form with an assertion, and with proofs.
func (p *platform) with(path string, f url.Values, kind, assertion string, proofs ...string) answer {
	p.t.Helper()
	if assertion != "" {
		f.Set("client_assertion_type", kind)
		f.Set("client_assertion", assertion)
	}
	r := p.request(http.MethodPost, path, f.Encode())
	for _, proof := range proofs {
		r.Header.Add("DPoP", proof)
	}
	return p.do(r)
}

func (p *platform) confirmed(a answer) token.Confirmation {
	p.t.Helper()
	v, err := p.Verifier.Verify(p.t.Context(), a.str("access_token"))
	if a.status != http.StatusOK || err != nil || v.Claims().Confirm == nil {
		p.t.Fatalf("%d %s %v", a.status, a.body, err)
	}
	return *v.Claims().Confirm
}

// WL-01, WL-04 at the token endpoint.
func TestExchangeByAnSVID(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, nil)
	key, svid := world.Key(t), p.svid()
	jkt := key.KeyID()
	for range 2 {
		a := p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid, p.proof(key, "/token", nil))
		if got := p.confirmed(a); got != (token.Confirmation{JKT: jkt}) || a.str("token_type") != "DPoP" {
			t.Errorf("%+v %s", got, a.body)
		}
	}
	p.refused(p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid), 400, oauth.InvalidDPoPProof)
	same := p.proof(key, "/token", nil)
	p.confirmed(p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid, same))
	p.refused(p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid, same), 400, oauth.InvalidDPoPProof)
	p.refused(p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid, p.proof(key, "/redeem", nil)), 400, oauth.InvalidDPoPProof)
	p.refused(p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid, p.proof(key, "/token", nil), p.proof(key, "/token", nil)), 400, oauth.InvalidDPoPProof)
	p.refused(p.with("/token", p.plain(), oauth.AssertionJWT, svid, p.proof(key, "/token", nil)), 401, oauth.InvalidClient)
	p.refused(p.with("/token", p.plain(), "urn:ietf:params:oauth:client-assertion-type:jwt-wimse", svid, p.proof(key, "/token", nil)), 401, oauth.InvalidClient)
	for id, want := range map[string]int{"mailer": 200, svidID: 200, "pod": 401, "agent-a": 401, "nobody": 401, "spiffe://example.org/other": 401} {
		f := p.plain()
		f.Set("client_id", id)
		if a := p.with("/token", f, oauth.AssertionSPIFFE, svid, p.proof(key, "/token", nil)); a.status != want {
			t.Errorf("client_id %s: %d %s", id, a.status, a.body)
		}
	}

	p.cert = &agents.Certificate{Leaf: p.spire.SVID(svidID).Leaf}
	a := p.with("/token", p.plain(), oauth.AssertionSPIFFE, svid)
	if got := p.confirmed(a); got != (token.Confirmation{X5T: p.cert.Thumbprint()}) || a.str("token_type") != "Bearer" {
		t.Errorf("%+v %s", got, a.body)
	}
}

// As an actor, too: the same SVID is shown as actor_token (ACT-11).
func TestAnSVIDAsActor(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, nil)
	key := world.Key(t)
	for what, c := range map[string]struct {
		actor string
		want  int
	}{"its own": {p.svid(), 200}, "a pod's": {p.pod("a"), 400}} {
		f := p.plain()
		f.Set("actor_token", c.actor)
		f.Set("actor_token_type", jwtType)
		if a := p.with("/token", f, oauth.AssertionSPIFFE, p.svid(), p.proof(key, "/token", nil)); a.status != c.want {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func TestExchangeByATokenOfAPlatform(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, nil)
	key := world.Key(t)
	named := func() url.Values {
		f := p.plain()
		f.Set("client_id", "pod")
		return f
	}
	if a := p.with("/token", named(), oauth.AssertionJWT, p.pod("1")); a.status != 200 || a.str("token_type") != "Bearer" {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.refused(p.with("/token", named(), oauth.AssertionJWT, p.pod("1")), 401, oauth.InvalidClient)
	p.refused(p.with("/token", named(), oauth.AssertionJWT, p.pod("")), 400, oauth.InvalidDPoPProof)
	compact := p.pod("")
	for range 2 {
		p.confirmed(p.with("/token", named(), oauth.AssertionJWT, compact, p.proof(key, "/token", nil)))
	}
	p.refused(p.with("/token", p.plain(), oauth.AssertionJWT, p.pod("2")), 400, oauth.InvalidRequest) // who is it?
	p.refused(p.with("/token", named(), oauth.AssertionSPIFFE, p.pod("3"), p.proof(key, "/token", nil)), 401, oauth.InvalidClient)
}

// Every endpoint that authenticates clients takes the identity of a workload, with a proof for itself, once.
func TestEveryEndpointKnowsWorkloads(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, nil)
	key := world.Key(t)
	for _, path := range []string{"/introspect", "/revoke", "/redeem"} {
		f := func() url.Values { return form("token", "x") }
		want := map[string]int{"/introspect": 200, "/revoke": 200, "/redeem": 410}[path]
		proof := p.proof(key, path, nil)
		if a := p.with(path, f(), oauth.AssertionSPIFFE, p.svid(), proof); a.status != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		p.refused(p.with(path, f(), oauth.AssertionSPIFFE, p.svid(), proof), 400, oauth.InvalidDPoPProof)
		p.refused(p.with(path, f(), oauth.AssertionSPIFFE, p.svid(), p.proof(key, "/token", nil)), 400, oauth.InvalidDPoPProof)
		p.refused(p.with(path, f(), oauth.AssertionSPIFFE, p.svid()), 400, oauth.InvalidDPoPProof)
		f2 := f()
		f2.Set("client_id", "onepeer")
		p.cert = &agents.Certificate{Leaf: p.spire.Cert}
		if a := p.with(path, f2, "", ""); a.status != want {
			t.Errorf("%s by certificate: %d %s", path, a.status, a.body)
		}
		p.cert = nil
		p.refused(p.with(path, f2, "", ""), 401, oauth.InvalidClient)
	}
	// An exchange that is a redemption binds nothing, so that the proof is spent by itself.
	f := p.plain()
	f.Set("requested_token_type", string(oauth.TypeTxnToken))
	proof := p.proof(key, "/token", nil)
	p.refused(p.with("/token", f, oauth.AssertionSPIFFE, p.svid(), proof), 400, oauth.InvalidRequest)
	p.refused(p.with("/token", f, oauth.AssertionSPIFFE, p.svid(), proof), 400, oauth.InvalidDPoPProof)
	// The status of a transaction, which has no body to carry a credential.
	txn := p.with("/token", p.plain(), oauth.AssertionSPIFFE, p.svid(), p.proof(key, "/token", nil)).str("txn")
	get := func(query string, headers ...string) answer {
		r := p.request(http.MethodGet, "/txn/"+txn+query, "")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return p.do(r)
	}
	asked := func(c *token.ProofClaims) { c.Method = http.MethodGet }
	if a := get("", "Client-Assertion", p.svid(), "DPoP", p.proof(key, "/txn/"+txn, asked)); a.status != 200 || a.str("status") != "issued" {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.refused(get("", "Client-Assertion", p.svid()), 400, oauth.InvalidDPoPProof)
	if a := get("?client_id=pod", "Client-Assertion", p.pod("t")); a.status != 404 {
		t.Errorf("somebody else's transaction: %d %s", a.status, a.body)
	}
	p.refused(get("", "Client-Assertion", p.pod("u")), 400, oauth.InvalidRequest)
	p.refused(get("?client_id=mailer"), 401, oauth.InvalidClient)
}

// The code grant and pushed requests, by certificate: RFC 8705 sections 3 and 4.
func TestTheCodeGrantByCertificate(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, nil)
	ca := world.NewAuthority(t, p.Now)
	app := func(id string, auth oauth.AuthMethod, jwks json.RawMessage) {
		p.register(agents.Client{
			ID: id, Name: "App " + id, RedirectURIs: []string{"https://" + id + ".test/cb"}, GrantTypes: []oauth.GrantType{oauth.GrantAuthorizationCode},
			Credential: agents.Credential{Auth: auth, JWKS: jwks, CertificateBound: true},
		})
	}
	app("public-app", oauth.AuthNone, nil)
	app("tls-app", oauth.AuthSelfSigned, jwksOf(t, ca.Cert))
	cert := &agents.Certificate{Leaf: ca.Cert}
	for _, id := range []string{"public-app", "tls-app"} {
		redirect := "https://" + id + ".test/cb"
		p.cert = cert
		pushed := p.post("/par", ask("client_id", id, "redirect_uri", redirect))
		if pushed.status != http.StatusCreated {
			t.Fatalf("%s: %d %s", id, pushed.status, pushed.body)
		}
		code := func() url.Values {
			return form("grant_type", "authorization_code", "client_id", id, "code", p.code("client_id", id, "redirect_uri", redirect), "redirect_uri", redirect, "code_verifier", verifier)
		}
		a := p.post("/token", code())
		if got := p.confirmed(a); got != (token.Confirmation{X5T: cert.Thumbprint()}) || a.str("token_type") != "Bearer" {
			t.Errorf("%s: %+v %s", id, got, a.body)
		}
		told := p.as("mail-server", "/introspect", form("token", a.str("access_token")))
		if cnf, _ := told.json["cnf"].(map[string]any); cnf["x5t#S256"] != cert.Thumbprint() || told.str("token_type") != "Bearer" {
			t.Errorf("introspection says %s", told.body)
		}
		p.cert = nil
		want := map[string]oauth.Code{"public-app": oauth.InvalidRequest, "tls-app": oauth.InvalidClient}[id]
		if a := p.post("/token", code()); a.status < 400 || a.str("error") != string(want) {
			t.Errorf("%s without a certificate: %d %s", id, a.status, a.body)
		}
	}
}

// What the redemption and a proxy learn of certificates.
func TestRedeemingByCertificate(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, nil)
	mine, other := &agents.Certificate{Leaf: p.spire.SVID(svidID).Leaf}, &agents.Certificate{Leaf: p.spire.SVID(svidID).Leaf}
	obolus := func() string {
		p.cert = mine
		defer func() { p.cert = nil }()
		return p.with("/token", p.plain(), oauth.AssertionSPIFFE, p.svid()).str("access_token")
	}
	tok := obolus()
	p.refused(p.as("mail-server", "/redeem", form("token", tok, "x5t#S256", other.Thumbprint())), 403, oauth.KeyMismatch)
	p.refused(p.as("mail-server", "/redeem", form("token", tok, "jkt", mine.Thumbprint())), 403, oauth.KeyMismatch)
	p.refused(p.as("mail-server", "/redeem", form("token", tok, "x5t#S256", "short")), 400, oauth.InvalidRequest)
	a := p.as("mail-server", "/redeem", form("token", tok, "x5t#S256", mine.Thumbprint()))
	if cnf, _ := a.json["cnf"].(map[string]any); a.status != 200 || cnf["x5t#S256"] != mine.Thumbprint() {
		t.Errorf("%d %s", a.status, a.body)
	}
	p.refused(p.as("mail-server", "/redeem", form("token", p.obolus(), "x5t#S256", mine.Thumbprint())), 403, oauth.KeyMismatch)

	forward := func(tok string, cert *agents.Certificate) int {
		p.cert = cert
		defer func() { p.cert = nil }()
		r := p.request(http.MethodGet, "/authz?resource=mail&scope=mail.read", "")
		proxy := http.Request{Header: http.Header{}}
		proxy.SetBasicAuth("mail-server", "secret")
		r.Header.Set("X-Obolus-Client", proxy.Header.Get("Authorization"))
		r.Header.Set("Authorization", "Bearer "+tok)
		return p.do(r).status
	}
	tok = obolus()
	for _, c := range []struct {
		cert *agents.Certificate
		want int
	}{{nil, 401}, {other, 401}, {mine, 200}, {mine, 401}} {
		if got := forward(tok, c.cert); got != c.want {
			t.Errorf("%v: %d, want %d", c.cert.Thumbprint(), got, c.want)
		}
	}
	both := p.UserToken("alice", func(s *transaction.Session) { s.Audience, s.JKT, s.X5T = mail, "k", mine.Thumbprint() })
	if got := forward(both, mine); got != 401 {
		t.Errorf("bound to a key as well: %d", got)
	}
	p.certFail = errors.New("the header cannot be read")
	if got := forward(obolus(), mine); got != 401 {
		t.Errorf("a header that cannot be read: %d", got)
	}
	p.refused(p.post("/token", p.te()), 401, oauth.InvalidClient)
}

// ML-03, TX-10: the metadata says what works.
func TestMetadataOfIdentities(t *testing.T) {
	t.Parallel()
	methods := func(a answer) []string {
		var list []string
		all, _ := a.json["token_endpoint_auth_methods_supported"].([]any)
		for _, m := range all {
			list = append(list, m.(string))
		}
		slices.Sort(list)
		return list
	}
	get := func(s *site) answer {
		return s.do(s.request(http.MethodGet, "/.well-known/oauth-authorization-server", ""))
	}
	p := newPlatform(t, func(c *endpoint.Config) { c.Settings.CertificateURL = "https://mtls.as.test" })
	a := get(p.site)
	if got := methods(a); !slices.Equal(got, []string{
		"client_secret_basic", "client_secret_post", "federated_jwt", "none", "private_key_jwt", "self_signed_tls_client_auth", "spiffe_jwt", "spiffe_x509",
	}) {
		t.Errorf("%v", got)
	}
	aliases, _ := a.json["mtls_endpoint_aliases"].(map[string]any)
	if aliases["token_endpoint"] != "https://mtls.as.test/token" || aliases["redemption_endpoint"] != "https://mtls.as.test/redeem" || a.str("token_endpoint") != world.Issuer+"/token" ||
		a.json["tls_client_certificate_bound_access_tokens"] != true {
		t.Errorf("%s", a.body)
	}
	a = get(newSite(t, nil))
	if got := methods(a); !slices.Equal(got, []string{"client_secret_basic", "client_secret_post", "none", "private_key_jwt"}) {
		t.Errorf("%v", got)
	}
	if a.json["mtls_endpoint_aliases"] != nil || a.json["tls_client_certificate_bound_access_tokens"] != nil {
		t.Errorf("%s", a.body)
	}

	// A proof names the address that was called; the audience of an assertion stays the issuer.
	key := world.Key(t)
	for _, c := range []struct {
		host, uri string
		want      int
	}{
		{"mtls.as.test", "https://mtls.as.test/token", 200},
		{"as.test", world.Issuer + "/token", 200},
		{"as.test", "https://mtls.as.test/token", 400},
		{"evil.test", "https://evil.test/token", 400},
	} {
		f := p.te()
		r := p.request(http.MethodPost, "/token", f.Encode())
		r.Host = c.host
		r.Header.Set("DPoP", p.proof(key, "", func(pc *token.ProofClaims) { pc.URI = c.uri }))
		if a := p.do(r); a.status != c.want {
			t.Errorf("%s for %s: %d %s", c.uri, c.host, a.status, a.body)
		}
	}
}
