package details_test

import (
	"errors"
	"testing"

	"obolus/oauth/details"
)

func TestCovers(t *testing.T) {
	t.Parallel()
	r := registry(t)
	tool := func(more string) string { return `{"type":"mcp_tool_call","tool":"send_mail"` + more + `}` }
	path := func(more string) string {
		return `{"type":"vault:path_access","path":"secret/a","capabilities":["read","list"]` + more + `}`
	}
	amount := func(value, more string) string {
		return `{"type":"payment","amount":{"value":"` + value + `","currency":"EUR"}` + more + `}`
	}
	list := func(entries ...string) []string { return entries }
	for _, c := range []struct {
		name             string
		granted, request []string
		covered          bool
	}{
		{"the same", list(vault, pay, call), list(vault, pay, call), true},
		{"one of several", list(vault, pay, call), list(pay), true},
		{"nothing", list(vault), nil, true},
		{"something of nothing", nil, list(vault), false},
		{"one more than granted", list(vault), list(vault, pay), false},
		{"another type", list(vault), list(pay), false},

		// NEG-056
		{"a smaller amount", list(amount("20.00", "")), list(amount("19.99", "")), true},
		{"the same amount written shorter", list(amount("20.00", "")), list(amount("20", "")), true},
		{"a larger amount", list(amount("20.00", "")), list(amount("20.01", "")), false},
		{"a larger amount by letters", list(amount("9", "")), list(amount("10", "")), false},
		{"a smaller amount by letters", list(amount("10", "")), list(amount("9", "")), true},
		{"an amount larger by a hair", list(amount("20", "")), list(amount("20.0001", "")), false},
		{"another currency", list(pay), list(`{"type":"payment","amount":{"value":"1","currency":"JPY"},"payee":"Book shop"}`), false},
		{"a missing payee", list(pay), list(amount("1", "")), false},
		{"any payee", list(amount("20", "")), list(pay), true},
		{"an action more", list(path("")), list(`{"type":"vault:path_access","path":"secret/a","capabilities":["read","list","update"]}`), false},
		{"an action less", list(path("")), list(`{"type":"vault:path_access","path":"secret/a","capabilities":["list"]}`), true},
		{"actions in another order", list(path("")), list(`{"type":"vault:path_access","path":"secret/a","capabilities":["list","read"]}`), true},
		{"another path", list(path("")), list(`{"type":"vault:path_access","path":"secret/b","capabilities":["read"]}`), false},
		{"a path below", list(path("")), list(`{"type":"vault:path_access","path":"secret/a/b","capabilities":["read"]}`), false},
		{"another location", list(tool(`,"locations":["https://a.test/"]`)), list(tool(`,"locations":["https://b.test/"]`)), false},
		{"a location more", list(tool(`,"locations":["https://a.test/"]`)), list(tool(`,"locations":["https://a.test/","https://b.test/"]`)), false},
		{"a location with a slash more", list(tool(`,"locations":["https://a.test"]`)), list(tool(`,"locations":["https://a.test/"]`)), false},
		{"no location where one is granted", list(tool(`,"locations":["https://a.test/"]`)), list(tool("")), false},
		{"a location where any is granted", list(tool("")), list(tool(`,"locations":["https://a.test/"]`)), true},
		{"the twin of a name", list(`{"type":"mcp_tool_call","tool":"caf\u00e9"}`), list(`{"type":"mcp_tool_call","tool":"cafe\u0301"}`), false},
		{"the same name, escaped", list(`{"type":"mcp_tool_call","tool":"caf\u00e9"}`), list(`{"type":"mcp_tool_call","tool":"café"}`), true},

		{"two payments of one", list(amount("20", "")), list(amount("15", ""), amount("5", "")), false},
		{"two payments of two", list(amount("20", ""), amount("10", "")), list(amount("9", ""), amount("19", "")), true},
		{
			"two payments of two, where the first took the only one for the second",
			list(amount("20", `,"payee":"A"`), amount("20", `,"payee":"A","reference":"1"`)),
			list(amount("20", `,"payee":"A","reference":"1"`), amount("19", `,"payee":"A"`)), true,
		},
		{"the same payment twice is one", list(amount("20", "")), list(amount("20", ""), amount("20", "")), true},
		{"two calls of a tool that may be called", list(tool("")), list(tool(`,"server":"a"`), tool(`,"server":"b"`)), true},

		// RAR-08
		{"a product of two", list(
			`{"type":"https://example.com/access","actions":["read"],"place":"A"}`, `{"type":"https://example.com/access","actions":["write"],"place":"B"}`,
		), list(`{"type":"https://example.com/access","actions":["write"],"place":"A"}`), false},
		{"a union of two", list(
			`{"type":"https://example.com/access","actions":["read"],"place":"A"}`, `{"type":"https://example.com/access","actions":["write"],"place":"A"}`,
		), list(`{"type":"https://example.com/access","actions":["read","write"],"place":"A"}`), false},

		{"arguments in another order", list(tool(`,"arguments":{"a":1,"b":{"c":[1,2]}}`)), list(tool(`,"arguments":{"b":{"c":[1,2]},"a":1}`)), true},
		{"numbers written otherwise", list(tool(`,"arguments":{"a":1.50}`)), list(tool(`,"arguments":{"a":1.5}`)), true},
		{"a number as a string in arguments", list(tool(`,"arguments":{"a":1}`)), list(tool(`,"arguments":{"a":"1"}`)), false},
		{"a string for zero in arguments", list(tool(`,"arguments":{"a":0}`)), list(tool(`,"arguments":{"a":""}`)), false},
		{"a string for an empty list in arguments", list(tool(`,"arguments":{"a":[]}`)), list(tool(`,"arguments":{"a":""}`)), false},
		{"an object for an empty list in arguments", list(tool(`,"arguments":{"a":[]}`)), list(tool(`,"arguments":{"a":{}}`)), false},
		{"a list for an empty object in arguments", list(tool(`,"arguments":{"a":{}}`)), list(tool(`,"arguments":{"a":[]}`)), false},
		{"false for null in arguments", list(tool(`,"arguments":{"a":false}`)), list(tool(`,"arguments":{"a":null}`)), false},
		{"a string for null in arguments", list(tool(`,"arguments":{"a":null}`)), list(tool(`,"arguments":{"a":""}`)), false},
		{"null in arguments", list(tool(`,"arguments":{"a":null}`)), list(tool(`,"arguments":{"a":null}`)), true},
		{"null for nothing in arguments", list(tool(`,"arguments":{}`)), list(tool(`,"arguments":{"a":null}`)), false},
		{"null for false in arguments", list(tool(`,"arguments":{"a":null}`)), list(tool(`,"arguments":{"a":false}`)), false},
		{"a list in another order in arguments", list(tool(`,"arguments":{"a":[1,2]}`)), list(tool(`,"arguments":{"a":[2,1]}`)), false},
		{"fewer arguments", list(tool(`,"arguments":{"a":1,"b":2}`)), list(tool(`,"arguments":{"a":1}`)), false},
		{"any arguments", list(tool("")), list(tool(`,"arguments":{"a":1}`)), true},
		{"no arguments where some are granted", list(tool(`,"arguments":{"a":1}`)), list(tool("")), false},

		{"parameters where any are allowed", list(path("")), list(path(`,"allowed_parameters":{"a":[]}`)), true},
		{"any parameters where some are allowed", list(path(`,"allowed_parameters":{"a":[]}`)), list(path("")), false},
		{"fewer parameters", list(path(`,"allowed_parameters":{"a":[],"b":["x"]}`)), list(path(`,"allowed_parameters":{"b":["x"]}`)), true},
		{"another parameter", list(path(`,"allowed_parameters":{"a":[]}`)), list(path(`,"allowed_parameters":{"b":[]}`)), false},
		{"any value where some are allowed", list(path(`,"allowed_parameters":{"a":["x"]}`)), list(path(`,"allowed_parameters":{"a":[]}`)), false},
		{"another value", list(path(`,"allowed_parameters":{"a":["x"]}`)), list(path(`,"allowed_parameters":{"a":["y"]}`)), false},
		{"a value more", list(path(`,"allowed_parameters":{"a":["x"]}`)), list(path(`,"allowed_parameters":{"a":["x","y"]}`)), false},
		{"a value less", list(path(`,"allowed_parameters":{"a":["x","y"]}`)), list(path(`,"allowed_parameters":{"a":["y"]}`)), true},
		{"a value of another kind", list(path(`,"allowed_parameters":{"a":[0]}`)), list(path(`,"allowed_parameters":{"a":["0"]}`)), false},
		{"another value denied", list(path(`,"denied_parameters":{"a":["x"]}`)), list(path(`,"denied_parameters":{"a":["y"]}`)), false},
		{"some values where any is allowed", list(path(`,"allowed_parameters":{"a":[]}`)), list(path(`,"allowed_parameters":{"a":["x"]}`)), true},
		{"nothing denied where something is", list(path(`,"denied_parameters":{"a":["x"]}`)), list(path("")), false},
		{"more denied", list(path(`,"denied_parameters":{"a":["x"]}`)), list(path(`,"denied_parameters":{"a":["x","y"],"b":["z"]}`)), true},
		{"all values denied", list(path(`,"denied_parameters":{"a":["x"]}`)), list(path(`,"denied_parameters":{"a":[]}`)), true},
		{"some values denied where all are", list(path(`,"denied_parameters":{"a":[]}`)), list(path(`,"denied_parameters":{"a":["x"]}`)), false},
		{"something demanded less", list(path(`,"required_parameters":["a","b"]`)), list(path(`,"required_parameters":["a"]`)), false},
		{"something demanded more", list(path(`,"required_parameters":["a"]`)), list(path(`,"required_parameters":["a","b"]`)), true},

		{"a place below", list(entry("")), list(`{"type":"https://example.com/access","actions":["read"],"place":"docs/a"}`), true},
		{"a place that begins alike", list(entry("")), list(`{"type":"https://example.com/access","actions":["read"],"place":"docs2"}`), false},
		{"a place above", list(`{"type":"https://example.com/access","actions":["read"],"place":"docs/"}`), list(entry("")), false},
		{"less, where less is less", list(entry(`,"size":10`)), list(entry(`,"size":9`)), true},
		{"more, where less is less", list(entry(`,"size":10`)), list(entry(`,"size":11`)), false},
		{"no limit where there is one", list(entry(`,"size":10`)), list(entry("")), false},
		{"more, where more is less", list(entry(`,"since":-2`)), list(entry(`,"since":3`)), true},
		{"less, where more is less", list(entry(`,"since":-2`)), list(entry(`,"since":-3`)), false},
		{"equal decimals", list(entry(`,"level":"1.50"`)), list(entry(`,"level":"1.5"`)), true},
		{"other decimals", list(entry(`,"level":"1.50"`)), list(entry(`,"level":"1.49"`)), false},
		{"no data where none is granted", list(entry("")), list(entry("")), true},
		{"data where none is granted", list(entry("")), list(entry(`,"datatypes":["x"]`)), false},
		{"no data where some is granted", list(entry(`,"datatypes":["x"]`)), list(entry("")), true},
		{"exactly the same list", list(entry(`,"exactly":["a","b"]`)), list(entry(`,"exactly":["b","a"]`)), true},
		{"not exactly the same list", list(entry(`,"exactly":["a","b"]`)), list(entry(`,"exactly":["a"]`)), false},
		{"more than exactly the same list", list(entry(`,"exactly":["a"]`)), list(entry(`,"exactly":["a","b"]`)), false},
		{"less below zero, where more is less", list(entry(`,"since":-3`)), list(entry(`,"since":-2`)), true},
		{"from below zero to above, where more is less", list(entry(`,"since":-3`)), list(entry(`,"since":0`)), true},
		{"from above zero to below, where more is less", list(entry(`,"since":1`)), list(entry(`,"since":-1`)), false},
		{"another note", list(entry(`,"note":"a"`)), list(entry(`,"note":"b"`)), true},
		{"the same owner", list(entry(`,"owner":{"name":"Ann"}`)), list(entry(`,"owner":{"name":"Ann","id":1}`)), true},
		{"another owner", list(entry(`,"owner":{"name":"Ann","id":1}`)), list(entry(`,"owner":{"name":"Ann"}`)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var granted, request details.Set
			if len(c.granted) > 0 {
				granted = parse(t, r, c.granted...)
			}
			if len(c.request) > 0 {
				request = parse(t, r, c.request...)
			}
			err := r.Covers(granted, request)
			if (err == nil) != c.covered || err != nil && !errors.Is(err, details.ErrWider) {
				t.Errorf("got %v", err)
			}
		})
	}
	other, err := details.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign := parse(t, r, entry(""))
	if other.Covers(foreign, foreign) == nil {
		t.Error("a type that is not registered covers itself")
	}
	if _, ok := other.Widest(foreign, foreign); ok {
		t.Error("a type that is not registered has something in common with itself")
	}
}

func TestWidest(t *testing.T) {
	t.Parallel()
	r := registry(t)
	list := func(entries ...string) []string { return entries }
	for _, c := range []struct {
		name         string
		limit, asked []string
		want         []string
	}{
		{"the same", list(vault), list(vault), list(vault)},
		{"nothing in common", list(vault), list(pay, call), nil},
		{"the smaller amount", list(pay), list(`{"type":"payment","amount":{"value":"50","currency":"EUR"},"payee":"Book shop"}`), list(pay)},
		{
			"the limits of both", list(`{"type":"payment","amount":{"value":"50","currency":"EUR"},"payee":"Book shop"}`),
			list(`{"type":"payment","amount":{"value":"20.00","currency":"EUR"},"reference":"7"}`),
			list(`{"type":"payment","amount":{"value":"20.00","currency":"EUR"},"payee":"Book shop","reference":"7"}`),
		},
		{"another currency", list(pay), list(`{"type":"payment","amount":{"value":"1","currency":"JPY"}}`), nil},
		{
			"the actions of both", list(`{"type":"vault:path_access","path":"a","capabilities":["read","list"]}`),
			list(`{"type":"vault:path_access","path":"a","capabilities":["update","list","read"]}`),
			list(`{"type":"vault:path_access","path":"a","capabilities":["list","read"]}`),
		},
		{
			"no action of both", list(`{"type":"vault:path_access","path":"a","capabilities":["read"]}`),
			list(`{"type":"vault:path_access","path":"a","capabilities":["update"]}`), nil,
		},
		{
			"the parameters of both", list(`{"type":"vault:path_access","path":"a","capabilities":["read"],"allowed_parameters":{"a":[],"b":["x","y"],"c":["z"],"e":["q"]},"denied_parameters":{"k":["1"],"l":[],"m":["3"],"n":["5"]},"required_parameters":["r"]}`),
			list(`{"type":"vault:path_access","path":"a","capabilities":["read"],"allowed_parameters":{"a":["w"],"b":["y","v"],"c":[],"d":[],"e":["p"]},"denied_parameters":{"k":["2"],"l":["4"],"m":[]},"required_parameters":["s"]}`),
			list(`{"type":"vault:path_access","path":"a","capabilities":["read"],"allowed_parameters":{"a":["w"],"b":["y"],"c":["z"]},"denied_parameters":{"k":["2","1"],"l":[],"m":[],"n":["5"]},"required_parameters":["s","r"]}`),
		},
		{
			"no parameters of both", list(`{"type":"vault:path_access","path":"a","capabilities":["read"],"allowed_parameters":{"a":[]}}`),
			list(`{"type":"vault:path_access","path":"a","capabilities":["read"],"allowed_parameters":{"b":[]}}`), nil,
		},
		{
			"the deeper place", list(entry("")), list(`{"type":"https://example.com/access","actions":["read"],"place":"docs/a"}`),
			list(`{"type":"https://example.com/access","actions":["read"],"place":"docs/a"}`),
		},
		{"the data of both", list(entry(`,"datatypes":["x","y"]`)), list(entry(`,"datatypes":["y","z"]`)), list(entry(`,"datatypes":["y"]`))},
		{"no data of both", list(entry(`,"datatypes":["x"]`)), list(entry(`,"datatypes":["z"]`)), list(entry(""))},
		{"data of one", list(entry(`,"datatypes":["x"]`)), list(entry("")), list(entry(""))},
		{"the asked note", list(entry(`,"note":"a"`)), list(entry(`,"note":"b"`)), list(entry(`,"note":"b"`))},
		{
			"what would not be allowed by itself", list(`{"type":"mcp_tool_call","tool":"t","arguments":{"a":"y"}}`),
			list(`{"type":"mcp_tool_call","tool":"t","args_digest":"sha-256=:zasGfp876zLRJSz9Y+SSWS/sv1kbDQjK2yS7F/OGQkY=:"}`), nil,
		},
		{
			"the wider of two that one asked for meets", list(
				`{"type":"mcp_tool_call","tool":"t","server":"a"}`, `{"type":"mcp_tool_call","tool":"t"}`), list(`{"type":"mcp_tool_call","tool":"t"}`),
			list(`{"type":"mcp_tool_call","tool":"t"}`),
		},
		{
			"one payment of two", list(`{"type":"payment","amount":{"value":"5","currency":"EUR"}}`),
			list(`{"type":"payment","amount":{"value":"9","currency":"EUR"},"payee":"A"}`, `{"type":"payment","amount":{"value":"9","currency":"EUR"},"payee":"B"}`),
			list(`{"type":"payment","amount":{"value":"5","currency":"EUR"},"payee":"A"}`),
		},
		{
			"both of two", list(`{"type":"mcp_tool_call","tool":"t","server":"a"}`, `{"type":"mcp_tool_call","tool":"t","server":"b"}`),
			list(`{"type":"mcp_tool_call","tool":"t"}`),
			list(`{"type":"mcp_tool_call","tool":"t","server":"a"}`, `{"type":"mcp_tool_call","tool":"t","server":"b"}`),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limit, asked := parse(t, r, c.limit...), parse(t, r, c.asked...)
			got, ok := r.Widest(limit, asked)
			var want details.Set
			if len(c.want) > 0 {
				want = parse(t, r, c.want...)
			}
			if ok != (len(c.want) > 0) || string(got.JSON()) != string(want.JSON()) {
				t.Errorf("got  %s %v\nwant %s", got.JSON(), ok, want.JSON())
			}
		})
	}
}

func TestCheckTarget(t *testing.T) {
	t.Parallel()
	r := registry(t)
	at := func(locations string) string {
		return `{"type":"mcp_tool_call","tool":"t","locations":` + locations + `}`
	}
	const uri = "https://rs1.test/mcp"
	for _, c := range []struct {
		name  string
		set   []string
		fails bool
	}{
		{"no locations", []string{vault, call}, false},
		{"the target", []string{at(`["https://rs1.test/mcp"]`)}, false},
		{"an alias", []string{at(`["https://old.test/"]`)}, false},
		{"both", []string{at(`["https://old.test/","https://rs1.test/mcp"]`)}, false},
		{"another", []string{at(`["https://rs2.test/mcp"]`)}, true},
		{"the target and another", []string{at(`["https://rs1.test/mcp","https://rs2.test/mcp"]`)}, true},
		{"another in the second entry", []string{at(`["https://rs1.test/mcp"]`), at(`["https://rs2.test/mcp"]`)}, true},
		{"a slash more", []string{at(`["https://rs1.test/mcp/"]`)}, true},
		{"another case", []string{at(`["HTTPS://rs1.test/mcp"]`)}, true},
		{"below", []string{at(`["https://rs1.test/mcp/a"]`)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := r.CheckTarget(parse(t, r, c.set...), uri, []string{"https://old.test/"})
			if (err != nil) != c.fails || c.fails && !errors.Is(err, details.ErrLocation) {
				t.Errorf("got %v", err)
			}
		})
	}
}
