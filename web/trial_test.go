package web_test

import (
	"net/url"
	"testing"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/web"
)

// TestWhatTheGuardrailsWouldSay: an operator tries a request out; nothing comes of it.
func TestWhatTheGuardrailsWouldSay(t *testing.T) {
	t.Parallel()
	types, err := details.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.New(types)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Load([]policy.File{{Name: "mail.cedar", Text: `
		@id("no-sending") @about("not while it is being looked at") forbid (principal == Agent::"agent-a", action == Action::"scope/mail.send", resource);
		@id("small-payments") forbid (principal, action == Action::"detail/payment", resource) unless { context.user.id == "alice" };`}}); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *web.Config) { c.Explain = engine.Explain })
	s.w.Agent("agent-c", func(a *agents.Agent) { a.State = agents.Suspended })
	b := s.operator()
	ask := func(q url.Values) page {
		t.Helper()
		return b.get("/console/guardrails?" + q.Encode()).want(200)
	}
	b.get("/console/guardrails").want(200).has("What would they say?").hasNot("Allowed.", "Refused.")
	ask(url.Values{"agent": {"agent-a"}, "resource": {"mail"}, "scope": {"mail.read mail.send"}}).has("<b>Refused.</b>", "scope/mail.read: allowed",
		`scope/mail.send: <span class="red">refused</span>`, "forbid <b>no-sending</b>: satisfied", "not while it is being looked at", `value="mail.read mail.send"`)
	ask(url.Values{"agent": {"agent-b"}, "resource": {"https://mail.test/api"}, "scope": {"mail.send"}}).has("<b>Allowed.</b>", "elsewhere")
	pay := `[{"type":"payment","amount":{"currency":"EUR","value":"5.00"}}]`
	ask(url.Values{"agent": {"agent-b"}, "user": {"bob"}, "resource": {"mail"}, "details": {pay}}).has("<b>Refused.</b>", "small-payments")
	ask(url.Values{"agent": {"agent-b"}, "user": {"alice"}, "resource": {"mail"}, "details": {pay}}).has("<b>Allowed.</b>")
	for field, wrong := range map[string]url.Values{
		"agent":    {"agent": {"<b>nobody"}, "resource": {"mail"}, "scope": {"mail.read"}},
		"resource": {"agent": {"agent-a"}, "resource": {"nowhere"}, "scope": {"mail.read"}},
		"scope":    {"agent": {"agent-a"}, "resource": {"mail"}},
		"details":  {"agent": {"agent-a"}, "resource": {"mail"}, "details": {`[{"type":"<script>"}]`}},
	} {
		ask(wrong).has(`<a href="#`+field+`">`).hasNot("Allowed.", "Refused.", "<script>\"", "<b>nobody")
	}
	if events := s.w.Events(audit.KindExchange); len(events) != 0 {
		t.Errorf("something came of it: %+v", events)
	}
	newSite(t, nil).operator().get("/console/guardrails?agent=agent-a").want(200).hasNot("What would they say?")
}
