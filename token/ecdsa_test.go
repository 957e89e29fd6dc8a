package token_test

import (
	"fmt"
	"testing"

	"obolus/token"
)

// TestNumbersOfEverySize: ES256 signatures whose numbers begin with a zero, with a set bit and with neither are all verified, and one
// whose numbers are not in range never is.
func TestNumbersOfEverySize(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	signer, c := token.NewIssuer(issuer), sampleClaims()
	met := map[string]bool{}
	for i := 0; len(met) < 6 && i < 20_000; i++ {
		c.ID = fmt.Sprint(i)
		compact, err := signer.Sign(c, key.SigningKey)
		if err != nil {
			t.Fatal(err)
		}
		_, _, encoded := parts(compact)
		raw, err := b64.DecodeString(encoded)
		if err != nil || len(raw) != 64 {
			t.Fatal(len(raw), err)
		}
		kinds := []string{kindOf("r", raw[0]), kindOf("s", raw[32])}
		if met[kinds[0]] && met[kinds[1]] {
			continue
		}
		met[kinds[0]], met[kinds[1]] = true, true
		if _, err := v.Verify(t.Context(), compact); err != nil {
			t.Errorf("%v: %v", kinds, err)
		}
	}
	if len(met) != 6 {
		t.Errorf("only %v were met", met)
	}
	head, payload, _ := parts(must(signer.Sign(c, key.SigningKey)))
	for name, fill := range map[string]func(i int) byte{
		"zero": func(int) byte { return 0 }, "all ones": func(int) byte { return 0xff }, "one": func(i int) byte { return byte(i & 31 / 31) },
	} {
		raw := make([]byte, 64)
		for i := range raw {
			raw[i] = fill(i)
		}
		if _, err := v.Verify(t.Context(), head+"."+payload+"."+b64.EncodeToString(raw)); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func kindOf(name string, first byte) string {
	switch {
	case first == 0:
		return name + " with a zero"
	case first >= 0x80:
		return name + " with a set bit"
	default:
		return name
	}
}
