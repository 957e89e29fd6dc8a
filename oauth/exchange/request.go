// Package exchange is what this project exists for: RFC 8693 token exchange on behalf of a user, as one straight line from a
// parsed request to a signed token. It knows no HTTP, no fosite and no store driver.
package exchange

import (
	"time"

	"obolus/oauth"
	"obolus/token"
)

// Request is a token exchange as it was read at the door, RFC 8693 section 2.1. Empty means absent. Nothing in it has been
// checked but its form: no repeats, valid UTF-8, sizes.
type Request struct {
	SubjectToken       string
	SubjectTokenType   oauth.TokenType
	ActorToken         string
	ActorTokenType     oauth.TokenType
	RequestedTokenType oauth.TokenType
	Resources          []string // RFC 8707 section 2; may repeat
	Audiences          []string // may repeat
	Scope              string
	Details            string // RFC 9396 authorization_details
	// Proof is the DPoP proof of this request, verified but for its replay; nil: none came.
	Proof *token.Proof
	// IdempotencyKey is the agent's name for this request, so that a lost answer can be asked for again.
	IdempotencyKey string
	// Bytes is a digest of the request as it came, credential and proof included; zero: an exact duplicate is a replay.
	Bytes [32]byte
	// Wait is how long the agent wants the answer held back for its user's decision (RFC 7240 section 4.3).
	Wait time.Duration
	// Remote is the address of the peer, for the ledger.
	Remote string
}
