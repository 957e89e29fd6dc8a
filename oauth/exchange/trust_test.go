package exchange_test

import (
	"crypto/rand"
	"encoding/json"
	"testing"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
)

// What a user trusted an agent by is its keys, its owner and its operator. When one of them is another, the user is asked again; when it is
// as it was, the consent counts as before; and nothing else that is said of the agent matters.
func TestAnotherKeyOrOwnerAsksTheUserAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*agents.Agent)
		asks   bool
	}{
		"another owner":       {func(a *agents.Agent) { a.Owner = "Somebody else" }, true},
		"another operator":    {func(a *agents.Agent) { a.Operator = "Another cloud" }, true},
		"another name":        {func(a *agents.Agent) { a.Name = "The same by another name" }, false},
		"another model":       {func(a *agents.Agent) { a.Model, a.Version = "next", "2" }, false},
		"other labels":        {func(a *agents.Agent) { a.Labels = map[string]string{"tier": "gold"} }, false},
		"a smaller ceiling":   {func(a *agents.Agent) { a.Ceiling.Scopes = []string{"mail.read"} }, false},
		"another contact":     {func(a *agents.Agent) { a.Contact = "https://help.example" }, false},
		"a date to be over":   {func(a *agents.Agent) { a.Recertify = a.Recertify.AddDate(2100, 0, 0) }, false},
		"one more key beside": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			w.Start()
			w.Populate()
			key := w.Agent("agent-a", nil)
			w.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
			user := w.UserToken("alice", nil)
			ask := func() error {
				_, err := w.Exchange.Do(t.Context(), w.Assertion("agent-a", key), exchange.Request{
					SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
				})
				return err
			}
			if err := ask(); err != nil {
				t.Fatal(err)
			}
			was, version, err := w.Registry.Agent(t.Context(), "agent-a")
			if err != nil {
				t.Fatal(err)
			}
			now := was
			if c.change != nil {
				c.change(&now)
			} else {
				now.JWKS = withAnother(t, was.JWKS)
			}
			if version, err = w.Registry.PutAgent(t.Context(), now, version); err != nil {
				t.Fatal(err)
			}
			err = ask()
			if asked := err != nil && oauth.AsError(err).Code == oauth.InteractionRequired; asked != c.asks || err != nil && !asked {
				t.Errorf("after the change: %v", err)
			}
			if _, err = w.Registry.PutAgent(t.Context(), was, version); err != nil {
				t.Fatal(err)
			}
			if err := ask(); err != nil {
				t.Errorf("as it was again: %v", err)
			}
		})
	}
}

// withAnother adds a key to a set.
func withAnother(t *testing.T, jwks json.RawMessage) json.RawMessage {
	t.Helper()
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var have, more struct {
		Keys []json.RawMessage `json:"keys"`
	}
	data, err := token.NewPublicSet(key.Public()).JWKS()
	if err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal(jwks, &have) != nil || json.Unmarshal(data, &more) != nil || len(more.Keys) != 1 {
		t.Fatalf("%s\n%s", jwks, data)
	}
	have.Keys = append(have.Keys, more.Keys...)
	if data, err = json.Marshal(have); err != nil {
		t.Fatal(err)
	}
	return data
}
