package docs_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var link = regexp.MustCompile(`http://127\.0\.0\.1:\d+/(?:authorize\?|consent/)\S+`)

// TestReadme carries out the five minutes of the README as they stand there: only the port is another, and a person does what is done in
// a browser.
func TestReadme(t *testing.T) {
	t.Parallel()
	dir, server := t.TempDir(), port(t)
	sh := blocks(strings.ReplaceAll(read(t, "../README.md"), "127.0.0.1:8420", server), "sh")
	if len(sh) != 5 {
		t.Fatalf("the README has %d blocks of commands", len(sh))
	}
	if !strings.Contains(sh[0], "go build -o obolus ./cmd/obolus") || !strings.Contains(sh[0], "./obolus serve &") {
		t.Errorf("it begins with %s", sh[0])
	}
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--listen", server)
	run := func(script string) string {
		t.Helper()
		out, err := carryOut(t, dir, server, script)
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return out
	}
	run(sh[1])
	run(sh[2])
	if out := run(sh[3]); !strings.Contains(out, "alice") || !strings.Contains(out, "helper") || !strings.Contains(out, "txn_") {
		t.Errorf("the token is %s", out)
	}
	if out := run(sh[4]); !strings.Contains(out, "exchange") {
		t.Errorf("the ledger says %s", out)
	}
}

// The demo prints what the README shows of it, and no table of the README has a row twice.
func TestReadmeShowsTheDemo(t *testing.T) {
	t.Parallel()
	readme, dir := read(t, "../README.md"), t.TempDir()
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "obolus"), "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shows(t, "obolus demo", string(out), blocks(readme, "text")[0])
	seen := map[string]bool{}
	for line := range strings.Lines(readme) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		if strings.HasPrefix(line, "| [") || strings.HasPrefix(line, "| `") {
			if seen[name] {
				t.Errorf("the README has %s twice", name)
			}
			seen[name] = true
		}
	}
}

// carryOut runs a script, follows every link that it prints, and returns what it said.
func carryOut(t *testing.T, dir, server, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu -o pipefail\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "OBOLUS_SERVER=http://"+server,
		"OBOLUS_TOKEN_FILE="+filepath.Join(dir, "obolus-data", "operator.token"))
	said, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var told strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		told.WriteString(lines.Text() + "\n")
		if found := link.FindString(lines.Text()); found != "" {
			if err := follow(ctx, found); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	return told.String(), err
}

// follow opens a link as alice, and the address to which her browser is sent.
func follow(ctx context.Context, to string) error {
	led, err := person(ctx, to)
	if err != nil || led == "" {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, led, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
