// Package policy decides by the operators' guardrails, written in Cedar. It is pure: an Input goes in, a Decision comes out, and it
// reads nothing but the set that was loaded. Facts are gathered, refusals worded and decisions recorded by its callers.
//
// A request is one decision for each of its actions: Action::"scope/NAME" for a scope, Action::"detail/TYPE" for an entry of
// authorization_details. The principal is the agent, the resource the target, everything else is in the context (see Schema).
// All of its actions must be allowed, or the request is refused.
//
// What no policy speaks of: the exchange has already held the request under the agent's ceiling and within what the user
// allowed, so guardrails take away and never give. Hence
//
//   - a set without any permit allows what nothing forbids: with no policies at all, everything under the ceiling;
//   - a set with a permit, of whatever kind, is deny by default: what no permit allows is refused;
//   - forbid beats permit;
//   - a policy that fails in evaluation refuses, whatever the others say.
//
// A set is compiled, checked against the schema and swapped in as a whole, or refused as a whole while the old one goes on. Each
// decision is made by one set, and carries its version.
package policy

import (
	"encoding/json"
	"time"
)

// Stage is when a decision is made.
type Stage string

// The stages. At redemption only what the token carries is known: the agent has no owner, operator and labels, and the consent no age
// and uses.
const (
	Exchange Stage = "exchange"
	Redeem   Stage = "redeem"
)

// Input is a request as the guardrails see it.
type Input struct {
	Stage    Stage             `json:"stage"`
	ClientID string            `json:"client_id,omitempty"`
	Scopes   []string          `json:"scopes,omitempty"`
	Details  []json.RawMessage `json:"authorization_details,omitempty"`
	Now      time.Time         `json:"now"`
	Chain    []string          `json:"chain,omitempty"` // all actors, outermost first: the agent, then who it acts for the user through
	Agent    Agent             `json:"agent"`
	User     User              `json:"user"`
	Target   Target            `json:"target"`
	Consent  Consent           `json:"consent,omitzero"`
}

// Agent is who acts.
type Agent struct {
	ID       string            `json:"id"`
	Owner    string            `json:"owner,omitempty"`
	Operator string            `json:"operator,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// User is on whose behalf.
type User struct {
	ID       string    `json:"id"`
	ACR      string    `json:"acr,omitempty"`
	AuthTime time.Time `json:"auth_time,omitzero"`
}

// Target is where.
type Target struct {
	ID     string            `json:"id"`
	URI    string            `json:"uri,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Consent is what the user allowed.
type Consent struct {
	ID      string    `json:"id,omitempty"`
	Uses    int       `json:"uses,omitempty"` // zero: without a limit, or not known
	GivenAt time.Time `json:"given_at,omitzero"`
}

// Decision is what the guardrails say of an Input.
type Decision struct {
	Allowed bool   `json:"allowed"`
	Version string `json:"version"` // of the set that decided
	// Policies are those that decided, by name: what permitted, or what forbade or failed. None when no policy spoke.
	Policies []string `json:"policies,omitempty"`
	Errors   []string `json:"errors,omitempty"` // why no decision could be made; it is a refusal
}

// File is a text with policies.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}
