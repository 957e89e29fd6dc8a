package endpoint_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/internal/world"
	"obolus/oauth/endpoint"
)

const (
	wellKnownOAuth  = "/.well-known/oauth-authorization-server"
	wellKnownOpenID = "/.well-known/openid-configuration"
)

func (s *site) get(path string, set ...func(*http.Request)) answer {
	s.t.Helper()
	r := s.request(http.MethodGet, path, "")
	for _, f := range set {
		f(r)
	}
	return s.do(r)
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	a := s.get(wellKnownOAuth)
	if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("got %d %v", a.status, a.header)
	}
	for name, want := range map[string]any{
		"issuer":                                           world.Issuer,
		"authorization_endpoint":                           world.Issuer + "/authorize",
		"token_endpoint":                                   world.Issuer + "/token",
		"pushed_authorization_request_endpoint":            world.Issuer + "/par",
		"introspection_endpoint":                           world.Issuer + "/introspect",
		"revocation_endpoint":                              world.Issuer + "/revoke",
		"redemption_endpoint":                              world.Issuer + "/redeem",
		"transaction_endpoint":                             world.Issuer + "/txn/{txn}",
		"jwks_uri":                                         world.Issuer + "/jwks.json",
		"response_types_supported":                         []any{"code"},
		"response_modes_supported":                         []any{"query"},
		"grant_types_supported":                            []any{"authorization_code", exchangeGrant},
		"code_challenge_methods_supported":                 []any{"S256"},
		"token_endpoint_auth_methods_supported":            []any{"private_key_jwt", "client_secret_basic", "client_secret_post", "none"},
		"introspection_endpoint_auth_methods_supported":    []any{"private_key_jwt", "client_secret_basic", "client_secret_post"},
		"token_endpoint_auth_signing_alg_values_supported": []any{"ES256", "EdDSA", "PS256", "RS256"},
		"dpop_signing_alg_values_supported":                []any{"ES256", "EdDSA", "PS256", "RS256"},
		"authorization_details_types_supported":            []any{"mcp_tool_call", "payment", "vault:path_access"},
		"authorization_response_iss_parameter_supported":   true,
		"require_pushed_authorization_requests":            false,
		"scopes_supported":                                 []any{"files.read", "mail.delete", "mail.read", "mail.send"},
		"protected_resources":                              []any{"https://files.test", mail},
		"acr_values_supported":                             []any{"urn:mfa"},
	} {
		got, _ := json.Marshal(a.json[name])
		wanted, _ := json.Marshal(want)
		if string(got) != string(wanted) {
			t.Errorf("%s: %s, want %s", name, got, wanted)
		}
	}
	for _, absent := range []string{"registration_endpoint", "id_token_signing_alg_values_supported", "userinfo_endpoint"} {
		if a.json[absent] != nil {
			t.Errorf("%s is advertised and not served", absent)
		}
	}
	for _, same := range []answer{
		s.get(wellKnownOpenID),
		s.get(wellKnownOAuth + "?x=" + strings.Repeat("y", 100)),
		s.get(wellKnownOAuth, func(r *http.Request) { r.Host = "evil.test"; r.Header.Set("X-Forwarded-Host", "evil.test") }),
	} {
		if same.body != a.body {
			t.Errorf("another document: %s", same.body)
		}
	}
	if other := s.get(wellKnownOAuth + "/tenant"); other.status != 404 {
		t.Errorf("the document of another issuer: %d", other.status)
	}
	if head := s.do(s.request(http.MethodHead, wellKnownOAuth, "")); head.status != 200 || head.body != "" {
		t.Errorf("HEAD: %d", head.status)
	}
	if post := s.post(wellKnownOAuth, form()); post.status != 405 {
		t.Errorf("POST: %d", post.status)
	}
	// A resource that is registered later is in it a moment later.
	if _, err := s.Registry.PutResource(t.Context(), agents.Resource{
		ID: "new", URI: "https://new.test", Redemption: agents.RedemptionNone, Scopes: map[string]string{"new": ""},
	}, 0); err != nil {
		t.Fatal(err)
	}
	s.Pass(6 * time.Second)
	if a := s.get(wellKnownOAuth); !strings.Contains(a.body, "https://new.test") {
		t.Error("the document has not changed")
	}
}

func TestPathIssuer(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *endpoint.Config) { c.Issuer = world.Issuer + "/tenant1" })
	bodies := []string{}
	for _, path := range []string{wellKnownOAuth + "/tenant1", wellKnownOpenID + "/tenant1", "/tenant1" + wellKnownOpenID} {
		a := s.get(path)
		if a.status != 200 || a.str("issuer") != world.Issuer+"/tenant1" || a.str("token_endpoint") != world.Issuer+"/tenant1/token" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		bodies = append(bodies, a.body)
	}
	if len(slices.Compact(bodies)) != 1 {
		t.Error("the documents differ")
	}
	for _, path := range []string{wellKnownOAuth, wellKnownOpenID, wellKnownOAuth + "/tenant2", "/tenant2" + wellKnownOpenID, "/jwks.json"} {
		if a := s.get(path); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := s.get("/tenant1/jwks.json"); a.status != 200 {
		t.Errorf("keys: %d", a.status)
	}
	if a := s.post("/tenant1/token", form("grant_type", "x")); a.str("error") != "unsupported_grant_type" {
		t.Errorf("token: %s", a.body)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	a := s.get("/jwks.json")
	list, _ := a.json["keys"].([]any)
	if a.status != 200 || len(list) == 0 || a.header.Get("Cache-Control") != "public, max-age=300" || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("got %d %s %v", a.status, a.body, a.header)
	}
	for _, k := range list {
		k, _ := k.(map[string]any)
		if k["kid"] == nil || k["alg"] == nil || k["use"] != "sig" || k["d"] != nil {
			t.Errorf("key %v", k)
		}
	}
	again := s.get("/jwks.json", func(r *http.Request) { r.Header.Set("If-None-Match", a.header.Get("ETag")) })
	if again.status != http.StatusNotModified || again.body != "" {
		t.Errorf("got %d", again.status)
	}
	if a := s.get("/jwks.json", func(r *http.Request) { r.Header.Set("If-None-Match", `"old"`) }); a.status != 200 {
		t.Errorf("got %d", a.status)
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for path, may := range map[string]bool{
		"/token": true, "/revoke": true, "/jwks.json": true, wellKnownOAuth: true, wellKnownOpenID: true,
		"/authorize": false, "/par": false, "/introspect": false, "/redeem": false, "/authz": false,
	} {
		r := s.request(http.MethodOptions, path, "")
		r.Header.Set("Origin", "https://app.test")
		r.Header.Set("Access-Control-Request-Method", "POST")
		a := s.do(r)
		got := a.header.Get("Access-Control-Allow-Origin")
		if may && (got != "*" || a.status != http.StatusNoContent) || !may && got != "" {
			t.Errorf("%s: %d, %q", path, a.status, got)
		}
		if a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s takes cookies of others", path)
		}
	}
	r := s.request(http.MethodPost, "/token", s.te().Encode())
	r.Header.Set("Origin", "https://app.test")
	if a := s.do(r); a.status != 200 || a.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %d %v", a.status, a.header)
	}
}

// TestReasonsAreExplained: every reason that there is has its place on the page that error_uri leads to.
func TestReasonsAreExplained(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	a := s.get("/errors")
	if a.status != 200 || !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Fatalf("got %d %v", a.status, a.header)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		lit, ok := node.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		reason, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if !strings.Contains(a.body, `id="`+reason+`"`) {
			t.Errorf("%s is not explained", reason)
		}
		return true
	})
	if n < 50 {
		t.Errorf("only %d reasons were found", n)
	}
}
