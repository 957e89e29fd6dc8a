package signals_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/signals"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
	"obolus/users"
)

const (
	idp    = "https://idp.test"
	bearer = "a token that was agreed upon"
)

type object = map[string]any

// house is a world with accounts and a receiver, to which idp sends events of its users.
type house struct {
	*world.World
	t        *testing.T
	book     *users.Book
	receiver *signals.Receiver
	key      *token.SigningKey // of idp
	agent    *token.SigningKey
}

func newHouse(t *testing.T, change func(*signals.ReceiverConfig)) *house {
	t.Helper()
	h := &house{World: world.New(t), t: t, key: world.Key(t)}
	h.Trusted = []exchange.TrustedIssuer{{
		Issuer: idp, Keys: token.NewPublicSet(h.key.Public()), Algorithms: []string{token.ES256}, Types: []oauth.TokenType{oauth.TypeJWT},
		SubjectPrefix: "corp:", Scopes: []string{"mail.read"},
	}}
	h.Start()
	h.Populate()
	h.agent = h.Agent("agent-a", nil)
	var err error
	h.book, err = users.NewBook(users.BookConfig{
		Records: h.Records, Live: h.Live, Claim: h.Registry.Claim, Record: h.Recorder.Record, Now: h.Now, Providers: []string{"corp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := signals.ReceiverConfig{
		Transmitters: []signals.Transmitter{{
			Issuer: idp, Audience: world.Issuer, Keys: token.NewPublicSet(h.key.Public()), Subjects: idp,
			User: func(sub string) string { return "corp:" + sub },
		}},
		Live: h.Live, SignOut: h.book.SignOutBefore, Hold: h.Consents.Hold, Stop: h.Tx.Stop, Record: h.Recorder.Record,
		Longest: func(context.Context) (time.Duration, error) { return time.Hour, nil }, Now: h.Now,
	}
	if change != nil {
		change(&cfg)
	}
	if h.receiver, err = signals.NewReceiver(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

func issSub(sub string) object { return object{"format": "iss_sub", "iss": idp, "sub": sub} }

func revoked(payload object) object { return object{token.EventSessionRevoked: payload} }

// event is a good one about carol, with changes; nil takes a member out.
func (h *house) event(changes object) string {
	h.t.Helper()
	return h.signed("secevent+jwt", h.key, changes)
}

var serial atomic.Int64

func (h *house) signed(typ string, key *token.SigningKey, changes object) string {
	h.t.Helper()
	claims := object{
		"iss": idp, "aud": world.Issuer, "iat": h.Now().Unix(), "jti": fmt.Sprint("set-", serial.Add(1)), "sub_id": issSub("carol"), "events": revoked(object{}),
	}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		h.t.Fatal(err)
	}
	signed, err := token.NewIssuer(idp).SignAs(typ, payload, key)
	if err != nil {
		h.t.Fatal(err)
	}
	return signed
}

func (h *house) receive(set string) error {
	return h.receiver.Receive(h.t.Context(), signals.Delivery{Token: set, Remote: "192.0.2.7"})
}

// signIn opens a session of carol's, who comes from idp.
func (h *house) signIn() users.Cookie {
	h.t.Helper()
	in, err := h.book.SignInFederated(h.t.Context(), users.Federated{Provider: "corp", Subject: "carol", Name: "Carol", Email: "carol@corp.test", AuthTime: h.Now()})
	if err != nil {
		h.t.Fatal(err)
	}
	return in.Cookie
}

func (h *house) signedIn(c users.Cookie) bool {
	h.t.Helper()
	_, err := h.book.Session(h.t.Context(), c)
	if err != nil && !errors.Is(err, users.ErrNoSession) {
		h.t.Fatal(err)
	}
	return err == nil
}

// exchange exchanges a token of idp that carol got at a time.
func (h *house) exchange(at time.Time) (string, error) {
	h.t.Helper()
	payload, err := json.Marshal(object{
		"iss": idp, "aud": world.Issuer, "sub": "carol", "iat": at.Unix(), "auth_time": at.Unix(), "exp": h.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	foreign, err := token.NewIssuer(idp).SignAs("JWT", payload, h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	answer, err := h.Exchange.Do(h.t.Context(), h.Assertion("agent-a", h.agent), exchange.Request{
		SubjectToken: foreign, SubjectTokenType: oauth.TypeJWT, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	})
	return answer.AccessToken, err
}

func (h *house) active(compact string) bool {
	h.t.Helper()
	found, err := h.Tx.Introspect(h.t.Context(), h.Settled("mail-server"), compact)
	if err != nil {
		h.t.Fatal(err)
	}
	return found.Active
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestARevokedSessionEndsEverythingOfTheUser(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.Consent("corp:carol", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	h.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	cookie, began := h.signIn(), h.Now()
	outstanding, err := h.exchange(began)
	h.must(err)
	own, alices := h.UserToken("corp:carol", nil), h.UserToken("alice", nil)
	h.Pass(time.Minute / 2)
	set := h.event(object{"events": revoked(object{"event_timestamp": h.Now().Unix() - 1, "initiating_entity": "admin"})})
	h.must(h.receive(set))

	if h.signedIn(cookie) {
		t.Error("the session goes on")
	}
	if h.active(outstanding) {
		t.Error("an outstanding token counts")
	}
	for user, compact := range map[string]string{"corp:carol": own, "alice": alices} {
		v, err := h.Verifier.Verify(t.Context(), compact)
		h.must(err)
		standing, err := h.Tx.Standing(t.Context(), v)
		if err != nil || (standing.Phase == transaction.PhaseIssued) != (user == "alice") {
			t.Errorf("the own token of %s is %s: %v", user, standing.Phase, err)
		}
	}
	_, err = h.exchange(began)
	if e := oauth.AsError(err); e.Code != oauth.InsufficientUserAuth || e.Reason != oauth.ReasonUserStopped {
		t.Errorf("a subject token of before: %v", err)
	}
	events := h.Events(audit.KindSignal)
	if len(events) != 1 || events[0].By != "transmitter "+idp || events[0].User != "corp:carol" || events[0].JTI == "" || !events[0].Allowed {
		t.Errorf("the ledger says %+v", events)
	}

	// The next sign-in lifts the suspension.
	h.Pass(2 * time.Second)
	cookie = h.signIn()
	again, err := h.exchange(h.Now())
	if err != nil || !h.active(again) || !h.signedIn(cookie) {
		t.Fatalf("after the next sign-in: %v", err)
	}
	// The same event once more ends nothing, whether it is remembered or not.
	h.must(h.receive(set))
	if !h.signedIn(cookie) || !h.active(again) || len(h.Events(audit.KindSignal)) != 1 {
		t.Error("a repeated event ended something")
	}
}

func TestALateEventEndsWhatBeganBeforeIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	h.Consent("corp:carol", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	before := h.signIn()
	began := h.Now()
	h.Pass(10 * time.Minute)
	happened := h.Now()
	h.Pass(50 * time.Minute)
	after := h.signIn()
	h.Pass(20 * time.Minute)
	late, err := h.exchange(h.Now())
	h.must(err)
	h.must(h.receive(h.event(object{"events": revoked(object{"event_timestamp": happened.Unix()})})))
	if h.signedIn(before) || !h.signedIn(after) {
		t.Error("the event ended the session from after it, or not the one from before")
	}
	if !h.active(late) {
		t.Error("an event that comes after the longest life of a token ended a token")
	}
	if _, err := h.exchange(began); oauth.AsError(err).Code != oauth.InsufficientUserAuth {
		t.Errorf("a subject token of before the event: %v", err)
	}
	if _, err := h.exchange(happened.Add(time.Minute)); err != nil {
		t.Errorf("a subject token of after the event: %v", err)
	}
}

func TestWhichEventsAreTaken(t *testing.T) {
	t.Parallel()
	hash := sha256.Sum256([]byte(bearer))
	others := world.Key(t)
	byEmail := func(_ context.Context, email string) ([]string, error) {
		if email == "carol@corp.test" {
			return []string{"corp:carol"}, nil
		}
		return nil, nil
	}
	withToken := func(c *signals.ReceiverConfig) { c.Transmitters[0].TokenHash = hex.EncodeToString(hash[:]) }
	withEmail := func(c *signals.ReceiverConfig) { c.Transmitters[0].ByEmail = byEmail }
	email := func(address string) object { return object{"sub_id": object{"format": "email", "email": address}} }
	unreachable := func(c *signals.ReceiverConfig) {
		c.Transmitters[0].Keys = token.NewRemoteKeys(token.RemoteConfig{Issuer: idp, Now: c.Now})
	}
	for _, c := range []struct {
		name   string
		wire   func(*signals.ReceiverConfig)
		set    func(h *house) string
		bearer string
		code   signals.Code // empty: taken
		ended  bool
		down   bool // 503
	}{
		{name: "session revoked", ended: true},
		{name: "account disabled", set: with(object{"events": object{token.EventAccountDisabled: object{"reason": "hijacking"}}}), ended: true},
		{name: "account purged", set: with(object{"events": object{token.EventAccountPurged: object{}}}), ended: true},
		{name: "credential taken back", set: with(object{"events": object{token.EventCredentialChange: object{"change_type": "revoke"}}}), ended: true},
		{name: "credential added", set: with(object{"events": object{token.EventCredentialChange: object{"change_type": "create"}}})},
		{name: "a type that is not known", set: with(object{"events": object{"https://example.test/event": object{}}, "sub_id": object{"format": "phone_number", "phone_number": "1"}})},
		{name: "one that is known and one that is not", set: with(object{"events": object{"https://example.test/event": object{}, token.EventSessionRevoked: object{}}}), ended: true},
		{name: "the subject in the event", set: with(object{"sub_id": nil, "events": revoked(object{"subject": issSub("carol")})}), ended: true},
		{name: "a complex subject", set: with(object{"sub_id": object{"format": "complex", "user": issSub("carol"), "session": object{"format": "opaque", "id": "s"}}}), ended: true},
		{name: "about somebody else", set: with(object{"sub_id": issSub("dave")})},
		{name: "among several audiences", set: with(object{"aud": []string{"https://x.test", world.Issuer}}), ended: true},
		{name: "the time of the event in toe", set: with(object{"toe": int64(1)})},
		{name: "a time in the future", set: func(h *house) string {
			return h.event(object{"events": revoked(object{"event_timestamp": h.Now().Add(time.Hour).Unix()})})
		}, ended: true},
		{name: "with the token", wire: withToken, bearer: bearer, ended: true},
		{name: "by address", wire: withEmail, set: with(email("carol@corp.test")), ended: true},
		{name: "by an address of nobody", wire: withEmail, set: with(email("nobody@corp.test"))},

		{name: "no token", set: func(*house) string { return "x" }, code: signals.InvalidRequest},
		{name: "an empty body", set: func(*house) string { return "" }, code: signals.InvalidRequest},
		{name: "of another issuer", set: with(object{"iss": "https://evil.test"}), code: signals.InvalidIssuer},
		{name: "for somebody else", set: with(object{"aud": "https://x.test"}), code: signals.InvalidAudience},
		{name: "signed by another key", set: func(h *house) string { return h.signed("secevent+jwt", others, nil) }, code: signals.InvalidKey},
		{name: "an ID token", set: func(h *house) string { return h.signed("JWT", h.key, object{"sub": "carol"}) }, code: signals.InvalidRequest},
		{name: "an access token", set: func(h *house) string { return h.UserToken("corp:carol", nil) }, code: signals.InvalidIssuer},
		{name: "a logout token", set: func(h *house) string { return h.signed("logout+jwt", h.key, nil) }, code: signals.InvalidRequest},
		{name: "without jti", set: with(object{"jti": nil}), code: signals.InvalidRequest},
		{name: "without iat", set: with(object{"iat": nil}), code: signals.InvalidRequest},
		{name: "without subject", set: with(object{"sub_id": nil}), code: signals.InvalidRequest},
		{name: "a subject of another issuer", set: with(object{"sub_id": object{"format": "iss_sub", "iss": "https://x.test", "sub": "carol"}}), code: signals.InvalidRequest},
		{name: "a complex subject without user", set: with(object{"sub_id": object{"format": "complex", "tenant": object{"format": "opaque", "id": "t"}}}), code: signals.InvalidRequest},
		{name: "an address that is not asked for", set: with(email("carol@corp.test")), code: signals.InvalidRequest},
		{name: "a subject that cannot be a user", set: with(object{"sub_id": issSub("ca\nrol")}), code: signals.InvalidRequest},
		{name: "a time that is none", set: with(object{"events": revoked(object{"event_timestamp": "now"})}), code: signals.InvalidRequest},
		{name: "a time before time", set: with(object{"events": revoked(object{"event_timestamp": -1})}), code: signals.InvalidRequest},
		{name: "no time but null", set: with(object{"events": revoked(object{"event_timestamp": json.RawMessage("null")})}), code: signals.InvalidRequest},
		{name: "without the token", wire: withToken, code: signals.AuthenticationFailed},
		{name: "with another token", wire: withToken, bearer: "x", code: signals.AuthenticationFailed},
		{name: "keys that cannot be had", wire: unreachable, down: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, c.wire)
			cookie := h.signIn()
			h.Pass(time.Minute)
			set := h.event(nil)
			if c.set != nil {
				set = c.set(h)
			}
			err := h.receiver.Receive(t.Context(), signals.Delivery{Token: set, Bearer: c.bearer})
			refusal, refused := errors.AsType[*signals.RefusedError](err)
			switch {
			case c.down:
				if refused || oauth.AsError(err).Status() != 503 {
					t.Fatalf("%v", err)
				}
			case refused != (c.code != "") || refused && refusal.Code != c.code || !refused && err != nil:
				t.Fatalf("%v, want %q", err, c.code)
			}
			if h.signedIn(cookie) == c.ended {
				t.Errorf("the session has ended: %v", !c.ended)
			}
		})
	}
}

func with(changes object) func(*house) string {
	return func(h *house) string { return h.event(changes) }
}

// Two configurations may take events of one issuer, each for its own users.
func TestOneIssuerWithTwoKindsOfUsers(t *testing.T) {
	t.Parallel()
	var stopped []string
	h := newHouse(t, func(c *signals.ReceiverConfig) {
		second := c.Transmitters[0]
		second.User = func(sub string) string { return sub }
		third := second
		third.Audience = "https://elsewhere.test"
		third.User = func(string) string { return "nobody" }
		c.Transmitters = append(c.Transmitters, second, third)
		c.Stop = func(_ context.Context, target transaction.Target, _ transaction.Cause) error {
			stopped = append(stopped, target.ID)
			return nil
		}
	})
	h.must(h.receive(h.event(nil)))
	if fmt.Sprint(stopped) != "[carol corp:carol]" {
		t.Errorf("stopped %v", stopped)
	}
}

// What could not be done is done when it is sent again, and acknowledged only then.
func TestAnEventIsTakenWhenItIsDone(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"sign out", "hold", "stop", "ledger", "longest"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			failing := true
			fails := func(at string) error {
				if failing && at == step {
					return store.ErrUnavailable
				}
				return nil
			}
			h := newHouse(t, func(c *signals.ReceiverConfig) {
				was := *c
				c.SignOut = func(ctx context.Context, user string, at time.Time) error {
					return errors.Join(fails("sign out"), was.SignOut(ctx, user, at))
				}
				c.Hold = func(ctx context.Context, user string, at time.Time) error {
					return errors.Join(fails("hold"), was.Hold(ctx, user, at))
				}
				c.Stop = func(ctx context.Context, target transaction.Target, cause transaction.Cause) error {
					return errors.Join(fails("stop"), was.Stop(ctx, target, cause))
				}
				c.Record = func(ctx context.Context, e audit.Event) error {
					if err := fails("ledger"); err != nil {
						return err
					}
					return was.Record(ctx, e)
				}
				c.Longest = func(ctx context.Context) (time.Duration, error) { return time.Hour, fails("longest") }
			})
			set := h.event(nil)
			if err := h.receive(set); oauth.AsError(err).Status() != 503 {
				t.Fatalf("%v", err)
			}
			failing = false
			h.must(h.receive(set))
			h.must(h.receive(set))
			if n := len(h.Events(audit.KindSignal)); n != 1 {
				t.Errorf("the ledger has it %d times", n)
			}
		})
	}
}

func TestOneOfManyDeliveriesActs(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	set := h.event(nil)
	var all sync.WaitGroup
	var taken atomic.Int32
	for range 20 {
		all.Go(func() {
			err := h.receive(set)
			switch {
			case err == nil:
				taken.Add(1)
			case oauth.AsError(err).Status() != 503:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(h.Events(audit.KindSignal)); n != 1 || taken.Load() == 0 {
		t.Errorf("%d were acknowledged, and the ledger has it %d times", taken.Load(), n)
	}
}

func TestWithoutAStoreNothingIsTaken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	set := h.event(nil)
	h.Engine.Down.Store(true)
	if err := h.receive(set); oauth.AsError(err).Status() != 503 || oauth.AsError(err).RetryAfter == 0 {
		t.Errorf("live: %v", err)
	}
	h.Engine.Down.Store(false)
	h.Records.Down.Store(true)
	if err := h.receive(set); oauth.AsError(err).Status() != 503 {
		t.Errorf("records: %v", err)
	}
	h.Records.Down.Store(false)
	h.must(h.receive(set))
}

func TestAReceiverIsComplete(t *testing.T) {
	t.Parallel()
	if _, err := signals.NewReceiver(signals.ReceiverConfig{}); err == nil {
		t.Error("an empty configuration is taken")
	}
	var cfg signals.ReceiverConfig
	newHouse(t, func(c *signals.ReceiverConfig) { cfg = *c })
	cfg.Transmitters = []signals.Transmitter{{Issuer: idp}}
	if _, err := signals.NewReceiver(cfg); err == nil {
		t.Error("an incomplete transmitter is taken")
	}
}
