package authcode_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/audit"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/store"
	"obolus/transaction"
)

const verifier = "a-verifier-of-forty-three-characters-at-least"

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

type flow struct {
	*world.World
	*authcode.Flow
	t *testing.T

	mu      sync.Mutex
	stopped []string
}

func newFlow(t *testing.T) *flow {
	t.Helper()
	f := &flow{World: world.New(t), t: t}
	var err error
	f.Flow, err = authcode.New(authcode.Config{
		Issuer: world.Issuer, Live: f.Live, Mirror: f.Mirror, Record: f.Recorder.Record, Now: f.Now,
		Stop: func(_ context.Context, target transaction.Target, _ transaction.Cause) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.stopped = append(f.stopped, target.ID)
			return nil
		},
		RequestLifetime: 10 * time.Minute, Remember: 10 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func request() authcode.Request {
	return authcode.Request{
		ClientID: "app", RedirectURI: "https://app.test/cb", State: "s 1", Resource: world.Issuer, Scopes: []string{"mail.read", "mail.send"},
		Details: json.RawMessage(`[{"type":"a"},{"type":"b"}]`), Challenge: challenge(), MaxAge: -1,
	}
}

func (f *flow) open(r authcode.Request) authcode.Request {
	f.t.Helper()
	kept, err := f.Open(f.t.Context(), r, "")
	if err != nil {
		f.t.Fatal(err)
	}
	return kept
}

func (f *flow) decision() authcode.Decision {
	return authcode.Decision{User: "alice", AuthTime: f.Now(), Scopes: []string{"mail.read"}, Details: []int{1}}
}

// code opens and allows a request.
func (f *flow) code(r authcode.Request) string {
	f.t.Helper()
	location, err := f.Allow(f.t.Context(), f.open(r).ID, f.decision())
	if err != nil {
		f.t.Fatal(err)
	}
	u, err := url.Parse(location)
	if err != nil {
		f.t.Fatal(err)
	}
	return u.Query().Get("code")
}

func claim(code string) authcode.Claim {
	return authcode.Claim{Code: code, ClientID: "app", Verifier: verifier}
}

func TestAllowAnswersOnceAndNarrows(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	r := request()
	r.RedirectURI = "https://app.test/cb?tenant=7"
	kept := f.open(r)
	location, err := f.Allow(t.Context(), kept.ID, f.decision())
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(location)
	q := u.Query()
	if q.Get("state") != "s 1" || q.Get("iss") != world.Issuer || q.Get("tenant") != "7" || q.Get("code") == "" || u.Fragment != "" {
		t.Errorf("location %s", location)
	}
	if _, err := f.Allow(t.Context(), kept.ID, f.decision()); !errors.Is(err, authcode.ErrDecided) {
		t.Errorf("a second decision: %v", err)
	}
	if _, err := f.Refuse(t.Context(), kept.ID, "alice", oauth.AccessDenied); !errors.Is(err, authcode.ErrDecided) {
		t.Errorf("a refusal after the decision: %v", err)
	}
	if _, err := f.Pending(t.Context(), kept.ID); !errors.Is(err, authcode.ErrDecided) {
		t.Errorf("pending after the decision: %v", err)
	}
	granted, err := f.Redeem(t.Context(), claim(q.Get("code")))
	if err != nil {
		t.Fatal(err)
	}
	got := granted.Request
	if !slices.Equal(got.Scopes, []string{"mail.read"}) || string(got.Details) != `[{"type":"b"}]` || granted.User != "alice" {
		t.Errorf("granted %+v", granted)
	}
	events := f.Events(audit.KindAuthorize)
	if len(events) != 1 || !events[0].Allowed || events[0].User != "alice" || events[0].GrantedScope != "mail.read" {
		t.Errorf("events %+v", events)
	}
	if data, _ := json.Marshal(events); strings.Contains(string(data), q.Get("code")) || strings.Contains(string(data), kept.ID) {
		t.Error("the ledger holds the code or the id of the request")
	}
}

func TestDecisionsThatAreNotTaken(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	for _, c := range []struct {
		name   string
		ask    func(*authcode.Request)
		decide func(*flow, *authcode.Decision)
		want   error
	}{
		{"a scope that was not asked for", nil, func(_ *flow, d *authcode.Decision) { d.Scopes = []string{"mail.delete"} }, authcode.ErrWider},
		{"a detail beyond the last", nil, func(_ *flow, d *authcode.Decision) { d.Details = []int{2} }, authcode.ErrWider},
		{"a detail before the first", nil, func(_ *flow, d *authcode.Decision) { d.Details = []int{-1} }, authcode.ErrWider},
		{"nothing", nil, func(_ *flow, d *authcode.Decision) { d.Scopes, d.Details = nil, nil }, authcode.ErrWider},
		{"nobody", nil, func(_ *flow, d *authcode.Decision) { d.User = "" }, authcode.ErrSignIn},
		{
			"a moment ago, and that is too long for max_age=0", func(r *authcode.Request) { r.MaxAge = 0 },
			func(f *flow, d *authcode.Decision) { d.AuthTime = f.Now().Add(-time.Second) }, authcode.ErrSignIn,
		},
		{
			"older than max_age", func(r *authcode.Request) { r.MaxAge = 60 },
			func(f *flow, d *authcode.Decision) { d.AuthTime = f.Now().Add(-hour) }, authcode.ErrSignIn,
		},
		{
			"not anew for prompt=login", func(r *authcode.Request) { r.Prompt = "login consent" },
			func(f *flow, d *authcode.Decision) { d.AuthTime = f.Now().Add(-time.Minute) }, authcode.ErrSignIn,
		},
		{
			"another class of sign-in", func(r *authcode.Request) { r.ACRValues = []string{"mfa"} },
			func(_ *flow, d *authcode.Decision) { d.ACR = "password" }, authcode.ErrSignIn,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t)
			r := request()
			if c.ask != nil {
				c.ask(&r)
			}
			kept, d := f.open(r), f.decision()
			c.decide(f, &d)
			if _, err := f.Allow(t.Context(), kept.ID, d); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := f.Pending(t.Context(), kept.ID); err != nil {
				t.Errorf("the request does not wait any more: %v", err)
			}
			if n := len(f.Events(audit.KindAuthorize)); n != 0 {
				t.Errorf("%d decisions in the ledger", n)
			}
		})
	}
}

func TestSignInsThatAreGoodEnough(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		ask    func(*authcode.Request)
		before time.Duration
	}{
		{"within max_age", func(r *authcode.Request) { r.MaxAge = 60 }, 30 * time.Second},
		{"after the request, whatever max_age", func(r *authcode.Request) { r.MaxAge = 0 }, 0},
		{"anew for prompt=login", func(r *authcode.Request) { r.Prompt = "login" }, 0},
		{"at the edge of max_age", func(r *authcode.Request) { r.MaxAge = 60 }, time.Minute},
		{"by one of several classes", func(r *authcode.Request) { r.ACRValues = []string{"mfa", "gold"} }, time.Minute},
		{"any time", nil, 240 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t)
			r := request()
			if c.ask != nil {
				c.ask(&r)
			}
			kept, d := f.open(r), f.decision()
			d.AuthTime, d.ACR = f.Now().Add(-c.before), "gold"
			if _, err := f.Allow(t.Context(), kept.ID, d); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	kept := f.open(request())
	location, err := f.Refuse(t.Context(), kept.ID, "alice", oauth.AccessDenied)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(location)
	if q := u.Query(); q.Get("error") != "access_denied" || q.Get("iss") != world.Issuer || q.Get("state") != "s 1" || q.Has("code") {
		t.Errorf("location %s", location)
	}
	if _, err := f.Allow(t.Context(), kept.ID, f.decision()); !errors.Is(err, authcode.ErrDecided) {
		t.Errorf("allowed after the refusal: %v", err)
	}
	events := f.Events(audit.KindAuthorize)
	if len(events) != 1 || events[0].Allowed || events[0].Reason != oauth.ReasonDenied {
		t.Errorf("events %+v", events)
	}
}

func TestRequestsEnd(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	kept := f.open(request())
	f.Pass(10*time.Minute + time.Second)
	for _, id := range []string{kept.ID, "a_", "", "a_" + strings.Repeat("x", 22), "r_AAAAAAAAAAAAAAAAAAAAAA", "a_../../../AAAAAAAAAAAAA"} {
		if _, err := f.Allow(t.Context(), id, f.decision()); !errors.Is(err, authcode.ErrNotFound) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// TestOneDecision races approvals and refusals of one request.
func TestOneDecision(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	kept := f.open(request())
	var won sync.Map
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = f.Allow(t.Context(), kept.ID, f.decision())
			} else {
				_, err = f.Refuse(t.Context(), kept.ID, "alice", oauth.AccessDenied)
			}
			if err == nil {
				won.Store(i, true)
			} else if !errors.Is(err, authcode.ErrDecided) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	won.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d decisions", n)
	}
}

func TestClaimsThatAreRefused(t *testing.T) {
	t.Parallel()
	other := strings.Repeat("b", 43)
	for _, c := range []struct {
		name  string
		claim func(*authcode.Claim)
		code  oauth.Code
	}{
		{"no such code", func(c *authcode.Claim) { c.Code = strings.Repeat("A", 44) }, oauth.InvalidGrant},
		{"not a code", func(c *authcode.Claim) { c.Code = "x" }, oauth.InvalidGrant},
		{"another secret", func(c *authcode.Claim) { c.Code = c.Code[:22] + strings.Repeat("A", 22) }, oauth.InvalidGrant},
		{"another client", func(c *authcode.Claim) { c.ClientID = "thief" }, oauth.InvalidGrant},
		{"no verifier", func(c *authcode.Claim) { c.Verifier = "" }, oauth.InvalidGrant},
		{"another verifier", func(c *authcode.Claim) { c.Verifier = other }, oauth.InvalidGrant},
		{"a verifier of 42", func(c *authcode.Claim) { c.Verifier = verifier[:42] }, oauth.InvalidGrant},
		{"a verifier of 129", func(c *authcode.Claim) { c.Verifier = strings.Repeat("a", 129) }, oauth.InvalidGrant},
		{"a verifier with other characters", func(c *authcode.Claim) { c.Verifier = verifier + "$" }, oauth.InvalidGrant},
		{"another redirect URI", func(c *authcode.Claim) { c.RedirectURI = "https://app.test/other" }, oauth.InvalidGrant},
		{"another key", func(c *authcode.Claim) { c.JKT = "k2" }, oauth.InvalidGrant},
		{"no key", func(c *authcode.Claim) { c.JKT = "" }, oauth.InvalidGrant},
		{"another resource", func(c *authcode.Claim) { c.Resources = []string{"https://mail.test/api"} }, oauth.InvalidTarget},
		{"narrowing that fails", func(c *authcode.Claim) {
			c.Narrow = func(r authcode.Request) (authcode.Request, error) { return r, oauth.Refuse(oauth.InvalidScope, "", "") }
		}, oauth.InvalidScope},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t)
			r := request()
			r.JKT = "k1"
			right := claim(f.code(r))
			right.JKT = "k1"
			wrong := right
			c.claim(&wrong)
			if _, err := f.Redeem(t.Context(), wrong); oauth.AsError(err).Code != c.code {
				t.Errorf("got %v, want %s", err, c.code)
			}
			right.RedirectURI, right.Resources = "https://app.test/cb", []string{world.Issuer}
			if _, err := f.Redeem(t.Context(), right); err != nil {
				t.Errorf("the code was burnt by a wrong claim: %v", err)
			}
		})
	}
}

func TestCodesEnd(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	code := f.code(request())
	f.Pass(60 * time.Second)
	if _, err := f.Redeem(t.Context(), claim(code)); oauth.AsError(err).Code != oauth.InvalidGrant {
		t.Errorf("after a minute: %v", err)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		again func(*authcode.Claim)
		ends  bool
	}{
		{"right in every other way", func(*authcode.Claim) {}, true},
		{"by another client", func(c *authcode.Claim) { c.ClientID = "thief" }, false},
		{"with another verifier", func(c *authcode.Claim) { c.Verifier = strings.Repeat("b", 43) }, false},
		{"with another redirect URI", func(c *authcode.Claim) { c.RedirectURI = "https://evil.test" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t)
			code := f.code(request())
			if _, err := f.Redeem(t.Context(), claim(code)); err != nil {
				t.Fatal(err)
			}
			if err := f.Issued(t.Context(), code, "jti-1"); err != nil {
				t.Fatal(err)
			}
			f.Pass(5 * time.Minute) // long after the code itself has ended
			again := claim(code)
			c.again(&again)
			for range 3 {
				if _, err := f.Redeem(t.Context(), again); oauth.AsError(err).Code != oauth.InvalidGrant {
					t.Errorf("got %v", err)
				}
			}
			if want := map[bool][]string{true: {"jti-1"}, false: nil}[c.ends]; !slices.Equal(f.stopped, want) {
				t.Errorf("stopped %v, want %v", f.stopped, want)
			}
		})
	}
}

// TestReplayBeforeIssue: the code comes again while its token is still being made.
func TestReplayBeforeIssue(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	code := f.code(request())
	if _, err := f.Redeem(t.Context(), claim(code)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Redeem(t.Context(), claim(code)); oauth.AsError(err).Code != oauth.InvalidGrant {
		t.Fatalf("got %v", err)
	}
	if err := f.Issued(t.Context(), code, "jti-1"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.stopped, []string{"jti-1"}) {
		t.Errorf("stopped %v", f.stopped)
	}
}

// TestOneRedemption races a hundred redemptions of one code: one wins, and its token is ended since the code was used again.
func TestOneRedemption(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	code := f.code(request())
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 100 {
		all.Go(func() {
			_, err := f.Redeem(t.Context(), claim(code))
			if err != nil {
				if oauth.AsError(err).Code != oauth.InvalidGrant {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			won++
			mu.Unlock()
			if err := f.Issued(t.Context(), code, "jti-1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won != 1 || len(f.stopped) == 0 || slices.ContainsFunc(f.stopped, func(s string) bool { return s != "jti-1" }) {
		t.Errorf("%d won, stopped %v", won, f.stopped)
	}
}

// TestStops: a code is no way around a stop of its user or client, whenever the stop comes.
func TestStops(t *testing.T) {
	t.Parallel()
	for _, target := range []transaction.Target{{Kind: transaction.KindUser, ID: "alice"}, {Kind: transaction.KindClient, ID: "app"}} {
		f := newFlow(t)
		code, late := f.code(request()), f.code(request())
		if _, err := f.Redeem(t.Context(), claim(late)); err != nil {
			t.Fatal(err)
		}
		if err := f.Tx.Stop(t.Context(), target, transaction.Cause{By: "operator"}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Redeem(t.Context(), claim(code)); oauth.AsError(err).Code != oauth.InvalidGrant {
			t.Errorf("%s: a code from before the stop: %v", target.Kind, err)
		}
		if err := f.Issued(t.Context(), late, "jti-1"); oauth.AsError(err).Code != oauth.InvalidGrant || !slices.Equal(f.stopped, []string{"jti-1"}) {
			t.Errorf("%s: a token issued during the stop: %v, stopped %v", target.Kind, err, f.stopped)
		}
		if _, err := f.Redeem(t.Context(), claim(f.code(request()))); err != nil {
			t.Errorf("%s: a code from after the stop: %v", target.Kind, err)
		}
	}
}

func TestPushedRequests(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	push := func() string {
		uri, lifetime, err := f.Push(t.Context(), authcode.Pushed{ClientID: "app", Params: url.Values{"scope": {"x"}}, JKT: "k"})
		if err != nil || lifetime != time.Minute || !authcode.IsPushed(uri) {
			t.Fatal(uri, lifetime, err)
		}
		return uri
	}
	uri := push()
	if _, err := f.Pushed(t.Context(), uri, "thief"); !errors.Is(err, authcode.ErrNotFound) {
		t.Errorf("another client's: %v", err)
	}
	first, second := authcode.Request{}, authcode.Request{}
	for _, r := range []*authcode.Request{&first, &second} { // the page is loaded twice
		p, err := f.Pushed(t.Context(), uri, "app")
		if err != nil || p.Params.Get("scope") != "x" || p.JKT != "k" {
			t.Fatal(p, err)
		}
		if *r, err = f.Open(t.Context(), request(), uri); err != nil {
			t.Fatal(err)
		}
	}
	if first.ID != second.ID || !strings.HasPrefix(first.ID, "a_") {
		t.Errorf("opened as %s and %s", first.ID, second.ID)
	}
	if _, err := f.Allow(t.Context(), first.ID, f.decision()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Pushed(t.Context(), uri, "app"); !errors.Is(err, authcode.ErrDecided) {
		t.Errorf("after the decision: %v", err)
	}
	if _, err := f.Open(t.Context(), request(), uri); !errors.Is(err, authcode.ErrDecided) {
		t.Errorf("opened after the decision: %v", err)
	}
	uri = push()
	f.Pass(time.Minute)
	if _, err := f.Pushed(t.Context(), uri, "app"); !errors.Is(err, authcode.ErrNotFound) {
		t.Errorf("after a minute: %v", err)
	}
	for _, bad := range []string{"", "urn:ietf:params:oauth:request_uri:", "urn:ietf:params:oauth:request_uri:../x", "https://evil.test/r"} {
		if _, err := f.Pushed(t.Context(), bad, "app"); !errors.Is(err, authcode.ErrNotFound) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	kept, code := f.open(request()), f.code(request())
	f.Engine.Down.Store(true)
	_, err1 := f.Open(t.Context(), request(), "")
	_, err2 := f.Allow(t.Context(), kept.ID, f.decision())
	_, err3 := f.Redeem(t.Context(), claim(code))
	_, _, err4 := f.Push(t.Context(), authcode.Pushed{})
	_, err5 := f.Pending(t.Context(), kept.ID)
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if oauth.AsError(err).Code != oauth.TemporarilyUnavailable {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	f.Engine.Down.Store(false)
	if _, err := f.Redeem(t.Context(), claim(code)); err != nil {
		t.Errorf("the code after the store came back: %v", err)
	}
}

// TestLedgerThatDoesNotAnswer: no code leaves without its entry.
func TestLedgerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	kept := f.open(request())
	f.Records.Down.Store(true)
	if location, err := f.Allow(t.Context(), kept.ID, f.decision()); err == nil || location != "" {
		t.Errorf("got %q, %v", location, err)
	}
}

func TestCodesAreNotGuessable(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	a, b := f.code(request()), f.code(request())
	if len(a) != 44 || a[:22] == b[:22] || a[22:] == b[22:] {
		t.Errorf("codes %s and %s", a, b)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := authcode.New(authcode.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// Of two decisions at once the first counts, and the second gives no code.
func TestTwoDecisionsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	kept := f.open(request())
	hook := func(b store.Batch) {
		if len(b.Commits) == 0 {
			return
		}
		f.Engine.Hook.Store(nil)
		if _, err := f.Refuse(t.Context(), kept.ID, "alice", oauth.AccessDenied); err != nil {
			t.Error(err)
		}
	}
	f.Engine.Hook.Store(&hook)
	if location, err := f.Allow(t.Context(), kept.ID, f.decision()); !errors.Is(err, authcode.ErrDecided) || location != "" {
		t.Errorf("%q %v", location, err)
	}
	if events := f.Events(audit.KindAuthorize); len(events) != 1 || events[0].Allowed {
		t.Errorf("%+v", events)
	}
}

// A verifier is of 43 to 128 unreserved characters (RFC 7636 section 4.1), also where the challenge was made of another.
func TestVerifiers(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		strings.Repeat("a", 43): true, strings.Repeat("Z", 128): true, strings.Repeat("a", 39) + "-._~": true,
		strings.Repeat("a", 42): false, strings.Repeat("a", 129): false, strings.Repeat("a", 43) + "$": false, strings.Repeat("a", 43) + "=": false,
		"+" + strings.Repeat("a", 43): false, strings.Repeat("é", 43): false, "": false,
	} {
		f := newFlow(t)
		r, sum := request(), sha256.Sum256([]byte(text))
		r.Challenge = base64.RawURLEncoding.EncodeToString(sum[:])
		c := claim(f.code(r))
		c.Verifier = text
		if _, err := f.Redeem(t.Context(), c); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A code is good for a minute at most, whatever the configuration says.
func TestACodeIsGoodForAMinute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ configured, good time.Duration }{{0, time.Minute}, {time.Minute, time.Minute}, {time.Hour, time.Minute}, {10 * time.Second, 10 * time.Second}} {
		f := newFlow(t)
		var err error
		f.Flow, err = authcode.New(authcode.Config{
			Issuer: world.Issuer, Live: f.Live, Mirror: f.Mirror, Record: f.Recorder.Record, Now: f.Now, Stop: f.Tx.Stop,
			RequestLifetime: 10 * time.Minute, Remember: 10 * time.Minute, CodeLifetime: c.configured,
		})
		if err != nil {
			t.Fatal(err)
		}
		early, late := f.code(request()), f.code(request())
		f.Pass(c.good - time.Second)
		if _, err := f.Redeem(t.Context(), claim(early)); err != nil {
			t.Errorf("%s configured, a second before the end: %v", c.configured, err)
		}
		f.Pass(time.Second)
		if _, err := f.Redeem(t.Context(), claim(late)); oauth.AsError(err).Code != oauth.InvalidGrant {
			t.Errorf("%s configured, at the end: %v", c.configured, err)
		}
	}
}
