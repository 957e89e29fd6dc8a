package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/oauth/details"
	"obolus/policy"
)

func engine(t testing.TB, texts ...string) *policy.Engine {
	t.Helper()
	known, err := details.New([]json.RawMessage{json.RawMessage(`{"type": "doc", "about": "doc", "members": {
		"pages": {"kind": "integer", "rule": "max"}, "public": {"kind": "boolean"}, "tags": {"kind": "set"}, "v": {"kind": "const", "value": 1},
		"place": {"kind": "object", "members": {"city": {"kind": "string", "required": true}, "free": {"kind": "object"}}}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.New(known)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(files(texts...)); err != nil {
		t.Fatal(err)
	}
	return e
}

func files(texts ...string) []policy.File {
	var all []policy.File
	for i, text := range texts {
		all = append(all, policy.File{Name: fmt.Sprintf("%c.cedar", 'a'+i), Text: text})
	}
	return all
}

// noon is on a Wednesday.
var noon = time.Date(2026, 3, 4, 12, 30, 0, 0, time.UTC)

func request(change ...func(*policy.Input)) policy.Input {
	in := policy.Input{
		Stage: policy.Exchange, ClientID: "mailer", Scopes: []string{"mail.send"}, Now: noon, Chain: []string{"mailer", "planner"},
		Agent:   policy.Agent{ID: "mailer", Owner: "Ann", Operator: "Ops", Labels: map[string]string{"tier": "gold"}},
		User:    policy.User{ID: "alice", ACR: "mfa", AuthTime: noon.Add(-time.Minute)},
		Target:  policy.Target{ID: "mail", URI: "https://mail.example.com/", Labels: map[string]string{"env": "production"}},
		Consent: policy.Consent{ID: "g_1", Uses: 3, GivenAt: noon.Add(-time.Hour)},
	}
	for _, c := range change {
		c(&in)
	}
	return in
}

func with(entries ...string) func(*policy.Input) {
	return func(in *policy.Input) {
		in.Scopes, in.Details = nil, nil
		for _, e := range entries {
			in.Details = append(in.Details, json.RawMessage(e))
		}
	}
}

func TestWhatASetMeans(t *testing.T) {
	t.Parallel()
	const (
		permitAll   = `@id("open") permit (principal, action, resource);`
		permitRead  = `@id("read") permit (principal, action == Action::"scope/mail.read", resource);`
		forbidSend  = `@id("no sending") forbid (principal, action == Action::"scope/mail.send", resource);`
		forbidOther = `@id("other") forbid (principal == Agent::"somebody", action, resource);`
		fails       = `@id("broken") forbid (principal, action, resource) when { context.chain.depth * 9223372036854775807 > 0 && false };`
	)
	for _, c := range []struct {
		name     string
		set      []string
		scopes   []string
		allowed  bool
		policies []string
		errors   int
	}{
		{"no policies allow all that is under the ceiling", nil, []string{"mail.send"}, true, nil, 0},
		{"what nothing forbids is allowed where there are no permits", []string{forbidOther}, []string{"mail.send"}, true, nil, 0},
		{"a forbid refuses and is named", []string{forbidSend}, []string{"mail.send"}, false, []string{"no sending"}, 0},
		{"one action that is forbidden refuses all", []string{forbidSend}, []string{"mail.read", "mail.send"}, false, []string{"no sending"}, 0},
		{"with a permit what none permits is refused", []string{permitRead}, []string{"mail.send"}, false, nil, 0},
		{"a permit for one of two actions is not enough", []string{permitRead}, []string{"mail.read", "mail.send"}, false, nil, 0},
		{"a permit allows and is named", []string{permitRead}, []string{"mail.read"}, true, []string{"read"}, 0},
		{"several permits are named in order", []string{permitRead, permitAll}, []string{"mail.read"}, true, []string{"read", "open"}, 0},
		{"forbid beats permit", []string{permitAll, forbidSend}, []string{"mail.send"}, false, []string{"no sending"}, 0},
		{"a forbid for another agent says nothing", []string{permitAll, forbidOther}, []string{"mail.send"}, true, []string{"open"}, 0},
		{"what cannot be evaluated refuses in spite of a permit", []string{permitAll, fails}, []string{"mail.send"}, false, []string{"broken"}, 1},
		{"and is named once for many actions", []string{fails}, []string{"a", "b"}, false, []string{"broken"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, c.set...)
			got := e.Decide(request(func(in *policy.Input) { in.Scopes = c.scopes }))
			if got.Allowed != c.allowed || !slices.Equal(got.Policies, c.policies) || len(got.Errors) != c.errors || got.Version != e.Version() {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*policy.Input){
		"no stage":              func(in *policy.Input) { in.Stage = "" },
		"another stage":         func(in *policy.Input) { in.Stage = "Exchange" },
		"no agent":              func(in *policy.Input) { in.Agent.ID = "" },
		"no target":             func(in *policy.Input) { in.Target.ID = "" },
		"no time":               func(in *policy.Input) { in.Now = time.Time{} },
		"nothing to decide":     func(in *policy.Input) { in.Scopes = nil },
		"a detail of no type":   with(`{"type":"unheard of"}`),
		"a detail not an entry": with(`7`),
		"a detail not JSON":     with(`{"type":"doc"}]`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, `permit (principal, action, resource);`)
			got := e.Decide(request(change))
			if got.Allowed || len(got.Errors) != 1 || got.Version == "" {
				t.Errorf("got %+v", got)
			}
			if x := e.Explain(request(change)); x.Allowed || len(x.Actions) != 0 || len(x.Errors) != 1 {
				t.Errorf("explained as %+v", x)
			}
		})
	}
	if got := engine(t).Decide(request(func(in *policy.Input) { in.Scopes = nil })); got.Allowed {
		t.Error("an empty set allowed nothing at all")
	}
}

// TestFacts holds each fact of the schema to what it is said to be: the policy must be satisfied, which it is not by default.
func TestFacts(t *testing.T) {
	t.Parallel()
	const payment = `{"type":"payment","amount":{"value":"20","currency":"EUR"},"payee":"Shop"}`
	const tool = `{"type":"mcp_tool_call","tool":"send","arguments":{"to":"bob@example.com","cc":["a","b"],"n":1.5}}`
	const doc = `{"type":"doc","pages":12,"public":true,"tags":["x","y"],"v":1,"place":{"city":"Wien","free":{"a":"b"}}}`
	for _, c := range []struct {
		condition string
		change    func(*policy.Input)
	}{
		{`context.stage == "exchange"`, nil},
		{`context.stage == "redeem"`, func(in *policy.Input) { in.Stage = policy.Redeem }},
		{`context.client == "mailer"`, nil},
		{`context.scopes == ["mail.send"]`, nil},
		{`context.scopes.contains("mail.send")`, nil},
		{`context.detail_types.isEmpty()`, nil},
		{`context.detail_types == ["payment", "doc"]`, with(payment, doc)},
		{`context.user.id == "alice"`, nil},
		{`context.user has acr && context.user.acr == "mfa"`, nil},
		{`!(context.user has acr)`, func(in *policy.Input) { in.User.ACR = "" }},
		{`context.user has auth_age && context.user.auth_age == 60`, nil},
		{`context.user has auth_time && context.user.auth_time == 1772627340`, nil},
		{`!(context.user has auth_age) && !(context.user has auth_time)`, func(in *policy.Input) { in.User.AuthTime = time.Time{} }},
		{`context.consent.id == "g_1"`, nil},
		{`context.consent has uses && context.consent.uses == 3`, nil},
		{`!(context.consent has uses)`, func(in *policy.Input) { in.Consent.Uses = 0 }},
		{`context.consent has age && context.consent.age == 3600`, nil},
		{`!(context.consent has age)`, func(in *policy.Input) { in.Consent.GivenAt = time.Time{} }},
		{`context.chain.depth == 2 && context.chain.agents == ["planner", "mailer"]`, nil},
		{`context.time.hour == 12 && context.time.minute == 30 && context.time.weekday == "wednesday"`, nil},
		{`context.time.hour == 12`, func(in *policy.Input) { in.Now = noon.In(time.FixedZone("", 7200)) }},
		{`context.time.unix == 1772627400`, nil},
		{`context.time.now == datetime("2026-03-04T12:30:00Z")`, nil},
		{`context.time.now.offset(duration("2h")).toTime() > duration("14h")`, nil},
		{`principal == Agent::"mailer" && principal has owner && principal.owner == "Ann"`, nil},
		{`principal has operator && principal.operator == "Ops"`, nil},
		{`!(principal has owner)`, func(in *policy.Input) { in.Agent.Owner = "" }},
		{`principal.hasTag("tier") && principal.getTag("tier") == "gold"`, nil},
		{`resource == Target::"mail" && resource has uri && resource.uri == "https://mail.example.com/"`, nil},
		{`resource.hasTag("env") && resource.getTag("env") like "prod*"`, nil},
		{`action == Action::"scope/mail.send"`, nil},
		{`action in Action::"scope"`, nil},
		{`action in Action::"detail"`, with(payment)},
		{`context has detail && context.detail has payee && context.detail.payee == "Shop"`, with(payment)},
		{`context has detail && context.detail has amount && context.detail.amount.value == decimal("20.0")`, with(payment)},
		{`context has detail && context.detail has amount && context.detail.amount.value.lessThan(decimal("20.0001"))`, with(payment)},
		{`context has detail && context.detail has amount && context.detail.amount.value.lessThanOrEqual(decimal("20.0"))`, with(payment)},
		{`context has detail && context.detail has amount && context.detail.amount.value.greaterThan(decimal("19.9999"))`, with(payment)},
		{`context has detail && context.detail has amount && context.detail.amount.value.greaterThanOrEqual(decimal("20.0"))`, with(payment)},
		{`ip("10.0.0.1").isIpv4()`, nil},
		{`ip("10.0.0.1").isInRange(ip("10.0.0.0/8"))`, nil},
		{`context.client == "x" || context.user.id == "alice"`, nil},
		{`context.user.id == "alice" || context.client == "x"`, nil},
		{`context.time.minute != context.time.hour`, nil},
		{`context.time.hour < 13 && context.time.hour <= 12 && context.time.hour > 11 && context.time.hour >= 12`, nil},
		{`["wednesday"].contains(context.time.weekday) && [context.client].contains("mailer")`, nil},
		{`[context.client, "x"].contains(context.client)`, nil},
		{`context.scopes.containsAny(["mail.send", "mail.read"])`, nil},
		{`context has detail && context.detail has tool && context.detail.tool == "send"`, with(tool)},
		{`context has detail && context.detail has arguments && context.detail.arguments.hasTag("to") &&
			context.detail.arguments.getTag("to") like "*@example.com"`, with(tool)},
		{`context has detail && context.detail has arguments && context.detail.arguments.hasTag("cc") &&
			context.detail.arguments.getTag("cc") == "[\"a\",\"b\"]"`, with(tool)},
		{`context has detail && context.detail has arguments && context.detail.arguments.hasTag("n") &&
			context.detail.arguments.getTag("n") == "1.5"`, with(tool)},
		{`context has detail && context.detail has pages && context.detail.pages == 12`, with(doc)},
		{`context has detail && context.detail has public && context.detail.public`, with(doc)},
		{`context has detail && context.detail has tags && context.detail.tags == ["y", "x"]`, with(doc)},
		{`context has detail && context.detail has place && context.detail.place.city == "Wien"`, with(doc)},
		{`context has detail && context.detail has place && context.detail.place has free && context.detail.place.free.hasTag("a")`, with(doc)},
		{`context has detail && !(context.detail has pages)`, with(`{"type":"doc"}`)},
	} {
		t.Run(c.condition, func(t *testing.T) {
			t.Parallel()
			in := request()
			if c.change != nil {
				c.change(&in)
			}
			e := engine(t, `@id("it") forbid (principal, action, resource) when { `+c.condition+` };`)
			if got := e.Decide(in); got.Allowed || len(got.Errors) > 0 || !slices.Equal(got.Policies, []string{"it"}) {
				t.Errorf("got %+v", got)
			}
			e = engine(t, `@id("it") forbid (principal, action, resource) unless { `+c.condition+` };`)
			if got := e.Decide(in); !got.Allowed || len(got.Errors) > 0 {
				t.Errorf("negated, got %+v", got)
			}
		})
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]bool{
		`principal, action, resource`:                                                          true,
		`principal == Agent::"mailer", action, resource`:                                       true,
		`principal == Agent::"other", action, resource`:                                        false,
		`principal in Agent::"mailer", action, resource`:                                       true,
		`principal is Agent in Agent::"mailer", action, resource`:                              true,
		`principal is Agent in Agent::"other", action, resource`:                               false,
		`principal is Agent, action, resource is Target`:                                       true,
		`principal, action, resource == Target::"mail"`:                                        true,
		`principal, action, resource in Target::"other"`:                                       false,
		`principal, action == Action::"scope/mail.send", resource`:                             true,
		`principal, action == Action::"scope/mail.sent", resource`:                             false,
		`principal, action in Action::"scope", resource`:                                       true,
		`principal, action in Action::"detail", resource`:                                      false,
		`principal, action in [Action::"detail", Action::"scope/mail.send"], resource`:         true,
		`principal, action in [Action::"detail", Action::"scope/mail.read"], resource`:         false,
		`principal == Agent::"other", action in Action::"scope", resource`:                     false,
		`principal == Agent::"mailer", action in Action::"scope", resource == Target::"other"`: false,
	} {
		got := engine(t, `forbid (`+scope+`);`).Decide(request())
		if got.Allowed == want {
			t.Errorf("(%s): got %+v", scope, got)
		}
	}
}

func TestASetThatIsWrongIsRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	const fine = `forbid (principal, action, resource);`
	for _, c := range []struct {
		name, text, at, says string
	}{
		{"no Cedar", "forbid (principal,\n  action, resource) when { 1 = 1 };", "a.cedar:2:32: ", "exact got = want }"},
		{"an open string", "forbid (principal, action, resource) when { context.client == \"x };", "a.cedar:1:", "literal not terminated"},
		{"the second of two", fine + "\n\n" + `forbid (principal, action == Action::"scope/a b", resource);`, "a.cedar:3:1: a.cedar#2: ", "no action"},
		{"an action of no kind", `forbid (principal, action == Action::"mail.send", resource);`, "a.cedar:1:1: ", `no action Action::"mail.send"`},
		{"an action in a group of no kind", `forbid (principal, action in Action::"scopes", resource);`, "a.cedar:1:1: ", "no action"},
		{"the action that stands for any", `forbid (principal, action == Action::"scope/any scope", resource);`, "a.cedar:1:1: ", "no action"},
		{"an action among others", `forbid (principal, action in [Action::"scope/a", Action::"detail/x"], resource);`, "a.cedar:1:1: ", `Action::"detail/x"`},
		{"an action in a condition", `forbid (principal, action, resource) when { action == Action::"send" };`, "a.cedar:1:1: ", `Action::"send"`},
		{"an entity of no type", `forbid (principal == User::"alice", action, resource);`, "a.cedar:1:1: ", "User"},
		{"the wrong entity", `forbid (principal, action, resource == Agent::"x");`, "a.cedar:1:1: ", "applicable"},
		{"a fact that is none", `forbid (principal, action, resource) when { context.weather == "rain" };`, "a.cedar:1:1: ", "weather"},
		{"an attribute that is none", `forbid (principal, action, resource) when { principal.name == "x" };`, "a.cedar:1:1: ", "name"},
		{"a fact that may be absent", `forbid (principal, action, resource) when { context.user.acr == "mfa" };`, "a.cedar:1:1: ", "acr"},
		{"a tag that may be absent", `forbid (principal, action, resource) when { principal.getTag("a") == "b" };`, "a.cedar:1:1: ", "tag"},
		{"a member of another type", `forbid (principal, action == Action::"detail/payment", resource) when { context.detail.tool == "x" };`, "a.cedar:1:1: ", "tool"},
		{"the wrong type", `forbid (principal, action, resource) when { context.time.hour == "noon" };`, "a.cedar:1:1: ", "Long"},
		{"a condition that is none", `forbid (principal, action, resource) when { context.time.hour };`, "a.cedar:1:1: ", "Bool"},
		{"a stage misspelt", `forbid (principal, action, resource) when { context.stage == "redemption" };`, "a.cedar:1:1: ", `never "redemption"`},
		{"a weekday misspelt", `forbid (principal, action, resource) unless { "Monday" != context.time.weekday };`, "a.cedar:1:1: ", `never "Monday"`},
		{"a name that is none", `@id("") forbid (principal, action, resource);`, "a.cedar:1:1: ", "@id"},
		{"a name that cannot be seen", "@id(\"a\\u{202e}b\") forbid (principal, action, resource);", "a.cedar:1:1: ", "@id"},
		{"a name that is too long", `@id("` + strings.Repeat("x", 129) + `") forbid (principal, action, resource);`, "a.cedar:1:1: ", "@id"},
		{"not UTF-8", "forbid (principal, action, resource); // \xff", "a.cedar:1:1: ", "UTF-8"},
		{"too large", strings.Repeat("/", 1<<20+1), "a.cedar:1:1: ", "larger"},
		{"nests too deep", "forbid (principal, action, resource) when {\n" + strings.Repeat("(", 64) + "true", "a.cedar:2:64: ", "nests deeper"},
		{"a policy without end", "forbid (principal, action, resource) when { " + strings.Repeat("!", 1<<20-50), "a.cedar:1:16385: ", "longer"},
		{"the same behind comments", "forbid (principal, action, resource) when { " + strings.Repeat("! //;\n", 20_000) + "true };", "a.cedar:", "longer"},
		{"the same behind strings", "forbid (principal, action, resource) when { " + strings.Repeat(`! "\";" `, 10_000) + "true };", "a.cedar:1:", "longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := engine(t, `@id("old") forbid (principal, action, resource);`)
			version := e.Version()
			err := e.Load(files(c.text))
			var all policy.Errors
			if !errors.As(err, &all) || !strings.HasPrefix(err.Error(), c.at) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
			if e.Version() != version || e.Decide(request()).Allowed {
				t.Error("the old set is not in force any more")
			}
		})
	}
}

func TestEveryProblemIsTold(t *testing.T) {
	t.Parallel()
	e := engine(t)
	err := e.Load([]policy.File{
		{Name: "b", Text: `@id("x") forbid (principal, action, resource); @id("x") forbid (principal, action, resource);`},
		{Name: "a", Text: `forbid (principal, action == Action::"one", resource) when { action == Action::"two" || action == Action::"one" };`},
		{Name: "b", Text: ``},
	})
	var all policy.Errors
	if !errors.As(err, &all) || len(all) != 4 || all[0].File != "a" || all[2].Policy != "x" || all[3].Reason != "the file is there twice" {
		t.Errorf("got %v", err)
	}
	many := strings.Repeat("forbid (principal, action, resource);\n", 10_001)
	if err := e.Load(files(many)); err == nil || !strings.Contains(err.Error(), "more than 10000 policies") {
		t.Errorf("got %v", err)
	}
}

func TestTheVersionIsOfTheWholeSet(t *testing.T) {
	t.Parallel()
	const a, b = `forbid (principal, action, resource);`, `permit (principal, action, resource);`
	seen := map[string]bool{}
	for _, set := range [][]policy.File{
		nil,
		{{Name: "x", Text: a}},
		{{Name: "x", Text: b}},
		{{Name: "y", Text: a}},
		{{Name: "x", Text: a}, {Name: "y", Text: b}},
		{{Name: "x", Text: b}, {Name: "y", Text: a}},
		{{Name: "x", Text: a + b}},
		{{Name: "x", Text: ""}},
		{{Name: "x", Text: a + " "}},
	} {
		e := engine(t)
		if err := e.Load(set); err != nil {
			t.Fatal(err)
		}
		if seen[e.Version()] {
			t.Errorf("%v has the version of another set", set)
		}
		seen[e.Version()] = true
		slices.Reverse(set)
		turned, err := e.Draft(set)
		if err != nil || turned.Version() != e.Version() {
			t.Errorf("the order of the files counts: %v", err)
		}
	}
	e := engine(t, a, b)
	if got := e.Files(); len(got) != 2 || got[0].Name != "a.cedar" {
		t.Errorf("got %v", got)
	}
	if got := e.Names(); !slices.Equal(got, []string{"a.cedar#1", "b.cedar#1"}) {
		t.Errorf("got %v", got)
	}
}

// TestNoDecisionIsMadeByHalfASet reloads while decisions are made: each must be wholly of the one set or the other.
func TestNoDecisionIsMadeByHalfASet(t *testing.T) {
	t.Parallel()
	one := files(`@id("one-a") permit (principal, action, resource);`, `@id("one-b") permit (principal, action, resource);`)
	two := files(`@id("two-a") forbid (principal, action, resource);`, `@id("two-b") forbid (principal, action, resource);`)
	e := engine(t)
	want := map[string]string{}
	for _, set := range [][]policy.File{one, two} {
		if err := e.Load(set); err != nil {
			t.Fatal(err)
		}
		want[e.Version()] = fmt.Sprint(e.Decide(request()))
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 500 {
				got := e.Decide(request())
				if want[got.Version] != fmt.Sprint(got) {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
	for i := range 100 {
		set := one
		if i%2 == 0 {
			set = two
		}
		if err := e.Load(set); err != nil {
			t.Error(err)
		}
		if err := e.Load(files("nonsense")); err == nil {
			t.Error("nonsense was loaded")
		}
	}
	wait.Wait()
}

func TestNew(t *testing.T) {
	t.Parallel()
	if _, err := policy.New(nil); err == nil {
		t.Error("an engine without a registry")
	}
	e := engine(t)
	for _, says := range []string{`action "detail/payment"`, `"pages"?: Long`, `"public"?: Bool`, `"city": String`, "entity Agent"} {
		if !strings.Contains(e.Schema(), says) {
			t.Errorf("the schema does not say %s", says)
		}
	}
	if strings.Contains(e.Schema(), `"v"`) {
		t.Error("the schema speaks of a constant")
	}
}
