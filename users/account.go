// Package users keeps the accounts of people and their sessions: local accounts with a password, accounts that sign in with an
// identity provider, and the sessions that a browser holds a cookie of. Accounts and sessions lie in records, the counters
// that slow down guessing in the live store. It knows no transport: the pages are in package web, and what a user allowed
// in package consent. Stopping what was issued to a user is for package transaction.
package users

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"obolus/agents"
	"obolus/store"
)

// Account is a person. Its id is the sub of tokens; agents, clients, users and resources share one space of ids.
type Account struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	// Provider is the identity provider it signs in with, and Subject who it is there; empty: a local account.
	Provider string    `json:"provider,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created,omitzero"`
}

// stored is an account as it is kept.
type stored struct {
	Account
	Hash string `json:"password_hash,omitempty"`
	// Reign counts what ends all sessions: a session of an earlier reign is over.
	Reign uint64 `json:"reign,omitempty"`
	// Ended is a time before which all sessions are over.
	Ended time.Time `json:"ended,omitzero"`
	// Removed keeps the id from being given to somebody else, who would inherit what this user had allowed.
	Removed time.Time `json:"removed,omitzero"`
}

const (
	accounts = "users"
	byID     = "id/"

	maxText = 256 // bytes of a name or an address
)

// Account returns an account and its version.
func (b *Book) Account(ctx context.Context, id string) (Account, uint64, error) {
	s, version, err := b.read(ctx, id)
	if err != nil {
		return Account{}, 0, err
	}
	return s.Account, version, nil
}

// Accounts lists accounts in the order of their ids.
func (b *Book) Accounts(ctx context.Context, after string, limit int) ([]Account, error) {
	list := make([]Account, 0, limit)
	for {
		recs, err := b.cfg.Records.List(ctx, accounts, byID+after, limit)
		if err != nil {
			return nil, err
		}
		for _, rec := range recs {
			after = strings.TrimPrefix(rec.Name, byID)
			s, err := parse(rec)
			if errors.Is(err, errRemoved) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if list = append(list, s.Account); len(list) == limit {
				return list, nil
			}
		}
		if len(recs) < limit {
			return list, nil
		}
	}
}

// Put registers or changes an account. The version is that of the record it replaces: zero for a new one. An empty secret
// leaves the password as it is. Another password, and disabling, end every session of the user's; Created, Provider and
// Subject of an account that exists stay what they are. It refuses with the errors of the registry.
func (b *Book) Put(ctx context.Context, a Account, s Secret, version uint64) (uint64, error) {
	if version == 0 {
		return b.create(ctx, a, s)
	}
	was, have, err := b.read(ctx, a.ID)
	if err != nil {
		return 0, err
	}
	a.Created, a.Provider, a.Subject = was.Created, was.Provider, was.Subject
	if err := a.check(); err != nil {
		return 0, err
	}
	hash, err := b.hash(ctx, s)
	if err != nil {
		return 0, err
	}
	if have != version {
		return 0, agents.ErrChanged
	}
	if hash != "" && was.Provider != "" {
		return 0, invalid("user %q signs in with %q and has no password", a.ID, was.Provider)
	}
	next := stored{Account: a, Hash: was.Hash, Reign: was.Reign, Ended: was.Ended}
	if hash != "" && !b.same(ctx, was.Hash, s) {
		next.Hash = hash
		next.Reign++
	}
	if a.Disabled && !was.Disabled {
		next.Reign++
	}
	return b.write(ctx, next, version)
}

// Remove ends an account and all its sessions. Its id is not given again: what its user had allowed is kept under it.
func (b *Book) Remove(ctx context.Context, id string, version uint64) error {
	was, have, err := b.read(ctx, id)
	if err != nil {
		return err
	}
	if have != version {
		return agents.ErrChanged
	}
	_, err = b.write(ctx, stored{Account: Account{ID: id}, Reign: was.Reign + 1, Removed: b.cfg.Now().UTC()}, version)
	return err
}

// SignOut ends all sessions of a user.
func (b *Book) SignOut(ctx context.Context, id string) error {
	for {
		s, version, err := b.read(ctx, id)
		if err != nil {
			return err
		}
		s.Reign++
		if _, err = b.write(ctx, s, version); !errors.Is(err, agents.ErrChanged) {
			return err
		}
	}
}

// SignOutBefore ends the sessions of a user that began before a time or at it. An account that does not exist has none.
func (b *Book) SignOutBefore(ctx context.Context, id string, at time.Time) error {
	for {
		s, version, err := b.read(ctx, id)
		if errors.Is(err, agents.ErrNotFound) {
			return nil
		}
		if err != nil || !at.After(s.Ended) {
			return err
		}
		s.Ended = at.UTC()
		if _, err = b.write(ctx, s, version); !errors.Is(err, agents.ErrChanged) {
			return err
		}
	}
}

// FederatedID is the account id of who signs in with an identity provider. Different people have different ids, also across
// providers, as long as no provider's id has a colon in it.
func FederatedID(provider, subject string) string {
	id := provider + ":" + subject
	if agents.CheckID(id) != nil || strings.HasPrefix(subject, "~") {
		return provider + ":~" + digest(subject)
	}
	return id
}

func (b *Book) create(ctx context.Context, a Account, s Secret) (uint64, error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	hash, err := b.hash(ctx, s)
	if err != nil {
		return 0, err
	}
	if a.Provider == "" && hash == "" {
		return 0, invalid("user %q has no password", a.ID)
	}
	if provider, _, ok := strings.Cut(a.ID, ":"); ok && a.Provider == "" && b.provides(provider) {
		return 0, invalid("user %q: ids that begin with %s: are those of the identity provider", a.ID, provider)
	}
	if err := b.cfg.Claim(ctx, a.ID, "user"); err != nil {
		return 0, err
	}
	_, _, err = b.read(ctx, a.ID)
	switch {
	case err == nil:
		return 0, agents.ErrChanged
	case errors.Is(err, errRemoved):
		return 0, fmt.Errorf("%q belonged to a user who was removed: %w", a.ID, agents.ErrTaken)
	case !errors.Is(err, agents.ErrNotFound):
		return 0, err
	}
	if a.Created.IsZero() {
		a.Created = b.cfg.Now().UTC()
	}
	return b.write(ctx, stored{Account: a, Hash: hash}, 0)
}

func (b *Book) provides(id string) bool {
	return slices.Contains(b.cfg.Providers, id)
}

// errRemoved is ErrNotFound that remembers why.
var errRemoved = fmt.Errorf("removed: %w", agents.ErrNotFound)

func (b *Book) read(ctx context.Context, id string) (stored, uint64, error) {
	if agents.CheckID(id) != nil {
		return stored{}, 0, agents.ErrNotFound
	}
	recs, err := store.Read(ctx, b.cfg.Records, store.Key{Partition: accounts, Name: byID + id})
	if err != nil {
		return stored{}, 0, err
	}
	if !recs[0].Exists() {
		return stored{}, 0, fmt.Errorf("user %q: %w", id, agents.ErrNotFound)
	}
	s, err := parse(recs[0])
	return s, recs[0].Version, err
}

func parse(rec store.Record) (stored, error) {
	var s stored
	if err := json.Unmarshal(rec.Value, &s); err != nil {
		return stored{}, fmt.Errorf("read user %q: %w", rec.Name, err)
	}
	if !s.Removed.IsZero() {
		return stored{}, fmt.Errorf("user %q: %w", s.ID, errRemoved)
	}
	return s, nil
}

func (b *Book) write(ctx context.Context, s stored, version uint64) (uint64, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	cond := store.Condition{Name: byID + s.ID, Is: store.Absent}
	if version != 0 {
		cond.Is, cond.Version = store.AtVersion, version
	}
	out, err := store.Apply(ctx, b.cfg.Records, store.Commit{
		Partition: accounts, If: []store.Condition{cond},
		Writes: []store.Write{{Name: byID + s.ID, Value: value, Listed: true}},
	})
	if err := changed(out, err); err != nil {
		return 0, err
	}
	return out.Wrote[0].Version, nil
}

func (a Account) check() error {
	if err := agents.CheckID(a.ID); err != nil {
		return err
	}
	if (a.Provider == "") != (a.Subject == "") {
		return invalid("user %q: provider and subject go together", a.ID)
	}
	if a.Provider != "" && a.ID != FederatedID(a.Provider, a.Subject) {
		return invalid("user %q is not the id of that subject at %q", a.ID, a.Provider)
	}
	for _, text := range []string{a.Name, a.Email} {
		if len(text) > maxText || !utf8.ValidString(text) {
			return invalid("user %q: name and email have at most %d bytes of UTF-8", a.ID, maxText)
		}
	}
	return nil
}

func changed(out store.Outcome, err error) error {
	if err == nil && !out.Applied {
		return agents.ErrChanged
	}
	return err
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, agents.ErrInvalid)...)
}
