package details

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrWider is what every refusal of Covers wraps.
var ErrWider = errors.New("not within what is granted")

// ErrLocation is what every refusal of CheckTarget wraps.
var ErrLocation = errors.New("locations do not name the target")

// Covers says, by nil, that everything in requested lies within granted: each requested entry within one granted entry of its
// type. It is reflexive and transitive, and it never puts granted entries together. Both sets must come from this registry.
func (r *Registry) Covers(granted, requested Set) error {
	for i, want := range requested.entries {
		f, ok := r.forms[want.name]
		if !ok || !slices.ContainsFunc(granted.entries, func(g Entry) bool {
			return g.name == want.name && f.fields.covers(g.members, want.members)
		}) {
			return fmt.Errorf("entry %d (%s): %w", i, show(want.name), ErrWider)
		}
	}
	return nil
}

// Widest gives the largest set that lies within both limit and asked, as far as it can be written in at most MaxEntries entries;
// false if there is nothing in common. It is for telling an agent what it could have asked for.
func (r *Registry) Widest(limit, asked Set) (Set, bool) {
	var out Set
	for _, want := range asked.entries {
		for _, have := range limit.entries {
			if e, ok := r.common(have, want); ok && r.Covers(out, Set{[]Entry{e}}) != nil {
				out.entries = slices.DeleteFunc(out.entries, func(old Entry) bool {
					return r.Covers(Set{[]Entry{e}}, Set{[]Entry{old}}) == nil
				})
				out.entries = append(out.entries, e)
			}
		}
	}
	out.entries = out.entries[:min(len(out.entries), MaxEntries)]
	return out, len(out.entries) > 0
}

// common is the product of two entries: within both of them, or nothing.
func (r *Registry) common(limit, asked Entry) (Entry, bool) {
	f, ok := r.forms[asked.name]
	if !ok || limit.name != asked.name {
		return Entry{}, false
	}
	members, ok := f.fields.meet(limit.members, asked.members)
	if !ok {
		return Entry{}, false
	}
	members["type"] = asked.name
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(members); err != nil {
		return Entry{}, false
	}
	e, err := r.entry(out.Bytes())
	return e, err == nil // what a type does not allow in itself is nothing
}

// CheckTarget sees that a set may stand in a token for one target: where an entry has locations, each must be the target's URI or one
// of its aliases, character by character. An entry without locations is for whatever target its token is for.
func (r *Registry) CheckTarget(set Set, uri string, aliases []string) error {
	for i, e := range set.entries {
		list, ok := e.members[locations].([]any)
		if !ok {
			continue
		}
		for _, at := range list {
			name, ok := at.(string)
			if !ok || name != uri && !slices.Contains(aliases, name) {
				return fmt.Errorf("entry %d (%s): %w", i, show(e.name), ErrLocation)
			}
		}
	}
	return nil
}
