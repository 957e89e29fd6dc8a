package exchange_test

import (
	"context"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
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
			answer, err := slowly(t, w, who("agent-a"), func() { w.Pass(c.takes) })
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

// What was stopped or changed while a request waited is so for it too: nothing is issued, and the user's one use is not spent.
func TestWhatHappensWhileARequestWaits(t *testing.T) {
	t.Parallel()
	stop := func(kind transaction.Kind, id string) func(*testing.T, *world.World) {
		return func(t *testing.T, w *world.World) {
			t.Helper()
			if err := w.Tx.Stop(t.Context(), transaction.Target{Kind: kind, ID: id}, transaction.Cause{By: "operator"}); err != nil {
				t.Error(err)
			}
		}
	}
	become := func(states ...agents.State) func(*testing.T, *world.World) {
		return func(t *testing.T, w *world.World) {
			t.Helper()
			for _, state := range states {
				if _, err := w.Tx.SetState(t.Context(), "agent-a", state, transaction.Cause{By: "operator"}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	agent := func(change func(*agents.Agent)) func(*testing.T, *world.World) {
		return func(t *testing.T, w *world.World) {
			t.Helper()
			a, version, err := w.Registry.Agent(t.Context(), "agent-a")
			if err != nil {
				t.Error(err)
			}
			change(&a)
			if _, err := w.Registry.PutAgent(t.Context(), a, version); err != nil {
				t.Error(err)
			}
		}
	}
	for name, c := range map[string]struct {
		meanwhile func(*testing.T, *world.World)
		want      oauth.Reason
	}{
		"nothing":                              {func(*testing.T, *world.World) {}, ""},
		"the agent was suspended":              {become(agents.Suspended), oauth.ReasonAgentInactive},
		"the agent was suspended and resumed":  {become(agents.Suspended, agents.Active), oauth.ReasonSubjectStopped},
		"the user was stopped":                 {stop(transaction.KindUser, "alice"), oauth.ReasonSubjectStopped},
		"the app of the user was stopped":      {stop(transaction.KindClient, "app"), oauth.ReasonSubjectStopped},
		"another user was stopped":             {stop(transaction.KindUser, "bob"), ""},
		"the agent has another key":            {func(t *testing.T, w *world.World) { t.Helper(); w.Agent("agent-a", nil) }, oauth.ReasonClientAuth},
		"the agent is of another owner":        {agent(func(a *agents.Agent) { a.Owner = "another" }), oauth.ReasonClientAuth},
		"the agent has another name":           {agent(func(a *agents.Agent) { a.Name = "Another" }), ""},
		"the ceiling was lowered":              {agent(func(a *agents.Agent) { a.Ceiling.Scopes = []string{"mail.send"} }), oauth.ReasonCeilingScope},
		"the agent may not use the target now": {agent(func(a *agents.Agent) { a.Ceiling.Resources = []string{"files"} }), oauth.ReasonCeilingTarget},
		"the target is out of use": {func(t *testing.T, w *world.World) {
			t.Helper()
			changeResource(t, w, "mail", func(r *agents.Resource) { r.Disabled = true })
		}, oauth.ReasonTarget},
		"the target has no such scope now": {func(t *testing.T, w *world.World) {
			t.Helper()
			changeResource(t, w, "mail", func(r *agents.Resource) { delete(r.Scopes, "mail.read") })
		}, oauth.ReasonScopeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			w.Populate()
			key := w.Agent("agent-a", nil)
			answer, err := slowly(t, w, w.Assertion("agent-a", key), func() { c.meanwhile(t, w) })
			if reasonOf(err) != c.want || (answer.AccessToken == "") != (c.want != "") {
				t.Errorf("%v, want %q", err, c.want)
			}
			grants, err := w.Consents.GrantsOf(t.Context(), "alice")
			if err != nil || len(grants) != 1 || (grants[0].Used == 0) != (c.want != "") {
				t.Errorf("%+v %v", grants, err)
			}
		})
	}
}

// The user's own token is revoked while a request that came with it waits.
func TestTheSubjectTokenEndsWhileARequestWaits(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	w.Populate()
	key := w.Agent("agent-a", nil)
	_, err := slowly(t, w, w.Assertion("agent-a", key), func() {
		for _, e := range w.Events(audit.KindSession) {
			if err := w.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindToken, ID: e.JTI}, transaction.Cause{By: "alice"}); err != nil {
				t.Error(err)
			}
		}
	})
	if reasonOf(err) != oauth.ReasonSubjectStopped {
		t.Error(err)
	}
}

// slowly has an agent wait for a user, meanwhile something happens, and gives what the agent is told when the user has said yes.
func slowly(t *testing.T, w *world.World, who agents.Presented, meanwhile func()) (answer oauth.TokenAnswer, err error) {
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
	meanwhile()
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
