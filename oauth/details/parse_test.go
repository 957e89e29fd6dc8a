package details_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"obolus/oauth/details"
)

// access is a declared type with every kind in it.
const access = `{"type": "https://example.com/access", "about": "Do {actions} at {place}[ with up to {size} bytes]", "members": {
	"actions":   {"kind": "set", "required": true, "values": ["read", "write", "list"]},
	"locations": {"kind": "set"},
	"datatypes": {"kind": "set", "absent": "none"},
	"place":     {"kind": "string", "required": true, "rule": "prefix", "max_length": 40},
	"size":      {"kind": "integer", "rule": "max", "minimum": 1, "maximum": 1000},
	"since":     {"kind": "integer", "rule": "min", "minimum": -5},
	"price":     {"kind": "decimal", "rule": "max", "minimum": "0.5"},
	"level":     {"kind": "decimal"},
	"public":    {"kind": "boolean"},
	"demands":   {"kind": "set", "rule": "superset"},
	"exactly":   {"kind": "set", "rule": "equal"},
	"note":      {"kind": "string", "rule": "any"},
	"options":   {"kind": "parameters"},
	"bans":      {"kind": "parameters", "rule": "superset"},
	"extra":     {"kind": "object"},
	"version":   {"kind": "const", "value": {"major": 1}},
	"owner":     {"kind": "object", "members": {"name": {"kind": "string", "required": true}, "id": {"kind": "integer"}}}}}`

func registry(t testing.TB) *details.Registry {
	t.Helper()
	r, err := details.New([]json.RawMessage{json.RawMessage(access)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// entry is a valid access with more members.
func entry(more string) string {
	return `{"type":"https://example.com/access","actions":["read"],"place":"docs"` + more + `}`
}

func parse(t testing.TB, r *details.Registry, entries ...string) details.Set {
	t.Helper()
	s, err := r.Parse([]byte("[" + strings.Join(entries, ",") + "]"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	vault = `{"type":"vault:path_access","path":"secret/data/ci","capabilities":["read","list"]}`
	pay   = `{"type":"payment","amount":{"value":"20.00","currency":"EUR"},"payee":"Book shop"}`
	call  = `{"type":"mcp_tool_call","tool":"send_mail","arguments":{"to":"bob@example.com"}}`
)

// numbered are n texts.
func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	return list
}

func TestParse(t *testing.T) {
	t.Parallel()
	r := registry(t)
	for name, text := range map[string]string{
		"the built-in types":              vault + "," + pay + "," + call,
		"all kinds":                       entry(`,"size":1,"since":-5,"price":"0.5","public":false,"demands":["x"],"note":"hi","options":{"a":[],"b":["c",1,true]},"extra":{"x":[null,1.5,{"y":"\n"}]},"version":{"major":1},"owner":{"name":"Ann","id":3}`),
		"a digest that is the arguments'": `{"type":"mcp_tool_call","tool":"t","arguments":{"b":1,"a":"x"},"args_digest":"sha-256=:zasGfp876zLRJSz9Y+SSWS/sv1kbDQjK2yS7F/OGQkY=:"}`,
		"a digest alone":                  `{"type":"mcp_tool_call","tool":"t","args_digest":"sha-256=:zasGfp876zLRJSz9Y+SSWS/sv1kbDQjK2yS7F/OGQkY=:"}`,
		"a path that is a folder":         `{"type":"vault:path_access","path":"secret/metadata/","capabilities":["list"]}`,
		"a path with a plus in it":        `{"type":"vault:path_access","path":"secret/a+b","capabilities":["list"]}`,
		"eight deep":                      `{"type":"mcp_tool_call","tool":"a","arguments":{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}}`,
		"words beyond ASCII":              `{"type":"payment","amount":{"value":"1","currency":"EUR"},"payee":"Müller & Söhne 書店"}`,
		"the shortest amount":             `{"type":"payment","amount":{"value":"0.0001","currency":"EUR"}}`,
		"a path that is called v1":        `{"type":"vault:path_access","path":"v1","capabilities":["list"]}`,
		"as long as a string may be":      `{"type":"mcp_tool_call","tool":"` + strings.Repeat("x", 256) + `"}`,
		"as much as it may be":            entry(`,"size":1000`),
		"the longest numbers":             entry(`,"since":123456789012345,"extra":{"n":[123456789012345,-0.000001,0]}`),
		"a step up where it is no path":   entry(`,"note":"../.."`),
		"as many entries as there may be": `{"type":"mcp_tool_call","tool":"` + strings.Join(numbered(32), `"},{"type":"mcp_tool_call","tool":"`) + `"}`,
		"the largest amount":              `{"type":"payment","amount":{"value":"99999999999999.9999","currency":"EUR"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := parse(t, r, text)
			again, err := r.Parse(s.JSON())
			if err != nil || string(again.JSON()) != string(s.JSON()) {
				t.Errorf("the canonical form %s is read as %s: %v", s.JSON(), again.JSON(), err)
			}
			if r.Covers(s, again) != nil {
				t.Error("it does not cover itself")
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	r := registry(t)
	const a = "https://example.com/access"
	for _, c := range []struct{ name, text, says string }{
		// RAR-01
		{"nothing", ``, "ends too early"},
		{"an object", vault, "array"},
		{"null", `null`, "array"},
		{"a string", `"[]"`, "array"},
		{"an empty array", `[]`, "empty"},
		{"a number in it", `[7]`, "entry 0 is not an object"},
		{"null in it", `[` + vault + `,null]`, "entry 1 is not an object"},
		{"no type", `[{}]`, "entry 0 has no type"},
		{"a type that is a number", `[{"type":1}]`, "entry 0 has no type"},
		// RAR-02
		{"an unknown type", `[{"type":"secret:access"}]`, "entry 0 has the type secret:access, which is not registered"},
		{"a type in other letters", `[{"type":"Payment"}]`, "not registered"},
		{"a type that cannot be shown", `[{"type":"a\"\\ü` + strings.Repeat("x", 100) + `"}]`, "has the type a???" + strings.Repeat("x", 60) + "..., which"},
		{"an unknown member", `[{"type":"vault:path_access","path":"a","capabilities":["read"],"sudo":true}]`, "entry 0 (vault:path_access): member sudo is not one"},
		{"a member in other letters", `[{"type":"vault:path_access","Path":"a","capabilities":["read"]}]`, "member Path is not one"},
		{"an unknown member of a member", `[{"type":"payment","amount":{"value":"1","currency":"EUR","per":"day"}}]`, "member amount.per is not one"},
		{"a type in a member", `[` + entry(`,"owner":{"name":"x","type":"y"}`) + `]`, "member owner.type is not one"},
		{"a missing member", `[{"type":"vault:path_access","path":"a"}]`, "member capabilities is missing"},
		{"a missing member of a member", `[{"type":"payment","amount":{"value":"1"}}]`, "member amount.currency is missing"},
		{"a member that is null", `[{"type":"vault:path_access","path":null,"capabilities":["read"]}]`, "member path is not a string"},
		{"a limit that is null", `[` + entry(`,"size":null`) + `]`, "member size is not an integer"},
		{"a string for a list", `[{"type":"vault:path_access","path":"a","capabilities":"read"}]`, "member capabilities is not a list"},
		{"an empty list", `[{"type":"vault:path_access","path":"a","capabilities":[]}]`, "member capabilities is an empty list"},
		{"a number in a list", `[{"type":"vault:path_access","path":"a","capabilities":[1]}]`, "not a string"},
		{"a value twice", `[{"type":"vault:path_access","path":"a","capabilities":["read","read"]}]`, "twice"},
		{"a value of no list", `[{"type":"vault:path_access","path":"a","capabilities":["deny"]}]`, "is none of read, create"},
		{"an empty string", `[{"type":"mcp_tool_call","tool":""}]`, "member tool is empty"},
		{"a string that is too long", `[{"type":"mcp_tool_call","tool":"` + strings.Repeat("x", 257) + `"}]`, "longer than 256"},
		{"a number as a string", `[` + entry(`,"size":"1"`) + `]`, "member size is not an integer"},
		{"a fraction", `[` + entry(`,"size":1.5`) + `]`, "member size is not an integer"},
		{"one point nothing", `[` + entry(`,"size":1.0`) + `]`, "member size is not an integer"},
		{"an exponent", `[` + entry(`,"size":1e2`) + `]`, "member size is not an integer"},
		{"minus nothing", `[` + entry(`,"since":-0`) + `]`, "member since is not an integer"},
		{"too many digits", `[` + entry(`,"since":1234567890123456`) + `]`, "member since is not an integer"},
		{"too little", `[` + entry(`,"size":0`) + `]`, "member size is less than 1"},
		{"too much", `[` + entry(`,"size":1001`) + `]`, "member size is more than 1000"},
		{"below the least", `[` + entry(`,"since":-6`) + `]`, "member since is less than -5"},
		{"a price below the least", `[` + entry(`,"price":"0.4999"`) + `]`, "member price is less than 0.5"},
		{"a boolean as a string", `[` + entry(`,"public":"true"`) + `]`, "member public is not true or false"},
		{"another constant", `[` + entry(`,"version":{"major":2}`) + `]`, "member version has not the one value"},
		{"a list for an object", `[` + entry(`,"extra":[]`) + `]`, "member extra is not an object"},
		{"a string for an object", `[` + entry(`,"owner":"Ann"`) + `]`, "member owner is not an object"},
		{"a list for parameters", `[` + entry(`,"options":[]`) + `]`, "member options is not an object"},
		{"no parameters", `[` + entry(`,"options":{}`) + `]`, "member options is not an object"},
		{"a parameter that is no list", `[` + entry(`,"options":{"a":"b"}`) + `]`, "without a list"},
		{"a parameter without a name", `[` + entry(`,"options":{"":[]}`) + `]`, "without a list"},
		{"a pattern for a name", `[` + entry(`,"options":{"*":[]}`) + `]`, "pattern"},
		{"a pattern for a value", `[` + entry(`,"bans":{"a":["x*"]}`) + `]`, "pattern"},
		{"an object in a parameter", `[` + entry(`,"options":{"a":[{}]}`) + `]`, "not a string, a number or a boolean"},
		{"a step up", `[{"type":"` + a + `","actions":["read"],"place":"docs/../etc"}]`, "segment that is . or .."},
		{"a step nowhere", `[{"type":"` + a + `","actions":["read"],"place":"docs/./etc"}]`, "segment that is . or .."},
		// RAR-16, NEG-056
		{"a member twice", `[{"type":"payment","type":"payment","amount":{"value":"1","currency":"EUR"}}]`, "stands twice"},
		{"a member twice, once escaped", `[{"type":"mcp_tool_call","tool":"a","t\u006fol":"b"}]`, "stands twice"},
		{"a member twice, deep down", `[{"type":"mcp_tool_call","tool":"a","arguments":{"x":{"y":1,"y":2}}}]`, "stands twice"},
		{"NaN", `[` + entry(`,"size":NaN`) + `]`, "not acceptable JSON"},
		{"a huge number", `[{"type":"mcp_tool_call","tool":"a","arguments":{"n":1e400}}]`, "does not fit"},
		{"an exponent in arguments", `[{"type":"mcp_tool_call","tool":"a","arguments":{"n":[1e3]}}]`, "exponent"},
		{"a number of 16 digits in arguments", `[{"type":"mcp_tool_call","tool":"a","arguments":{"n":1234567890123456}}]`, "more than 15 digits"},
		{"a long number in arguments", `[{"type":"mcp_tool_call","tool":"a","arguments":{"n":9007199254740993}}]`, "more than 15 digits"},
		{"a tiny number in arguments", `[{"type":"mcp_tool_call","tool":"a","arguments":{"n":0.0000001}}]`, "smaller"},
		{"too deep", `[{"type":"mcp_tool_call","tool":"a","arguments":{"a":{"b":{"c":{"d":{"e":{"f":{}}}}}}}}]`, "nested too deeply"},
		{"too many entries", `[` + strings.TrimSuffix(strings.Repeat(vault+",", 33), ",") + `]`, "more than 32"},
		{"too many bytes", `[{"type":"mcp_tool_call","tool":"a","arguments":{"a":"` + strings.Repeat("x", 32<<10) + `"}}]`, "larger than"},
		{"something behind it", `[` + vault + `][]`, "something follows"},
		{"not UTF-8", "[{\"type\":\"mcp_tool_call\",\"tool\":\"\xff\"}]", "UTF-8"},
		{"half a character", `[{"type":"mcp_tool_call","tool":"\ud800"}]`, "surrogate"},
		{"text that turns around", `[{"type":"payment","amount":{"value":"1","currency":"EUR"},"payee":"\u202eknaB"}]`, "cannot be seen"},
		{"text that was not to be read", `[{"type":"payment","amount":{"value":"1","currency":"EUR"},"payee":"\ufffd"}]`, "cannot be seen"},
		{"a control character", `[{"type":"mcp_tool_call","tool":"a\u0000"}]`, "cannot be seen"},
		{"an amount as a number", `[{"type":"payment","amount":{"value":20,"currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount with an exponent", `[{"type":"payment","amount":{"value":"1e3","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"a negative amount", `[{"type":"payment","amount":{"value":"-1","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount with a sign", `[{"type":"payment","amount":{"value":"+1","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount with a zero before it", `[{"type":"payment","amount":{"value":"020","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount without a whole", `[{"type":"payment","amount":{"value":".5","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount with an open end", `[{"type":"payment","amount":{"value":"5.","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount in other digits", `[{"type":"payment","amount":{"value":"٥","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount with a comma", `[{"type":"payment","amount":{"value":"1,000","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount of nothing", `[{"type":"payment","amount":{"value":"0","currency":"EUR"}}]`, "less than"},
		{"an amount too fine", `[{"type":"payment","amount":{"value":"0.00001","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"an amount too large", `[{"type":"payment","amount":{"value":"100000000000000","currency":"EUR"}}]`, "member amount.value is not an amount"},
		{"a currency in small letters", `[{"type":"payment","amount":{"value":"1","currency":"eur"}}]`, "member amount.currency has not the form"},
		{"a currency with more behind it", `[{"type":"payment","amount":{"value":"1","currency":"EUR "}}]`, "member amount.currency has not the form"},
		// Vault
		{"a path from the root", `[{"type":"vault:path_access","path":"/secret/a","capabilities":["read"]}]`, "begins with"},
		{"a path of the API", `[{"type":"vault:path_access","path":"v1/secret/a","capabilities":["read"]}]`, "begins with"},
		{"a path with a glob", `[{"type":"vault:path_access","path":"secret/*","capabilities":["read"]}]`, "pattern"},
		{"a path with any segment", `[{"type":"vault:path_access","path":"secret/+/a","capabilities":["read"]}]`, "pattern"},
		{"a path with a template", `[{"type":"vault:path_access","path":"secret/{{identity.entity.id}}","capabilities":["read"]}]`, "pattern"},
		{"a path with an empty segment", `[{"type":"vault:path_access","path":"secret//a","capabilities":["read"]}]`, "empty segment"},
		{"a path that goes up", `[{"type":"vault:path_access","path":"secret/../sys","capabilities":["read"]}]`, "segment"},
		{"a path that stays", `[{"type":"vault:path_access","path":"secret/.","capabilities":["read"]}]`, "segment"},
		// Tools
		{"a digest of something else", `[{"type":"mcp_tool_call","tool":"t","arguments":{"a":"y"},"args_digest":"sha-256=:zasGfp876zLRJSz9Y+SSWS/sv1kbDQjK2yS7F/OGQkY=:"}]`, "args_digest is not that of arguments"},
		{"a digest that is none", `[{"type":"mcp_tool_call","tool":"t","args_digest":"md5=:AA==:"}]`, "member args_digest has not the form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := r.Parse([]byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %s, %v", s.JSON(), err)
			}
			if s.Len() != 0 {
				t.Error("something was read all the same")
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
				t.Errorf("%q cannot be printed", err)
			}
		})
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	r := registry(t)
	if none := (details.Set{}); none.Len() != 0 || none.JSON() != nil || none.Types() != nil || none.Entries() != nil {
		t.Error("the empty set has something in it")
	}
	s := parse(t, r, pay, vault, `{ "payee" : "Book \u0073hop", "amount":{"currency":"EUR","value":"20.00"}, "type":"payment"}`, call)
	if s.Len() != 3 || !slices.Equal(s.Types(), []string{"payment", "vault:path_access", "mcp_tool_call"}) {
		t.Errorf("got %s", s.JSON())
	}
	const first = `{"amount":{"currency":"EUR","value":"20.00"},"payee":"Book shop","type":"payment"}`
	if e := s.Entries()[0]; e.Type() != "payment" || string(e.JSON()) != first || fmt.Sprint(e.Members()["payee"]) != "Book shop" {
		t.Errorf("got %s", e.JSON())
	}
	if !strings.HasPrefix(string(s.JSON()), "["+first+",") || !json.Valid(s.JSON()) {
		t.Errorf("got %s", s.JSON())
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	r := registry(t)
	if got := r.Names(); !slices.Equal(got, []string{"https://example.com/access", "mcp_tool_call", "payment", "vault:path_access"}) {
		t.Errorf("got %v", got)
	}
	if !r.Has("payment") || r.Has("Payment") {
		t.Error("Has does not know what it has")
	}
	m, ok := r.Members("payment")
	if !ok || !m["amount"].Required || m["amount"].Members["value"].Kind != details.Decimal || m["payee"].Required {
		t.Errorf("got %v", m)
	}
	if _, ok := r.Members("x"); ok {
		t.Error("a type that is none has members")
	}
}

func TestDeclarations(t *testing.T) {
	t.Parallel()
	of := func(member string) string { return `{"type":"x","about":"x","members":{"m":` + member + `}}` }
	for _, c := range []struct{ name, text, says string }{
		{"no JSON", `{`, "not acceptable JSON"},
		{"a list", `[]`, "declaration"},
		{"an unknown member", `{"type":"x","abut":"x"}`, "abut"},
		{"no type", `{"about":"x"}`, "type"},
		{"a type with a space", `{"type":"a b","about":"x"}`, "type a?b"},
		{"a type beyond ASCII", `{"type":"zahlung-für","about":"x"}`, "type"},
		{"a type that is there", `{"type":"payment","about":"x"}`, "there already"},
		{"a member that is there by itself", `{"type":"x","about":"x","members":{"type":{"kind":"string"}}}`, "by itself"},
		{"a member with a dash", `{"type":"x","about":"x","members":{"a-b":{"kind":"string"}}}`, "member name a-b"},
		{"no kind", of(`{}`), "member m: kind"},
		{"an unknown kind", of(`{"kind":"money"}`), "kind money"},
		{"a rule misspelt", of(`{"kind":"integer","rule":"maximum"}`), "no rule maximum"},
		{"a rule of another kind", of(`{"kind":"string","rule":"max"}`), "kind string has no rule max"},
		{"a limit misspelt", of(`{"kind":"integer","maxlength":3}`), "maxlength"},
		{"absent something", of(`{"kind":"set","absent":"some"}`), "all or none"},
		{"absent none for a string", of(`{"kind":"string","absent":"none"}`), "absent"},
		{"absent none for what is required", of(`{"kind":"set","required":true,"absent":"none"}`), "absent"},
		{"absent none for a superset", of(`{"kind":"set","rule":"superset","absent":"none"}`), "absent"},
		{"values of an integer", of(`{"kind":"integer","values":["1"]}`), "strings and sets"},
		{"a pattern of a boolean", of(`{"kind":"boolean","pattern":"x"}`), "strings and sets"},
		{"a length of an object", of(`{"kind":"object","max_length":3}`), "strings and sets"},
		{"a length below nothing", of(`{"kind":"string","max_length":-3}`), "max_length"},
		{"a length beyond everything", of(`{"kind":"string","max_length":32769}`), "max_length"},
		{"absent none for parameters", of(`{"kind":"parameters","absent":"none"}`), "absent"},
		{"a pattern that is none", of(`{"kind":"string","pattern":"("}`), "missing closing"},
		{"a range of a string", of(`{"kind":"string","minimum":1}`), "integers and decimals"},
		{"a fraction for an integer", of(`{"kind":"integer","maximum":1.5}`), "1.5 is not a value"},
		{"a negative decimal", of(`{"kind":"decimal","minimum":-1}`), "-1 is not a value"},
		{"a value of no const", of(`{"kind":"string","value":"x"}`), "value is for a const"},
		{"a const without value", of(`{"kind":"const"}`), "needs a value"},
		{"a const of null", of(`{"kind":"const","value":null}`), "needs a value"},
		{"members of a string", of(`{"kind":"string","members":{}}`), "only an object"},
		{"a mistake deep down", of(`{"kind":"object","members":{"n":{"kind":"x"}}}`), "member m: member m.n: kind x"},
		{"locations that are no set", `{"type":"x","about":"x","members":{"locations":{"kind":"string"}}}`, "locations must be a set"},
		{"a template with what is no member", `{"type":"x","about":"{y}"}`, "{y} is no member"},
		{"a template with a member of none", `{"type":"x","about":"{m.n}","members":{"m":{"kind":"string"}}}`, "{m.n} is no member"},
		{"a template with an open brace", `{"type":"x","about":"a {"}`, "do not match"},
		{"a template with a closed brace", `{"type":"x","about":"a }"}`, "do not match"},
		{"a template with an open bracket", `{"type":"x","about":"a ["}`, "do not match"},
		{"a template with a closed bracket", `{"type":"x","about":"a ]"}`, "do not match"},
		{"a template in a template", `{"type":"x","about":"a [b[c]]"}`, "do not match"},
		{"a bar out of place", `{"type":"x","about":"a [b|{c]"}`, "do not match"},
		{"a clause with a mistake", `{"type":"x","about":"a [{b}]"}`, "no member"},
		{"a way out with a mistake", `{"type":"x","about":"a [b|{c}]"}`, "no member"},
		{"a template with a mistake after a clause", `{"type":"x","about":"[a]{b}"}`, "no member"},
		{"a long template", `{"type":"x","about":"` + strings.Repeat("x", 1025) + `"}`, "longer"},
		{"no template", `{"type":"x"}`, "about"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := details.New([]json.RawMessage{json.RawMessage(`{"type":"first","about":"First"}`), json.RawMessage(c.text)})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "details[1]: ") {
				t.Errorf("got %v", err)
			}
		})
	}
}
