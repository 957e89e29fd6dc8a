package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"obolus/policy"
)

// Of many policies that differ in one label those of the agent's label decide, and what a label that is not there leaves open stays open.
func TestPoliciesByLabel(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 50 {
		fmt.Fprintf(&text, "@id(\"t%d\") forbid (principal, action, resource) when { principal.hasTag(\"tier\") && principal.getTag(\"tier\") == \"t%d\" };\n", i, i)
		fmt.Fprintf(&text, "@id(\"u%d\") forbid (principal, action, resource) when { context.user has acr && context.user.acr == \"u%d\" };\n", i, i)
	}
	text.WriteString(`
		@id("early") forbid (principal, action, resource) when { principal.hasTag("tier") && principal.getTag("tier") == "t7" && context.time.hour < 6 };
		@id("two") forbid (principal, action, resource) when { principal has owner && principal.hasTag("tier") && principal.getTag("tier") == "t8" };
		@id("stage") forbid (principal, action, resource) when { context.stage == "redeem" };
		@id("unless") forbid (principal, action, resource) unless { !(principal.hasTag("tier") && principal.getTag("tier") == "t9") };`)
	e := engine(t, text.String())
	label := func(v string) func(*policy.Input) {
		return func(in *policy.Input) { in.Agent.Labels = map[string]string{"tier": v} }
	}
	for name, c := range map[string]struct {
		change []func(*policy.Input)
		by     []string
	}{
		"its own":             {[]func(*policy.Input){label("t3")}, []string{"t3"}},
		"and another that is": {[]func(*policy.Input){label("t7")}, []string{"t7"}},
		"before six":          {[]func(*policy.Input){label("t7"), func(in *policy.Input) { in.Now = in.Now.Add(-12 * 3600e9) }}, []string{"t7", "early"}},
		"two things there":    {[]func(*policy.Input){label("t8")}, []string{"t8", "two"}},
		"one of them not":     {[]func(*policy.Input){label("t8"), func(in *policy.Input) { in.Agent.Owner = "" }}, []string{"t8"}},
		"by an unless":        {[]func(*policy.Input){label("t9")}, []string{"t9", "unless"}},
		"a label of nobody":   {[]func(*policy.Input){label("t50")}, nil},
		"an empty label":      {[]func(*policy.Input){label("")}, nil},
		"no label":            {[]func(*policy.Input){func(in *policy.Input) { in.Agent.Labels = nil }}, nil},
		"by the user":         {[]func(*policy.Input){label("t50"), func(in *policy.Input) { in.User.ACR = "u4" }}, []string{"u4"}},
	} {
		got := e.Decide(request(c.change...))
		if got.Allowed != (c.by == nil) || !slices.Equal(got.Policies, c.by) || len(got.Errors) > 0 {
			t.Errorf("%s: %+v, want %v", name, got, c.by)
		}
	}
}
