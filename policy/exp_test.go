package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"obolus/oauth/details"
	"obolus/policy"
)

func TestExp(t *testing.T) {
	reg, err := details.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(e.Schema())
	for _, text := range []string{
		`@id("a") forbid(principal, action in Action::"detail", resource) when { context.time.hour < 8 };`,
		`forbid(principal, action, resource) unless { principal.hasTag("tier") && principal.getTag("tier") == "gold" };`,
		`forbid(principal, action == Action::"detail/payment", resource) when { context.detail.amount.value.greaterThan(decimal("20.0")) };`,
		`forbid(principal, action == Action::"detail/mcp_tool_call", resource) when { context.detail has arguments && context.detail.arguments.hasTag("to") && !(context.detail.arguments.getTag("to") like "*@example.com") };`,
		`forbid(principal, action, resource) when { context has detail && context.detail has amount };`,
		`forbid(principal, action == Action::"scope/x y", resource);`,
		`forbid(principal, action == Action::"scope/x", resource) when { context.user.acr == "mfa" };`,
		`forbid(principal, action == Action::"scope/x", resource) when { principal.nope == "mfa" };`,
		"forbid(principal,\n action == Action::\"scope/x\", resource) when { principal.nope = \"mfa\" };",
		`forbid(principal, action == Action::"scope/x", resource) when { false };`,
		`forbid(principal, action == Action::"scope/x", resource) when { context.time.now.offset(duration("1h")).toTime() < duration("8h") };`,
		`forbid(principal in Agent::"x", action in [Action::"scope/x", Action::"detail"], resource is Target in Target::"r") when { context.stage == "exchang" };`,
		strings.Repeat("(", 100000),
		"forbid(principal, action, resource) when { " + strings.Repeat("if true then ", 200000) + " };",
		"forbid(principal, action, resource) when { " + strings.Repeat("!", 200000) + "true };",
		"forbid(principal, action, resource) when { principal" + strings.Repeat(".a", 100000) + " };",
		"forbid(principal, action, resource) when { " + strings.Repeat("1 + ", 100000) + "1 == 2 };",
		"forbid(principal, action, resource) when { " + strings.Repeat("true && ", 100000) + "true };",
	} {
		now := time.Now()
		err := e.Load([]policy.File{{Name: "a.cedar", Text: text}})
		s := fmt.Sprint(err)
		t.Log(text[:min(len(text), 120)], "=>", s[:min(len(s), 300)], time.Since(now))
	}
}

func BenchmarkDecide(b *testing.B) {
	reg, _ := details.New(nil)
	for _, shape := range []string{"none", "general", "agent", "scope", "tag", "detail"} {
		for _, n := range []int{0, 10, 1000} {
			b.Run(fmt.Sprintf("%s/policies=%d", shape, n), func(b *testing.B) {
				e, _ := policy.New(reg)
				var text strings.Builder
				for i := range n {
					switch shape {
					case "general":
						fmt.Fprintf(&text, "forbid(principal, action, resource) when { context.time.hour > %d };\n", 24+i)
					case "agent":
						fmt.Fprintf(&text, "forbid(principal == Agent::\"a%d\", action, resource) when { context.time.hour > %d };\n", i, 24+i)
					case "scope":
						fmt.Fprintf(&text, "forbid(principal, action == Action::\"scope/s%d\", resource) when { context.time.hour > %d };\n", i, 24+i)
					case "tag":
						fmt.Fprintf(&text, "forbid(principal, action, resource) when { principal.hasTag(\"team\") && principal.getTag(\"team\") == \"t%d\" && context.chain.depth > 2 };\n", i)
					case "detail":
						fmt.Fprintf(&text, "forbid(principal, action == Action::\"detail/payment\", resource) when { context.detail.amount.value.greaterThan(decimal(\"%d.0\")) };\n", i+100)
					}
				}
				start := time.Now()
				if err := e.Load([]policy.File{{Name: "a.cedar", Text: text.String()}}); err != nil {
					b.Fatal(err)
				}
				b.Logf("load %v", time.Since(start))
				in := policy.Input{
					Stage: policy.Exchange, ClientID: "a1", Scopes: []string{"s1", "s2"}, Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), Chain: []string{"a1"},
					Agent: policy.Agent{ID: "a1", Owner: "o", Operator: "p", Labels: map[string]string{"team": "x", "env": "prod"}},
					User:  policy.User{ID: "u", ACR: "mfa", AuthTime: time.Date(2026, 1, 1, 11, 0, 0, 0, time.UTC)}, Target: policy.Target{ID: "r", URI: "https://r/"},
					Details: []json.RawMessage{json.RawMessage(`{"type":"payment","amount":{"value":"20.00","currency":"EUR"},"payee":"x"}`)},
				}
				if d := e.Decide(in); !d.Allowed {
					b.Fatal(d)
				}
				b.ReportAllocs()
				for b.Loop() {
					e.Decide(in)
				}
			})
		}
	}
}
