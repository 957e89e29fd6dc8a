package exchange_test

import (
	"testing"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/transaction"
)

// TestWhoWasRefusedIsFound: what an agent tries after it was stopped stands in the ledger under its name, as whatever it does.
func TestWhoWasRefusedIsFound(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Start()
	w.Populate()
	key := w.Agent("agent-a", nil)
	w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	if _, err := w.Tx.SetState(t.Context(), "agent-a", agents.Suspended, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Exchange.Do(t.Context(), w.Assertion("agent-a", key), exchange.Request{
		SubjectToken: w.UserToken("alice", nil), SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	}); oauth.AsError(err).Reason != oauth.ReasonAgentInactive {
		t.Fatal(err)
	}
	found, err := w.Ledger.Events(t.Context(), audit.Filter{Actor: "agent-a", Kind: audit.KindExchange})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d events %v", len(found), err)
	}
	if e := found[0]; e.Allowed || e.Reason != oauth.ReasonAgentInactive || e.User != "alice" || e.Client != "agent-a" {
		t.Errorf("in the ledger is %+v", e)
	}
}
