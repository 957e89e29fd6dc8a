package strict_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"obolus/oauth/strict"
)

func TestObject(t *testing.T) {
	t.Parallel()
	limits := strict.Limits{Bytes: 200, Depth: 3, Members: 4, Elements: 5}
	for name, c := range map[string]struct {
		in   string
		want string // name=value, in order; empty: refused
	}{
		"members":                {`{"a":1,"b":"x","c":[1],"d":{"e":null}}`, `a=1 b="x" c=[1] d={"e":null}`},
		"spaces":                 {" {\n\"a\" :\t1 , \"b\":  [ 2 ] } ", `a=1 b=[ 2 ]`},
		"nothing in it":          {`{ }`, ` `},
		"escaped name":           {`{"\u0061\n":1}`, "a\n=1"},
		"names in other case":    {`{"a":1,"A":2}`, `a=1 A=2`},
		"name twice":             {`{"a":1,"a":2}`, ``},
		"name twice, escaped":    {`{"a":1,"\u0061":2}`, ``},
		"name twice, beneath":    {`{"a":{"b":1,"b":1}}`, ``},
		"too many members":       {`{"a":1,"b":1,"c":1,"d":1,"e":1}`, ``},
		"too deep":               {`{"a":[[[]]]}`, ``},
		"as deep as it may be":   {`{"a":[[]]}`, `a=[[]]`},
		"too many elements":      {`{"a":[1,2,3,4,5,6]}`, ``},
		"too long":               {`{"a":"` + strings.Repeat("x", 200) + `"}`, ``},
		"not UTF-8":              {"{\"a\":\"\xff\"}", ``},
		"half a surrogate":       {`{"a":"\ud800"}`, `a="\ud800"`},
		"a list":                 {`[]`, ``},
		"a string":               {`"a"`, ``},
		"nothing":                {``, ``},
		"only a brace":           {`{`, ``},
		"no value":               {`{"a"}`, ``},
		"no value after a colon": {`{"a":}`, ``},
		"ends after a colon":     {`{"a":`, ``},
		"ends in a string":       {`{"a":"`, ``},
		"ends after an escape":   {`{"a":"\`, ``},
		"a comma too much":       {`{"a":1,}`, ``},
		"no comma":               {`{"a":1"b":2}`, ``},
		"a name without quotes":  {`{a:1}`, ``},
		"something behind":       {`{"a":1}{}`, ``},
		"a number too large":     {`{"a":1e999}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "half a surrogate" {
				c.want = ""
			}
			var got []string
			err := strict.Object([]byte(c.in), limits, func(name string, value []byte) error {
				got = append(got, name+"="+string(value))
				return nil
			})
			if c.want == "" {
				if !errors.Is(err, strict.ErrSyntax) {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if joined := strings.Join(got, " "); err != nil || joined != strings.TrimSpace(c.want) && joined != c.want {
				t.Errorf("got %q, %v", joined, err)
			}
		})
	}
	mine := errors.New("mine")
	if err := strict.Object([]byte(`{"a":1,"a":1}`), limits, func(string, []byte) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
}

// FuzzObject: what Object takes, Check takes, and the members are those that encoding/json finds.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":[true,null,"\u00e4"]}}`))
	f.Add([]byte(`{"a":"\`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := make(map[string]string)
		err := strict.Object(data, strict.Limits{}, func(name string, value []byte) error {
			got[name] = string(value)
			return nil
		})
		checked := strict.Check(data, strict.Limits{})
		if err == nil != (checked == nil && strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n"), "{")) {
			t.Fatalf("Object %v, Check %v", err, checked)
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil || len(want) != len(got) {
			t.Fatalf("%v, %d members and %d", err, len(want), len(got))
		}
		for name, value := range want {
			if got[name] != string(value) {
				t.Fatalf("%q is %s and %s", name, got[name], value)
			}
		}
	})
}
