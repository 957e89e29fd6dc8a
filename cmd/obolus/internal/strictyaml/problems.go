package strictyaml

import (
	"fmt"
	"slices"
	"strings"
)

// Place is where a value came from: a line of a file, a variable of the environment, a flag, or a default.
type Place struct {
	Origin string // the file's name as it was given, "OBOLUS_ISSUER", "--issuer"; empty: nobody said it
	Line   int    // zero: not a file
}

// String reads "obolus.yaml:12" or "OBOLUS_ISSUER".
func (p Place) String() string {
	if p.Line == 0 {
		return p.Origin
	}
	return fmt.Sprintf("%s:%d", p.Origin, p.Line)
}

// Problem is one mistake, told as a sentence.
type Problem struct {
	Place
	Path string // "agents[2].ceiling"
	Text string
}

// String reads "obolus.yaml:12: agents[2].auth: the sentence". A flag is a setting, and says which.
func (p Problem) String() string {
	parts := []string{p.Place.String(), p.Path, p.Text}
	if strings.HasPrefix(p.Origin, "--") {
		parts[1] = ""
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// Problems are all mistakes that were found, in the order of the lines.
type Problems []Problem //nolint:errname // a list of them, told one per line

// Error gives one line per mistake.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the mistakes in the order in which a reader meets them.
func (p Problems) sorted() Problems {
	out := slices.Clone(p)
	slices.SortStableFunc(out, func(a, b Problem) int { return a.Line - b.Line })
	return out
}
