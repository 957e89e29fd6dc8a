package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/token"
)

func sampleClaims() token.Claims {
	now := start.Unix()
	act := token.Nest(token.Actor{Issuer: issuer, Subject: agentID, Profile: "ai_agent"}, nil)
	return token.Claims{
		Issuer: issuer, Audience: token.Audience{resource}, Subject: "alice", ClientID: agentID, IssuedAt: now, NotBefore: now, Expires: now + 60,
		ID: "j1", Txn: "t1", TxnMode: "redeem", Scope: "read  write", Act: &act, Confirm: &token.Confirmation{JKT: "k", X5T: "x"},
		Details: json.RawMessage(`[{"type":"payment","text":"<a href=\"x\">"}]`), AuthTime: now - 5, ACR: "1", AMR: []string{"pwd"},
		Context: &token.Context{Consent: "g", Source: "s", Origin: "o"}, MayAct: &token.Actor{Subject: "agent-b"},
	}
}

func TestWhatTheIssuerSignsTheVerifierReads(t *testing.T) {
	t.Parallel()
	for _, alg := range token.Algorithms() {
		key := pairs()[alg]
		v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		compact, err := token.NewIssuer(issuer).Sign(sampleClaims(), key.SigningKey)
		if err != nil {
			t.Fatal(alg, err)
		}
		head, payload, _ := parts(compact)
		raw, _ := b64.DecodeString(head)
		if want := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, key.KeyID()); string(raw) != want {
			t.Errorf("header %s, want %s", raw, want)
		}
		for range 2 { // the second time from memory
			got, err := v.Verify(t.Context(), compact)
			if err != nil {
				t.Fatal(alg, err)
			}
			var again bytes.Buffer
			enc := json.NewEncoder(&again)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(got.Claims()); err != nil || b64.EncodeToString(bytes.TrimSpace(again.Bytes())) != payload {
				t.Errorf("%s: read %s, %v", alg, again.String(), err)
			}
			if got.KeyID() != key.KeyID() || got.Hash() != token.Hash(compact) {
				t.Errorf("%s: key %s, hash %s", alg, got.KeyID(), got.Hash())
			}
			if s := got.Claims().Scopes(); !reflect.DeepEqual(s, []string{"read", "write"}) {
				t.Errorf("scopes %v", s)
			}
		}
	}
}

func TestTheIssuerRefuses(t *testing.T) {
	t.Parallel()
	iss, key := token.NewIssuer(issuer), pairs()[token.ES256].SigningKey
	for name, change := range map[string]func(*token.Claims){
		"another issuer": func(c *token.Claims) { c.Issuer = "https://other.test" },
		"no sub":         func(c *token.Claims) { c.Subject = "" },
		"no aud":         func(c *token.Claims) { c.Audience = nil },
		"no client_id":   func(c *token.Claims) { c.ClientID = "" },
		"no jti":         func(c *token.Claims) { c.ID = "" },
		"no iat":         func(c *token.Claims) { c.IssuedAt = 0 },
		"exp before iat": func(c *token.Claims) { c.Expires = c.IssuedAt },
		"nine audiences": func(c *token.Claims) { c.Audience = make(token.Audience, 9) },
		"a chain too deep": func(c *token.Claims) {
			c.Act = &token.Actor{Issuer: "i", Subject: "s", Prior: json.RawMessage(chainOf(11).text())}
		},
		"details no JSON":    func(c *token.Claims) { c.Details = json.RawMessage(`[`) },
		"more than fits":     func(c *token.Claims) { c.Scope = strings.Repeat("s", 13<<10) },
		"two issuers, empty": func(c *token.Claims) { c.Issuer = "" },
	} {
		c := sampleClaims()
		change(&c)
		if s, err := iss.Sign(c, key); err == nil {
			t.Errorf("%s: signed %s", name, s)
		}
	}
	if _, err := token.NewIssuer("").Sign(token.Claims{}, key); err == nil {
		t.Error("signed for no issuer")
	}
	for name, c := range map[string]struct{ typ, payload string }{
		"no typ":             {"", `{}`},
		"typ of a token":     {"at+jwt", `{}`},
		"payload a list":     {"x+jwt", `[]`},
		"payload no JSON":    {"x+jwt", `{"a"}`},
		"payload empty":      {"x+jwt", ``},
		"payload with extra": {"x+jwt", `{}{}`},
	} {
		if _, err := iss.SignAs(c.typ, []byte(c.payload), key); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestSignAs(t *testing.T) {
	t.Parallel()
	key := pairs()[token.EdDSA]
	compact, err := token.NewIssuer(issuer).SignAs("txn-receipt+jwt", []byte(`{"iss":"`+issuer+`","txn":"t"}`), key.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	got, err := token.VerifyJWT(t.Context(), compact, token.Expect{
		Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Types: []string{"application/Txn-Receipt+jwt"}, Algs: []string{"Ed25519"}, Now: clock,
	})
	if err != nil || got.Claims.Txn != "t" || got.Type != "txn-receipt+jwt" || got.KeyID != key.KeyID() || string(got.Raw) != `{"iss":"`+issuer+`","txn":"t"}` {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestVerifierTimes(t *testing.T) {
	t.Parallel()
	now := start
	key := pairs()[token.EdDSA]
	v, err := token.NewVerifier(token.VerifierConfig{
		Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Now: func() time.Time { return now }, Leeway: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	compact, err := token.NewIssuer(issuer).Sign(sampleClaims(), key.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Duration
		want error
	}{
		{-6 * time.Second, token.ErrEarly},
		{-5 * time.Second, nil},
		{0, nil},
		{59 * time.Second, nil},
		{60*time.Second - 1, nil},
		{60 * time.Second, token.ErrExpired},
		{time.Hour, token.ErrExpired},
		{0, nil}, // from memory, in both directions
		{-6 * time.Second, token.ErrEarly},
	} {
		now = start.Add(c.at)
		got, err := v.Verify(t.Context(), compact)
		if !errors.Is(err, c.want) {
			t.Errorf("at %v: %v", c.at, err)
		}
		if got.Claims().Subject != "alice" || got.Hash() != token.Hash(compact) {
			t.Errorf("at %v: filled with %+v", c.at, got.Claims())
		}
	}
}

// keyring is a KeySource that can change.
type keyring map[string]token.PublicKey

func (k keyring) Key(_ context.Context, kid string) (token.PublicKey, error) {
	if key, ok := k[kid]; ok {
		return key, nil
	}
	return token.PublicKey{}, token.ErrNoKey
}

func TestAKeyThatIsGoneVerifiesNothingMore(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	ring := keyring{key.KeyID(): key.Public()}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: ring, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	compact, err := token.NewIssuer(issuer).Sign(sampleClaims(), key.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() error { _, err := v.Verify(t.Context(), compact); return err }
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	delete(ring, key.KeyID())
	if err := verify(); !errors.Is(err, token.ErrNoKey) {
		t.Errorf("withdrawn: %v", err)
	}
	other := pairs()["other"].Public()
	other.ID = key.KeyID()
	ring[key.KeyID()] = other
	if err := verify(); err == nil {
		t.Error("another key under the same name took it")
	}
	wrongAlg := pairs()[token.EdDSA].Public()
	wrongAlg.ID = key.KeyID()
	ring[key.KeyID()] = wrongAlg
	if err := verify(); err == nil {
		t.Error("a key of another kind took it")
	}
	ring[key.KeyID()] = key.Public()
	if err := verify(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// counting counts how often a key was asked for with its parts, which is what a verification does.
type counting struct {
	keyring
	n atomic.Int64
}

func (c *counting) Key(ctx context.Context, kid string) (token.PublicKey, error) {
	c.n.Add(1)
	return c.keyring.Key(ctx, kid)
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	key := pairs()[token.EdDSA]
	ring := &counting{keyring: keyring{key.KeyID(): key.Public()}}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: ring, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(i int) string {
		c := sampleClaims()
		c.ID = fmt.Sprint(i)
		s, err := token.NewIssuer(issuer).Sign(c, key.SigningKey)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sign(0)
	for i := range 4100 {
		if _, err := v.Verify(t.Context(), sign(i)); err != nil {
			t.Fatal(err)
		}
	}
	// The first one is of the older generation now, and good all the same.
	if _, err := v.Verify(t.Context(), first); err != nil {
		t.Error(err)
	}
}

func TestVerifierConfigMustBeComplete(t *testing.T) {
	t.Parallel()
	full := token.VerifierConfig{Issuer: issuer, Keys: keyring{}, Now: clock}
	for name, change := range map[string]func(*token.VerifierConfig){
		"issuer": func(c *token.VerifierConfig) { c.Issuer = "" },
		"keys":   func(c *token.VerifierConfig) { c.Keys = nil },
		"now":    func(c *token.VerifierConfig) { c.Now = nil },
		"leeway": func(c *token.VerifierConfig) { c.Leeway = -1 },
		"own":    func(c *token.VerifierConfig) { c.Own = token.NewIssuer("https://other.test") },
	} {
		cfg := full
		change(&cfg)
		if _, err := token.NewVerifier(cfg); err == nil {
			t.Errorf("without %s: made", name)
		}
	}
	if _, err := token.NewVerifier(full); err != nil {
		t.Error(err)
	}
}

func TestAccessTokenClaimsThatMustBeThere(t *testing.T) {
	t.Parallel()
	e := entrances(t, token.ES256)[0]
	for _, name := range []string{"iss", "sub", "aud", "client_id", "iat", "exp", "jti"} {
		if err := e.check(payloaded(e, e.payload.without(name))); err == nil {
			t.Errorf("without %s: accepted", name)
		}
	}
	if err := e.check(payloaded(e, e.payload.with("aud", []string{}))); err == nil {
		t.Error("without an audience: accepted")
	}
}
