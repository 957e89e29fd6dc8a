package token_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"obolus/token"
)

// A resource server verifies a token of its authorization server, and sees who acts for whom.
func Example() {
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	act := token.Nest(token.Actor{Issuer: "https://as.test", Subject: "agent-a", Profile: "ai_agent"}, nil)
	compact, err := token.NewIssuer("https://as.test").Sign(token.Claims{
		Issuer: "https://as.test", Subject: "alice", Audience: token.Audience{"https://mail.test"}, ClientID: "agent-a",
		IssuedAt: now().Unix(), Expires: now().Add(time.Minute).Unix(), ID: "1", Scope: "mail:send", Act: &act,
	}, key)
	if err != nil {
		fmt.Println(err)
		return
	}

	verifier, err := token.NewVerifier(token.VerifierConfig{Issuer: "https://as.test", Keys: token.NewPublicSet(key.Public()), Now: now})
	if err != nil {
		fmt.Println(err)
		return
	}
	verified, err := verifier.Verify(context.Background(), compact)
	if err != nil {
		fmt.Println(err)
		return
	}
	claims := verified.Claims()
	fmt.Println(claims.Subject, "by", claims.Act.Subject, "for", claims.Scopes(), "at", claims.Audience.Has("https://mail.test"))
	// Output: alice by agent-a for [mail:send] at true
}
