package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/policy"
	"obolus/transaction"
	"obolus/web"
)

// rules are what every page holds to, as a browser lays it out: they list what does not. A control is as large as a finger where it is not a
// link in a sentence (WCAG 2.2, 2.5.8 and more), text can be read on what is behind it (1.4.3), nothing scrolls sideways (1.4.10), and
// whatever can be used has a name (4.1.2).
const rules = `(() => {
	const found = new Set(), all = selector => [...document.querySelectorAll(selector)];
	const say = (what, e) => found.add(what + ": " + (e ? e.outerHTML.replace(/\s+/g, " ").slice(0, 100) : ""));
	const root = document.documentElement;
	if (root.lang === "") say("no language");
	if (root.scrollWidth > root.clientWidth) say("it scrolls sideways by " + (root.scrollWidth - root.clientWidth));
	if (scrollY !== 0) say("it opens in the middle, at " + scrollY);
	for (const one of ["h1", "main", "header"]) if (all(one).length !== 1) say(all(one).length + " times " + one);
	const ids = all("[id]").map(e => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) say("two things are called " + id);
	for (const e of all("a[href^='#']")) if (!document.getElementById(e.hash.slice(1))) say("leads nowhere", e);
	for (const e of all("input:not([type=hidden]), select, textarea")) if (!e.labels.length && !e.ariaLabel) say("has no label", e);
	for (const e of all("button, a, th, summary, legend")) if (!e.textContent.trim() && !e.ariaLabel) say("has no words", e);
	for (const e of all("[role=img] a, [role=img] [tabindex]")) say("cannot be reached in a picture", e);
	const named = all("[role=region], nav, section[aria-labelledby]").map(e => e.ariaLabel || e.getAttribute("aria-labelledby"));
	for (const name of named) if (named.indexOf(name) !== named.lastIndexOf(name)) say("two regions are called " + name);
	const shown = e => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && e.getBoundingClientRect().width > 2;
	for (const e of all("button, a, input:not([type=hidden]), select, summary")) {
		const r = (e.matches("[type=checkbox], [type=radio]") ? e.closest("label") : e).getBoundingClientRect();
		if (shown(e) && !e.matches(".skip, p a:not(.button), svg a") && (r.height < (e.matches("td a, dd a") ? 27.5 : 43.5) || r.width < (e.matches("td a, dd a") ? 27.5 : 43.5))) say("is small (" + r.width + " x " + r.height + ")", e);
	}
	for (const e of all("nav a")) if (e.getClientRects().length > 1 || e.offsetHeight > 60) say("breaks", e);
	for (const e of all("td")) if (e.closest("table").getAttribute("role") !== "table" || !e.dataset.of) say("is told by nothing on a phone", e);
	const dot = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const over = colours => {
		dot.clearRect(0, 0, 1, 1);
		for (const c of colours) { dot.fillStyle = c; dot.fillRect(0, 0, 1, 1); }
		return [...dot.getImageData(0, 0, 1, 1).data].slice(0, 3);
	};
	const light = rgb => rgb.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || e.closest("svg, script, option, :disabled, .aside, .skip") || !shown(e)) continue;
		const behind = [];
		for (let up = e; up; up = up.parentElement) behind.unshift(getComputedStyle(up).backgroundColor);
		const style = getComputedStyle(e), back = ["white", ...behind];
		const [a, b] = [light(over([...back, style.color])), light(over(back))].sort((x, y) => y - x);
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 600;
		if ((a + .05) / (b + .05) < (large ? 3 : 4.5)) say("is hard to read (" + ((a + .05) / (b + .05)).toFixed(1) + ")", e);
	}
	return [...found].join("\n");
})()`

// screen is a device that somebody looks at a page with. A browser at 200 % is a screen half as large.
type screen struct {
	name          string
	width, height int64
	scheme        string
}

func screens() []screen {
	return []screen{{"a phone", 360, 740, "light"}, {"a phone at night", 360, 740, "dark"}, {"a desk", 1280, 900, "light"}, {"a desk at 200 %", 640, 400, "dark"}}
}

func (s *site) look(ctx context.Context, at screen, path string) {
	s.t.Helper()
	s.do(ctx, chromedp.EmulateViewport(at.width, at.height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: at.scheme}},
		})
		return err
	}), chromedp.Navigate(s.cfg.Issuer+path))
	s.until(ctx, `document.readyState === "complete"`)
}

// enter signs a user, or with an empty name an operator, in.
func (s *site) enter(ctx context.Context, user string) {
	s.t.Helper()
	if user == "" {
		s.do(ctx, chromedp.Navigate(s.cfg.Issuer+"/console/sign-in"), chromedp.SendKeys("#token", operatorToken), chromedp.Click("button.go"))
		s.until(ctx, `location.pathname === "/console"`)
		return
	}
	s.do(ctx, chromedp.Navigate(s.cfg.Issuer+"/sign-in"), chromedp.SendKeys("#user", user), chromedp.SendKeys("#password", password), chromedp.Click("button.go"))
	s.until(ctx, `location.pathname === "/agents"`)
}

// awkward is an agent with everything that pages break by, and the bank that it is to act at, which has no words for one of its scopes.
func (s *site) awkward() (ask func(*consent.Ask)) {
	s.t.Helper()
	if _, err := s.w.Registry.PutResource(s.t.Context(), agents.Resource{
		ID: "bank", URI: "https://bank.test/" + strings.Repeat("a-long-way/", 8), Name: "Bank of Ravenna", Servers: []string{"mail-server"},
		Scopes:  map[string]string{"accounts.read": "See the balance of all your accounts", "standing-orders.administer": ""},
		Details: []string{"payment", "mcp_tool_call", "vault:path_access"}, Redemption: agents.RedemptionRequired,
	}, 0); err != nil {
		s.t.Fatal(err)
	}
	id := "agents/example.com/" + strings.Repeat("very-long-segment-", 5) + "x"
	s.w.Agent(id, func(a *agents.Agent) {
		a.Name, a.Owner, a.Operator = "Donaudampfschifffahrtsgesellschaftskapitaensmuetzenassistent4711", "شركة الوكلاء المحدودة", strings.Repeat("Umbrella", 9)
		a.Description, a.Purpose = strings.Repeat("I am harmless. ", 18), "https://evil.test/"+strings.Repeat("a", 200)
	})
	a, _, err := s.w.Registry.Agent(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return func(ask *consent.Ask) {
		ask.Agent, ask.AgentKeys, ask.Target, ask.Scopes = id, a.Fingerprint(), "bank", []string{"accounts.read", "standing-orders.administer"}
		ask.Details = json.RawMessage(`[{"type":"payment","amount":{"currency":"EUR","value":"1250.00"},"payee":"Corner Shop"},
			{"type":"vault:path_access","path":"secret/data/` + strings.Repeat("deep/", 20) + `pin","capabilities":["read"]},
			{"type":"mcp_tool_call","tool":"transfer","arguments":{"note":"` + strings.Repeat("x", 120) + `"}}]`)
	}
}

// TestHowThePagesOfUsersLook holds them to the rules on each screen.
func TestHowThePagesOfUsersLook(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	strange, hostile := s.ask("alice", nil), s.ask("alice", s.awkward())
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}, Uses: 5})
	s.w.Consent("alice", "agent-b", "files", consent.Decision{Scopes: []string{"files.read"}, Expires: s.w.Now().Add(time.Minute)})
	if err := s.redeem(s.mustPass("alice")); err != nil {
		t.Fatal(err)
	}
	s.w.Pass(2 * time.Minute)
	b := s.signedIn("alice")
	answered := s.ask("alice", func(a *consent.Ask) { a.Scopes = []string{"mail.read"} })
	form := b.get(answered).form()
	form.Set("decision", "allow")
	form.Set("scope", "0")
	b.post(answered, form).want(303)
	app := s.open(nil)
	ctx := s.chromium()
	check := func(path string) {
		t.Helper()
		for _, at := range screens() {
			s.look(ctx, at, path)
			if wrong := tell[string](ctx, s, rules); wrong != "" {
				t.Errorf("%s on %s:\n%s", path, at.name, wrong)
			}
		}
	}
	check("/sign-in?return_to=" + url.QueryEscape(strange))
	check("/console/sign-in")
	s.enter(ctx, "alice")
	for _, path := range []string{strange, hostile, answered, app, "/agents", "/consent/r_aaaaaaaaaaaaaaaaaaaaaaaa"} {
		check(path)
	}

	// What a phone shows first is who asks, whose it is and, of what it wants, what costs money; and both buttons.
	s.look(ctx, screens()[0], hostile)
	for _, selector := range []string{"h1", "h1 + p", ".notice", "legend", "button.deny", "button.allow"} {
		if in := tell[bool](ctx, s, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect();
			return r.top >= 0 && r.bottom <= innerHeight; })()`, selector)); !in {
			t.Errorf("%s is not on the first screen", selector)
		}
	}
	// Whatever is reached by the keyboard is not under the buttons (WCAG 2.2, 2.4.11).
	if under := tell[string](ctx, s, `(() => { const bar = () => document.querySelector(".decide").getBoundingClientRect().top;
		return [...document.querySelectorAll("form.card :is(input:not([type=hidden]), select, a)")].filter(e => { e.focus();
			return e.getBoundingClientRect().bottom > bar(); }).map(e => e.outerHTML).join("\n"); })()`); under != "" {
		t.Errorf("under the buttons is %s", under)
	}
}

// TestByKeyboardAlone signs in, allows and stops without a mouse; Enter on a question that was just opened allows nothing.
func TestByKeyboardAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	denied, allowed := s.ask("alice", func(a *consent.Ask) { a.Scopes = []string{"mail.read"} }), s.ask("alice", nil)
	ctx := s.chromium()
	forward, back := chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift))
	focus := func(selector string, press chromedp.Action[chromedp.Void]) {
		t.Helper()
		for range 60 {
			if tell[bool](ctx, s, fmt.Sprintf(`document.activeElement.matches(%q)`, selector)) {
				return
			}
			s.do(ctx, press)
		}
		t.Fatalf("the keyboard does not reach %s", selector)
	}
	s.do(ctx, chromedp.Navigate(s.cfg.Issuer+denied))
	focus("a.skip", forward)
	focus("#user", forward)
	s.do(ctx, chromedp.KeyEvent("alice"+kb.Tab+password+kb.Enter))
	s.until(ctx, `document.activeElement.matches("button.deny")`)
	s.do(ctx, chromedp.KeyEvent(kb.Enter))
	s.until(ctx, `document.querySelector("h1").innerText === "You said no"`)

	s.do(ctx, chromedp.Navigate(s.cfg.Issuer+allowed))
	s.until(ctx, `(() => { const b = document.querySelector("button.allow"); return !b.disabled && getComputedStyle(b).visibility === "visible"; })()`)
	focus("input[name=scope][value='1']", back)
	s.do(ctx, chromedp.KeyEvent(" "))
	focus("button.allow", forward)
	s.do(ctx, chromedp.KeyEvent(kb.Enter))
	s.until(ctx, `document.querySelector("h1").innerText === "You said yes"`)
	if g := s.grants("alice"); len(g) != 1 || strings.Join(g[0].Scopes, " ") != "mail.read" {
		t.Fatalf("the grants are %+v", g)
	}
	focus("main a", forward)
	s.do(ctx, chromedp.KeyEvent(kb.Enter))
	s.until(ctx, `location.pathname === "/agents"`)
	focus("button.stop", forward)
	s.do(ctx, chromedp.KeyEvent(kb.Enter))
	s.until(ctx, `document.querySelector("[role=status]")?.innerText.startsWith("Stopped: Mail Helper.")`)
}

// TestHowTheConsoleLooks holds it to the same rules.
func TestHowTheConsoleLooks(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *web.Config) {
		c.Guardrails = func(context.Context) (web.Guardrails, error) {
			return web.Guardrails{Version: "v1", Revision: 7, Problem: "cannot be loaded", Files: []web.Guardrail{
				{Name: "nights.cedar", Text: "forbid (principal, action, resource) when { " + strings.Repeat("context.hour < 6 || ", 12) + "false };"},
			}, History: []web.GuardrailChange{{Revision: 7, What: "put nights.cedar", By: "operator", At: time.Unix(1_700_000_000, 0)}}}, nil
		}
		c.Explain = func(policy.Input) policy.Explanation {
			return policy.Explanation{Actions: []policy.Verdict{{Action: "scope/mail.read", Because: "a policy forbids it", Policies: []policy.Finding{
				{Policy: "nights", At: "nights.cedar:1:1", Effect: "forbid", Outcome: policy.Satisfied},
			}}}}
		}
	})
	s.awkward()
	s.handOn()
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	compact := s.mustPass("alice")
	s.mustPass("alice")
	if err := s.redeem(compact); err != nil {
		t.Fatal(err)
	}
	if err := s.redeem(compact); err == nil {
		t.Fatal("redeemed twice")
	}
	txn := s.w.Events(audit.KindExchange)[0].Txn
	if _, err := s.w.Tx.SetState(t.Context(), "agent-a", agents.Suspended, transaction.Cause{By: "operator", Why: strings.Repeat("because", 30)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pass("alice"); err == nil {
		t.Fatal("a stopped agent got a token")
	}
	ctx := s.chromium()
	s.enter(ctx, "")
	for _, path := range []string{
		"/console", "/console/registry", "/console/registry?q=nothing", "/console/agent?id=agent-a", "/console/agent?id=agent-b", "/console/since?kind=agent&id=agent-a",
		"/console/stop", "/console/ledger?verify", "/console/ledger/4", "/console/guardrails?agent=agent-a&resource=mail&scope=mail.read", "/console/transactions/" + txn, "/console/agent?id=nobody",
	} {
		for _, at := range screens()[1:] {
			s.look(ctx, at, path)
			if wrong := tell[string](ctx, s, rules); wrong != "" {
				t.Errorf("%s on %s:\n%s", path, at.name, wrong)
			}
		}
	}
}

// TestARefusedAnswerStaysAsItWas: what was unticked stays so, and the page says which field is wrong (UI-11).
func TestARefusedAnswerStaysAsItWas(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.signedIn("alice")
	path := s.ask("alice", s.awkward())
	p := b.get(path).want(200).has("You have never allowed it anything.", "Nobody has explained what this allows", `value="1" checked`, `value="0" checked`).
		hasNot("Nothing was allowed yet")
	order := []string{"1250.00 EUR", "standing-orders.administer", "See the balance", "How often", "Who asks", "I am harmless"}
	for i := range order[1:] {
		if strings.Index(p.body, order[i]) > strings.Index(p.body, order[i+1]) {
			t.Errorf("%q comes after %q", order[i], order[i+1])
		}
	}
	form := p.form()
	form.Set("decision", "allow")
	form.Set("scope", "1")
	form.Set("uses", "times")
	form.Set("times", "2000")
	form.Set("until", "3600")
	b.post(path, form).want(400).has(`name="scope" value="1" checked`, `name="scope" value="0">`, `name="detail" value="0">`, `value="times" checked`,
		`value="2000"`, `aria-invalid="true" aria-describedby="flaw"`, `<a href="#times">`, `<option value="3600" selected>`, "<title>Not yet: ").
		hasNot(`value="once" checked`, `<option value="86400" selected>`)
	form.Del("scope")
	form.Set("uses", "nonsense")
	b.post(path, form).want(400).has(`<a href="#what">`, `value="once" checked`).hasNot(`value="0" checked`, `value="1" checked`)
	form.Set("scope", "0")
	form.Set("uses", "times")
	form.Set("times", `"><script>`)
	b.post(path, form).want(400).hasNot("<script>\"")

	app := s.open(nil)
	form = b.get(app).want(200).form()
	form.Set("decision", "allow")
	b.post(app, form).want(400).has(`<a href="#what">`).hasNot(`value="0" checked`)
}

// TestWhetherAnAgentIsAStranger: the page says so.
func TestWhetherAnAgentIsAStranger(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	s.w.Consent("bob", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	s.w.Consent("alice", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	path, b := s.ask("alice", nil), s.signedIn("alice")
	b.get(path).has("You have never allowed it anything.")
	s.w.Consent("alice", "agent-a", "files", consent.Decision{Scopes: []string{"files.read"}})
	b.get(path).has("You have allowed it something before, last on").hasNot("never allowed")
	b.post("/agents", stopForm(b.get("/agents"), "agent", "agent-a")).leads("/agents")
	b.get(path).has("You have allowed it something before, and stopped it.")
}

// TestTheButtonSaysWhatItDid, and says it of nothing that goes on.
func TestTheButtonSaysWhatItDid(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	mail := s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	s.w.Consent("alice", "agent-a", "files", consent.Decision{Scopes: []string{"files.read"}})
	b := s.signedIn("alice")
	for _, lie := range []string{mail.ID, "agent-a", "agent-b", "<b>"} {
		b.get("/agents?stopped=" + url.QueryEscape(lie)).want(200).hasNot("Stopped:")
	}
	p := b.post("/agents", stopForm(b.get("/agents"), "grant", mail.ID)).leads("/agents?stopped=")
	b.get(p.location()).want(200).has("Stopped: Mail Helper.", `role="status"`)
	b.get("/agents?stopped=agent-a").hasNot("Stopped:") // it goes on at Files
	p = b.post("/agents", stopForm(b.get("/agents"), "agent", "agent-a")).leads("/agents?stopped=agent-a")
	b.get(p.location()).want(200).has("Stopped: Mail Helper.")
}
