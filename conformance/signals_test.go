package conformance_test

import (
	"context"
	"net/http"
	"slices"
	"time"
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
	p := c.apart(nil)
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
	p.eventually(45*time.Second, "taking the event", func() bool { return p.deliver(set).status == http.StatusAccepted })
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
}
