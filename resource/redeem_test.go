package resource_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/resource"
	"obolus/token"
)

func TestWhatIsSentToRedeem(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	handler := is.guard().Require(send)(new(effects))
	sent := func(body, query string) url.Values {
		t.Helper()
		compact := is.token(once, bound(key))
		r := prove(t, request("POST", "/mail/send"+query, body, ""), key, compact)
		if w := do(handler, r); w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
		form, _ := is.last.Load().(url.Values)
		if form.Get("token") != compact || form.Get("jkt") != key.KeyID() || len(form.Get("redemption_id")) < 22 {
			t.Errorf("sent %v", form)
		}
		return form
	}
	first := sent(`{"to":"bob","n":1}`, "")
	same := sent(` { "n" : 1, "to": "bob" } `, "")
	if !strings.HasPrefix(first.Get("request_hash"), "sha-256=:") || first.Get("request_hash") != same.Get("request_hash") {
		t.Errorf("two spellings of a request: %q, %q", first.Get("request_hash"), same.Get("request_hash"))
	}
	if first.Get("redemption_id") == same.Get("redemption_id") {
		t.Error("two requests have one redemption_id")
	}
	for name, other := range map[string]url.Values{
		"another body":   sent(`{"to":"eve","n":1}`, ""),
		"another number": sent(`{"to":"bob","n":1.0}`, ""),
		"another query":  sent(`{"to":"bob","n":1}`, "?a=b"),
	} {
		if other.Get("request_hash") == first.Get("request_hash") {
			t.Errorf("%s has the same hash", name)
		}
	}
}

// The table of docs/redemption.md: what the authorization server says, and what the agent gets. The handler never runs.
func TestAnswersOfTheAuthorizationServer(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for name, c := range map[string]struct {
		status int
		body   string
		want   int
		says   string // in WWW-Authenticate, or Retry-After
	}{
		"already redeemed":       {409, `{"error":"already_redeemed"}`, 401, `error="invalid_token"`},
		"revoked":                {410, `{"error":"token_revoked"}`, 401, `error="invalid_token"`},
		"gone, and no JSON":      {410, `<html>`, 401, `error="invalid_token"`},
		"wrong audience":         {403, `{"error":"wrong_audience"}`, 401, `error="invalid_token"`},
		"malformed":              {400, `{"error":"invalid_request"}`, 401, `error="invalid_token"`},
		"our bug":                {422, `{"error":"request_mismatch"}`, 500, ""},
		"our credential":         {401, `{"error":"invalid_client"}`, 503, "30"},
		"no such endpoint":       {404, ``, 503, "30"},
		"too many":               {429, ``, 503, "1"},
		"its store is down":      {503, `{"error":"temporarily_unavailable"}`, 503, "1"},
		"it fails":               {500, `{"error":"server_error"}`, 503, "1"},
		"it sends us elsewhere":  {307, ``, 503, "1"},
		"it accepts nothing":     {202, ``, 503, "1"},
		"200 without JSON":       {200, `ok`, 503, "1"},
		"200 of an introspector": {200, `{"active":true}`, 503, "1"},
		"200 with a new word":    {200, `{"redemption":"third","txn":"TXN"}`, 503, "1"},
		"200 with a name twice":  {200, `{"redemption":"first","redemption":"first","txn":"TXN"}`, 503, "1"},
		"200 for another one":    {200, `{"redemption":"first","txn":"txn_other"}`, 503, "1"},
		"200 and it is inactive": {200, `{"active":false}`, 503, "1"},
	} {
		is := newIssuer(t)
		effect := new(effects)
		g := is.guard(func(cfg *resource.Config) {
			if c.want == http.StatusServiceUnavailable && c.says == "1" { // what is asked for until patience ends
				cfg.Patience = 5 * time.Second
			}
		})
		if err := g.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		handler := g.Require(send)(effect)
		compact := is.token(once, func(c *token.Claims) { c.Txn = "TXN" })
		is.breaks(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", is.server.URL+"/elsewhere")
			w.WriteHeader(c.status)
			w.Write([]byte(c.body))
			return true
		})
		all.Go(func() { // all at once, for they wait
			w := do(handler, request("POST", "/mail/send", "{}", compact))
			if w.Code != c.want || !strings.Contains(challenge(w)+w.Header().Get("Retry-After"), c.says) {
				t.Errorf("%s: %d %q %v, want %d %q", name, w.Code, challenge(w), w.Header(), c.want, c.says)
			}
			if effect.Load() != 0 {
				t.Errorf("%s: the handler ran", name)
			}
			// Nothing of it was remembered: as soon as the server answers, the same token does.
			is.breaks(nil)
			if w := do(handler, request("POST", "/mail/send", "{}", compact)); w.Code != http.StatusOK || effect.Load() != 1 {
				t.Errorf("%s: afterwards: %d, %d effects", name, w.Code, effect.Load())
			}
		})
	}
	all.Wait()
}

// The claim was accepted and the answer lost: the guard asks again with the same id, and the effect happens once.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	effect := new(effects)
	var ids []string
	is.breaks(func(w http.ResponseWriter, r *http.Request) bool {
		is.mu.Lock()
		defer is.mu.Unlock()
		status, _ := is.decide(r)
		ids = append(ids, r.PostForm.Get("redemption_id"))
		if len(ids) < 3 {
			if status != http.StatusOK {
				t.Errorf("attempt %d: %d", len(ids), status)
			}
			panic(http.ErrAbortHandler) // the connection breaks
		}
		answer(w, status, map[string]any{"redemption": "repeat", "txn": "T"})
		return true
	})
	handler := is.guard(func(c *resource.Config) { c.Patience = 30 * time.Second }).Require(send)(effect)
	compact := is.token(once, func(c *token.Claims) { c.Txn = "T" })
	if w := do(handler, request("POST", "/mail/send", "{}", compact)); w.Code != http.StatusOK || effect.Load() != 1 {
		t.Errorf("%d %s, %d effects", w.Code, w.Body, effect.Load())
	}
	if len(ids) < 3 || slices.ContainsFunc(ids, func(id string) bool { return id == "" || id != ids[0] }) {
		t.Errorf("ids %q", ids)
	}
	is.breaks(nil)
	if w := do(handler, request("POST", "/mail/send", "{}", compact)); w.Code != http.StatusUnauthorized || effect.Load() != 1 {
		t.Errorf("the token once more: %d, %d effects", w.Code, effect.Load())
	}
}

// The agent hangs up while the answer is on its way: the claim that was sent is followed to its end.
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	effect := new(effects)
	handler := is.guard().Require(send)(effect)
	ctx, cancel := context.WithCancel(t.Context())
	is.breaks(func(http.ResponseWriter, *http.Request) bool {
		cancel()
		return false
	})
	do(handler, request("POST", "/mail/send", "{}", is.token(once)).WithContext(ctx))
	if effect.Load() != 1 {
		t.Errorf("%d effects: the token is burnt for nothing", effect.Load())
	}
}

func TestAuthorizationServerIsDown(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	effect := new(effects)
	warm := is.guard(func(c *resource.Config) { c.Patience = 50 * time.Millisecond })
	cold := is.guard(func(c *resource.Config) { c.Patience = 50 * time.Millisecond })
	if err := warm.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	session, single := is.token(), is.token(once)
	is.server.Close()

	if w := do(warm.Require(send)(effect), request("POST", "/mail/send", "", session)); w.Code != http.StatusOK || effect.Load() != 1 {
		t.Errorf("a session token needs nobody: %d", w.Code)
	}
	for name, c := range map[string]struct {
		guard *resource.Guard
		token string
	}{"redeeming": {warm, single}, "without keys": {cold, session}, "without keys, redeeming": {cold, single}} {
		w := do(c.guard.Require(send)(effect), request("POST", "/mail/send", "", c.token))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || challenge(w) != "" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	if effect.Load() != 1 {
		t.Errorf("%d effects", effect.Load())
	}
	if cold.Ready(t.Context()) == nil {
		t.Error("ready without keys")
	}
}

// The metadata decides where a token is sent: one of another issuer, or that leads off TLS, is not followed.
func TestMetadataThatIsNotFollowed(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]map[string]any{
		"another issuer":      {"issuer": "https://evil.test"},
		"no issuer":           {"issuer": nil},
		"redemption off TLS":  {"redemption_endpoint": "http://evil.test/redeem"},
		"redemption no URL":   {"redemption_endpoint": "redeem"},
		"keys off TLS":        {"jwks_uri": "http://evil.test/jwks"},
		"no keys":             {"jwks_uri": nil},
		"transaction off TLS": {"transaction_endpoint": "http://evil.test/txn/{txn}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t)
			g := is.guard(func(c *resource.Config) {
				c.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					if strings.Contains(r.URL.Path, "/.well-known/") {
						return jsonResponse(merge(map[string]any{
							"issuer": is.server.URL, "jwks_uri": is.server.URL + "/jwks.json", "redemption_endpoint": is.server.URL + "/redeem",
						}, doc)), nil
					}
					if r.URL.Host == "evil.test" {
						t.Errorf("called %s", r.URL)
					}
					return http.DefaultTransport.RoundTrip(r)
				})}
				c.Patience = 50 * time.Millisecond
			})
			if w := do(g.Require(send)(new(effects)), request("POST", "/mail/send", "", is.token(once))); w.Code != http.StatusServiceUnavailable {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestMetadataIsFetchedOnce(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	var looks atomic.Int64
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	is.now = func() time.Time { return time.Unix(0, clock.Load()) }
	down := atomic.Bool{}
	g := is.guard(func(c *resource.Config) {
		c.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/.well-known/openid") {
				looks.Add(1)
				time.Sleep(10 * time.Millisecond)
			}
			if down.Load() {
				return nil, errors.New("down")
			}
			return http.DefaultTransport.RoundTrip(r)
		})}
	})
	handler := g.Require(send)(new(effects))
	all := func() {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if w := do(handler, request("GET", "/mail/send", "", is.token())); w.Code != http.StatusOK {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		wg.Wait()
	}
	all()
	if looks.Load() != 1 {
		t.Errorf("fetched %d times by many at once", looks.Load())
	}
	clock.Add(int64(11 * time.Minute))
	all()
	if looks.Load() != 2 {
		t.Errorf("fetched %d times after it was old", looks.Load())
	}
	clock.Add(int64(11 * time.Minute))
	down.Store(true)
	all() // old addresses and keys serve on
	if looks.Load() > 3 {
		t.Errorf("fetched %d times while the server is down", looks.Load())
	}
}

func TestSecretsAndSessions(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(func(c *resource.Config) { c.Client = resource.Secret(me, "correct+horse") })
	if w := do(g.Require(send)(new(effects)), request("POST", "/mail/send", "", is.token(once))); w.Code != http.StatusOK {
		t.Errorf("by secret: %d %s", w.Code, w.Body)
	}
	nobody := is.guard(func(c *resource.Config) { c.Client = resource.Client{} })
	if w := do(nobody.Require(send)(new(effects)), request("POST", "/mail/send", "", is.token(once))); w.Code != http.StatusUnauthorized {
		t.Errorf("one transaction, and nobody to redeem it: %d", w.Code)
	}
	if w := do(nobody.Require(send)(new(effects)), request("POST", "/mail/send", "", is.token())); w.Code != http.StatusOK {
		t.Errorf("a session: %d", w.Code)
	}
	if nobody.Report(t.Context(), "txn_x", resource.Committed) == nil {
		t.Error("a report by nobody")
	}
}

// The handler claims by itself: as often as it likes, once in effect, and not at all when there was no effect.
func TestLateRedemption(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard()
	effect := new(effects)
	handler := g.Require(resource.Rule{Scopes: []string{"mail.send"}, Late: true})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := resource.CallerFrom(r.Context())
		if r.URL.Query().Has("ask") {
			w.WriteHeader(http.StatusOK) // a question back to the agent
			return
		}
		for range 2 {
			if err := c.Redeem(r.Context()); err != nil {
				g.Refuse(w, err)
				return
			}
		}
		effect.Add(1)
	}))
	compact := is.token(once)
	for range 2 {
		if w := do(handler, request("POST", "/mail/send?ask", "{}", compact)); w.Code != http.StatusOK || is.calls.Load() != 0 {
			t.Errorf("%d, %d redemptions", w.Code, is.calls.Load())
		}
	}
	if w := do(handler, request("POST", "/mail/send", "{}", compact)); w.Code != http.StatusOK || effect.Load() != 1 || is.calls.Load() != 1 {
		t.Errorf("%d, %d effects, %d redemptions", w.Code, effect.Load(), is.calls.Load())
	}
	if w := do(handler, request("POST", "/mail/send", "{}", compact)); w.Code != http.StatusUnauthorized || effect.Load() != 1 {
		t.Errorf("again: %d, %d effects", w.Code, effect.Load())
	}
}

type journal struct {
	mu    sync.Mutex
	open  map[string]resource.Intent
	fails bool
}

func (j *journal) Open(_ context.Context, i resource.Intent) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fails {
		return errors.New("disk full")
	}
	j.open[i.Txn] = i
	return nil
}

func (j *journal) Close(_ context.Context, i resource.Intent) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.open, i.Txn)
	return nil
}

// The intent is there before the claim is sent, and until the outcome is told; without it nothing is claimed.
func TestJournalAndReports(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	j := &journal{open: map[string]resource.Intent{}}
	g := is.guard(func(c *resource.Config) { c.Journal = j })
	var how func(*resource.Caller, context.Context) error
	handler := g.Require(send)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if how == nil {
			return // as if it crashed
		}
		if err := how(resource.CallerFrom(r.Context()), r.Context()); err != nil {
			t.Error(err)
		}
	}))
	is.breaks(func(http.ResponseWriter, *http.Request) bool {
		if len(j.open) != 1 {
			t.Errorf("%d intents when the claim arrives", len(j.open))
		}
		return false
	})
	for want, c := range map[string]struct {
		how  func(*resource.Caller, context.Context) error
		open int
	}{
		"committed":     {(*resource.Caller).Commit, 0},
		"failed":        {(*resource.Caller).Fail, 0},
		"indeterminate": {(*resource.Caller).Doubt, 1},
		"":              {nil, 1},
	} {
		how = c.how
		claims := is.claims()
		if w := do(handler, request("POST", "/mail/send", "{}", is.token(once, func(c *token.Claims) { c.Txn = claims.Txn }))); w.Code != http.StatusOK {
			t.Fatal(w.Code, w.Body)
		}
		if is.reports[claims.Txn] != want || len(j.open) != c.open {
			t.Errorf("%q: reported %q, %d open", want, is.reports[claims.Txn], len(j.open))
		}
		for txn, intent := range j.open { // what a restart does
			if intent.RedemptionID == "" || intent.Digest == "" || intent.At.IsZero() {
				t.Errorf("intent %+v", intent)
			}
			if err := g.Report(t.Context(), txn, resource.Failed); err != nil {
				t.Error(err)
			}
			delete(j.open, txn)
		}
	}
	if err := g.Report(t.Context(), "txn_unknown", resource.Failed); err == nil {
		t.Error("a report of what nobody knows")
	}

	calls := is.calls.Load()
	j.fails = true
	w := do(handler, request("POST", "/mail/send", "{}", is.token(once)))
	if w.Code != http.StatusServiceUnavailable || is.calls.Load() != calls {
		t.Errorf("a journal that takes nothing: %d, %d claims", w.Code, is.calls.Load()-calls)
	}
	j.fails = false
	is.breaks(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusConflict)
		return true
	})
	if do(handler, request("POST", "/mail/send", "{}", is.token(once))); len(j.open) != 0 {
		t.Error("a claim that was refused is still open")
	}
	is.breaks(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "3600") // beyond all patience
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if do(handler, request("POST", "/mail/send", "{}", is.token(once))); len(j.open) != 1 {
		t.Error("a claim of which nothing is known is closed")
	}
}
