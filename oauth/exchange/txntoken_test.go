package exchange_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
)

const domain = "trust.test"

func newDomain(t *testing.T) (*named, string) {
	t.Helper()
	n := &named{World: world.New(t), t: t}
	n.Settings.TrustDomain = domain
	n.Start()
	n.Populate()
	n.key = n.Agent("agent-a", nil)
	n.user = n.UserToken("alice", nil)
	n.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	answer, err := n.ask("")
	if err != nil {
		t.Fatal(err)
	}
	return n, answer.AccessToken
}

func (n *named) redeemAs(server, compact, key string, change func(*exchange.Request)) (oauth.TokenAnswer, error) {
	n.t.Helper()
	r := exchange.Request{
		SubjectToken: compact, SubjectTokenType: oauth.TypeAccessToken, RequestedTokenType: oauth.TypeTxnToken,
		Audiences: []string{domain}, IdempotencyKey: key,
	}
	if change != nil {
		change(&r)
	}
	return n.Exchange.Do(n.t.Context(), n.Server(server), r)
}

func TestARedemptionByExchange(t *testing.T) {
	t.Parallel()
	n, compact := newDomain(t)
	first, err := n.redeemAs("mail-server", compact, "r-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.TokenType != "N_A" || first.IssuedTokenType != oauth.TypeTxnToken || first.ExpiresIn <= 0 {
		t.Errorf("%+v", first)
	}
	header, payload := decode(t, first.AccessToken)
	if header["typ"] != "txntoken+jwt" || payload["aud"] != domain || payload["txn"] != first.Txn || payload["req_wl"] != "mail-server" ||
		payload["sub"] != "alice" || payload["act"].(map[string]any)["act"].(map[string]any)["sub"] != "agent-a" {
		t.Errorf("%v %v", header, payload)
	}
	again, err := n.redeemAs("mail-server", compact, "r-1", nil)
	if err != nil || again.AccessToken != first.AccessToken {
		t.Errorf("the same again: %v", err)
	}
	_, err = n.redeemAs("mail-server", compact, "r-2", nil)
	wantCode(t, err, oauth.InvalidRequest, 400)
	wantCode(t, n.redeem(compact, "r-3"), oauth.AlreadyRedeemed, 409)
	if _, err := n.Verifier.Verify(t.Context(), first.AccessToken); err == nil {
		t.Error("a transaction token passes for an access token")
	}
	if events := n.Events(audit.KindRedeem); len(events) != 4 || !events[0].Allowed {
		t.Errorf("%+v", events)
	}
}

// TT-06: what is asked for by name is at most what the token is good for, and all that is given. Asking for more burns nothing.
func TestARedemptionByExchangeForLess(t *testing.T) {
	t.Parallel()
	n, _ := newDomain(t)
	n.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read", "mail.send"}})
	both, err := n.Exchange.Do(t.Context(), n.Assertion("agent-a", n.key), n.request("", "mail.read mail.send"))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(key, scope, details string) (oauth.TokenAnswer, error) {
		return n.redeemAs("mail-server", both.AccessToken, key, func(r *exchange.Request) { r.Scope, r.Details = scope, details })
	}
	for _, c := range []struct {
		name, scope, details string
		code                 oauth.Code
	}{
		{"wider", "mail.read mail.delete", "", oauth.InvalidScope},
		{"in another case", "Mail.read", "", oauth.InvalidScope},
		{"one that it has not beside one that it has, twice", "mail.read mail.read files.read", "", oauth.InvalidScope},
		{"malformed", "mail.read  mail.send", "", oauth.InvalidScope},
		{"details", "mail.read", `[{"type":"mcp_tool_call","tool":"x"}]`, oauth.InvalidAuthorizationDetails},
	} {
		_, err := ask("r-1", c.scope, c.details)
		if err == nil {
			t.Fatalf("%s: it was given", c.name)
		}
		wantCode(t, err, c.code, 400)
	}
	first, err := ask("r-1", "mail.read", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, payload := decode(t, first.AccessToken); first.Scope != "mail.read" || payload["scope"] != "mail.read" {
		t.Errorf("%q and %v", first.Scope, payload["scope"])
	}
	if again, err := ask("r-1", "mail.read mail.read", ""); err != nil || again.AccessToken != first.AccessToken || again.Scope != first.Scope {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	_, err = ask("r-1", "mail.send", "")
	wantCode(t, err, oauth.InvalidRequest, 400)
}

// DP-24: what was asked for with a proof is bound to its key, and the proof is spent.
func TestARedemptionByExchangeIsBound(t *testing.T) {
	t.Parallel()
	n, compact := newDomain(t)
	with := func(id string) func(*exchange.Request) {
		return func(r *exchange.Request) { r.Proof = &token.Proof{JKT: "key", ID: id, IssuedAt: n.Now()} }
	}
	first, err := n.redeemAs("mail-server", compact, "r-1", with("proof-1"))
	if err != nil {
		t.Fatal(err)
	}
	_, payload := decode(t, first.AccessToken)
	if cnf, _ := payload["cnf"].(map[string]any); cnf["jkt"] != "key" {
		t.Errorf("cnf is %v", payload["cnf"])
	}
	_, err = n.redeemAs("mail-server", compact, "r-1", with("proof-1"))
	wantCode(t, err, oauth.InvalidDPoPProof, 400)
	again, err := n.redeemAs("mail-server", compact, "r-1", with("proof-2"))
	if err != nil || again.AccessToken != first.AccessToken {
		t.Errorf("the same again: %v", err)
	}
	if events := n.Events(audit.KindRedeem); len(events) != 3 || events[1].Allowed {
		t.Errorf("%+v", events)
	}
}

func decode(t *testing.T, compact string) (header, payload map[string]any) {
	t.Helper()
	parts := strings.Split(compact, ".")
	for i, into := range []*map[string]any{&header, &payload} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(data, into) != nil {
			t.Fatal(err)
		}
	}
	return header, payload
}

func TestARedemptionByExchangeIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		server string
		change func(*exchange.Request)
		want   oauth.Code
	}{
		{"to another resource server", "files-server", nil, oauth.InvalidRequest},
		{"for another domain", "mail-server", func(r *exchange.Request) { r.Audiences = []string{"elsewhere"} }, oauth.InvalidTarget},
		{"for no domain", "mail-server", func(r *exchange.Request) { r.Audiences = nil }, oauth.InvalidTarget},
		{"with a resource", "mail-server", func(r *exchange.Request) { r.Resources = []string{"https://mail.test/api"} }, oauth.InvalidTarget},
		{"with an actor", "mail-server", func(r *exchange.Request) { r.ActorToken = "x" }, oauth.InvalidRequest},
		{"of no token", "mail-server", func(r *exchange.Request) { r.SubjectToken = "" }, oauth.InvalidRequest},
		{"of garbage", "mail-server", func(r *exchange.Request) { r.SubjectToken = "a.b.c" }, oauth.InvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, compact := newDomain(t)
			_, err := n.redeemAs(c.server, compact, "r", c.change)
			wantCode(t, err, c.want, 400)
			if err := n.redeem(compact, "right"); err != nil {
				t.Errorf("it burnt the token: %v", err)
			}
		})
	}
	n := newNamed(t) // without a trust domain
	_, err := n.redeemAs("mail-server", "x", "", nil)
	wantCode(t, err, oauth.InvalidRequest, 400)
}

func TestManyRedemptionsByExchange(t *testing.T) {
	t.Parallel()
	n, compact := newDomain(t)
	var ok atomic.Int32
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if _, err := n.redeemAs("mail-server", compact, string(rune('A'+i)), nil); err == nil {
				ok.Add(1)
			}
		})
	}
	all.Wait()
	if ok.Load() != 1 {
		t.Errorf("%d", ok.Load())
	}
}
