package certheader_test

import (
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/certheader"
	"obolus/internal/world"
)

// The forms, and what is none of them, are in the tests of the server, over its door.
func TestEachForm(t *testing.T) {
	t.Parallel()
	cert := world.NewAuthority(t, time.Now).Cert
	der := base64.StdEncoding.EncodeToString(cert.Raw)
	text := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
	for name, value := range map[string]string{
		certheader.RFC9440: ":" + der + ":", certheader.Envoy: "By=x;Cert=" + text, "Ssl-Client-Cert": text, "X-Client-Der": der,
	} {
		got, err := certheader.Read(name, http.Header{name: {value}})
		if err != nil || len(got) != 1 || !got[0].Equal(cert) {
			t.Errorf("%s: %v %v", name, got, err)
		}
		if got, err := certheader.Read(name, http.Header{name: {""}}); err != nil || len(got) != 0 {
			t.Errorf("%s, empty: %v %v", name, got, err)
		}
		if _, err := certheader.Read(name, http.Header{name: {value, value}}); err == nil {
			t.Errorf("%s twice", name)
		}
	}
}

// Whatever a header holds it gives certificates or an error, never neither and never half of one.
func FuzzRead(f *testing.F) {
	f.Add(certheader.RFC9440, ":AAAA:", ":AAAA:, :AAAA:")
	f.Add(certheader.Envoy, `Hash=a;Cert="%2D%2D%2D%2D%2DBEGIN";Subject="CN=\\"x\\""`, "")
	f.Add("Ssl-Client-Cert", "-----BEGIN%20CERTIFICATE-----%0A", "")
	f.Fuzz(func(t *testing.T, name, value, chain string) {
		name, h := http.CanonicalHeaderKey(name), http.Header{}
		h.Set(certheader.Chain, chain)
		h.Set(name, value)
		got, err := certheader.Read(name, h)
		if err != nil && got != nil || err == nil && value != "" && len(got) == 0 {
			t.Errorf("%q %q: %v %v", name, value, got, err)
		}
		for _, c := range got {
			if c == nil || len(c.Raw) == 0 {
				t.Errorf("%q %q: half a certificate", name, value)
			}
		}
	})
}
