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
// type, and for a type that is counted each within another. It is reflexive and transitive, and it never puts granted entries
// together. Both sets must come from this registry.
func (r *Registry) Covers(granted, requested Set) error {
	m := match{r: r, granted: granted.entries, requested: requested.entries, taken: make(map[int]int)}
	for i, want := range requested.entries {
		if !m.place(i, make(map[int]bool)) {
			return fmt.Errorf("entry %d (%s): %w", i, show(want.name), ErrWider)
		}
	}
	return nil
}

// match gives each requested entry a granted one to lie within.
type match struct {
	r                  *Registry
	granted, requested []Entry
	taken              map[int]int // granted entry of a type that is counted → the requested entry that has it
}

// place finds one for entry i, and moves others that have another choice.
func (m *match) place(i int, tried map[int]bool) bool {
	want := m.requested[i]
	f, ok := m.r.forms[want.name]
	for j, have := range m.granted {
		if !ok || tried[j] || have.name != want.name || !f.fields.covers(have.members, want.members) {
			continue
		}
		if !f.once {
			return true
		}
		tried[j] = true
		if by, taken := m.taken[j]; !taken || m.place(by, tried) {
			m.taken[j] = i
			return true
		}
	}
	return false
}

// Widest gives the largest set that lies within both limit and asked, as far as it can be written in at most MaxEntries entries;
// false if there is nothing in common. Of a type that is counted it is a large one, if not the largest. It is for telling an agent what it
// could have asked for.
func (r *Registry) Widest(limit, asked Set) (Set, bool) {
	if asked.Len() > 0 && r.Covers(limit, asked) == nil {
		return asked, true
	}
	var out Set
	used := make(map[int]bool)
	for _, want := range asked.entries {
		for j, have := range limit.entries {
			e, ok := r.common(have, want)
			if !ok || used[j] {
				continue
			}
			if out = r.join(out, e); r.forms[e.name].once {
				used[j] = true
				break
			}
		}
	}
	out.entries = out.entries[:min(len(out.entries), MaxEntries)]
	return out, len(out.entries) > 0
}

// join adds an entry to a set, and leaves out what then lies within another unless it counts.
func (r *Registry) join(s Set, e Entry) Set {
	within := func(a, b Entry) bool {
		f := r.forms[a.name]
		return a.name == b.name && (!f.once && f.fields.covers(b.members, a.members) || bytes.Equal(a.json, b.json))
	}
	if slices.ContainsFunc(s.entries, func(have Entry) bool { return within(e, have) }) {
		return s
	}
	s.entries = append(slices.DeleteFunc(s.entries, func(have Entry) bool { return within(have, e) }), e)
	return s
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
