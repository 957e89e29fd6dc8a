package details

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"obolus/oauth/strict"
)

// Kind is what the value of a member is.
type Kind string

// The kinds, as New describes them.
const (
	String     Kind = "string"
	Integer    Kind = "integer"
	Decimal    Kind = "decimal"
	Boolean    Kind = "boolean"
	StringSet  Kind = "set"
	Parameters Kind = "parameters"
	Object     Kind = "object"
	Const      Kind = "const"
)

// rule is how one value of a member lies within another.
type rule string

const (
	equal    rule = "equal"
	most     rule = "max"
	least    rule = "min"
	prefix   rule = "prefix"
	subset   rule = "subset"
	superset rule = "superset"
	anything rule = "any"
)

// rulesOf are those a kind may have; the first is the default.
func rulesOf(k Kind) []rule {
	switch k {
	case String:
		return []rule{equal, prefix, anything}
	case Integer, Decimal:
		return []rule{equal, most, least, anything}
	case Boolean:
		return []rule{equal, anything}
	case StringSet:
		return []rule{subset, superset, equal, anything}
	case Parameters:
		return []rule{subset, superset}
	case Object, Const:
		return []rule{equal}
	default:
		return nil
	}
}

// locations is the member of RFC 9396 section 2.2 that CheckTarget reads.
const locations = "locations"

// form is a type: its name, what it says to people, and its members.
type form struct {
	name   string
	about  []piece
	fields fields
	once   bool                       // it is counted: each granted entry is for one requested entry
	check  func(map[string]any) error // what holds between members; nil: nothing
}

// fields are members in the order of their names.
type fields []*member

type member struct {
	name      string
	kind      Kind
	rule      rule
	required  bool
	noneIfOut bool // a set that allows nothing when it is absent
	values    []string
	pattern   *regexp.Regexp
	maxLength int
	minimum   string
	maximum   string
	constant  any
	fields    fields             // of an object whose members are compared one by one; nil: compared as a whole
	check     func(string) error // of every string in it, for what a pattern cannot say
}

// declaration is the JSON of a form.
type declaration struct {
	Type    string                `json:"type"`
	About   string                `json:"about"`
	Once    bool                  `json:"once"`
	Members map[string]memberDecl `json:"members"`
}

type memberDecl struct {
	Kind      Kind                  `json:"kind"`
	Rule      rule                  `json:"rule"`
	Required  bool                  `json:"required"`
	Absent    string                `json:"absent"`
	Values    []string              `json:"values"`
	Pattern   string                `json:"pattern"`
	MaxLength int                   `json:"max_length"`
	Minimum   json.Number           `json:"minimum"`
	Maximum   json.Number           `json:"maximum"`
	Value     json.RawMessage       `json:"value"`
	Members   map[string]memberDecl `json:"members"`
}

const defaultLength = 1024

// readForm makes a form of its declaration, and refuses what is unclear in it.
func readForm(data []byte) (*form, error) {
	if err := strict.Check(data, strict.Limits{Bytes: MaxBytes, Depth: 2 * maxDepth}); err != nil {
		return nil, err
	}
	var d declaration
	if err := strictly(data, &d); err != nil {
		return nil, err
	}
	if !typeName.MatchString(d.Type) {
		return nil, fmt.Errorf("type %s is not a name of 1 to 128 ASCII letters, digits and ._~:/?#@!$&'()*+,;=%%-", show(d.Type))
	}
	f := &form{name: d.Type, once: d.Once}
	if _, taken := d.Members["type"]; taken {
		return nil, fmt.Errorf("%s: the member type is there by itself", d.Type)
	}
	var err error
	if f.fields, err = readFields(d.Members, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Type, err)
	}
	if m := f.fields.find(locations); m != nil && m.kind != StringSet {
		return nil, fmt.Errorf("%s: the member locations must be a set", d.Type)
	}
	if f.about, err = readAbout(d.About, f.fields); err != nil {
		return nil, fmt.Errorf("%s: about: %w", d.Type, err)
	}
	return f, nil
}

// typeName follows RFC 9396 section 2: ASCII, and a URL if one likes.
var typeName = regexp.MustCompile(`^[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{1,128}$`)

// memberName keeps to what can be named in a template and in a guardrail.
var memberName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

func strictly(data []byte, v any) error {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("the declaration: %w", err)
	}
	return nil
}

func readFields(decls map[string]memberDecl, path string) (fields, error) {
	list := make(fields, 0, len(decls))
	for _, name := range slices.Sorted(maps.Keys(decls)) {
		if !memberName.MatchString(name) {
			return nil, fmt.Errorf("the member name %s is not a letter and up to 63 letters, digits and underscores", show(path+name))
		}
		m, err := readMember(name, decls[name], path)
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", path+name, err)
		}
		list = append(list, m)
	}
	return list, nil
}

func readMember(name string, d memberDecl, path string) (*member, error) {
	rules := rulesOf(d.Kind)
	if rules == nil {
		return nil, fmt.Errorf("kind %s is none of string, integer, decimal, boolean, set, parameters, object, const", show(string(d.Kind)))
	}
	m := &member{
		name: name, kind: d.Kind, rule: d.Rule, required: d.Required, values: d.Values, maxLength: d.MaxLength,
		minimum: d.Minimum.String(), maximum: d.Maximum.String(),
	}
	if m.rule == "" {
		m.rule = rules[0]
	}
	if !slices.Contains(rules, m.rule) {
		return nil, fmt.Errorf("kind %s has no rule %s", d.Kind, show(string(d.Rule)))
	}
	for _, step := range []func(memberDecl) error{m.readAbsence, m.readText, m.readRange, m.readConst} {
		if err := step(d); err != nil {
			return nil, err
		}
	}
	if d.Members == nil {
		return m, nil
	}
	if d.Kind != Object {
		return nil, errors.New("only an object has members")
	}
	var err error
	m.fields, err = readFields(d.Members, path+name+".")
	return m, err
}

func (m *member) readAbsence(d memberDecl) error {
	switch {
	case d.Absent == "" || d.Absent == "all":
		return nil
	case d.Absent != "none":
		return errors.New("absent is all or none")
	case m.kind != StringSet || m.rule != subset || m.required:
		return errors.New("absent: none is for a set with the rule subset that is not required")
	default:
		m.noneIfOut = true
		return nil
	}
}

func (m *member) readText(d memberDecl) error {
	textual := m.kind == String || m.kind == StringSet
	if !textual && (d.Values != nil || d.Pattern != "" || d.MaxLength != 0) {
		return errors.New("values, pattern and max_length are for strings and sets")
	}
	if d.MaxLength < 0 || d.MaxLength > MaxBytes {
		return fmt.Errorf("max_length is between 1 and %d", MaxBytes)
	}
	if m.maxLength == 0 {
		m.maxLength = defaultLength
	}
	if d.Pattern == "" {
		return nil
	}
	p, err := regexp.Compile(`\A(?:` + d.Pattern + `)\z`)
	m.pattern = p
	return err
}

func (m *member) readRange(d memberDecl) error {
	numeric := m.kind == Integer || m.kind == Decimal
	for _, bound := range []string{d.Minimum.String(), d.Maximum.String()} {
		switch {
		case bound == "":
		case !numeric:
			return errors.New("minimum and maximum are for integers and decimals")
		case m.kind == Integer && !isInteger(bound) || m.kind == Decimal && !isDecimal(bound):
			return fmt.Errorf("%s is not a value that the member could have", show(bound))
		}
	}
	return nil
}

func (m *member) readConst(d memberDecl) error {
	if m.kind != Const {
		if d.Value != nil {
			return errors.New("value is for a const")
		}
		return nil
	}
	v, err := decode(d.Value)
	if err != nil || v == nil {
		return errors.New("a const needs a value")
	}
	m.constant = v
	return nil
}

func (f fields) find(name string) *member {
	i, ok := slices.BinarySearchFunc(f, name, func(m *member, name string) int { return strings.Compare(m.name, name) })
	if !ok {
		return nil
	}
	return f[i]
}

// Member tells what a member of a type is, for those who build a schema of it.
type Member struct {
	Kind     Kind
	Required bool
	Members  map[string]Member // of an object whose members are known; nil: any may come
}

// Members are those of a registered type, without type itself.
func (r *Registry) Members(name string) (map[string]Member, bool) {
	f, ok := r.forms[name]
	if !ok {
		return nil, false
	}
	return f.fields.members(), true
}

func (f fields) members() map[string]Member {
	out := make(map[string]Member, len(f))
	for _, m := range f {
		known := Member{Kind: m.kind, Required: m.required}
		if m.fields != nil {
			known.Members = m.fields.members()
		}
		out[m.name] = known
	}
	return out
}
