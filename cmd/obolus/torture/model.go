//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is all that a transaction is: which token may redeem it, and who has. It is the law that the answers are held to.
type state struct {
	epoch   uint64 // of its tokens; zero: none was issued
	live    string // the jti that may redeem it; empty: none may
	stopped bool   // for ever
	fenced  uint64 // tokens of an earlier epoch are worthless
	claim   claim  // who redeemed it; empty: nobody
	murky   bool   // somebody was refused who may have claimed it all the same
}

// model is the life of one transaction that is to be redeemed by one resource server.
func model(target string) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, _ any) (bool, any) {
			was, ok1 := s.(state)
			o, ok2 := in.(op)
			allowed, next := was.step(o, target)
			return ok1 && ok2 && allowed, next
		},
		DescribeOperation: func(in, _ any) string { return fmt.Sprint(in) },
		DescribeState:     func(s any) string { return fmt.Sprint(s) },
	}
}

// step says whether a request can have been answered like this at this point of the transaction's life, and what it is after
// it. An answer that is not known is always possible: whatever may have happened is as if it had, and a request
// that did nothing is the same as one that came last.
func (s state) step(o op, target string) (bool, state) {
	switch o.action {
	case issue:
		if s.claim != (claim{}) || s.stopped || s.epoch != 0 && s.epoch != o.epoch || o.epoch < s.fenced {
			return false, s
		}
		s.epoch, s.live = o.epoch, o.jti
		return true, s
	case stopTxn:
		s.stopped = true
		return true, s
	case stopDerived:
		s.live = ""
		return true, s
	case fence:
		s.fenced = max(s.fenced, o.epoch)
		return true, s
	default:
		return s.redeem(o, target)
	}
}

// redeem is the step of a redemption.
func (s state) redeem(o op, target string) (bool, state) {
	mine := claim{o.by, o.id, o.hash, o.jti}
	may := o.by == target && s.live == o.jti && !s.stopped && o.epoch >= s.fenced
	nobody := s.claim == (claim{})
	switch o.outcome {
	case first:
		s.claim = mine
		return may && nobody, s
	case repeat:
		return may && s.claim == mine, s
	case consumed:
		return nobody && s.murky || !nobody && (s.claim.by != o.by || s.claim.id != o.id), s
	case mismatch:
		return nobody && s.murky || s.claim.by == o.by && s.claim.id == o.id && s.claim.hash != o.hash, s
	case refused:
		s.murky = s.murky || o.by == target
		return true, s
	default:
		if may && nobody {
			s.claim = mine
		}
		s.murky = s.murky || o.by == target
		return true, s
	}
}

// String tells people of a request.
func (o op) String() string {
	what := map[action]string{issue: "issue", redeem: "redeem", stopTxn: "stop", stopDerived: "stop of agent or grant", fence: "later epoch seen"}[o.action]
	said := map[outcome]string{
		unknown: "?", granted: "done", first: "first", repeat: "repeat", consumed: "already redeemed", mismatch: "another request", refused: "refused",
	}[o.outcome]
	text := what
	switch o.action {
	case issue:
		text += " " + o.jti
	case redeem:
		text += fmt.Sprintf(" %s by %s as %s/%s", o.jti, o.by, o.id, o.hash)
	case fence:
		text += " " + strconv.FormatUint(o.epoch, 10)
	default:
	}
	return text + " → " + said + " " + o.said
}

// String tells people of a state.
func (s state) String() string {
	parts := []string{"live " + s.live}
	if s.stopped {
		parts = append(parts, "stopped")
	}
	if s.claim != (claim{}) {
		parts = append(parts, "claimed by "+s.claim.by+" as "+s.claim.id+"/"+s.claim.hash)
	}
	return strings.Join(parts, ", ")
}

// violation is a broken promise.
type violation struct {
	rule  string
	about string // the transaction, agent or grant
	at    int64
	text  string
	html  func(file string) error // a picture of it; nil: there is none
}

// patience is how long one transaction may be thought about. All but pathological ones take microseconds.
const patience = 20 * time.Second

// whole is a transaction's history with what it was told by other things: stops of its agent and its grant, and later epochs.
func (h *history) whole(x *txn) []op {
	ops := slices.Clone(x.ops)
	begin, end := ops[0].call, int64(0)
	for _, o := range x.ops {
		begin = min(begin, o.call)
		end = max(end, o.call)
	}
	for _, what := range []string{"agent/" + x.agent, "grant/" + x.grant} {
		for _, stop := range h.stops[what] {
			if stop.ret >= begin && stop.call <= end {
				ops = append(ops, stop)
			}
		}
	}
	var epoch uint64
	for _, o := range x.ops {
		epoch = max(epoch, o.epoch)
	}
	later, seen := uint64(0), int64(forever)
	for e, at := range h.epochs {
		if e > epoch && at < seen {
			later, seen = e, at
		}
	}
	if seen < end {
		ops = append(ops, op{action: fence, outcome: granted, epoch: later, ret: seen, server: -1})
	}
	return ops
}

// check holds one transaction to the model.
func (h *history) check(x *txn) *violation {
	var list []porcupine.Operation
	for _, o := range h.whole(x) {
		list = append(list, porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Return: o.ret})
	}
	m := model(x.target)
	verdict := porcupine.CheckOperationsTimeout(m, list, patience)
	if verdict == porcupine.Ok {
		return nil
	}
	v := &violation{rule: "one transaction, exactly", about: x.id, at: x.ops[len(x.ops)-1].call, text: x.tell(h.whole(x))}
	if verdict == porcupine.Unknown {
		v.rule = "too long a history to be judged"
	}
	v.html = func(file string) error {
		_, info := porcupine.CheckOperationsVerbose(m, list, patience)
		return porcupine.VisualizePath(m, info, file)
	}
	return v
}

// tell is the history for people, in the order of the calls.
func (x *txn) tell(ops []op) string {
	slices.SortFunc(ops, func(a, b op) int { return int(a.call/1000 - b.call/1000) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s of agent %s under grant %s for %s\n", x.id, x.agent, x.grant, x.target)
	for _, o := range ops {
		until := "        …"
		if o.ret != forever {
			until = fmt.Sprintf("%9.3f", float64(o.ret)/1e9)
		}
		fmt.Fprintf(&b, "%9.3f – %s s  server %2d  %s\n", float64(o.call)/1e9, until, o.server, o)
	}
	return b.String()
}

// late looks for redemptions that were accepted after the token's end, by clocks of the same machine.
func (x *txn) late(start time.Time) *violation {
	for _, o := range x.ops {
		if o.outcome == first && start.Add(time.Duration(o.call)).After(x.expires.Add(leeway)) {
			return &violation{rule: "nothing after its end", about: x.id, at: o.call, text: x.tell(slices.Clone(x.ops))}
		}
	}
	return nil
}

// transactions holds every transaction to the model. Where the clock of a server is that of the store nothing is said of ends.
func (h *history) transactions(steadyClock bool) []violation { //nolint:revive // the two shapes differ in it
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []violation
	for _, x := range h.txns {
		if v := h.check(x); v != nil {
			found = append(found, *v)
		}
		if v := x.late(h.start); v != nil && steadyClock {
			found = append(found, *v)
		}
	}
	return found
}
