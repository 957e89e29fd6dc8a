//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// worker is an agent and a resource server in one, that does everything in turn.
type worker struct {
	*world
	client int
	dice   *random
	old    []token // that were used, stopped or replaced, to be tried again later
}

// mostOld is how many tokens a worker keeps for later.
const mostOld = 64

// run works until the installation is to be quiet.
func (w *worker) run(ctx context.Context) {
	for !w.quiet.Load() && ctx.Err() == nil {
		if len(w.old) > 0 && w.dice.chance(12) {
			w.attack(ctx)
			continue
		}
		w.story(ctx)
	}
}

// attack tries to redeem a token that was used, stopped or replaced some time ago.
func (w *worker) attack(ctx context.Context) {
	w.redeem(ctx, w.attempt(w.old[w.dice.below(len(w.old))]))
}

// attempt is a redemption under a new id by the resource server whose token it is, at any server.
func (w *worker) attempt(t token) redemption {
	return redemption{
		token: t, by: mailServer, id: fmt.Sprint("r", w.serial.Add(1)), hash: "sha-256=:" + t.jti + ":", server: w.any(), client: w.client,
	}
}

func (w *worker) any() int { return w.dice.below(len(w.servers)) }

func (w *worker) keep(t token) {
	if len(w.old) < mostOld {
		w.old = append(w.old, t)
		return
	}
	w.old[w.dice.below(mostOld)] = t
}

// story is the life of one transaction.
func (w *worker) story(ctx context.Context) {
	r := request{
		agent: agentName(w.dice.below(steadyAgents)), user: w.people[w.dice.below(peopleCount)], server: w.any(), client: w.client,
	}
	if w.dice.chance(15) {
		r.key = fmt.Sprint("key-", w.serial.Add(1))
	}
	t, ok := w.obtain(ctx, r)
	if !ok {
		time.Sleep(pauseAfterFailure)
		return
	}
	if w.dice.chance(20) {
		w.keep(t)
	}
	switch n := w.dice.below(100); {
	case n < 25:
		w.use(ctx, t, w.client)
		if w.dice.chance(10) {
			w.use(ctx, t, w.client) // the agent tries it twice
		}
	case n < 33:
		w.duel(ctx, t)
	case n < 37:
		w.together(ctx, t)
	case n < 42:
		w.race(ctx, t)
	default:
		w.plain(ctx, t)
	}
}

// pauseAfterFailure keeps those who are refused from keeping others out.
const pauseAfterFailure = 5 * time.Millisecond

// obtain gets a token. An exchange with a key is repeated when its answer was lost, and sometimes when it was not: then the token
// from before must not count any more.
func (w *worker) obtain(ctx context.Context, r request) (token, bool) {
	t, _, err := w.exchange(ctx, r)
	if r.key == "" {
		return t, err == nil && t.raw != ""
	}
	for range 3 {
		if err == nil && t.raw != "" && !w.dice.chance(30) {
			break
		}
		if t.raw != "" {
			w.keep(t)
		} else {
			time.Sleep(pauseAfterFailure)
		}
		r.server = w.any()
		var again token
		again, _, err = w.exchange(ctx, r)
		if again.raw != "" {
			t = again
		}
		if w.dice.chance(10) && t.raw != "" {
			w.redeem(ctx, w.attempt(t))
		}
	}
	return t, t.raw != ""
}

// plain redeems a token, asks again if the answer was lost, and then tries what must not work.
func (w *worker) plain(ctx context.Context, t token) {
	r := w.attempt(t)
	if w.dice.chance(4) {
		foreign := r
		foreign.by = filesServer
		w.redeem(ctx, foreign)
	}
	if w.dice.chance(4) {
		w.end(ctx, t)
	}
	came := w.redeem(ctx, r)
	for range 3 {
		if came != unknown {
			break
		}
		time.Sleep(pauseAfterFailure)
		r.server = w.any()
		came = w.redeem(ctx, r)
	}
	r.server = w.any()
	switch n := w.dice.below(100); {
	case n < 10:
		w.redeem(ctx, r)
	case n < 14:
		r.hash = "sha-256=:other:"
		w.redeem(ctx, r)
	case n < 22:
		w.redeem(ctx, w.attempt(t))
	case n < 26:
		w.report(ctx, t, r.server)
	case n < 30:
		w.status(ctx, t, r.server)
	case n < 32:
		w.end(ctx, t)
		w.redeem(ctx, r) // not even the same again
	default:
	}
}

// end stops the transaction in one of two ways.
func (w *worker) end(ctx context.Context, t token) bool {
	if w.dice.chance(50) {
		return w.revoke(ctx, t, w.any(), w.client)
	}
	return w.stopTransaction(ctx, t, w.any(), w.client)
}

// duel redeems a token at the same time for different requests.
func (w *worker) duel(ctx context.Context, t token) {
	var all sync.WaitGroup
	for range 2 + w.dice.below(3) {
		r := w.attempt(t)
		all.Go(func() { w.redeem(ctx, r) })
	}
	if w.dice.chance(30) {
		all.Go(func() { w.use(ctx, t, w.client) })
	}
	all.Wait()
}

// together redeems a token several times at once for the same request.
func (w *worker) together(ctx context.Context, t token) {
	var all sync.WaitGroup
	same := w.attempt(t)
	for range 3 {
		r := same
		r.server = w.any()
		all.Go(func() { w.redeem(ctx, r) })
	}
	all.Wait()
}

// race stops a transaction while it is redeemed, and redeems it once more when the stop is acknowledged.
func (w *worker) race(ctx context.Context, t token) {
	var all sync.WaitGroup
	r := w.attempt(t)
	all.Go(func() { w.redeem(ctx, r) })
	all.Go(func() { w.end(ctx, t) })
	all.Wait()
	again := w.attempt(t)
	if w.dice.chance(50) {
		again = r
		again.server = w.any()
	}
	w.redeem(ctx, again)
}

// operator is somebody who stops agents, takes consent back, and gives it a limited number of times.
type operator struct {
	*worker
	found *findings
}

// run does all of it in turn, each time with an agent that nobody knows yet.
func (o *operator) run(ctx context.Context) {
	for n := 0; !o.quiet.Load() && ctx.Err() == nil; n++ {
		work := [...]func(context.Context) error{o.suspension, o.withdrawal, o.budget}[n%3]
		if err := work(ctx); err != nil {
			time.Sleep(10 * pauseAfterFailure)
		}
	}
}

// repeatedly tries something until it is acknowledged, for some seconds.
func (o *operator) repeatedly(ctx context.Context, what string, try func(context.Context) (answer, error)) bool {
	for range 20 {
		a, err := try(ctx)
		if definite(a, err) && a.status < http.StatusBadRequest {
			o.history.count(what, "acknowledged")
			return true
		}
		o.history.count(what, failed(a, err))
		if definite(a, err) || o.quiet.Load() {
			return false
		}
		time.Sleep(5 * pauseAfterFailure)
	}
	return false
}

// newGrant registers an agent and has a user allow it.
func (o *operator) newGrant(ctx context.Context, kind string, uses int) (request, error) {
	r := request{user: o.people[o.dice.below(peopleCount)], client: o.client}
	var err error
	if r.agent, err = o.newAgent(ctx, kind); err != nil {
		o.history.count("registration", "failed")
		return r, err
	}
	for range 8 {
		if err = o.allow(ctx, r.agent, r.user, uses); err == nil {
			o.history.count("consent", "given")
			return r, nil
		}
		o.history.count("consent", "failed")
		if o.quiet.Load() {
			return r, err
		}
		time.Sleep(50 * pauseAfterFailure)
		_ = o.signIn(ctx, r.user) // a server whose clock is wrong may have ended the session
	}
	return r, err
}

// some gets tokens for an agent.
func (o *operator) some(ctx context.Context, r request, n int) []token {
	var tokens []token
	for range 3 * n {
		r.server = o.any()
		if t, _, err := o.exchange(ctx, r); err == nil && t.raw != "" {
			if tokens = append(tokens, t); len(tokens) == n {
				break
			}
		} else {
			time.Sleep(5 * pauseAfterFailure)
		}
	}
	return tokens
}

// spend redeems tokens, one by one.
func (o *operator) spend(ctx context.Context, tokens []token) {
	for _, t := range tokens {
		o.redeem(ctx, o.attempt(t))
	}
}

// halted stops what has led to tokens while one of them is redeemed, and redeems the rest when that is acknowledged.
func (o *operator) halted(ctx context.Context, what, named string, tokens []token, try func(context.Context) (answer, error)) bool {
	var all sync.WaitGroup
	if len(tokens) > 0 {
		all.Go(func() { o.spend(ctx, tokens[:1]) })
	}
	stop := op{action: stopDerived, outcome: granted, call: o.history.now(), client: o.client, server: -1}
	done := o.repeatedly(ctx, what, try)
	stop.ret = o.history.now()
	if done {
		o.history.stopped(named, stop)
	}
	if len(tokens) > 0 {
		o.spend(ctx, tokens[1:])
	}
	all.Wait()
	return done
}

// still holds that nothing is issued to an agent after an end that was acknowledged; under a grant, if it was the end of one: a user
// whose answer was lost may have given another.
func (o *operator) still(ctx context.Context, rule string, r request, grant string) {
	for range 3 {
		r.server = o.any()
		call := o.history.now()
		if t, _, err := o.exchange(ctx, r); err == nil && t.raw != "" && (grant == "" || t.grant == grant) {
			o.found.add(violation{rule: rule, about: r.agent, at: call, text: "a token was issued after the acknowledgement: " + t.jti})
		}
	}
}

// suspension suspends an agent, and lets it act again.
func (o *operator) suspension(ctx context.Context) error {
	r, err := o.newGrant(ctx, "suspended", 0)
	if err != nil {
		return err
	}
	state := func(to string) func(context.Context) (answer, error) {
		return func(ctx context.Context) (answer, error) {
			return o.admin(ctx, o.any(), http.MethodPost, "/agents/"+r.agent+"/"+to, nil)
		}
	}
	for range 2 {
		before := o.some(ctx, r, 3)
		if !o.halted(ctx, "suspension", "agent/"+r.agent, before, state("suspend")) {
			return errUnknown
		}
		o.still(ctx, "an agent that was suspended stays so", r, "")
		if a, err := state("resume")(ctx); !definite(a, err) || a.status >= http.StatusBadRequest {
			o.history.count("resumption", failed(a, err))
			return errUnknown // it may yet happen, so nothing can be said of this agent any more
		}
		o.history.count("resumption", "acknowledged")
		o.spend(ctx, before) // tokens from before stay worthless
		o.spend(ctx, o.some(ctx, r, 1))
	}
	return nil
}

// withdrawal takes a consent back.
func (o *operator) withdrawal(ctx context.Context) error {
	r, err := o.newGrant(ctx, "withdrawn", 0)
	if err != nil {
		return err
	}
	tokens := o.some(ctx, r, 3)
	if len(tokens) == 0 {
		return errUnknown
	}
	grant := tokens[0].grant
	done := o.halted(ctx, "withdrawal", "grant/"+grant, tokens, func(ctx context.Context) (answer, error) {
		return o.admin(ctx, o.any(), http.MethodPost, "/grants/"+grant+"/withdraw?user="+url.QueryEscape(r.user.name), nil)
	})
	if !done {
		return errUnknown
	}
	o.still(ctx, "a grant that was withdrawn stays so", r, grant)
	o.spend(ctx, tokens)
	return nil
}

// budget has a user allow so many transactions, and asks for more of them at once.
func (o *operator) budget(ctx context.Context) error {
	uses := 1 + o.dice.below(4)
	r, err := o.newGrant(ctx, "limited", uses)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for range 2*uses + 2 {
		r := r
		r.server = o.any()
		if o.dice.chance(30) {
			r.key = fmt.Sprint("key-", o.serial.Add(1))
		}
		all.Go(func() {
			t, _, err := o.exchange(ctx, r)
			if err != nil && r.key != "" {
				time.Sleep(5 * pauseAfterFailure)
				t, _, err = o.exchange(ctx, r)
			}
			if err == nil && t.raw != "" {
				o.redeem(ctx, o.attempt(t))
			}
		})
	}
	all.Wait()
	return nil
}

// findings are the violations that were seen while the work went on.
type findings struct {
	mu   sync.Mutex
	list []violation
}

func (f *findings) add(v violation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, v)
}

// work starts everybody, and waits until the context ends or the installation is to be quiet.
func (w *world) work(ctx context.Context, seed uint64, found *findings) {
	var all sync.WaitGroup
	for i := range w.workers {
		all.Go(func() {
			(&worker{world: w, client: i, dice: newRandom(seed + uint64(i))}).run(ctx) //nolint:gosec // it counts up from zero
		})
	}
	for i := range 2 {
		all.Go(func() {
			n := w.workers + i
			(&operator{&worker{world: w, client: n, dice: newRandom(seed + uint64(n))}, found}).run(ctx) //nolint:gosec // as above
		})
	}
	all.Wait()
}
