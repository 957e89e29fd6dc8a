// Package details reads, compares and tells in words what RFC 9396 calls authorization_details: an array of objects, each of a
// registered type, that say what a token is good for more exactly than a scope can.
//
// A type is a form: members, each with a kind and a rule by which one value is within another. Vault's vault:path_access,
// mcp_tool_call and payment are built in; operators declare more (see New). There is no comparison without a type: what is not
// registered is refused.
//
// What the comparison means:
//
//   - Inside one object the members are a product: actions × locations × datatypes. Every member limits by itself.
//   - Several objects are a union, and each object asked for must lie within one object that was granted. Two granted objects are
//     never put together: read at A and write at B does not give write at A. Of a type that is counted, such as payment, each must lie
//     within another: one payment of up to 20 that was granted does not cover two.
//   - A member that is absent does not limit: absent from what is asked, where the grant has it, it is wider and refused.
//     A list declared with "absent": "none" is the exception: absent, it allows nothing.
//   - Strings are compared code point by code point, without normalisation. Lists are sets: order does not matter.
//
// It does not know targets, agents or users: who may have which type is the caller's matter. It needs the standard library and
// oauth/strict alone.
package details

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"obolus/oauth/strict"
)

// What one authorization_details parameter may be at most.
const (
	MaxBytes   = 32 << 10
	MaxEntries = 32
	maxDepth   = 8
	maxMembers = 64
	maxList    = 256
)

// Registry knows the types. It does not change after New and is safe for concurrent use.
type Registry struct {
	forms map[string]*form
	names []string
}

// New makes a registry of the built-in types and those an operator declares. A declaration is an object
//
//	{"type": "doc:access", "about": "Read {folder}[ as {format}| in any format]", "members": {
//	    "folder": {"kind": "string", "required": true, "rule": "prefix"},
//	    "format": {"kind": "string", "values": ["pdf", "text"]}}}
//
// where about is the sentence that people read: {member} is its value, and of [one|another|…] the first part stands whose members
// are all there. "once": true says that an entry is one thing to be done, so that each granted entry covers one requested entry and not
// several. A member has a kind and a rule:
//
//	string      equal (default), prefix (by whole segments between slashes), any
//	integer     equal, max (what is granted is the most), min, any
//	decimal     as integer; a string such as "12.50", never negative, without exponent
//	boolean     equal, any
//	set         subset (default: what is asked lies within), superset (for lists that forbid or demand), equal, any
//	parameters  subset, superset; an object of names with lists of values, where an empty list is any value
//	object      equal (canonical JSON); with "members" of its own each of those is compared by its rule
//	const       always the "value"
//
// Further: required; values (the only ones allowed); max_length; pattern (RE2, for the whole string); minimum and maximum;
// "absent": "none" for a set that allows nothing when it is absent. A rule that a kind does not have is refused, so that a
// misspelt limit never becomes none.
func New(declared []json.RawMessage) (*Registry, error) {
	forms, err := builtin()
	if err != nil {
		return nil, err
	}
	r := &Registry{forms: forms}
	for i, data := range declared {
		f, err := readForm(data)
		if err != nil {
			return nil, fmt.Errorf("details[%d]: %w", i, err)
		}
		if _, taken := r.forms[f.name]; taken {
			return nil, fmt.Errorf("details[%d]: the type %s is there already", i, f.name)
		}
		r.forms[f.name] = f
	}
	r.names = slices.Sorted(maps.Keys(r.forms))
	return r, nil
}

// Names are the registered types in order, for authorization_details_types_supported.
func (r *Registry) Names() []string { return slices.Clone(r.names) }

// Has says whether a type is registered.
func (r *Registry) Has(name string) bool {
	_, ok := r.forms[name]
	return ok
}

// Entry is one object of a Set. Its members have been checked against its type.
type Entry struct {
	name    string
	json    json.RawMessage
	members map[string]any
}

// Type is the registered type of the entry.
func (e Entry) Type() string { return e.name }

// JSON is the canonical form (RFC 8785) of the entry.
func (e Entry) JSON() json.RawMessage { return bytes.Clone(e.json) }

// Members are the members of the entry as decoded JSON, with numbers as json.Number. They must not be changed.
func (e Entry) Members() map[string]any { return e.members }

// Set is authorization_details that have been checked. The zero Set is empty. Entries stay in the order in which they came; one that
// is there twice counts once.
type Set struct{ entries []Entry }

// Len is the number of entries.
func (s Set) Len() int { return len(s.entries) }

// Entries are the objects of the set.
func (s Set) Entries() []Entry { return slices.Clone(s.entries) }

// Types are the types of the entries, each once, in order of appearance.
func (s Set) Types() []string {
	var names []string
	for _, e := range s.entries {
		if !slices.Contains(names, e.name) {
			names = append(names, e.name)
		}
	}
	return names
}

// JSON is the canonical array; nil when the set is empty, since [] means different things to different readers.
func (s Set) JSON() json.RawMessage {
	if len(s.entries) == 0 {
		return nil
	}
	out := []byte{'['}
	for i, e := range s.entries {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, e.json...)
	}
	return append(out, ']')
}

func (s Set) has(e Entry) bool {
	return slices.ContainsFunc(s.entries, func(have Entry) bool { return bytes.Equal(have.json, e.json) })
}

// errNotArray is told apart since it is the commonest mistake.
var errNotArray = errors.New("must be a JSON array of objects")

// Parse reads authorization_details. The error is a sentence in ASCII that names the entry and the member. An empty
// array is refused: who wants nothing sends nothing.
func (r *Registry) Parse(data []byte) (Set, error) {
	if err := strict.Check(data, strict.Limits{Bytes: MaxBytes, Depth: maxDepth, Members: maxMembers, Elements: maxList}); err != nil {
		return Set{}, err
	}
	var raw []json.RawMessage
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) == 0 || first[0] != '[' {
		return Set{}, errNotArray
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return Set{}, fmt.Errorf("%w: %w", errNotArray, err)
	}
	if len(raw) == 0 {
		return Set{}, errors.New("must not be an empty array")
	}
	if len(raw) > MaxEntries {
		return Set{}, fmt.Errorf("has more than %d entries", MaxEntries)
	}
	var s Set
	for i, one := range raw {
		e, err := r.entry(one)
		if err != nil {
			return Set{}, fmt.Errorf("entry %d %w", i, err)
		}
		if !s.has(e) {
			s.entries = append(s.entries, e)
		}
	}
	return s, nil
}

func (r *Registry) entry(data json.RawMessage) (Entry, error) {
	v, err := decode(data)
	if err != nil {
		return Entry{}, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return Entry{}, errors.New("is not an object")
	}
	name, ok := members["type"].(string)
	if !ok {
		return Entry{}, errors.New("has no type, or one that is not a string")
	}
	f, ok := r.forms[name]
	if !ok {
		return Entry{}, fmt.Errorf("has the type %s, which is not registered", show(name))
	}
	if err := f.read(members); err != nil {
		return Entry{}, fmt.Errorf("(%s): %w", f.name, err)
	}
	canonical, err := strict.Canonical(data)
	if err != nil {
		return Entry{}, err
	}
	return Entry{name: name, json: canonical, members: members}, nil
}

func decode(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	return v, nil
}

// show puts a stranger's text into a sentence: short, and ASCII without quotes and backslashes.
func show(s string) string {
	const most = 64
	s = strings.Map(func(r rune) rune {
		if r <= 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
