package exchange_test

import (
	"context"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"testing"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// named is an agent that may act once for its user and gives its requests a name.
type named struct {
	*world.World
	t    *testing.T
	key  *token.SigningKey
	user string
}

func newNamed(t *testing.T) *named {
	t.Helper()
	n := &named{World: world.New(t), t: t}
	n.Populate()
	n.key = n.Agent("agent-a", nil)
	n.user = n.UserToken("alice", nil)
	n.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read", "mail.send"}, Uses: 1})
	return n
}

func (n *named) request(key, scope string) exchange.Request {
	return exchange.Request{
		SubjectToken: n.user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: scope,
		IdempotencyKey: key,
	}
}

func (n *named) ask(key string) (oauth.TokenAnswer, error) {
	n.t.Helper()
	return n.Exchange.Do(n.t.Context(), n.Assertion("agent-a", n.key), n.request(key, "mail.read"))
}

func (n *named) redeem(compact, id string) error {
	n.t.Helper()
	_, err := n.Tx.Redeem(n.t.Context(), transaction.Redemption{Server: n.Server("mail-server"), Token: compact, ID: id})
	return err
}

func wantCode(t *testing.T, err error, code oauth.Code, status int) {
	t.Helper()
	if err == nil || oauth.AsError(err).Code != code || oauth.AsError(err).Status() != status {
		t.Errorf("%v, want %d %s", err, status, code)
	}
}

func TestALostAnswer(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	lost, err := n.ask("key-1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := n.ask("key-1")
	if err != nil {
		t.Fatal(err)
	}
	if again.Txn != lost.Txn || again.AccessToken == lost.AccessToken {
		t.Errorf("%s and %s", lost.Txn, again.Txn)
	}
	wantCode(t, n.redeem(lost.AccessToken, "r"), oauth.TokenSuperseded, 410)
	if err := n.redeem(again.AccessToken, "r"); err != nil {
		t.Error(err)
	}
	_, err = n.ask("key-1")
	wantCode(t, err, oauth.TransactionConsumed, 400)
	grants, err := n.Consents.GrantsOf(t.Context(), "alice")
	if err != nil || grants[0].Used != 1 {
		t.Errorf("%d uses, %v", grants[0].Used, err)
	}
	_, err = n.ask("key-2")
	wantCode(t, err, oauth.AccessDenied, 400)
}

// TestAnAgentThatHangsUp: whenever it does, the same request finds its transaction at once, paid for once.
func TestAnAgentThatHangsUp(t *testing.T) {
	t.Parallel()
	for k := range int32(5) {
		n := newNamed(t)
		ctx, cancel := context.WithCancel(t.Context())
		var batches atomic.Int32
		hook := func(store.Batch) {
			if batches.Add(1) == k+1 {
				cancel()
			}
		}
		n.Engine.Hook.Store(&hook)
		_, _ = n.Exchange.Do(ctx, n.Assertion("agent-a", n.key), n.request("key-1", "mail.read"))
		n.Engine.Hook.Store(nil)
		cancel()
		again, err := n.ask("key-1")
		if err != nil {
			t.Errorf("hung up at batch %d of %d: %v", k+1, batches.Load(), err)
			continue
		}
		if err := n.redeem(again.AccessToken, "r"); err != nil {
			t.Error(err)
		}
		if grants, err := n.Consents.GrantsOf(t.Context(), "alice"); err != nil || grants[0].Used != 1 {
			t.Errorf("hung up at batch %d: %d uses, %v", k+1, grants[0].Used, err)
		}
	}
}

func TestAnotherRequestUnderTheSameName(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	if _, err := n.ask("key-1"); err != nil {
		t.Fatal(err)
	}
	_, err := n.Exchange.Do(t.Context(), n.Assertion("agent-a", n.key), n.request("key-1", "mail.send"))
	wantCode(t, err, oauth.InvalidRequest, 422)
	other := n.Agent("agent-b", nil) // the name belongs to who gave it
	n.Consent("alice", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	if _, err := n.Exchange.Do(t.Context(), n.Assertion("agent-b", other), n.request("key-1", "mail.read")); err != nil {
		t.Error(err)
	}
}

func TestAConsentTakenBackEndsTheName(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	if _, err := n.ask("key-1"); err != nil {
		t.Fatal(err)
	}
	if err := n.Tx.WithdrawAll(t.Context(), n.Consents, "alice", "agent-a", transaction.Cause{By: "alice"}); err != nil {
		t.Fatal(err)
	}
	_, err := n.ask("key-1")
	wantCode(t, err, oauth.AccessDenied, 400)
}

func TestAStoppedTransactionStaysStopped(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	first, err := n.ask("key-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindTxn, ID: first.Txn}, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	_, err = n.ask("key-1")
	wantCode(t, err, oauth.AccessDenied, 400)
}

func TestAfterTheServerForgot(t *testing.T) {
	t.Parallel()
	for _, redeemed := range []bool{true, false} {
		n := newNamed(t)
		first, err := n.ask("key-1")
		if err != nil {
			t.Fatal(err)
		}
		want := oauth.TransactionIndeterminate
		if redeemed {
			want = oauth.TransactionConsumed
			if err := n.redeem(first.AccessToken, "r"); err != nil {
				t.Fatal(err)
			}
		}
		n.Restart()
		n.Pass(2e9)
		n.user = n.UserToken("alice", nil)
		_, err = n.ask("key-1")
		wantCode(t, err, want, 400)
	}
}

// A duplicate is in the ledger too, after the exchange it repeats, and must not hide it: what was issued is never issued again.
func TestADuplicateDoesNotHideTheTransaction(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	n.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}}) // as often as it likes
	who := n.Assertion("agent-a", n.key)
	r := n.request("key-1", "mail.read")
	r.Proof = &token.Proof{JKT: "key", ID: "p-1", IssuedAt: n.Now()}
	r.Bytes = sha256.Sum256([]byte("these bytes"))
	first, err := n.Exchange.Do(t.Context(), who, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Exchange.Do(t.Context(), who, r); err != nil {
		t.Fatal(err)
	}
	status, err := n.Tx.Status(t.Context(), agents.Authenticated{}, "alice", first.Txn)
	if err != nil || status.Phase != transaction.PhaseIssued {
		t.Errorf("the status is %+v, %v", status, err)
	}
	if err := n.redeem(first.AccessToken, "r"); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	n.Pass(2e9)
	r.SubjectToken, r.Proof = n.UserToken("alice", nil), &token.Proof{JKT: "key", ID: "p-2", IssuedAt: n.Now()}
	again, err := n.Exchange.Do(t.Context(), n.Assertion("agent-a", n.key), r)
	if err == nil && n.redeem(again.AccessToken, "r-2") == nil {
		t.Errorf("%s was redeemed twice", again.Txn)
	}
	wantCode(t, err, oauth.TransactionConsumed, 400)
}

func TestManyAtOnceUnderOneName(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	presented := make([]agents.Presented, 50)
	for i := range presented {
		presented[i] = n.Assertion("agent-a", n.key)
	}
	var mu sync.Mutex
	var got []oauth.TokenAnswer
	var all sync.WaitGroup
	for _, who := range presented {
		all.Go(func() {
			answer, err := n.Exchange.Do(t.Context(), who, n.request("key-1", "mail.read"))
			if err != nil {
				wantCode(t, err, oauth.InvalidRequest, 409)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, answer)
		})
	}
	all.Wait()
	if len(got) == 0 {
		t.Fatal("nobody got an answer")
	}
	var alive atomic.Int32
	for i, answer := range got {
		if answer.Txn != got[0].Txn {
			t.Errorf("two transactions: %s and %s", answer.Txn, got[0].Txn)
		}
		if n.redeem(answer.AccessToken, string(rune('a'+i))) == nil {
			alive.Add(1)
		}
	}
	grants, err := n.Consents.GrantsOf(t.Context(), "alice")
	if alive.Load() != 1 || err != nil || grants[0].Used != 1 {
		t.Errorf("%d tokens alive, %d uses, %v", alive.Load(), grants[0].Used, err)
	}
}

func TestALostIssuanceIsNotPaidForTwice(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	if _, err := n.redeemWarm(); err != nil {
		t.Fatal(err)
	}
	who := n.Assertion("agent-a", n.key)
	n.Records.Mute.Store(true) // the draw is made and its answer lost
	_, err := n.Exchange.Do(t.Context(), who, n.request("key-1", "mail.read"))
	wantCode(t, err, oauth.TemporarilyUnavailable, 503)
	n.Records.Mute.Store(false)
	n.Pass(31e9)
	if _, err := n.ask("key-1"); err != nil {
		t.Errorf("the use was lost: %v", err)
	}
}

// redeemWarm makes the server know everybody, so that a request reads nothing from records.
func (n *named) redeemWarm() (oauth.TokenAnswer, error) {
	n.t.Helper()
	n.Consent("alice", "agent-a", "files", consent.Decision{Scopes: []string{"files.read"}})
	r := n.request("", "files.read")
	r.Resources = []string{"https://files.test"}
	return n.Exchange.Do(n.t.Context(), n.Assertion("agent-a", n.key), r)
}

func TestTheSameBytesTwice(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	who := n.Assertion("agent-a", n.key)
	r := n.request("key-1", "mail.read")
	r.Proof = &token.Proof{JKT: "key", ID: "p-1", IssuedAt: n.Now()}
	r.Bytes = sha256.Sum256([]byte("these bytes"))
	first, err := n.Exchange.Do(t.Context(), who, r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := n.Exchange.Do(t.Context(), who, r)
	if err != nil || again.AccessToken != first.AccessToken {
		t.Errorf("%v", err)
	}
	if err := n.redeem(again.AccessToken, "r"); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*exchange.Request){
		"other bytes":       func(r *exchange.Request) { r.Bytes = sha256.Sum256([]byte("other bytes")) },
		"another name":      func(r *exchange.Request) { r.IdempotencyKey = "key-2" },
		"no name":           func(r *exchange.Request) { r.IdempotencyKey = "" },
		"no key of its own": func(r *exchange.Request) { r.Proof = nil },
	} {
		replayed := r
		change(&replayed)
		if _, err := n.Exchange.Do(t.Context(), who, replayed); err == nil {
			t.Errorf("%s: the replay was answered", name)
		}
	}
	n.Pass(11e9)
	if _, err := n.Exchange.Do(t.Context(), who, r); err == nil {
		t.Error("the answer was kept for too long")
	}
	if n.Events(audit.KindExchange)[1].Why == "" {
		t.Error("the ledger does not tell the duplicate from the first")
	}
}

func TestAnAgentThatAsksTooOften(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	n.key = n.Agent("agent-a", func(a *agents.Agent) { a.Ceiling.Rate = 3 })
	for range 3 {
		if _, err := n.ask(""); err != nil && oauth.AsError(err).Status() == 429 {
			t.Fatal(err)
		}
	}
	_, err := n.ask("")
	wantCode(t, err, oauth.TemporarilyUnavailable, 429)
	if oauth.AsError(err).RetryAfter <= 0 {
		t.Error("it does not say when")
	}
	n.Pass(60e9)
	if _, err := n.ask(""); err != nil && oauth.AsError(err).Status() == 429 {
		t.Errorf("a minute later: %v", err)
	}
}
