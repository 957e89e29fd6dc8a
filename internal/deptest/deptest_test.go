// Package deptest_test holds the house to its floor plan: who may import whom, what the guard and the binary are made of, and
// that every package says what it is for.
package deptest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Imports    []string
	GoFiles    []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Name,Doc,Imports,GoFiles"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var found []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found = append(found, p)
	}
}

// What others import: the guard of resource servers, and the agent's side.
func TestTheGuardTravelsLight(t *testing.T) {
	heavy := []string{
		"github.com/ory/", "github.com/redis/", "github.com/gorilla/", "go.etcd.io/", "github.com/jackc/", "github.com/cedar-policy/",
		"github.com/prometheus/", "go.yaml.in/", "obolus/store", "obolus/agents", "obolus/web", "obolus/transaction",
	}
	for _, light := range []string{"resource", "errand"} {
		for _, p := range list(t, "-deps", "./"+light) {
			for _, h := range heavy {
				if strings.HasPrefix(p.ImportPath, h) {
					t.Errorf("%s depends on %s", light, p.ImportPath)
				}
			}
		}
	}
}

// The standard library's testing is linked all the same: fosite's tracing brings an exporter that imports it.
func TestTheBinaryHasNoTestLibraries(t *testing.T) {
	for _, p := range list(t, "-deps", "./cmd/obolus") {
		for _, h := range []string{"github.com/stretchr/testify", "github.com/golang/mock", "go.uber.org/mock", "github.com/modelcontextprotocol", "obolus/store/storetest", "obolus/internal/world"} {
			if p.ImportPath == h || strings.HasPrefix(p.ImportPath, h+"/") {
				t.Errorf("the binary links %s", p.ImportPath)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range list(t, "./...") {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// floors are the storeys of the house from the ground up. A package imports what is below it, what is beside it on the floors
// marked core, and its own subtree.
var floors = []struct {
	core     bool
	packages []string
}{
	{true, []string{"oauth", "oauth/strict", "oauth/details", "internal/browser"}},
	{true, []string{"token", "store", "store/archive"}},
	{true, []string{"agents", "audit", "consent", "keys", "policy", "signals", "transaction"}},
	{true, []string{"oauth/authcode", "oauth/exchange", "users"}},
	{false, []string{"oauth/endpoint", "web", "admin", "store/bolt", "store/memory", "store/postgres", "store/redis", "store/storetest", "resource", "errand"}},
	{false, []string{"cmd/obolus"}},
	{false, []string{"bench", "conformance", "docs", "internal/deptest", "internal/world"}},
}

// floorOf finds the longest name on a floor that a package is or stands under.
func floorOf(path string) (floor int, name string) {
	floor = -1
	for i, f := range floors {
		for _, n := range f.packages {
			if (path == n || strings.HasPrefix(path, n+"/")) && len(n) > len(name) {
				floor, name = i, n
			}
		}
	}
	return floor, name
}

func TestImportsRunDownward(t *testing.T) {
	for _, p := range list(t, "./...") {
		from, ours := strings.CutPrefix(p.ImportPath, "obolus/")
		if !ours {
			continue
		}
		floor, name := floorOf(from)
		if floor < 0 {
			t.Errorf("%s stands on no floor: give it one", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, "obolus/")
			if !ours {
				continue
			}
			below, toName := floorOf(to)
			same := toName == name || strings.HasPrefix(name, "store/") && strings.HasPrefix(toName, "store/")
			if below > floor || below == floor && !floors[floor].core && !same {
				t.Errorf("%s imports %s, which is not below it", p.ImportPath, imported)
			}
		}
	}
}

func TestDoors(t *testing.T) {
	for _, door := range []struct {
		library string
		behind  []string
	}{
		{"github.com/go-jose/go-jose/v3", nil},
		{"github.com/go-jose/go-jose/v4", []string{"obolus/token"}},
		{"github.com/ory/fosite", []string{"obolus/oauth/endpoint/internal/fositex"}},
		{"github.com/redis/go-redis", []string{"obolus/store/redis", "obolus/store/storetest", "obolus/bench"}},
		{"github.com/jackc/pgx", []string{"obolus/store/postgres", "obolus/store/storetest", "obolus/bench"}},
		{"go.etcd.io/bbolt", []string{"obolus/store/bolt"}},
		{"github.com/cedar-policy", []string{"obolus/policy"}},
	} {
		for _, p := range list(t, "./...") {
			through := slices.ContainsFunc(p.Imports, func(s string) bool { return strings.HasPrefix(s, door.library) })
			allowed := slices.ContainsFunc(door.behind, func(s string) bool {
				return p.ImportPath == s || strings.HasPrefix(p.ImportPath, s+"/")
			})
			if through && !allowed {
				t.Errorf("%s imports %s, which has its own door", p.ImportPath, door.library)
			}
		}
	}
}
