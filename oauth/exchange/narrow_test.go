package exchange_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
	"obolus/transaction"
)

// universe is everything a party may say of scopes; the resource has the first three.
var universe = []string{"mail.read", "mail.send", "mail.delete", "files.read", "MAIL.READ"}

func someOf(t *rapid.T, name string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(universe), 0, len(universe), rapid.ID).Draw(t, name)
}

// payment is one payment of so much, or nil for none.
func payment(t *rapid.T, name string) json.RawMessage {
	amount := rapid.IntRange(0, 4).Draw(t, name)
	if amount == 0 {
		return nil
	}
	payee := rapid.SampledFrom([]string{``, `,"payee":"shop"`, `,"payee":"thief"`}).Draw(t, name+" payee")
	return json.RawMessage(fmt.Sprintf(`[{"type":"payment","amount":{"currency":"EUR","value":"%d.00"}%s}]`, amount, payee))
}

// drawn is one random errand: what everybody says.
type drawn struct {
	subject, ceiling, grant, asked []string
	subjectPay, ceilingPay         json.RawMessage
	grantPay, askedPay             json.RawMessage
	lifetime, grantLife            int
	ceilingLife                    int
}

func draw(t *rapid.T) drawn {
	return drawn{
		subject: someOf(t, "subject"), ceiling: someOf(t, "ceiling"), grant: someOf(t, "grant"), asked: someOf(t, "asked"),
		subjectPay: payment(t, "subject pays"), ceilingPay: payment(t, "ceiling pays"), grantPay: payment(t, "grant pays"),
		askedPay: payment(t, "asked pays"), lifetime: rapid.IntRange(5, 100).Draw(t, "subject lifetime"),
		grantLife: rapid.IntRange(5, 100).Draw(t, "grant lifetime"), ceilingLife: rapid.IntRange(0, 80).Draw(t, "ceiling lifetime"),
	}
}

// TestNeverWiderThanAnyInput draws what user's token, ceiling, grant and request say at random and holds every token that comes out
// to all of them.
func TestNeverWiderThanAnyInput(t *testing.T) {
	t.Parallel()
	allowed := 0
	rapid.Check(t, func(rt *rapid.T) {
		d := draw(rt)
		w := world.New(t)
		w.Settings.NarrowScopes = rapid.Bool().Draw(rt, "narrow")
		w.Start()
		w.Populate()
		key := w.Agent("agent-a", func(a *agents.Agent) {
			a.Ceiling.Scopes, a.Ceiling.Details = d.ceiling, d.ceilingPay
			a.Ceiling.Lifetime = agents.Duration(time.Duration(d.ceilingLife) * time.Second)
		})
		user := w.UserToken("alice", func(s *transaction.Session) {
			s.Scope, s.Details, s.Lifetime = strings.Join(d.subject, " "), d.subjectPay, time.Duration(d.lifetime)*time.Second
		})
		giveGrant(t, w, d)
		answer, err := w.Exchange.Do(t.Context(), w.Assertion("agent-a", key), exchange.Request{
			SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"},
			Scope: strings.Join(d.asked, " "), Details: string(d.askedPay),
		})
		if err != nil {
			return
		}
		allowed++
		v, err := w.Verifier.Verify(t.Context(), answer.AccessToken)
		if err != nil {
			rt.Fatal(err)
		}
		d.holds(rt, w, v.Claims())
	})
	if allowed == 0 {
		t.Error("nothing was ever allowed: the property was not tried")
	}
}

func giveGrant(t *testing.T, w *world.World, d drawn) {
	t.Helper()
	if len(d.grant) == 0 && d.grantPay == nil {
		return
	}
	a, _, err := w.Registry.Agent(t.Context(), "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	in, err := w.Consents.Ask(t.Context(), consent.Ask{
		User: "alice", Agent: "agent-a", Target: "mail", Scopes: d.grant, Details: d.grantPay, AgentKeys: a.Fingerprint(),
	})
	if err != nil {
		t.Fatal(err)
	}
	decision := consent.Decision{Allow: true, Scopes: d.grant, Expires: w.Now().Add(time.Duration(d.grantLife) * time.Second)}
	if d.grantPay != nil {
		decision.Details = []int{0}
	}
	if _, err := w.Consents.Decide(t.Context(), in.ID, "alice", decision); err != nil {
		t.Fatal(err)
	}
}

func (d drawn) holds(rt *rapid.T, w *world.World, c token.Claims) {
	for _, s := range c.Scopes() {
		for who, has := range map[string][]string{"resource": universe[:3], "subject": d.subject, "ceiling": d.ceiling, "grant": d.grant} {
			if !slices.Contains(has, s) {
				rt.Errorf("scope %s is not of the %s: %v", s, who, has)
			}
		}
		if len(d.asked) > 0 && !slices.Contains(d.asked, s) {
			rt.Errorf("scope %s was not asked for", s)
		}
	}
	if len(c.Scopes()) == 0 && len(c.Details) == 0 {
		rt.Error("a token for nothing")
	}
	if life := c.Expires - c.IssuedAt; life > 60 || life > int64(d.lifetime) || life > int64(d.grantLife) || d.ceilingLife > 0 && life > int64(d.ceilingLife) {
		rt.Errorf("good for %d s", life)
	}
	if len(c.Details) == 0 {
		return
	}
	got, err := w.Details.Parse(c.Details)
	if err != nil {
		rt.Fatal(err)
	}
	for who, limit := range map[string]json.RawMessage{"subject": d.subjectPay, "ceiling": d.ceilingPay, "grant": d.grantPay, "request": d.askedPay} {
		if limit == nil && who != "grant" {
			continue // it says nothing about details
		}
		set, err := w.Details.Parse(limit)
		if err != nil || w.Details.Covers(set, got) != nil {
			rt.Errorf("%s is wider than the %s: %s", c.Details, who, limit)
		}
	}
}
