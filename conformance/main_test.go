package conformance_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// scratch is where the program is built.
var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.run"); f != nil {
		if err := flag.Set("test.run", patternFor(f.Value.String())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	if f := flag.Lookup("test.parallel"); f != nil && !given("test.parallel") {
		_ = flag.Set("test.parallel", "6") // most cases wait for a server, not for the processor
	}
	dir, err := os.MkdirTemp("", "obolus-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

var checklistID = regexp.MustCompile(`\b(TX|AT|RI|MD|IS|RAR|DP|RV|IN|CA|PAR|JB|O21|UI|OT|NEG|ML|WL|ACT|SSF|CM)\b`)

// patternFor turns a -run pattern with checklist IDs into one below TestConformance.
func patternFor(run string) string {
	switch {
	case !checklistID.MatchString(run) || strings.Contains(run, "Test"):
		return run
	case strings.Contains(run, "/"):
		return "^TestConformance$/" + run
	default:
		return "^TestConformance$/./(" + run + ")"
	}
}

func TestPatternFor(t *testing.T) {
	t.Parallel()
	for run, want := range map[string]string{
		"":                     "",
		"TX-26":                "^TestConformance$/./(TX-26)",
		"^TX-26$":              "^TestConformance$/./(^TX-26$)",
		"TX-(01|02)":           "^TestConformance$/./(TX-(01|02))",
		"TX-|DP-":              "^TestConformance$/./(TX-|DP-)",
		"O21-04":               "^TestConformance$/./(O21-04)",
		"CM-06":                "^TestConformance$/./(CM-06)",
		"(TX|AT)-0[1-3]":       "^TestConformance$/./((TX|AT)-0[1-3])",
		"bolt.memory/OT-01":    "^TestConformance$/bolt.memory/OT-01",
		"TestKill9":            "TestKill9",
		"TestConformance/./TX": "TestConformance/./TX",
	} {
		if got := patternFor(run); got != want {
			t.Errorf("patternFor(%q) = %q, want %q", run, got, want)
		}
	}
}

// program builds the server, once, with the race detector if the tests have it.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "obolus")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", append(args, "obolus/cmd/obolus")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})
