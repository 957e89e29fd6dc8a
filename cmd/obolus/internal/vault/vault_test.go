package vault_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/vault"
)

var now = time.Unix(1789000010, 0)

func good() (header, claims map[string]any) {
	header = map[string]any{"alg": "ES256", "kid": "k1", "typ": "at+jwt"}
	claims = map[string]any{
		"iss": "https://obo.example.com", "aud": []any{"https://vault.example.com:8200/v1"}, "sub": "jaime",
		"act": map[string]any{"sub": "uc3-actor"}, "jti": "j", "txn": "txn_x", "iat": 1789000000, "nbf": 1789000000, "exp": 1789000060,
		"authorization_details": []any{map[string]any{
			"type": "vault:path_access", "path": "database/creds/writer", "capabilities": []any{"read"},
		}},
	}
	return header, claims
}

func profile() vault.Profile {
	return vault.Profile{IssuerID: "https://OBO.example.com/", Audiences: []string{"https://vault.example.com:8200/v1"}, Leeway: 5}
}

func compact(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	return part(header) + "." + part(claims) + ".c2ln"
}

func explain(t *testing.T, header, claims map[string]any, a vault.Asked) []vault.Finding {
	t.Helper()
	token, err := vault.Decode(compact(t, header, claims))
	if err != nil {
		t.Fatal(err)
	}
	return vault.Explain(token, a)
}

func TestWhatVaultAccepts(t *testing.T) {
	t.Parallel()
	header, claims := good()
	found := explain(t, header, claims, vault.Asked{Profile: profile(), Now: now, Path: "database/creds/writer", Capability: "read"})
	if vault.Refuses(found) {
		t.Errorf("refused: %+v", found)
	}
}

func TestWhatVaultRefuses(t *testing.T) {
	t.Parallel()
	detail := func(members map[string]any) []any {
		base := map[string]any{"type": "vault:path_access", "path": "a", "capabilities": []any{"read"}}
		maps.Copy(base, members)
		return []any{base}
	}
	for _, c := range []struct {
		name   string
		change func(header, claims map[string]any, a *vault.Asked)
		about  string
	}{
		{"a shared secret", func(h, _ map[string]any, _ *vault.Asked) { h["alg"] = "HS256" }, "alg"},
		{"no signature", func(h, _ map[string]any, _ *vault.Asked) { h["alg"] = "none" }, "alg"},
		{"EdDSA before 2.2", func(h, _ map[string]any, a *vault.Asked) {
			h["alg"], a.Version = "EdDSA", vault.Version{Major: 2, Minor: 1}
		}, "alg"},
		{"an algorithm that the profile lacks", func(_, _ map[string]any, a *vault.Asked) { a.Profile.Algorithms = []string{"PS256"} }, "alg"},
		{"no kid", func(h, _ map[string]any, _ *vault.Asked) { delete(h, "kid") }, "kid"},
		{"an id token", func(h, _ map[string]any, _ *vault.Asked) { h["typ"] = "id+jwt" }, "typ"},
		{"typ JWT of old", func(h, _ map[string]any, a *vault.Asked) {
			h["typ"], a.Version = "JWT", vault.Version{Major: 2, Patch: 3}
		}, "typ"},
		{"no iss", func(_, c map[string]any, _ *vault.Asked) { delete(c, "iss") }, "iss"},
		{"another iss", func(_, c map[string]any, _ *vault.Asked) { c["iss"] = "https://other.example.com" }, "iss"},
		{"a slash at the end of iss", func(_, c map[string]any, _ *vault.Asked) { c["iss"] = "https://obo.example.com/" }, "iss"},
		{"a loud iss", func(_, c map[string]any, _ *vault.Asked) { c["iss"] = "https://OBO.example.com" }, "iss"},
		{"expired", func(_, c map[string]any, _ *vault.Asked) { c["exp"] = 1789000001 }, "exp"},
		{"without an end", func(_, c map[string]any, _ *vault.Asked) { delete(c, "exp") }, "exp"},
		{"from the future", func(_, c map[string]any, _ *vault.Asked) { c["iat"] = 1789000100 }, "iat"},
		{"not yet", func(_, c map[string]any, _ *vault.Asked) { c["nbf"] = 1789000100 }, "nbf"},
		{"another aud", func(_, c map[string]any, _ *vault.Asked) { c["aud"] = "https://mail.example.com" }, "aud"},
		{"no aud", func(_, c map[string]any, _ *vault.Asked) { delete(c, "aud") }, "aud"},
		{"no sub", func(_, c map[string]any, _ *vault.Asked) { delete(c, "sub") }, "sub"},
		{"act is a name", func(_, c map[string]any, _ *vault.Asked) { c["act"] = "uc3-actor" }, "act"},
		{"act without sub", func(_, c map[string]any, _ *vault.Asked) { c["act"] = map[string]any{} }, "act.sub"},
		{"no jti", func(_, c map[string]any, _ *vault.Asked) { delete(c, "jti") }, "jti"},
		{"typ in the payload", func(_, c map[string]any, _ *vault.Asked) { c["typ"] = "Bearer" }, "typ (claim)"},
		{"no details", func(_, c map[string]any, _ *vault.Asked) { delete(c, "authorization_details") }, "authorization_details"},
		{"empty details", func(_, c map[string]any, a *vault.Asked) {
			c["authorization_details"], a.Profile.OptionalDetail = []any{}, true
		}, "authorization_details"},
		{"details that are none", func(_, c map[string]any, _ *vault.Asked) { c["authorization_details"] = "x" }, "authorization_details"},
		{"a path with v1", func(_, c map[string]any, _ *vault.Asked) {
			c["authorization_details"] = detail(map[string]any{"path": "v1/a"})
		}, "authorization_details[0]"},
		{"an unknown capability", func(_, c map[string]any, _ *vault.Asked) {
			c["authorization_details"] = detail(map[string]any{"capabilities": []any{"burn"}})
		}, "authorization_details[0]"},
		{"no capability", func(_, c map[string]any, _ *vault.Asked) {
			c["authorization_details"] = detail(map[string]any{"capabilities": []any{}})
		}, "authorization_details[0]"},
		{"an unknown member", func(_, c map[string]any, _ *vault.Asked) { c["authorization_details"] = detail(map[string]any{"x": 1}) }, "authorization_details[0]"},
		{"parameters before 2.2", func(_, c map[string]any, a *vault.Asked) {
			c["authorization_details"], a.Version = detail(map[string]any{"required_parameters": []any{"x"}}), vault.Version{Major: 2, Minor: 1}
		}, "authorization_details[0]"},
		{"another path is asked for", func(_, _ map[string]any, a *vault.Asked) { a.Path = "secret/data/x" }, "request"},
		{"another capability is asked for", func(_, _ map[string]any, a *vault.Asked) {
			a.Path, a.Capability = "database/creds/writer", "delete"
		}, "request"},
		{"a token of 8 KiB", func(_, c map[string]any, _ *vault.Asked) { c["x"] = strings.Repeat("x", 8<<10) }, "size"},
		{"a profile that is off", func(_, _ map[string]any, a *vault.Asked) { off := false; a.Profile.Enabled = &off }, "profile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			header, claims := good()
			a := vault.Asked{Profile: profile(), Now: now}
			c.change(header, claims, &a)
			var refused []string
			for _, f := range explain(t, header, claims, a) {
				if f.Verdict == vault.Refused {
					refused = append(refused, f.About)
				}
			}
			if len(refused) != 1 || refused[0] != c.about {
				t.Errorf("refused because of %q, want %s alone", refused, c.about)
			}
		})
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"data":{"issuer_id":"https://a","audiences":["b"]}}`, `{"issuer_id":"https://a","audiences":["b"]}`} {
		p, err := vault.ReadProfile([]byte(text))
		if err != nil || p.IssuerID != "https://a" || len(p.Audiences) != 1 {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	if _, err := vault.ReadProfile([]byte("{")); err == nil {
		t.Error("half a profile was read")
	}
	for text, want := range map[string]vault.Version{"2.1": {Major: 2, Minor: 1}, "v2.2.1": {Major: 2, Minor: 2, Patch: 1}} {
		if v, err := vault.ParseVersion(text); err != nil || v != want {
			t.Errorf("%s: %+v, %v", text, v, err)
		}
	}
	if _, err := vault.ParseVersion("1.15"); err == nil {
		t.Error("Vault 1.15 has no OAuth resource server")
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJhY3QiOnsiYWN0Ijp7fX0sImF1dGhvcml6YXRpb25fZGV0YWlscyI6W3t9XX0.")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := vault.Decode(s)
		if err != nil {
			return
		}
		for _, finding := range vault.Explain(token, vault.Asked{Now: now, Path: "x"}) {
			if finding.Sentence == "" || finding.About == "" {
				t.Errorf("nothing is said: %+v", finding)
			}
		}
	})
}
