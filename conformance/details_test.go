package conformance_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

func detailCases() []testCase {
	return []testCase{
		{"RAR-01", "authorization_details is an array of objects with a type", rarShape},
		{"RAR-02", "unknown types, members and values are refused", rarStrict},
		{"RAR-03", "it is taken at every endpoint that grants", rarEverywhere},
		{"RAR-04", "scope and details are both asked for", rarBoth},
		{"RAR-05", "an entry is for the target and no other place", rarPlace},
		{"RAR-06", "a token request stays within what was granted", rarWithin},
		{"RAR-07", "each type says what lies within what, and what it does not say must be the same", rarCovers},
		{"RAR-08", "two entries are never put together", rarProduct},
		{"RAR-09", "what was granted is told", rarTold},
		{"RAR-10", "what was asked is what is shown, granted and told, or less, and never more", rarAsAsked},
		{"RAR-11", "a token has the entries of its audience alone", rarAudience},
		{"RAR-12", "introspection tells it", rarIntrospected},
		{"RAR-13", "types are those of the agent, the client and the resource", rarTypes},
		{"RAR-14", "strings are compared as they are", rarStrings},
		{"RAR-15", "there is a limit to the size", rarSize},
		{"RAR-16", "what parsers read differently is refused", rarParsers},
		{"RAR-17", "an exchange narrows and never widens", rarNarrow},
	}
}

func details(entries ...obj) string { return string(mustJSON(entries)) }

// paying is an agent whose user has allowed a payment, and the request.
func (c *check) paying(granted ...obj) *exchange {
	c.Helper()
	return c.allowed("alice", c.te(c.agent(), c.userToken("alice")).drop("scope").set("authorization_details", details(granted...)))
}

func rarShape(c *check) {
	x := c.baseline()
	for _, v := range []string{
		`{"type":"payment"}`, `[]`, `[[]]`, `["payment"]`, `[{}]`, `[{"type":1}]`, `[{"type":null}]`, `null`, `1`, `"x"`, `[`, `[{"type":"payment"}`, `{}`, `[null]`, `x`,
	} {
		c.want(x.but().set("authorization_details", v).do(), 400, "invalid_authorization_details")
	}
}

func rarStrict(c *check) {
	x := c.baseline()
	pay := payment("1.00", "EUR")
	for what, entry := range map[string]obj{
		"unknown type": merge(pay, obj{"type": "payments"}), "unknown member": merge(pay, obj{"extra": 1}), "wrong JSON type": merge(pay, obj{"payee": 7}),
		"null": merge(pay, obj{"payee": nil, "reference": []string{}}), "missing member": merge(pay, obj{"amount": nil}),
		"missing inner member": merge(pay, obj{"amount": obj{"value": "1.00"}}), "bad currency": payment("1.00", "eur"),
		"no amount": payment("", "EUR"), "negative": payment("-1.00", "EUR"), "exponent": payment("1e3", "EUR"), "a word": payment("many", "EUR"),
		"a number": merge(pay, obj{"amount": obj{"value": 1.5, "currency": "EUR"}}), "zero": payment("0.00", "EUR"), "case of the type": merge(pay, obj{"type": "Payment"}),
	} {
		if a := x.but().set("authorization_details", details(entry)).do(); a.status != 400 || a.code() != "invalid_authorization_details" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func rarEverywhere(c *check) {
	b := c.person("alice")
	good, bad := details(payment("5.00", "EUR")), details(payment("-5.00", "EUR"))
	f := c.flow(b, "mail.read").set("resource", mail).set("authorization_details", bad)
	if q := f.back(f.open()); q.Get("error") != "invalid_authorization_details" {
		c.Errorf("authorize: %v", q)
	}
	f = c.flow(b, "mail.read").set("resource", mail).set("authorization_details", bad)
	c.want(c.post("/par", f.query), 400, "invalid_authorization_details")
	f = c.flow(b, "mail.read").set("resource", mail).set("authorization_details", good)
	form := f.form(f.code())
	form.Set("authorization_details", details(payment("50.00", "EUR")))
	c.want(c.post("/token", form), 400, "invalid_authorization_details")
	form.Del("authorization_details")
	if a := c.ok(c.post("/token", form)); !bytes.Contains(mustJSON(a.json["authorization_details"]), []byte("5.00")) {
		c.Errorf("%s", a.body)
	}
	f = c.flow(b, "mail.read").set("resource", mail).set("authorization_details", good)
	c.push(f)
	f.token()
	c.want(c.baseline().set("authorization_details", bad).do(), 400, "invalid_authorization_details")
}

func rarBoth(c *check) {
	x := c.te(c.agent(), c.userToken("alice")).set("authorization_details", details(payment("5.00", "EUR")))
	text := c.visit(c.person("alice"), c.asks(x)).text()
	if !strings.Contains(text, "mail.read") || !strings.Contains(text, "5.00") {
		c.Errorf("the page shows only one of them: %s", text)
	}
	c.allow(c.person("alice"), x, limits{})
	j := c.decode(c.ok(x.do()).token())
	if j.str("scope") != "mail.read" || j.claims["authorization_details"] == nil {
		c.Errorf("%s", j.body)
	}
}

func rarPlace(c *check) {
	x := c.baseline()
	for _, place := range [][]string{{files}, {mail, files}, {"https://rs1.test/mcp/other"}, {"https://evil.test"}} {
		entry := merge(payment("1.00", "EUR"), obj{"locations": place})
		c.want(x.but().set("authorization_details", details(entry)).do(), 400, "invalid_authorization_details")
	}
}

func rarWithin(c *check) {
	x := c.paying(payment("100.00", "EUR"))
	c.ok(x.but().set("authorization_details", details(payment("100.00", "EUR"))).do())
	c.ok(x.but().set("authorization_details", details(payment("99.99", "EUR"))).do())
	for what, entry := range map[string]obj{
		"a bigger amount": payment("100.01", "EUR"), "another currency": payment("1.00", "USD"), "another payee": merge(payment("1.00", "EUR"), obj{"payee": "Merchant B"}),
		"anybody": merge(payment("1.00", "EUR"), obj{"payee": nil}),
	} {
		a := x.but().set("authorization_details", details(entry)).do()
		if a.status != 400 || a.code() != "invalid_authorization_details" && a.code() != "interaction_required" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	c.want(x.but().set("authorization_details", details(payment("1.00", "EUR"), payment("500.00", "EUR"))).do(), 400, "invalid_authorization_details")
}

func rarProduct(c *check) {
	a, b := merge(payment("100.00", "EUR"), obj{"payee": "Merchant A"}), merge(payment("1.00", "EUR"), obj{"payee": "Merchant B"})
	x := c.paying(a, b)
	c.ok(x.but().set("authorization_details", details(b, a)).do())
	crossed := merge(payment("100.00", "EUR"), obj{"payee": "Merchant B"})
	if got := x.but().set("authorization_details", details(crossed)).do(); got.status != 400 || got.token() != "" {
		c.Errorf("the amount of one with the payee of the other: %d %s", got.status, got.body)
	}
}

// roomType is a type of the suite's own. Its members have each kind of comparison: up to a number, beneath a prefix, some of a list, none if it
// is not there, and, for what nothing is said of, the same.
func roomType() obj {
	return obj{"type": "urn:test:room", "about": "Book {room}[ with {extras}]", "members": obj{
		"room": obj{"kind": "string", "required": true, "rule": "prefix"}, "seats": obj{"kind": "integer", "rule": "max"}, "days": obj{"kind": "set"},
		"keys": obj{"kind": "set", "absent": "none"}, "extras": obj{"kind": "object"}, "locations": obj{"kind": "set"},
	}}
}

func room(more ...obj) obj {
	return merge(obj{"type": "urn:test:room", "room": "west/", "seats": 10, "days": []string{"mon", "tue"}, "extras": obj{"a": 1, "b": []int{1, 2}}}, more...)
}

func access(path string, more ...obj) obj {
	return merge(obj{"type": "vault:path_access", "path": path, "capabilities": []string{"read", "list"}}, more...)
}

// ward registers a resource that understands the types.
func (c *check) ward(types ...string) string {
	c.Helper()
	id := c.name("ward")
	uri := "https://" + id + ".test"
	c.admin(http.MethodPut, "/resources/"+id, obj{"uri": uri, "scopes": obj{"mail.read": "Read"}, "redemption": "none", "servers": []string{"rs1"}, "details_types": types})
	return uri
}

// within asks under a consent for some entries for others.
func (c *check) within(x *exchange, what string, lies bool, asked ...obj) {
	c.Helper()
	switch a := x.but().set("authorization_details", details(asked...)).do(); {
	case lies && a.status != http.StatusOK:
		c.Errorf("%s: %d %s", what, a.status, a.body)
	case !lies && (a.status != http.StatusBadRequest || a.code() != "invalid_authorization_details" && a.code() != "interaction_required" || a.token() != ""):
		c.Errorf("%s is beyond it: %d %s", what, a.status, a.body)
	}
}

func rarCovers(c *check) {
	types := []string{"payment", "mcp_tool_call", "vault:path_access", "urn:test:room"}
	uri := c.ward(types...)
	under := func(granted ...obj) *exchange {
		c.Helper()
		ceiling := serving(uri)["ceiling"].(obj)
		ceiling["details_types"] = types
		x := c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice")).drop("scope").set("resource", uri)
		x = c.allowed("alice", x.set("authorization_details", details(granted...)))
		c.within(x, "the same", true, granted...)
		return x
	}
	call := obj{"type": "mcp_tool_call", "tool": "send", "arguments": obj{"a": 1, "b": []int{1, 2}}}
	pay := merge(payment("10.00", "EUR"), obj{"locations": nil})
	for _, h := range []struct {
		granted        obj
		inside, beyond map[string]obj // members that differ
	}{
		{pay, map[string]obj{"less": {"amount": obj{"value": "9.99", "currency": "EUR"}}, "a reference": {"reference": "x"}}, map[string]obj{
			"more": {"amount": obj{"value": "10.01", "currency": "EUR"}}, "more digits": {"amount": obj{"value": "9.9e1", "currency": "EUR"}}, "another currency": {"amount": obj{"value": "1.00", "currency": "USD"}},
			"another payee": {"payee": "Merchant B"}, "anybody": {"payee": nil},
		}},
		{call, map[string]obj{"a server": {"server": "x"}}, map[string]obj{
			"another tool": {"tool": "burn"}, "any arguments": {"arguments": nil}, "fewer": {"arguments": obj{"a": 1}}, "more": {"arguments": obj{"a": 1, "b": []int{1, 2}, "c": 1}},
			"in another order": {"arguments": obj{"a": 1, "b": []int{2, 1}}}, "another type": {"arguments": obj{"a": "1", "b": []int{1, 2}}},
		}},
		{access("secret/data/x"), map[string]obj{"fewer": {"capabilities": []string{"read"}}, "in another order": {"capabilities": []string{"list", "read"}}, "parameters": {"allowed_parameters": obj{"a": []string{"b"}}}}, map[string]obj{
			"more": {"capabilities": []string{"read", "list", "update"}}, "beneath": {"path": "secret/data/x/y"}, "above": {"path": "secret/data"}, "another": {"path": "secret/data/X"},
		}},
		{access("secret/data/x", obj{"allowed_parameters": obj{"a": []string{"b", "c"}}}), map[string]obj{"one value": {"allowed_parameters": obj{"a": []string{"b"}}}}, map[string]obj{
			"any": {"allowed_parameters": nil}, "another value": {"allowed_parameters": obj{"a": []string{"d"}}}, "another parameter": {"allowed_parameters": obj{"z": []string{"b"}}},
		}},
		{room(), map[string]obj{"beneath": {"room": "west/1"}, "smaller": {"seats": 1}, "one day": {"days": []string{"tue"}}}, map[string]obj{
			"beside": {"room": "east/1"}, "above": {"room": "wes"}, "bigger": {"seats": 11}, "any size": {"seats": nil}, "another day": {"days": []string{"mon", "sun"}}, "every day": {"days": nil},
			"keys": {"keys": []string{"k"}}, "other extras": {"extras": obj{"a": 1}}, "more extras": {"extras": obj{"a": 1, "b": []int{1, 2}, "c": 3}}, "any extras": {"extras": nil},
		}},
	} {
		x := under(h.granted)
		for what, change := range h.inside {
			c.within(x, what, true, merge(h.granted, change))
		}
		for what, change := range h.beyond {
			c.within(x, what, false, merge(h.granted, change))
		}
	}
	// What is compared as a whole is compared in its canonical form: names in any order, the same number in any spelling.
	x := under(room())
	for what, spelled := range map[string]string{
		"another order":    strings.Replace(details(room()), `{"a":1,"b":[1,2]}`, ` { "b" : [ 1 , 2 ] , "a" : 1 } `, 1),
		"another spelling": strings.Replace(details(room()), `{"a":1,`, `{"\u0061":1.0,`, 1),
	} {
		if a := x.but().set("authorization_details", spelled).do(); a.status != http.StatusOK || spelled == details(room()) {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	two := under(access("secret/data/a", obj{"capabilities": []string{"read"}}), access("secret/data/b", obj{"capabilities": []string{"update"}}))
	c.within(two, "each", true, access("secret/data/b", obj{"capabilities": []string{"update"}}), access("secret/data/a", obj{"capabilities": []string{"read"}}))
	c.within(two, "the one's right at the other's place", false, access("secret/data/a", obj{"capabilities": []string{"update"}}))
	c.within(two, "both rights at one", false, access("secret/data/a", obj{"capabilities": []string{"read", "update"}}))
}

func rarAsAsked(c *check) {
	asked := payment("5.00", "EUR")
	for what, hidden := range map[string]obj{
		"who holds the account": {"account_holder": "bob"}, "what the user chose": {"chosen": true}, "what was granted": {"granted": []string{"all"}}, "a private name": {"_account": "DE00"},
		"a second amount": {"amount": obj{"value": "5.00", "currency": "EUR", "max": "900.00"}}, "in another case": {"Account": "DE00"},
	} {
		bad := details(merge(asked, hidden))
		if a := c.te(c.agent(), c.userToken("alice")).set("authorization_details", bad).do(); a.status != 400 || a.code() != "invalid_authorization_details" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
		if a := c.post("/par", c.flow(c.person("alice"), "mail.read").set("resource", mail).set("authorization_details", bad).query); a.status != 400 || a.code() != "invalid_authorization_details" {
			c.Errorf("%s, pushed: %d %s", what, a.status, a.body)
		}
	}
	second := merge(payment("7.00", "EUR"), obj{"payee": "Merchant B"})
	x := c.te(c.agent(), c.userToken("alice")).drop("scope").set("authorization_details", details(asked, second))
	p := c.visit(c.person("alice"), c.asks(x))
	for _, shown := range []string{"5.00", "Merchant A", "7.00", "Merchant B"} {
		if !strings.Contains(p.text(), shown) {
			c.Errorf("%s is not shown", shown)
		}
	}
	f := limits{}.on(c, p.decision()).with(url.Values{
		"detail": {"0"}, "authorization_details": {details(payment("900.00", "EUR"))}, "amount": {"900.00"}, "amount.value": {"900.00"}, "payee": {"Eve"}, "account": {"DE00"},
	})
	if after := p.submit(f, "allow"); after.status >= 400 {
		c.Fatalf("%d %.300s", after.status, after.text())
	}
	a := c.ok(x.but().set("authorization_details", details(asked)).do())
	for what, told := range map[string]any{
		"the answer": a.json["authorization_details"], "the token": c.decode(a.token()).claims["authorization_details"],
		"introspection": c.introspect(c.rs1, a.token()).json["authorization_details"],
	} {
		if !bytes.Equal(mustJSON(told), mustJSON([]obj{asked})) {
			c.Errorf("%s tells %s", what, mustJSON(told))
		}
	}
	c.within(x, "what was unticked", false, second)
	c.within(x, "what the form was given", false, payment("900.00", "EUR"))
}

func rarAudience(c *check) {
	uri := c.ward("mcp_tool_call")
	agent := c.agent(serving(uri))
	here, there := toolCall("send_mail"), merge(toolCall("read_log"), obj{"locations": []string{uri}})
	subject := c.idp.token(c.env, "alice", "mail.read", obj{"authorization_details": []obj{here, there}})
	for place, h := range map[string]struct{ own, other obj }{mail: {here, there}, uri: {there, here}} {
		x := c.foreign(agent, subject).set("resource", place).drop("scope").set("authorization_details", details(h.own))
		a := c.ok(c.allowed("alice", x).do())
		if got := c.decode(a.token()).claims["authorization_details"]; !bytes.Equal(mustJSON(got), mustJSON([]obj{h.own})) {
			c.Errorf("at %s: %s", place, mustJSON(got))
		}
		c.want(x.but().set("authorization_details", details(h.own, h.other)).do(), 400, "invalid_authorization_details")
		c.want(x.but().set("authorization_details", details(h.other)).do(), 400, "invalid_authorization_details")
		if a := x.but().drop("authorization_details").do(); bytes.Contains(mustJSON(a.json["authorization_details"]), []byte(h.other["tool"].(string))) {
			c.Errorf("at %s, without asking: %s", place, a.body)
		}
	}
}

func rarTold(c *check) {
	a := c.ok(c.paying(payment("7.50", "EUR")).do())
	told, issued := mustJSON(a.json["authorization_details"]), mustJSON(c.decode(a.token()).claims["authorization_details"])
	if !bytes.Equal(told, issued) || !bytes.Contains(told, []byte("7.50")) {
		c.Errorf("told %s, token %s", told, issued)
	}
}

func rarIntrospected(c *check) {
	token := c.ok(c.paying(payment("7.50", "EUR")).do()).token()
	told, issued := mustJSON(c.introspect(c.rs1, token).json["authorization_details"]), mustJSON(c.decode(token).claims["authorization_details"])
	if !bytes.Equal(told, issued) {
		c.Errorf("told %s, token %s", told, issued)
	}
	if c.active(nil, token) {
		c.Error("told to another resource server")
	}
}

func rarTypes(c *check) {
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	if types := stringsOf(meta.json["authorization_details_types_supported"]); len(types) < 3 {
		c.Errorf("authorization_details_types_supported is %v", types)
	}
	vault := `[{"type":"vault:path_access","path":"secret/data/x","capabilities":["read"]}]`
	c.want(c.baseline().set("authorization_details", vault).do(), 400, "invalid_authorization_details") // not of this resource
	ceiling := wide()
	ceiling["details_types"] = []string{"mcp_tool_call"}
	x := c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice"))
	c.want(x.but().set("authorization_details", details(payment("1.00", "EUR"))).do(), 400, "invalid_authorization_details")
	c.asks(x.but().set("authorization_details", details(toolCall("send_mail"))))
	ceiling = wide()
	ceiling["authorization_details"] = []obj{payment("10.00", "EUR")}
	y := c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice"))
	c.want(y.but().set("authorization_details", details(payment("10.01", "EUR"))).do(), 400, "invalid_authorization_details")
	c.asks(y.but().set("authorization_details", details(payment("9.00", "EUR"))))
}

func rarStrings(c *check) {
	composed, apart := "Caf\u00e9", "Cafe\u0301"
	x := c.paying(merge(payment("5.00", "EUR"), obj{"payee": composed}))
	c.ok(x.but().set("authorization_details", details(merge(payment("5.00", "EUR"), obj{"payee": composed}))).do())
	a := x.but().set("authorization_details", details(merge(payment("5.00", "EUR"), obj{"payee": apart}))).do()
	if a.status != 400 || a.token() != "" {
		c.Errorf("another spelling of the same name: %d %s", a.status, a.body)
	}
	p := c.visit(c.person("alice"), c.asks(c.te(c.agent(), c.userToken("alice")).set("authorization_details", details(merge(payment("5.00", "EUR"), obj{"payee": "<script>x</script>"})))))
	if strings.Contains(string(p.body), "<script>x") {
		c.Error("the payee is markup")
	}
}

func rarSize(c *check) {
	x := c.baseline()
	big := details(merge(toolCall("send_mail"), obj{"arguments": obj{"text": strings.Repeat("x", 40<<10)}}))
	if a := x.but().set("authorization_details", big).do(); a.status != 400 && a.status != 413 || a.token() != "" {
		c.Errorf("40 KiB: %d %s", a.status, a.code())
	}
	many := make([]obj, 40)
	for i := range many {
		many[i] = toolCall("tool" + uitoa(uint64(i)))
	}
	c.want(x.but().set("authorization_details", details(many...)).do(), 400, "invalid_authorization_details")
	f := c.flow(c.person("alice"), "mail.read").set("authorization_details", strings.Repeat("x", 70<<10))
	if a := c.get("/authorize?"+f.query.Encode(), 0); a.status < 400 || a.status >= 500 {
		c.Errorf("70 KiB in the URL: %d", a.status)
	}
	fits := details(merge(toolCall("send_mail"), obj{"arguments": obj{"text": strings.Repeat("x", 8<<10)}}))
	f = c.flow(c.person("alice"), "mail.read").set("resource", mail).set("authorization_details", fits)
	if a := c.post("/par", f.query); a.status != http.StatusCreated {
		c.Errorf("8 KiB pushed: %d %s", a.status, a.body)
	}
}

func rarParsers(c *check) {
	x := c.baseline()
	for what, v := range map[string]string{
		"a member twice":         `[{"type":"payment","amount":{"value":"1.00","value":"9.00","currency":"EUR"}}]`,
		"type twice":             `[{"type":"payment","type":"mcp_tool_call","tool":"x"}]`,
		"twice, spelled apart":   `[{"type":"mcp_tool_call","tool":"x","t\u006fol":"y"}]`,
		"a huge number":          `[{"type":"mcp_tool_call","tool":"x","arguments":{"n":1e999}}]`,
		"NaN":                    `[{"type":"mcp_tool_call","tool":"x","arguments":{"n":NaN}}]`,
		"deep":                   `[{"type":"mcp_tool_call","tool":"x","arguments":` + strings.Repeat(`{"a":`, 12) + `1` + strings.Repeat(`}`, 12) + `}]`,
		"half a surrogate":       `[{"type":"mcp_tool_call","tool":"\ud800"}]`,
		"something after":        `[{"type":"mcp_tool_call","tool":"x"}] []`,
		"a comma too many":       `[{"type":"mcp_tool_call","tool":"x"},]`,
		"a comment":              `[{"type":"mcp_tool_call","tool":"x"}/**/]`,
		"a digest that is wrong": `[{"type":"mcp_tool_call","tool":"x","arguments":{"a":1},"args_digest":"sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"}]`,
	} {
		if a := x.but().set("authorization_details", v).do(); a.status != 400 || a.code() != "invalid_authorization_details" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

func rarNarrow(c *check) {
	agent := c.agent()
	subject := func(entries ...obj) *exchange {
		return c.foreign(agent, c.idp.token(c.env, "alice", "mail.read", obj{"authorization_details": entries})).drop("scope")
	}
	x := subject(payment("20.00", "EUR")).set("authorization_details", details(payment("20.00", "EUR")))
	c.ok(c.allowed("alice", x).do())
	c.want(subject(payment("20.00", "EUR")).set("authorization_details", details(payment("20.01", "EUR"))).do(), 400, "invalid_authorization_details")
	c.want(subject(payment("10.00", "EUR")).set("authorization_details", details(payment("20.00", "EUR"))).do(), 400, "invalid_authorization_details")
	if a := c.ok(subject(payment("20.00", "EUR")).set("authorization_details", details(payment("5.00", "EUR"))).do()); !bytes.Contains(mustJSON(a.json["authorization_details"]), []byte(`"5.00"`)) {
		c.Errorf("%s", a.body)
	}
	c.want(subject(obj{"type": "unknown"}).set("authorization_details", details(payment("1.00", "EUR"))).do(), 400, "invalid_request")
}
