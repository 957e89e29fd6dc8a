package policy_test

import (
	"slices"
	"strings"
	"testing"

	"obolus/audit"
	"obolus/oauth"
	"obolus/policy"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	const set = `@id("elsewhere") @about("for another agent") forbid (principal == Agent::"somebody", action, resource);
@id("night") forbid (principal, action, resource) when { context.stage == "exchange" } when { context.time.hour < 6 };
@id("gold") permit (principal, action, resource) unless { principal.hasTag("tier") && principal.getTag("tier") == "lead" };
@id("overflow") permit (principal, action == Action::"scope/sum", resource) when { context.chain.depth * 9223372036854775807 > 0 };
@id("others") forbid (principal, action == Action::"scope/forbidden", resource) unless { context.stage == "redeem" };`
	e := engine(t, set)
	find := func(x policy.Explanation, action int, name string) policy.Finding {
		i := slices.IndexFunc(x.Actions[action].Policies, func(f policy.Finding) bool { return f.Policy == name })
		return x.Actions[action].Policies[i]
	}
	x := e.Explain(request(func(in *policy.Input) { in.Scopes = []string{"mail.send", "sum", "forbidden"} }))
	if x.Allowed || len(x.Actions) != 3 || !slices.Equal(x.Policies, []string{"overflow", "others"}) {
		t.Fatalf("got %+v", x)
	}
	for i, want := range []policy.Verdict{
		{Action: "scope/mail.send", Allowed: true, Because: "a policy permits it and none forbids it"},
		{Action: "scope/sum", Allowed: false, Because: "a policy could not be evaluated"},
		{Action: "scope/forbidden", Allowed: false, Because: "a policy forbids it"},
	} {
		if got := x.Actions[i]; got.Action != want.Action || got.Allowed != want.Allowed || got.Because != want.Because || len(got.Policies) != 5 {
			t.Errorf("got %+v", got)
		}
	}
	for _, c := range []struct {
		action int
		want   policy.Finding
	}{
		{0, policy.Finding{Policy: "elsewhere", At: "a.cedar:1:1", Effect: "forbid", About: "for another agent", Outcome: policy.Elsewhere}},
		{0, policy.Finding{Policy: "night", At: "a.cedar:2:1", Effect: "forbid", Outcome: policy.Unsatisfied, Condition: "when 2"}},
		{0, policy.Finding{Policy: "gold", At: "a.cedar:3:1", Effect: "permit", Outcome: policy.Satisfied}},
		{0, policy.Finding{Policy: "overflow", At: "a.cedar:4:1", Effect: "permit", Outcome: policy.Elsewhere}},
		{1, policy.Finding{Policy: "overflow", At: "a.cedar:4:1", Effect: "permit", Outcome: policy.Failed, Condition: "when 1", Message: "integer overflow"}},
		{2, policy.Finding{Policy: "others", At: "a.cedar:5:1", Effect: "forbid", Outcome: policy.Satisfied}},
	} {
		got := find(x, c.action, c.want.Policy)
		if c.want.Message != "" && strings.Contains(got.Message, "overflow") {
			got.Message = c.want.Message
		}
		if got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
	redeem := e.Explain(request(func(in *policy.Input) {
		in.Stage, in.Scopes, in.Agent.Labels = policy.Redeem, []string{"forbidden"}, map[string]string{"tier": "lead"}
	}))
	if f := find(redeem, 0, "others"); f.Outcome != policy.Unsatisfied || f.Condition != "unless 1" {
		t.Errorf("got %+v", f)
	}
	if v := redeem.Actions[0]; v.Allowed || v.Because != "the set has permits, and none of them permits it" {
		t.Errorf("got %+v", v)
	}
	if v := engine(t, `forbid (principal == Agent::"x", action, resource);`).Explain(request()).Actions[0]; !v.Allowed || !strings.HasPrefix(v.Because, "no policy forbids it") {
		t.Errorf("got %+v", v)
	}
	if x := engine(t).Explain(request()); !x.Allowed || len(x.Actions) != 0 {
		t.Errorf("got %+v", x)
	}
}

func TestCases(t *testing.T) {
	t.Parallel()
	cases, err := policy.ReadCases([]byte(`[
		{"name": "day", "allow": true, "policies": [], "input": {"stage": "exchange", "now": "2026-03-04T12:00:00Z", "scopes": ["a"], "agent": {"id": "x"}, "user": {"id": "u"}, "target": {"id": "r"}}},
		{"name": "night", "allow": false, "policies": ["night"], "input": {"stage": "exchange", "now": "2026-03-04T02:00:00Z", "scopes": ["a"], "agent": {"id": "x"}, "user": {"id": "u"}, "target": {"id": "r"}}},
		{"name": "wrong: allowed", "allow": false, "input": {"stage": "exchange", "now": "2026-03-04T12:00:00Z", "scopes": ["a"], "agent": {"id": "x"}, "user": {"id": "u"}, "target": {"id": "r"}}},
		{"name": "wrong: refused", "allow": true, "input": {"stage": "exchange", "now": "2026-03-04T02:00:00Z", "scopes": ["a"], "agent": {"id": "x"}, "user": {"id": "u"}, "target": {"id": "r"}}},
		{"name": "wrong: by another", "allow": false, "policies": ["moon"], "input": {"stage": "exchange", "now": "2026-03-04T02:00:00Z", "scopes": ["a"], "agent": {"id": "x"}, "user": {"id": "u"}, "target": {"id": "r"}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t, `@id("night") forbid (principal, action, resource) when { context.time.hour < 6 };`)
	for i, want := range []string{"", "", "it was allowed", "it was refused by [night] []", "it was decided by [night]"} {
		if got := e.Test(cases)[i]; got.Why != want || got.Passed != (want == "") || got.Name != cases[i].Name {
			t.Errorf("got %+v", got)
		}
	}
	for name, data := range map[string]string{
		"no JSON":           `[`,
		"a name twice":      `[{"name": "a", "name": "b"}]`,
		"an unknown member": `[{"name": "a", "alow": true}]`,
		"no name":           `[{"allow": true}]`,
		"no list":           `{"name": "a"}`,
	} {
		if _, err := policy.ReadCases([]byte(data)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestADraftOfNonsense(t *testing.T) {
	t.Parallel()
	if _, err := engine(t).Draft(files("nonsense")); err == nil {
		t.Error("it was made")
	}
}

func TestPast(t *testing.T) {
	t.Parallel()
	event := func(change func(*audit.Event)) audit.Event {
		e := audit.Event{
			Kind: audit.KindExchange, Allowed: true, At: noon, User: "alice", Client: "mailer", Actor: "mailer", Chain: []string{"mailer"},
			Target: "https://mail.example.com/", AskedScope: "mail.send mail.read", GrantedScope: "mail.send", Grant: "g_1",
		}
		change(&e)
		return e
	}
	for _, c := range []struct {
		name    string
		change  func(*audit.Event)
		ok      bool
		scopes  []string
		entries int
	}{
		{"an exchange", func(*audit.Event) {}, true, []string{"mail.send"}, 0},
		{"a redemption", func(e *audit.Event) { e.Kind = audit.KindRedeem }, true, []string{"mail.send"}, 0},
		{"with details", func(e *audit.Event) { e.GrantedDetails = []byte(`[{"type":"doc"}]`) }, true, []string{"mail.send"}, 1},
		{"with details that are none", func(e *audit.Event) { e.GrantedDetails = []byte(`{}`) }, false, nil, 0},
		{"refused by a guardrail: what was asked", func(e *audit.Event) {
			e.Allowed, e.Reason, e.AskedDetails = false, oauth.ReasonGuardrail, []byte(`[{"type":"doc"}]`)
		}, true, []string{"mail.send", "mail.read"}, 1},
		{"a redemption that was refused: what the token is for", func(e *audit.Event) {
			e.Kind, e.Allowed, e.Reason, e.AskedScope = audit.KindRedeem, false, oauth.ReasonGuardrail, ""
		}, true, []string{"mail.send"}, 0},
		{"refused before guardrails were asked", func(e *audit.Event) { e.Allowed, e.Reason = false, oauth.ReasonCeilingScope }, false, nil, 0},
		{"no decision", func(e *audit.Event) { e.Kind = audit.KindSignIn }, false, nil, 0},
		{"nothing granted", func(e *audit.Event) { e.GrantedScope = "" }, false, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, ok := policy.Past(event(c.change))
			if ok != c.ok || ok && (!slices.Equal(in.Scopes, c.scopes) || len(in.Details) != c.entries || in.Agent.ID != "mailer" || in.Now != noon) {
				t.Errorf("got %+v %v", in, ok)
			}
		})
	}
}

func TestLibrary(t *testing.T) {
	t.Parallel()
	library, err := policy.Library()
	if err != nil || len(library) < 10 {
		t.Fatalf("%d guardrails, %v", len(library), err)
	}
	var all []policy.File
	for _, g := range library {
		all = append(all, g.File)
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			e, err := engine(t).Draft([]policy.File{g.File})
			if err != nil {
				t.Fatal(err)
			}
			if g.About == "" || len(g.Cases) < 4 {
				t.Errorf("it says %q and has %d cases", g.About, len(g.Cases))
			}
			decided := map[string]bool{}
			for _, r := range e.Test(g.Cases) {
				if !r.Passed {
					t.Errorf("%s: %s", r.Name, r.Why)
				}
				for _, name := range r.Got.Policies {
					decided[name] = true
				}
			}
			for _, name := range e.Names() {
				if !decided[name] {
					t.Errorf("no case is refused by %s", name)
				}
			}
		})
	}
	if _, err := engine(t).Draft(all); err != nil {
		t.Errorf("they do not work together: %v", err)
	}
}
