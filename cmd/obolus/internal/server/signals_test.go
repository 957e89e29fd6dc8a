package server_test

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/server"
	"obolus/token"
)

// provider is an OpenID provider as far as its keys go.
func provider(t *testing.T) (issuer string, key *token.SigningKey) {
	t.Helper()
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/jwks" {
			_, _ = w.Write(set)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": s.URL, "jwks_uri": s.URL + "/jwks"})
	}))
	t.Cleanup(s.Close)
	return s.URL, key
}

func event(t *testing.T, issuer string, key *token.SigningKey, audience string, subject map[string]string) string {
	t.Helper()
	payload, err := json.Marshal(map[string]any{
		"iss": issuer, "aud": audience, "iat": time.Now().Unix(), "jti": rand.Text(), "sub_id": subject,
		"events": map[string]any{token.EventSessionRevoked: map[string]any{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.NewIssuer(issuer).SignAs("secevent+jwt", payload, key)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Events of a provider, whose keys are found by its metadata, reach the accounts of its users; those of a sender of its own reach the same.
func TestEventsOfAnIdentityProvider(t *testing.T) {
	t.Parallel()
	idp, key := provider(t)
	sender, other := provider(t)
	const bearer = "a token of the provider"
	r := start(t, load(t, t.TempDir(), fmt.Sprintf(`
identity_providers:
  - {id: corp, issuer: %q, client_id: obolus, client_secret: x, events: {email: true, token_hash: %x}}
  - {id: labs, issuer: 'https://labs.example.com', client_id: obolus, client_secret: x, events: {issuer: %q, audience: 'urn:obolus'}}
trusted_issuers: [{issuer: %q, subject_prefix: 'trusted/', events: {}}]
`, idp, sha256.Sum256([]byte(bearer)), sender, idp)), server.Options{})
	push := func(set, bearer string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addr()+"/events/receive", strings.NewReader(set))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/secevent+jwt")
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		res, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var body struct{ Err string }
		_ = json.NewDecoder(res.Body).Decode(&body)
		return res.StatusCode, body.Err
	}
	carol := map[string]string{"format": "iss_sub", "iss": idp, "sub": "carol"}
	for _, c := range []struct {
		name   string
		set    string
		bearer string
		status int
		err    string
	}{
		{"with the token, of an account and of a trusted user", event(t, idp, key, r.Issuer(), carol), bearer, 202, ""},
		{"without it, of a trusted user alone", event(t, idp, key, r.Issuer(), map[string]string{"format": "iss_sub", "iss": idp, "sub": "dave"}), "", 202, ""},
		{"by address", event(t, idp, key, r.Issuer(), map[string]string{"format": "email", "email": "nobody@example.com"}), bearer, 202, ""},
		{"by address, without the token", event(t, idp, key, r.Issuer(), map[string]string{"format": "email", "email": "nobody@example.com"}), "", 400, "invalid_request"},
		{"of a sender of its own", event(t, sender, other, "urn:obolus", map[string]string{"format": "iss_sub", "iss": "https://labs.example.com", "sub": "erin"}), "", 202, ""},
		{"of it for the issuer", event(t, sender, other, r.Issuer(), carol), "", 400, "invalid_audience"},
		{"of it about somebody else's users", event(t, sender, other, "urn:obolus", carol), "", 400, "invalid_request"},
		{"by a key of another", event(t, idp, other, r.Issuer(), carol), bearer, 400, "invalid_key"},
	} {
		if status, err := push(c.set, c.bearer); status != c.status || err != c.err {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, err, c.status, c.err)
		}
	}
	told := r.events("kind=security_event")
	for user, wanted := range map[string]bool{"corp:carol": true, "trusted/carol": true, "corp:dave": false, "trusted/dave": true, "labs:erin": true} {
		if strings.Contains(told, `"user":"`+user+`"`) != wanted {
			t.Errorf("an event about %s: %v", user, !wanted)
		}
	}
	if strings.Contains(r.log.String(), bearer) {
		t.Error("the log has a bearer token")
	}
}

// A stream of events is in hand no more once it is open, and does not keep the server from ending.
func TestStreamsStandAside(t *testing.T) {
	t.Parallel()
	r := start(t, load(t, t.TempDir(), declared), server.Options{MaxInFlight: 1, Grace: 30 * time.Second})
	lines := make(chan string, 1000)
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr()+"/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("mail-server", "0123456789abcdef")
		res, err := (&http.Client{}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("no stream: %d", res.StatusCode)
		}
		scan := bufio.NewScanner(res.Body)
		for scan.Scan() && scan.Text() != ": alive" {
		}
		go func() {
			for scan.Scan() {
				lines <- scan.Text()
			}
			lines <- "end"
		}()
	}
	if res, _ := r.get("/jwks.json"); res.StatusCode != http.StatusOK {
		t.Errorf("beside three streams: %d", res.StatusCode)
	}
	began := time.Now()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the server took %s to end", took)
	}
	for ended := 0; ended < 3; {
		select {
		case line := <-lines:
			if line == "end" {
				ended++
			}
		case <-time.After(time.Minute):
			t.Fatalf("%d of 3 streams have ended", ended)
		}
	}
}
