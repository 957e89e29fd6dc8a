package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// commands are all commands, each with its words.
func commands(t *testing.T) map[string]*kong.Node {
	t.Helper()
	parser, err := parserOf(new(bytes.Buffer), new(bytes.Buffer), func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*kong.Node{}
	var walk func(words string, n *kong.Node)
	walk = func(words string, n *kong.Node) {
		found[words] = n
		for _, c := range n.Children {
			walk(words+" "+c.Name, c)
		}
	}
	parser.Model.Detail = parser.Model.Help
	walk("obolus", parser.Model.Node)
	if len(found) < 60 {
		t.Fatalf("only %d commands were found", len(found))
	}
	return found
}

// Each command says in a sentence what it is for, has an example of its own, and each of its flags says what it does. A flag is shown with a value only
// if that is its default.
func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	sentence := regexp.MustCompile(`^[A-Z].*\.$`)
	unset := map[string]bool{"--listen": true, "--data": true, "--log-level": true} // by the configuration: held by its guide
	for words, n := range commands(t) {
		if words != "obolus" && !sentence.MatchString(n.Help) {
			t.Errorf("%s: its purpose is no sentence: %q", words, n.Help)
		}
		if !strings.Contains(n.Detail, "\n  "+words+" ") && !strings.Contains(n.Detail+"\n", "\n  "+words+"\n") {
			t.Errorf("%s has no example of itself", words)
		}
		for _, f := range n.Flags {
			name := "--" + f.Name
			if !regexp.MustCompile(`^\S.*[.…]$`).MatchString(strings.ReplaceAll(f.Help, "\n", " ")) {
				t.Errorf("%s %s: %q is no sentence", words, name, f.Help)
			}
			if shown := f.PlaceHolder; strings.ToUpper(shown) != shown && shown != f.Default && !unset[name] {
				t.Errorf("%s %s: it looks as if %q were its default", words, name, shown)
			}
			if f.PlaceHolder != "" && f.HasDefault && f.Default != "" {
				t.Errorf("%s %s: its default %q is not shown", words, name, f.Default)
			}
		}
	}
}

// What the help of a command gives as an example is a command line that is understood.
func TestExamplesAreUnderstood(t *testing.T) { //nolint:paralleltest // it works in a folder of its own
	t.Chdir(t.TempDir())
	words, file := regexp.MustCompile(`"[^"]*"|\S+`), regexp.MustCompile(`^[a-z0-9.-]+\.(pem|pub|txt|token|cedar|json|yaml|backup)$`)
	for of, n := range commands(t) {
		_, examples, _ := strings.Cut(n.Detail, "Examples:\n")
		for line := range strings.Lines(examples) {
			line = strings.TrimSpace(line)
			for part := range strings.SplitSeq(line, " | ") {
				part, _, _ = strings.Cut(part, " < ")
				part, _, _ = strings.Cut(part, " > ")
				_, args, ok := strings.Cut(part, "obolus ")
				if !ok {
					continue
				}
				var typed []string
				for _, w := range words.FindAllString(args, -1) {
					w = strings.Trim(w, `"`)
					if file.MatchString(w) {
						if err := os.WriteFile(filepath.Clean(w), nil, 0o600); err != nil {
							t.Fatal(err)
						}
					}
					typed = append(typed, w)
				}
				parser, err := parserOf(new(bytes.Buffer), new(bytes.Buffer), func(int) {})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parser.Parse(typed); err != nil {
					t.Errorf("%s: %s: %v", of, line, err)
				}
			}
		}
	}
}
