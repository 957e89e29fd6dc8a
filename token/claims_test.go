package token_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"obolus/oauth/strict"
	"obolus/token"
)

// TestClaimsComeBack: what is written is what is read, for any claims.
func TestClaimsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String()
		when := rapid.Int64Range(0, 1<<53-1)
		c := token.Claims{
			Issuer: name.Draw(t, "iss"), Audience: rapid.SliceOfN(name, 1, 8).Draw(t, "aud"), Subject: name.Draw(t, "sub"), ClientID: name.Draw(t, "client"),
			IssuedAt: when.Draw(t, "iat"), NotBefore: when.Draw(t, "nbf"), Expires: when.Draw(t, "exp"), ID: name.Draw(t, "jti"),
			Txn: name.Draw(t, "txn"), TxnMode: name.Draw(t, "mode"), Scope: name.Draw(t, "scope"), AuthTime: when.Draw(t, "auth_time"), ACR: name.Draw(t, "acr"),
		}
		if rapid.Bool().Draw(t, "more") {
			c.Confirm = &token.Confirmation{JKT: name.Draw(t, "jkt"), X5T: name.Draw(t, "x5t")}
			c.Context = &token.Context{Consent: name.Draw(t, "consent"), Source: name.Draw(t, "source"), Origin: name.Draw(t, "origin"), Issuer: name.Draw(t, "issuer")}
			c.AMR = rapid.SliceOfN(name, 1, 4).Draw(t, "amr")
			c.Details = json.RawMessage(`[{"type":"x"}]`)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var got token.Claims
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Fatalf("wrote %+v, read %+v", c, got)
		}
	})
}

// TestWhatIsSignedIsStrict: the Issuer writes any claims as encoding/json would, in a document of one meaning.
func TestWhatIsSignedIsStrict(t *testing.T) {
	t.Parallel()
	key := pairs()[token.EdDSA].SigningKey
	signer := token.NewIssuer(issuer)
	rapid.Check(t, func(t *rapid.T) {
		c := anyClaims(t)
		compact, err := signer.Sign(c, key)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		_, middle, _ := parts(compact)
		payload, err := b64.DecodeString(middle)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal(payload, &got)); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v: signed %s, want %s", err, payload, text)
		}
		if err := strict.Check(payload, strict.Limits{Depth: 12, Members: 64}); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
	})
}

// anyClaims are complete claims, in which every text is anything, UTF-8 or not.
func anyClaims(t *rapid.T) token.Claims {
	name := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }))
	some := rapid.Map(name, func(s string) string { return s + "." })
	when := rapid.Int64Range(0, 1<<53-1)
	c := token.Claims{
		Issuer: issuer, Audience: rapid.SliceOfN(name, 1, 3).Draw(t, "aud"), Subject: some.Draw(t, "sub"), ClientID: some.Draw(t, "client"),
		IssuedAt: 1 + rapid.Int64Range(0, 1<<40).Draw(t, "iat"), NotBefore: when.Draw(t, "nbf"), Expires: 1 << 42, ID: some.Draw(t, "jti"),
		Txn: name.Draw(t, "txn"), TxnMode: name.Draw(t, "mode"), Scope: name.Draw(t, "scope"), AuthTime: when.Draw(t, "auth_time"), ACR: name.Draw(t, "acr"),
		AMR: rapid.SliceOfN(name, 0, 3).Draw(t, "amr"),
	}
	if rapid.Bool().Draw(t, "act") {
		act := token.Nest(token.Actor{Issuer: name.Draw(t, "act iss"), Subject: name.Draw(t, "act sub"), Profile: name.Draw(t, "profile")}, nil)
		if rapid.Bool().Draw(t, "nested") {
			act = token.Nest(token.Actor{Issuer: issuer, Subject: agentID}, &act)
		}
		c.Act, c.MayAct = &act, &token.Actor{Subject: some.Draw(t, "may_act")}
	}
	if rapid.Bool().Draw(t, "more") {
		c.Confirm = &token.Confirmation{JKT: name.Draw(t, "jkt"), X5T: name.Draw(t, "x5t")}
		c.Context = &token.Context{Consent: name.Draw(t, "consent"), Source: name.Draw(t, "source"), Origin: name.Draw(t, "origin"), Issuer: name.Draw(t, "issuer")}
		c.Details = json.RawMessage(`[{"type":"x","text":"<ä>"}]`)
	}
	return c
}

// TestOneEncodingOnly: no other text than the one that was signed is taken, whichever character is changed to what.
func TestOneEncodingOnly(t *testing.T) {
	t.Parallel()
	for _, e := range entrances(t, token.EdDSA) { // its signatures have one form, unlike those of ECDSA
		good := forge(e.key, token.EdDSA, e.head.text(), e.payload.text())
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				at := rapid.IntRange(0, len(good)-1).Draw(t, "at")
				letter := rapid.SampledFrom(strings.Split("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \n\t\r\x00", "")).Draw(t, "letter")
				bad := good[:at] + letter + good[at+rapid.IntRange(0, 1).Draw(t, "instead"):]
				if bad != good && e.check(bad) == nil {
					t.Fatalf("accepted %s at %d", letter, at)
				}
			})
		})
	}
}

func TestAudience(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]token.Audience{
		`"a"`: {"a"}, `["a"]`: {"a"}, `["a","b"]`: {"a", "b"}, `"ä\u0041"`: {"äA"}, `[]`: {},
	} {
		var got token.Audience
		if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{``, `1`, `{}`, `["a",1]`, `[null]`, `null`, `true`} {
		var got token.Audience
		if err := got.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
	a := token.Audience{"https://rs.test"}
	if !a.Has("https://rs.test") || a.Has("https://RS.test") || a.Has("") || token.Audience(nil).Has("") {
		t.Error("Has")
	}
	for want, a := range map[string]token.Audience{`"a"`: {"a"}, `["a","b"]`: {"a", "b"}, `[]`: nil} {
		if got, err := json.Marshal(a); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", a, got, err)
		}
	}
}

func TestMembersWithoutAMeaningArePassedOver(t *testing.T) {
	t.Parallel()
	var c token.Claims
	if err := json.Unmarshal([]byte(`{"cnf":{"jkt":"k","jwk":{}},"tctx":{"consent":"g","more":[1]},"email":null}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Confirm.JKT != "k" || c.Context.Consent != "g" {
		t.Errorf("%+v %+v", c.Confirm, c.Context)
	}
}

func TestClaimsAreLeftAloneByABadDocument(t *testing.T) {
	t.Parallel()
	c := token.Claims{Subject: "alice"}
	if err := c.UnmarshalJSON([]byte(`{"sub":"bob","exp":"x"}`)); err == nil || c.Subject != "alice" {
		t.Errorf("%+v, %v", c, err)
	}
}
