package strictyaml

import (
	"encoding"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds the nesting of free values; everything else is bounded by its type.
const maxDepth = 32

// value reads a node as JSON for a type; false: it says nothing, or a problem was noted.
func (t *Tree) value(n *yaml.Node, typ reflect.Type, path string) (any, bool) {
	if !t.plain(n, path) {
		return nil, false
	}
	t.places[path] = t.place(n)
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch s := shapeOf(typ); s {
	case table:
		return t.table(n, typ, path)
	case lookup:
		return t.lookupTable(n, typ, path)
	case list:
		return t.list(n, typ, path)
	case free:
		return t.freeOf(n, typ, path)
	default:
		return t.scalar(n, typ, path)
	}
}

// plain refuses what YAML can and a configuration should not, and passes over what is empty.
func (t *Tree) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		t.problem(n, path, "aliases are not read; write the value out")
	case n.Anchor != "":
		t.problem(n, path, "anchors are not read; write the value out where it is used")
	case n.Style&yaml.TaggedStyle != 0:
		t.problem(n, path, "tags such as "+n.Tag+" are not read; write the plain value")
	default:
		return n.Tag != "!!null"
	}
	return false
}

// pairs calls each for every member of a mapping, once per key.
func (t *Tree) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		t.problem(n, path, "wants a table of keys and values, not "+kindOf(n))
		return false
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" {
			t.problem(key, path, "a key is plain text")
			continue
		}
		if line, twice := seen[key.Value]; twice {
			t.problem(key, path, fmt.Sprintf("key %q is already set in line %d", key.Value, line))
			continue
		}
		seen[key.Value] = key.Line
		each(key, n.Content[i+1])
	}
	return true
}

func (t *Tree) table(n *yaml.Node, typ reflect.Type, path string) (any, bool) {
	out := map[string]any{}
	ok := t.pairs(n, path, func(key, value *yaml.Node) {
		f, known := fieldNamed(typ, key.Value)
		if !known {
			t.unknown(key, typ, path)
			return
		}
		if v, ok := t.member(value, f, join(path, f.name)); ok {
			out[f.name] = v
		}
	})
	return out, ok
}

// member reads the value of a struct's member, resolving file names.
func (t *Tree) member(n *yaml.Node, f field, path string) (any, bool) {
	v, ok := t.value(n, f.typ, path)
	name, text := v.(string)
	if !ok || !text || f.path == "" || t.dir == "" {
		return v, ok
	}
	scheme := ""
	if f.path == "bolt" {
		rest, ours := strings.CutPrefix(name, "bolt:")
		if !ours {
			return v, true
		}
		scheme, name = "bolt:", rest
	}
	if name == "" || filepath.IsAbs(name) {
		return v, true
	}
	return scheme + filepath.Join(t.dir, name), true
}

func (t *Tree) unknown(key *yaml.Node, typ reflect.Type, path string) {
	var known []string
	for _, f := range fieldsOf(typ) {
		known = append(known, f.name)
	}
	text := fmt.Sprintf("unknown key %q; known here: %s", key.Value, strings.Join(known, ", "))
	if near, ok := nearest(key.Value, known); ok {
		text = fmt.Sprintf("unknown key %q; did you mean %q?", key.Value, near)
	}
	t.problem(key, path, text)
}

func (t *Tree) lookupTable(n *yaml.Node, typ reflect.Type, path string) (any, bool) {
	out := map[string]any{}
	ok := t.pairs(n, path, func(key, value *yaml.Node) {
		if v, ok := t.value(value, typ.Elem(), join(path, key.Value)); ok {
			out[key.Value] = v
		} else if value.Tag == "!!null" {
			t.problem(value, join(path, key.Value), "has no value")
		}
	})
	return out, ok
}

func (t *Tree) list(n *yaml.Node, typ reflect.Type, path string) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		t.problem(n, path, "wants a list, not "+kindOf(n))
		return nil, false
	}
	out := []any{}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		v, ok := t.value(item, typ.Elem(), at)
		if !ok && item.Tag == "!!null" {
			t.problem(item, at, "is empty")
		}
		out = append(out, v)
	}
	return out, true
}

func (t *Tree) freeOf(n *yaml.Node, typ reflect.Type, path string) (any, bool) {
	v, ok := t.free(n, path, 0)
	if !ok {
		return nil, false
	}
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, reflect.New(typ).Interface())
	}
	if err != nil {
		t.problem(n, path, err.Error())
		return nil, false
	}
	return v, true
}

// free reads any JSON.
func (t *Tree) free(n *yaml.Node, path string, depth int) (any, bool) {
	if depth > maxDepth {
		t.problem(n, path, "is nested too deeply")
		return nil, false
	}
	if !t.plain(n, path) {
		return nil, n.Tag == "!!null"
	}
	switch n.Kind {
	case yaml.MappingNode:
		out, good := map[string]any{}, true
		ok := t.pairs(n, path, func(key, value *yaml.Node) {
			v, ok := t.free(value, join(path, key.Value), depth+1)
			out[key.Value], good = v, good && ok
		})
		return out, ok && good
	case yaml.SequenceNode:
		out, good := []any{}, true
		for i, item := range n.Content {
			v, ok := t.free(item, fmt.Sprintf("%s[%d]", path, i), depth+1)
			out, good = append(out, v), good && ok
		}
		return out, good
	default:
		return t.freeScalar(n, path)
	}
}

func (t *Tree) freeScalar(n *yaml.Node, path string) (any, bool) {
	var v any
	switch n.Tag {
	case "!!str", "!!timestamp", "!!binary":
		return n.Value, true
	case "!!int":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), true
		}
	default:
	}
	if err := n.Decode(&v); err != nil {
		t.problem(n, path, "cannot be read: "+err.Error())
		return nil, false
	}
	return v, true
}

func (t *Tree) scalar(n *yaml.Node, typ reflect.Type, path string) (any, bool) {
	if n.Kind != yaml.ScalarNode {
		t.problem(n, path, "wants "+wants(typ)+", not "+kindOf(n))
		return nil, false
	}
	shape := shapeOf(typ)
	tags := map[shapeTag]bool{
		{scalarText, "!!str"}: true, {scalarBool, "!!bool"}: true, {scalarInt, "!!int"}: true,
		{scalarFloat, "!!float"}: true, {scalarFloat, "!!int"}: true,
		{scalarTime, "!!str"}: true, {scalarTime, "!!timestamp"}: true, {scalarParsed, "!!str"}: true,
	}
	if !tags[shapeTag{shape, n.Tag}] {
		t.problem(n, path, "wants "+wants(typ)+", not "+kindOf(n))
		return nil, false
	}
	into := reflect.New(typ)
	switch shape {
	case scalarText:
		return n.Value, true
	case scalarTime, scalarParsed:
		text, _ := reflect.TypeAssert[encoding.TextUnmarshaler](into)
		if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			t.problem(n, path, fmt.Sprintf("wants %s, not %q", wants(typ), n.Value))
			return nil, false
		}
		return n.Value, true
	default:
		if err := n.Decode(into.Interface()); err != nil {
			t.problem(n, path, fmt.Sprintf("wants %s, not %q", wants(typ), n.Value))
			return nil, false
		}
		return into.Elem().Interface(), true
	}
}

type shapeTag struct {
	shape shape
	tag   string
}

// wants says in words what a type is written like.
func wants(typ reflect.Type) string {
	switch shapeOf(typ) {
	case scalarBool:
		return "true or false"
	case scalarInt:
		return "a whole number"
	case scalarFloat:
		return "a number"
	case scalarTime:
		return "a time like " + time.Date(2030, 1, 2, 15, 4, 5, 0, time.UTC).Format(time.RFC3339)
	case scalarParsed:
		if typ.Kind() == reflect.Int64 {
			return `a duration like "60s"`
		}
		return "a value of its text form"
	default:
		return "text"
	}
}

// kindOf says in words what a node is.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a table"
	case yaml.SequenceNode:
		return "a list"
	default:
	}
	switch n.Tag {
	case "!!bool":
		return "a truth value (text goes in quotes)"
	case "!!int", "!!float":
		return "a number (text goes in quotes)"
	case "!!timestamp":
		return "a time (text goes in quotes)"
	default:
		return "text"
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
