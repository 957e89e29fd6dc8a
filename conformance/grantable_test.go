package conformance_test

import (
	"bytes"
	"encoding/json"
)

// grantableCases hold what a refusal offers. The checklist has no row for it.
func grantableCases() []testCase {
	return []testCase{
		{"OFFER-01", "a request that was too wide is told what is granted, and exactly that is", offerIsGranted},
		{"OFFER-02", "where nobody has allowed anything, the offer leads to the question", offerIsAsked},
		{"OFFER-03", "nothing is offered where it would tell of others, or where there is nothing", offerIsNoOracle},
	}
}

// takes repeats a request with what its refusal offered.
func (x *exchange) takes(a answer) *exchange {
	x.c.Helper()
	offer, ok := a.json["grantable"].(map[string]any)
	if !ok {
		x.c.Fatalf("nothing is offered: %s", a.body)
	}
	y := x.but().drop("scope", "authorization_details")
	if scope, ok := offer["scope"].(string); ok {
		y.set("scope", scope)
	}
	if list := offer["authorization_details"]; list != nil {
		y.set("authorization_details", string(mustJSON(list)))
	}
	return y
}

func offerIsGranted(c *check) {
	x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).set("authorization_details", details(payment("100.00", "EUR"))))
	for what, wider := range map[string]*exchange{
		"a scope too many":  x.but().set("scope", "mail.read mail.send"),
		"a scope of nobody": x.but().set("scope", "mail.read mail.nonsense"),
		"too much money":    x.but().set("authorization_details", details(payment("100.01", "EUR"))),
		"both":              x.but().set("scope", "mail.send mail.read").set("authorization_details", details(payment("500.00", "EUR"), payment("1.00", "USD"))),
	} {
		a := wider.do()
		if a.status != 400 || a.code() != "invalid_scope" && a.code() != "invalid_authorization_details" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
			continue
		}
		y := wider.takes(a)
		got := c.ok(y.do())
		if got.str("scope") != y.form.Get("scope") || y.form.Get("scope") != "mail.read" {
			c.Errorf("%s: offered %q, granted %q", what, y.form.Get("scope"), got.str("scope"))
		}
		if want := y.form.Get("authorization_details"); want != "" {
			var a, b any
			if json.Unmarshal([]byte(want), &a) != nil || json.Unmarshal(mustJSON(got.json["authorization_details"]), &b) != nil || !bytes.Equal(mustJSON(a), mustJSON(b)) {
				c.Errorf("%s: offered %s, granted %v", what, want, got.json["authorization_details"])
			}
		}
	}
}

func offerIsAsked(c *check) {
	ceiling := wide()
	ceiling["scopes"] = []string{"mail.read"}
	ceiling["authorization_details"] = []obj{payment("10.00", "EUR")}
	x := c.te(c.agent(obj{"ceiling": ceiling}), c.userToken("alice"))
	wider := x.but().set("scope", "mail.read mail.send").set("authorization_details", details(payment("12.00", "EUR")))
	c.asks(wider.takes(c.want(wider.do(), 400, "invalid_scope")))
}

func offerIsNoOracle(c *check) {
	x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")))
	for what, y := range map[string]*exchange{
		"nobody was authenticated":      x.but().anonymous().set("scope", "mail.read mail.send"),
		"a subject token of nobody":     x.but().set("subject_token", "x.y.z").set("scope", "mail.read mail.send"),
		"a grant of somebody else":      c.te(c.agent(), c.userToken("alice")).set("scope", "mail.nonsense"),
		"nothing is left of what asked": x.but().set("scope", "mail.nonsense"),
		"details that cannot be read":   x.but().set("authorization_details", `[{"type":"payment"}]`),
		"a request that is not read":    x.but().set("scope", `mail.read "`),
	} {
		a := y.do()
		if a.status < 400 || a.json["grantable"] != nil {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}
