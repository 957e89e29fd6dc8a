package details

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// covers says whether every member of want lies within the one of have.
func (f fields) covers(have, want map[string]any) bool {
	for _, m := range f {
		h, limited := have[m.name]
		w, asked := want[m.name]
		switch {
		case m.noneIfOut && !asked: // asks for nothing
		case m.noneIfOut && !limited:
			return false
		case !limited || m.rule == anything: // no limit
		case !asked || !m.covers(h, w):
			return false
		}
	}
	return true
}

func (m *member) covers(have, want any) bool {
	switch m.rule {
	case most:
		return compare(text(want), text(have)) <= 0
	case least:
		return compare(text(want), text(have)) >= 0
	case prefix:
		return within(text(have), text(want))
	case subset:
		return m.subset(have, want)
	case superset:
		return m.subset(want, have)
	default:
		return m.equal(have, want)
	}
}

// text is a string or a number as it was written.
func text(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	s, _ := v.(string) // read has seen that it is one
	return s
}

// within says whether a path is another or lies under it, segment by segment.
func within(root, path string) bool {
	if !strings.HasSuffix(root, "/") {
		if path == root {
			return true
		}
		root += "/"
	}
	return strings.HasPrefix(path, root)
}

// subset says whether small allows no more than big.
func (m *member) subset(big, small any) bool {
	if m.kind == Parameters {
		return fewerParameters(object(big), object(small))
	}
	return containsAll(list(big), list(small))
}

// fewerParameters compares what two objects name. For names that are allowed fewer is narrower, and no values means any; for
// names that are denied (the rule superset, which calls with the two exchanged) no values means all of them.
func fewerParameters(big, small map[string]any) bool {
	for name, values := range small {
		in, ok := big[name]
		if !ok {
			return false
		}
		if len(list(in)) > 0 && (len(list(values)) == 0 || !containsAll(list(in), list(values))) {
			return false
		}
	}
	return true
}

func (m *member) equal(a, b any) bool {
	switch {
	case m.kind == Decimal:
		return compare(text(a), text(b)) == 0
	case m.kind == StringSet:
		return containsAll(list(a), list(b)) && containsAll(list(b), list(a))
	case m.fields != nil:
		return m.fields.covers(object(a), object(b))
	default:
		return same(a, b)
	}
}

func list(v any) []any {
	l, _ := v.([]any) // read has seen that it is one
	return l
}

func object(v any) map[string]any {
	o, _ := v.(map[string]any) // read has seen that it is one
	return o
}

func containsAll(big, small []any) bool {
	for _, v := range small {
		if !slices.ContainsFunc(big, func(have any) bool { return same(have, v) }) {
			return false
		}
	}
	return true
}

// same is equality of canonical JSON: members in any order, numbers by value, everything else as it stands.
func same(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		n, ok := b.(json.Number)
		return ok && value(a) == value(n)
	case []any:
		l, ok := b.([]any)
		return ok && slices.EqualFunc(a, l, same)
	case map[string]any:
		o, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, o, same)
	case string, bool:
		return a == b
	default:
		return a == nil && b == nil
	}
}

// value is exact for the numbers that read lets in.
func value(n json.Number) float64 {
	f, _ := strconv.ParseFloat(n.String(), 64) // the JSON was checked
	return f
}

// meet gives the members of the largest entry within both, or says that there is none.
func (f fields) meet(a, b map[string]any) (map[string]any, bool) {
	out := make(map[string]any, len(f))
	for _, m := range f {
		x, inA := a[m.name]
		y, inB := b[m.name]
		switch {
		case inA && inB:
			if v, ok := m.meet(x, y); ok {
				out[m.name] = v
			} else if !m.noneIfOut {
				return nil, false
			}
		case m.noneIfOut: // allows nothing in one of them
		case inA:
			out[m.name] = x
		case inB:
			out[m.name] = y
		}
	}
	return out, true
}

func (m *member) meet(a, b any) (any, bool) {
	switch {
	case m.rule == anything:
		return b, true
	case m.fields != nil:
		return m.fields.meet(object(a), object(b))
	case m.rule == subset && m.kind == Parameters:
		return bothAllow(object(a), object(b))
	case m.rule == superset && m.kind == Parameters:
		return eitherDenies(object(a), object(b)), true
	case m.rule == subset:
		return both(list(a), list(b))
	case m.rule == superset:
		return either(list(a), list(b)), true
	case m.covers(a, b):
		return b, true
	default:
		return a, m.covers(b, a)
	}
}

func both(a, b []any) (any, bool) {
	var out []any
	for _, v := range b {
		if containsAll(a, []any{v}) {
			out = append(out, v)
		}
	}
	return out, len(out) > 0
}

func either(a, b []any) []any {
	out := slices.Clone(b)
	for _, v := range a {
		if !containsAll(out, []any{v}) {
			out = append(out, v)
		}
	}
	return out
}

// bothAllow keeps the names that both allow, with the values that both allow.
func bothAllow(a, b map[string]any) (any, bool) {
	out := make(map[string]any)
	for name, y := range b {
		x, ok := a[name]
		switch {
		case !ok:
		case len(list(x)) == 0:
			out[name] = y
		case len(list(y)) == 0:
			out[name] = x
		default:
			if values, some := both(list(x), list(y)); some {
				out[name] = values
			}
		}
	}
	return out, len(out) > 0
}

// eitherDenies keeps the names that one of them denies, with the values that one of them denies.
func eitherDenies(a, b map[string]any) map[string]any {
	out := maps.Clone(b)
	for name, x := range a {
		y, ok := out[name]
		switch {
		case !ok || len(list(x)) == 0:
			out[name] = x
		case len(list(y)) > 0:
			out[name] = either(list(x), list(y))
		}
	}
	return out
}
