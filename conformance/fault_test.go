package conformance_test

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"obolus/store/storetest/servers"
)

func faultCases() []testCase {
	return []testCase{
		{"OT-10", "without the live store nothing is issued, redeemed or told", otStoreDown},
		{"OT-11", "a store that has forgotten revives nothing", otForgotten},
		{"OT-12", "a failover that lost the last write revives nothing", otFailover},
		{"OT-13", "a store that is full issues nothing and revives nothing", otFull},
		{"NEG-125", "an answer of the live store that is lost after it did its work can be asked for again", negLostAnswer},
		{"OT-24", "a region of its own, which shares no live store, accepts nothing that was accepted elsewhere", otRegions},
		{"OT-25", "a crash between a redemption and its answer is survived", otCrash},
	}
}

// unavailable holds an answer to 503, in time.
func (c *check) unavailable(what string, a answer) {
	c.Helper()
	if a.status != http.StatusServiceUnavailable || a.token() != "" || a.header.Get("Retry-After") == "" {
		c.Errorf("%s: %d %s %s", what, a.status, a.code(), a.body)
	}
	if a.took > 20*time.Second {
		c.Errorf("%s took %s", what, a.took)
	}
}

func otStoreDown(c *check) {
	p := c.apart(hasty)
	x := p.baseline()
	x = p.baselineAgain(x)
	token := p.ok(x.do()).token()
	if p.redis == nil {
		// The live store is in the process. With the process it is gone, and another one knows nothing of its tokens.
		p.nodes[0].kill()
		if _, err := p.send(p.Context(), p.redeem(p.rs1, token, nonce()).ready()); err == nil {
			p.Error("somebody answers")
		}
		p.restart(0)
		p.want(p.redeem(p.rs1, token, nonce()).do(), 410, "stale_epoch")
		return
	}
	for name, fault := range map[string]struct{ down, up func() }{
		"hanging": {p.redis.pause, p.redis.resume}, "gone": {p.redis.kill, p.redis.restart},
	} {
		p.sub(name, func(c *check) {
			token := c.ok(x.on(c).do()).token()
			fault.down()
			var wg sync.WaitGroup
			for what, r := range map[string]call{
				"exchange": x.on(c).ready(), "redemption": c.redeem(c.rs1, token, nonce()).ready(), "exchange with proof": x.on(c).proof(newKey("ES256")).ready(),
				"introspection": {method: http.MethodPost, path: "/introspect", form: asserted(url.Values{"token": {token}}, c.rs1.assertion(c.issuer))},
				"revocation":    {method: http.MethodPost, path: "/revoke", form: asserted(url.Values{"token": {token}}, x.who.assertion(c.issuer))},
				"pushed request": {method: http.MethodPost, path: "/par", form: url.Values{
					"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {redirect}, "scope": {"mail.read"},
					"code_challenge": {s256(nonce())}, "code_challenge_method": {"S256"},
				}},
			} {
				wg.Go(func() {
					a, err := c.send(context.WithoutCancel(c.Context()), r)
					if err != nil {
						c.Errorf("%s: %v", what, err)
						return
					}
					c.unavailable(what, a)
				})
			}
			wg.Wait()
			fault.up()
			c.recovers(x.on(c))
			again := c.redeem(c.rs1, token, nonce()).do()
			switch name {
			case "hanging": // nothing was lost, and nothing was redeemed
				if again.status != http.StatusOK && again.status != http.StatusConflict {
					c.Errorf("after it hung: %d %s", again.status, again.body)
				}
			default:
				if again.status != http.StatusGone {
					c.Errorf("after it was gone: %d %s", again.status, again.body)
				}
			}
		})
	}
}

// recovers waits until the server works again, without a restart.
func (c *check) recovers(x *exchange) {
	c.Helper()
	c.eventually(time.Minute, "an exchange", func() bool {
		for n := range c.nodes {
			a, err := c.send(c.Context(), x.but().node(n+1).ready())
			if err != nil || a.status != http.StatusOK {
				return false
			}
		}
		return true
	})
}

// restart starts a process again that has ended.
func (c *check) restart(i int) {
	c.Helper()
	if err := c.nodes[i].start(); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

func otForgotten(c *check) {
	p := c.apart(nil)
	x := p.baseline()
	outstanding, redeemed := p.ok(x.do()).token(), p.ok(x.do()).token()
	stopped := p.ok(x.do()).token()
	id := nonce()
	p.ok(p.redeem(p.rs1, redeemed, id).do())
	named := p.baselineAgain(x).header("Idempotency-Key", `"`+nonce()+`"`)
	p.ok(named.do())
	p.ok(p.ask("/revoke", x.who, url.Values{"token": {stopped}}))
	guard, user := p.following(1), p.newcomer()
	y := p.te(p.agent(), p.ownToken(user, "notes.read")).at(notes, "notes.read")
	p.allow(user, y, limits{})
	session := p.ok(y.do()).token()
	if status := asksNotes(guard, session); status != http.StatusOK {
		p.Fatalf("a session token: %d", status)
	}
	if p.redis == nil {
		p.nodes[0].kill()
		p.restart(0)
	} else {
		p.redis.tell(p.T, "FLUSHALL")
		p.settle()
		p.recovers(p.baselineAgain(x))
	}
	for what, tok := range map[string]string{"outstanding": outstanding, "redeemed": redeemed, "stopped": stopped} {
		for n := range p.nodes {
			if a := p.redeem(p.rs1, tok, nonce()).node(n + 1).do(); a.status != http.StatusGone && a.status != http.StatusConflict {
				p.Errorf("%s: %d %s", what, a.status, a.body)
			}
			if p.activeAt(n+1, p.rs1, tok) {
				p.Errorf("%s: active", what)
			}
		}
	}
	if a := p.redeem(p.rs1, redeemed, id).do(); a.status == http.StatusOK && a.str("redemption") != "repeat" {
		p.Errorf("the redeemed one: %s", a.body)
	}
	p.want(named.do(), 400, "transaction_indeterminate")
	p.eventually(time.Minute, "a session token refused by a guard that follows", func() bool {
		w := answerOf(guard, session)
		return w.Code == http.StatusUnauthorized && strings.Contains(w.Body.String(), "stopped")
	})
	p.recovers(p.baselineAgain(x))
	p.first(p.rs1, p.ok(p.baselineAgain(x).do()).token())
}

// baselineAgain is the same request with a subject token that an epoch has not ended.
func (c *check) baselineAgain(x *exchange) *exchange {
	c.Helper()
	return x.but().set("subject_token", c.idp.token(c.env, "alice", "mail.read")).set("subject_token_type", jwtType)
}

func otFull(c *check) {
	if c.redis == nil {
		// In the process there is no limit but the machine's; what holds here is that tokens do not pile up: see store/memory.
		token, _ := c.mailToken()
		c.first(c.rs1, token)
		return
	}
	p := c.apart(nil)
	x := p.baseline()
	outstanding, redeemed := p.ok(x.do()).token(), p.ok(x.do()).token()
	id := nonce()
	p.ok(p.redeem(p.rs1, redeemed, id).do())
	p.redis.tell(p.T, "CONFIG SET maxmemory 1")
	p.unavailable("an exchange", x.do())
	p.unavailable("a redemption", p.redeem(p.rs1, outstanding, nonce()).do())
	p.unavailable("a second redemption", p.redeem(p.rs1, redeemed, nonce()).do())
	p.redis.tell(p.T, "CONFIG SET maxmemory 0")
	p.recovers(x)
	p.first(p.rs1, outstanding)
	p.want(p.redeem(p.rs1, redeemed, nonce()).do(), 409, "already_redeemed")
}

// otRegions has a second region beside the first: the same issuer, the same signing keys where records can be shared, another live store. There is no
// forwarding between regions; a region that cannot know whether a token was spent refuses it.
func otRegions(c *check) {
	p := c.apart(nil)
	tokens := make([]string, 6)
	for i := range tokens {
		tokens[i], _ = p.mailToken()
	}
	p.first(p.rs1, tokens[0])
	addr := loopback(servers.FreePort(p.T))
	dir := p.TempDir()
	env := []string{"OBOLUS_LISTEN=" + addr, "OBOLUS_DATA=" + dir, "OBOLUS_LIVE=memory:"}
	if p.redis == nil {
		env = append(env, "OBOLUS_RECORDS=bolt:"+filepath.Join(dir, "records.db")) // which one process has at a time
	}
	far := &node{base: "http://" + addr, addr: addr, log: filepath.Join(dir, "far.log"), args: p.nodes[0].args, env: env}
	if err := far.start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(far.end)
	p.nodes = append(p.nodes, far)
	p.settle()
	for i, token := range tokens {
		firsts := 0
		for _, a := range p.together(12, func(n int) call { return p.redeem(p.rs1, token, nonce()).node(1 + n%len(p.nodes)).ready() }) {
			switch {
			case a.status == http.StatusOK:
				firsts++
			case a.status == http.StatusInternalServerError || a.status < http.StatusBadRequest:
				p.Errorf("%d %s", a.status, a.body)
			}
		}
		if firsts > 1 || i == 0 && firsts > 0 {
			p.Errorf("token %d was accepted %d times", i, firsts)
		}
	}
}

func otCrash(c *check) {
	p := c.apart(nil)
	x := p.foreign(p.agent(), p.idp.token(p.env, "alice", "mail.read"))
	p.allow(p.person("alice"), x, limits{})
	for i := range 4 {
		token := p.ok(p.baselineAgain(x).do()).token()
		id := nonce()
		r := p.redeem(p.rs1, token, id).set("request_hash", "sha-256=:abc=:").node(1).ready()
		answered := make(chan answer, 1)
		go func() {
			a, err := p.send(context.WithoutCancel(p.Context()), r)
			if err != nil {
				a = answer{}
			}
			answered <- a
		}()
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		p.nodes[0].kill()
		before := <-answered
		p.restart(0)
		after := p.redeem(p.rs1, token, id).set("request_hash", "sha-256=:abc=:").do()
		switch {
		case p.redis == nil: // with the process its memory is gone: nothing counts any more
			p.want(after, 410, "stale_epoch")
		case before.status == http.StatusOK && after.str("redemption") != "repeat":
			p.Errorf("it was answered, and then: %d %s", after.status, after.body)
		case after.status != http.StatusOK:
			p.Errorf("the same redemption again: %d %s", after.status, after.body)
		default:
			p.want(p.redeem(p.rs1, token, nonce()).do(), 409, "already_redeemed")
		}
	}
}

func negLostAnswer(c *check) {
	if c.redis == nil {
		// The live store is in the process, which cannot lose its answer; what can be lost is the answer to the resource server.
		token, _ := c.mailToken()
		id := nonce()
		ctx, cancel := context.WithTimeout(c.Context(), 3*time.Millisecond)
		defer cancel()
		_, _ = c.send(ctx, c.redeem(c.rs1, token, id).ready())
		c.eventually(time.Minute, "the redemption", func() bool { return c.redeem(c.rs1, token, id).do().status == http.StatusOK })
		c.want(c.redeem(c.rs1, token, nonce()).do(), 409, "already_redeemed")
		return
	}
	var between *lossy
	p := c.apart(func(o *options) {
		between = before(c.T, o.redis.masters[0].Addr)
		o.live = "redis://" + between.addr + "?read_timeout=2s"
	})
	x := p.named(5)
	between.lose("}t/e") // the record of a token, where a transaction begins
	p.unavailable("an exchange", x.do())
	if between.heal() == 0 {
		p.Fatal("no answer was lost")
	}
	issued := p.ok(x.do())
	again := p.ok(x.do())
	if issued.str("txn") != again.str("txn") || p.decode(issued.token()).str("jti") == p.decode(again.token()).str("jti") {
		p.Errorf("%s and %s", issued.body, again.body)
	}
	if n := p.used(x.who.id); n != 1 {
		p.Errorf("drawn %d times", n)
	}
	p.want(p.redeem(p.rs1, issued.token(), nonce()).do(), 410, "token_superseded")
	id := nonce()
	between.lose("}r/") // the record of a claim
	p.unavailable("a redemption", p.redeem(p.rs1, again.token(), id).do())
	if between.heal() == 0 {
		p.Fatal("no answer was lost")
	}
	if a := p.ok(p.redeem(p.rs1, again.token(), id).do()); a.str("redemption") != "repeat" {
		p.Errorf("redemption is %q", a.str("redemption"))
	}
	p.want(p.redeem(p.rs1, again.token(), nonce()).do(), 409, "already_redeemed")
	p.want(x.do(), 400, "transaction_consumed")
}
