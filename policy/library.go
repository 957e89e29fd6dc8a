package policy

import (
	"embed"
	"errors"
	"io/fs"
	"path"
	"strings"
)

//go:embed library/*.cedar library/*.json
var library embed.FS

// Guardrail is one of the ready ones: a file to copy and to change, and cases that show what it does.
type Guardrail struct {
	File
	About string `json:"about"` // in a sentence or two
	Cases []Case `json:"cases"`
}

// Library gives the ready guardrails in the order of their names. Each works by itself and together with the others.
func Library() ([]Guardrail, error) {
	names, err := fs.Glob(library, "library/*.cedar")
	errs := []error{err}
	var all []Guardrail
	for _, name := range names {
		text, err1 := library.ReadFile(name)
		data, err2 := library.ReadFile(strings.TrimSuffix(name, ".cedar") + ".cases.json")
		cases, err3 := ReadCases(data)
		errs = append(errs, err1, err2, err3)
		all = append(all, Guardrail{File: File{Name: path.Base(name), Text: string(text)}, About: about(string(text)), Cases: cases})
	}
	return all, errors.Join(errs...)
}

// about is the comment that a text begins with.
func about(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(line, "//")
		if !ok {
			break
		}
		words = append(words, strings.TrimSpace(comment))
	}
	return strings.Join(words, " ")
}
