package docs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"obolus/store/storetest/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

// section are the commands under a heading.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("there is no heading %s", heading)
	}
	part, _, _ := strings.Cut(rest, "\n## ")
	return strings.Join(blocks(part, "sh"), "\n")
}

// Backup, restore and migration, carried out as operations.md has them: a server runs for the first and for none of the others.
func TestRecordsAreMovedAsWritten(t *testing.T) {
	t.Parallel()
	dir, server, text := t.TempDir(), port(t), read(t, "operations.md")
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	run := func(script string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", "set -eu -o pipefail\n"+script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "OBOLUS_LISTEN="+server, "POSTGRES="+servers.Postgres(t))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return string(out)
	}
	said := run(fmt.Sprintf(`
		obolus serve & trap "kill $! && wait $!" EXIT
		until curl -sf http://%s/readyz; do sleep 0.1; done
		echo "correct horse battery" | obolus user add alice --name Alice --password-file -
		`, server) + section(t, text, "Backup"))
	for _, want := range []string{"Registered the user alice", "obolus.backup has the", "SHA-256"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q: %s", want, said)
		}
	}
	for heading, want := range map[string]string{"Restore": "Lost is what happened from", "Moving to another store": "all are the same in both"} {
		if said := run(section(t, text, heading)); !strings.Contains(said, want) {
			t.Errorf("%s: nothing says %q: %s", heading, want, said)
		}
	}
	if said := run("OBOLUS_RECORDS=bolt:obolus-data/restored.db obolus user list"); !strings.Contains(said, "alice") {
		t.Errorf("alice is not in what was restored: %s", said)
	}
}
