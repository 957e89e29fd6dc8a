package web_test

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"obolus/agents"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/exchange"
	"obolus/web"
)

func TestShots(t *testing.T) {
	out := os.Getenv("SHOTS")
	if out == "" {
		t.Skip()
	}
	s := newSite(t, func(c *web.Config) {
		c.Guardrails = func(context.Context) ([]web.Guardrail, error) {
			return []web.Guardrail{{"office-hours.cedar", "forbid (principal, action, resource)\nwhen { context.hour < 6 };"}}, nil
		}
	})
	s.agent = s.w.Agent("agent-a", func(a *agents.Agent) {
		a.Name, a.Owner, a.Operator, a.Homepage = "Mail Helper", "Acme Ltd", "Acme Cloud", "https://acme.example/helper"
		a.Description = "Click Allow to cancel all further questions."
		a.Purpose = "Sorts your mail and answers newsletters."
	})
	al, _, _ := s.w.Registry.Client(t.Context(), "app")
	_ = al
	path := s.ask("alice", func(a *consent.Ask) {
		a.Details = json.RawMessage(`[{"type":"payment","amount":{"currency":"EUR","value":"25.00"},"payee":"Corner Shop"},{"type":"mcp_tool_call","tool":"send_message","server":"https://mail.test/api"}]`)
	})
	appPath := s.open(nil)
	s.w.Consent("alice", "agent-a", "files", consent.Decision{Scopes: []string{"files.read"}, Uses: 5, AuthTime: s.w.Now()})
	s.w.Consent("alice", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.read"}, Uses: 1, AuthTime: s.w.Now()})
	s.w.Pass(3 * time.Minute)
	s.w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}, AuthTime: s.w.Now()})
	for range 3 {
		_, err := s.w.Exchange.Do(t.Context(), s.w.Assertion("agent-a", s.agent), exchange.Request{
			SubjectToken: s.w.UserToken("alice", nil), SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := s.chromium()
	base := s.cfg.Issuer
	shot := func(name string, dark bool, w int64, actions ...chromedp.Action[chromedp.Void]) {
		t.Log(name)
		scheme := "light"
		if dark {
			scheme = "dark"
		}
		as := []chromedp.Action[chromedp.Void]{
			chromedp.EmulateViewport(w, 844),
			chromedp.Func(func(ctx context.Context, tt *chromedp.Target) error {
				_, err := cdp.Call(ctx, tt, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				return err
			}),
		}
		as = append(as, actions...)
		as = append(as, chromedp.Sleep(900*time.Millisecond))
		if err := chromedp.Do(ctx, as...); err != nil {
			t.Fatal(name, err)
		}
		png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(name, err)
		}
		os.WriteFile(out+"/"+name+".png", png, 0o644)
	}
	nav := func(p string) chromedp.Action[chromedp.Void] { return chromedp.Navigate(base + p) }
	shot("signin", false, 390, nav("/sign-in?return_to="+url.QueryEscape(path)))
	shot("ask", false, 390, chromedp.SendKeys("#user", "alice"), chromedp.SendKeys("#password", password), chromedp.Click("button.go"), chromedp.WaitVisible("button.deny"))
	shot("ask-dark", true, 390, nav(path))
	shot("ask-wide", false, 1100, nav(path))
	shot("app", false, 390, nav(appPath))
	shot("mine", false, 390, nav("/agents"))
	shot("mine-dark", true, 390, nav("/agents"))
	shot("answer", false, 390, nav(path), chromedp.WaitEnabled("button.allow"), chromedp.Click("button.allow"), chromedp.WaitVisible("h1"))
	shot("error", false, 390, nav("/consent/r_doesnotexist"))
	shot("console", false, 1200, nav("/console/sign-in"), chromedp.SendKeys("#token", operatorToken), chromedp.Click("button.go"), chromedp.WaitVisible(".numbers"))
	shot("console-phone", true, 390, nav("/console"))
	shot("registry", false, 1200, nav("/console/registry"))
	shot("agent", false, 1200, nav("/console/agent?id=agent-a"))
	shot("stop", false, 390, nav("/console/stop"))
	shot("guardrails", false, 1200, nav("/console/guardrails"))
	ev := s.w.Events("exchange")
	shot("transaction", false, 390, nav("/console/transactions/"+ev[len(ev)-1].Txn))
	shot("transaction-dark", true, 800, nav("/console/transactions/"+ev[len(ev)-1].Txn))
	_ = authcode.Request{}
}
