// Package audit is the ledger: one event for every request that was decided, in a chain of hashes, durable before the answer
// leaves. It holds no token and no secret. It is written by [Recorder] and read by [Ledger].
package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"obolus/oauth"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	KindExchange  Kind = "exchange"
	KindSession   Kind = "session" // a user's own token was issued to an app
	KindRedeem    Kind = "redeem"
	KindReport    Kind = "report" // the resource server told how the transaction went
	KindRevoke    Kind = "revoke"
	KindStop      Kind = "stop"
	KindAsk       Kind = "ask"     // a user is asked for consent
	KindConsent   Kind = "consent" // a user decided
	KindWithdraw  Kind = "withdraw"
	KindSignIn    Kind = "sign_in"
	KindRegistry  Kind = "registry"
	KindKey       Kind = "key"
	KindClient    Kind = "client_authentication" // a client failed to prove who it is
	KindAuthorize Kind = "authorize"
	KindSignal    Kind = "security_event" // somebody who is trusted told what happened to a user
	KindBackup    Kind = "backup"         // the records were copied
	KindRestore   Kind = "restore"        // the records are those of a backup from here on
	KindMigrate   Kind = "migrate"        // the records have come from another store
)

// Event is one entry of the ledger. Whoever decides fills it as it goes; it is written once.
type Event struct {
	Seq     uint64       `json:"seq"`
	At      time.Time    `json:"at"`
	Kind    Kind         `json:"kind"`
	Allowed bool         `json:"allowed"`
	Error   oauth.Code   `json:"error,omitempty"`
	Reason  oauth.Reason `json:"reason,omitempty"`

	User   string   `json:"user,omitempty"`
	Client string   `json:"client,omitempty"` // who asked
	Actor  string   `json:"actor,omitempty"`  // who acts: the outermost of the chain
	Chain  []string `json:"chain,omitempty"`  // all actors, outermost first
	By     string   `json:"by,omitempty"`     // the person or operator whose decision this was
	Remote string   `json:"remote,omitempty"` // the peer's address
	Why    string   `json:"why,omitempty"`

	Target         string          `json:"target,omitempty"`
	AskedScope     string          `json:"asked_scope,omitempty"` // where a guardrail refuses a request that named nothing: what it came to stand for
	GrantedScope   string          `json:"granted_scope,omitempty"`
	AskedDetails   json.RawMessage `json:"asked_details,omitempty"`
	GrantedDetails json.RawMessage `json:"granted_details,omitempty"`

	Txn           string    `json:"txn,omitempty"`
	JTI           string    `json:"jti,omitempty"`
	SubjectHash   string    `json:"subject_token_hash,omitempty"` // SHA-256 of the subject token's jti
	Grant         string    `json:"grant,omitempty"`
	Interaction   string    `json:"interaction,omitempty"` // hash of its id
	RedemptionID  string    `json:"redemption_id,omitempty"`
	Expires       time.Time `json:"expires,omitzero"`
	PolicyVersion string    `json:"policy_version,omitempty"`
	Policies      []string  `json:"policies,omitempty"`
	Subject       string    `json:"subject,omitempty"` // what a stop or a change of the registry was about: "agent/x"

	Prev string `json:"prev"` // hash of the event before
	Hash string `json:"hash"` // SHA-256 of this event's JSON without this member, base64url
}

// Refused marks the event with the refusal, if err is one.
func (e *Event) Refused(err error) {
	if err == nil {
		e.Allowed = true
		return
	}
	refusal := oauth.AsError(err)
	e.Allowed, e.Error, e.Reason = false, refusal.Code, refusal.Reason
}

// seal numbers the event, chains it to the one before and gives its JSON.
func (e *Event) seal(seq uint64, prev string) ([]byte, error) {
	e.Seq, e.Prev = seq, prev
	data, err := e.unsealed()
	if err != nil {
		return nil, err
	}
	e.Hash = digest(data)
	sealed := make([]byte, 0, len(data)+len(e.Hash))
	sealed = append(sealed, data[:len(data)-len(`"}`)]...) // the hash is the last member
	return append(append(sealed, e.Hash...), `"}`...), nil
}

func (e *Event) sum() (string, error) {
	data, err := e.unsealed()
	return digest(data), err
}

// unsealed is the event's JSON with an empty hash: what is hashed.
func (e *Event) unsealed() ([]byte, error) {
	was := e.Hash
	e.Hash = ""
	data, err := json.Marshal(e)
	e.Hash = was
	return data, err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
