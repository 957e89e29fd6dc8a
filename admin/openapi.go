package admin

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// document writes the routes down as OpenAPI 3.1.
func document(routes []route) ([]byte, error) {
	b := schemas{made: object{}}
	paths := object{}
	for _, rt := range routes {
		ops, ok := paths[Prefix+rt.path].(object)
		if !ok {
			ops = object{}
			paths[Prefix+rt.path] = ops
		}
		ops[strings.ToLower(rt.method)] = b.operation(rt)
	}
	b.of(reflect.TypeFor[Problem]())
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Obolus, for operators", "version": "1",
			"description": "Registry, grants, stops, keys and the ledger. Every change is in the ledger before it is answered. " +
				"Things that exist are replaced only with If-Match and the ETag that was read.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths":    paths,
		"security": []any{object{"operator": []any{}}},
		"components": object{
			"schemas":         b.made,
			"securitySchemes": object{"operator": object{"type": "http", "scheme": "bearer"}},
		},
	}, "", " ")
}

type object = map[string]any

// schemas makes a schema for each named type, once.
type schemas struct{ made object }

func (b schemas) operation(rt route) object {
	op := object{"operationId": rt.name, "summary": rt.about}
	if params := b.parameters(rt); len(params) > 0 {
		op["parameters"] = params
	}
	if rt.in != nil {
		op["requestBody"] = object{"required": !rt.optional, "content": b.content("application/json", reflect.TypeOf(rt.in))}
	}
	answers := object{"default": object{
		"description": "A refusal", "content": b.content("application/problem+json", reflect.TypeFor[Problem]()),
	}}
	if rt.media != "" {
		answers["200"] = object{"description": "Done", "content": object{rt.media: object{"schema": object{"type": "string", "format": "binary"}}}}
	} else if rt.out == nil {
		answers["204"] = object{"description": "Done"}
	} else {
		answers[strconv.Itoa(rt.status())] = b.answer(rt)
		if rt.created {
			answers["201"] = b.answer(rt)
		}
	}
	op["responses"] = answers
	return op
}

func (b schemas) answer(rt route) object {
	out := object{"description": "Done", "content": b.content("application/json", reflect.TypeOf(rt.out))}
	if rt.match {
		out["headers"] = object{"ETag": object{"schema": object{"type": "string"}}}
	}
	return out
}

func (b schemas) parameters(rt route) []any {
	var params []any
	if strings.Contains(rt.path, "{id}") {
		params = append(params, object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range rt.query {
		schema := object{"type": "string"}
		if p.number {
			schema["type"] = "integer"
		}
		if len(p.enum) > 0 {
			schema["enum"] = p.enum
		}
		params = append(params, object{"name": p.name, "in": "query", "required": p.required, "description": p.about, "schema": schema})
	}
	if rt.match {
		params = append(params,
			object{"name": "If-Match", "in": "header", "schema": object{"type": "string"}, "description": "the ETag that was read, or *"})
	}
	return params
}

func (b schemas) content(kind string, t reflect.Type) object {
	return object{kind: object{"schema": b.of(t)}}
}

// of gives the schema of a type; a struct's is made once and referred to.
func (b schemas) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Interface:
		return object{}
	case t.Kind() == reflect.Pointer:
		return b.of(t.Elem())
	case t.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()):
		return object{"type": "string", "examples": []any{"1m0s"}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return b.structOf(t)
	case reflect.Slice:
		return object{"type": "array", "items": b.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": b.of(t.Elem())}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	default:
		return object{"type": "integer"}
	}
}

func (b schemas) structOf(t reflect.Type) object {
	name := schemaName(t)
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, ok := b.made[name]; ok {
		return ref
	}
	b.made[name] = object{} // so that a type may contain itself
	props, required := object{}, []string{}
	b.members(t, props, &required)
	slices.Sort(required)
	b.made[name] = object{"type": "object", "properties": props, "required": required, "additionalProperties": false}
	return ref
}

// hidden are members that nobody is shown and nobody sends.
var hidden = map[string]bool{"secret_hash": true} //nolint:gochecknoglobals // a constant table

func (b schemas) members(t reflect.Type, props object, required *[]string) {
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case name == "-" || hidden[name]:
		case f.Anonymous && name == "":
			b.members(f.Type, props, required)
		case f.IsExported():
			props[name] = b.of(f.Type)
			if !strings.Contains(options, "omit") {
				*required = append(*required, name)
			}
		}
	}
}

// schemaName is the type's name; that of another package of the same name gets the package's name before it.
func schemaName(t reflect.Type) string {
	pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
	if pkg == "admin" || pkg == "agents" {
		return t.Name()
	}
	return fmt.Sprintf("%s%s%s", strings.ToUpper(pkg[:1]), pkg[1:], t.Name())
}
