package conformance_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// rounds is how often a torture is repeated: so many by default, or as OBOLUS_TEST_ROUNDS says.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	said := os.Getenv("OBOLUS_TEST_ROUNDS")
	if said == "" {
		return usual
	}
	n, err := strconv.Atoi(said)
	if err != nil || n < 1 {
		t.Fatalf("OBOLUS_TEST_ROUNDS is %q", said)
	}
	return n
}

// TestOneFirst redeems each token a hundred times at once, through two processes that share a PostgreSQL and a Redis: exactly one
// of the hundred is the first, in every round.
func TestOneFirst(t *testing.T) {
	c := &check{t, postgresRedis(t).start(t, nil)}
	x := c.foreign(c.agent(), c.idp.token(c.env, "alice", "files.read")).at(files, "files.read")
	c.allow(c.person("alice"), x, limits{})
	usual := 50
	if raceEnabled {
		usual = 25
	}
	for round := range rounds(t, usual) {
		token := c.ok(x.but().set("subject_token", c.idp.token(c.env, "alice", "files.read")).do()).token()
		counts := tally(c.together(100, func(int) call { return c.redeem(nil, token, nonce()).ready() }))
		if counts["OK first"] != 1 || counts["Conflict already_redeemed"] != 99 {
			t.Fatalf("round %d: %v", round, counts)
		}
	}
}

// TestKill9 kills the server, by kill -9, at random moments of its work, and starts it again: no token that was spent or stopped
// comes back, and no grant, stop or draw that was acknowledged is lost.
func TestKill9(t *testing.T) {
	t.Run("bolt+memory", func(t *testing.T) { killing(t, boltMemory()) })
	t.Run("postgres+redis", func(t *testing.T) { killing(t, postgresRedis(t)) })
}

func killing(t *testing.T, s shape) {
	t.Helper()
	c := &check{t, s.start(t, nil)}
	usual := 10
	if raceEnabled {
		usual = 5
	}
	for range rounds(t, usual) {
		w := c.work()
		w.during(func() {
			time.Sleep(someTime(250 * time.Millisecond))
			c.nodes[0].kill()
		})
		c.restart(0)
		w.judge()
		if t.Failed() {
			return
		}
	}
}

// work is what a server is killed in the middle of, and what it said of it before.
type work struct {
	c *check

	decisions map[string]call    // agent → the decision that allows it
	waiting   map[string]*client // the agents of decisions
	spend     map[string]string  // redemption id → token
	stop      map[string]*client // token → its agent
	revoke    map[string]*client // token → its agent
	budget    *exchange          // under a consent for uses times
	uses      int

	mu       sync.Mutex
	allowed  []string          // agents whose decision was acknowledged
	spent    map[string]string // redemption id → token, acknowledged
	stopped  []string          // tokens of agents whose suspension was acknowledged
	revoked  []string          // tokens whose revocation was acknowledged
	obtained int               // tokens issued under the budget
}

// lasting is a request that depends on nothing that a restart ends.
func (c *check) lasting(agent *client, scope string) *exchange {
	return c.foreign(agent, c.idp.token(c.env, "alice", scope)).set("scope", scope)
}

func (c *check) work() *work {
	c.Helper()
	w := &work{
		c: c, decisions: map[string]call{}, waiting: map[string]*client{}, spend: map[string]string{}, stop: map[string]*client{},
		revoke: map[string]*client{}, spent: map[string]string{}, uses: 12,
	}
	alice := c.person("alice")
	for range 4 {
		agent := c.agent()
		p := c.visit(alice, c.asks(c.lasting(agent, "mail.read")))
		r := p.request(limits{}.on(c, p.decision()), "allow")
		r.header = http.Header{"Cookie": {alice.header()}, "Sec-Fetch-Site": {"same-origin"}}
		w.decisions[agent.id], w.waiting[agent.id] = r, agent
	}
	many := c.lasting(c.agent(), "mail.read")
	c.allow(alice, many, limits{})
	for range 8 {
		w.spend[nonce()] = c.ok(many.do()).token()
		w.revoke[c.ok(many.do()).token()] = many.who
	}
	for range 3 {
		x := c.lasting(c.agent(), "mail.read")
		c.allow(alice, x, limits{})
		w.stop[c.ok(x.do()).token()] = x.who
	}
	w.budget = c.lasting(c.agent(), "mail.read")
	c.allow(alice, w.budget, limits{uses: w.uses})
	return w
}

// during does all of it at once, and what breaks something in between.
func (w *work) during(fault func()) {
	c := w.c
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for agent, r := range w.decisions {
			if a, err := c.send(ctx, r); err == nil && a.status == http.StatusSeeOther {
				w.note(func() { w.allowed = append(w.allowed, agent) })
			}
		}
	})
	wg.Go(func() {
		for id, token := range w.spend {
			if a, err := c.send(ctx, c.redeem(c.rs1, token, id).ready()); err == nil && a.str("redemption") == "first" {
				w.note(func() { w.spent[id] = token })
			}
		}
	})
	wg.Go(func() {
		for token, agent := range w.revoke {
			form := asserted(url.Values{"token": {token}}, agent.assertion(c.issuer))
			if a, err := c.send(ctx, call{method: http.MethodPost, path: "/revoke", form: form}); err == nil && a.status == http.StatusOK {
				w.note(func() { w.revoked = append(w.revoked, token) })
			}
		}
	})
	wg.Go(func() {
		for token, agent := range w.stop {
			r := call{
				method: http.MethodPost, path: "/admin/v1/agents/" + agent.id + "/suspend", header: http.Header{"Authorization": {"Bearer " + c.operator}},
			}
			if a, err := c.send(ctx, r); err == nil && a.status == http.StatusOK {
				w.note(func() { w.stopped = append(w.stopped, token) })
			}
		}
	})
	wg.Go(func() {
		for range w.uses - 2 {
			if a, err := c.send(ctx, w.budget.ready()); err == nil && a.token() != "" {
				w.note(func() { w.obtained++ })
			}
		}
	})
	fault()
	wg.Wait()
}

func (w *work) note(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
}

// someTime is a random moment.
func someTime(most time.Duration) time.Duration {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw)
	return time.Duration(binary.LittleEndian.Uint64(raw) % uint64(most))
}

// judge holds the server that was started again to what it had said.
func (w *work) judge() {
	c := w.c
	c.Helper()
	for id, token := range w.spend {
		_, acknowledged := w.spent[id]
		same := c.redeem(c.rs1, token, id).do()
		other := c.redeem(c.rs1, token, nonce()).do()
		if other.status == http.StatusOK {
			c.Errorf("a token is redeemed after it was (acknowledged: %v, the same again: %d %s)", acknowledged, same.status, same.body)
		}
		if acknowledged && same.status == http.StatusOK && same.str("redemption") != "repeat" {
			c.Errorf("a redemption that was acknowledged is %q when repeated", same.str("redemption"))
		}
	}
	for _, token := range append(w.stopped, w.revoked...) {
		if a := c.redeem(c.rs1, token, nonce()).do(); a.status != http.StatusGone {
			c.Errorf("a token that was stopped: %d %s", a.status, a.body)
		}
	}
	for token, agent := range w.stop {
		state := c.admin(http.MethodGet, "/agents/"+agent.id, nil).str("state")
		for _, t := range w.stopped {
			if t == token && state != "suspended" {
				c.Errorf("an agent that was suspended is %s", state)
			}
		}
	}
	for _, agent := range w.allowed {
		a := c.lasting(w.waiting[agent], "mail.read").do()
		if a.status != http.StatusOK {
			c.Errorf("a consent that was acknowledged: %d %s", a.status, a.body)
		}
	}
	w.judgeBudget()
}

func (w *work) judgeBudget() {
	c := w.c
	c.Helper()
	grants := c.admin(http.MethodGet, "/grants?user=alice&agent="+w.budget.who.id, nil)
	list, _ := grants.json["grants"].([]any)
	if len(list) != 1 {
		c.Fatalf("%s", grants.body)
	}
	grant, _ := list[0].(obj)
	used := int(mustNumber(grant["used"]))
	if used < w.obtained || used > w.uses {
		c.Errorf("%d tokens were issued, the ledger of the grant says %d of %d", w.obtained, used, w.uses)
	}
	more := 0
	for range w.uses + 2 {
		a := w.budget.but().set("subject_token", c.idp.token(c.env, "alice", "mail.read")).do()
		if a.status != http.StatusOK {
			break
		}
		more++
	}
	if used+more != w.uses {
		c.Errorf("%d were drawn, %d more could be, of %d", used, more, w.uses)
	}
	if v := c.admin(http.MethodGet, "/audit/verify", nil); v.json["whole"] != true {
		c.Errorf("the ledger does not verify: %s", v.body)
	}
}
