package agents_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"obolus/agents"
	"obolus/oauth"
)

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, dn := range []string{
		"CN", "CN=", "=x", "XX=x", "CN=a,", ",CN=a", "CN=a,,O=b", "CN=a+", `CN=a\`, `CN=\zz`, `CN=\a`, "CN=a;O=b", `CN="a"`, "CN=<a>", "CN=#0401", "CN= ", "CN=a\\",
	} {
		c := agents.Credential{Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DN: dn}}
		if err := c.Check("x"); !errors.Is(err, agents.ErrInvalid) {
			t.Errorf("%q: %v", dn, err)
		}
	}
}

// A name that is written by the rules is that of the certificate, and of no other.
func TestNamesByTheRules(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `+`, `\+`, `"`, `\"`, `<`, `\<`, `>`, `\>`, `;`, `\;`, `#`, `\#`, ` `, `\ `, `=`, `\=`)
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[a-c ,+"\\<>;#=ü]{1,6}`)
		cn, o, other := text.Draw(rt, "cn"), text.Draw(rt, "o"), text.Draw(rt, "other")
		p.workload("named", agents.Credential{Auth: oauth.AuthTLS, CertificateSubject: agents.CertificateSubject{DN: "CN=" + escape.Replace(cn) + ",O=" + escape.Replace(o)}})
		for name, want := range map[string]oauth.Code{cn: "", other: oauth.InvalidClient} {
			if name == cn {
				want = ""
			}
			cert := shown(p.ca.Issue(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: name, Organization: []string{o}} }))
			if _, code := p.knows(t, agents.Credentials{Method: oauth.AuthNone, ClientID: "named", Certificate: cert}); code != want {
				rt.Fatalf("CN=%q,O=%q for CN=%q: %q", name, o, cn, code)
			}
		}
	})
}
