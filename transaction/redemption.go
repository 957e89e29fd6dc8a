// Package transaction is the life of one-transaction tokens: issue, redeem, commit and stop, with the invariants that make
// "once" true over replicas, crashes and lost stores (docs/decisions/0002-one-transaction.md). It keeps the state
// of every token of ours in the live store and everything that must not be forgotten in records.
package transaction

import (
	"time"

	"obolus/agents"
	"obolus/token"
)

// Redemption is what a resource server presents at the redemption endpoint.
type Redemption struct {
	Server agents.Presented // the resource server
	Token  string           // as it was received
	ID     string           // redemption_id, chosen by the resource server; empty: this call is like no other
	Hash   string           // request_hash, compared as it is
	JKT    string           // thumbprint of the key whose proof the resource server verified
	X5T    string           // thumbprint of the certificate over whose connection the token came
	Remote string           // the address of the peer, for the ledger
	// Also makes something that is kept with the claim, from the claims and the time of it, and comes back with every repeat: nil
	// for nothing.
	Also func(c token.Claims, at time.Time) (string, error)
}

// Redeemed is the answer to a redemption that was accepted.
type Redeemed struct {
	Repeat  bool // the same resource server asked the same before
	Txn     string
	At      time.Time // when it was first accepted
	Receipt string    // signed statement of it, typ txn-receipt+jwt
	Claims  token.Claims
	Also    string // what Redemption.Also made when it was first accepted
}

// Phase is where a transaction stands.
type Phase string

// The phases that the status endpoint tells.
const (
	PhaseIssued        Phase = "issued"
	PhaseRedeemed      Phase = "redeemed"
	PhaseCommitted     Phase = "committed"
	PhaseFailed        Phase = "failed"
	PhaseIndeterminate Phase = "indeterminate"
	PhaseExpired       Phase = "expired"
	PhaseRevoked       Phase = "revoked"
)

// Status tells of a transaction without its payload.
type Status struct {
	Txn      string    `json:"txn"`
	Phase    Phase     `json:"status"`
	Issued   time.Time `json:"issued_at,omitzero"`
	Expires  time.Time `json:"expires_at,omitzero"`
	Redeemed time.Time `json:"redeemed_at,omitzero"`
}
