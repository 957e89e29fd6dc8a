package transaction_test

import (
	"testing"
	"time"

	"obolus/agents"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
	"obolus/transaction"
)

// formerly is an errand whose live store another one has taken the place of, while the first still answers those servers that have
// not heard of it: a master that a failover took for dead.
type formerly struct {
	*errand
	tx       *transaction.Transactions // of the server that has not heard
	exchange *exchange.Exchange
	clients  *agents.Authenticator
}

func newFormerly(t *testing.T, before func(*errand)) *formerly {
	t.Helper()
	e := newErrand(t)
	before(e)
	f := &formerly{errand: e, tx: e.Tx, exchange: e.Exchange, clients: e.Clients}
	e.Restart()
	e.Pass(time.Second) // what was signed before the epoch began does not count
	return f
}

func TestAFormerMasterDecidesNothing(t *testing.T) {
	t.Parallel()
	t.Run("no redemption of what it issued", func(t *testing.T) {
		t.Parallel()
		var compact string
		f := newFormerly(t, func(e *errand) { compact = e.obolus().AccessToken })
		_, err := f.tx.Redeem(t.Context(), transaction.Redemption{Server: f.Server("mail-server"), Token: compact, ID: "r"})
		refused(t, err, oauth.TemporarilyUnavailable)
		_, err = f.redeem(compact, "r", "")
		refused(t, err, oauth.StaleEpoch)
	})
	t.Run("no exchange", func(t *testing.T) {
		t.Parallel()
		f := newFormerly(t, func(*errand) {})
		answer, err := f.exchange.Do(t.Context(), f.Assertion("agent-a", f.key), exchange.Request{
			SubjectToken: f.user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
		})
		refused(t, err, oauth.TemporarilyUnavailable)
		if answer.AccessToken != "" {
			t.Error("a token all the same")
		}
	})
	for name, target := range map[string]func(c token.Claims) transaction.Target{
		"no stop of a transaction": func(c token.Claims) transaction.Target {
			return transaction.Target{Kind: transaction.KindTxn, ID: c.Txn}
		},
		"no stop of a token": func(c token.Claims) transaction.Target {
			return transaction.Target{Kind: transaction.KindToken, ID: c.ID}
		},
		"no stop of an agent": func(token.Claims) transaction.Target {
			return transaction.Target{Kind: transaction.KindAgent, ID: "agent-a"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFormerly(t, func(*errand) {})
			f.user = f.UserToken("alice", nil)
			compact := f.obolus().AccessToken
			v, err := f.Verifier.Verify(t.Context(), compact)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.tx.Stop(t.Context(), target(v.Claims()), transaction.Cause{By: "operator"}); err == nil {
				_, redeemed := f.redeem(compact, "r", "")
				t.Errorf("the stop is acknowledged; after it a redemption says %v", redeemed)
			}
		})
	}
	t.Run("no revocation", func(t *testing.T) {
		t.Parallel()
		f := newFormerly(t, func(*errand) {})
		f.user = f.UserToken("alice", nil)
		compact := f.obolus().AccessToken
		who, err := f.Clients.Settle(t.Context(), f.Assertion("agent-a", f.key))
		if err != nil {
			t.Fatal(err)
		}
		refused(t, f.tx.Revoke(t.Context(), who, compact, ""), oauth.TemporarilyUnavailable)
	})
}

// TestTimesOfAnotherClock revokes a token at a server by whose clock it is over, or not yet valid: by another one it may be redeemed.
func TestTimesOfAnotherClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"ahead": 2 * time.Minute, "behind": -2 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newErrand(t)
			compact := e.obolus().AccessToken
			agent, err := e.Clients.Settle(t.Context(), e.Assertion("agent-a", e.key))
			if err != nil {
				t.Fatal(err)
			}
			e.Pass(off)
			if err := e.Tx.Revoke(t.Context(), agent, compact, ""); err != nil {
				t.Fatal(err)
			}
			e.Pass(-off)
			_, err = e.redeem(compact, "r", "")
			refused(t, err, oauth.TokenRevoked)
		})
	}
}

// TestARevocationThatCannotBeCarriedOut is not acknowledged, though what cannot be verified looks like an invalid token.
func TestARevocationThatCannotBeCarriedOut(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	agent, err := e.Clients.Settle(t.Context(), e.Assertion("agent-a", e.key))
	if err != nil {
		t.Fatal(err)
	}
	for name, down := range map[string]interface{ Store(bool) }{"live": &e.Engine.Down, "records": &e.Records.Down} {
		down.Store(true)
		if err := e.Tx.Revoke(t.Context(), agent, compact, ""); err == nil {
			t.Errorf("%s: acknowledged", name)
		}
		down.Store(false)
	}
}

// TestAReportDoesNotShortenTheClaim puts the clock ahead by less than the record of the token has left, and back again.
func TestAReportDoesNotShortenTheClaim(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	answer := e.obolus()
	if _, err := e.redeem(answer.AccessToken, "r", ""); err != nil {
		t.Fatal(err)
	}
	if err := e.Tx.Report(t.Context(), e.Settled("mail-server"), answer.Txn, transaction.PhaseCommitted, ""); err != nil {
		t.Fatal(err)
	}
	for _, off := range []time.Duration{10*time.Minute + time.Second, 11 * time.Minute, 12 * time.Minute} {
		e.Pass(off)
		_, err := e.redeem(answer.AccessToken, "r-2", "")
		if err == nil {
			t.Errorf("%s ahead: redeemed again", off)
		}
		e.Pass(-off)
		if _, err := e.redeem(answer.AccessToken, "r-3", ""); err == nil {
			t.Errorf("%s ahead and back: redeemed again", off)
		}
	}
}
