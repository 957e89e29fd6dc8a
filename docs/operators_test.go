package docs_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The guides for operators, carried out word by word; what each block says is what its text block shows, in that order, where … is anything.
func TestOperatorsGuides(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"registry.md", "guardrails.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, server := t.TempDir(), port(t)
			build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
			start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--listen", server)
			run := func(script string) string {
				t.Helper()
				out, err := carryOut(t, dir, server, script)
				if err != nil {
					t.Errorf("%s\n%v\n%s", script, err, out)
				}
				return out
			}
			text := strings.ReplaceAll(read(t, name), "127.0.0.1:8420", server)
			for _, b := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?").FindAllStringSubmatch(text, -1) {
				if b[1] == "obolus serve &\n" {
					continue
				}
				shows(t, b[1], run(b[1]), b[2])
			}
			if res, err := http.Get("http://" + server + "/readyz"); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("after all that the server is not ready: %v", err)
			}
		})
	}
}

// shows holds an output to lines that it must have, one after the other.
func shows(t *testing.T, script, out, want string) {
	t.Helper()
	spaces := regexp.MustCompile(`\s+`)
	tight := func(s string) string { return strings.TrimSpace(spaces.ReplaceAllString(s, " ")) }
	lines := strings.Split(out, "\n")
	for line := range strings.Lines(want) {
		line = tight(line)
		if line == "…" {
			continue
		}
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + "$")
		i := slices.IndexFunc(lines, func(l string) bool { return pattern.MatchString(tight(l)) })
		if i < 0 {
			t.Errorf("%s\ndoes not show, or not after what comes before it:\n  %s\nbut:\n%s", script, line, out)
			return
		}
		lines = lines[i+1:]
	}
}

// Every command about agents and guardrails is in a guide that is carried out.
func TestEveryCommandOfOperatorsIsInAGuide(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "obolus")
	build(t, program, "./cmd/obolus")
	var carriedOut strings.Builder
	for _, name := range []string{"registry.md", "guardrails.md", "agents.md"} {
		for _, block := range blocks(read(t, name), "sh") {
			carriedOut.WriteString(block)
		}
	}
	for _, command := range []string{"agent", "policy"} {
		help, err := exec.CommandContext(t.Context(), program, command, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^  `+command+` ([a-z-]+)`).FindAllStringSubmatch(string(help), -1)
		if len(found) < 9 {
			t.Fatalf("only %d commands of %s were found in\n%s", len(found), command, help)
		}
		for _, m := range found {
			if !regexp.MustCompile(`obolus ` + command + ` ` + m[1] + `\b`).MatchString(carriedOut.String()) {
				t.Errorf("obolus %s %s is in no guide", command, m[1])
			}
		}
	}
}
