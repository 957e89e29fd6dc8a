package users

import (
	"context"
	"errors"
	"time"

	"obolus/audit"
	"obolus/store"
)

// The errors of signing in and of sessions.
var (
	// ErrRefused: the name and the password do not go together, or the account may not sign in. It says nothing more.
	ErrRefused = errors.New("the sign-in was refused")
	// ErrTooMany: too many attempts, for this account or from this address.
	ErrTooMany = errors.New("too many attempts to sign in")
	// ErrNoSession: there is no such session, or it is over.
	ErrNoSession = errors.New("not signed in")
)

// BookConfig is what a Book needs; members without a word about their zero value are needed.
type BookConfig struct {
	Records store.Engine
	Live    store.Engine
	// Claim takes an id for a kind of thing: agents.Registry.Claim.
	Claim  func(ctx context.Context, id, kind string) error
	Record func(context.Context, audit.Event) error // the ledger
	Now    func() time.Time
	// Providers are the ids of the identity providers: no local account can be made that looks like one of theirs.
	Providers []string

	Idle     time.Duration // after which an unused session ends; zero: one hour
	Lifetime time.Duration // of a session, used or not; zero: 12 hours
	Hashing  int           // passwords that are hashed at a time, each with 19 MiB; zero: 4
	Limits   Limits
}

// Limits are the attempts to sign in that are answered within a quarter of an hour. A zero is the default.
type Limits struct {
	Pair    int // one account from one address; 10
	Account int // one account from anywhere; 100
	Address int // one address, IPv6 by its /64; 60
}

// Book keeps accounts and sessions. It is safe for concurrent use by any number of servers.
type Book struct {
	cfg     BookConfig
	hashing chan struct{}
	dummy   string // the hash that the password of nobody is compared with
}

// NewBook makes a Book.
func NewBook(cfg BookConfig) (*Book, error) {
	if cfg.Records == nil || cfg.Live == nil || cfg.Claim == nil || cfg.Record == nil || cfg.Now == nil {
		return nil, errors.New("users: the configuration is not complete")
	}
	cfg.Idle, cfg.Lifetime = or(cfg.Idle, time.Hour), or(cfg.Lifetime, 12*time.Hour)
	cfg.Hashing = or(cfg.Hashing, 4)
	cfg.Limits = Limits{Pair: or(cfg.Limits.Pair, 10), Account: or(cfg.Limits.Account, 100), Address: or(cfg.Limits.Address, 60)}
	return &Book{cfg: cfg, hashing: make(chan struct{}, cfg.Hashing), dummy: nobodysHash()}, nil
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
