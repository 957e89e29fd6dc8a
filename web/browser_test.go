package web_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"obolus/agents"
)

const chromiumPath = "/usr/bin/chromium"

// chromium is a real browser for which every name leads to the site.
func (s *site) chromium() context.Context {
	s.t.Helper()
	if _, err := os.Stat(chromiumPath); err != nil {
		s.t.Skip("there is no browser on this machine")
	}
	ctx, cancel := chromedp.NewExecAllocator(s.t.Context(),
		chromedp.ExecPath(chromiumPath), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Headless, chromedp.NoFirstRun, chromedp.IgnoreCertErrors,
		chromedp.UserDataDir(s.t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("host-resolver-rules", "MAP * "+s.ts.Listener.Addr().String()), chromedp.WSURLReadTimeout(time.Minute),
	)
	s.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	s.t.Cleanup(cancel)
	return ctx
}

// do carries out steps in the browser.
func (s *site) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		s.t.Fatal(err)
	}
}

// tell evaluates an expression in the page.
func tell[T any](ctx context.Context, s *site, expression string) T {
	s.t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// TestInABrowser signs in, consents, lets an app of ours in and stops an agent in a real browser: cookies, the content
// security policy, the focus and the pause before Allow are as a browser understands them.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.client("ours", func(c *agents.Client) { c.FirstParty = true })
	path := s.ask("alice", nil)
	ctx := s.chromium()
	s.do(ctx)
	var complaints []string
	if err := chromedp.Listen(ctx, func(ev any) {
		t.Logf("%T %+v", ev, ev)
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			complaints = append(complaints, ev.Entry.Text)
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, ev.ExceptionDetails.Text)
		}
	}); err != nil {
		t.Fatal(err)
	}

	s.do(ctx,
		chromedp.Navigate(s.cfg.Issuer+path),
		chromedp.SendKeys("#user", "alice"), chromedp.SendKeys("#password", password), chromedp.Click("button.go"),
		chromedp.WaitVisible("button.deny"),
	)
	if focus := tell[string](ctx, s, `document.activeElement.value`); focus != "deny" {
		t.Errorf("the focus is on %q (UI-07)", focus)
	}
	// Loaded anew, Allow is not to be pressed at first (NEG-091).
	s.do(ctx, chromedp.Reload())
	early := tell[bool](ctx, s, `(() => { const allow = document.querySelector("button.allow"); allow.click(); return allow.disabled; })()`)
	if took := tell[float64](ctx, s, `performance.now()`); took < 500 && !early {
		t.Errorf("Allow could be pressed %v ms after the page came", took)
	}
	if n := len(s.grants("alice")); n != 0 {
		t.Fatalf("%d grants before anybody could read the page", n)
	}
	s.do(ctx,
		chromedp.WaitEnabled("button.allow"), chromedp.Click(`input[name=scope][value="1"]`), chromedp.Click("button.allow"),
		chromedp.WaitVisible(".plainlist"),
	)
	if at := tell[string](ctx, s, `location.pathname`); at != path {
		t.Errorf("the answer is at %s", at)
	}
	grants := s.grants("alice")
	if len(grants) != 1 || strings.Join(grants[0].Scopes, " ") != "mail.read" || grants[0].Uses != 1 {
		t.Fatalf("the grants are %+v", grants)
	}
	if cookies := tell[string](ctx, s, `document.cookie`); cookies != "" {
		t.Errorf("scripts can read the cookies %s", cookies)
	}

	// The answer to an app leaves for the app, through the policy of the page.
	s.do(ctx,
		chromedp.Navigate(s.cfg.Issuer+s.open(nil)), chromedp.WaitEnabled("button.allow"), chromedp.Click("button.allow"),
		chromedp.WaitReady("body"),
	)
	s.arrives(ctx, "https://app.test/cb?code=")

	s.do(ctx, chromedp.Navigate(s.cfg.Issuer+"/agents"), chromedp.Click("button.stop"), chromedp.WaitVisible(".empty"))
	if g := s.grants("alice"); g[0].Withdrawn.IsZero() {
		t.Error("the agent goes on")
	}
	for _, c := range complaints {
		if strings.Contains(c, "Content Security Policy") || strings.Contains(c, "Uncaught") {
			t.Errorf("the browser says: %s", c)
		}
	}
}

// arrives waits until the browser is at an address that begins so.
func (s *site) arrives(ctx context.Context, at string) {
	s.t.Helper()
	var href string
	for range 100 {
		href = tell[string](ctx, s, `location.href`)
		if strings.HasPrefix(href, at) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("the browser is at %s, not at %s", href, at)
}
