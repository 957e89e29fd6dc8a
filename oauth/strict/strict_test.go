package strict_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"obolus/oauth/strict"
)

func TestOneMeaningOrNone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, doc string
		ok        bool
	}{
		{"an object", `{"a":1,"b":[true,false,null,"x"],"c":{"d":-0.5e+10}}`, true},
		{"empty ones", `[{},[],""]`, true},
		{"white space", " \t\r\n{ \"a\" : [ 1 , 2 ] } \n", true},
		{"a scalar", `"just text"`, true},
		{"escapes", `"\"\\\/\b\f\n\r\tA😀"`, true},
		{"text beyond ASCII", `"äöü😀"`, true},

		{"nothing", ``, false},
		{"only space", `  `, false},
		{"a name twice", `{"a":1,"a":2}`, false},
		{"a name twice, once escaped", `{"a":1,"\u0061":2}`, false},
		{"a name twice among many", `{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"10":1,"9":1}`, false},
		{"a name twice, deep", `[{"x":{"a":1,"a":2}}]`, false},
		{"something after", `{} {}`, false},
		{"a comma too many in an object", `{"a":1,}`, false},
		{"a comma too many in an array", `[1,]`, false},
		{"a comma first", `[,1]`, false},
		{"no comma", `[1 2]`, false},
		{"no colon", `{"a" 1}`, false},
		{"a name that is no string", `{a:1}`, false},
		{"single quotes", `{'a':1}`, false},
		{"not closed", `{"a":[1`, false},
		{"a string not closed", `"abc`, false},
		{"a string that ends in an escape", `"abc\`, false},
		{"an unknown escape", `"\x"`, false},
		{"a short escape", `"\u12"`, false},
		{"an escape that is no number", `"\u12g4"`, false},
		{"half a surrogate pair", `"\ud83d"`, false},
		{"half a surrogate pair and a letter", `"\ud83da"`, false},
		{"half a surrogate pair and another escape", `"\ud83d\n"`, false},
		{"a pair the wrong way round", `"\ude00\ud83d"`, false},
		{"a control character", "\"a\x01b\"", false},
		{"a line break in a string", "\"a\nb\"", false},
		{"not UTF-8", "\"\xff\"", false},
		{"a byte order mark", "\ufeff{}", false},
		{"a number that starts with zero", `01`, false},
		{"a number that starts with plus", `+1`, false},
		{"a number without digits", `-`, false},
		{"a number that ends in a point", `1.`, false},
		{"a number that starts with a point", `.5`, false},
		{"an exponent without digits", `1e`, false},
		{"a number beyond all floats", `1e400`, false},
		{"a number with very many digits", strings.Repeat("9", 40), false},
		{"not a number", `NaN`, false},
		{"infinity", `Infinity`, false},
		{"a word", `nul`, false},
		{"a comment", `{} // x`, false},
		{"too deep without a limit", strings.Repeat("[", 1001) + strings.Repeat("]", 1001), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := strict.Check([]byte(c.doc), strict.Limits{})
			if (err == nil) != c.ok || err != nil && !errors.Is(err, strict.ErrSyntax) {
				t.Errorf("%v", err)
			}
			if c.ok && !json.Valid([]byte(c.doc)) {
				t.Error("encoding/json disagrees")
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, doc string
		limits    strict.Limits
		ok        bool
	}{
		{"as many bytes", `[1]`, strict.Limits{Bytes: 3}, true},
		{"a byte too many", `[1] `, strict.Limits{Bytes: 3}, false},
		{"as deep", `[{"a":[]}]`, strict.Limits{Depth: 3}, true},
		{"too deep", `[{"a":[[]]}]`, strict.Limits{Depth: 3}, false},
		{"as many members", `{"a":1,"b":2}`, strict.Limits{Members: 2}, true},
		{"a member too many", `{"a":1,"b":2,"c":3}`, strict.Limits{Members: 2}, false},
		{"as many elements", `[1,2]`, strict.Limits{Elements: 2}, true},
		{"an element too many", `[1,2,3]`, strict.Limits{Elements: 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := strict.Check([]byte(c.doc), c.limits); (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	var v struct{ A int }
	if err := strict.Unmarshal([]byte(`{"A":1}`), &v, strict.Limits{}); err != nil || v.A != 1 {
		t.Errorf("%v %v", v, err)
	}
	for _, doc := range []string{`{"A":"text"}`, `{"A":1,"A":2}`} {
		if err := strict.Unmarshal([]byte(doc), &v, strict.Limits{}); !errors.Is(err, strict.ErrSyntax) {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

// The examples of RFC 8785, sections 3.2.2 and 3.2.3, and appendix B.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, doc, want string }{
		{
			"values", `{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`,
			`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		{
			"names are sorted by UTF-16", `{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`,
			"{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}",
		},
		{"minus zero", `[-0,0,-0.0]`, `[0,0,0]`},
		{"large and small", `[1e21,1e20,1e-6,1e-7,123456789012345680000]`, `[1e+21,100000000000000000000,0.000001,1e-7,123456789012345680000]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := strict.Canonical([]byte(c.doc))
			if err != nil || string(got) != c.want {
				t.Errorf("\n%s\n%s\n%v", got, c.want, err)
			}
		})
	}
	if _, err := strict.Canonical([]byte(`{"a":1,"a":2}`)); err == nil {
		t.Error("a document with two meanings has a canonical form")
	}
}

func TestCanonicalIsAFixedPoint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := value(3).Draw(t, "value")
		doc, err := json.Marshal(v)
		if err != nil {
			t.Skip()
		}
		once, err := strict.Canonical(doc)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		twice, err := strict.Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s\n%s\n%v", once, twice, err)
		}
	})
}

func value(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.Float64Range(-1e15, 1e15).AsAny(), rapid.IntRange(-1000, 1000).AsAny(),
	}
	if depth > 0 {
		kinds = append(kinds,
			rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 4).AsAny(),
			rapid.MapOfN(rapid.String(), rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 4).AsAny(),
		)
	}
	return rapid.OneOf(kinds...)
}

// FuzzCheck holds what is accepted to what the standard library accepts, and its canonical form to itself.
func FuzzCheck(f *testing.F) {
	for _, doc := range []string{`{}`, `{"a":[1,2.5e3,"\u00e4",null]}`, `{"a":1,"a":2}`, `"\ud83d\ude00"`, `[[[[`, `1e999`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if strict.Check(doc, strict.Limits{}) != nil {
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("accepted what encoding/json refuses: %q", doc)
		}
		once, err := strict.Canonical(doc)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := strict.Canonical(once); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q %q %v", once, twice, err)
		}
	})
}
