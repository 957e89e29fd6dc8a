package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The guide to security events, carried out word by word: only the ports are others.
func TestSignals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, idp, api := port(t), port(t), port(t)
	text := strings.NewReplacer("127.0.0.1:8420", server, "127.0.0.1:8430", idp, "127.0.0.1:9100", api).Replace(read(t, "signals.md"))
	programs, sh := blocks(text, "go"), blocks(text, "sh")
	for i, name := range []string{"provider", "notes"} {
		file := filepath.Join(dir, name+".go")
		if err := os.WriteFile(file, []byte(programs[i]), 0o600); err != nil {
			t.Fatal(err)
		}
		build(t, filepath.Join(dir, name), file)
	}
	if err := os.WriteFile(filepath.Join(dir, "obolus.yaml"), []byte(blocks(text, "yaml")[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, idp, filepath.Join(dir, "provider"))
	start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--config", "obolus.yaml", "--listen", server)
	run := func(script string) string {
		t.Helper()
		return output(t, shell(t, dir, server, script))
	}
	if out := run(sh[0]); !strings.Contains(out, "202 Accepted") || !strings.Contains(out, "security_event") || !strings.Contains(out, "alice") {
		t.Errorf("the event leads to:\n%s", out)
	}
	secret := regexp.MustCompile(`(?m)^  (\S{20,})$`).FindStringSubmatch(run(sh[1]))
	if secret == nil {
		t.Fatal("no secret was shown")
	}
	start(t, dir, api, filepath.Join(dir, "notes")) // with a guard that follows
	curl := exec.CommandContext(t.Context(), "bash", "-c", "exec "+sh[2])
	curl.Env = append(os.Environ(), "SECRET="+secret[1])
	stream, err := os.Create(filepath.Join(dir, "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	curl.Stdout = stream
	if err := curl.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = curl.Process.Kill()
		_ = curl.Wait()
	})
	until := func(want string) {
		t.Helper()
		for late := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			told, err := os.ReadFile(stream.Name())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(told), want) {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("the stream does not say %q:\n%s", want, told)
			}
		}
	}
	until(": alive\nid: ")
	run(sh[3])
	until("event: stop\nid: ")
	until("data: ey")
}
