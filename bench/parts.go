//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"obolus/oauth/details"
	"obolus/policy"
	"obolus/token"
)

// The parts of a request that are measured by themselves, beside the floor and in the same process.
const (
	partAssertion = "assertion, in process"
	partProof     = "DPoP proof, in process"
	partRails     = "1000 guardrails "
)

// railForms are guardrails of which none decides; they differ in what has to be looked at to know that.
func railForms() map[string]string {
	return map[string]string{
		"by agent":  `forbid (principal == Agent::"a%d", action, resource) when { context.time.hour > 6 };`,
		"by scope":  `forbid (principal, action == Action::"scope/x%d", resource) when { context.time.hour > 6 };`,
		"by label":  `forbid (principal, action, resource) when { principal.hasTag("tier") && principal.getTag("tier") == "t%d" };`,
		"by fact":   `forbid (principal, action, resource) when { context.time.hour > 100%d };`,
		"by amount": `forbid (principal, action == Action::"detail/payment", resource) when { context.detail.amount.value.greaterThan(decimal("10%d.0")) };`,
	}
}

// parts are what the server does for a credential and for a decision, with nothing around it.
func parts(ctx context.Context) (map[string]func(int) error, error) {
	ops, err := credentials(ctx)
	if err != nil {
		return nil, err
	}
	for name, form := range railForms() {
		if ops[partRails+name], err = decision(form); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return ops, nil
}

func credentials(ctx context.Context) (map[string]func(int) error, error) {
	const issuer = "https://as.example.com"
	now := time.Now()
	key, err := token.GenerateKey(token.ES256, rand.Reader)
	if err != nil {
		return nil, err
	}
	assertion, err1 := token.SignAssertion(key, keyAgent, issuer, now)
	proof, err2 := token.SignProof(key, token.ProofClaims{Method: "POST", URI: issuer + "/token"}, now)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	clock := func() time.Time { return now }
	expect := token.AssertionExpect{ClientID: keyAgent, Audience: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock}
	return map[string]func(int) error{
		partAssertion: func(int) error {
			_, err := token.VerifyAssertion(ctx, assertion, expect)
			return err
		},
		partProof: func(int) error {
			_, err := token.VerifyProof(proof, token.ProofExpect{Method: "POST", URI: issuer + "/token", Now: clock})
			return err
		},
	}, nil
}

// decision is one of an exchange for two scopes and a payment, by a thousand guardrails of a form.
func decision(form string) (func(int) error, error) {
	types, err := details.New(nil)
	if err != nil {
		return nil, err
	}
	engine, err := policy.New(types)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, form+"\n", i)
	}
	if err := engine.Load([]policy.File{{Name: "bench.cedar", Text: text.String()}}); err != nil {
		return nil, err
	}
	now := time.Now()
	in := policy.Input{
		Stage: policy.Exchange, ClientID: keyAgent, Scopes: []string{"mail.read", "mail.send"}, Now: now, Chain: []string{keyAgent},
		Details: []json.RawMessage{json.RawMessage(`{"type":"payment","amount":{"value":"20.00","currency":"EUR"},"payee":"Shop"}`)},
		Agent:   policy.Agent{ID: keyAgent, Owner: "bench", Labels: map[string]string{"tier": "gold"}},
		User:    policy.User{ID: alice, AuthTime: now}, Target: policy.Target{ID: "mail", URI: "https://mail.example.com"},
		Consent: policy.Consent{ID: "g", Uses: 3, GivenAt: now},
	}
	return func(int) error {
		if d := engine.Decide(in); !d.Allowed {
			return fmt.Errorf("it is refused: %v %v", d.Policies, d.Errors)
		}
		return nil
	}, nil
}

// partTargets hold the parts against what is aimed for.
func (r *Report) partTargets() []Target {
	verify := r.Floors[floorVerify]
	var list []Target
	for _, part := range []struct{ name, what string }{{partAssertion, "an assertion of private_key_jwt"}, {partProof, "a DPoP proof"}} {
		list = append(list, Target{
			Name: part.what + " ÷ one verification", Limit: 1.2, Got: ratio(r.Floors[part.name], verify),
			Where: fmt.Sprintf("%.1f µs; verification %.1f", r.Floors[part.name], verify),
		})
	}
	worst, where := 0.0, make([]string, 0, len(railForms()))
	for _, name := range slices.Sorted(maps.Keys(railForms())) {
		us := r.Floors[partRails+name]
		worst = max(worst, us)
		where = append(where, fmt.Sprintf("%s %.0f", name, us))
	}
	return append(list, Target{
		Name: "1000 guardrails of which none decides, µs of an exchange", Limit: 50, Got: worst, Where: strings.Join(where, ", "),
	})
}
