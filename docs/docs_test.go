// Package docs_test holds the guides to what they describe.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks are the fenced blocks of a language.
func blocks(text, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// reasons are the constants of oauth/reason.go.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../oauth/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is no literal", spec.Names[0].Name)
		}
		value, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, value)
		return true
	})
	return found
}

// Every reason has a heading of its own, in the order of the code, and there are no others.
func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	var told []string
	sections := regexp.MustCompile("(?m)^### `([a-z_0-9]+)`$").FindAllStringSubmatch(read(t, "errors.md"), -1)
	for _, m := range sections {
		told = append(told, m[1])
	}
	want := reasons(t)
	if len(want) < 50 {
		t.Fatalf("only %d reasons were found", len(want))
	}
	for _, reason := range want {
		if !slices.Contains(told, reason) {
			t.Errorf("errors.md does not explain %s", reason)
		}
	}
	for i, reason := range told {
		if !slices.Contains(want, reason) {
			t.Errorf("errors.md explains %s, which is no reason", reason)
		}
		if slices.Contains(told[:i], reason) {
			t.Errorf("errors.md explains %s twice", reason)
		}
	}
	for _, part := range strings.Split(read(t, "errors.md"), "\n### ")[1:] {
		if !strings.Contains(part, "\n- On the wire: ") || !strings.Contains(part, "\n- What to do: ") {
			t.Errorf("errors.md says too little of %.40q", part)
		}
	}
}

// guides are the pages of this folder and its decisions.
func guides(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.md", "decisions/*.md", "../README.md", "../CONTRIBUTING.md", "../SECURITY.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	return found
}

// anchors are the names of a page's headings, as they are linked.
func anchors(text string) []string {
	var found []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := strings.ToLower(m[1])
		name = regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(name, "")
		found = append(found, strings.ReplaceAll(name, " ", "-"))
	}
	return found
}

// A link leads to a page that is there, and to a heading that is on it.
func TestLinks(t *testing.T) {
	t.Parallel()
	links := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, name := range guides(t) {
		for _, m := range links.FindAllStringSubmatch(read(t, name), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := name
			if target != "" {
				path = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s: there is no heading %s", name, m[1])
			}
		}
	}
}

// The programs in the guides compile.
func TestPrograms(t *testing.T) {
	t.Parallel()
	for _, name := range guides(t) {
		for i, program := range blocks(read(t, name), "go") {
			if !strings.HasPrefix(program, "package ") {
				continue // a few lines out of one
			}
			file := filepath.Join(t.TempDir(), "program.go")
			if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "vet", file)
			cmd.Dir = ".."
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s, program %d: %v\n%s", name, i+1, err, out)
			}
		}
	}
}
