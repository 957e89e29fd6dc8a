package transaction_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/policy"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// serve makes the servers of a resource.
func (e *errand) serve(id string, servers ...string) {
	e.t.Helper()
	res, version, err := e.Registry.Resource(e.t.Context(), id)
	if err != nil {
		e.t.Fatal(err)
	}
	res.Servers = servers
	if _, err := e.Registry.PutResource(e.t.Context(), res, version); err != nil {
		e.t.Fatal(err)
	}
}

func (e *errand) claims(compact string) token.Claims {
	e.t.Helper()
	v, err := e.Verifier.Verify(e.t.Context(), compact)
	if err != nil {
		e.t.Fatal(err)
	}
	return v.Claims()
}

// named exchanges under an Idempotency-Key.
func (e *errand) named(key string) oauth.TokenAnswer {
	e.t.Helper()
	answer, err := e.Exchange.Do(e.t.Context(), e.Assertion("agent-a", e.key), exchange.Request{
		SubjectToken: e.user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read", IdempotencyKey: key,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return answer
}

// I6: the same answer is for the same resource server, the same id, the same hash and the same token.
func TestWhoGetsTheAnswerAgain(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	e.serve("mail", "mail-server", "files-server")
	compact := e.obolus().AccessToken
	if _, err := e.redeem(compact, "r", "h"); err != nil {
		t.Fatal(err)
	}
	_, err := e.redeemBy("files-server", transaction.Redemption{Token: compact, ID: "r", Hash: "h"})
	refused(t, err, oauth.AlreadyRedeemed) // by another server of the resource

	lost := e.named("key").AccessToken
	if _, err := e.redeem(e.named("key").AccessToken, "r", "h"); err != nil {
		t.Fatal(err)
	}
	_, err = e.redeem(lost, "r", "h")
	refused(t, err, oauth.TokenSuperseded)

	compact = e.obolus().AccessToken
	if _, err := e.redeem(compact, "", ""); err != nil {
		t.Fatal(err)
	}
	_, err = e.redeem(compact, "", "")
	refused(t, err, oauth.AlreadyRedeemed) // without an id every call is like no other
}

// A claim that is refused is taken back, and only that: not the one that somebody else was given before.
func TestARefusalTakesNothingBackFromOthers(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	e.serve("mail", "mail-server", "files-server")
	compact := e.obolus().AccessToken
	if _, err := e.redeem(compact, "r", ""); err != nil { // and this process knows both servers from now on
		t.Fatal(err)
	}
	e.serve("mail", "mail-server")
	_, err := e.redeemBy("files-server", transaction.Redemption{Token: compact, ID: "x"})
	refused(t, err, oauth.WrongAudience)
	if got, err := e.redeem(compact, "r", ""); err != nil || !got.Repeat {
		t.Errorf("the redemption is gone: %+v %v", got, err)
	}
}

// What needs no redemption is not redeemed, and none the worse for the attempt.
func TestASessionTokenIsNotRedeemed(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	session := e.UserToken("alice", func(s *transaction.Session) { s.Audience = "https://mail.test/api" })
	_, err := e.redeem(session, "r", "")
	refused(t, err, oauth.InvalidRequest)
	if seen, err := e.Tx.Introspect(t.Context(), e.Settled("mail-server"), session); err != nil || !seen.Active {
		t.Errorf("active: %t, %v", seen.Active, err)
	}
}

// A token that is over has expired, also when its record is gone.
func TestATokenThatIsForgotten(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	e.Pass(12 * time.Minute)
	_, err := e.redeem(compact, "r", "")
	refused(t, err, oauth.TokenExpired)
}

// A client that has only named itself is told nothing, not even of what was issued to it.
func TestAPublicClientLearnsNothing(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	presented, err := e.Clients.Present(t.Context(), agents.Credentials{Method: oauth.AuthNone, ClientID: "app"})
	if err != nil {
		t.Fatal(err)
	}
	app, err := e.Clients.Settle(t.Context(), presented)
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := e.Tx.Introspect(t.Context(), app, e.user); err != nil || seen.Active {
		t.Errorf("its own token: active %t, %v", seen.Active, err)
	}
	txn := e.obolus().Txn
	e.serve("mail", "mail-server", "app") // whoever registers that
	if _, err := e.Tx.Status(t.Context(), app, "", txn); !errors.Is(err, transaction.ErrNotFound) {
		t.Errorf("the status of a transaction: %v", err)
	}
}

// What ends the user's own token ends what came of it, at once and for everybody who looks.
func TestTheSourceIsLookedAt(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	stop := transaction.Target{Kind: transaction.KindToken, ID: e.claims(e.user).ID}
	if err := e.Tx.Stop(t.Context(), stop, transaction.Cause{By: "alice"}); err != nil {
		t.Fatal(err)
	}
	if seen, err := e.Tx.Introspect(t.Context(), e.Settled("mail-server"), compact); err != nil || seen.Active {
		t.Errorf("active: %t, %v", seen.Active, err)
	}
	_, err := e.redeem(compact, "r", "")
	refused(t, err, oauth.TokenRevoked)
}

// The status is that of the transaction, whatever was refused meanwhile.
func TestStatusOfWhatHappened(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	status := func(txn string) transaction.Status {
		t.Helper()
		s, err := e.Tx.Status(t.Context(), agents.Authenticated{}, "alice", txn)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := e.obolus()
	_, err := e.redeemBy("files-server", transaction.Redemption{Token: a.AccessToken, ID: "r"})
	refused(t, err, oauth.WrongAudience)
	if s := status(a.Txn); s.Phase != transaction.PhaseIssued || !s.Redeemed.IsZero() {
		t.Errorf("after a redemption that was refused: %+v", s)
	}
	e.Pass(time.Second)
	at := e.Now()
	for range 2 {
		if _, err := e.redeem(a.AccessToken, "r", ""); err != nil {
			t.Fatal(err)
		}
		e.Pass(time.Second)
	}
	if s := status(a.Txn); s.Phase != transaction.PhaseRedeemed || !s.Redeemed.Equal(at) {
		t.Errorf("redeemed and asked again: %+v, want %s", s, at)
	}
	mail := e.Settled("mail-server")
	if err := e.Tx.Report(t.Context(), mail, a.Txn, transaction.PhaseFailed, ""); err != nil {
		t.Fatal(err)
	}
	if err := e.Tx.Report(t.Context(), mail, a.Txn, transaction.PhaseCommitted, ""); err == nil {
		t.Error("what had failed was committed")
	}
	if s := status(a.Txn); s.Phase != transaction.PhaseFailed {
		t.Errorf("failed: %+v", s)
	}

	stopped, over := e.obolus(), e.obolus()
	if err := e.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindTxn, ID: stopped.Txn}, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	if s := status(stopped.Txn); s.Phase != transaction.PhaseRevoked {
		t.Errorf("stopped: %+v", s)
	}
	e.Pass(61 * time.Second)
	if s := status(over.Txn); s.Phase != transaction.PhaseExpired {
		t.Errorf("over: %+v", s)
	}
	e.Pass(time.Hour)
	if s := status(over.Txn); s.Phase != transaction.PhaseExpired {
		t.Errorf("forgotten: %+v", s)
	}
}

// Of two reports at once the first stands, and the ledger has no other.
func TestTwoReportsAtOnce(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	a := e.obolus()
	if _, err := e.redeem(a.AccessToken, "r", ""); err != nil {
		t.Fatal(err)
	}
	mail := e.Settled("mail-server")
	hook := func(b store.Batch) {
		if len(b.Commits) == 0 {
			return
		}
		e.Engine.Hook.Store(nil)
		if err := e.Tx.Report(t.Context(), mail, a.Txn, transaction.PhaseFailed, ""); err != nil {
			t.Error(err)
		}
	}
	e.Engine.Hook.Store(&hook)
	refused(t, e.Tx.Report(t.Context(), mail, a.Txn, transaction.PhaseCommitted, ""), oauth.TemporarilyUnavailable)
	if events := e.Events(audit.KindReport); len(events) != 1 || events[0].Why != string(transaction.PhaseFailed) {
		t.Errorf("%+v", events)
	}
	if err := e.Tx.Report(t.Context(), mail, a.Txn, transaction.PhaseCommitted, ""); oauth.AsError(err).Code != oauth.InvalidRequest {
		t.Errorf("said again: %v", err)
	}
}

// WithdrawAll ends what one agent was allowed, and tells of it once.
func TestWithdrawingAllOfOneAgent(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	key := e.Agent("agent-b", nil)
	e.Consent("alice", "agent-b", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	for range 2 {
		if err := e.Tx.WithdrawAll(t.Context(), e.Consents, "alice", "agent-a", transaction.Cause{By: "alice"}); err != nil {
			t.Fatal(err)
		}
	}
	if events := e.Events(audit.KindWithdraw); len(events) != 1 || events[0].Actor != "agent-a" || events[0].Grant != e.grant.ID {
		t.Errorf("%+v", events)
	}
	if _, err := e.exchange(e.user, "agent-b", key); err != nil {
		t.Errorf("another agent: %v", err)
	}
}

// Names of what can be stopped, and names of nothing. A user and an issuer may be called anything.
func TestNamesOfTargets(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	c := e.claims(e.obolus().AccessToken)
	path := strings.TrimPrefix(c.Txn, "txn_")
	for _, known := range []transaction.Target{
		{Kind: transaction.KindUser, ID: "somebody else, with a comma"},
		{Kind: transaction.KindIssuer, ID: "https://idp.test/a?b"},
		{Kind: transaction.KindAgent, ID: "agent-a"},
		{Kind: transaction.KindTxn, ID: c.Txn},
		{Kind: transaction.KindTxn, ID: "txn_" + strings.Repeat("x", 112)},
		{Kind: transaction.KindToken, ID: c.ID},
	} {
		if err := e.Tx.Stop(t.Context(), known, transaction.Cause{By: "operator"}); err != nil {
			t.Errorf("%+v: %v", known, err)
		}
	}
	for _, unknown := range []transaction.Target{
		{Kind: "planet", ID: "mars"},
		{Kind: transaction.KindAgent, ID: "a b"},
		{Kind: transaction.KindClient, ID: ""},
		{Kind: transaction.KindGrant, ID: "g 1"},
		{Kind: transaction.KindTxn, ID: path},
		{Kind: transaction.KindTxn, ID: "txn_short"},
		{Kind: transaction.KindTxn, ID: "txn_" + strings.Repeat("x", 113)},
		{Kind: transaction.KindTxn, ID: c.Txn + "/x"},
		{Kind: transaction.KindTxn, ID: c.Txn + " "},
		{Kind: transaction.KindTxn, ID: c.Txn + "\x7f"},
		{Kind: transaction.KindToken, ID: c.Txn},
		{Kind: transaction.KindToken, ID: "e1"},
		{Kind: transaction.KindToken, ID: "e1." + path},
		{Kind: transaction.KindToken, ID: "e1.x.y"},
		{Kind: transaction.KindToken, ID: "f" + c.ID[1:]},
		{Kind: transaction.KindToken, ID: c.ID[1:]},
		{Kind: transaction.KindToken, ID: c.ID[2:]},
		{Kind: transaction.KindToken, ID: "e1." + strings.Repeat("x", 200) + ".y"},
	} {
		if err := e.Tx.Stop(t.Context(), unknown, transaction.Cause{By: "operator"}); !errors.Is(err, transaction.ErrUnknownTarget) {
			t.Errorf("%+v: %v", unknown, err)
		}
	}
}

// Guardrails and the ledger see at a redemption what the token says.
func TestWhatIsSeenOfARedemption(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	relay := e.Agent("relay", func(a *agents.Agent) { a.Labels = map[string]string{"tier": "gold"} })
	e.serve("mail", "mail-server", "relay")
	e.Consent("alice", "relay", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	first := e.obolus()
	if _, err := e.Tx.Redeem(t.Context(), transaction.Redemption{Server: e.Assertion("relay", relay), Token: first.AccessToken, ID: "r"}); err != nil {
		t.Fatal(err)
	}
	onward, err := e.exchange(first.AccessToken, "relay", relay)
	if err != nil {
		t.Fatal(err)
	}
	var seen policy.Input
	e.Decide = func(in policy.Input) policy.Decision {
		seen = in
		return policy.Decision{Errors: []string{"division by zero"}}
	}
	_, err = e.redeem(onward.AccessToken, "r-2", "")
	refused(t, err, oauth.TokenRevoked)
	if reason := oauth.AsError(err).Reason; reason != oauth.ReasonGuardrailError {
		t.Errorf("an evaluation that failed is told as %s", reason)
	}
	if seen.Stage != policy.Redeem || seen.Agent.ID != "relay" || seen.Agent.Labels["tier"] != "gold" || !slices.Equal(seen.Chain, []string{"relay", "agent-a"}) ||
		seen.User.ID != "alice" || seen.Target.ID != "mail" || seen.Consent.ID == "" || seen.User.AuthTime.IsZero() {
		t.Errorf("%+v", seen)
	}
	e.Decide = func(policy.Input) policy.Decision { return policy.Decision{} }
	_, err = e.redeem(onward.AccessToken, "r-3", "")
	if reason := oauth.AsError(err).Reason; err == nil || reason != oauth.ReasonGuardrail {
		t.Errorf("a guardrail that forbids is told as %s", reason)
	}
	events := e.Events(audit.KindRedeem)
	last := events[len(events)-1]
	if last.Actor != "relay" || !slices.Equal(last.Chain, []string{"relay", "agent-a"}) || last.Grant == "" || last.Target != "https://mail.test/api" {
		t.Errorf("the event says %+v", last)
	}
}

// Guardrails see the details of a token where it has some.
func TestDetailsAreSeenAtARedemption(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	const call = `[{"tool":"send","type":"mcp_tool_call"}]`
	agent, _, err := e.Registry.Agent(t.Context(), "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	in, err := e.Consents.Ask(t.Context(), consent.Ask{User: "alice", Agent: "agent-a", Target: "mail", Details: []byte(call), AgentKeys: agent.Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{Allow: true, Details: []int{0}, Expires: e.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	answer, err := e.Exchange.Do(t.Context(), e.Assertion("agent-a", e.key), exchange.Request{
		SubjectToken: e.user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Details: call,
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Decide = func(in policy.Input) policy.Decision {
		return policy.Decision{Allowed: len(in.Details) == 1 && string(in.Details[0]) == call[1:len(call)-1]}
	}
	if _, err := e.redeem(answer.AccessToken, "r", ""); err != nil {
		t.Error(err)
	}
}

// Only a token of this server, for one resource, is issued.
func TestWhatIsNoIssuance(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	txn, jti := e.Tx.Name("", nil)
	good := token.Claims{Audience: token.Audience{"https://mail.test/api"}, ID: jti, Txn: txn, IssuedAt: e.Now().Unix(), Expires: e.Now().Unix() + 60}
	for name, change := range map[string]func(*token.Claims){
		"no jti":        func(c *token.Claims) { c.ID = "" },
		"another's jti": func(c *token.Claims) { c.ID = "4711" },
		"no audience":   func(c *token.Claims) { c.Audience = nil },
		"two audiences": func(c *token.Claims) { c.Audience = append(c.Audience, "https://files.test") },
	} {
		c := good
		c.Audience = slices.Clone(good.Audience)
		change(&c)
		if err := e.Tx.Issue(t.Context(), transaction.Issuance{Claims: c}); err == nil {
			t.Errorf("%s: it was issued", name)
		}
	}
	if err := e.Tx.Issue(t.Context(), transaction.Issuance{Claims: good}); err != nil {
		t.Error(err)
	}
	if err := e.Tx.Issue(t.Context(), transaction.Issuance{Claims: good}); err == nil {
		t.Error("it was issued twice")
	}
	if _, err := transaction.New(transaction.Config{Issuer: "https://as.test"}); err == nil {
		t.Error("half a configuration was taken")
	}
}
