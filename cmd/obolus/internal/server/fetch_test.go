package server_test

import (
	"crypto/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/server"
	"obolus/token"
)

// The keys of an agent are fetched from a network off the public Internet only if the configuration names it; what the configuration
// itself names may be in any private one.
func TestWhereKeysAreFetched(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	keys := httptest.NewUnstartedServer(http.NotFoundHandler())
	keys.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			hits.Add(1)
		}
	}
	keys.StartTLS()
	t.Cleanup(keys.Close)
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		lines string
		calls bool
	}{
		"by default":        {"", false},
		"another network":   {"own_networks: [10.0.0.0/8, 127.0.0.2]\n", false},
		"its network":       {"own_networks: [10.0.0.0/8, 127.0.0.0/8]\n", true},
		"an IPv6 of it too": {"own_networks: ['::ffff:127.0.0.0/104']\n", false},
	} {
		lines := "issuer: https://obolus.example.com\n" + c.lines + "agents: [{id: mailer, name: Mail helper, jwks_uri: '" + keys.URL + "/jwks'}]\n"
		r := start(t, load(t, t.TempDir(), lines), server.Options{})
		before := hits.Load()
		assertion, err := token.SignAssertion(key, "mailer", r.Issuer(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		form := url.Values{"token": {"x"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addr()+"/introspect", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if called := hits.Load() > before; res.StatusCode != http.StatusUnauthorized || called != c.calls {
			t.Errorf("%s: %d, called: %v\n%s", name, res.StatusCode, called, r.log)
		}
	}
}
