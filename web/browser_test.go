package web_test

import (
	"context"
	"time"

	"github.com/chromedp/chromedp"
)

// chromium is a real browser for which every name leads to the site.
func (s *site) chromium() context.Context {
	s.t.Helper()
	ctx, cancel := chromedp.NewExecAllocator(s.t.Context(),
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Headless, chromedp.NoFirstRun, chromedp.IgnoreCertErrors,
		chromedp.UserDataDir(s.t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("host-resolver-rules", "MAP * "+s.ts.Listener.Addr().String()), chromedp.WSURLReadTimeout(time.Minute),
	)
	s.t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	s.t.Cleanup(cancel)
	return ctx
}
