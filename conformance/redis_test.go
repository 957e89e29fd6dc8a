package conformance_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/store/storetest/servers"
)

// fleet is the Redis of an installation: the masters and the replicas that it began with.
type fleet struct{ masters, replicas []*servers.RedisServer }

// patient has the server wait for a Redis that is only slow, as all are at times on a busy machine.
const patient = "dial_timeout=10s&read_timeout=10s&write_timeout=10s&pool_timeout=10s"

// hasty is for cases in which Redis does not answer.
func hasty(o *options) { o.live = strings.Replace(o.live, patient, "read_timeout=2s", 1) }

// one is a single server.
func one(t *testing.T) (string, *fleet) {
	t.Helper()
	redis := servers.StartRedis(t)
	return redis.URL + "?" + patient, &fleet{masters: []*servers.RedisServer{redis}}
}

// watched is a master and a replica under a Sentinel.
func watched(t *testing.T) (string, *fleet) {
	t.Helper()
	master := servers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := master.Replica()
	return master.Sentinel() + "&" + patient, &fleet{[]*servers.RedisServer{master}, []*servers.RedisServer{replica}}
}

// spread is a Cluster of three masters, each with a replica.
func spread(t *testing.T) (string, *fleet) {
	t.Helper()
	url, nodes := servers.Cluster(t, 3, 1)
	return url + "?" + patient, &fleet{nodes[:3], nodes[3:]}
}

// casesOfRedis are those in which it matters what kind of Redis holds the live data.
func casesOfRedis() []testCase {
	return slices.DeleteFunc(cases(), func(tc testCase) bool {
		return !slices.Contains([]string{
			"OT-01", "OT-03", "OT-04", "OT-05", "OT-06", "OT-07", "OT-08", "OT-09", "OT-10", "OT-11", "OT-12", "OT-13", "OT-14", "OT-15", "OT-16", "OT-17",
			"OT-18", "OT-25", "OT-27", "OT-31", "RV-02", "RV-05", "RV-06", "RV-07", "RV-08", "RV-09",
		}, tc.id)
	})
}

func (f *fleet) each(do func(*servers.RedisServer)) {
	for _, s := range slices.Concat(f.masters, f.replicas) {
		do(s)
	}
}

func (f *fleet) pause()   { f.each((*servers.RedisServer).Pause) }
func (f *fleet) resume()  { f.each((*servers.RedisServer).Resume) }
func (f *fleet) kill()    { f.each((*servers.RedisServer).Kill) }
func (f *fleet) restart() { f.each((*servers.RedisServer).Restart) }

// tell sends a command to every master, which must agree.
func (f *fleet) tell(t *testing.T, command string) {
	t.Helper()
	for _, s := range f.masters {
		if answer := s.Say(command); !strings.HasPrefix(answer, "+OK") {
			t.Fatalf("%s: %q", command, answer)
		}
	}
}

// lag makes what is written from now on be lost when the fleet fails: it is in no replica, and in no snapshot.
func (f *fleet) lag(t *testing.T) {
	t.Helper()
	if len(f.replicas) == 0 {
		f.tell(t, "SAVE")
		return
	}
	for _, s := range f.replicas {
		s.Pause()
	}
	for _, s := range f.masters {
		if answer := s.Say("CLIENT KILL TYPE replica"); answer != ":1\r\n" { // what is on its way would arrive
			t.Fatalf("the replica is not cut off: %q", answer)
		}
	}
}

// fail kills the first master. Who takes its place, or itself when it is started again, knows nothing of what was written since lag.
func (f *fleet) fail() (heir *servers.RedisServer) {
	f.masters[0].Kill()
	if len(f.replicas) == 0 {
		f.masters[0].Restart()
		return f.masters[0]
	}
	for _, s := range f.replicas {
		s.Resume()
	}
	f.replicas[0].TakeOver()
	return f.replicas[0]
}

// holds says how many records of a transaction a server has: keys have the random part of its name in them.
func holds(t *testing.T, s *servers.RedisServer, txn string) int {
	t.Helper()
	count, _, _ := strings.Cut(s.Say("KEYS *"+strings.TrimPrefix(txn, "txn_")+"*"), "\r\n")
	n, err := strconv.Atoi(strings.TrimPrefix(count, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// heldBy issues a token under a name until the record of one is on the first master.
func (c *check) heldBy(s *servers.RedisServer, x *exchange) (*exchange, answer) {
	c.Helper()
	for range 50 {
		named := x.but().header("Idempotency-Key", `"`+nonce()+`"`)
		if a := c.ok(named.do()); holds(c.T, s, a.str("txn")) > 0 {
			return named, a
		}
	}
	c.Fatal("the first master holds no token")
	return nil, answer{}
}

func otFailover(c *check) {
	p := c.apart(nil)
	x := p.baselineAgain(p.baseline())
	if p.redis == nil { // with the process everything is lost, not the last write alone
		named := x.but().header("Idempotency-Key", `"`+nonce()+`"`)
		token := p.ok(named.do()).token()
		p.first(p.rs1, token)
		p.nodes[0].kill()
		p.restart(0)
		p.want(p.redeem(p.rs1, token, nonce()).do(), 410, "stale_epoch")
		p.want(named.do(), 400, "transaction_consumed")
		return
	}
	master := p.redis.masters[0]
	spentName, spent := p.heldBy(master, x)
	openName, open := p.heldBy(master, x)
	before := holds(p.T, master, spent.str("txn"))
	for _, s := range p.redis.replicas[:min(1, len(p.redis.replicas))] {
		p.eventually(time.Minute, "replication", func() bool { return holds(p.T, s, open.str("txn")) > 0 })
	}
	p.redis.lag(p.T)
	id := nonce()
	p.ok(p.redeem(p.rs1, spent.token(), id).do())
	after := holds(p.T, master, spent.str("txn"))
	if after <= before {
		p.Fatalf("%d records of the transaction, %d after it was redeemed", before, after)
	}
	heir := p.redis.fail()
	p.recovers(p.baselineAgain(x))
	if now := holds(p.T, heir, spent.str("txn")); now == 0 || now >= after {
		p.Fatalf("%d records of the transaction are left of %d: the redemption alone should be lost", now, after)
	}
	for n := range p.nodes {
		p.want(p.redeem(p.rs1, spent.token(), nonce()).node(n+1).do(), 410, "stale_epoch")
		p.want(p.redeem(p.rs1, spent.token(), id).node(n+1).do(), 410, "stale_epoch")
		p.want(p.redeem(p.rs1, open.token(), nonce()).node(n+1).do(), 410, "stale_epoch")
		// The ledger has the redemption of the one; that the other was not redeemed nobody can prove.
		p.want(spentName.but().node(n+1).do(), http.StatusBadRequest, "transaction_consumed")
		p.want(openName.but().node(n+1).do(), http.StatusBadRequest, "transaction_indeterminate")
	}
	p.first(p.rs1, p.ok(p.baselineAgain(x).do()).token())
}

// TestNoReplicaConfirms: where replicas must confirm what is spent and none does, nothing is acknowledged; when one is back the same
// calls have their answers.
func TestNoReplicaConfirms(t *testing.T) {
	t.Parallel()
	s := postgresAnd(t, "sentinel", func(t *testing.T) (string, *fleet) {
		t.Helper()
		url, f := watched(t)
		return url + "&replicas=1&replicas_timeout=4s", f
	})
	c := &check{t, s.start(t, nil)}
	agent := c.agent()
	y := c.foreign(c.agent(), c.idp.token(c.env, "alice", "files.read")).at(files, "files.read")
	c.allow(c.person("alice"), y, limits{})
	token := c.ok(y.do()).token()
	session := c.ok(c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(notes, "notes.read")).do()).token()
	x := c.baseline()
	id := nonce()
	c.redis.replicas[0].Pause()
	var wg sync.WaitGroup
	for what, r := range map[string]call{
		"redemption": c.redeem(nil, token, id).ready(), "exchange": x.ready(),
		"stop": {method: http.MethodPost, path: "/admin/v1/agents/" + agent.id + "/suspend", header: http.Header{"Authorization": {"Bearer " + c.operator}}},
	} {
		wg.Go(func() {
			a, err := c.send(context.WithoutCancel(t.Context()), r)
			if err != nil {
				t.Error(err)
				return
			}
			c.unavailable(what, a)
		})
	}
	wg.Wait()
	c.redis.replicas[0].Resume()
	c.eventually(time.Minute, "the replica", func() bool { return c.redis.masters[0].Replicas() == 1 })
	c.recovers(x)
	if a := c.ok(c.redeem(nil, token, id).do()); a.str("redemption") != "repeat" {
		t.Errorf("the same redemption again is %q", a.str("redemption"))
	}
	c.want(c.redeem(nil, token, nonce()).do(), 409, "already_redeemed")
	c.suspended(agent)
	if !c.active(c.rs1, session) {
		t.Error("a session token is not active")
	}
}
