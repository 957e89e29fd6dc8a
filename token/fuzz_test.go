package token_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"obolus/token"
)

// FuzzParse gives anything to everything that takes a compact token. Nothing is by a key of ours, so nothing is taken.
func FuzzParse(f *testing.F) {
	strangers := token.NewPublicSet(pairs()["other"].Public())
	verifier, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: strangers, Now: clock})
	if err != nil {
		f.Fatal(err)
	}
	for _, alg := range token.Algorithms() {
		for _, e := range entrances(f, alg) {
			f.Add(forge(e.key, alg, e.head.text(), e.payload.text()))
			f.Add(forge(e.key, alg, e.head.without("kid").text(), e.payload.with("act", chainOf(5)).text()))
		}
	}
	f.Add("..")
	f.Add("e30.e30.")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := verifier.Verify(t.Context(), s); err == nil {
			t.Error("an access token")
		}
		if _, err := token.VerifyAssertion(t.Context(), s, token.AssertionExpect{ClientID: agentID, Audience: issuer, Keys: strangers, Now: clock}); err == nil {
			t.Error("an assertion")
		}
		if iss, _, err := token.Peek(s); err == nil {
			if _, err := token.VerifyJWT(t.Context(), s, token.Expect{Issuer: iss, Keys: strangers, Types: []string{"", "JWT"}, Now: clock}); err == nil {
				t.Error("a JWT")
			}
		}
	})
}

// FuzzAct reads any act object: what is read is written as it came, and its chain is bounded.
func FuzzAct(f *testing.F) {
	f.Add([]byte(`{"iss":"i","sub":"a"}`))
	f.Add([]byte(`{"iss":"i","sub":"a","sub_profile":"ai_agent","act":{"iss":"i","sub":"b","exp":1}}`))
	f.Add([]byte(chainOf(11).text()))
	f.Add([]byte(`{"sub":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a token.Actor
		if err := a.UnmarshalJSON(data); err != nil {
			return
		}
		out, err := a.MarshalJSON()
		if err != nil || !bytes.Equal(out, data) {
			t.Fatalf("%s was written as %s, %v", data, out, err)
		}
		chain, err := a.Chain(4)
		if len(chain) > 4 {
			t.Fatalf("a chain of %d", len(chain))
		}
		nested := token.Nest(token.Actor{Issuer: "i", Subject: "outer"}, &a)
		longer, nestedErr := nested.Chain(5)
		if (err == nil) != (nestedErr == nil) && len(data) < 4<<10 {
			t.Fatalf("%v alone, %v nested", err, nestedErr)
		}
		if err == nil && nestedErr == nil && len(longer) != len(chain)+1 {
			t.Fatalf("%d actors became %d", len(chain), len(longer))
		}
		if text, err := nested.MarshalJSON(); err != nil || !json.Valid(text) {
			t.Fatalf("nested as %s, %v", text, err)
		}
	})
}

// FuzzProof gives any header and payload to the verifier of proofs, signed by the key in the header: what it takes is within
// the rules.
func FuzzProof(f *testing.F) {
	e := entrances(f, token.ES256)[3]
	f.Add(e.head.text(), e.payload.text())
	f.Add(e.head.with("kid", "x").text(), e.payload.with("nonce", "n").text())
	f.Add(e.head.with("typ", "JWT").text(), e.payload.with("htu", endpoint+"?x").text())
	f.Add(`{"alg":"ES256","typ":"dpop+jwt","jwk":{}}`, `{}`)
	f.Fuzz(func(t *testing.T, head, payload string) {
		got, err := token.VerifyProof(forge(e.key, token.ES256, head, payload), token.ProofExpect{Method: method, URI: endpoint, Now: clock})
		if err != nil {
			return
		}
		age := start.Sub(got.IssuedAt)
		if got.JKT != e.key.KeyID() || got.ID == "" || len(got.ID) > 256 || age > time.Minute || age < -5*time.Second {
			t.Errorf("%s %s: %+v", head, payload, got)
		}
	})
}
