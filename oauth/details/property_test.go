package details_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"obolus/oauth/details"
)

// model is a type whose meaning the tests know: which acts of a small world an entry allows. It has a member of every rule.
const model = `{"type": "model", "about": "Model", "members": ` + modelMembers + `}`

// counted is the same, but counted.
const counted = `{"type": "counted", "about": "Model", "once": true, "members": ` + modelMembers + `}`

const modelMembers = `{
	"actions": {"kind": "set"}, "data": {"kind": "set", "absent": "none"}, "place": {"kind": "string", "rule": "prefix"},
	"most": {"kind": "integer", "rule": "max"}, "least": {"kind": "integer", "rule": "min"}, "price": {"kind": "decimal", "rule": "max"},
	"public": {"kind": "boolean"}, "demands": {"kind": "set", "rule": "superset"}, "name": {"kind": "string"},
	"options": {"kind": "parameters"}, "bans": {"kind": "parameters", "rule": "superset"},
	"owner": {"kind": "object", "members": {"id": {"kind": "integer", "rule": "max"}, "of": {"kind": "string"}}}}`

// act is something that a resource could be asked to do.
type act struct {
	entry, action, data, place string
	n                          int
	price                      float64
	public                     bool
	tags                       []string
	name                       string
	option, value              string // a parameter that is sent; empty: none
	owner                      int
	of                         string
}

// allows is what an entry of the model means. It is written from the words of the package, not from its code.
func allows(e details.Entry, a act) bool {
	m := e.Members()
	texts := func(v any) []string {
		var out []string
		for _, one := range v.([]any) {
			out = append(out, fmt.Sprint(one))
		}
		return out
	}
	number := func(v any) float64 {
		f, _ := strconv.ParseFloat(fmt.Sprint(v), 64)
		return f
	}
	if v, ok := m["actions"]; ok && !slices.Contains(texts(v), a.action) {
		return false
	}
	if v, ok := m["data"]; a.data != "" && (!ok || !slices.Contains(texts(v), a.data)) {
		return false
	}
	if v, ok := m["place"]; ok {
		root := strings.Split(strings.TrimSuffix(v.(string), "/"), "/")
		path := strings.Split(a.place, "/")
		if len(path) < len(root) || !slices.Equal(path[:len(root)], root) || strings.HasSuffix(v.(string), "/") && len(path) == len(root) {
			return false
		}
	}
	if v, ok := m["most"]; ok && float64(a.n) > number(v) {
		return false
	}
	if v, ok := m["least"]; ok && float64(a.n) < number(v) {
		return false
	}
	if v, ok := m["price"]; ok && a.price > number(v) {
		return false
	}
	if v, ok := m["public"]; ok && v != a.public {
		return false
	}
	if v, ok := m["demands"]; ok {
		for _, demanded := range texts(v) {
			if !slices.Contains(a.tags, demanded) {
				return false
			}
		}
	}
	if v, ok := m["name"]; ok && v != a.name {
		return false
	}
	if v, ok := m["options"]; ok && a.option != "" {
		values, named := v.(map[string]any)[a.option]
		if !named || len(texts(values)) > 0 && !slices.Contains(texts(values), a.value) {
			return false
		}
	}
	if v, ok := m["bans"]; ok && a.option != "" {
		values, named := v.(map[string]any)[a.option]
		if named && (len(texts(values)) == 0 || slices.Contains(texts(values), a.value)) {
			return false
		}
	}
	if v, ok := m["owner"].(map[string]any); ok {
		if id, limited := v["id"]; limited && float64(a.owner) > number(id) || v["of"] != nil && v["of"] != a.of {
			return false
		}
	}
	return true
}

func allowed(s details.Set, a act) bool {
	return slices.ContainsFunc(s.Entries(), func(e details.Entry) bool { return e.Type() == a.entry && allows(e, a) })
}

func anAct(t *rapid.T) act {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	return act{
		entry:  pick("entry", "model", "counted"),
		action: pick("action", "read", "write", "list"), data: pick("data", "", "x", "y"), place: pick("place", "a", "a/b", "a/b/c", "ab", "c"),
		n: rapid.IntRange(-3, 3).Draw(t, "n"), price: rapid.SampledFrom([]float64{0.5, 1, 2.25, 10}).Draw(t, "price"),
		public: rapid.Bool().Draw(t, "public"), tags: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"p", "q"}), rapid.ID).Draw(t, "tags"),
		name: pick("name", "é", "e\u0301"), option: pick("option", "", "k", "l"), value: pick("value", "1", "2"),
		owner: rapid.IntRange(0, 3).Draw(t, "owner"), of: pick("of", "us", "them"),
	}
}

// anEntry draws an entry of the model. Few members at a time, so that two of them have to do with each other.
func anEntry(t *rapid.T) string {
	e := map[string]any{"type": rapid.SampledFrom([]string{"model", "model", "counted"}).Draw(t, "type")}
	set := func(values ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 1, len(values), rapid.ID).Draw(t, "set")
	}
	parameters := func() map[string][]string {
		m := map[string][]string{}
		for _, name := range set("k", "l") {
			m[name] = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"1", "2"}), 0, 2, rapid.ID).Draw(t, "values")
		}
		return m
	}
	draw := map[string]func() any{
		"actions": func() any { return set("read", "write", "list") }, "data": func() any { return set("x", "y") },
		"place": func() any { return rapid.SampledFrom([]string{"a", "a/", "a/b", "a/b/c", "ab"}).Draw(t, "place") },
		"most":  func() any { return rapid.IntRange(-3, 3).Draw(t, "most") }, "least": func() any { return rapid.IntRange(-3, 3).Draw(t, "least") },
		"price": func() any {
			return rapid.SampledFrom([]string{"0.5", "0.50", "1", "2.25", "10.0", "9"}).Draw(t, "price")
		},
		"public": func() any { return rapid.Bool().Draw(t, "public") }, "demands": func() any { return set("p", "q") },
		"name": func() any { return rapid.SampledFrom([]string{"é", "e\u0301"}).Draw(t, "name") }, "options": func() any { return parameters() },
		"bans": func() any { return parameters() },
		"owner": func() any {
			o := map[string]any{}
			if rapid.Bool().Draw(t, "has id") {
				o["id"] = rapid.IntRange(0, 3).Draw(t, "id")
			}
			if rapid.Bool().Draw(t, "has of") {
				o["of"] = rapid.SampledFrom([]string{"us", "them"}).Draw(t, "of")
			}
			return o
		},
	}
	names := []string{"actions", "data", "place", "most", "least", "price", "public", "demands", "name", "options", "bans", "owner"}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID).Draw(t, "members") {
		e[name] = draw[name]()
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func aSet(t *rapid.T, r *details.Registry, label string) details.Set {
	var entries []string
	for range rapid.IntRange(1, 3).Draw(t, label) {
		entries = append(entries, anEntry(t))
	}
	s, err := r.Parse([]byte("[" + strings.Join(entries, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// narrowed draws a set that is likely within another: what both have in common with a third, or a part of it.
func narrowed(t *rapid.T, r *details.Registry, s details.Set) details.Set {
	if w, ok := r.Widest(s, aSet(t, r, "third")); ok {
		return w
	}
	return s
}

func modelRegistry(t *testing.T) *details.Registry {
	t.Helper()
	r, err := details.New([]json.RawMessage{json.RawMessage(model), json.RawMessage(counted)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCoversIsAnOrder(t *testing.T) {
	t.Parallel()
	r := modelRegistry(t)
	rapid.Check(t, func(t *rapid.T) {
		a := aSet(t, r, "a")
		b := narrowed(t, r, a)
		c := narrowed(t, r, b)
		if r.Covers(a, a) != nil {
			t.Fatalf("%s does not cover itself", a.JSON())
		}
		if r.Covers(a, b) != nil || r.Covers(b, c) != nil {
			t.Fatalf("what is common with\n%s is not within it:\n%s\n%s", a.JSON(), b.JSON(), c.JSON())
		}
		if r.Covers(a, c) != nil {
			t.Fatalf("%s\ncovers %s\nthat covers %s", a.JSON(), b.JSON(), c.JSON())
		}
		d, e := aSet(t, r, "d"), aSet(t, r, "e")
		if r.Covers(a, d) == nil && r.Covers(d, e) == nil && r.Covers(a, e) != nil {
			t.Fatalf("%s\ncovers %s\nthat covers %s", a.JSON(), d.JSON(), e.JSON())
		}
	})
}

// TestNothingIsAllowedOutside is RAR-07: what covers another set allows whatever that allows.
func TestNothingIsAllowedOutside(t *testing.T) {
	t.Parallel()
	r := modelRegistry(t)
	rapid.Check(t, func(t *rapid.T) {
		granted := aSet(t, r, "granted")
		request := aSet(t, r, "request")
		if rapid.Bool().Draw(t, "related") {
			request = narrowed(t, r, granted)
		}
		covered := r.Covers(granted, request) == nil
		for range 20 {
			if a := anAct(t); covered && allowed(request, a) && !allowed(granted, a) {
				t.Fatalf("%s\ncovers %s\nbut does not allow %+v", granted.JSON(), request.JSON(), a)
			}
		}
	})
}

// TestWidestIsTheLargest holds Widest between what both allow: not more, and not less.
func TestWidestIsTheLargest(t *testing.T) {
	t.Parallel()
	r := modelRegistry(t)
	rapid.Check(t, func(t *rapid.T) {
		limit, asked := aSet(t, r, "limit"), aSet(t, r, "asked")
		widest, ok := r.Widest(limit, asked)
		if ok != (widest.Len() > 0) {
			t.Fatalf("%v with %d entries", ok, widest.Len())
		}
		if err := r.Covers(limit, widest); err != nil {
			t.Fatalf("%s\nis not within the limit %s", widest.JSON(), limit.JSON())
		}
		if err := r.Covers(asked, widest); err != nil {
			t.Fatalf("%s\nis not within what was asked %s", widest.JSON(), asked.JSON())
		}
		if r.Covers(limit, asked) == nil && r.Covers(widest, asked) != nil {
			t.Fatalf("%s\nis within %s\nbut not within %s", asked.JSON(), limit.JSON(), widest.JSON())
		}
		for range 10 {
			// That no parameter at all is common to both cannot be written, so acts without one are not asked about; nor is what is
			// counted, since each of its entries can be used up by only one.
			if a := anAct(t); a.option != "" && a.entry == "model" && allowed(limit, a) && allowed(asked, a) && !allowed(widest, a) {
				t.Fatalf("both\n%s\n%s\nallow %+v\nbut not %s", limit.JSON(), asked.JSON(), a, widest.JSON())
			}
		}
		if ok {
			again, err := r.Parse(widest.JSON())
			if err != nil || string(again.JSON()) != string(widest.JSON()) {
				t.Fatalf("%s cannot be sent: %v", widest.JSON(), err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"[" + vault + "]", "[" + pay + "," + call + "]", "[" + entry(`,"size":1,"options":{"a":[1,true,"x"]},"extra":{"b":[null,{"c":0.5}]}`) + "]",
		`[{"type":"mcp_tool_call","tool":"caf\u00e9","arguments":{"\ud83d\ude00":"\\"}}]`, `[]`, `null`, `[{"type":"payment"}]`,
	} {
		f.Add(seed)
	}
	r := registry(f)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := r.Parse([]byte(text))
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Errorf("%q cannot be printed", err)
			}
			return
		}
		again, err := r.Parse(s.JSON())
		if err != nil || string(again.JSON()) != string(s.JSON()) {
			t.Fatalf("%s is read as %s: %v", s.JSON(), again.JSON(), err)
		}
		if r.Covers(s, again) != nil || r.Covers(again, s) != nil {
			t.Errorf("%s does not cover itself", s.JSON())
		}
		if w, ok := r.Widest(s, s); !ok || r.Covers(w, s) != nil || r.Covers(s, w) != nil {
			t.Errorf("%s has in common with itself %s", s.JSON(), w.JSON())
		}
		for _, e := range s.Entries() {
			if len(r.Describe(e)) == 0 {
				t.Errorf("nothing to say about %s", e.JSON())
			}
		}
	})
}
