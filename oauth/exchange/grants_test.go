package exchange_test

import (
	"fmt"
	"testing"
	"time"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
	"obolus/transaction"
)

// asker is an agent that asks for what its user has allowed in one way or another.
type asker struct {
	*world.World
	t   *testing.T
	key *token.SigningKey
}

func newAsker(t *testing.T) *asker {
	t.Helper()
	a := &asker{World: world.New(t), t: t}
	a.Start()
	a.Populate()
	a.key = a.Agent("agent-a", nil)
	return a
}

func (a *asker) allow(d consent.Decision) consent.Grant {
	return a.Consent("alice", "agent-a", "mail", d)
}

func (a *asker) withdraw(g consent.Grant) {
	a.t.Helper()
	if err := a.Tx.Withdraw(a.t.Context(), a.Consents, "alice", g.ID, transaction.Cause{By: "alice"}); err != nil {
		a.t.Fatal(err)
	}
}

// ask gives the grant that was used, or the reason why none was.
func (a *asker) ask(scope string) (grant string, reason oauth.Reason) {
	a.t.Helper()
	answer, err := a.Exchange.Do(a.t.Context(), a.Assertion("agent-a", a.key), exchange.Request{
		SubjectToken: a.UserToken("alice", nil), SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: scope,
	})
	if err != nil {
		return "", oauth.AsError(err).Reason
	}
	v, err := a.Verifier.Verify(a.t.Context(), answer.AccessToken)
	if err != nil {
		a.t.Fatal(err)
	}
	return v.Claims().Context.Consent, ""
}

// refused wants a reason.
func (a *asker) refused(when, scope string, want oauth.Reason) {
	a.t.Helper()
	if grant, reason := a.ask(scope); reason != want {
		a.t.Errorf("%s: %q, by the grant %q; want %s", when, reason, grant, want)
	}
}

// uses wants a grant to be used.
func (a *asker) uses(when, scope string, want consent.Grant) {
	a.t.Helper()
	if grant, reason := a.ask(scope); grant != want.ID {
		a.t.Errorf("%s: %q %s, want the grant %s", when, grant, reason, want.ID)
	}
}

const remember = 10 * time.Minute // the world's

func reading(uses int, lasts time.Duration) func(*asker) consent.Grant {
	return func(a *asker) consent.Grant {
		return a.allow(consent.Decision{Scopes: []string{"mail.read"}, Uses: uses, Expires: a.Now().Add(lasts)})
	}
}

// What a user has taken back is not asked for again for a while, but by a request of another kind.
func TestAGrantThatWasTakenBack(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	g := reading(0, time.Hour)(a)
	a.uses("allowed", "mail.read", g)
	a.withdraw(g)
	a.refused("taken back", "mail.read", oauth.ReasonGrantWithdrawn)
	a.refused("something else", "mail.send", oauth.ReasonNoGrant)
	a.refused("more than it was", "mail.read mail.send", oauth.ReasonNoGrant)
	a.Pass(remember - time.Second)
	a.refused("right before the end", "mail.read", oauth.ReasonGrantWithdrawn)
	a.Pass(time.Second)
	a.refused("long ago", "mail.read", oauth.ReasonNoGrant)
	other := reading(1, time.Hour)(a)
	a.uses("allowed again", "mail.read", other)
	a.Pass(5 * time.Second)
	a.refused("used up, and taken back before", "mail.read", oauth.ReasonNoGrant)
}

func TestAGrantThatWasTakenBackBesideOneThatCounts(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	g, other := reading(0, 2*time.Hour)(a), reading(0, time.Hour)(a)
	a.withdraw(g)
	a.uses("the other", "mail.read", other)
	a.withdraw(other)
	a.Pass(2 * time.Hour)
	a.refused("both are over", "mail.read", oauth.ReasonNoGrant)
}

// A grant that is over says nothing any more, taken back or not.
func TestAGrantThatIsOver(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	g := reading(0, 30*time.Second)(a)
	a.Pass(29 * time.Second)
	a.uses("a second before its end", "mail.read", g)
	a.Pass(time.Second)
	a.refused("at its end", "mail.read", oauth.ReasonNoGrant)
	a.refused("at its end, for more", "mail.read mail.send", oauth.ReasonNoGrant)
	short := reading(0, 30*time.Second)(a)
	a.withdraw(short)
	a.refused("taken back", "mail.read", oauth.ReasonGrantWithdrawn)
	a.Pass(30 * time.Second)
	a.refused("taken back and over", "mail.read", oauth.ReasonNoGrant)
}

func TestAGrantThatIsUsedUp(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	g := reading(2, time.Hour)(a)
	a.uses("first", "mail.read", g)
	a.uses("second", "mail.read", g)
	a.refused("used up", "mail.read", oauth.ReasonGrantExhausted)
	a.refused("used up, for something else", "mail.send", oauth.ReasonNoGrant)
	a.refused("used up, for more", "mail.read mail.send", oauth.ReasonNoGrant)
	a.Pass(3*time.Second - 1)
	a.refused("a moment ago", "mail.read", oauth.ReasonGrantExhausted)
	a.Pass(1)
	a.refused("a while ago", "mail.read", oauth.ReasonNoGrant)
}

// Of several grants one that costs nothing comes first, then the one that lasts longest; and one that allows a part is no answer to
// a request for more, unless another allows all of it.
func TestWhichGrantIsUsed(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	once := reading(1, 9*time.Hour)(a)
	a.uses("the only one", "mail.read", once)
	counted, short, long := reading(5, 9*time.Hour)(a), reading(0, time.Hour)(a), reading(0, 2*time.Hour)(a)
	a.uses("free of charge, and the longest", "mail.read", long)
	a.refused("more than each allows", "mail.read mail.send", oauth.ReasonGrantScope)
	wide := a.allow(consent.Decision{Scopes: []string{"mail.read", "mail.send"}, Uses: 1, Expires: a.Now().Add(time.Minute)})
	a.uses("the one that allows it", "mail.read mail.send", wide)
	a.withdraw(long)
	a.uses("the next", "mail.read", short)
	a.withdraw(short)
	a.uses("the one that is counted", "mail.read", counted)
	a.Agent("agent-a", func(agent *agents.Agent) { agent.Owner = "another" })
	a.key = a.Agent("agent-a", nil)
	a.refused("given to other keys", "mail.read", oauth.ReasonNoGrant)
}

// What was allowed before a user was signed out everywhere counts once the user has signed in after that: SSF-02. A token of this server's own is
// always of such a sign-in.
func TestAfterAUserWasSignedOutEverywhere(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	idp := world.Key(t)
	a.Trusted = []exchange.TrustedIssuer{{
		Issuer: "https://idp.test", Keys: token.NewPublicSet(idp.Public()), Types: []oauth.TokenType{oauth.TypeJWT}, Scopes: []string{"mail.read"},
	}}
	a.Start()
	g := reading(0, time.Hour)(a)
	at := a.Now()
	foreign := func(signedIn, issued int64) oauth.Reason {
		t.Helper()
		payload := fmt.Appendf(nil, `{"iss":"https://idp.test","sub":"alice","aud":%q,"iat":%d,"exp":%d`, world.Issuer, issued, a.Now().Unix()+300)
		if signedIn != 0 {
			payload = fmt.Appendf(payload, `,"auth_time":%d`, signedIn)
		}
		compact, err := token.NewIssuer("https://idp.test").SignAs("JWT", append(payload, '}'), idp)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Exchange.Do(t.Context(), a.Assertion("agent-a", a.key), exchange.Request{
			SubjectToken: compact, SubjectTokenType: oauth.TypeJWT, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
		})
		if err == nil {
			return ""
		}
		return oauth.AsError(err).Reason
	}
	if reason := foreign(at.Unix(), at.Unix()); reason != "" {
		t.Fatal(reason)
	}
	a.Pass(time.Second)
	if err := a.Consents.Hold(t.Context(), "alice", at); err != nil {
		t.Fatal(err)
	}
	if err := a.Consents.Hold(t.Context(), "alice", at.Add(-time.Hour)); err != nil { // of before, and told late
		t.Fatal(err)
	}
	for _, c := range []struct {
		name             string
		signedIn, issued int64
		want             oauth.Reason
	}{
		{"signed in before", at.Unix() - 1, at.Unix() - 1, oauth.ReasonUserStopped},
		{"signed in before, issued after", at.Unix() - 1, at.Unix() + 1, oauth.ReasonUserStopped},
		{"signed in at that second", at.Unix(), at.Unix() + 1, oauth.ReasonUserStopped},
		{"issued at that second", 0, at.Unix(), oauth.ReasonUserStopped},
		{"signed in after", at.Unix() + 1, at.Unix() + 1, ""},
		{"issued after", 0, at.Unix() + 1, ""},
	} {
		if reason := foreign(c.signedIn, c.issued); reason != c.want {
			t.Errorf("%s: %q, want %q", c.name, reason, c.want)
		}
	}
	a.uses("a token of this server", "mail.read", g)
	r := a.at(a.UserToken("alice", func(s *transaction.Session) { s.AuthTime = at.Add(-time.Hour) }))
	if _, err := a.do(r); err != nil {
		t.Errorf("a token of this server that was issued since: %v", err)
	}
}

// Details too are a new question to the user, or go too far, as scopes do.
func TestAGrantOfDetails(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ten, twelve, dollars = `[{"amount":{"currency":"EUR","value":"10"},"type":"payment"}]`, `[{"amount":{"currency":"EUR","value":"12"},"type":"payment"}]`,
		`[{"amount":{"currency":"USD","value":"1"},"type":"payment"}]`
	agent, _, err := a.Registry.Agent(t.Context(), "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	in, err := a.Consents.Ask(t.Context(), consent.Ask{User: "alice", Agent: "agent-a", Target: "mail", Details: []byte(ten), AgentKeys: agent.Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{Allow: true, Details: []int{0}, Expires: a.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, scope, details string
		want                 oauth.Reason
	}{
		{"what was allowed", "", ten, ""},
		{"more of it", "", twelve, oauth.ReasonGrantDetails},
		{"something else", "", dollars, oauth.ReasonNoGrant},
		{"a scope", "mail.read", "", oauth.ReasonNoGrant},
		{"a scope beside it", "mail.read", ten, oauth.ReasonGrantScope},
		{"whatever was allowed", "", "", ""},
	} {
		r := a.at(a.UserToken("alice", nil))
		r.Scope, r.Details = c.scope, c.details
		if _, err := a.do(r); reasonOf(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
