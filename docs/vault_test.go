package docs_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// What the guide to Vault registers leads to a token that has what its role at Vault wants.
func TestVaultLogin(t *testing.T) {
	t.Parallel()
	dir, server := t.TempDir(), port(t)
	sh := blocks(read(t, "vault.md"), "sh")
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--listen", server)
	registered, role := sh[len(sh)-2], sh[len(sh)-1]
	out, err := carryOut(t, dir, server, registered+`
		obolus client add app --redirect-uri http://127.0.0.1/callback
		echo "correct horse battery" | obolus user add alice --password-file -
		obolus token login --client app --resource https://vault.example.com:8200 --scope vault.login > alice.token
		echo "TOKEN $(obolus token exchange --agent refunder --key refunder.pem --subject alice.token --resource https://vault.example.com:8200)"`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, rest, found := strings.Cut(out, "TOKEN ")
	if !found {
		t.Fatal(out)
	}
	var claims struct {
		Sub, Scope, Txn, JTI string
		Aud                  any
		Act                  struct{ Sub string }
		Mode                 string `json:"txn_mode"`
	}
	payloadOf(t, strings.Fields(rest)[0], &claims)
	var wanted struct {
		Audiences []string          `json:"bound_audiences"`
		Claims    map[string]string `json:"bound_claims"`
		Mappings  map[string]string `json:"claim_mappings"`
		User      string            `json:"user_claim"`
	}
	document := role[strings.Index(role, "\n{"):strings.Index(role, "\nEOF")]
	if err := json.Unmarshal([]byte(document), &wanted); err != nil {
		t.Fatal(err)
	}
	if claims.Aud != wanted.Audiences[0] || claims.Act.Sub != wanted.Claims["/act/sub"] || claims.Scope != wanted.Claims["scope"] ||
		claims.Sub != "alice" || wanted.User != "sub" || claims.Txn == "" || claims.JTI == "" || claims.Mode != "" {
		t.Errorf("the token has %+v, the role wants %+v", claims, wanted)
	}
}
