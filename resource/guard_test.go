package resource_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/oauth"
	"obolus/resource"
	"obolus/token"
)

var send = resource.Rule{Scopes: []string{"mail.send"}}

// The checks of the token alone: each case differs from a good request in one thing. Nothing of it burns a token.
func TestTokenIsCheckedOffline(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	stranger := newIssuer(t)
	g := is.guard()
	handler := g.Require(send)(new(effects))
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"a session token":           {is.token(), http.StatusOK},
		"a one-transaction token":   {is.token(once), http.StatusOK},
		"several audiences":         {is.token(func(c *token.Claims) { c.Audience = token.Audience{"https://x.test", api} }), http.StatusOK},
		"another audience":          {is.token(func(c *token.Claims) { c.Audience = token.Audience{"https://rs2.test"} }), http.StatusUnauthorized},
		"a prefix of the audience":  {is.token(func(c *token.Claims) { c.Audience = token.Audience{api + "/"} }), http.StatusUnauthorized},
		"audience in another case":  {is.token(func(c *token.Claims) { c.Audience = token.Audience{"HTTP://127.0.0.1:9/mail"} }), http.StatusUnauthorized},
		"expired":                   {is.token(func(c *token.Claims) { c.IssuedAt, c.NotBefore, c.Expires = now-90, now-90, now-1 }), http.StatusUnauthorized},
		"from the future":           {is.token(func(c *token.Claims) { c.IssuedAt, c.NotBefore, c.Expires = now+30, now+30, now+90 }), http.StatusUnauthorized},
		"of another issuer":         {stranger.token(func(c *token.Claims) { c.Issuer = stranger.server.URL }), http.StatusUnauthorized},
		"an unknown mode":           {is.token(func(c *token.Claims) { c.TxnMode = "local" }), http.StatusUnauthorized},
		"redeem without txn":        {is.token(once, func(c *token.Claims) { c.Txn = "" }), http.StatusUnauthorized},
		"bound to a certificate":    {is.token(func(c *token.Claims) { c.Confirm = &token.Confirmation{X5T: "x"} }), http.StatusUnauthorized},
		"bound to nothing":          {is.token(func(c *token.Claims) { c.Confirm = &token.Confirmation{} }), http.StatusUnauthorized},
		"an actor without sub":      {is.token(func(c *token.Claims) { c.Act = &token.Actor{Issuer: "x"} }), http.StatusUnauthorized},
		"details without type":      {is.token(details(`[{}]`)), http.StatusUnauthorized},
		"payload changed":           {mutate(is.token(), 1, func(m map[string]any) { m["sub"] = "mallory" }), http.StatusUnauthorized},
		"mode taken out":            {mutate(is.token(once), 1, func(m map[string]any) { delete(m, "txn_mode") }), http.StatusUnauthorized},
		"alg none":                  {mutate(is.token(), 0, func(m map[string]any) { m["alg"] = "none" }), http.StatusUnauthorized},
		"typ JWT":                   {mutate(is.token(), 0, func(m map[string]any) { m["typ"] = "JWT" }), http.StatusUnauthorized},
		"crit that is not known":    {mutate(is.token(), 0, func(m map[string]any) { m["crit"] = []string{"x"} }), http.StatusUnauthorized},
		"kid that is not known":     {mutate(is.token(), 0, func(m map[string]any) { m["kid"] = "x" }), http.StatusUnauthorized},
		"no JWT":                    {"abc", http.StatusUnauthorized},
		"a token that is too large": {strings.Repeat("a", 17<<10), http.StatusUnauthorized},
		"characters of no token":    {"a,b", http.StatusBadRequest},
		"nothing after Bearer":      {" ", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			w := do(handler, request("POST", "/mail/send", `{}`, c.token))
			if w.Code != c.status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if c.status == http.StatusUnauthorized && !strings.Contains(challenge(w), `Bearer error="invalid_token"`) {
				t.Errorf("challenge %q", challenge(w))
			}
		})
	}
	if n := is.calls.Load(); n != 1 {
		t.Errorf("%d redemptions, want that of the one good token", n)
	}
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard()
	handler := g.Require(resource.Rule{Scopes: []string{"mail.send", "mail.admin"}})(new(effects))
	const meta = `resource_metadata="http://127.0.0.1:9/.well-known/oauth-protected-resource/mail"`

	w := do(handler, request("POST", "/mail/send", "", ""))
	if w.Code != http.StatusUnauthorized || strings.Contains(challenge(w), "error") {
		t.Errorf("without a token: %d %q", w.Code, challenge(w))
	}
	for _, want := range []string{`Bearer scope="mail.send mail.admin", ` + meta, "DPoP scope=", `algs="ES256 EdDSA PS256 RS256"`} {
		if !strings.Contains(challenge(w), want) {
			t.Errorf("challenge %q lacks %q", challenge(w), want)
		}
	}

	w = do(handler, request("POST", "/mail/send", "", is.token(once)))
	want := `Bearer error="insufficient_scope", error_description="the token lacks a scope that this request needs", scope="mail.send mail.admin", ` + meta
	if w.Code != http.StatusForbidden || challenge(w) != want {
		t.Errorf("beyond the scope: %d %q, want %q", w.Code, challenge(w), want)
	}
	if is.calls.Load() != 0 {
		t.Error("a request beyond the scope burnt the token")
	}

	strict := is.guard(func(c *resource.Config) { c.RequireDPoP = true }).Require(send)(new(effects))
	w = do(strict, request("POST", "/mail/send", "", is.token()))
	if w.Code != http.StatusUnauthorized || !strings.HasPrefix(challenge(w), `DPoP error="invalid_token"`) || strings.Contains(challenge(w), "Bearer") {
		t.Errorf("an unbound token where bound ones are demanded: %d %q", w.Code, challenge(w))
	}
	w = do(strict, request("POST", "/mail/send", "", ""))
	if w.Code != http.StatusUnauthorized || strings.Contains(challenge(w), "Bearer") {
		t.Errorf("no token where bound ones are demanded: %d %q", w.Code, challenge(w))
	}
}

func TestWhereATokenMayStand(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	handler := is.guard().Require(send)(new(effects))
	for name, c := range map[string]struct {
		change func(r *http.Request)
		status int
	}{
		"one header":             {func(*http.Request) {}, http.StatusOK},
		"scheme in another case": {func(r *http.Request) { r.Header.Set("Authorization", "bEaReR "+is.token()) }, http.StatusOK},
		"two headers":            {func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+is.token()) }, http.StatusBadRequest},
		"two schemes":            {func(r *http.Request) { r.Header.Add("Authorization", "DPoP "+is.token()) }, http.StatusBadRequest},
		"joined by a comma": {func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+is.token()+", DPoP "+is.token())
		}, http.StatusBadRequest},
		"in the query too":          {func(r *http.Request) { r.URL.RawQuery = "access_token=x" }, http.StatusBadRequest},
		"in the query, in disguise": {func(r *http.Request) { r.URL.RawQuery = "access%5Ftoken=x" }, http.StatusBadRequest},
		"only in the query": {func(r *http.Request) {
			r.URL.RawQuery = "access_token=" + is.token()
			r.Header.Del("Authorization")
		}, http.StatusBadRequest},
		"Basic": {func(r *http.Request) { r.SetBasicAuth("alice", "secret") }, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("POST", "/mail/send", "{}", is.token())
			c.change(r)
			if w := do(handler, r); w.Code != c.status {
				t.Errorf("status %d, want %d", w.Code, c.status)
			}
		})
	}
}

func TestHandlerLearnsWhoCalls(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	outer := token.Nest(token.Actor{Issuer: is.server.URL, Subject: "agent-b"}, &token.Actor{Issuer: is.server.URL, Subject: "agent-a", Profile: "ai_agent"})
	compact := is.token(once, details(`[{"type":"payment","locations":["x"],"amount":{"value":"5"}}]`), func(c *token.Claims) { c.Act = &outer })
	var got *resource.Caller
	var body string
	handler := is.guard().Require(resource.Rule{Scopes: []string{"mail.send"}, Details: func(r *http.Request, granted []resource.Detail) error {
		if data, err := io.ReadAll(r.Body); err != nil || string(data) != `{"a": 1}` {
			t.Errorf("the check read %q, %v", data, err)
		}
		var payment struct{ Amount struct{ Value string } }
		if err := granted[0].Into(&payment); err != nil || payment.Amount.Value != "5" || granted[0].Type != "payment" {
			t.Errorf("granted %+v, %v", granted, err)
		}
		return nil
	}})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = resource.CallerFrom(r.Context())
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		if len(r.Header["Authorization"]) > 0 || len(r.Header["Dpop"]) > 0 {
			t.Error("the handler sees the credential")
		}
	}))
	r := request("POST", "/mail/send", `{"a": 1}`, compact)
	if w := do(handler, r); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	if len(r.Header["Authorization"]) != 1 {
		t.Error("the guard changed the headers of the request above it")
	}
	if got.User != "alice" || got.Agent != "agent-b" || len(got.Chain) != 2 || got.Chain[1].Subject != "agent-a" || got.Client != "agent-a" ||
		!got.OneTransaction || got.Txn == "" || got.ACR != "urn:acr:mfa" || got.AuthTime.IsZero() || len(got.Scopes) != 2 || got.Token() != compact {
		t.Errorf("caller %+v", got)
	}
	if got.Receipt() != "receipt of "+got.Txn {
		t.Errorf("receipt %q", got.Receipt())
	}
	if body != `{"a": 1}` {
		t.Errorf("the handler read %q", body)
	}
	if resource.CallerFrom(t.Context()) != nil {
		t.Error("a caller out of nothing")
	}
}

func TestScopesAndUsers(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(func(c *resource.Config) {
		c.Includes = map[string][]string{"mail": {"mail.all"}, "mail.all": {"mail.send", "mail.read"}, "loop": {"loop"}}
	})
	scope := func(s string) func(*token.Claims) { return func(c *token.Claims) { c.Scope = s } }
	for name, c := range map[string]struct {
		rule   resource.Rule
		token  string
		status int
		says   string
	}{
		"the scope itself":             {send, is.token(scope("mail.send")), http.StatusOK, ""},
		"a broader scope":              {send, is.token(scope("mail.all")), http.StatusOK, ""},
		"a broader one of the broader": {send, is.token(scope("mail")), http.StatusOK, ""},
		"a narrower one":               {resource.Rule{Scopes: []string{"mail.all"}}, is.token(scope("mail.send")), http.StatusForbidden, "insufficient_scope"},
		"a prefix":                     {send, is.token(scope("mail.sen")), http.StatusForbidden, "insufficient_scope"},
		"no scope":                     {send, is.token(scope("")), http.StatusForbidden, "insufficient_scope"},
		"a circle":                     {send, is.token(scope("loop")), http.StatusForbidden, "insufficient_scope"},
		"one of two":                   {resource.Rule{Scopes: []string{"mail.send", "x"}}, is.token(), http.StatusForbidden, `scope="mail.send x"`},
		"signed in lately":             {resource.Rule{MaxAge: 10 * time.Minute}, is.token(), http.StatusOK, ""},
		"signed in long ago":           {resource.Rule{MaxAge: time.Minute}, is.token(), http.StatusUnauthorized, `error="insufficient_user_authentication"`},
		"long ago, said how much":      {resource.Rule{MaxAge: time.Minute}, is.token(), http.StatusUnauthorized, `max_age="60"`},
		"nobody knows when":            {resource.Rule{MaxAge: time.Hour}, is.token(func(c *token.Claims) { c.AuthTime = 0 }), http.StatusUnauthorized, "max_age"},
		"strong enough":                {resource.Rule{ACR: []string{"x", "urn:acr:mfa"}}, is.token(), http.StatusOK, ""},
		"too weak":                     {resource.Rule{ACR: []string{"urn:acr:hw"}}, is.token(), http.StatusUnauthorized, `acr_values="urn:acr:hw"`},
		"a session token for once":     {resource.Rule{OneTransaction: true}, is.token(), http.StatusUnauthorized, "invalid_token"},
		"one transaction":              {resource.Rule{OneTransaction: true}, is.token(once), http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := do(g.Require(c.rule)(new(effects)), request("POST", "/mail/send", "", c.token))
			if w.Code != c.status || !strings.Contains(challenge(w), c.says) {
				t.Errorf("%d %q, want %d and %q", w.Code, challenge(w), c.status, c.says)
			}
		})
	}
}

// What the rule's functions refuse is refused before the token is spent, and the same token does for the request that was allowed.
func TestRequestIsHeldAgainstDetails(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	effect := new(effects)
	rule := resource.Rule{Scopes: []string{"mail.send"}, Details: func(r *http.Request, granted []resource.Detail) error {
		if data, _ := io.ReadAll(r.Body); string(data) != `{"to":"bob"}` {
			return resource.NoDetail("only bob")
		}
		return nil
	}}
	handler := is.guard().Require(rule)(effect)
	compact := is.token(once, details(`[{"type":"mail","to":"bob"}]`))
	for range 2 {
		if w := do(handler, request("POST", "/mail/send", `{"to":"eve"}`, compact)); w.Code != http.StatusForbidden || !strings.Contains(challenge(w), "insufficient_scope") {
			t.Errorf("another request: %d %q", w.Code, challenge(w))
		}
	}
	if is.calls.Load() != 0 || effect.Load() != 0 {
		t.Fatalf("%d redemptions, %d effects", is.calls.Load(), effect.Load())
	}
	if w := do(handler, request("POST", "/mail/send", `{"to":"bob"}`, compact)); w.Code != http.StatusOK || effect.Load() != 1 {
		t.Errorf("the request that was allowed: %d, %d effects", w.Code, effect.Load())
	}

	if w := do(is.guard().Require(send)(effect), request("POST", "/mail/send", `{}`, is.token(details(`[{"type":"mail"}]`)))); w.Code != http.StatusForbidden {
		t.Errorf("details that nobody looks at: %d", w.Code)
	}
	ignoring := resource.Rule{Scopes: []string{"mail.send"}, Details: resource.AnyDetails}
	if w := do(is.guard().Require(ignoring)(effect), request("POST", "/mail/send", `{}`, is.token(details(`[{"type":"mail"}]`)))); w.Code != http.StatusOK {
		t.Errorf("details that are ignored aloud: %d", w.Code)
	}
}

func TestRuleFunctions(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	boom := errors.New("boom: secret")
	fails := func(err error) func(*http.Request, *resource.Caller) error {
		return func(*http.Request, *resource.Caller) error { return err }
	}
	for name, c := range map[string]struct {
		rule   resource.Rule
		status int
	}{
		"a check passes":      {resource.Rule{Check: fails(nil)}, http.StatusOK},
		"a check fails":       {resource.Rule{Check: fails(boom)}, http.StatusForbidden},
		"with its own status": {resource.Rule{Check: fails(&oauth.Error{Code: oauth.InvalidRequest, HTTPStatus: http.StatusNotFound, Description: "no such mail"})}, http.StatusNotFound},
		"it was cancelled":    {resource.Rule{Check: fails(context.DeadlineExceeded)}, http.StatusServiceUnavailable},
		"the digest fails":    {resource.Rule{Digest: func(*http.Request) ([]byte, error) { return nil, boom }}, http.StatusForbidden},
		"refined":             {resource.Rule{Refine: func(*http.Request) (resource.Rule, error) { return resource.Rule{Scopes: []string{"mail.read"}}, nil }}, http.StatusOK},
		"refined to more": {resource.Rule{Refine: func(*http.Request) (resource.Rule, error) {
			return resource.Rule{Scopes: []string{"mail.admin"}}, nil
		}}, http.StatusForbidden},
		"refined by a check": {resource.Rule{Check: fails(nil), Refine: func(*http.Request) (resource.Rule, error) {
			return resource.Rule{Check: fails(boom)}, nil
		}}, http.StatusForbidden},
		"cannot be refined": {resource.Rule{Refine: func(*http.Request) (resource.Rule, error) { return resource.Rule{}, boom }}, http.StatusForbidden},
		"without end":       {endless(), http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := do(is.guard().Require(c.rule)(new(effects)), request("POST", "/mail/send", "{}", is.token(once)))
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if strings.Contains(w.Body.String()+challenge(w), "secret") {
				t.Errorf("the answer tells the cause: %s %s", w.Body, challenge(w))
			}
		})
	}
}

func endless() resource.Rule {
	return resource.Rule{Refine: func(*http.Request) (resource.Rule, error) { return endless(), nil }}
}

// One transaction pays for one thing that every parser reads alike.
// ACT-15: who acts is judged apart from what they may do, and before.
func TestWhoActs(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	only := func(subject string) func([]resource.Actor) error {
		return func(actors []resource.Actor) error {
			if len(actors) == 0 {
				return resource.WrongActor("an agent must act")
			}
			if actors[0].Subject != subject {
				return errors.New("not this one")
			}
			actors[0].Subject = "changed"
			return nil
		}
	}
	deep := resource.Rule{Chain: only("agent-a"), Refine: func(*http.Request) (resource.Rule, error) { return resource.Rule{Chain: only("agent-b")}, nil }}
	for name, c := range map[string]struct {
		rule   resource.Rule
		token  string
		status int
	}{
		"who may":             {resource.Rule{Chain: only("agent-a")}, is.token(once), http.StatusOK},
		"another":             {resource.Rule{Chain: only("agent-b")}, is.token(once), http.StatusForbidden},
		"nobody":              {resource.Rule{Chain: only("agent-a")}, is.token(once, func(c *token.Claims) { c.Act = nil }), http.StatusForbidden},
		"another, and scopes": {resource.Rule{Chain: only("agent-b"), Scopes: []string{"mail.burn"}}, is.token(once), http.StatusForbidden},
		"both rules":          {deep, is.token(once), http.StatusForbidden},
		"by its refinement": {resource.Rule{Refine: func(*http.Request) (resource.Rule, error) {
			return resource.Rule{Chain: only("agent-b")}, nil
		}}, is.token(once), http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			effect := new(effects)
			handler := is.guard().Require(c.rule)(effect)
			w := do(handler, request("POST", "/mail/send", "{}", c.token))
			if w.Code != c.status || (effect.Load() == 1) != (c.status == http.StatusOK) {
				t.Errorf("%d %s, %d effects", w.Code, w.Body, effect.Load())
			}
			if w.Code != http.StatusForbidden {
				return
			}
			if got := challenge(w); !strings.Contains(got, `error="actor_unauthorized"`) || strings.Contains(got, "insufficient_scope") {
				t.Errorf("challenge %s", got)
			}
			if w := do(is.guard().Require(send)(effect), request("POST", "/mail/send", "{}", c.token)); w.Code != http.StatusOK {
				t.Errorf("the refusal burnt the token: %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestBodiesUnderAOneTransactionToken(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(func(c *resource.Config) { c.MaxBody = 64 })
	handler := g.Require(send)(new(effects))
	for name, c := range map[string]struct {
		method, kind, body string
		change             func(r *http.Request)
		rule               *resource.Rule
		status             int
	}{
		"an object":                  {body: `{"a":1}`, status: http.StatusOK},
		"nothing":                    {status: http.StatusOK},
		"a batch":                    {body: `[{"a":1},{"a":2}]`, status: http.StatusBadRequest},
		"a batch of one":             {body: ` [{"a":1}]`, status: http.StatusBadRequest},
		"a batch behind a mark":      {body: "\xef\xbb\xbf[1]", status: http.StatusBadRequest},
		"a batch as text":            {kind: "text/plain", body: `[{"a":1}]`, status: http.StatusBadRequest},
		"a batch without a type":     {kind: "-", body: `[{"a":1}]`, status: http.StatusBadRequest},
		"a batch that is compressed": {kind: "text/plain", body: "\x1f\x8b", change: func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, status: http.StatusUnsupportedMediaType},
		"an array that is one thing": {body: `[1,2]`, rule: &resource.Rule{Arrays: true}, status: http.StatusOK},
		"a name twice":               {body: `{"a":1,"a":2}`, status: http.StatusBadRequest},
		"two documents":              {body: `{"a":1}{"a":2}`, status: http.StatusBadRequest},
		"JSON that is cut off":       {body: `{"a":1`, status: http.StatusBadRequest},
		"JSON of another type":       {kind: "application/x+json; charset=utf-8", body: `{"a":1,"a":1}`, status: http.StatusBadRequest},
		"JSON that is too large":     {body: `{"a":"` + strings.Repeat("x", 64) + `"}`, status: http.StatusRequestEntityTooLarge},
		"a file that is large":       {kind: "image/png", body: strings.Repeat("x", 1000), status: http.StatusOK},
		"HEAD":                       {method: "HEAD", status: http.StatusBadRequest},
		"OPTIONS":                    {method: "OPTIONS", status: http.StatusBadRequest},
		"early data":                 {change: func(r *http.Request) { r.Header.Set("Early-Data", "1") }, status: http.StatusTooEarly},
	} {
		t.Run(name, func(t *testing.T) {
			method := c.method
			if method == "" {
				method = "POST"
			}
			r := request(method, "/mail/send", c.body, is.token(once))
			switch c.kind {
			case "":
			case "-":
				r.Header.Del("Content-Type")
			default:
				r.Header.Set("Content-Type", c.kind)
			}
			if c.change != nil {
				c.change(r)
			}
			h := handler
			if c.rule != nil {
				h = g.Require(*c.rule)(new(effects))
			}
			calls := is.calls.Load()
			w := do(h, r)
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if burnt := is.calls.Load() != calls; burnt != (c.status == http.StatusOK) {
				t.Errorf("redeemed: %v", burnt)
			}
		})
	}

	long := strings.Repeat("x", 1000)
	r := request("PUT", "/mail/send", long, is.token(once))
	r.Header.Set("Content-Type", "image/png")
	do(g.Require(resource.Rule{Check: func(r *http.Request, _ *resource.Caller) error {
		if data, err := io.ReadAll(r.Body); !errors.Is(err, resource.ErrBodyTooLarge) || len(data) == 0 {
			t.Errorf("the check read %d bytes, %v", len(data), err)
		}
		return nil
	}})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if data, err := io.ReadAll(r.Body); err != nil || string(data) != long {
			t.Errorf("the handler read %d bytes, %v", len(data), err)
		}
	})), r)
}

// OT-02: however many replicas and copies there are, one gets through.
func TestOneOfAHundred(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	effect := new(effects)
	replicas := []http.Handler{is.guard().Require(send)(effect), is.guard().Require(send)(effect)}
	compact := is.token(once, bound(key))
	var ok, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		r := prove(t, request("POST", "/mail/send", "{}", ""), key, compact)
		wg.Go(func() {
			switch w := do(replicas[i%2], r); {
			case w.Code == http.StatusOK:
				ok.Add(1)
			case w.Code == http.StatusUnauthorized && strings.Contains(challenge(w), `DPoP error="invalid_token"`):
				refused.Add(1)
			default:
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 || refused.Load() != 99 || effect.Load() != 1 {
		t.Errorf("%d got through, %d were refused, %d effects", ok.Load(), refused.Load(), effect.Load())
	}
}

// Keys rotate while a hundred callers go on: a new key is published before it signs, an old one stays until its tokens are over.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	is.now = func() time.Time { return time.Unix(0, clock.Load()) }
	handler := is.guard().Require(send)(new(effects))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 100 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if w := do(handler, request("GET", "/mail/send", "", is.token())); w.Code != http.StatusOK {
					t.Errorf("%d %s", w.Code, w.Body)
					return
				}
				served.Add(1)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	for range 12 {
		next := testKey(t)
		is.mu.Lock()
		is.published = append(is.published, next.Public())
		is.mu.Unlock()
		clock.Add(int64(3 * time.Second))
		is.mu.Lock()
		is.signing = next
		if len(is.published) > 20 {
			is.published = is.published[1:]
		}
		is.mu.Unlock()
		// More are served than were under way: some of them by the new key.
		for enough, late := served.Load()+150, time.Now().Add(time.Minute); served.Load() < enough && !t.Failed(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(late) {
				t.Error("the callers do not go on")
			}
		}
	}
	close(stop)
	wg.Wait()
	if served.Load() < 1000 || is.keyCalls.Load() < 8 || is.keyCalls.Load() > 40 {
		t.Errorf("%d requests, keys fetched %d times", served.Load(), is.keyCalls.Load())
	}
}

func TestConfigurationThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*resource.Config){
		"no issuer":               func(c *resource.Config) { c.Issuer = "" },
		"issuer without TLS":      func(c *resource.Config) { c.Issuer = "http://as.example.com" },
		"issuer with a query":     func(c *resource.Config) { c.Issuer = "https://as.example.com?x" },
		"issuer at an address":    func(c *resource.Config) { c.Issuer = "http://10.0.0.1" },
		"issuer like localhost":   func(c *resource.Config) { c.Issuer = "http://localhost.example.com" },
		"issuer like 127.0.0.1":   func(c *resource.Config) { c.Issuer = "http://127.0.0.1.example.com" },
		"issuer with a user":      func(c *resource.Config) { c.Issuer = "https://a@as.example.com" },
		"issuer of nothing":       func(c *resource.Config) { c.Issuer = "https:///x" },
		"external with fragment":  func(c *resource.Config) { c.External = "https://x.test/#a" },
		"external over ftp":       func(c *resource.Config) { c.External = "ftp://x.test" },
		"external of nothing":     func(c *resource.Config) { c.External = "https:///x" },
		"stops of no kind":        func(c *resource.Config) { c.Stops, c.Client = -1, resource.Secret("mail", "secret") },
		"no resource":             func(c *resource.Config) { c.Resource = "" },
		"relative resource":       func(c *resource.Config) { c.Resource = "/mail" },
		"resource with fragment":  func(c *resource.Config) { c.Resource = "https://x.test/#a" },
		"external without scheme": func(c *resource.Config) { c.External = "x.test" },
		"a name and no URL":       func(c *resource.Config) { c.Resource = "urn:example:mail" },
		"too much leeway":         func(c *resource.Config) { c.Leeway = time.Minute },
		"short nonce key":         func(c *resource.Config) { c.NonceKey = []byte("short") },
		"offline_access":          func(c *resource.Config) { c.Profile.Scopes = []string{"offline_access"} },
		"no secret":               func(c *resource.Config) { c.Client = resource.Secret("mail", "") },
		"no client id":            func(c *resource.Config) { c.Client = resource.Secret("", "x") },
		"no key":                  func(c *resource.Config) { c.Client = resource.PrivateKey("mail", nil) },
		"a key that is none":      func(c *resource.Config) { c.Client = resource.PrivateKeyPEM("mail", []byte("x")) },
	} {
		cfg := resource.Config{Issuer: "https://as.example.com", Resource: "https://mail.example.com"}
		if _, err := resource.New(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if _, err := resource.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(func(c *resource.Config) {
		c.Profile = resource.Profile{Name: "Mail", Scopes: []string{"mail.send"}, DetailsTypes: []string{"mail"}}
	})
	if g.ProtectedResourcePath() != "/.well-known/oauth-protected-resource/mail" {
		t.Errorf("path %q", g.ProtectedResourcePath())
	}
	w := do(g.ProtectedResource(), httptest.NewRequest(http.MethodGet, g.ProtectedResourcePath(), nil))
	for _, want := range []string{
		`"resource":"` + api + `"`, `"authorization_servers":["` + is.server.URL + `"]`, `"bearer_methods_supported":["header"]`, `"scopes_supported":["mail.send"]`,
		`"authorization_details_types_supported":["mail"]`, `"dpop_bound_access_tokens_required":false`, `"dpop_signing_alg_values_supported":["ES256"`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s lacks %s", w.Body, want)
		}
	}
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := do(g.ProtectedResource(), httptest.NewRequest(http.MethodPost, "/", nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
