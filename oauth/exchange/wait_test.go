package exchange_test

import (
	"context"
	"testing"
	"time"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/transaction"
)

// A user may take a while. What the agent gets then lives as long as if it had asked then, or the user's one use is not spent on it.
func TestAUserWhoTakesAWhile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		takes    time.Duration
		secret   bool          // the agent's credential does not end
		age      time.Duration // how long ago the user may have signed in
		lifetime int64
		used     int
		code     oauth.Code
	}{
		{name: "no longer than a moment", takes: time.Second, secret: true, lifetime: 60, used: 1},
		{name: "nearly as long as a token lives", takes: 55 * time.Second, secret: true, lifetime: 60, used: 1},
		{name: "longer than a token lives", takes: 62 * time.Second, secret: true, lifetime: 60, used: 1},
		{name: "and the agent's assertion has not ended", takes: 20 * time.Second, lifetime: 40, used: 1},
		{name: "and the agent's assertion has ended", takes: 62 * time.Second, code: oauth.InvalidRequest},
		{name: "so that the sign-in is too old", takes: 20 * time.Second, age: 10 * time.Second, code: oauth.InsufficientUserAuth},
		{name: "but signed in lately enough", takes: 20 * time.Second, age: 20 * time.Second, lifetime: 40, used: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			w.Populate()
			key := w.Agent("agent-a", func(a *agents.Agent) {
				if c.secret {
					a.Credential = agents.Credential{Auth: oauth.AuthSecretBasic, SecretHash: agents.HashSecret(w.Secret, "secret")}
				}
			})
			if c.age > 0 {
				changeResource(t, w, "mail", func(r *agents.Resource) { r.MaxAuthAge = agents.Duration(c.age) })
			}
			who := w.Server
			if !c.secret {
				who = func(id string) agents.Presented { return w.Assertion(id, key) }
			}
			answer, err := slowly(t, w, who("agent-a"), c.takes)
			if c.code != "" {
				wantCode(t, err, c.code, 400)
			} else if err != nil || answer.ExpiresIn != c.lifetime {
				t.Errorf("the token lives for %d seconds, want %d: %v", answer.ExpiresIn, c.lifetime, err)
			}
			grants, err := w.Consents.GrantsOf(t.Context(), "alice")
			if err != nil || len(grants) != 1 || grants[0].Used != c.used {
				t.Errorf("%+v were used, want %d uses: %v", grants, c.used, err)
			}
		})
	}
}

// slowly has an agent wait for a user who takes that long to decide, and gives what the agent is told.
func slowly(t *testing.T, w *world.World, who agents.Presented, takes time.Duration) (answer oauth.TokenAnswer, err error) {
	t.Helper()
	user := w.UserToken("alice", func(s *transaction.Session) { s.Lifetime = time.Hour })
	agent, _, err := w.Registry.Agent(t.Context(), "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	waits, done := make(chan struct{}), make(chan struct{})
	w.Aside = func(context.Context) (func(), bool) {
		close(waits)
		return func() {}, true
	}
	w.Start()
	go func() {
		defer close(done)
		answer, err = w.Exchange.Do(t.Context(), who, exchange.Request{
			SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
			Wait: time.Minute,
		})
	}()
	select {
	case <-waits:
	case <-done:
		t.Fatalf("it does not wait: %v", err)
	}
	w.Pass(takes)
	in, asked := w.Consents.Ask(t.Context(), consent.Ask{
		User: "alice", Agent: "agent-a", Target: "mail", Scopes: []string{"mail.read"}, AgentKeys: agent.Fingerprint(),
	})
	if asked != nil {
		t.Fatal(asked)
	}
	if _, decided := w.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{
		Allow: true, Scopes: []string{"mail.read"}, Uses: 1, Expires: w.Now().Add(time.Hour),
	}); decided != nil {
		t.Fatal(decided)
	}
	<-done
	return answer, err
}

func changeResource(t *testing.T, w *world.World, id string, change func(*agents.Resource)) {
	t.Helper()
	res, version, err := w.Registry.Resource(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	change(&res)
	if _, err := w.Registry.PutResource(t.Context(), res, version); err != nil {
		t.Fatal(err)
	}
}
