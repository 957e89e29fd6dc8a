package conformance_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"obolus/resource"
)

const (
	caep           = "https://schemas.openid.net/secevent/caep/event-type/"
	risc           = "https://schemas.openid.net/secevent/risc/event-type/"
	sessionRevoked = caep + "session-revoked"
)

func signalCases() []testCase {
	return []testCase{
		{"SSF-01", "a security event is taken from its transmitter, in the one form, once", ssfForm},
		{"SSF-02", "a revoked session ends what was the user's, until the next sign-in", ssfEffect},
		{"SSF-03", "unknown events are acknowledged; without a store nothing is", ssfStore},
		{"SSF-04", "a security event is nothing else", ssfKind},
	}
}

// set is a security event of the foreign issuer about a user of its: a revoked session, with changes to its claims.
func (c *check) set(user string, changes ...obj) string {
	c.Helper()
	set := c.idp.key.sign(obj{"typ": "secevent+jwt"}, merge(c.setClaims(user), changes...))
	c.secret(set, "security event")
	return set
}

func (c *check) setClaims(user string) obj {
	return obj{
		"iss": c.idp.issuer, "aud": c.issuer, "iat": in(0), "jti": nonce(), "sub_id": c.subjectOf(user),
		"events": obj{sessionRevoked: obj{"event_timestamp": in(0), "initiating_entity": "admin"}},
	}
}

func (c *check) subjectOf(user string) obj {
	return obj{"format": "iss_sub", "iss": c.idp.issuer, "sub": user}
}

// pushed is the delivery of a security event, RFC 8935.
func pushed(set string) call {
	return call{
		method: http.MethodPost, path: "/events/receive", body: []byte(set), header: http.Header{"Content-Type": {"application/secevent+jwt"}},
	}
}

// deliver delivers a security event.
func (c *check) deliver(set string) answer {
	c.Helper()
	return c.do(pushed(set))
}

// taken holds an answer to 202 without a body.
func (c *check) taken(what string, a answer) {
	c.Helper()
	if a.status != http.StatusAccepted || len(a.body) != 0 {
		c.Errorf("%s: %d %s, want 202", what, a.status, a.body)
	}
}

// refusedSET holds an answer to 400 with an error of RFC 8935 section 2.4.
func (c *check) refusedSET(what string, a answer, err string) {
	c.Helper()
	if a.status != http.StatusBadRequest || a.str("err") != err || a.str("description") == "" {
		c.Errorf("%s: %d %s, want 400 %s", what, a.status, a.body, err)
	}
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Content-Language") == "" {
		c.Errorf("%s: headers %v", what, a.header)
	}
}

func ssfForm(c *check) {
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	if meta.str("event_receiver_endpoint") != c.issuer+"/events/receive" {
		c.Errorf("the receiver is at %q", meta.str("event_receiver_endpoint"))
	}
	user := c.name("nobody")
	subject := c.subjectOf(user)
	for what, changes := range map[string]obj{
		"as it is": {}, "several audiences": {"aud": []string{"https://other.test", c.issuer}}, "with a txn and a toe": {"txn": "t", "toe": in(-5)},
		"the subject in the event":   {"sub_id": nil, "events": obj{sessionRevoked: obj{"subject": subject}}},
		"a complex subject":          {"sub_id": obj{"format": "complex", "user": subject, "device": obj{"format": "opaque", "id": "d"}}},
		"the subject in both places": {"events": obj{sessionRevoked: obj{"subject": subject}}},
		"account-disabled":           {"events": obj{risc + "account-disabled": obj{"reason": "hijacking"}}},
		"account-purged":             {"events": obj{risc + "account-purged": obj{}}},
		"credential-change":          {"events": obj{caep + "credential-change": obj{"credential_type": "password", "change_type": "update"}}},
	} {
		c.taken(what, c.deliver(c.set(user, changes)))
	}
	other := newKey("ES256")
	foreign := c.idp.issuer
	for what, bad := range map[string]struct{ set, err string }{
		"another issuer":             {c.set(user, obj{"iss": "https://other.test"}), "invalid_issuer"},
		"this server as issuer":      {c.set(user, obj{"iss": c.issuer}), "invalid_issuer"},
		"another audience":           {c.set(user, obj{"aud": "https://other.test"}), "invalid_audience"},
		"no audience":                {c.set(user, obj{"aud": nil}), "invalid_request"},
		"another key":                {other.sign(obj{"typ": "secevent+jwt", "kid": c.idp.key.kid}, c.setClaims(user)), "invalid_key"},
		"a key that is unknown":      {other.sign(obj{"typ": "secevent+jwt"}, c.setClaims(user)), "invalid_key"},
		"no typ":                     {c.idp.key.sign(obj{"typ": nil}, c.setClaims(user)), "invalid_request"},
		"typ JWT":                    {c.idp.key.sign(obj{"typ": "JWT"}, c.setClaims(user)), "invalid_request"},
		"no iat":                     {c.set(user, obj{"iat": nil}), "invalid_request"},
		"from the future":            {c.set(user, obj{"iat": in(300)}), "invalid_request"},
		"no jti":                     {c.set(user, obj{"jti": nil}), "invalid_request"},
		"no events":                  {c.set(user, obj{"events": nil}), "invalid_request"},
		"no subject":                 {c.set(user, obj{"sub_id": nil}), "invalid_request"},
		"two subjects":               {c.set(user, obj{"events": obj{sessionRevoked: obj{"subject": c.subjectOf("other")}}}), "invalid_request"},
		"a user of somebody else":    {c.set(user, obj{"sub_id": obj{"format": "iss_sub", "iss": "https://other.test", "sub": user}}), "invalid_request"},
		"a user without issuer":      {c.set(user, obj{"sub_id": obj{"format": "iss_sub", "sub": user}}), "invalid_request"},
		"more than iss and sub":      {c.set(user, obj{"sub_id": obj{"format": "iss_sub", "iss": foreign, "sub": user, "email": "x@y.test"}}), "invalid_request"},
		"an address, not asked for":  {c.set(user, obj{"sub_id": obj{"format": "email", "email": "x@y.test"}}), "invalid_request"},
		"a session of nobody":        {c.set(user, obj{"sub_id": obj{"format": "complex", "session": obj{"format": "opaque", "id": "s"}}}), "invalid_request"},
		"a time that is none":        {c.set(user, obj{"events": obj{sessionRevoked: obj{"event_timestamp": "now"}}}), "invalid_request"},
		"an unsigned one":            {b64(mustJSON(obj{"alg": "none", "typ": "secevent+jwt"})) + "." + b64(mustJSON(c.setClaims(user))) + ".", "invalid_request"},
		"no token":                   {"x", "invalid_request"},
		"nothing":                    {"", "invalid_request"},
		"a body with something more": {c.set(user) + "\n", "invalid_request"},
	} {
		c.refusedSET(what, c.deliver(bad.set), bad.err)
	}
	for _, kind := range []string{"", "application/jwt", "application/json", "application/secevent+jwt;charset=utf-8", "application/x-www-form-urlencoded"} {
		r := pushed(c.set(user))
		r.header = http.Header{"Content-Type": {kind}}
		c.refusedSET("Content-Type "+kind, c.do(r), "invalid_request")
	}
	if a := c.get("/events/receive", 0); a.status != http.StatusMethodNotAllowed {
		c.Errorf("GET: %d", a.status)
	}
	c.sub("once", func(c *check) {
		user := c.name("nobody")
		before := c.lastEvent()
		set := c.set(user)
		calls := c.together(8, func(i int) call {
			r := pushed(set)
			r.node = i%2 + 1
			return r
		})
		for _, a := range calls {
			if a.status != http.StatusAccepted && a.status != http.StatusServiceUnavailable {
				c.Errorf("at once: %d %s", a.status, a.body)
			}
		}
		c.taken("again", c.deliver(set))
		events := c.events(before, "&kind=security_event")
		events = slices.DeleteFunc(events, func(e event) bool { return e.User != user })
		if len(events) != 1 || events[0].By != "transmitter "+c.idp.issuer || events[0].JTI == "" || !events[0].Allowed {
			c.Errorf("the ledger has it so: %+v", events)
		}
	})
}

func ssfEffect(c *check) {
	alice, bob := c.newcomer(), c.newcomer()
	own := c.ownToken(alice, "mail.read")
	agent := c.agent()
	x := c.te(agent, own)
	c.allow(alice, x, limits{})
	foreign := c.foreign(agent, c.idp.token(c.env, alice.user, "mail.read"))
	y := c.te(agent, c.ownToken(bob, "mail.read"))
	c.allow(bob, y, limits{})
	outstanding, byForeign, bobs := c.ok(x.do()).token(), c.ok(foreign.do()).token(), c.ok(y.do()).token()
	if p := c.open(alice, "/agents"); p.status != http.StatusOK || len(p.moves) != 0 {
		c.Fatalf("not signed in before: %d", p.status)
	}
	c.taken("the event", c.deliver(c.set(alice.user)))

	for what, tok := range map[string]string{"by the user's own token": outstanding, "by a token of the issuer": byForeign} {
		c.dead(c.rs1, tok, what)
		c.want(c.redeem(c.rs1, tok, nonce()).do(), 410, "token_revoked")
	}
	for n := range c.nodes {
		p := c.browse(alice, call{method: http.MethodGet, path: "/agents", node: n + 1}, nil)
		if len(p.moves) == 0 {
			c.Errorf("process %d: the session goes on: %d", n+1, p.status)
		}
		c.want(x.but().node(n+1).do(), 400, "invalid_request")                        // its subject token was stopped
		c.want(foreign.but().node(n+1).do(), 400, "insufficient_user_authentication") // what the user allowed waits for a sign-in
	}
	c.first(c.rs1, bobs)
	c.ok(y.do())

	// The next sign-in: what was allowed counts again.
	time.Sleep(1100 * time.Millisecond)
	c.signIn(alice)
	c.first(c.rs1, c.ok(c.te(agent, c.ownToken(alice, "mail.read")).do()).token())
	again := c.idp.token(c.env, alice.user, "mail.read", obj{"auth_time": in(0)})
	c.first(c.rs1, c.ok(c.foreign(agent, again).do()).token())
	c.want(foreign.do(), 400, "insufficient_user_authentication")

	// An event of the time before comes late: what began after it goes on.
	c.taken("a late event", c.deliver(c.set(alice.user, obj{"events": obj{sessionRevoked: obj{"event_timestamp": in(-7200)}}})))
	if p := c.open(alice, "/agents"); len(p.moves) != 0 {
		c.Error("a late event ended a session from after it")
	}
	c.first(c.rs1, c.ok(c.te(agent, c.ownToken(alice, "mail.read")).do()).token())
}

func ssfStore(c *check) {
	p := c.apart(hasty)
	alice := p.newcomer()
	x := p.te(p.agent(), p.ownToken(alice, "mail.read"))
	p.allow(alice, x, limits{})
	token := p.ok(x.do()).token()
	p.taken("an event that is not known", p.deliver(p.set(alice.user, obj{"events": obj{"https://example.test/event": obj{"a": 1}}})))
	p.taken("a verification", p.deliver(p.set(alice.user, obj{
		"sub_id": obj{"format": "opaque", "id": "stream"}, "events": obj{"https://schemas.openid.net/secevent/ssf/event-type/verification": obj{"state": "s"}},
	})))
	if !p.active(p.rs1, token) {
		p.Error("an event that is not known ended something")
	}
	set := p.set(alice.user)
	if p.redis == nil {
		p.nodes[0].kill()
		if a, err := p.send(context.WithoutCancel(p.Context()), pushed(set)); err == nil {
			p.Errorf("without a process: %d", a.status)
		}
		p.restart(0)
	} else {
		p.redis.pause()
		p.unavailable("an event", p.deliver(set))
		p.redis.resume()
	}
	p.eventually(time.Minute, "taking the event", func() bool { return p.deliver(set).status == http.StatusAccepted })
	p.dead(p.rs1, token, "the event")
	if page := p.open(alice, "/agents"); len(page.moves) == 0 {
		p.Error("the session goes on")
	}
}

func ssfKind(c *check) {
	user := c.name("nobody")
	for what, claims := range map[string]obj{
		"of the issuer":            {},
		"with the claims of a JWT": {"sub": user, "exp": in(60), "scope": "mail.read", "client_id": "app"},
	} {
		c.refusedEverywhere("a security event "+what, c.set(user, claims))
	}
	claims := merge(c.idp.claims(c.env, user, "mail.read"), c.setClaims(user))
	mail, _ := c.mailToken()
	for what, set := range map[string]string{
		"a JWT of the issuer with events": c.idp.key.sign(obj{"typ": "JWT"}, claims),
		"an ID token with events":         c.idp.key.sign(obj{"typ": nil}, claims),
		"an access token of its own":      c.idp.key.sign(obj{"typ": "at+jwt"}, claims),
		"a logout token":                  c.idp.key.sign(obj{"typ": "logout+jwt"}, claims),
		"a client assertion":              c.rs1.assertion(c.issuer),
		"one of our tokens":               mail,
	} {
		if a := c.deliver(set); a.status != http.StatusBadRequest || a.str("err") == "" {
			c.Errorf("%s passes for an event: %d %s", what, a.status, a.body)
		}
	}
	c.first(c.rs1, mail)
	c.sub("and so is one of ours", ssfStream)
}

// following is a resource server with a guard that follows the stops of notes at one process, until the case ends.
func (c *check) following(node int) http.Handler {
	c.Helper()
	guard, err := resource.New(resource.Config{
		Issuer: c.issuer, Resource: notes, Client: resource.PrivateKey("rs1", c.rs1.key.signer), Stops: resource.StopsFollowed,
		HTTP: &http.Client{Transport: through{c.env, node}},
	})
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.Context())
	ended := make(chan error, 1)
	go func() { ended <- guard.Follow(ctx) }()
	c.Cleanup(func() {
		cancel()
		<-ended
	})
	c.eventually(time.Minute, "following", func() bool { return guard.Ready(ctx) == nil })
	return guard.Require(resource.Rule{Scopes: []string{"notes.read"}})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	}))
}

// asksNotes is how the guard answers a token.
func asksNotes(guard http.Handler, token string) int { return answerOf(guard, token).Code }

func answerOf(guard http.Handler, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, notes+"/1", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	guard.ServeHTTP(w, r)
	return w
}

// rvFollowed stops session tokens through one process; a guard that verifies them offline follows at the other.
func rvFollowed(c *check) {
	guard := c.following(2)
	bystander := c.newcomer()
	y := c.te(c.agent(), c.ownToken(bystander, "notes.read")).at(notes, "notes.read")
	c.allow(bystander, y, limits{})
	others := c.ok(y.do()).token()
	at1 := func(path string, body obj) {
		c.Helper()
		a := c.do(call{
			method: http.MethodPost, path: "/admin/v1" + path, body: mustJSON(body), node: 1,
			header: http.Header{"Authorization": {"Bearer " + c.operator}, "Content-Type": {"application/json"}},
		})
		if a.status >= http.StatusBadRequest {
			c.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	limit := soon
	if raceEnabled {
		limit = 5 * soon // four installations at once, each ten times as slow
	}
	stop := func(kind, id string) { at1("/stops", obj{"kind": kind, "id": id, "why": "conformance"}) }
	var times []time.Duration
	for what, end := range map[string]func(agent *client, user string, j jwt){
		"user":            func(_ *client, user string, _ jwt) { stop("user", user) },
		"agent":           func(agent *client, _ string, _ jwt) { at1("/agents/"+agent.id+"/suspend", obj{"why": "conformance"}) },
		"transaction":     func(_ *client, _ string, j jwt) { stop("txn", j.str("txn")) },
		"token by its id": func(_ *client, _ string, j jwt) { stop("token", j.str("jti")) },
		"token, revoked": func(agent *client, _ string, j jwt) {
			c.ok(c.do(call{method: http.MethodPost, path: "/revoke", node: 1, form: asserted(url.Values{"token": {j.raw}}, agent.assertion(c.issuer))}))
		},
		"grant": func(_ *client, user string, j jwt) {
			at1("/grants/"+c.consentOf(j.raw)+"/withdraw?user="+url.QueryEscape(user), obj{"why": "conformance"})
		},
		"the user's own token": func(_ *client, _ string, j jwt) {
			ctx, _ := j.claims["tctx"].(obj)
			stop("token", fmt.Sprint(ctx["source"]))
		},
		"security event": func(_ *client, user string, _ jwt) {
			r := pushed(c.set(user))
			r.node = 1
			c.taken("the event", c.do(r))
		},
	} {
		user := c.newcomer()
		agent := c.agent()
		x := c.te(agent, c.ownToken(user, "notes.read")).at(notes, "notes.read")
		c.allow(user, x, limits{})
		token := c.ok(x.do()).token()
		j := c.decode(token)
		if status := asksNotes(guard, token); status != http.StatusOK {
			c.Fatalf("%s: %d before the stop", what, status)
		}
		end(agent, user.user, j)
		began := time.Now()
		c.eventually(time.Minute, what+" refused by the guard", func() bool { return asksNotes(guard, token) == http.StatusUnauthorized })
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	if usual := times[len(times)/2]; usual > limit { // some may meet a moment in which the machine stands still
		c.Errorf("half of the stops took more than %s to reach the guard: %s", limit, times)
	}
	if status := asksNotes(guard, others); status != http.StatusOK {
		c.Errorf("somebody else's token: %d", status)
	}
	c.Logf("a stop through one process reached the guard at the other within %s", times)
}

// rvIssuer stops an issuer, with all that came of its tokens.
func rvIssuer(c *check) {
	p := c.apart(nil)
	alice := p.person("alice")
	x := p.foreign(p.agent(), p.idp.token(p.env, "alice", "mail.read"))
	p.allow(alice, x, limits{})
	own := p.te(x.who, p.ownToken(alice, "mail.read"))
	token, other := p.ok(x.do()).token(), p.ok(own.do()).token()
	p.stop("issuer", p.idp.issuer)
	p.dead(p.rs1, token, "its issuer")
	p.want(p.redeem(p.rs1, token, nonce()).do(), 410, "token_revoked")
	p.first(p.rs1, other)
}

// ssfStream is the stream itself: who may follow it, and what it says.
func ssfStream(c *check) {
	for what, header := range map[string]http.Header{
		"nobody": {}, "an operator": {"Authorization": {"Bearer " + c.operator}}, "a wrong secret": basic("rs2", "wrong-"+nonce()),
	} {
		a := c.do(call{method: http.MethodGet, path: "/events?resource=" + url.QueryEscape(files), header: header})
		if a.status != http.StatusUnauthorized {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	for _, uri := range []string{mail, "https://nowhere.test"} { // that of another, and none
		c.want(c.do(call{method: http.MethodGet, path: "/events?resource=" + url.QueryEscape(uri), header: basic("rs2", rs2Secret)}), 400, "invalid_target")
	}
	user := c.newcomer()
	x := c.te(c.agent(), c.ownToken(user, "mail.read")) // at mail, which is of no concern to files
	c.allow(user, x, limits{})
	c.ok(x.do())
	req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, c.issuer+"/events?resource="+url.QueryEscape(files), nil)
	if err != nil {
		c.Fatal(err)
	}
	req.Header = basic("rs2", rs2Secret)
	c.route(req, 2)
	res, err := wire.RoundTrip(req)
	if err != nil {
		c.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		c.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	agent := c.agent()
	c.stop("user", user.user)
	c.suspended(agent)
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		set, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		j := c.decode(set)
		subject, _ := j.claims["sub_id"].(obj)
		if j.header["typ"] != "secevent+jwt" || j.str("iss") != c.issuer || j.str("aud") != files || j.str("jti") == "" {
			c.Errorf("told %v %v", j.header, j.claims)
		}
		if who, ok := subject["user"].(obj); ok && who["sub"] == user.user {
			c.Error("files is told of a user who never had a token there")
		}
		if app, ok := subject["application"].(obj); ok && app["sub"] == agent.id {
			c.refusedEverywhere("a security event of ours", set)
			c.refusedSET("one of ours, sent back", c.deliver(set), "invalid_issuer")
			return
		}
	}
	c.Error("the stream ended before the stop was told")
}
