package strictyaml

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// field is a member of a struct as its JSON sees it.
type field struct {
	name string
	typ  reflect.Type
	path string // the tag `path`: how a relative file name in it is resolved
}

// fieldsOf lists the members of a struct, those of embedded structs included, in the order of their declaration.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			out = append(out, fieldsOf(f.Type)...)
		case name != "":
			out = append(out, field{name: name, typ: f.Type, path: f.Tag.Get("path")})
		default:
			out = append(out, field{name: f.Name, typ: f.Type, path: f.Tag.Get("path")})
		}
	}
	return out
}

func fieldNamed(t reflect.Type, name string) (field, bool) {
	all := fieldsOf(t)
	i := slices.IndexFunc(all, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return all[i], true
}

// shape is how a type is written in YAML.
type shape int

const (
	scalarText shape = iota
	scalarBool
	scalarInt
	scalarFloat
	scalarTime
	scalarParsed // has a text form of its own, such as a duration
	list
	table  // a struct
	lookup // a map
	free   // any JSON
)

func shapeOf(t reflect.Type) shape {
	pointer := reflect.PointerTo(t)
	switch {
	case t == reflect.TypeFor[json.RawMessage]() || t.Kind() == reflect.Interface:
		return free
	case t == reflect.TypeFor[time.Time]():
		return scalarTime
	case pointer.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return scalarParsed
	case pointer.Implements(reflect.TypeFor[json.Unmarshaler]()):
		return free
	}
	switch t.Kind() {
	case reflect.Bool:
		return scalarBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return scalarInt
	case reflect.Float32, reflect.Float64:
		return scalarFloat
	case reflect.Slice, reflect.Array:
		return list
	case reflect.Struct:
		return table
	case reflect.Map:
		return lookup
	default:
		return scalarText
	}
}

// nearest finds the known name that a misspelt one most likely means.
func nearest(name string, known []string) (string, bool) {
	best, at := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < at && d < len(k) {
			best, at = k, d
		}
	}
	return best, best != ""
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
