package transaction_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/policy"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// errand is an agent with a consent and a user's token, ready to exchange.
type errand struct {
	*world.World
	t     *testing.T
	key   *token.SigningKey
	user  string
	grant consent.Grant
}

func newErrand(t *testing.T) *errand {
	t.Helper()
	e := &errand{World: world.New(t), t: t}
	e.Populate()
	e.key = e.Agent("agent-a", nil)
	e.user = e.UserToken("alice", nil)
	e.grant = e.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	return e
}

// obolus exchanges the user's token for one that pays for a transaction.
func (e *errand) obolus() oauth.TokenAnswer {
	e.t.Helper()
	answer, err := e.exchange(e.user, "agent-a", e.key)
	if err != nil {
		e.t.Fatal(err)
	}
	return answer
}

func (e *errand) exchange(subject, agent string, key *token.SigningKey) (oauth.TokenAnswer, error) {
	e.t.Helper()
	return e.Exchange.Do(e.t.Context(), e.Assertion(agent, key), exchange.Request{
		SubjectToken: subject, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	})
}

func (e *errand) redeem(compact, id, hash string) (transaction.Redeemed, error) {
	e.t.Helper()
	return e.redeemBy("mail-server", transaction.Redemption{Token: compact, ID: id, Hash: hash})
}

func (e *errand) redeemBy(server string, r transaction.Redemption) (transaction.Redeemed, error) {
	e.t.Helper()
	r.Server = e.Server(server)
	return e.Tx.Redeem(e.t.Context(), r)
}

// refused wants a refusal with a code.
func refused(t *testing.T, err error, code oauth.Code) {
	t.Helper()
	if err == nil || oauth.AsError(err).Code != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	first, err := e.redeem(compact, "r-1", "h")
	if err != nil || first.Repeat || first.Claims.Subject != "alice" || first.Receipt == "" {
		t.Fatalf("%+v %v", first, err)
	}
	again, err := e.redeem(compact, "r-1", "h")
	if err != nil || !again.Repeat || again.Receipt != first.Receipt || !again.At.Equal(first.At) {
		t.Errorf("the same again: %+v %v", again, err)
	}
	_, err = e.redeem(compact, "r-1", "other")
	refused(t, err, oauth.RequestMismatch)
	_, err = e.redeem(compact, "r-2", "h")
	refused(t, err, oauth.AlreadyRedeemed)
	for range 2 { // without an id every call is like no other
		_, err = e.redeem(compact, "", "")
		refused(t, err, oauth.AlreadyRedeemed)
	}
}

func TestOnceUnderARace(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	for _, c := range []struct {
		name                   string
		id                     func(i int) string
		first, repeat, already int32
	}{
		{"distinct ids", func(i int) string { return fmt.Sprint("r-", i) }, 1, 0, 99},
		{"one id", func(int) string { return "r" }, 1, 99, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			compact := e.obolus().AccessToken
			var first, repeat, already atomic.Int32
			var all sync.WaitGroup
			for i := range 100 {
				all.Go(func() {
					switch got, err := e.redeem(compact, c.id(i), ""); {
					case err == nil && !got.Repeat:
						first.Add(1)
					case err == nil:
						repeat.Add(1)
					case oauth.AsError(err).Code == oauth.AlreadyRedeemed:
						already.Add(1)
					default:
						t.Error(err)
					}
				})
			}
			all.Wait()
			if first.Load() != c.first || repeat.Load() != c.repeat || already.Load() != c.already {
				t.Errorf("%d first, %d repeat, %d already", first.Load(), repeat.Load(), already.Load())
			}
		})
	}
}

func TestWhoMayRedeem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		try  func(e *errand, compact string) error
		want oauth.Code
	}{
		{"another resource server", func(e *errand, compact string) error {
			_, err := e.redeemBy("files-server", transaction.Redemption{Token: compact})
			return err
		}, oauth.WrongAudience},
		{"the agent itself", func(e *errand, compact string) error {
			_, err := e.Tx.Redeem(e.t.Context(), transaction.Redemption{Server: e.Assertion("agent-a", e.key), Token: compact})
			return err
		}, oauth.WrongAudience},
		{"nobody", func(e *errand, compact string) error {
			_, err := e.Tx.Redeem(e.t.Context(), transaction.Redemption{Token: compact})
			return err
		}, oauth.InvalidClient},
		{"a public client", func(e *errand, compact string) error {
			app, err := e.Clients.Present(e.t.Context(), agents.Credentials{Method: oauth.AuthNone, ClientID: "app"})
			if err != nil {
				e.t.Fatal(err)
			}
			_, err = e.Tx.Redeem(e.t.Context(), transaction.Redemption{Server: app, Token: compact})
			return err
		}, oauth.InvalidClient},
		{"with the proof of another key", func(e *errand, compact string) error {
			_, err := e.redeemBy("mail-server", transaction.Redemption{Token: compact, JKT: "thief"})
			return err
		}, oauth.KeyMismatch},
		{"a server that was taken off the resource a moment ago", func(e *errand, compact string) error {
			// The first redemption makes this process know the resource as it was.
			if _, err := e.redeem(e.obolus().AccessToken, "warm", ""); err != nil {
				e.t.Fatal(err)
			}
			res, version, err := e.Registry.Resource(e.t.Context(), "mail")
			if err != nil {
				e.t.Fatal(err)
			}
			was := res
			res.Servers = []string{"files-server"}
			if version, err = e.Registry.PutResource(e.t.Context(), res, version); err != nil {
				e.t.Fatal(err)
			}
			_, refusal := e.redeem(compact, "r", "")
			if _, err := e.Registry.PutResource(e.t.Context(), was, version); err != nil {
				e.t.Fatal(err)
			}
			return refusal
		}, oauth.WrongAudience},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newErrand(t)
			compact := e.obolus().AccessToken
			refused(t, c.try(e, compact), c.want)
			if _, err := e.redeem(compact, "right", ""); err != nil {
				t.Errorf("it burnt the token: %v", err)
			}
		})
	}
}

func TestWhatEndsAToken(t *testing.T) {
	t.Parallel()
	stop := func(kind transaction.Kind, id func(e *errand, a oauth.TokenAnswer) string) func(*errand, oauth.TokenAnswer) {
		return func(e *errand, a oauth.TokenAnswer) {
			if err := e.Tx.Stop(e.t.Context(), transaction.Target{Kind: kind, ID: id(e, a)}, transaction.Cause{By: "operator"}); err != nil {
				e.t.Fatal(err)
			}
		}
	}
	name := func(s string) func(*errand, oauth.TokenAnswer) string {
		return func(*errand, oauth.TokenAnswer) string { return s }
	}
	claims := func(e *errand, compact string) token.Claims {
		v, err := e.Verifier.Verify(e.t.Context(), compact)
		if err != nil {
			e.t.Fatal(err)
		}
		return v.Claims()
	}
	for _, c := range []struct {
		name string
		end  func(*errand, oauth.TokenAnswer)
		want oauth.Code
	}{
		{"its time", func(e *errand, _ oauth.TokenAnswer) { e.Pass(66 * time.Second) }, oauth.TokenExpired},
		{"its agent was stopped", stop(transaction.KindAgent, name("agent-a")), oauth.TokenRevoked},
		{"its user was stopped", stop(transaction.KindUser, name("alice")), oauth.TokenRevoked},
		{"the user's app was stopped", stop(transaction.KindClient, name("app")), oauth.TokenRevoked},
		{"its grant was stopped", stop(transaction.KindGrant, func(e *errand, _ oauth.TokenAnswer) string { return e.grant.ID }), oauth.TokenRevoked},
		{"its transaction was stopped", stop(transaction.KindTxn, func(_ *errand, a oauth.TokenAnswer) string { return a.Txn }), oauth.TokenRevoked},
		{"it was stopped", stop(transaction.KindToken, func(e *errand, a oauth.TokenAnswer) string { return claims(e, a.AccessToken).ID }), oauth.TokenRevoked},
		{"the user's token was stopped", stop(transaction.KindToken, func(e *errand, _ oauth.TokenAnswer) string { return claims(e, e.user).ID }), oauth.TokenRevoked},
		{"its signing key was stopped", stop(transaction.KindKey, func(e *errand, _ oauth.TokenAnswer) string {
			key, err := e.Keys.Signer("")
			if err != nil {
				e.t.Fatal(err)
			}
			return key.KeyID()
		}), oauth.TokenRevoked},
		{"its agent was suspended", func(e *errand, _ oauth.TokenAnswer) {
			if _, err := e.Tx.SetState(e.t.Context(), "agent-a", agents.Suspended, transaction.Cause{By: "operator"}); err != nil {
				e.t.Fatal(err)
			}
		}, oauth.TokenRevoked},
		{"the user took the consent back", func(e *errand, _ oauth.TokenAnswer) {
			if err := e.Tx.WithdrawAll(e.t.Context(), e.Consents, "alice", "agent-a", transaction.Cause{By: "alice"}); err != nil {
				e.t.Fatal(err)
			}
		}, oauth.TokenRevoked},
		{"a guardrail", func(e *errand, _ oauth.TokenAnswer) {
			e.Decide = func(in policy.Input) policy.Decision { return policy.Decision{Allowed: in.Stage != policy.Redeem} }
		}, oauth.TokenRevoked},
		{"the live store forgot it", func(e *errand, _ oauth.TokenAnswer) { e.Restart() }, oauth.StaleEpoch},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newErrand(t)
			answer := e.obolus()
			c.end(e, answer)
			_, err := e.redeem(answer.AccessToken, "r", "")
			refused(t, err, c.want)
			seen, err := e.Tx.Introspect(t.Context(), e.Settled("mail-server"), answer.AccessToken)
			if c.want != oauth.TokenRevoked || c.name != "a guardrail" {
				if err != nil || seen.Active {
					t.Errorf("introspection says active: %v", err)
				}
			}
			for _, event := range e.Events(audit.KindRedeem) {
				if event.Allowed {
					t.Errorf("the ledger has %+v", event)
				}
			}
		})
	}
}

func TestATokenThatWasRedeemedStaysRedeemed(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	if _, err := e.redeem(compact, "r-1", ""); err != nil {
		t.Fatal(err)
	}
	e.Restart()
	for _, id := range []string{"r-1", "r-2"} {
		_, err := e.redeem(compact, id, "")
		refused(t, err, oauth.StaleEpoch)
	}
}

func TestAResumedAgentDoesNotReviveItsTokens(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	for _, state := range []agents.State{agents.Suspended, agents.Active} {
		if _, err := e.Tx.SetState(t.Context(), "agent-a", state, transaction.Cause{By: "operator"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := e.redeem(compact, "r", "")
	refused(t, err, oauth.TokenRevoked)
	if _, err := e.exchange(e.user, "agent-a", e.key); err != nil {
		t.Errorf("the agent stays stopped: %v", err)
	}
	if _, err := e.Tx.SetState(t.Context(), "agent-a", agents.Retired, transaction.Cause{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Tx.SetState(t.Context(), "agent-a", agents.Active, transaction.Cause{}); !errors.Is(err, transaction.ErrState) {
		t.Errorf("an agent came back from retirement: %v", err)
	}
}

func TestALostAnswerCanBeAskedForAgain(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	server := e.Server("mail-server")
	e.Engine.Mute.Store(true)
	_, err := e.Tx.Redeem(t.Context(), transaction.Redemption{Server: server, Token: compact, ID: "r-1"})
	refused(t, err, oauth.TemporarilyUnavailable)
	e.Engine.Mute.Store(false)
	got, err := e.redeem(compact, "r-1", "")
	if err != nil || !got.Repeat {
		t.Errorf("%+v %v", got, err)
	}
	_, err = e.redeem(compact, "r-2", "")
	refused(t, err, oauth.AlreadyRedeemed)
}

func TestWithoutAStoreNothingIsAccepted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		down func(*errand) *atomic.Bool
	}{
		{"live", func(e *errand) *atomic.Bool { return &e.Engine.Down }},
		{"records", func(e *errand) *atomic.Bool { return &e.Records.Down }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newErrand(t)
			compact := e.obolus().AccessToken
			server, agent := e.Server("mail-server"), e.Assertion("agent-a", e.key)
			settled := e.Settled("mail-server")
			c.down(e).Store(true)
			_, err := e.Tx.Redeem(t.Context(), transaction.Redemption{Server: server, Token: compact, ID: "r-1"})
			refused(t, err, oauth.TemporarilyUnavailable)
			_, err = e.Exchange.Do(t.Context(), agent, exchange.Request{
				SubjectToken: e.user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
			})
			refused(t, err, oauth.TemporarilyUnavailable)
			if c.name == "live" {
				_, err = e.Tx.Introspect(t.Context(), settled, compact)
				refused(t, err, oauth.TemporarilyUnavailable)
			}
			err = e.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindAgent, ID: "agent-a"}, transaction.Cause{})
			refused(t, err, oauth.TemporarilyUnavailable)
			c.down(e).Store(false)
			if _, err := e.redeem(compact, "r-1", ""); err != nil && oauth.AsError(err).Code != oauth.TokenRevoked {
				t.Errorf("it does not recover: %v", err)
			}
		})
	}
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	if _, err := e.redeem(e.obolus().AccessToken, "warm", ""); err != nil {
		t.Fatal(err)
	}
	agent, server := e.Assertion("agent-a", e.key), e.Server("mail-server")
	before := e.Engine.Trips.Load()
	answer, err := e.Exchange.Do(t.Context(), agent, exchange.Request{
		SubjectToken: e.user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	})
	if err != nil {
		t.Fatal(err)
	}
	if trips := e.Engine.Trips.Load() - before; trips != 2 {
		t.Errorf("an exchange takes %d live round trips, not 2", trips)
	}
	many := slices.Repeat([]string{"https://mail.test/api", "HTTPS://MAIL.test:443/api", "urn:mail"}, 30)
	agent, before = e.Assertion("agent-a", e.key), e.Engine.Trips.Load()
	if _, err := e.Exchange.Do(t.Context(), agent, exchange.Request{
		SubjectToken: e.user, SubjectTokenType: oauth.TypeAccessToken, Resources: many, Scope: "mail.read",
	}); err != nil {
		t.Fatal(err)
	}
	if trips := e.Engine.Trips.Load() - before; trips != 3 {
		t.Errorf("an exchange for one resource by two names takes %d live round trips, not 3", trips)
	}
	asker := e.Settled("mail-server")
	before = e.Engine.Trips.Load()
	if seen, err := e.Tx.Introspect(t.Context(), asker, answer.AccessToken); err != nil || !seen.Active {
		t.Fatalf("%+v, %v", seen, err)
	}
	if trips := e.Engine.Trips.Load() - before; trips != 1 {
		t.Errorf("an introspection by who is known takes %d live round trips, not 1", trips)
	}
	before = e.Engine.Trips.Load()
	if _, err := e.Tx.Redeem(t.Context(), transaction.Redemption{Server: server, Token: answer.AccessToken, ID: "r"}); err != nil {
		t.Fatal(err)
	}
	if trips := e.Engine.Trips.Load() - before; trips != 1 {
		t.Errorf("a redemption takes %d live round trips, not 1", trips)
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	for range 2 { // looking changes nothing
		seen, err := e.Tx.Introspect(t.Context(), e.Settled("mail-server"), compact)
		if err != nil || !seen.Active || seen.Claims.Act.Subject != "agent-a" {
			t.Fatalf("%+v %v", seen, err)
		}
	}
	for name, what := range map[string]string{"not for this server": compact, "garbage": "garbage", "nothing": ""} {
		if seen, err := e.Tx.Introspect(t.Context(), e.Settled("files-server"), what); err != nil || seen.Active {
			t.Errorf("%s: %+v %v", name, seen, err)
		}
	}
	if _, err := e.redeem(compact, "r", ""); err != nil {
		t.Fatal(err)
	}
	if seen, err := e.Tx.Introspect(t.Context(), e.Settled("mail-server"), compact); err != nil || seen.Active {
		t.Errorf("redeemed: %+v %v", seen, err)
	}
}

// TestOnlyTheRecordOfItsIssuanceLetsATokenCount: with any other text in its place it is worth nothing.
func TestOnlyTheRecordOfItsIssuanceLetsATokenCount(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	compact := e.obolus().AccessToken
	v, err := e.Verifier.Verify(t.Context(), compact)
	if err != nil {
		t.Fatal(err)
	}
	place, ok := transaction.IssuedKey(v.Claims().ID)
	if !ok {
		t.Fatal("no token of ours")
	}
	recs, err := store.Read(t.Context(), e.Live, place)
	if err != nil {
		t.Fatal(err)
	}
	good := string(recs[0].Value)
	put := func(t *testing.T, text string) {
		t.Helper()
		_, err := store.Apply(t.Context(), e.Live, store.Commit{
			Partition: place.Partition, Writes: []store.Write{{Name: place.Name, Value: []byte(text), TTL: time.Hour}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "one more": good + "1 ", "one less": good[strings.Index(good, " ")+1:], "cut": good[:len(good)-1], "another separator": strings.ReplaceAll(good, " ", ","),
		"letters": "a" + good[1:], "sign": "+" + good, "space": " " + good, "too large": "18446744073709551616 " + good, "JSON": `{"g":[` + good + `]}`,
	} {
		put(t, text)
		if seen, err := e.Tx.Introspect(t.Context(), e.Settled("mail-server"), compact); err != nil || seen.Active {
			t.Errorf("%s: active: %+v %v", name, seen, err)
		}
		if got, err := e.redeem(compact, "r", ""); err == nil {
			t.Errorf("%s: redeemed: %+v", name, got)
		}
	}
	again := e.obolus().AccessToken
	if _, err := e.redeem(again, "r", ""); err != nil {
		t.Errorf("another one: %v", err)
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	answer := e.obolus()
	agent, err := e.Clients.Settle(t.Context(), e.Assertion("agent-a", e.key))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, e.Tx.Revoke(t.Context(), agent, e.user, ""), oauth.UnauthorizedClient)
	if _, err := e.Tx.Introspect(t.Context(), agent, answer.AccessToken); err != nil {
		t.Fatal(err)
	}
	for _, compact := range []string{"garbage", "", answer.AccessToken, answer.AccessToken} {
		if err := e.Tx.Revoke(t.Context(), agent, compact, ""); err != nil {
			t.Errorf("%.10q: %v", compact, err)
		}
	}
	_, err = e.redeem(answer.AccessToken, "r", "")
	refused(t, err, oauth.TokenRevoked)
}

func TestOnward(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	// The mail server is an agent as well, and may go on with what it has redeemed.
	serverKey := e.Agent("relay", nil)
	res, version, err := e.Registry.Resource(t.Context(), "mail")
	if err != nil {
		t.Fatal(err)
	}
	res.Servers = append(res.Servers, "relay")
	if _, err := e.Registry.PutResource(t.Context(), res, version); err != nil {
		t.Fatal(err)
	}
	e.Consent("alice", "relay", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	first := e.obolus()

	_, err = e.exchange(first.AccessToken, "relay", serverKey)
	refused(t, err, oauth.InvalidRequest) // not redeemed yet
	if _, err := e.Tx.Redeem(t.Context(), transaction.Redemption{Server: e.Assertion("relay", serverKey), Token: first.AccessToken, ID: "r"}); err != nil {
		t.Fatal(err)
	}
	_, err = e.exchange(first.AccessToken, "agent-a", e.key)
	refused(t, err, oauth.InvalidRequest) // not by who redeemed it
	onward, err := e.exchange(first.AccessToken, "relay", serverKey)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(onward.Txn, first.Txn+".") {
		t.Errorf("%s is not in the lineage of %s", onward.Txn, first.Txn)
	}
	v, err := e.Verifier.Verify(t.Context(), onward.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := v.Claims().Act.Chain(9)
	if err != nil || len(chain) != 2 || chain[0].Subject != "relay" || chain[1].Subject != "agent-a" {
		t.Errorf("%+v %v", chain, err)
	}
	if err := e.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindTxn, ID: first.Txn}, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	_, err = e.redeem(onward.AccessToken, "r-2", "")
	refused(t, err, oauth.TokenRevoked)
}

func TestStatusAndReports(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	answer := e.obolus()
	agent, err := e.Clients.Settle(t.Context(), e.Assertion("agent-a", e.key))
	if err != nil {
		t.Fatal(err)
	}
	mail, files := e.Settled("mail-server"), e.Settled("files-server")
	phase := func(who agents.Authenticated, user string) transaction.Phase {
		t.Helper()
		s, err := e.Tx.Status(t.Context(), who, user, answer.Txn)
		if err != nil {
			t.Fatal(err)
		}
		return s.Phase
	}
	if got := phase(agent, ""); got != transaction.PhaseIssued {
		t.Error(got)
	}
	if err := e.Tx.Report(t.Context(), mail, answer.Txn, transaction.PhaseCommitted, ""); !errors.Is(err, transaction.ErrNotFound) {
		t.Errorf("reported before it was redeemed: %v", err)
	}
	if _, err := e.redeem(answer.AccessToken, "r", ""); err != nil {
		t.Fatal(err)
	}
	if got := phase(mail, ""); got != transaction.PhaseRedeemed {
		t.Error(got)
	}
	if got := phase(agents.Authenticated{}, "alice"); got != transaction.PhaseRedeemed {
		t.Error(got)
	}
	for name, ask := range map[string]func() (transaction.Status, error){
		"another server": func() (transaction.Status, error) { return e.Tx.Status(t.Context(), files, "", answer.Txn) },
		"another user": func() (transaction.Status, error) {
			return e.Tx.Status(t.Context(), agents.Authenticated{}, "bob", answer.Txn)
		},
		"nobody": func() (transaction.Status, error) {
			return e.Tx.Status(t.Context(), agents.Authenticated{}, "", answer.Txn)
		},
		"another txn": func() (transaction.Status, error) {
			return e.Tx.Status(t.Context(), agent, "", "txn_"+strings.Repeat("A", 22))
		},
		"no txn": func() (transaction.Status, error) { return e.Tx.Status(t.Context(), agent, "", "x/y z") },
	} {
		if _, err := ask(); !errors.Is(err, transaction.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		name string
		who  agents.Authenticated
		said transaction.Phase
		ok   bool
	}{
		{"by another server", files, transaction.PhaseCommitted, false},
		{"a word that is none", mail, "done", false},
		{"not known yet", mail, transaction.PhaseIndeterminate, true},
		{"done", mail, transaction.PhaseCommitted, true},
		{"done again", mail, transaction.PhaseCommitted, true},
		{"failed after it was done", mail, transaction.PhaseFailed, false},
	} {
		if err := e.Tx.Report(t.Context(), c.who, answer.Txn, c.said, ""); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := phase(agent, ""); got != transaction.PhaseCommitted {
		t.Error(got)
	}
}

// A stop and a redemption that race end in one of two ways: accepted and then stopped, or refused.
func TestAStopRacingARedemption(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	for i := range 100 {
		compact := e.obolus().AccessToken
		var all sync.WaitGroup
		var err error
		all.Go(func() { _, err = e.redeem(compact, fmt.Sprint(i), "") })
		all.Go(func() {
			if err := e.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindAgent, ID: "agent-a"}, transaction.Cause{By: "operator"}); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if err != nil && oauth.AsError(err).Code != oauth.TokenRevoked {
			t.Fatal(err)
		}
		_, again := e.redeem(compact, "another", "")
		if again == nil {
			t.Fatal("redeemed after the stop")
		}
	}
}

func TestNothingElseIsStopped(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	for _, target := range []transaction.Target{
		{Kind: "planet", ID: "x"}, {Kind: transaction.KindTxn, ID: "x"}, {Kind: transaction.KindToken, ID: "x"}, {Kind: transaction.KindAgent, ID: "a b"},
	} {
		if err := e.Tx.Stop(t.Context(), target, transaction.Cause{}); !errors.Is(err, transaction.ErrUnknownTarget) {
			t.Errorf("%+v: %v", target, err)
		}
	}
	if _, err := e.redeem(e.obolus().AccessToken, "r", ""); err != nil {
		t.Errorf("a stop of nothing stopped something: %v", err)
	}
}

func TestABudgetIsOneTransactionEach(t *testing.T) {
	t.Parallel()
	e := newErrand(t)
	bob := e.UserToken("bob", nil)
	e.Consent("bob", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}, Uses: 1})
	var ok, denied atomic.Int32
	var all sync.WaitGroup
	presented := make([]agents.Presented, 100)
	for i := range presented {
		presented[i] = e.Assertion("agent-a", e.key)
	}
	for _, who := range presented {
		all.Go(func() {
			_, err := e.Exchange.Do(t.Context(), who, exchange.Request{
				SubjectToken: bob, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
			})
			switch {
			case err == nil:
				ok.Add(1)
			case oauth.AsError(err).Code == oauth.AccessDenied:
				denied.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if ok.Load() != 1 || denied.Load() != 99 {
		t.Errorf("%d tokens, %d refusals", ok.Load(), denied.Load())
	}
}
