package exchange_test

import (
	"testing"

	"obolus/consent"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/exchange"
	"obolus/token"
	"obolus/transaction"
)

func TestAStoppedIssuerEndsWhatCameOfItsTokens(t *testing.T) {
	t.Parallel()
	n, idp := &named{World: world.New(t), t: t}, world.Key(t)
	n.Trusted = []exchange.TrustedIssuer{{
		Issuer: "https://idp.test", Keys: token.NewPublicSet(idp.Public()), Algorithms: []string{token.ES256},
		Types: []oauth.TokenType{oauth.TypeJWT}, Scopes: []string{"mail.read"},
	}}
	n.Start()
	n.Populate()
	n.key = n.Agent("agent-a", nil)
	n.Consent("carol", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	n.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})

	payload := []byte(`{"iss":"https://idp.test","aud":"https://as.test","sub":"carol","iat":1772600000,"exp":1893456000}`)
	foreign, err := token.NewIssuer("https://idp.test").SignAs("JWT", payload, idp)
	if err != nil {
		t.Fatal(err)
	}
	exchanged := func(subject string, kind oauth.TokenType) string {
		t.Helper()
		r := n.request("", "mail.read")
		r.SubjectToken, r.SubjectTokenType = subject, kind
		answer, err := n.Exchange.Do(t.Context(), n.Assertion("agent-a", n.key), r)
		if err != nil {
			t.Fatal(err)
		}
		return answer.AccessToken
	}
	carols, alices := exchanged(foreign, oauth.TypeJWT), exchanged(n.UserToken("alice", nil), oauth.TypeAccessToken)
	target := transaction.Target{Kind: transaction.KindIssuer, ID: "https://idp.test"}
	if err := n.Tx.Stop(t.Context(), target, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, n.redeem(carols, "r"), oauth.TokenRevoked, 410)
	if err := n.redeem(alices, "r"); err != nil {
		t.Errorf("somebody else's token: %v", err)
	}
}
