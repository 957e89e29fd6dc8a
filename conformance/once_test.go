package conformance_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// together sends n requests at once, each to the next process.
func (c *check) together(n int, request func(i int) call) []answer {
	c.Helper()
	calls := make([]call, n)
	for i := range calls {
		calls[i] = request(i)
	}
	answers, err := c.parallel(c.Context(), calls)
	if err != nil {
		c.Fatal(err)
	}
	for i := range answers {
		c.everyAnswer(calls[i], answers[i])
	}
	return answers
}

// parallel sends requests that are ready, all at the same moment.
func (e *env) parallel(ctx context.Context, calls []call) ([]answer, error) {
	answers, errs := make([]answer, len(calls)), make([]error, len(calls))
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range calls {
		wg.Go(func() {
			<-gate
			answers[i], errs[i] = e.send(ctx, calls[i])
		})
	}
	close(gate)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// tally counts answers by what they say.
func tally(answers []answer) map[string]int {
	counts := map[string]int{}
	for _, a := range answers {
		what := a.str("redemption")
		if what == "" {
			what = a.code()
		}
		if what == "" && a.token() != "" {
			what = "token"
		}
		counts[http.StatusText(a.status)+" "+what]++
	}
	return counts
}

func onceCases() []testCase {
	return []testCase{
		{"OT-01", "of a hundred redemptions one is the first", otOneFirst},
		{"OT-03", "the same redemption a hundred times: one first, the others repeats", otRepeats},
		{"OT-04", "the same id for another request is a mismatch", otMismatch},
		{"OT-05", "another resource server cannot redeem, nor burn", otWrongServer},
		{"OT-06", "who does not authenticate cannot redeem, nor burn", otAnonymous},
		{"OT-07", "an expired token is not redeemed", otExpired},
		{"OT-08", "what is stopped is not redeemed", otStopped},
		{"OT-09", "a stop and a redemption at once have one outcome", otRace},
		{"OT-14", "a lost token answer is asked for again, and paid for once", otLostAnswer},
		{"OT-15", "a name is for one request, one at a time", otOneRequest},
		{"OT-16", "what was redeemed is not issued again", otConsumed},
		{"OT-17", "introspection does not redeem", otIntrospected},
		{"OT-18", "an exchange for a transaction token is a redemption", otExchanged},
		{"OT-19", "a resource that does not redeem gets no such tokens", otSession},
		{"OT-27", "a budget is drawn exactly as often as it allows", otBudget},
		{"OT-28", "the ledger tells the story of a transaction, and receipts verify", otStory},
		{"OT-31", "no cache stands between a redemption and the next", otNoCache},
	}
}

func otOneFirst(c *check) {
	for range 3 {
		token, _ := c.mailToken()
		counts := tally(c.together(100, func(int) call { return c.redeem(c.rs1, token, nonce()).ready() }))
		if counts["OK first"] != 1 || counts["Conflict already_redeemed"] != 99 {
			c.Errorf("%v", counts)
		}
	}
}

func otRepeats(c *check) {
	token, _ := c.mailToken()
	id := nonce()
	answers := c.together(100, func(int) call { return c.redeem(c.rs1, token, id).set("request_hash", "sha-256=:abc=:").ready() })
	if counts := tally(answers); counts["OK first"] != 1 || counts["OK repeat"] != 99 {
		c.Errorf("%v", counts)
	}
	for _, a := range answers {
		if a.str("receipt") == "" || a.str("receipt") != answers[0].str("receipt") || a.num("redeemed_at") != answers[0].num("redeemed_at") {
			c.Fatalf("the answers differ: %s and %s", a.body, answers[0].body)
		}
	}
}

func otMismatch(c *check) {
	token, _ := c.mailToken()
	id := nonce()
	c.ok(c.redeem(c.rs1, token, id).set("request_hash", "sha-256=:one=:").do())
	c.want(c.redeem(c.rs1, token, id).set("request_hash", "sha-256=:two=:").do(), 422, "request_mismatch")
	c.want(c.redeem(c.rs1, token, id).do(), 422, "request_mismatch")
	if a := c.ok(c.redeem(c.rs1, token, id).set("request_hash", "sha-256=:one=:").do()); a.str("redemption") != "repeat" {
		c.Errorf("redemption is %q", a.str("redemption"))
	}
	c.want(c.redeem(c.rs1, token, nonce()).set("request_hash", "sha-256=:one=:").do(), 409, "already_redeemed")
}

func otWrongServer(c *check) {
	token, agent := c.mailToken()
	for _, by := range []*client{c.rs3, nil, agent, c.agent()} {
		c.want(c.redeem(by, token, nonce()).do(), 403, "wrong_audience")
	}
	c.first(c.rs1, token)
}

func otAnonymous(c *check) {
	token, _ := c.mailToken()
	c.want(c.redeem(c.rs1, token, nonce()).anonymous().do(), 401, "invalid_client")
	c.want(c.redeem(c.rs1, token, nonce()).anonymous().set("client_id", "rs1").do(), 401, "invalid_client")
	forged := asserted(url.Values{"token": {token}}, newKey("ES256").sign(obj{"kid": c.rs1.key.kid}, c.rs1.claims(c.issuer)))
	c.want(c.post("/redeem", forged), 401, "invalid_client")
	used := c.rs1.assertion(c.issuer)
	c.ok(c.post("/introspect", asserted(url.Values{"token": {token}}, used)))
	c.want(c.post("/redeem", asserted(url.Values{"token": {token}}, used)), 401, "invalid_client")
	if a := c.get("/redeem?token="+token, 0); a.status != http.StatusMethodNotAllowed {
		c.Errorf("GET: %d", a.status)
	}
	c.want(c.redeem(c.rs1, token, "").set("token").do(), 400, "invalid_request")
	c.want(c.redeem(c.rs1, token, "").set("redemption_id", "a", "b").do(), 400, "invalid_request")
	c.first(c.rs1, token)
}

func otExpired(c *check) {
	x := c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(brief, "brief.read"))
	again := c.ok(x.do()).token()
	id := nonce()
	c.ok(c.redeem(c.rs1, again, id).do())
	token := c.ok(x.do()).token()
	c.outlive(token)
	c.want(c.redeem(c.rs1, token, nonce()).do(), 410, "token_expired")
	if a := c.ok(c.redeem(c.rs1, again, id).do()); a.str("redemption") != "repeat" { // a lost answer is survived
		c.Errorf("redemption is %q", a.str("redemption"))
	}
	c.want(c.redeem(c.rs1, again, nonce()).do(), 409, "already_redeemed")
}

func otStopped(c *check) {
	for what, stop := range map[string]func(c *check, j jwt, agent *client){
		"token":   func(c *check, _ jwt, agent *client) {},
		"consent": func(c *check, j jwt, _ *client) { c.withdraw(j.str("sub"), c.consentOf(j.raw)) },
		"agent":   func(c *check, _ jwt, agent *client) { c.suspended(agent) },
		"user":    func(c *check, j jwt, _ *client) { c.admin(http.MethodPost, "/users/"+j.str("sub")+"/disable", nil) },
	} {
		c.sub(what, func(c *check) {
			b := c.newcomer()
			x := c.te(c.agent(), c.ownToken(b, "mail.read"))
			c.allow(b, x, limits{})
			token := c.ok(x.do()).token()
			if what == "token" {
				c.ok(c.ask("/revoke", x.who, url.Values{"token": {token}}))
			}
			stop(c, c.decode(token), x.who)
			for n := range c.nodes {
				c.want(c.redeem(c.rs1, token, nonce()).node(n+1).do(), 410, "token_revoked")
			}
			if what != "token" {
				if a := x.do(); a.status == http.StatusOK {
					c.Error("and a new one was issued")
				}
			}
		})
	}
}

func otRace(c *check) {
	for range 10 {
		token, agent := c.mailToken()
		j := c.decode(token)
		from := c.lastEvent()
		answers := c.together(2, func(i int) call {
			if i == 0 {
				return c.redeem(c.rs1, token, nonce()).node(1).ready()
			}
			form := asserted(url.Values{"token": {token}}, agent.assertion(c.issuer))
			return call{method: http.MethodPost, path: "/revoke", form: form, node: 2}
		})
		c.ok(answers[1])
		var redeemed, refused bool
		for _, e := range c.events(from, "&txn="+url.QueryEscape(j.str("txn"))) {
			redeemed = redeemed || e.Kind == "redeem" && e.Allowed
			refused = refused || e.Kind == "redeem" && !e.Allowed
		}
		switch first := answers[0]; {
		case first.status == http.StatusOK && redeemed && !refused:
		case first.status == http.StatusGone && refused && !redeemed:
		default:
			c.Errorf("answered %d %s, the ledger says redeemed %v refused %v", first.status, first.body, redeemed, refused)
		}
		if a := c.redeem(c.rs1, token, nonce()).do(); a.status == http.StatusOK {
			c.Error("redeemed after all")
		}
	}
}

// named is a request with a name, under a consent for so many uses.
func (c *check) named(uses int) *exchange {
	c.Helper()
	x := c.te(c.agent(), c.userToken("alice"))
	c.allow(c.person("alice"), x, limits{uses: uses})
	return x.header("Idempotency-Key", `"`+nonce()+`"`)
}

// spent looks whether the consent to a request is used up: the user is asked anew, though not for some seconds after the last token.
func (c *check) spent(when string, x *exchange) {
	c.Helper()
	if a := x.do(); a.status != 400 || a.code() != "access_denied" && a.code() != "interaction_required" {
		c.Errorf("%s: %d %s", when, a.status, a.body)
	}
}

// used is how often a user's only grant to an agent was drawn from.
func (c *check) used(agent string) int64 {
	c.Helper()
	a := c.admin(http.MethodGet, "/grants?user=alice&agent="+url.QueryEscape(agent), nil)
	list, _ := a.json["grants"].([]any)
	if len(list) != 1 {
		c.Fatalf("%s", a.body)
	}
	grant, _ := list[0].(obj)
	return mustNumber(grant["used"])
}

func otLostAnswer(c *check) {
	x := c.named(2)
	first, second := c.ok(x.but().node(1).do()), c.ok(x.but().node(2).do())
	one, two := c.decode(first.token()), c.decode(second.token())
	if one.str("txn") != two.str("txn") || one.str("jti") == two.str("jti") {
		c.Errorf("txn %s and %s, jti %s and %s", one.str("txn"), two.str("txn"), one.str("jti"), two.str("jti"))
	}
	if n := c.used(x.who.id); n != 1 {
		c.Errorf("drawn %d times", n)
	}
	if a := c.redeem(c.rs1, first.token(), nonce()).do(); a.status != http.StatusGone {
		c.Errorf("the token that was replaced: %d %s", a.status, a.body)
	}
	c.first(c.rs1, second.token())
	c.sub("hung up on at any moment", func(c *check) {
		for i := range 12 {
			x := c.named(1)
			ctx, cancel := context.WithTimeout(c.Context(), time.Duration(300+400*i)*time.Microsecond)
			_, _ = c.send(ctx, x.ready())
			cancel()
			c.eventually(time.Minute, "the same exchange, redeemed", func() bool {
				a := c.do(x.ready())
				if a.status != http.StatusOK {
					return false
				}
				used := c.redeem(c.rs1, a.token(), nonce()).do()
				if used.status == http.StatusGone {
					return false // the request that was hung up on came to the server after this one, and its token took the place of this one
				}
				if c.ok(used).str("redemption") != "first" {
					c.Errorf("redemption is %q", used.str("redemption"))
				}
				return true
			})
			if n := c.used(x.who.id); n != 1 {
				c.Errorf("drawn %d times", n)
			}
		}
	})
}

func otOneRequest(c *check) {
	x := c.named(5)
	c.ok(x.do())
	c.want(x.but().set("scope", "").do(), 422, "invalid_request")
	c.want(x.but().set("resource", files).do(), 422, "invalid_request")
	txns := map[string]bool{}
	y := c.named(5)
	for _, a := range c.together(20, func(int) call { return y.ready() }) {
		switch a.status {
		case http.StatusOK:
			txns[a.str("txn")] = true
		case http.StatusConflict:
		default:
			c.Errorf("%d %s", a.status, a.body)
		}
	}
	if len(txns) > 1 || c.used(y.who.id) > 1 {
		c.Errorf("%d transactions, drawn %d times", len(txns), c.used(y.who.id))
	}
}

func otConsumed(c *check) {
	x := c.named(5)
	c.first(c.rs1, c.ok(x.do()).token())
	c.want(x.do(), 400, "transaction_consumed")
	if n := c.used(x.who.id); n != 1 {
		c.Errorf("drawn %d times", n)
	}
}

func otIntrospected(c *check) {
	token, _ := c.mailToken()
	for range 5 {
		if !c.active(c.rs1, token) {
			c.Fatal("inactive by being looked at")
		}
	}
	c.first(c.rs1, token)
	if c.active(c.rs1, token) {
		c.Error("active after it was redeemed")
	}
}

// exchanged is the exchange of a one-transaction token by its resource server, under a name.
func (c *check) exchanged(by *client, token, name string) call {
	r := c.te(by, token).drop("resource", "scope").set("requested_token_type", tokenType+"txn_token").set("audience", trustDomain)
	return r.header("Idempotency-Key", `"`+name+`"`).ready()
}

func otExchanged(c *check) {
	token, agent := c.mailToken()
	c.want(c.do(c.exchanged(c.rs3, token, nonce())), 400, "invalid_request")
	c.want(c.do(c.exchanged(agent, token, nonce())), 400, "invalid_request")
	name := nonce()
	first := c.ok(c.do(c.exchanged(c.rs1, token, name)))
	j, own := c.decode(first.token()), c.decode(token)
	if first.str("token_type") != "N_A" || first.str("issued_token_type") != tokenType+"txn_token" || j.header["typ"] != "txntoken+jwt" {
		c.Errorf("%s %s %v", first.str("token_type"), first.str("issued_token_type"), j.header)
	}
	if j.str("txn") != own.str("txn") || j.str("sub") != "alice" || j.str("aud") != trustDomain || j.str("req_wl") != "rs1" || j.num("exp")-j.num("iat") > tokenLifetime {
		c.Errorf("%s", j.body)
	}
	if again := c.ok(c.do(c.exchanged(c.rs1, token, name))); again.token() != first.token() {
		c.Error("the same name gives another token")
	}
	c.want(c.do(c.exchanged(c.rs1, token, nonce())), 400, "invalid_request")
	c.want(c.redeem(c.rs1, token, nonce()).do(), 409, "already_redeemed")
	c.refusedEverywhere("a transaction token", first.token())
	c.sub("a hundred times at once", func(c *check) {
		token, _ := c.mailToken()
		counts := tally(c.together(100, func(int) call { return c.exchanged(c.rs1, token, nonce()) }))
		if counts["OK token"] != 1 || counts["Bad Request invalid_request"] != 99 {
			c.Errorf("%v", counts)
		}
	})
}

func otSession(c *check) {
	token := c.ok(c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(notes, "notes.read")).do()).token()
	if mode := c.decode(token).claims["txn_mode"]; mode != nil {
		c.Errorf("txn_mode is %v", mode)
	}
	c.want(c.redeem(c.rs1, token, nonce()).do(), 400, "invalid_request")
	if !c.active(c.rs1, token) {
		c.Error("not active")
	}
}

func otBudget(c *check) {
	c.sub("three times", func(c *check) {
		x := c.te(c.agent(), c.userToken("alice"))
		c.allow(c.person("alice"), x, limits{uses: 3})
		for range 3 {
			c.ok(x.do())
		}
		c.spent("the fourth", x)
	})
	c.sub("once, asked a hundred times at once", func(c *check) {
		x := c.te(c.agent(), c.userToken("alice"))
		c.allow(c.person("alice"), x, limits{uses: 1})
		counts := tally(c.together(100, func(int) call { return x.ready() }))
		if counts["OK token"] != 1 || counts["Bad Request access_denied"] != 99 {
			c.Errorf("%v", counts)
		}
		grants := c.admin(http.MethodGet, "/grants?user=alice&agent="+x.who.id, nil)
		list, _ := grants.json["grants"].([]any)
		if g, _ := list[0].(obj); len(list) != 1 || mustNumber(g["used"]) != 1 || mustNumber(g["uses"]) != 1 {
			c.Errorf("%s", grants.body)
		}
	})
}

func otStory(c *check) {
	x := c.baseline()
	from := c.lastEvent()
	a := c.ok(x.do())
	j := c.decode(a.token())
	if a.str("txn") != j.str("txn") || j.str("txn") == "" {
		c.Errorf("txn of the answer %q, of the token %q", a.str("txn"), j.str("txn"))
	}
	id := nonce()
	done := c.ok(c.redeem(c.rs1, a.token(), id).set("request_hash", "sha-256=:xyz=:").do())
	if done.str("txn") != j.str("txn") || done.str("sub") != "alice" || done.json["active"] != true {
		c.Errorf("the redemption says %s", done.body)
	}
	r := c.decode(done.str("receipt"))
	if r.header["typ"] != "txn-receipt+jwt" || r.str("iss") != c.issuer || r.str("aud") != "rs1" || r.str("txn") != j.str("txn") ||
		r.str("redemption_id") != id || r.str("request_hash") != "sha-256=:xyz=:" {
		c.Errorf("the receipt says %v %s", r.header, r.body)
	}
	form := asserted(url.Values{"status": {"committed"}}, c.rs1.assertion(c.issuer))
	if a := c.post("/txn/"+j.str("txn"), form); a.status != http.StatusNoContent {
		c.Errorf("the report: %d %s", a.status, a.body)
	}
	var kinds []string
	for _, e := range c.events(from, "&txn="+url.QueryEscape(j.str("txn"))) {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, []string{"exchange", "redeem", "report"}) {
		c.Errorf("the ledger has %v", kinds)
	}
	if v := c.admin(http.MethodGet, "/audit/verify", nil); v.json["whole"] != true {
		c.Errorf("the ledger does not verify: %s", v.body)
	}
}

func otNoCache(c *check) {
	for range 3 {
		token, _ := c.mailToken()
		for n := range c.nodes { // every process has seen it, as active
			if !c.activeAt(n+1, c.rs1, token) {
				c.Fatal("not active")
			}
		}
		c.ok(c.redeem(c.rs1, token, nonce()).node(1).do())
		answers := c.together(2*len(c.nodes), func(i int) call { return c.redeem(c.rs1, token, nonce()).node(i + 1).ready() })
		if counts := tally(answers); counts["Conflict already_redeemed"] != len(answers) {
			c.Errorf("%v", counts)
		}
	}
}
