package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/policy"
)

// condition draws a condition that the schema accepts, of all forms that the short way knows and some that it does not.
func condition(t *rapid.T, depth int) string {
	if depth > 0 {
		switch rapid.IntRange(0, 6).Draw(t, "connective") {
		case 0:
			return "(" + condition(t, depth-1) + " && " + condition(t, depth-1) + ")"
		case 1:
			return "(" + condition(t, depth-1) + " || " + condition(t, depth-1) + ")"
		case 2:
			return "!(" + condition(t, depth-1) + ")"
		case 3:
			return "(if " + condition(t, depth-1) + " then " + condition(t, depth-1) + " else " + condition(t, depth-1) + ")"
		}
	}
	return rapid.SampledFrom([]string{
		`true`, `false`,
		`context.stage == "redeem"`, `context.stage != "exchange"`, `"redeem" == context.stage`,
		`context.time.hour < 12`, `context.time.hour <= 12`, `context.time.hour > 12`, `context.time.hour >= 12`, `12 < context.time.hour`,
		`context.time.hour == 12`, `context.time.hour < context.time.minute`, `context.time.hour + 1 > 12`,
		`["saturday", "sunday"].contains(context.time.weekday)`, `[context.time.weekday].contains("sunday")`,
		`[context.client, "a"].contains(context.user.id)`,
		`context.scopes.contains("s1")`, `context.scopes.containsAny(["s2"])`, `context.scopes == ["s1"]`,
		`context.user.id like "a*"`, `context.client == context.user.id`,
		`context.chain.depth * 4611686018427387904 > 0`, // fails from depth 2 on
		`context.time.now < datetime("2026-03-07")`, `context.time.now.offset(duration("12h")).toDate() == datetime("2026-03-05")`,
		`context.user has acr`, `(context.user has acr && context.user.acr == "mfa")`,
		`(context.user has auth_age && context.user.auth_age < 100)`,
		`principal has owner`, `(principal has owner && principal.owner == "Ann")`,
		`principal.hasTag("tier")`, `(principal.hasTag("tier") && principal.getTag("tier") == "gold")`,
		`(resource.hasTag("env") && principal.hasTag("env") && principal.getTag("env") == resource.getTag("env"))`,
		`principal == Agent::"a"`, `resource == Target::"r"`, `action == Action::"scope/s1"`, `action in Action::"detail"`,
		`(Agent::"x" has owner && Agent::"x".owner == "Ann")`, `Agent::"x".hasTag("tier")`,
		`ip("10.0.0.1").isIpv4()`, `ip("10.0.0.1").isInRange(ip("11.0.0.0/8"))`,
		`[principal].contains(Agent::"a")`, `context.detail_types.isEmpty()`,
		`(context has detail && context.detail has payee && context.detail.payee == "Shop")`,
		`(context has detail && context.detail has amount && context.detail.amount.value.lessThan(decimal("20.0")))`,
		`(context has detail && context.detail has amount && context.detail.amount.value.lessThanOrEqual(decimal("20.0")))`,
		`(context has detail && context.detail has amount && context.detail.amount.value.greaterThan(decimal("20.0")))`,
		`(context has detail && context.detail has amount && context.detail.amount.value.greaterThanOrEqual(decimal("20.0")))`,
		`(context has detail && context.detail has amount && decimal("20.0").lessThan(context.detail.amount.value))`,
		`(context has detail && context.detail has amount && context.detail.amount.value.lessThan(context.detail.amount.value))`,
		`(context has detail && context.detail has public && context.detail.public)`,
		`(context has detail && context.detail has tags && context.detail.tags.contains("x"))`,
	}).Draw(t, "test")
}

func randomPolicy(t *rapid.T, name int) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	text := fmt.Sprintf("@id(\"p%d\") %s (%s, %s, %s)", name,
		pick("effect", "forbid", "forbid", "permit"),
		pick("principal", "principal", "principal", `principal == Agent::"a"`, `principal in Agent::"b"`, `principal is Agent`, `principal is Agent in Agent::"a"`),
		pick("action", "action", "action", `action == Action::"scope/s1"`, `action in Action::"scope"`, `action in Action::"detail"`,
			`action in [Action::"scope/s1", Action::"scope"]`, `action == Action::"detail/payment"`),
		pick("resource", "resource", "resource", `resource == Target::"r"`, `resource in Target::"q"`, `resource is Target`))
	for range rapid.IntRange(0, 2).Draw(t, "clauses") {
		text += " " + pick("clause", "when", "unless") + " { " + condition(t, 3) + " }"
	}
	return text + ";\n"
}

func randomInput(t *rapid.T) policy.Input {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	labels := func(label string) map[string]string {
		m := map[string]string{}
		for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"tier", "env"}), rapid.ID).Draw(t, label) {
			m[k] = pick(label+k, "gold", "lead")
		}
		return m
	}
	in := policy.Input{
		Stage: policy.Stage(pick("stage", "exchange", "redeem")), ClientID: pick("client", "a", "b"),
		Scopes: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s1", "s2", "s3"}), 1, 3, rapid.ID).Draw(t, "scopes"),
		Now:    noon.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "hours")) * time.Hour),
		Chain:  []string{"a", "b", "c"}[:rapid.IntRange(0, 3).Draw(t, "depth")],
		Agent:  policy.Agent{ID: pick("agent", "a", "b"), Owner: pick("owner", "", "Ann", "Bob"), Labels: labels("agent")},
		User:   policy.User{ID: pick("user", "alice", "b"), ACR: pick("acr", "", "mfa", "pwd")},
		Target: policy.Target{ID: pick("target", "r", "q"), Labels: labels("target")},
	}
	if rapid.Bool().Draw(t, "signed in") {
		in.User.AuthTime = in.Now.Add(-time.Duration(rapid.IntRange(0, 200).Draw(t, "age")) * time.Second)
	}
	if entries := rapid.SliceOfN(rapid.SampledFrom([]string{
		`{"type":"payment","amount":{"value":"20","currency":"EUR"},"payee":"Shop"}`, `{"type":"payment","amount":{"value":"20.01","currency":"EUR"}}`,
		`{"type":"doc","tags":["x"],"public":true}`, `{"type":"doc"}`,
	}), 0, 2).Draw(t, "details"); len(entries) > 0 {
		scopes := in.Scopes
		with(entries...)(&in)
		if rapid.Bool().Draw(t, "both") {
			in.Scopes = scopes
		}
	}
	return in
}

// TestTheShortWayIsNoOther holds Decide, which asks Cedar about as few policies and tells it as few facts as it can, against Explain,
// which asks about each of them, and against the same set with a policy in it that looks at everything and never holds.
func TestTheShortWayIsNoOther(t *testing.T) {
	t.Parallel()
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		for i := range rapid.IntRange(1, 6).Draw(t, "policies") {
			text.WriteString(randomPolicy(t, i))
		}
		short, err := e.Draft(files(text.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, text.String())
		}
		full, err := e.Draft(files(text.String() + `@id("all") forbid (principal, action, resource) when {
			[context].isEmpty() || [principal].isEmpty() || [resource].isEmpty() || (context has detail && [context.detail].isEmpty()) };`))
		if err != nil {
			t.Fatal(err)
		}
		in := randomInput(t)
		got, plain, told := short.Decide(in), full.Decide(in), full.Explain(in)
		if got.Allowed != plain.Allowed || !slices.Equal(got.Policies, plain.Policies) || !slices.Equal(got.Errors, plain.Errors) {
			t.Fatalf("with fewer facts %+v, with all %+v\n%s", got, plain, text.String())
		}
		allowed, deciders := conclude(told)
		if allowed != got.Allowed || !slices.Equal(got.Policies, deciders) {
			t.Fatalf("decided %+v, told %v %v\n%s", got, allowed, deciders, text.String())
		}
	})
}

// conclude is what a Decision must be by what was told of each policy: once more in other words.
func conclude(x policy.Explanation) (allowed bool, deciders []string) {
	allowed = true
	permits, against := map[string]bool{}, map[string]bool{}
	for _, v := range x.Actions {
		allowed = allowed && v.Allowed
		forbidden := slices.ContainsFunc(v.Policies, func(f policy.Finding) bool { return f.Outcome == policy.Satisfied && f.Effect == "forbid" })
		for _, f := range v.Policies {
			switch {
			case f.Outcome == policy.Failed, f.Outcome == policy.Satisfied && f.Effect == "forbid":
				against[f.Policy] = true
			case f.Outcome == policy.Satisfied && !forbidden:
				permits[f.Policy] = true
			}
		}
	}
	names := permits
	if !allowed {
		names = against
	}
	for i := range 6 {
		if name := fmt.Sprintf("p%d", i); names[name] {
			deciders = append(deciders, name)
		}
	}
	return allowed, deciders
}

// TestAForbidNeverWidens adds a forbid to a set: nothing may be allowed that was not.
func TestAForbidNeverWidens(t *testing.T) {
	t.Parallel()
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		text := randomPolicy(t, 0) + randomPolicy(t, 1)
		before, err := e.Draft(files(text))
		if err != nil {
			t.Fatal(err)
		}
		after, err := e.Draft(files(text + `forbid (principal, action, resource) when { ` + condition(t, 2) + ` };`))
		if err != nil {
			t.Fatal(err)
		}
		in := randomInput(t)
		if !before.Decide(in).Allowed && after.Decide(in).Allowed {
			t.Fatalf("a forbid allowed it:\n%s", text)
		}
	})
}

func FuzzLoad(f *testing.F) {
	library, err := policy.Library()
	if err != nil {
		f.Fatal(err)
	}
	for _, g := range library {
		f.Add(g.Text)
	}
	f.Add(`permit (principal, action, resource) when { context.time.now.toDate() < datetime("2026-01-01") };`)
	f.Add("@id(\"a\")\nforbid (principal, action in [Action::\"scope/x\"], resource) unless { if principal has owner then true else -1 < 2 };")
	e := engine(f)
	f.Fuzz(func(t *testing.T, text string) {
		draft, err := e.Draft(files(text))
		if err != nil {
			if err.Error() == "" || !strings.Contains(err.Error(), "a.cedar:") {
				t.Errorf("an error without a place: %q", err)
			}
			return
		}
		again, err := e.Draft(files(text))
		if err != nil || again.Version() != draft.Version() {
			t.Errorf("the same text is another set: %v", err)
		}
		in := request()
		got, told := draft.Decide(in), draft.Explain(in)
		if fmt.Sprint(got) != fmt.Sprint(again.Decide(in)) || fmt.Sprint(got) != fmt.Sprint(told.Decision) {
			t.Error("the same set decides otherwise")
		}
		for _, v := range told.Actions {
			if v.Allowed != got.Allowed {
				t.Errorf("told %v, decided %v", v, got)
			}
		}
	})
}
