package web_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"obolus/agents"
)

const chromiumPath = "/usr/bin/chromium"

// chromium is a real browser for which every name leads to the site.
func (s *site) chromium() context.Context {
	s.t.Helper()
	if _, err := os.Stat(chromiumPath); err != nil {
		s.t.Fatal("there is no browser on this machine: make prepare installs one")
	}
	ctx, cancel := chromedp.NewExecAllocator(s.t.Context(),
		chromedp.ExecPath(chromiumPath), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Headless, chromedp.NoFirstRun, chromedp.IgnoreCertErrors,
		chromedp.UserDataDir(s.t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("host-resolver-rules", "MAP * "+s.ts.Listener.Addr().String()), chromedp.WSURLReadTimeout(2*time.Minute),
	)
	s.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	s.t.Cleanup(cancel)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil { // the browser lives as long as this context
		s.t.Fatal(err)
	}
	return ctx
}

// do carries out steps in the browser.
func (s *site) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	s.t.Helper()
	for i, step := range steps {
		limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
		err := chromedp.Do(limited, step)
		cancel()
		if err != nil {
			body, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body.innerText`))
			s.t.Fatalf("step %d: %v at %s", i+1, err, body)
		}
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

// pressAtOnce presses Allow as soon as a page is complete, and notes whether that was in vain.
const pressAtOnce = `document.addEventListener("DOMContentLoaded", () => {
	const allow = document.querySelector("button.allow");
	if (allow) {
		allow.click();
		window.early = allow.disabled;
	}
})`

// TestInABrowser signs in, consents, lets an app of ours in and stops an agent in a real browser: cookies, the content
// security policy, the focus and the pause before Allow are as a browser understands them.
func TestInABrowser(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.client("ours", func(c *agents.Client) { c.FirstParty = true })
	path := s.ask("alice", nil)
	ctx := s.chromium()
	var mu sync.Mutex
	var complaints []string
	if err := chromedp.Listen(ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
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
	// Loaded anew, Allow is not to be pressed at first (NEG-091): here it is pressed as soon as the page is complete.
	if _, err := chromedp.Run(ctx, func(ctx context.Context, target *chromedp.Target) (cdppage.AddScriptToEvaluateOnNewDocumentResult, error) {
		return cdp.Call(ctx, target, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: pressAtOnce})
	}); err != nil {
		t.Fatal(err)
	}
	s.do(ctx, chromedp.Reload())
	if !tell[bool](ctx, s, `window.early === true`) {
		t.Error("Allow could be pressed as soon as the page came")
	}
	if n := len(s.grants("alice")); n != 0 {
		t.Fatalf("%d grants before anybody could read the page", n)
	}
	s.do(ctx, chromedp.Click(`input[name=scope][value="1"]`))
	s.allow(ctx)
	s.do(ctx, chromedp.WaitVisible(".plainlist"))
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
	s.do(ctx, chromedp.Navigate(s.cfg.Issuer+s.open(nil)))
	s.allow(ctx)
	s.arrives(ctx, "https://app.test/cb?code=")

	s.do(ctx, chromedp.Navigate(s.cfg.Issuer+"/agents"), chromedp.Click("button.stop"), chromedp.WaitVisible(".empty"))
	if g := s.grants("alice"); g[0].Withdrawn.IsZero() {
		t.Error("the agent goes on")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, c := range complaints {
		if strings.Contains(c, "Content Security Policy") || strings.Contains(c, "Uncaught") {
			t.Errorf("the browser says: %s", c)
		}
	}
}

// allow presses Allow once both the script and the style let it be pressed.
func (s *site) allow(ctx context.Context) {
	s.t.Helper()
	s.until(ctx, `(() => { const b = document.querySelector("button.allow"); return !b.disabled && getComputedStyle(b).visibility === "visible"; })()`)
	s.do(ctx, chromedp.Click("button.allow"))
}

// until waits until an expression is true in the page.
func (s *site) until(ctx context.Context, expression string) {
	s.t.Helper()
	for late := time.Now().Add(2 * time.Minute); time.Now().Before(late); {
		// The page may be on its way out: what is asked of it then is asked again.
		if yes, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression)); err == nil && yes {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("in vain is waited for %s", expression)
}

// arrives waits until the browser is at an address that begins so.
func (s *site) arrives(ctx context.Context, at string) {
	s.t.Helper()
	s.until(ctx, `location.href.startsWith("`+at+`")`)
}
