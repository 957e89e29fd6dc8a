package token_test

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"obolus/token"
)

// careless is a signer whose signatures are worth nothing, so that it shows whether anybody looked.
type careless struct{ crypto.Signer }

func (careless) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 64), nil
}

// own is an Issuer with a careless key, and a Verifier in the same process.
type own struct {
	signer *token.Issuer
	key    *token.SigningKey
	ring   keyring
	now    time.Time
	*token.Verifier
}

func newOwn(t *testing.T) *own {
	t.Helper()
	key, err := token.NewSigningKey(token.EdDSA, careless{pairs()[token.EdDSA].private})
	if err != nil {
		t.Fatal(err)
	}
	o := &own{signer: token.NewIssuer(issuer), key: key, ring: keyring{key.KeyID(): key.Public()}, now: start}
	o.Verifier, err = token.NewVerifier(token.VerifierConfig{
		Issuer: issuer, Keys: o.ring, Now: func() time.Time { return o.now }, Own: o.signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *own) sign(t *testing.T, c token.Claims) string {
	t.Helper()
	compact, err := o.signer.Sign(c, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// TestTheSignatureOfAnOwnTokenIsNotVerified, but for everything else it is a token like any other.
func TestTheSignatureOfAnOwnTokenIsNotVerified(t *testing.T) {
	t.Parallel()
	o := newOwn(t)
	compact := o.sign(t, sampleClaims())
	got, err := o.Verify(t.Context(), compact)
	if err != nil || got.Claims().ID != "j1" || got.KeyID() != o.key.KeyID() || got.Hash() != token.Hash(compact) {
		t.Fatalf("%+v, %v", got, err)
	}
	stranger, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: o.ring, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Verify(t.Context(), compact); err == nil {
		t.Error("somebody else took a signature that is worth nothing")
	}
	o.now = start.Add(time.Minute)
	if _, err := o.Verify(t.Context(), compact); !errors.Is(err, token.ErrExpired) {
		t.Errorf("over: %v", err)
	}
	o.now = start.Add(-time.Minute)
	if _, err := o.Verify(t.Context(), compact); err == nil {
		t.Error("taken before its time")
	}
}

func TestOnlyTheVeryTokenIsOwn(t *testing.T) {
	t.Parallel()
	o := newOwn(t)
	compact := o.sign(t, sampleClaims())
	for i := range len(compact) {
		letter := "A"
		if compact[i] == 'A' {
			letter = "B"
		}
		if _, err := o.Verify(t.Context(), compact[:i]+letter+compact[i+1:]); err == nil {
			t.Errorf("changed at %d", i)
		}
	}
	typed, err := o.signer.SignAs("txn-receipt+jwt", []byte(`{"iss":"`+issuer+`"}`), o.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Verify(t.Context(), typed); err == nil {
		t.Error("a token of another type")
	}
}

// TestAnOwnTokenNeedsItsKey as it was, from the first time on.
func TestAnOwnTokenNeedsItsKey(t *testing.T) {
	t.Parallel()
	stranger, wrongAlg := pairs()["other"].Public(), pairs()[token.EdDSA].Public()
	wrongAlg.Alg = token.ES256
	for name, change := range map[string]func(keyring, string){
		"gone":                     func(k keyring, id string) { delete(k, id) },
		"another":                  func(k keyring, id string) { k[id] = stranger },
		"for another algorithm":    func(k keyring, id string) { k[id] = wrongAlg },
		"another of the same kind": func(k keyring, id string) { k[id] = newPair(token.EdDSA).Public() },
	} {
		o := newOwn(t)
		compact := o.sign(t, sampleClaims())
		change(o.ring, o.key.KeyID())
		for range 2 {
			if _, err := o.Verify(t.Context(), compact); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
	}
}

func TestFewOwnTokensAreRemembered(t *testing.T) {
	t.Parallel()
	o := newOwn(t)
	c := sampleClaims()
	first := o.sign(t, c)
	for i := range 2 * 8192 {
		c.ID = fmt.Sprint(i)
		o.sign(t, c)
	}
	if _, err := o.Verify(t.Context(), first); err == nil {
		t.Error("the first one of many is still known")
	}
	if _, err := o.Verify(t.Context(), o.sign(t, c)); err != nil {
		t.Error(err)
	}
}
