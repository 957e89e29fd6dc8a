package exchange_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/policy"
	"obolus/token"
	"obolus/transaction"
)

// TestRules runs testdata/exchange: one rule in a file, and the name of the file is the rule. A file has a sentence and these
// parts, all but want optional:
//
//	settings  members of exchange.Settings
//	agent     members of agents.Agent that differ from an agent allowed everything
//	subject   the user's own token: user, client, audience, scope, details, jkt, age and lifetime in seconds
//	foreign   claims of a token of the trusted issuer https://idp.test instead, with type for its kind
//	grant     what the user allowed: scopes, uses, details (indexes of ask), and ask, the details that were asked
//	forbid    the guardrails forbid it, and why
//	request   parameters that differ from the ordinary request, one per line; an empty one is left out
//	want      error and reason, and told if the caller learns it; or members of the claims of the token
func TestRules(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/exchange/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no rules", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := map[string]string{}
			for _, f := range txtar.Parse(data).Files {
				parts[f.Name] = strings.TrimSpace(string(f.Data))
			}
			newRule(t, parts).check(t)
		})
	}
}

type rule struct {
	parts map[string]string
	w     *world.World
	key   *token.SigningKey
	idp   *token.SigningKey
	want  struct {
		Error  oauth.Code
		Reason oauth.Reason
		Told   bool
		Status int
		Claims map[string]any
		Absent []string // claims that must not be there
	}
}

func (r *rule) read(t *testing.T, part string, into any) bool {
	t.Helper()
	text, ok := r.parts[part]
	if !ok {
		return false
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Fatalf("%s: %v", part, err)
	}
	return true
}

func newRule(t *testing.T, parts map[string]string) *rule {
	t.Helper()
	r := &rule{parts: parts, w: world.New(t), idp: world.Key(t)}
	r.w.Trusted = []exchange.TrustedIssuer{{
		Issuer: "https://idp.test", Keys: token.NewPublicSet(r.idp.Public()), Algorithms: []string{token.ES256},
		Types: []oauth.TokenType{oauth.TypeJWT, oauth.TypeIDToken}, SubjectPrefix: "idp:", Clients: map[string]string{"their-a": "agent-a"},
	}}
	r.read(t, "settings", &r.w.Settings)
	r.w.Start()
	r.w.Populate()
	r.key = r.w.Agent("agent-a", func(a *agents.Agent) { r.read(t, "agent", a) })
	r.w.Agent("agent-b", nil)
	if !r.read(t, "want", &r.want) {
		t.Fatal("the rule wants nothing")
	}
	if why, forbidden := parts["forbid"]; forbidden {
		r.w.Decide = func(policy.Input) policy.Decision { return policy.Decision{Policies: []string{why}} }
	}
	return r
}

func (r *rule) subject(t *testing.T) (compact, user string, kind oauth.TokenType) {
	t.Helper()
	var foreign struct {
		Type   oauth.TokenType
		Header string
		Claims map[string]any
	}
	if r.read(t, "foreign", &foreign) {
		now := r.w.Now().Unix()
		claims := map[string]any{"iss": "https://idp.test", "sub": "alice", "aud": world.Issuer, "iat": now, "exp": now + 300, "jti": "f1"}
		maps.Copy(claims, foreign.Claims)
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		if foreign.Header == "" {
			foreign.Header = "JWT"
		}
		return r.signForeign(t, foreign.Header, payload), "idp:" + fmt.Sprint(claims["sub"]), foreign.Type
	}
	own := struct {
		User, Client, Audience, Scope, JKT, ACR string
		Details                                 json.RawMessage
		Age, Lifetime                           int
	}{User: "alice", Client: "app", Audience: world.Issuer, Scope: "mail.read mail.send files.read", Lifetime: 600}
	r.read(t, "subject", &own)
	compact = r.w.UserToken(own.User, func(s *transaction.Session) {
		s.Client, s.Audience, s.Scope, s.JKT, s.ACR, s.Details = own.Client, own.Audience, own.Scope, own.JKT, own.ACR, own.Details
		s.AuthTime, s.Lifetime = r.w.Now().Add(-time.Duration(own.Age)*time.Second), time.Duration(own.Lifetime)*time.Second
	})
	return compact, own.User, oauth.TypeAccessToken
}

func (r *rule) signForeign(t *testing.T, typ string, payload []byte) string {
	t.Helper()
	var compact string
	var err error
	if typ == "at+jwt" {
		var c token.Claims
		if err = json.Unmarshal(payload, &c); err != nil {
			t.Fatal(err)
		}
		compact, err = token.NewIssuer(c.Issuer).Sign(c, r.idp)
	} else {
		compact, err = token.NewIssuer("https://idp.test").SignAs(typ, payload, r.idp)
	}
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func (r *rule) consent(t *testing.T, user string) {
	t.Helper()
	var given struct {
		Agent, Target string
		Scopes        []string
		Uses          int
		Details       []int
		Ask           json.RawMessage
		Seconds       int
		Withdrawn     bool
	}
	given.Agent, given.Target, given.Seconds = "agent-a", "mail", 3600
	if !r.read(t, "grant", &given) {
		return
	}
	ctx := t.Context()
	a, _, err := r.w.Registry.Agent(ctx, given.Agent)
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.w.Consents.Ask(ctx, consent.Ask{
		User: user, Agent: given.Agent, Target: given.Target, Scopes: given.Scopes, Details: given.Ask, AgentKeys: a.Fingerprint(),
	})
	if err != nil {
		t.Fatal(err)
	}
	in, err = r.w.Consents.Decide(ctx, in.ID, user, consent.Decision{
		Allow: true, Scopes: given.Scopes, Details: given.Details, Uses: given.Uses,
		Expires: r.w.Now().Add(time.Duration(given.Seconds) * time.Second), AuthTime: r.w.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if given.Withdrawn {
		if err := r.w.Tx.Withdraw(ctx, r.w.Consents, user, in.Grant, transaction.Cause{By: user}); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rule) request(t *testing.T, subject string, kind oauth.TokenType) exchange.Request {
	t.Helper()
	req := exchange.Request{
		SubjectToken: subject, SubjectTokenType: kind, Resources: []string{"https://mail.test/api"}, Scope: "mail.read",
	}
	for line := range strings.Lines(r.parts["request"]) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.NewReplacer("{subject}", subject, "{actor}", r.actorToken(t)).Replace(value)
		switch name {
		case "":
		case "subject_token":
			req.SubjectToken = value
		case "subject_token_type":
			req.SubjectTokenType = oauth.TokenType(value)
		case "actor_token":
			req.ActorToken = value
		case "actor_token_type":
			req.ActorTokenType = oauth.TokenType(value)
		case "requested_token_type":
			req.RequestedTokenType = oauth.TokenType(value)
		case "scope":
			req.Scope = value
		case "authorization_details":
			req.Details = value
		case "resource":
			req.Resources = strings.Fields(value)
		case "audience":
			req.Audiences = strings.Fields(value)
		case "proof":
			req.Proof = &token.Proof{JKT: value, ID: "proof-1", IssuedAt: r.w.Now()}
		default:
			t.Fatalf("no parameter %q", name)
		}
	}
	return req
}

// actorToken is one of agent-a's own making.
func (r *rule) actorToken(t *testing.T) string {
	t.Helper()
	compact, err := token.SignAssertion(r.key, "agent-a", world.Issuer, r.w.Now())
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func (r *rule) check(t *testing.T) {
	t.Helper()
	subject, user, kind := r.subject(t)
	r.consent(t, user)
	answer, err := r.w.Exchange.Do(t.Context(), r.w.Assertion("agent-a", r.key), r.request(t, subject, kind))
	events := r.w.Events(audit.KindExchange)
	if len(events) != 1 {
		t.Fatalf("%d events, not one", len(events))
	}
	if r.want.Error != "" {
		r.checkRefusal(t, err, events[0])
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !events[0].Allowed || events[0].Txn != answer.Txn || events[0].User != user {
		t.Errorf("the event says %+v", events[0])
	}
	r.checkToken(t, answer)
}

func (r *rule) checkRefusal(t *testing.T, err error, event audit.Event) {
	t.Helper()
	if err == nil {
		t.Fatalf("it was allowed; want %s %s", r.want.Error, r.want.Reason)
	}
	got := oauth.AsError(err)
	if got.Code != r.want.Error || got.Reason != r.want.Reason || got.Tell != r.want.Told {
		t.Errorf("refused with %s %s told=%t (%v)\nwant %s %s told=%t", got.Code, got.Reason, got.Tell, err, r.want.Error, r.want.Reason, r.want.Told)
	}
	if r.want.Status != 0 && got.Status() != r.want.Status {
		t.Errorf("status %d, want %d", got.Status(), r.want.Status)
	}
	if event.Allowed || event.Reason != r.want.Reason || event.JTI != "" {
		t.Errorf("the event says %+v", event)
	}
}

func (r *rule) checkToken(t *testing.T, answer oauth.TokenAnswer) {
	t.Helper()
	v, err := r.w.Verifier.Verify(t.Context(), answer.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v.Claims())
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	for name, want := range r.want.Claims {
		got := claims[name]
		if name == "lifetime" {
			got = claims["exp"].(float64) - claims["iat"].(float64)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range append([]string{"may_act"}, r.want.Absent...) {
		if v, there := claims[name]; there {
			t.Errorf("%s is there: %v", name, v)
		}
	}
	c := v.Claims()
	if c.Act == nil || c.Act.Subject != "agent-a" || answer.ExpiresIn != c.Expires-c.IssuedAt || answer.Scope != c.Scope || c.ClientID != "agent-a" {
		t.Errorf("the token and the answer disagree: %s %+v", raw, answer)
	}
	if answer.IssuedTokenType != oauth.TypeAccessToken || !slices.Contains([]string{oauth.Bearer, oauth.DPoP}, answer.TokenType) {
		t.Errorf("%+v", answer)
	}
}
