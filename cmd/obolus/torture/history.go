//go:build linux

package main

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"
)

// action is what was asked about a transaction.
type action int

const (
	issue       action = iota // a token in it
	redeem                    // its one redemption
	stopTxn                   // an end to the transaction
	stopDerived               // an end to whatever its agent or its grant has led to so far
	fence                     // nothing: a later epoch was seen
)

// outcome is what was answered.
type outcome int

const (
	unknown  outcome = iota // nothing, or 503: it may have happened and may yet
	granted                 // a token, or a stop that is acknowledged
	first                   // the redemption is accepted
	repeat                  // it was accepted before, for the same
	consumed                // 409: somebody else has redeemed
	mismatch                // 422: the same redemption id, for another request
	refused                 // anything else that is a definite no
)

// forever is the end of a request that was not answered.
const forever = math.MaxInt64

// op is one request about a transaction, and its answer. Times are nanoseconds since the start.
type op struct {
	action    action
	outcome   outcome
	call, ret int64
	client    int // who asked, for the picture of a history
	server    int // which server was asked; -1: not known

	jti   string // issue: of the new token; redeem: of the one presented
	epoch uint64 // of jti; fence: the one that was seen

	by, id, hash string // redeem: the resource server, the redemption id and the request hash

	said string // what was answered, for people
}

// claim is who redeemed a transaction, and for what.
type claim struct{ by, id, hash, jti string }

// txn is everything that was asked about one transaction.
type txn struct {
	id      string
	agent   string
	grant   string
	target  string // who may redeem
	expires time.Time
	ops     []op
}

// history is everything that was asked of one installation.
type history struct {
	start time.Time

	mu     sync.Mutex
	txns   map[string]*txn
	stops  map[string][]op  // of "agent/…" and "grant/…": those that were acknowledged
	epochs map[uint64]int64 // when a token of the epoch was first seen
	counts map[string]map[string]int
	firsts []moment // in the order of their calls, once the work is over
	newest []token  // a token of each of the last transactions that came to an end
}

// moment is an accepted redemption.
type moment struct {
	call, ret int64
	server    int
}

func newHistory(start time.Time) *history {
	return &history{
		start: start, txns: map[string]*txn{}, stops: map[string][]op{}, epochs: map[uint64]int64{}, counts: map[string]map[string]int{},
	}
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// issued adds an issuance that was answered by a token.
func (h *history) issued(t token, o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.txns[t.txn]
	if x == nil {
		x = &txn{id: t.txn, agent: t.agent, grant: t.grant, target: t.target, expires: t.expires}
		h.txns[t.txn] = x
	}
	if t.expires.After(x.expires) {
		x.expires = t.expires
	}
	x.ops = append(x.ops, o)
	if seen, ok := h.epochs[o.epoch]; !ok || o.ret < seen {
		h.epochs[o.epoch] = o.ret
	}
}

// add adds what was asked about a transaction that is known.
func (h *history) add(id string, o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.txns[id].ops = append(h.txns[id].ops, o)
	if o.outcome == first {
		h.firsts = append(h.firsts, moment{o.call, o.ret, o.server})
	}
}

// sort puts what is in the order of the answers into that of the calls.
func (h *history) sort() {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortFunc(h.firsts, func(a, b moment) int { return cmp.Compare(a.call, b.call) })
}

// stopped adds an acknowledged stop of an agent or a grant.
func (h *history) stopped(what string, o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stops[what] = append(h.stops[what], o)
}

// ended remembers a token whose transaction is over.
func (h *history) ended(t token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.newest = append(h.newest, t); len(h.newest) > 2*newestTokens {
		h.newest = slices.Clone(h.newest[newestTokens:])
	}
}

// newestTokens is how many tokens are tried once more at the very end.
const newestTokens = 300

// recent are the tokens of the transactions that came to an end last.
func (h *history) recent() []token {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.newest[max(0, len(h.newest)-newestTokens):])
}

// count counts a request of a kind by how it ended.
func (h *history) count(kind, ended string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts[kind] == nil {
		h.counts[kind] = map[string]int{}
	}
	h.counts[kind][ended]++
}

// accepted is how many redemptions were accepted so far.
func (h *history) accepted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.firsts)
}
