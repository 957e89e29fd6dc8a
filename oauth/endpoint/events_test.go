package endpoint_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/endpoint"
	"obolus/signals"
	"obolus/token"
)

// listening has a receiver of events of https://idp.test, signed by a key.
func listening(t *testing.T, key *token.SigningKey, held *[]string) func(*endpoint.Config) {
	t.Helper()
	return func(c *endpoint.Config) {
		var err error
		c.Receiver, err = signals.NewReceiver(signals.ReceiverConfig{
			Transmitters: []signals.Transmitter{{
				Issuer: "https://idp.test", Audience: world.Issuer, Keys: token.NewPublicSet(key.Public()), Subjects: "https://idp.test",
				User: func(sub string) string { return sub },
			}},
			Live: c.Live, SignOut: func(context.Context, string, time.Time) error { return nil },
			Hold: func(_ context.Context, user string, _ time.Time) error {
				if user == "nobody" {
					return errors.New("a store that fails")
				}
				*held = append(*held, user)
				return nil
			},
			Stop: c.Transactions.Stop, Record: c.Record, Now: c.Now,
			Longest: func(context.Context) (time.Duration, error) { return time.Hour, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPushedEvents(t *testing.T) {
	t.Parallel()
	key := world.Key(t)
	var held []string
	s := newSite(t, listening(t, key, &held))
	set := func(sub string) string {
		payload, err := json.Marshal(map[string]any{
			"iss": "https://idp.test", "aud": world.Issuer, "iat": s.Now().Unix(), "jti": "set of " + sub,
			"sub_id": map[string]any{"format": "iss_sub", "iss": "https://idp.test", "sub": sub},
			"events": map[string]any{token.EventSessionRevoked: map[string]any{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := token.NewIssuer("https://idp.test").SignAs("secevent+jwt", payload, key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	push := func(change func(*http.Request), body string) answer {
		r := s.request(http.MethodPost, "/events/receive", body)
		r.Header.Set("Content-Type", "application/secevent+jwt")
		if change != nil {
			change(r)
		}
		return s.do(r)
	}
	if a := push(nil, set("alice")); a.status != http.StatusAccepted || a.body != "" || strings.Join(held, " ") != "alice" {
		t.Errorf("%d %q, held %v", a.status, a.body, held)
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, value) }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		body   string
		err    string
	}{
		"no event":           {nil, "x", "invalid_request"},
		"nothing":            {nil, "", "invalid_request"},
		"a form":             {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, set("bob"), "invalid_request"},
		"two types":          {header("Content-Type", "application/secevent+jwt"), set("bob"), "invalid_request"},
		"a parameter":        {func(r *http.Request) { r.Header.Set("Content-Type", "application/secevent+jwt; charset=utf-8") }, set("bob"), "invalid_request"},
		"compressed":         {header("Content-Encoding", "gzip"), set("bob"), "invalid_request"},
		"by Basic":           {func(r *http.Request) { r.SetBasicAuth("a", "b") }, set("bob"), "authentication_failed"},
		"two authorizations": {func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer a", "Bearer b"} }, set("bob"), "invalid_request"},
		"a line at its end":  {nil, set("bob") + "\n", "invalid_request"},
		"an access token":    {nil, s.UserToken("alice", nil), "invalid_issuer"},
	} {
		a := push(c.change, c.body)
		if a.status != http.StatusBadRequest || a.str("err") != c.err || a.str("description") == "" || a.str("error") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
	if len(held) != 1 {
		t.Errorf("held %v", held)
	}
	if a := push(nil, set("nobody")); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a store that fails: %d %s", a.status, a.body)
	}
	if a := push(nil, strings.Repeat("x", 17<<10)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", a.status)
	}
	if a := s.do(s.request(http.MethodGet, "/events/receive", "")); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d", a.status)
	}
	if a := s.get("/.well-known/oauth-authorization-server"); a.str("event_receiver_endpoint") != world.Issuer+"/events/receive" {
		t.Errorf("the metadata says %q", a.str("event_receiver_endpoint"))
	}
	quiet := newSite(t, nil)
	if a := quiet.do(quiet.request(http.MethodPost, "/events/receive", "x")); a.status != http.StatusNotFound {
		t.Errorf("where nobody's events are taken: %d", a.status)
	}
	if a := quiet.get("/.well-known/oauth-authorization-server"); a.json["event_receiver_endpoint"] != nil {
		t.Error("the metadata names a receiver that is none")
	}
	// An event gets nobody in.
	form := s.te()
	form.Set("subject_token", set("alice"))
	form.Set("subject_token_type", jwtType)
	s.refused(s.post("/token", s.asserted(form)), http.StatusBadRequest, oauth.InvalidRequest)
}
