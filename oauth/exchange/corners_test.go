package exchange_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/policy"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// at is an ordinary request of the asker's, for reading mail.
func (a *asker) at(subject string) exchange.Request {
	return exchange.Request{
		SubjectToken: subject, SubjectTokenType: oauth.TypeAccessToken, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	}
}

func (a *asker) do(r exchange.Request) (oauth.TokenAnswer, error) {
	a.t.Helper()
	return a.Exchange.Do(a.t.Context(), a.Assertion("agent-a", a.key), r)
}

func (a *asker) claims(compact string) token.Claims {
	a.t.Helper()
	v, err := a.Verifier.Verify(a.t.Context(), compact)
	if err != nil {
		a.t.Fatal(err)
	}
	return v.Claims()
}

func reasonOf(err error) oauth.Reason {
	if err == nil {
		return ""
	}
	return oauth.AsError(err).Reason
}

// An access token of this server as actor token is the agent's own, counts, and carries no chain. Whatever is wrong with it reads the same.
func TestActorTokensOfThisServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		token func(a *asker) string
		want  oauth.Reason
		lives int64 // of the token that is issued
	}{
		{"its own", func(a *asker) string { return a.UserToken("agent-a", nil) }, "", 60},
		{"its own, about to end", func(a *asker) string {
			return a.UserToken("agent-a", func(s *transaction.Session) { s.Lifetime = 20 * time.Second })
		}, "", 20},
		{"another agent's", func(a *asker) string { return a.UserToken("agent-b", nil) }, oauth.ReasonActorMismatch, 0},
		{"a user's", func(a *asker) string { return a.UserToken("bob", nil) }, oauth.ReasonActorMismatch, 0},
		{"its own, stopped", func(a *asker) string {
			compact := a.UserToken("agent-a", nil)
			target := transaction.Target{Kind: transaction.KindToken, ID: a.claims(compact).ID}
			if err := a.Tx.Stop(a.t.Context(), target, transaction.Cause{By: "operator"}); err != nil {
				a.t.Fatal(err)
			}
			return compact
		}, oauth.ReasonActor, 0},
		{"one by which somebody acts for it", func(a *asker) string {
			key := a.Agent("agent-b", nil)
			a.Consent("agent-a", "agent-b", "files", consent.Decision{Scopes: []string{"files.read"}})
			r := a.at(a.UserToken("agent-a", nil))
			r.Resources, r.Scope = []string{"https://files.test"}, "files.read"
			answer, err := a.Exchange.Do(a.t.Context(), a.Assertion("agent-b", key), r)
			if err != nil {
				a.t.Fatal(err)
			}
			return answer.AccessToken
		}, oauth.ReasonActor, 0},
		{"garbage", func(*asker) string { return "garbage" }, oauth.ReasonActor, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t)
			reading(0, time.Hour)(a)
			r := a.at(a.UserToken("alice", nil))
			r.ActorToken, r.ActorTokenType = c.token(a), oauth.TypeAccessToken
			answer, err := a.do(r)
			if reasonOf(err) != c.want || answer.ExpiresIn != c.lives {
				t.Fatalf("%v, for %d seconds; want %q and %d", err, answer.ExpiresIn, c.want, c.lives)
			}
			if err == nil {
				return
			}
			if refusal := oauth.AsError(err); refusal.Code != oauth.InvalidRequest || refusal.Tell || refusal.Description != "the actor token cannot be used" {
				t.Errorf("it is told: %+v", refusal)
			}
		})
	}
}

// Guardrails see at an exchange who asks for what, and why they refuse is told as little as what they are.
func TestWhatGuardrailsSee(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const call = `[{"tool":"send","type":"mcp_tool_call"}]`
	agent, _, err := a.Registry.Agent(t.Context(), "agent-a")
	if err != nil {
		t.Fatal(err)
	}
	in, err := a.Consents.Ask(t.Context(), consent.Ask{User: "alice", Agent: "agent-a", Target: "mail", Details: []byte(call), AgentKeys: agent.Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	in, err = a.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{Allow: true, Details: []int{0}, Uses: 3, Expires: a.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	signedIn := a.Now().Add(-time.Minute)
	r := a.at(a.UserToken("alice", func(s *transaction.Session) { s.AuthTime, s.ACR = signedIn, "gold" }))
	r.Scope, r.Details = "", call
	var seen policy.Input
	decided := policy.Decision{Errors: []string{"division by zero"}}
	a.Decide = func(in policy.Input) policy.Decision {
		seen = in
		return decided
	}
	_, err = a.do(r)
	wantCode(t, err, oauth.ActorUnauthorized, 400)
	if reasonOf(err) != oauth.ReasonGuardrailError {
		t.Errorf("an evaluation that failed is told as %s", reasonOf(err))
	}
	if seen.Stage != policy.Exchange || seen.Agent.ID != "agent-a" || !slices.Equal(seen.Chain, []string{"agent-a"}) || seen.User.ID != "alice" || seen.User.ACR != "gold" ||
		!seen.User.AuthTime.Equal(signedIn) || seen.Target.ID != "mail" || seen.Consent.ID != in.Grant || seen.Consent.Uses != 3 ||
		len(seen.Details) != 1 || string(seen.Details[0]) != call[1:len(call)-1] {
		t.Errorf("%+v", seen)
	}
	decided = policy.Decision{Policies: []string{"night"}}
	if _, err = a.do(r); reasonOf(err) != oauth.ReasonGuardrail || strings.Contains(err.Error(), "night") {
		t.Errorf("a guardrail that forbids: %v", err)
	}
	r.SubjectToken = a.UserToken("alice", func(s *transaction.Session) { s.AuthTime = time.Time{} })
	if _, err = a.do(r); err == nil || !seen.User.AuthTime.IsZero() {
		t.Errorf("nobody said when the user signed in: %v", seen.User.AuthTime)
	}
}

// How long a token lives is for the resource to say, within the ceiling of the agent, and for one without redemption within ten minutes.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name              string
		target            string
		resource, ceiling time.Duration
		want              int64
	}{
		{"nobody says", "mail", 0, 0, 60},
		{"the resource says less", "mail", 30 * time.Second, 0, 30},
		{"the ceiling says less", "mail", 30 * time.Second, 20 * time.Second, 20},
		{"the ceiling says more", "mail", 30 * time.Second, 40 * time.Second, 30},
		{"the resource wants more than a token that is redeemed has", "mail", 5 * time.Minute, 0, 60},
		{"without redemption, nobody says", "files", 0, 0, 60},
		{"without redemption, the resource says more", "files", 5 * time.Minute, 0, 300},
		{"without redemption, the ceiling says less", "files", 5 * time.Minute, 2 * time.Minute, 120},
		{"without redemption, the resource wants too much", "files", time.Hour, 0, 600},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t)
			a.Agent("agent-a", func(agent *agents.Agent) {
				agent.Credential = agents.Credential{Auth: oauth.AuthSecretBasic, SecretHash: agents.HashSecret(a.Secret, "secret")}
				agent.Ceiling.Lifetime = agents.Duration(c.ceiling)
			})
			changeResource(t, a.World, c.target, func(r *agents.Resource) { r.Lifetime = agents.Duration(c.resource) })
			a.Consent("alice", "agent-a", c.target, consent.Decision{Scopes: []string{"mail.read", "files.read"}})
			r := a.at(a.UserToken("alice", func(s *transaction.Session) { s.Lifetime = 2 * time.Hour }))
			r.Resources, r.Scope = []string{map[string]string{"mail": "https://mail.test/api", "files": "https://files.test"}[c.target]}, c.target+".read"
			answer, err := a.Exchange.Do(t.Context(), a.Server("agent-a"), r)
			if err != nil || answer.ExpiresIn != c.want {
				t.Errorf("%d seconds, want %d: %v", answer.ExpiresIn, c.want, err)
			}
		})
	}
}

// A target that is out of use is like one that never was.
func TestATargetThatIsOutOfUse(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	g := reading(0, time.Hour)(a)
	a.uses("in use", "mail.read", g)
	changeResource(t, a.World, "mail", func(r *agents.Resource) { r.Disabled = true })
	a.refused("out of use", "mail.read", oauth.ReasonTarget)
	changeResource(t, a.World, "mail", func(r *agents.Resource) { r.Disabled = false })
	a.uses("in use again", "mail.read", g)
}

// An exchange that was named is of the agent as it was: with other keys it is not had again.
func TestAnotherKeyDoesNotFindWhatWasPaidFor(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	if _, err := n.ask("key-1"); err != nil {
		t.Fatal(err)
	}
	n.key = n.Agent("agent-a", nil)
	_, err := n.ask("key-1")
	wantCode(t, err, oauth.AccessDenied, 400)
}

// Of two requests under one name, the second is told that the first is under way, and pays nothing.
func TestOneIsUnderWay(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	n.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}, Uses: 2})
	second := n.Assertion("agent-a", n.key)
	var told error
	hook := func(b store.Batch) {
		if !slices.ContainsFunc(b.Commits, issues) {
			return
		}
		n.Engine.Hook.Store(nil)
		_, told = n.Exchange.Do(t.Context(), second, n.request("key-1", "mail.read"))
	}
	n.Engine.Hook.Store(&hook)
	if _, err := n.ask("key-1"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, told, oauth.InvalidRequest, 409)
	used := 0
	grants, err := n.Consents.GrantsOf(t.Context(), "alice")
	for _, g := range grants {
		used += g.Used
	}
	if err != nil || used != 1 {
		t.Errorf("%d uses, %v", used, err)
	}
}

// issues says whether a commit lets a token count.
func issues(c store.Commit) bool {
	return slices.ContainsFunc(c.Writes, func(w store.Write) bool { return strings.HasPrefix(w.Name, "t/") })
}

// Where the user's use cannot be drawn nothing is issued, named or not.
func TestAUseThatCannotBeDrawn(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "key-1"} {
		n := newNamed(t)
		if _, err := n.redeemWarm(); err != nil {
			t.Fatal(err)
		}
		who := n.Assertion("agent-a", n.key)
		n.Records.Down.Store(true)
		_, err := n.Exchange.Do(t.Context(), who, n.request(key, "mail.read"))
		wantCode(t, err, oauth.TemporarilyUnavailable, 503)
		n.Records.Down.Store(false)
		if _, err := n.ask(key); err != nil {
			t.Errorf("key %q, a moment later: %v", key, err)
		}
	}
}

// A named exchange of who redeemed a token stays in its lineage, and ends with it.
func TestANamedExchangeGoesOnInItsLineage(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	reading(0, time.Hour)(a)
	relay := a.Agent("relay", nil)
	changeResource(t, a.World, "mail", func(r *agents.Resource) { r.Servers = append(r.Servers, "relay") })
	a.Consent("alice", "relay", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	first, err := a.do(a.at(a.UserToken("alice", nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Tx.Redeem(t.Context(), transaction.Redemption{Server: a.Assertion("relay", relay), Token: first.AccessToken, ID: "r"}); err != nil {
		t.Fatal(err)
	}
	onward := func() (oauth.TokenAnswer, error) {
		r := a.at(first.AccessToken)
		r.IdempotencyKey = "key-1"
		return a.Exchange.Do(t.Context(), a.Assertion("relay", relay), r)
	}
	lost, err := onward()
	if err != nil {
		t.Fatal(err)
	}
	again, err := onward()
	if err != nil || again.Txn != lost.Txn || !strings.HasPrefix(again.Txn, first.Txn+".") {
		t.Errorf("%s and %s of %s, %v", lost.Txn, again.Txn, first.Txn, err)
	}
	if c := a.claims(again.AccessToken); c.Context.Source == "" || c.Context.Source != a.claims(first.AccessToken).Context.Source || c.Context.Origin != "app" {
		t.Errorf("it comes from %+v", c.Context)
	}
	if err := a.Tx.Stop(t.Context(), transaction.Target{Kind: transaction.KindTxn, ID: first.Txn}, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	_, err = a.Tx.Redeem(t.Context(), transaction.Redemption{Server: a.Server("mail-server"), Token: again.AccessToken, ID: "r"})
	wantCode(t, err, oauth.TokenRevoked, 410)
}

// Whoever goes on with a token by which somebody acts already gets no details that it does not have: neither the resource server that redeemed
// it nor an agent to which it was handed on. What the user has allowed those themselves makes no difference.
func TestGoingOnWithMore(t *testing.T) {
	t.Parallel()
	const one, other = `{"arguments":{"to":"bob"},"tool":"send","type":"mcp_tool_call"}`, `{"tool":"erase","type":"mcp_tool_call"}`
	for _, target := range []string{"mail", "files"} {
		for _, c := range []struct {
			name, has, asks string
			want            oauth.Reason
		}{
			{"details where there are none", "", other, oauth.ReasonSubjectDetails},
			{"others", one, other, oauth.ReasonSubjectDetails},
			{"more", one, one + "," + other, oauth.ReasonSubjectDetails},
			{"the same", one, one, ""},
		} {
			a := newAsker(t)
			relay := a.Agent("relay", nil)
			a.Agent("agent-a", func(agent *agents.Agent) {
				agent.DelegatesTo = []string{"relay"}
				agent.Credential = agents.Credential{Auth: oauth.AuthSecretBasic, SecretHash: agents.HashSecret(a.Secret, "secret")}
			})
			changeResource(t, a.World, target, func(r *agents.Resource) {
				r.Servers, r.Details = append(r.Servers, "relay"), []string{"mcp_tool_call"}
			})
			for _, id := range []string{"agent-a", "relay"} {
				agent, _, err := a.Registry.Agent(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				in, err := a.Consents.Ask(t.Context(), consent.Ask{
					User: "alice", Agent: id, Target: target, Scopes: []string{target + ".read"}, Details: []byte("[" + one + "," + other + "]"), AgentKeys: agent.Fingerprint(),
				})
				if err != nil {
					t.Fatal(err)
				}
				_, err = a.Consents.Decide(t.Context(), in.ID, "alice", consent.Decision{
					Allow: true, Scopes: []string{target + ".read"}, Details: []int{0, 1}, Expires: a.Now().Add(time.Hour),
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			r := a.at(a.UserToken("alice", nil))
			r.Resources, r.Audiences, r.Scope = nil, []string{target}, target+".read"
			if c.has != "" {
				r.Details = "[" + c.has + "]"
			}
			first, err := a.Exchange.Do(t.Context(), a.Server("agent-a"), r)
			if err != nil {
				t.Fatal(err)
			}
			if target == "mail" {
				if _, err := a.Tx.Redeem(t.Context(), transaction.Redemption{Server: a.Assertion("relay", relay), Token: first.AccessToken, ID: "r"}); err != nil {
					t.Fatal(err)
				}
			}
			r.SubjectToken, r.Details = first.AccessToken, "["+c.asks+"]"
			answer, err := a.Exchange.Do(t.Context(), a.Assertion("relay", relay), r)
			if reasonOf(err) != c.want || err == nil && string(answer.AuthorizationDetails) != r.Details {
				t.Errorf("%s at %s: %s %v, want %q", c.name, target, answer.AuthorizationDetails, err, c.want)
			}
		}
	}
}

// A name is a name: 255 characters, and not one more.
func TestALongName(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	_, err := n.ask(strings.Repeat("k", 256))
	wantCode(t, err, oauth.InvalidRequest, 400)
	if _, err := n.ask(strings.Repeat("k", 255)); err != nil {
		t.Error(err)
	}
}

// What is offered is of the grants that count.
func TestOffersOfGrantsThatDoNotCount(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	offer := func() string {
		r := a.at(a.UserToken("alice", nil))
		r.Scope = "mail.read mail.send mail.delete" // the last one is above the ceiling
		_, err := a.do(r)
		o := offerOf(t, err)
		if o == nil {
			return ""
		}
		return o.Scope
	}
	send := func(uses int, lasts time.Duration) consent.Grant {
		return a.allow(consent.Decision{Scopes: []string{"mail.send"}, Uses: uses, Expires: a.Now().Add(lasts)})
	}
	want := func(when, scope string) {
		t.Helper()
		if got := offer(); got != scope {
			t.Errorf("%s: %q is offered, want %q", when, got, scope)
		}
	}
	want("nothing was allowed", "mail.read mail.send")
	send(0, 30*time.Second)
	want("one scope was", "mail.send")
	a.Pass(30 * time.Second)
	want("that is over", "mail.read mail.send")
	a.uses("used", "mail.send", send(1, time.Hour))
	a.Pass(5 * time.Second)
	want("that is used up", "mail.read mail.send")
	g := send(0, time.Hour)
	a.withdraw(g)
	a.Pass(remember)
	want("that was taken back", "mail.read mail.send")
	send(0, time.Hour)
	a.key = a.Agent("agent-a", nil)
	want("that was given to other keys", "mail.read mail.send")
}

func TestAConfigurationIsComplete(t *testing.T) {
	t.Parallel()
	if _, err := exchange.New(exchange.Config{Issuer: "https://as.test"}); err == nil {
		t.Error("half a configuration was taken")
	}
}

// A token of a trusted issuer that says what it is good for is good for no more, by whichever name it says so; only one that says nothing stands for
// what its issuer's tokens stand for.
func TestScopesOfATrustedIssuer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says string
		good []string // of mail.read and mail.send
	}{
		"nothing":                {`"x":1`, []string{"mail.read", "mail.send"}},
		"a scope":                {`"scope":"mail.read"`, []string{"mail.read"}},
		"an empty scope":         {`"scope":""`, nil},
		"scp":                    {`"scp":"mail.read openid"`, []string{"mail.read"}},
		"scp as a list":          {`"scp":["openid","mail.send"]`, []string{"mail.send"}},
		"scp as an empty list":   {`"scp":[]`, nil},
		"scp and an empty scope": {`"scp":"mail.read","scope":""`, nil},
		"an empty scope and scp": {`"scope":"","scp":"mail.read"`, nil},
		"scope and scp":          {`"scope":"mail.read","scp":["mail.read","mail.send"]`, []string{"mail.read"}},
		"scp of another kind":    {`"scp":{"mail.read":true}`, nil},
		"scp with a number":      {`"scp":["mail.read",1]`, nil},
		"scp that is null":       {`"scp":null`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t)
			idp := world.Key(t)
			a.Trusted = []exchange.TrustedIssuer{{
				Issuer: "https://idp.test", Keys: token.NewPublicSet(idp.Public()), Types: []oauth.TokenType{oauth.TypeJWT}, Scopes: []string{"mail.read", "mail.send"},
			}}
			a.Start()
			a.allow(consent.Decision{Scopes: []string{"mail.read", "mail.send"}})
			now := a.Now().Unix()
			payload := fmt.Appendf(nil, `{"iss":"https://idp.test","sub":"alice","aud":%q,"iat":%d,"exp":%d,%s}`, world.Issuer, now, now+300, c.says)
			compact, err := token.NewIssuer("https://idp.test").SignAs("JWT", payload, idp)
			if err != nil {
				t.Fatal(err)
			}
			for _, scope := range []string{"mail.read", "mail.send"} {
				r := a.at(compact)
				r.SubjectTokenType, r.Scope = oauth.TypeJWT, scope
				if _, err := a.do(r); (err == nil) != slices.Contains(c.good, scope) {
					t.Errorf("%s: %v", scope, err)
				}
			}
		})
	}
}
