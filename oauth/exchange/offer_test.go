package exchange_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/agents"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/policy"
	"obolus/token"
	"obolus/transaction"
)

// offered is the member grantable of a refusal.
type offered struct {
	Scope   string          `json:"scope"`
	Details json.RawMessage `json:"authorization_details"`
}

// offerOf reads what a refusal offers; nil: nothing.
func offerOf(t *testing.T, err error) *offered {
	t.Helper()
	refusal, ok := errors.AsType[*oauth.Error](err)
	if !ok || refusal.Members["grantable"] == nil {
		return nil
	}
	data, err := json.Marshal(refusal.Members["grantable"])
	if err != nil {
		t.Fatal(err)
	}
	var o offered
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

// TestWhatIsOfferedIsGranted draws what everybody says at random, guardrails included. What a refusal offers is within all of it, and whoever
// asks for exactly that gets it, or his user is asked.
func TestWhatIsOfferedIsGranted(t *testing.T) {
	t.Parallel()
	offers, granted, asked := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		d := draw(rt)
		forbidden := rapid.SampledFrom(append([]string{"", "payment"}, universe...)).Draw(rt, "a guardrail forbids")
		w := world.New(t)
		w.Decide = func(in policy.Input) policy.Decision {
			return policy.Decision{Allowed: !slices.Contains(in.Scopes, forbidden) && (forbidden != "payment" || len(in.Details) == 0)}
		}
		w.Start()
		w.Populate()
		key := w.Agent("agent-a", func(a *agents.Agent) {
			a.Ceiling.Scopes, a.Ceiling.Details = d.ceiling, d.ceilingPay
		})
		user := w.UserToken("alice", func(s *transaction.Session) {
			s.Scope, s.Details, s.Lifetime = strings.Join(d.subject, " "), d.subjectPay, time.Duration(d.lifetime)*time.Second
		})
		giveGrant(t, w, d)
		ask := func(scope string, details json.RawMessage) (oauth.TokenAnswer, error) {
			return w.Exchange.Do(t.Context(), w.Assertion("agent-a", key), exchange.Request{
				SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"},
				Scope: scope, Details: string(details),
			})
		}
		_, err := ask(strings.Join(d.asked, " "), d.askedPay)
		o := offerOf(t, err)
		if o == nil {
			return
		}
		offers++
		if o.Scope == "" && o.Details == nil {
			rt.Fatalf("nothing is offered by %v", err)
		}
		answer, err := ask(o.Scope, o.Details)
		if err != nil { // the user has not said anything of it yet
			d.grant, d.grantPay = d.asked, d.askedPay
		}
		d.holds(rt, w, token.Claims{Scope: o.Scope, Details: o.Details, IssuedAt: w.Now().Unix(), Expires: w.Now().Unix()})
		switch {
		case err == nil:
			granted++
			if answer.Scope != o.Scope || string(answer.AuthorizationDetails) != string(o.Details) {
				rt.Errorf("offered %s %s, granted %s %s", o.Scope, o.Details, answer.Scope, answer.AuthorizationDetails)
			}
		case oauth.AsError(err).Code == oauth.InteractionRequired:
			asked++
		default:
			rt.Errorf("what was offered, %s %s, is refused: %v", o.Scope, o.Details, err)
		}
	})
	if offers == 0 || granted == 0 || asked == 0 {
		t.Errorf("%d offers, %d granted, %d led to a question: the property was not tried", offers, granted, asked)
	}
}

// The offer is the largest there is, and is only made where the request was too wide for what is the agent's own.
func TestOffers(t *testing.T) {
	t.Parallel()
	const pays = `[{"type":"payment","amount":{"currency":"EUR","value":"10.00"}}]`
	for name, c := range map[string]struct {
		subject, grant, scope string
		grantPay, asked       string
		forbid                string
		withdrawn             bool
		want                  string // of grantable; empty: none
	}{
		"within what the user allowed":        {subject: "mail.read mail.send", grant: "mail.read", scope: "mail.read mail.send", want: `{"scope":"mail.read"}`},
		"within the ceiling, to be asked for": {subject: "mail.read mail.send mail.delete", scope: "mail.read mail.delete", want: `{"scope":"mail.read"}`},
		"within the subject token":            {subject: "mail.read", scope: "mail.read mail.send", want: `{"scope":"mail.read"}`},
		"a scope that is none":                {subject: "mail.read", scope: "mail.read nonsense", want: `{"scope":"mail.read"}`},
		"nothing of it":                       {subject: "mail.read", scope: "nonsense"},
		"a smaller payment": {
			subject: "mail.read", grantPay: pays, asked: `[{"type":"payment","amount":{"currency":"EUR","value":"12.00"},"payee":"Bob"}]`,
			want: `{"authorization_details":[{"type":"payment","amount":{"currency":"EUR","value":"10.00"},"payee":"Bob"}]}`,
		},
		"another currency": {subject: "mail.read", grant: "mail.read", grantPay: pays, asked: `[{"type":"payment","amount":{"currency":"USD","value":"1.00"}}]`, scope: "mail.read", want: `{"scope":"mail.read"}`},
		"both": {
			subject: "mail.read mail.send", grant: "mail.read", grantPay: pays, scope: "mail.read mail.send",
			asked: `[{"type":"payment","amount":{"currency":"EUR","value":"99.00"}}]`,
			want:  `{"authorization_details":[{"type":"payment","amount":{"currency":"EUR","value":"10.00"}}],"scope":"mail.read"}`,
		},
		"what a guardrail forbids is not offered":       {subject: "mail.read mail.send", grant: "mail.read", scope: "mail.read mail.send", forbid: "mail.read"},
		"what is left by a guardrail is":                {subject: "mail.read mail.send", grant: "mail.read", grantPay: pays, scope: "mail.read mail.send", asked: pays, forbid: "mail.read", want: `{"authorization_details":` + pays + `}`},
		"what the user took back is not offered":        {subject: "mail.read mail.send", grant: "mail.read", scope: "mail.read nonsense", withdrawn: true},
		"a request that is refused for something else":  {subject: "mail.read", grant: "mail.read", scope: "mail.read", forbid: "mail.read"},
		"a request that is no scope at all is not read": {subject: "mail.read", grant: "mail.read", scope: `mail.read "`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t)
			w.Decide = func(in policy.Input) policy.Decision {
				return policy.Decision{Allowed: !slices.Contains(in.Scopes, c.forbid) || c.forbid == ""}
			}
			w.Start()
			w.Populate()
			key := w.Agent("agent-a", func(a *agents.Agent) { a.Ceiling.Scopes = []string{"mail.read", "mail.send"} })
			user := w.UserToken("alice", func(s *transaction.Session) { s.Scope = c.subject })
			if c.grant != "" || c.grantPay != "" {
				g := drawn{grant: strings.Fields(c.grant), grantLife: 600}
				if c.grantPay != "" {
					g.grantPay = json.RawMessage(c.grantPay)
				}
				giveGrant(t, w, g)
			}
			if c.withdrawn {
				grants, err := w.Consents.GrantsOf(t.Context(), "alice")
				if err != nil || len(grants) != 1 {
					t.Fatal(grants, err)
				}
				if err := w.Tx.Withdraw(t.Context(), w.Consents, "alice", grants[0].ID, transaction.Cause{By: "alice"}); err != nil {
					t.Fatal(err)
				}
			}
			_, err := w.Exchange.Do(t.Context(), w.Assertion("agent-a", key), exchange.Request{
				SubjectToken: user, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: c.scope, Details: c.asked,
			})
			if err == nil {
				t.Fatal("it was granted")
			}
			got := ""
			if m := oauth.AsError(err).Members["grantable"]; m != nil {
				data, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				got = string(data)
			}
			if !same(got, c.want) {
				t.Errorf("%v offers %s, want %s", err, got, c.want)
			}
		})
	}
}

func same(a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	one, _ := json.Marshal(x)
	other, _ := json.Marshal(y)
	return string(one) == string(other)
}
