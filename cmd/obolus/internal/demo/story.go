package demo

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"obolus/admin"
	"obolus/audit"
	"obolus/cmd/obolus/internal/vault"
)

const sending = "mail.send"

// story is what happens, in its order.
func story(w *world) []step {
	return []step{
		{"Alice signs in to her app, which gets a token of hers", "accepted", w.aliceSignsIn},
		{"The agent brings that token and asks to send a mail", "refused", w.nobodyAskedAlice},
		{"Alice opens the link, reads who asks, and says: three times", "accepted", w.aliceAllows},
		{"The agent asks again, and gets a token for one transaction", "accepted", w.aToken},
		{"It sends the mail", "accepted", w.theMail},
		{"Somebody sends the same token again", "refused", w.theReplay},
		{"A thief has a fresh token, but not the agent's key", "refused", w.theThief},
		{"Alice presses Stop, and the agent uses that token after all", "refused", w.aliceStops},
		{"Bob lets the agent too; then an operator suspends the agent", "refused", w.theOperator},
		{"What the ledger proves", "whole", w.theLedger},
	}
}

func (w *world) aliceSignsIn(ctx context.Context) ([]line, error) {
	if err := w.signIn(ctx, &w.alice); err != nil {
		return nil, err
	}
	return []line{{"how", "over the sign-in page, with PKCE; it says who she is, and is no permission for any agent"}}, nil
}

func (w *world) nobodyAskedAlice(ctx context.Context) ([]line, error) {
	got, err := w.agent.exchange(ctx, w.alice.token, sending)
	if err != nil {
		return nil, err
	}
	if got.Error != "interaction_required" || got.Interaction == "" {
		return nil, fmt.Errorf("wanted interaction_required, got %s", got)
	}
	w.txn = got.Interaction
	return []line{{"error", got.Error + ": Alice has not been asked; the agent shows her a link"}, {"link", got.Interaction}}, nil
}

func (w *world) aliceAllows(ctx context.Context) ([]line, error) {
	page, err := w.alice.allow(ctx, w.txn, "3")
	if err != nil {
		return nil, err
	}
	for _, words := range []string{"Mail helper", "The mail team", "Send mail in your name", "An automated agent will act for you"} {
		if !strings.Contains(page.Text, words) {
			return nil, fmt.Errorf("the page does not say %q", words)
		}
	}
	return []line{{"page", "“An automated agent will act for you … Send mail in your name”, owner: The mail team"}}, nil
}

func (w *world) aToken(ctx context.Context) ([]line, error) {
	got, err := w.agent.exchange(ctx, w.alice.token, sending)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("wanted a token, got %s", got)
	}
	w.redeemed = got.Token
	t, err := vault.Decode(got.Token)
	if err != nil {
		return nil, err
	}
	text := func(name string) string { s, _ := t.Claims[name].(string); return s }
	act, _ := t.Claims["act"].(map[string]any)
	by, _ := act["sub"].(string)
	exp, _ := t.Claims["exp"].(float64)
	w.txn = text("txn")
	if text("sub") != w.alice.id || by != w.agent.id || text("scope") != sending || w.txn == "" || text("txn_mode") != "redeem" || t.Claims["cnf"] == nil {
		return nil, fmt.Errorf("the token says %v", t.Claims)
	}
	return []line{
		{"sub", text("sub") + ": for whom"},
		{"act", by + ": by whom"},
		{"aud", fmt.Sprint(t.Claims["aud"]) + ": where, and nowhere else"},
		{"scope", text("scope") + ": what, though both could more"},
		{"txn", w.txn + ": what it pays for"},
		{"exp", fmt.Sprintf("in %.0f s; cnf: bound to the agent's key", time.Until(time.Unix(int64(exp), 0)).Seconds())},
	}, nil
}

// mails holds the number of mails that have really gone out.
func (w *world) mails(want int64) error {
	if got := w.mail.sent.Load(); got != want {
		return fmt.Errorf("%d mails were sent, and %d were paid for", got, want)
	}
	return nil
}

func (w *world) theMail(ctx context.Context) ([]line, error) {
	got, err := w.agent.send(ctx, w.redeemed, w.agent.proof)
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusNoContent {
		return nil, fmt.Errorf("wanted 204, got %s", got)
	}
	return []line{{"how", "the guard before the API redeemed the token, once, just before the mail went out; mails sent: 1"}}, w.mails(1)
}

// refused holds an answer of the API to be a refusal, and nothing to have happened.
func (w *world) refused(got answer, mails int64) error {
	if got.status != http.StatusUnauthorized || got.Error == "" {
		return fmt.Errorf("wanted a 401 refusal of the API, got %s", got)
	}
	return w.mails(mails)
}

func (w *world) theReplay(ctx context.Context) ([]line, error) {
	got, err := w.agent.send(ctx, w.redeemed, w.agent.proof)
	if err != nil {
		return nil, err
	}
	return []line{{"error", fmt.Sprintf("%d %s, though it has not expired and the proof is fresh; mails sent: 1", got.status, got.Error)}}, w.refused(got, 1)
}

func (w *world) theThief(ctx context.Context) ([]line, error) {
	fresh, err := w.agent.exchange(ctx, w.alice.token, sending)
	if err != nil {
		return nil, err
	}
	if fresh.Token == "" {
		return nil, fmt.Errorf("wanted a second token, got %s", fresh)
	}
	w.unspent = fresh.Token
	thief, err := newAgent("thief", w.wire)
	if err != nil {
		return nil, err
	}
	got, err := w.agent.send(ctx, w.unspent, thief.proof)
	if err != nil {
		return nil, err
	}
	return []line{{"error", fmt.Sprintf("%d %s; nothing was redeemed, the agent can still use it; mails sent: 1", got.status, got.Error)}}, w.refused(got, 1)
}

func (w *world) aliceStops(ctx context.Context) ([]line, error) {
	if err := w.alice.stop(ctx, w.server.Issuer()); err != nil {
		return nil, err
	}
	used, err := w.agent.send(ctx, w.unspent, w.agent.proof)
	if err != nil {
		return nil, err
	}
	if err := w.refused(used, 1); err != nil {
		return nil, err
	}
	again, err := w.agent.exchange(ctx, w.alice.token, sending)
	if err != nil {
		return nil, err
	}
	if again.Error != "access_denied" {
		return nil, fmt.Errorf("wanted access_denied for a new token, got %s", again)
	}
	return []line{
		{"the API", fmt.Sprintf("%d %s: a token is worth what the last word on it is, not what its signature says", used.status, used.Error)},
		{"obolus", fmt.Sprintf("%s (%s): and there is no new one", again.Error, again.Reason)},
	}, nil
}

func (w *world) theOperator(ctx context.Context) ([]line, error) {
	if err := w.bobAllows(ctx); err != nil {
		return nil, err
	}
	call := admin.Call{Method: http.MethodPost, Path: admin.Path("agents", w.agent.id, "suspend"), Body: admin.Why{Why: "it writes too many mails"}}
	if _, err := w.clerk.Do(ctx, call, nil); err != nil {
		return nil, err
	}
	used, err := w.agent.send(ctx, w.bobs, w.agent.proof)
	if err != nil {
		return nil, err
	}
	if err := w.refused(used, 2); err != nil {
		return nil, err
	}
	again, err := w.agent.exchange(ctx, w.bob.token, sending)
	if err != nil {
		return nil, err
	}
	if again.status < http.StatusBadRequest || again.Token != "" {
		return nil, fmt.Errorf("the suspended agent got %s", again)
	}
	return []line{
		{"before", "Bob's first mail went out; mails sent: 2"},
		{"after", fmt.Sprintf("%d %s for the token it had for Bob, %d %s for another one", used.status, used.Error, again.status, again.Error)},
	}, nil
}

// bobAllows lets the agent send one mail for Bob, and leaves it with a token for the next.
func (w *world) bobAllows(ctx context.Context) error {
	if err := w.signIn(ctx, &w.bob); err != nil {
		return err
	}
	got, err := w.agent.exchange(ctx, w.bob.token, sending)
	if err != nil {
		return err
	}
	if _, err := w.bob.allow(ctx, got.Interaction, "5"); err != nil {
		return err
	}
	for range 2 {
		if got, err = w.agent.exchange(ctx, w.bob.token, sending); err != nil {
			return err
		}
		if w.bobs == "" {
			sent, err := w.agent.send(ctx, got.Token, w.agent.proof)
			if err != nil || sent.status != http.StatusNoContent {
				return fmt.Errorf("bob's mail: %s %w", sent, err)
			}
		}
		w.bobs = got.Token
	}
	if w.bobs == "" {
		return fmt.Errorf("no token for Bob: %s", got)
	}
	return nil
}

func (w *world) theLedger(ctx context.Context) ([]line, error) {
	var v admin.Verification
	if _, err := w.clerk.Do(ctx, admin.Call{Method: http.MethodGet, Path: "/audit/verify"}, &v); err != nil {
		return nil, err
	}
	if !v.Whole {
		return nil, fmt.Errorf("the ledger is not whole: %s", v.Problem)
	}
	var trail admin.EventList
	call := admin.Call{Method: http.MethodGet, Path: "/audit", Query: map[string][]string{"txn": {w.txn}}}
	if _, err := w.clerk.Do(ctx, call, &trail); err != nil {
		return nil, err
	}
	var told []string
	redeemed := 0
	for _, e := range trail.Events {
		how := "ok"
		if !e.Allowed {
			how = "refused, " + string(e.Reason)
		}
		if e.Kind == audit.KindRedeem && e.Allowed {
			redeemed++
		}
		told = append(told, fmt.Sprintf("%s (%s)", e.Kind, how))
	}
	if redeemed != 1 {
		return nil, fmt.Errorf("the transaction was redeemed %d times: %v", redeemed, told)
	}
	return []line{
		{"chain", fmt.Sprintf("%d events, each sealed with the one before; written before every answer left", v.Events)},
		{"the mail", strings.Join(told, ", ")},
	}, nil
}
