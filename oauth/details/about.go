package details

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf16"
)

// piece is a part of the sentence of a type: words, the value of a member, or a choice of clauses, of which the first stands whose
// members are all there.
type piece struct {
	words  string
	path   []string
	choice [][]piece
}

var errBrackets = errors.New("[ ] | and { } do not match")

// readAbout takes a template apart: "Pay {amount.value}[ to {payee}| into {account}| to anybody]".
func readAbout(template string, f fields) ([]piece, error) {
	if template == "" || len(template) > defaultLength {
		return nil, fmt.Errorf("is missing or longer than %d bytes", defaultLength)
	}
	var out []piece
	for template != "" {
		at := strings.IndexAny(template, "[]")
		if at < 0 {
			at = len(template)
		}
		plain, err := readPieces(template[:at], f)
		if err != nil {
			return nil, err
		}
		out = append(out, plain...)
		if template = template[at:]; template == "" {
			break
		}
		inner, rest, ok := strings.Cut(template[1:], "]")
		if !ok || template[0] == ']' || strings.Contains(inner, "[") {
			return nil, errBrackets
		}
		var choice piece
		for clause := range strings.SplitSeq(inner, "|") {
			pieces, err := readPieces(clause, f)
			if err != nil {
				return nil, err
			}
			choice.choice = append(choice.choice, pieces)
		}
		out, template = append(out, choice), rest
	}
	return out, nil
}

// readPieces takes text with members in braces apart.
func readPieces(s string, f fields) ([]piece, error) {
	var out []piece
	for s != "" {
		words, rest, found := strings.Cut(s, "{")
		if strings.Contains(words, "}") {
			return nil, errBrackets
		}
		if words != "" {
			out = append(out, piece{words: words})
		}
		if !found {
			break
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return nil, errBrackets
		}
		path := strings.Split(name, ".")
		if !f.knows(path) {
			return nil, fmt.Errorf("{%s} is no member", show(name))
		}
		out, s = append(out, piece{path: path}), after
	}
	return out, nil
}

func (f fields) knows(path []string) bool {
	m := f.find(path[0])
	if m == nil || len(path) == 1 {
		return m != nil
	}
	return m.fields.knows(path[1:])
}

// Describe tells an entry in plain words: the sentence of its type, and after it each member that the sentence does not speak of, so
// that nothing is allowed unseen. Values stand in it as they came: a page must escape them.
func (r *Registry) Describe(e Entry) []string {
	f, ok := r.forms[e.name]
	if !ok {
		return []string{e.name + " " + string(e.json)}
	}
	said := make(map[string]bool)
	sentence, _ := say(f.about, e.members, said)
	out := []string{cmp.Or(strings.TrimSpace(sentence), e.name)}
	return f.fields.rest(out, e.members, said, "")
}

// say builds a sentence and notes the members in it. It is not complete when a member is absent.
func say(pieces []piece, members map[string]any, said map[string]bool) (sentence string, complete bool) {
	var b strings.Builder
	complete = true
	for _, p := range pieces {
		switch {
		case p.path != nil:
			v, ok := lookUp(members, p.path)
			if !ok {
				complete = false
				continue
			}
			said[strings.Join(p.path, ".")] = true
			b.WriteString(plain(v))
		case p.choice != nil:
			b.WriteString(p.say(members, said))
		default:
			b.WriteString(p.words)
		}
	}
	return b.String(), complete
}

func (p piece) say(members map[string]any, said map[string]bool) string {
	for _, clause := range p.choice {
		inside := make(map[string]bool)
		if s, complete := say(clause, members, inside); complete {
			maps.Copy(said, inside)
			return s
		}
	}
	return ""
}

func lookUp(members map[string]any, path []string) (any, bool) {
	v, ok := members[path[0]]
	if !ok || len(path) == 1 {
		return v, ok
	}
	return lookUp(object(v), path[1:])
}

// rest lists what was not said.
func (f fields) rest(out []string, members map[string]any, said map[string]bool, path string) []string {
	for _, m := range f {
		v, ok := members[m.name]
		switch {
		case !ok || said[path+m.name]:
		case m.fields != nil:
			out = m.fields.rest(out, object(v), said, path+m.name+".")
		default:
			out = append(out, path+m.name+": "+plain(v))
		}
	}
	return out
}

// plain writes a value for people. In what is not a checked string unseen characters are shown by number.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case []any:
		parts := make([]string, 0, len(v))
		for _, one := range v {
			parts = append(parts, plain(one))
		}
		return strings.Join(parts, ", ")
	default:
		return visible(v)
	}
}

func visible(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "?"
	}
	var out strings.Builder
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		if !unseen(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}
