package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFailureModes: each test that docs/failure-modes.md names exists, each row names one, and each number of the picture is
// explained.
func TestFailureModes(t *testing.T) {
	t.Parallel()
	doc := read(t, "failure-modes.md")
	tests := testsOfTheTree(t)
	name := regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`|\\b((?:OT|RV|NEG|DP)-[0-9]+)\\b")
	section := ""
	for line := range strings.Lines(doc) {
		if strings.HasPrefix(line, "## ") {
			section = strings.TrimSpace(line)
		}
		if section == "" {
			continue
		}
		found := name.FindAllStringSubmatch(line, -1)
		header := strings.Contains(line, "shown by") || strings.HasPrefix(line, "|---")
		if strings.HasPrefix(line, "| ") && !header && len(found) == 0 {
			t.Errorf("%s: no test shows it: %s", section, line)
		}
		for _, m := range found {
			if !tests[m[1]+m[2]] {
				t.Errorf("%s: there is no test %s", section, m[1]+m[2])
			}
		}
	}
	for _, m := range regexp.MustCompile(`class="n"[^>]*>([0-9]+)<`).FindAllStringSubmatch(read(t, "life-of-a-token.svg"), -1) {
		if !regexp.MustCompile(`(?m)^\| (?:[0-9]+, )*` + m[1] + `(?:, [0-9]+)* \|`).MatchString(doc) {
			t.Errorf("number %s of the picture is not explained", m[1])
		}
	}
}

// testsOfTheTree are the names of all tests, and the IDs of the cases of the conformance suite.
func testsOfTheTree(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	test := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
	row := regexp.MustCompile(`(?m)^\t+\{"([A-Z0-9]+-[0-9]+)", "`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range test.FindAllStringSubmatch(string(text), -1) {
			all[m[1]] = true
		}
		for _, m := range row.FindAllStringSubmatch(string(text), -1) {
			all[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
