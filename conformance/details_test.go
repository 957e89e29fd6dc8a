package conformance_test

import (
	"bytes"
	"net/http"
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
		{"RAR-08", "two entries are never put together", rarProduct},
		{"RAR-09", "what was granted is told", rarTold},
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
