package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/modelcontextprotocol/go-sdk/mcp" // what the programs of the guide are built with
)

// The guide for MCP servers, carried out word by word, with a server and with clients that know nothing of Obolus: only the ports are others.
func TestMCP(t *testing.T) {
	t.Parallel()
	dir, server, api := t.TempDir(), port(t), port(t)
	text := strings.NewReplacer("127.0.0.1:8420", server, "127.0.0.1:9001", api).Replace(read(t, "mcp.md"))
	programs, sh := blocks(text, "go"), blocks(text, "sh")
	for i, name := range []string{"notes", "call", "client"} {
		file := filepath.Join(dir, name+".go")
		if err := os.WriteFile(file, []byte(programs[i]), 0o600); err != nil {
			t.Fatal(err)
		}
		build(t, filepath.Join(dir, name), file)
	}
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--listen", server)
	run := func(script string, wants ...string) {
		t.Helper()
		out, err := carryOut(t, dir, server, script)
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		rest := out
		for _, want := range wants {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Errorf("%s\ndoes not lead to %q in:\n%s", script, want, out)
			}
			rest = after
		}
	}
	if len(sh) != 10 || sh[0] != "obolus serve &\n" {
		t.Fatalf("the guide has %d blocks of commands", len(sh))
	}
	run(sh[1])
	start(t, dir, api, filepath.Join(dir, "notes"))
	run(sh[2], "401 Unauthorized", "resource_metadata=", `"authorization_servers":["http://`+server+`"]`)
	run(sh[3] + sh[4] + sh[5])
	const refused = `403 Bearer error="insufficient_scope"`
	run(sh[6],
		`"protocolVersion":"2025-11-25"`, "200", `"name":"add_note"`, "200",
		refused, "resource_metadata=", refused, "resource_metadata=",
		"helper noted for alice: buy milk", "200", `401 Bearer error="invalid_token"`, "resource_metadata=", `"name":"add_note"`, "200")
	run(sh[7], "there is list_notes\nhelper noted for alice: buy bread", "once")
	const before, noted = "notes of alice: buy milk, buy bread\n", "helper noted for alice: buy wine\n"
	run(sh[8], before, "add_note was refused: ", "Unauthorized")
	run(sh[9], before, noted, noted)
}
