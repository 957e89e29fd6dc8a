//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"obolus/admin"
	"obolus/audit"
)

// verdict is what an installation is found to have done.
type verdict struct {
	violations   []violation
	transactions int
	redemptions  int // accepted
	effects      int // of the resource server
	doubles      int // transactions with more than one effect
	events       uint64
	grants       int
	histories    map[string]int // how many transactions have so many requests, for nothing but curiosity
}

// judge holds an installation that works again to everything that was promised.
func (w *world) judge(ctx context.Context, found *findings) (verdict, error) {
	v := verdict{violations: found.list, transactions: len(w.history.txns), redemptions: w.history.accepted()}
	v.violations = append(v.violations, w.history.transactions(!w.local)...)
	effects, err := readEffects(w.effectsFile)
	if err != nil {
		return v, err
	}
	more, doubles := w.history.doubles(effects)
	v.violations, v.doubles = append(v.violations, more...), doubles
	for _, n := range effects {
		v.effects += n
	}
	events, verified, err := w.ledger(ctx)
	if err != nil {
		return v, fmt.Errorf("%s: the ledger: %w", w.name, err)
	}
	v.events = verified.Events
	if !verified.Whole {
		v.violations = append(v.violations, violation{rule: "the ledger is whole", about: w.name, at: w.history.now(), text: verified.Problem})
	}
	v.violations = append(v.violations, w.history.recorded(events)...)
	limits, err := w.limits(ctx)
	if err != nil {
		return v, fmt.Errorf("%s: the grants: %w", w.name, err)
	}
	v.grants = len(limits)
	v.violations = append(v.violations, w.history.budgets(limits)...)
	return v, nil
}

// readEffects counts what the resource server did, by transaction.
func readEffects(file string) (map[string]int, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	effects := map[string]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		effects[lines.Text()]++
	}
	return effects, lines.Err()
}

// doubles looks for transactions that had more than one effect: at the resource server, and by redemptions that were accepted
// for different requests.
func (h *history) doubles(effects map[string]int) (found []violation, transactions int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, x := range h.txns {
		accepted := map[string]bool{}
		for _, o := range x.ops {
			if direct := !strings.HasPrefix(o.id, "guard-"); direct && (o.outcome == first || o.outcome == repeat) {
				accepted[o.by+" "+o.id] = true
			}
		}
		if n := len(accepted) + effects[id]; n > 1 {
			transactions++
			found = append(found, violation{
				rule: "at most one effect", about: id, at: x.ops[len(x.ops)-1].call, text: fmt.Sprintf("%d effects\n%s", n, x.tell(slices.Clone(x.ops))),
			})
		}
	}
	return found, transactions
}

// recorded looks for what was answered and is not in the ledger, and for what the ledger itself has twice.
func (h *history) recorded(events []audit.Event) []violation {
	h.mu.Lock()
	defer h.mu.Unlock()
	known, redeemers := map[string]bool{}, map[string][]string{}
	for _, e := range events {
		if !e.Allowed {
			continue
		}
		known[string(e.Kind)+" "+e.Txn] = true
		switch e.Kind {
		case audit.KindExchange:
			known["issued "+e.JTI] = true
		case audit.KindRedeem:
			known["redeemed "+e.Txn+" "+e.RedemptionID] = true
			if who := e.Client + " " + e.RedemptionID; !slices.Contains(redeemers[e.Txn], who) {
				redeemers[e.Txn] = append(redeemers[e.Txn], who)
			}
		default:
		}
	}
	var found []violation
	for id, x := range h.txns {
		for _, o := range x.ops {
			if what := o.inLedger(id); what != "" && !known[what] {
				found = append(found, violation{
					rule: "no answer before its event", about: id, at: o.call, text: "not in the ledger: " + what + "\n" + x.tell(slices.Clone(x.ops)),
				})
			}
		}
		if len(redeemers[id]) > 1 {
			found = append(found, violation{
				rule: "one redemption in the ledger", about: id, at: x.ops[0].call, text: strings.Join(redeemers[id], "\n") + "\n" + x.tell(slices.Clone(x.ops)),
			})
		}
	}
	return found
}

// inLedger is what must be there of a request; empty: nothing.
func (o op) inLedger(id string) string {
	switch {
	case o.action == issue:
		return "issued " + o.jti
	case o.action == stopTxn && o.jti != "":
		return string(audit.KindRevoke) + " " + id
	case o.action == stopTxn:
		return string(audit.KindStop) + " " + id
	case o.outcome == first && strings.HasPrefix(o.id, "guard-"): // the guard chose the id
		return string(audit.KindRedeem) + " " + id
	case o.outcome == first || o.outcome == repeat:
		return "redeemed " + id + " " + o.id
	default:
		return ""
	}
}

// ledger reads all events, and has the chain verified.
func (w *world) ledger(ctx context.Context) ([]audit.Event, admin.Verification, error) {
	patient := &http.Client{Timeout: 5 * time.Minute}
	get := func(path string, into any) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.at(0, "/admin/v1"+path), http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+operatorToken)
		a, err := sendBy(patient, req)
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("%d: %.300s", a.status, a.body)
		}
		return json.Unmarshal(a.body, into)
	}
	var verified admin.Verification
	if err := get("/audit/verify", &verified); err != nil {
		return nil, verified, err
	}
	var all []audit.Event
	for after := uint64(0); ; {
		var page admin.EventList
		if err := get(fmt.Sprintf("/audit?limit=1000&after=%d", after), &page); err != nil {
			return nil, verified, err
		}
		all = append(all, page.Events...)
		if page.Next == 0 {
			return all, verified, nil
		}
		after = page.Next
	}
}

// limit is what a grant pays for, and has paid for.
type limit struct {
	uses, used int
}

// limits reads the grants of all users.
func (w *world) limits(ctx context.Context) (map[string]limit, error) {
	limits := map[string]limit{}
	for _, p := range w.people {
		a, err := w.admin(ctx, 0, http.MethodGet, "/grants?user="+p.name, nil)
		if err != nil {
			return nil, err
		}
		var page admin.GrantList
		if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
			return nil, errors.Join(err, fmt.Errorf("%d: %.300s", a.status, a.body))
		}
		for _, g := range page.Grants {
			limits[g.ID] = limit{g.Uses, g.Used}
		}
	}
	return limits, nil
}

// budgets looks for grants that led to more transactions than they pay for, or than they know of.
func (h *history) budgets(limits map[string]limit) []violation {
	h.mu.Lock()
	defer h.mu.Unlock()
	drawn := map[string]int{}
	for _, x := range h.txns {
		drawn[x.grant]++
	}
	var found []violation
	for grant, n := range drawn {
		l, ok := limits[grant]
		switch {
		case !ok:
			found = append(found, violation{rule: "a grant is not forgotten", about: grant, text: "it is not there any more"})
		case l.uses > 0 && n > l.uses:
			found = append(found, violation{rule: "a grant pays for so many", about: grant, text: fmt.Sprintf("%d transactions of %d", n, l.uses)})
		case l.uses > 0 && n > l.used:
			found = append(found, violation{rule: "a draw is not forgotten", about: grant, text: fmt.Sprintf("%d transactions, and it knows of %d", n, l.used)})
		default:
		}
	}
	return found
}
