package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/store"
	"obolus/transaction"
)

// TestAnOperatorWatchesAStop: after the button the page says who still tries, when first, and that nothing comes through.
func TestAnOperatorWatchesAStop(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	outstanding := s.mustPass("alice")
	b := s.operator()
	const path, watch = "/console/agent?id=agent-a", "/console/since?id=agent-a&kind=agent"
	form := b.get(path).want(200).hasNot("Since it was stopped").form()
	b.get(watch).want(404)
	s.w.Pass(time.Second)
	form.Set("state", "suspended")
	form.Set("why", "sends <b>too</b> much")
	b.post(path, form).leads(path)
	p := b.get(path).want(200).has("Since it was stopped", "sends &lt;b&gt;too&lt;/b&gt; much", "Nobody has tried anything", "Nothing came through", "/console/since?").hasNot("mail.read</td>\n<td>refused")
	if csp := p.header.Get("Content-Security-Policy"); !strings.Contains(csp, "connect-src 'self'") || !strings.Contains(csp, "script-src 'self'") {
		t.Errorf("the policy is %q", csp)
	}
	s.w.Pass(5 * time.Second)
	if err := s.redeem(outstanding); err == nil {
		t.Fatal("a stopped agent's token was redeemed")
	}
	if _, err := s.pass("alice"); err == nil {
		t.Fatal("a stopped agent got a token")
	}
	for _, where := range []string{path, watch} {
		b.get(where).want(200).has("<b>Refused 2 times</b>", "the first 5 seconds after", "agent_inactive", "Nothing came through")
	}
	b.get(watch).has(`<noscript><meta http-equiv="refresh"`) // and without JavaScript it is looked at again
	b.get(path).hasNot("http-equiv")

	// Retired, it is counted since it was stopped first; active again it is not stopped.
	form = b.get(path).form()
	form.Set("state", "active")
	b.post(path, form).leads(path)
	b.get(path).hasNot("Since it was stopped")
	b.get(watch).want(404)
	if _, err := s.pass("alice"); err != nil {
		t.Fatal(err)
	}
	form.Set("state", "suspended")
	form.Set("why", "once more")
	b.post(path, form).leads(path)
	b.get(path).has("once more", "Nobody has tried anything").hasNot("Refused 2 times")
}

// TestWhatComesOfAStop of anything else than an agent.
func TestWhatComesOfAStop(t *testing.T) {
	t.Parallel()
	for _, kind := range []transaction.Kind{transaction.KindUser, transaction.KindGrant, transaction.KindToken, transaction.KindTxn, transaction.KindClient, transaction.KindKey} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			g := s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
			compact := s.mustPass("alice")
			event := s.w.Events(audit.KindExchange)[0]
			signer, err := s.w.Keys.Signer("")
			if err != nil {
				t.Fatal(err)
			}
			id := map[transaction.Kind]string{
				transaction.KindUser: "alice", transaction.KindGrant: g.ID, transaction.KindToken: event.JTI, transaction.KindTxn: event.Txn,
				transaction.KindClient: "app", transaction.KindKey: signer.KeyID(),
			}[kind]
			b := s.operator()
			form := b.get("/console/stop").form()
			form.Set("kind", string(kind))
			form.Set("id", id)
			form.Set("why", "drill")
			to := b.post("/console/stop", form).leads("/console/stop?done").location()
			b.get(to).want(200).has("Stopped.", "drill", "Nobody has tried anything")
			if err := s.redeem(compact); err == nil {
				t.Fatal("it was redeemed")
			}
			want := "<b>Refused 1 time</b>: the first at once"
			if kind == transaction.KindClient || kind == transaction.KindKey { // a token is not put down to the app or the key that it came by
				want = "Nobody has tried anything"
			}
			b.get(to).want(200).has(want)
			b.get("/console/stop?done&kind=" + string(kind) + "&id=another").want(200).hasNot("Stopped.")
		})
	}
}

// TestTheStopInABrowser watches it: what is refused appears on the page that is open, and while it is paused the page stands still.
func TestTheStopInABrowser(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	ctx := s.chromium()
	s.enter(ctx, "")
	// From the first page to the stop: the name of the agent, its line, the reason, the button.
	s.do(ctx, chromedp.SendKeys("#q", "helper\r"), chromedp.Click(`td a[href*="agent-a"]`), chromedp.SendKeys("#why", "drill"), chromedp.Click("button.stop"))
	s.until(ctx, `document.querySelector("[data-again] button")?.textContent === "Pause" && document.querySelector("#since-words").innerText.includes("Nobody")`)
	s.do(ctx, chromedp.SendKeys("#why", "a second reason"))
	if _, err := s.pass("alice"); err == nil {
		t.Fatal("a stopped agent got a token")
	}
	s.until(ctx, `document.querySelector("#since-words").innerText.includes("Refused 1 time") && document.querySelector("#since-list td a") !== null`)
	if kept := tell[bool](ctx, s, `document.querySelector("#why").value === "a second reason"`); !kept {
		t.Error("the page was loaded anew, and what was typed is gone")
	}
	s.do(ctx, chromedp.Click("[data-again] button"))
	s.until(ctx, `document.querySelector("[data-again] button").textContent === "Go on"`)
	// Without a session it says so, and asks no more.
	s.do(ctx, chromedp.Click("[data-again] button"))
	s.do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
	s.until(ctx, `document.querySelector("[data-again]").textContent.includes("signed out")`)
}

// TestAnAgentAmongThousands is found by a part of its name, by its state, and at once by its id; pages follow each other without a gap.
func TestAnAgentAmongThousands(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	put := func(id, name string, state agents.State) {
		t.Helper()
		a, _, err := s.w.Registry.Agent(t.Context(), "agent-b")
		if err != nil {
			t.Fatal(err)
		}
		a.ID, a.Name, a.State, a.DelegatesTo = id, name, state, nil
		if _, err := s.w.Registry.PutAgent(t.Context(), a, 0); err != nil {
			t.Fatal(err)
		}
	}
	const many = 1200
	for i := range many {
		put(fmt.Sprintf("fleet-%04d", i), fmt.Sprintf("Fleet worker %d", i), agents.Active)
	}
	put("zz-last", "The needle", agents.Suspended)
	a, version, err := s.w.Registry.Agent(t.Context(), "zz-last")
	if err != nil {
		t.Fatal(err)
	}
	a.DelegatesTo = []string{"fleet-0001"}
	if _, err := s.w.Registry.PutAgent(t.Context(), a, version); err != nil {
		t.Fatal(err)
	}
	b := s.operator()
	b.get("/console").want(200).has("<b>500+</b> agents", `action="/console/registry"`)
	b.get("/console/registry?q=needle").want(200).has("zz-last", `class="state suspended"`).hasNot("Fleet worker", "Go on")
	b.get("/console/registry?state=suspended").want(200).has("zz-last").hasNot("Fleet worker", "mail-server")
	b.get("/console/registry?q=nothing+is+called+so").want(200).has("None here that is so").hasNot("Go on")
	b.get("/console/registry?q=" + url.QueryEscape(`"><script>`)).want(200).hasNot("<script>")
	if p := b.get("/console/registry?q=fleet-1199").want(200); strings.Count(p.body, "/console/agent?id=fleet-1199") != 1 {
		t.Error("the agent of that id is not there once")
	}
	row, more := regexp.MustCompile(`/console/agent\?id=([a-z0-9-]+)"`), regexp.MustCompile(`href="(/console/registry\?[^"]*after=[^"]*)"`)
	seen, at := map[string]bool{}, "/console/registry?kind=agents&q=fleet"
	for pages := 0; at != ""; pages++ {
		if pages > many/50+1 {
			t.Fatal("the pages never end")
		}
		p := b.get(at).want(200)
		for _, m := range row.FindAllStringSubmatch(p.body, -1) {
			if seen[m[1]] {
				t.Errorf("%s is there twice", m[1])
			}
			seen[m[1]] = true
		}
		at = ""
		if m := more.FindStringSubmatch(p.body); m != nil {
			at = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != many {
		t.Errorf("%d of %d agents are on the pages", len(seen), many)
	}
	// Who may hand on to an agent of so many is looked for when somebody wants to know; whom it hands on to is always there.
	b.get("/console/agent?id=fleet-0001").want(200).has("Look through all agents").hasNot("zz-last may hand on")
	b.get("/console/agent?id=fleet-0001&far").want(200).has("zz-last may hand on to fleet-0001").hasNot("Look through all agents")
	b.get("/console/agent?id=zz-last").want(200).has("zz-last may hand on to fleet-0001")
}

// TestWhatAnAgentIsAllowedAndAsks is on its page, as long as it counts; and by which keys it proves itself.
func TestWhatAnAgentIsAllowedAndAsks(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.operator()
	const path = "/console/agent?id=agent-a"
	b.get(path).want(200).has(s.agent.KeyID(), "never").hasNot("What users allowed")
	if _, err := s.pass("alice"); err == nil {
		t.Fatal("a token without a consent")
	}
	b.get(path).has("What users allowed it lately", `class="state proposed">asked</span> <b>alice</b>`, "just now")
	g := s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	b.get(path).has("<b>alice</b>: <code>mail.read</code> at mail, until")
	if err := s.w.Tx.Withdraw(t.Context(), s.w.Consents, "alice", g.ID, transaction.Cause{By: "alice"}); err != nil {
		t.Fatal(err)
	}
	b.get(path).hasNot("at mail, until")
}

// TestTheLedgerPages: who did what for whom, by user, agent and transaction; one entry; the chain; and all of it to take away.
func TestTheLedgerPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("bob", "Bob")
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	s.w.Consent("bob", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.send"}})
	compact := s.mustPass("alice")
	if err := s.redeem(compact); err != nil {
		t.Fatal(err)
	}
	if err := s.redeem(compact); err == nil {
		t.Fatal("redeemed twice")
	}
	exchange := s.w.Events(audit.KindExchange)[0]
	b := s.operator()
	b.get("/console/ledger").want(200).has("alice", "bob", "agent-b", "refused: already_redeemed", exchange.Txn, "sign in", "Export")
	b.get("/console/ledger?user=bob").want(200).has("agent-b", `value="bob"`).hasNot("already_redeemed", exchange.Txn)
	b.get("/console/ledger?agent=agent-a&kind=redeem").want(200).has("already_redeemed", "<option selected>redeem").hasNot("mail.send", "<td role=\"cell\" data-of=\"What\">consent")
	b.get("/console/ledger?txn="+exchange.Txn).want(200).has("already_redeemed", "mail-server").hasNot("bob")
	b.get("/console/ledger?user=nobody").want(200).has("Nothing that matches")
	b.get("/console/ledger?user=" + url.QueryEscape("<script>") + strings.Repeat("x", 3000)).hasNot("<script>x").want(400).has("Nothing is called that")

	entry := fmt.Sprint("/console/ledger/", exchange.Seq)
	b.get(entry).want(200).has("Entry "+fmt.Sprint(exchange.Seq), "alice", "agent-a", "mail.read", exchange.Hash, exchange.Prev, "<svg", exchange.Grant, "Earlier", "Later").
		hasNot(compact)
	b.get("/console/ledger/1").want(200).has("this is the first").hasNot("Earlier")
	for _, none := range []string{"/console/ledger/0", "/console/ledger/x", "/console/ledger/-1", "/console/ledger/18446744073709551616"} {
		b.get(none).want(404)
	}

	p := b.get("/console/ledger?verify").want(200).has("Whole.")
	if end, hash, err := s.w.Ledger.Head(t.Context()); err != nil || !strings.Contains(p.body, fmt.Sprintf("Each of %d entries", end)) || !strings.Contains(p.body, hash) {
		t.Errorf("the end of the chain is %d %s %v", end, hash, err)
	}
	export := func(query string) (events []audit.Event) {
		t.Helper()
		p := b.get("/console/ledger.jsonl" + query).want(200)
		if p.header.Get("Content-Disposition") != `attachment; filename="ledger.jsonl"` || p.header.Get("Cache-Control") != "no-store" {
			t.Errorf("the headers are %v", p.header)
		}
		for lines := bufio.NewScanner(strings.NewReader(p.body)); lines.Scan(); {
			var e audit.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		return events
	}
	for i, e := range export("") {
		if e.Seq != uint64(i+1) || i > 0 && e.Hash == "" {
			t.Fatalf("line %d is entry %d", i+1, e.Seq)
		}
	}
	if bobs := export("?user=bob"); len(bobs) != 1 || bobs[0].User != "bob" {
		t.Errorf("of bob there is %+v", bobs)
	}
	b.get("/console/ledger.jsonl?user=" + strings.Repeat("x", 3000)).want(400)
}

// TestALedgerThatWasChanged is not called whole, wherever it was changed.
func TestALedgerThatWasChanged(t *testing.T) {
	t.Parallel()
	for _, seq := range []int{1, 2} {
		s := newSite(t, nil)
		s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
		s.mustPass("alice")
		key := store.Key{Partition: "ledger", Name: fmt.Sprintf("e/%020d", seq)}
		recs, err := store.Read(t.Context(), s.w.Records, key)
		if err != nil {
			t.Fatal(err)
		}
		forged := []byte(strings.Replace(string(recs[0].Value), "alice", "mallo", 1))
		if _, err := store.Apply(t.Context(), s.w.Records, store.Commit{
			Partition: key.Partition, Writes: []store.Write{{Name: key.Name, Value: forged, Listed: true}},
		}); err != nil {
			t.Fatal(err)
		}
		s.operator().get("/console/ledger?verify").want(200).has(fmt.Sprintf("Broken after entry %d.", seq-1), "was changed or is incomplete").hasNot("Whole.")
	}
}
