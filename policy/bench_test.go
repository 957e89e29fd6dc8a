package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"obolus/policy"
)

// BenchmarkDecide measures one decision of an exchange for two scopes and a payment. None of the policies decides; the forms differ in
// what has to be looked at to know that.
func BenchmarkDecide(b *testing.B) {
	in := request(func(in *policy.Input) {
		in.Scopes = []string{"s1", "s2"}
		in.Details = []json.RawMessage{json.RawMessage(`{"type":"payment","amount":{"value":"20.00","currency":"EUR"},"payee":"Shop"}`)}
	})
	for _, form := range []struct{ name, text string }{
		{"agents", `forbid (principal == Agent::"a%d", action, resource) when { context.time.hour > 6 };`},
		{"scopes", `forbid (principal, action == Action::"scope/x%d", resource) when { context.time.hour > 6 };`},
		{"labels", `forbid (principal, action, resource) when { principal.hasTag("tier") && principal.getTag("tier") == "t%d" };`},
		{"facts", `forbid (principal, action, resource) when { context.time.hour > 100%d };`},
		{"amounts", `forbid (principal, action == Action::"detail/payment", resource) when { context.detail.amount.value.greaterThan(decimal("10%d.0")) };`},
	} {
		for _, n := range []int{0, 10, 1000} {
			b.Run(fmt.Sprintf("%s/policies=%d", form.name, n), func(b *testing.B) {
				var text strings.Builder
				for i := range n {
					fmt.Fprintf(&text, form.text+"\n", i)
				}
				e := engine(b, text.String())
				if got := e.Decide(in); !got.Allowed {
					b.Fatal(got)
				}
				b.ReportAllocs()
				for b.Loop() {
					e.Decide(in)
				}
			})
		}
	}
}

// BenchmarkLoad measures how long a reload takes.
func BenchmarkLoad(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "forbid (principal == Agent::\"a%d\", action, resource) when { context.time.hour > 6 };\n", i)
	}
	e := engine(b)
	for b.Loop() {
		if err := e.Load(files(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
