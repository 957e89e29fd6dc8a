package policy_test

import (
	"errors"
	"strings"
	"testing"

	"obolus/policy"
)

// A policy that can only fail is found before it is in force.
func TestTrial(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		bad  string // empty: fine
	}{
		"fine":                 {`forbid (principal, action, resource) when { context.time.hour > 20 };`, ""},
		"looks before it acts": {`forbid (principal, action, resource) when { principal has owner && principal.owner == "x" };`, ""},
		"overflow":             {"\n  forbid (principal, action, resource) when { context.time.hour + 9223372036854775807 > 1 };", "a.cedar:2:3: a.cedar#1: when 1 cannot be evaluated"},
		"overflow for one agent, target and scope": {
			`forbid (principal == Agent::"x", action == Action::"scope/s", resource == Target::"t") unless { context.chain.depth * 9223372036854775807 * 2 > 1 };`,
			"unless 1 cannot be evaluated",
		},
		"overflow for all scopes":      {`forbid (principal, action in Action::"scope", resource) when { context.time.unix * 9223372036854775807 > 1 };`, "cannot be evaluated"},
		"at redemption alone":          {`forbid (principal, action, resource) when { context.stage == "redeem" && context.time.unix * 9223372036854775807 > 1 };`, "cannot be evaluated"},
		"about details is not tried":   {`forbid (principal, action == Action::"detail/doc", resource) when { context.time.unix * 9223372036854775807 > 1 };`, ""},
		"nor what depends on the user": {`forbid (principal, action, resource) when { context.user.id == "alice" && context.time.unix * 9223372036854775807 > 1 };`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := engine(t, c.text).Trial(noon)
			if c.bad == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if list, ok := errors.AsType[policy.Errors](err); !ok || len(list) != 1 || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%v, want %s", err, c.bad)
			}
		})
	}
}

// An engine that is shut allows nothing and says why, until it gets a set.
func TestShut(t *testing.T) {
	t.Parallel()
	e := engine(t)
	if got := e.Decide(request()); !got.Allowed {
		t.Fatal(got)
	}
	e.Shut("others have a set that this one cannot read")
	got := e.Decide(request())
	if got.Allowed || len(got.Errors) != 1 || got.Errors[0] != "others have a set that this one cannot read" {
		t.Errorf("%+v", got)
	}
	if why := e.Explain(request()); why.Allowed || len(why.Errors) != 1 {
		t.Errorf("%+v", why)
	}
	if err := e.Load(nil); err != nil || !e.Decide(request()).Allowed {
		t.Errorf("it stays shut: %v", err)
	}
}
