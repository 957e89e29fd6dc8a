// Package authcode is the memory of the authorization code flow, in the live store: requests that were pushed, requests
// that wait for a user, and codes. Package endpoint reads requests and redeems codes, package web shows them to users
// and tells what they decided; how either speaks HTTP is not known here.
//
// Everything about one request lies in one partition, so that each step is one atomic commit:
//
//	pushed ──▶ pending ──▶ allowed, with a code ──▶ spent
//	               └─────▶ refused
//
// A code is the request's id and a secret of 128 bits, of which only the hash is kept. It is good for a minute, once, for the
// client it was issued to.
package authcode

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"obolus/audit"
	"obolus/store"
	"obolus/transaction"
)

// Request is an authorization request as it was checked at the door: the client is registered, the redirect URI is one of
// its own, scopes and details are within what it may ask for.
type Request struct {
	ID          string          `json:"id"`
	ClientID    string          `json:"client_id"`
	RedirectURI string          `json:"redirect_uri"`
	State       string          `json:"state,omitempty"`
	Resource    string          `json:"resource"` // registered URI of the resource, or the issuer when none was named
	Scopes      []string        `json:"scopes,omitempty"`
	Details     json.RawMessage `json:"authorization_details,omitempty"`
	Challenge   string          `json:"code_challenge"`       // S256
	JKT         string          `json:"dpop_jkt,omitempty"`   // the code is bound to this key
	MaxAge      int             `json:"max_age"`              // seconds; -1: none
	ACRValues   []string        `json:"acr_values,omitempty"` // one of them must be met
	Prompt      string          `json:"prompt,omitempty"`     // as it was sent: values of OpenID Connect Core section 3.1.2.1
	Created     time.Time       `json:"created"`
	Expires     time.Time       `json:"expires"`
}

// Decision is what a user decided about a request. It can only narrow it.
type Decision struct {
	User     string
	AuthTime time.Time // when the user signed in
	ACR      string
	AMR      []string
	Scopes   []string
	Details  []int // indexes of the asked details that are allowed
}

// Pushed is an authorization request that a client sent ahead (RFC 9126): its parameters, to be read once it is used.
type Pushed struct {
	ClientID string     `json:"client_id"`
	Params   url.Values `json:"params"`
	JKT      string     `json:"jkt,omitempty"` // of the DPoP proof it was pushed with
	Expires  time.Time  `json:"expires"`
}

// Claim is what a client presents to redeem a code. The client has been authenticated, or is public.
type Claim struct {
	Code        string
	ClientID    string
	RedirectURI string   // empty: not sent
	Verifier    string   // RFC 7636
	Resources   []string // registered URIs; empty: not sent
	JKT         string   // of the DPoP proof; empty: none was sent
	// Narrow, if set, makes less of what the user allowed. It is asked when everything else is right; its refusal leaves the
	// code as it is.
	Narrow func(Request) (Request, error)
}

// Granted is what a redeemed code is good for.
type Granted struct {
	Request  Request // with the scopes and details that the user allowed
	User     string
	AuthTime time.Time
	ACR      string
	AMR      []string
}

// The errors of the flow. Redeem and whatever a store refuses answer with refusals of package oauth instead.
var (
	ErrNotFound = errors.New("no such authorization request, or it is over")
	ErrDecided  = errors.New("the authorization request was decided before")
	ErrWider    = errors.New("the decision is wider than the authorization request")
	ErrSignIn   = errors.New("the user's sign-in does not meet the authorization request")
)

// Config is what a Flow needs; all members are needed but those that say otherwise.
type Config struct {
	Issuer string
	Live   store.Engine
	Mirror *store.Mirror // of the records that a stop writes
	// Record is the ledger.
	Record func(context.Context, audit.Event) error
	// Stop ends the tokens of a code that was used twice: Transactions.Stop.
	Stop func(context.Context, transaction.Target, transaction.Cause) error
	Now  func() time.Time

	RequestLifetime time.Duration // how long a user has to decide
	PushLifetime    time.Duration // of a pushed request; zero: a minute
	CodeLifetime    time.Duration // of a code, at most a minute; zero: a minute
	// Remember is how long a spent code is known, so that its tokens can be ended when it comes again: the lifetime of those
	// tokens.
	Remember time.Duration
}

// Flow is the code flow. It is safe for concurrent use by any number of servers.
type Flow struct{ cfg Config }

// New makes a Flow.
func New(cfg Config) (*Flow, error) {
	if cfg.Issuer == "" || cfg.Live == nil || cfg.Mirror == nil || cfg.Record == nil || cfg.Stop == nil || cfg.Now == nil ||
		cfg.RequestLifetime <= 0 || cfg.Remember <= 0 {
		return nil, errors.New("authcode: the configuration is not complete")
	}
	if cfg.PushLifetime <= 0 {
		cfg.PushLifetime = time.Minute
	}
	if cfg.CodeLifetime <= 0 || cfg.CodeLifetime > time.Minute {
		cfg.CodeLifetime = time.Minute
	}
	return &Flow{cfg: cfg}, nil
}
