package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// What a set may be at most.
const (
	maxFile      = 1 << 20
	maxPolicies  = 10_000
	maxStatement = 16 << 10
	maxNesting   = 64
	maxName      = 128
)

// Problem is one thing that is wrong with a set.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Policy string `json:"policy,omitempty"` // by name, where the problem is within one
	Reason string `json:"reason"`
}

// String is the form that editors understand: file:line:column: reason.
func (p Problem) String() string {
	s := p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column) + ": "
	if p.Policy != "" {
		s += p.Policy + ": "
	}
	return s + p.Reason
}

// Errors is why a set was refused: every problem that was found.
type Errors []Problem

// Error has one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, 0, len(e))
	for _, p := range e {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// compiled is one policy of a set.
type compiled struct {
	name   string
	order  int
	cedar  *cedar.Policy
	source *ast.Policy
	reads  reads
	when   expr
}

// set is a compiled whole. It does not change.
type set struct {
	shut     string // why nothing is allowed; empty: the policies decide
	version  string
	files    []File
	policies []*compiled
	byName   map[cedar.PolicyID]int
	permits  bool  // there is a permit: what none allows is refused
	reads    reads // what the policies look at together
	index    index
}

// compile makes a set, or tells everything that keeps it from being one.
func compile(files []File, sch *schema) (*set, error) {
	s := &set{files: slices.Clone(files), byName: make(map[cedar.PolicyID]int), reads: reads{facts: make(map[string]bool)}}
	slices.SortFunc(s.files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	var bad Errors
	for i, f := range s.files {
		if i > 0 && s.files[i-1].Name == f.Name {
			bad = append(bad, Problem{File: f.Name, Line: 1, Column: 1, Reason: "the file is there twice"})
			continue
		}
		bad = append(bad, s.read(f, sch)...)
	}
	if len(s.policies) > maxPolicies {
		bad = append(bad, Problem{File: s.files[len(s.files)-1].Name, Line: 1, Column: 1, Reason: fmt.Sprintf("there are more than %d policies", maxPolicies)})
	}
	if len(bad) > 0 {
		return nil, bad
	}
	s.version = version(s.files)
	s.index = newIndex(s.policies)
	return s, nil
}

// version is a hash over the files that no two sets share.
func version(files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d %d\n%s%s", len(f.Name), len(f.Text), f.Name, f.Text)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// read adds the policies of a file to the set.
func (s *set) read(f File, sch *schema) Errors {
	at := func(p cedar.Position, name, reason string) Problem {
		return Problem{File: f.Name, Line: p.Line, Column: p.Column, Policy: name, Reason: reason}
	}
	if p, ok := readable(f.Text); !ok {
		return Errors{at(p, "", fmt.Sprintf(
			"the file is not UTF-8 or larger than %d bytes, or a policy is longer than %d or nests deeper than %d", maxFile, maxStatement, maxNesting))}
	}
	list, err := cedar.NewPolicyListFromBytes(f.Name, []byte(f.Text))
	if err != nil {
		p, reason := position(err.Error())
		return Errors{at(p, "", reason)}
	}
	var bad Errors
	for i, p := range list {
		name, ok := nameOf(p, f.Name, i)
		if !ok {
			bad = append(bad, at(p.Position(), "", fmt.Sprintf("@id is not a name of 1 to %d characters that can be seen", maxName)))
			continue
		}
		if _, taken := s.byName[cedar.PolicyID(name)]; taken {
			bad = append(bad, at(p.Position(), name, "another policy has the same name"))
			continue
		}
		source := (*ast.Policy)(p.AST())
		c := &compiled{name: name, order: len(s.policies), cedar: p, source: source, reads: readsOf(source)}
		for _, reason := range append(sch.check(source), c.reads.wrong...) {
			bad = append(bad, at(p.Position(), name, reason))
		}
		s.byName[cedar.PolicyID(name)] = c.order
		s.policies = append(s.policies, c)
		s.permits = s.permits || p.Effect() == cedar.Permit
		s.reads.join(c.reads)
	}
	return bad
}

// nameOf is the annotation @id, or else the file and the place in it.
func nameOf(p *cedar.Policy, file string, i int) (string, bool) {
	id, ok := p.Annotations()["id"]
	if !ok {
		return file + "#" + strconv.Itoa(i+1), true
	}
	name := string(id)
	plain := !strings.ContainsFunc(name, func(r rune) bool { return !strconv.IsGraphic(r) })
	return name, name != "" && len(name) <= maxName && plain
}

// readable keeps the parser, which goes as deep as a statement nests or is long, from being led astray. It gives the place of what
// is too much.
func readable(text string) (cedar.Position, bool) {
	if len(text) > maxFile || !utf8.ValidString(text) {
		return cedar.Position{Line: 1, Column: 1}, false
	}
	var m measure
	line, start := 1, 0
	for i, r := range text {
		if !m.read(r, text[i:]) {
			return cedar.Position{Line: line, Column: utf8.RuneCountInString(text[start:i]) + 1}, false
		}
		if r == '\n' {
			line, start = line+1, i+1
		}
	}
	return cedar.Position{}, true
}

// measure is how deep and how long the statement is so far, past strings and comments.
type measure struct {
	inString, inComment, escaped bool
	depth, length                int
}

// read takes the next character in, with the text from there on, and says whether it is still within bounds.
func (m *measure) read(r rune, rest string) bool {
	m.length++
	switch {
	case m.inComment:
		m.inComment = r != '\n'
		m.length--
	case m.inString:
		m.inString = r != '"' || m.escaped
		m.escaped = r == '\\' && !m.escaped
	default:
		m.code(r, rest)
	}
	return m.depth <= maxNesting && m.length <= maxStatement
}

func (m *measure) code(r rune, rest string) {
	switch r {
	case '"':
		m.inString, m.escaped = true, false
	case '/':
		m.inComment = strings.HasPrefix(rest, "//")
	case '(', '[', '{':
		m.depth++
	case ')', ']', '}':
		m.depth--
	case ';':
		m.depth, m.length = 0, 0
	}
}

// place is how the parser says where it stumbled.
var place = regexp.MustCompile(`<input>:(\d+):(\d+):? ?`)

// position takes the place out of what the parser says.
func position(message string) (cedar.Position, string) {
	p := cedar.Position{Line: 1, Column: 1}
	if m := place.FindStringSubmatch(message); m != nil {
		p.Line, _ = strconv.Atoi(m[1])   // digits
		p.Column, _ = strconv.Atoi(m[2]) // digits
	}
	reason := strings.TrimPrefix(message, "parser error: ")
	reason = strings.TrimPrefix(place.ReplaceAllString(reason, ""), "parse error at ")
	return p, reason
}
