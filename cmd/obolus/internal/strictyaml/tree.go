// Package strictyaml reads configuration into a Go value by its JSON names, from a YAML file, single variables and flags, and
// says of every mistake where it is. It knows the form only: what the values mean is for package config. Unknown
// keys, keys set twice, and values of the wrong type are mistakes; anchors, aliases, tags and second documents are too.
package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Tree gathers what the sources say about one Go type. A later source wins.
type Tree struct {
	typ      reflect.Type
	root     map[string]any
	places   map[string]Place
	problems Problems

	origin string // of the source that is being read
	dir    string // what relative file names in it stand under; empty: the working directory
}

// New makes a tree for the struct type T.
func New[T any]() *Tree {
	return &Tree{typ: reflect.TypeFor[T](), root: map[string]any{}, places: map[string]Place{}}
}

// File reads a YAML document. Relative file names in it are resolved against the folder of the file.
func (t *Tree) File(name string, data []byte) {
	t.origin, t.dir = name, filepath.Dir(name)
	doc, ok := t.parse(data)
	if !ok {
		return
	}
	if v, ok := t.value(doc, t.typ, ""); ok {
		root, _ := v.(map[string]any)
		maps.Copy(t.root, root)
	}
}

// parse gives the one document's node; an empty document gives none.
func (t *Tree) parse(data []byte) (*yaml.Node, bool) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, false
	}
	if err != nil {
		t.syntax(err)
		return nil, false
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			t.syntax(err)
		} else {
			t.problem(&second, "", "a second document is not read; the file holds one")
		}
		return nil, false
	}
	if len(doc.Content) != 1 {
		return nil, false
	}
	return doc.Content[0], true
}

func (t *Tree) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if m := regexp.MustCompile(`^line (\d+): (.*)$`).FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	t.problems = append(t.problems, Problem{Place: Place{t.origin, max(line, 1)}, Text: "this is no YAML: " + text})
}

// Set takes one value from a variable or a flag. The path is dotted; a list is written with commas or as YAML. An empty
// text says nothing.
func (t *Tree) Set(path, text, origin string) {
	if text == "" {
		return
	}
	t.origin, t.dir = origin, ""
	typ, resolve, ok := t.lookup(path)
	if !ok {
		t.problems = append(t.problems, Problem{Place: Place{Origin: origin}, Text: "there is no such setting"})
		return
	}
	node, ok := t.node(typ, text)
	if !ok {
		return
	}
	v, ok := t.member(node, field{typ: typ, path: resolve}, path)
	if !ok {
		return
	}
	names := strings.Split(path, ".")
	at := t.root
	for _, name := range names[:len(names)-1] {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	at[names[len(names)-1]] = v
	for known := range t.places {
		if strings.HasPrefix(known, path+"[") || strings.HasPrefix(known, path+".") {
			delete(t.places, known)
		}
	}
	t.places[path] = Place{Origin: origin}
}

// node makes a YAML node of a text for a type.
func (t *Tree) node(typ reflect.Type, text string) (*yaml.Node, bool) {
	plain := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	switch shapeOf(typ) {
	case scalarText, scalarParsed, scalarTime:
		return plain(text), true
	case list:
		if shapeOf(typ.Elem()) == scalarText && !strings.HasPrefix(text, "[") {
			out := &yaml.Node{Kind: yaml.SequenceNode}
			for part := range strings.SplitSeq(text, ",") {
				out.Content = append(out.Content, plain(strings.TrimSpace(part)))
			}
			return out, true
		}
	default:
	}
	return t.parse([]byte(text))
}

// lookup finds the type of a dotted path.
func (t *Tree) lookup(path string) (typ reflect.Type, resolve string, found bool) {
	typ = t.typ
	for name := range strings.SplitSeq(path, ".") {
		if shapeOf(typ) != table {
			return nil, "", false
		}
		f, ok := fieldNamed(typ, name)
		if !ok {
			return nil, "", false
		}
		typ, resolve = f.typ, f.path
	}
	return typ, resolve, shapeOf(typ) != table
}

// Paths lists the dotted paths of everything that Set takes.
func (t *Tree) Paths() []string { return paths(t.typ, "") }

func paths(typ reflect.Type, under string) []string {
	var out []string
	for _, f := range fieldsOf(typ) {
		if shapeOf(f.typ) == table {
			out = append(out, paths(f.typ, under+f.name+".")...)
			continue
		}
		out = append(out, under+f.name)
	}
	return out
}

// Decode fills the struct with what the sources said and leaves the rest of it as it is.
func (t *Tree) Decode(into any) error {
	if len(t.problems) > 0 {
		return t.problems.sorted()
	}
	data, err := json.Marshal(t.root)
	if err != nil {
		return fmt.Errorf("write the settings as JSON: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// At finds where a path was set, or the nearest thing around it.
func (t *Tree) At(path string) Place {
	for {
		if p, ok := t.places[path]; ok {
			return p
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return Place{Origin: t.places[""].Origin}
		}
		path = path[:cut]
	}
}

// Problem makes a problem of a path, at the place where it was set.
func (t *Tree) Problem(path, text string) Problem {
	return Problem{Place: t.At(path), Path: path, Text: text}
}

// All gives the problems found so far together with further ones, in order.
func (t *Tree) All(further Problems) Problems {
	return append(append(Problems{}, t.problems...), further...).sorted()
}

func (t *Tree) problem(n *yaml.Node, path, text string) {
	t.problems = append(t.problems, Problem{Place: t.place(n), Path: path, Text: text})
}

func (t *Tree) place(n *yaml.Node) Place {
	if t.dir == "" {
		return Place{Origin: t.origin}
	}
	return Place{Origin: t.origin, Line: n.Line}
}
