package consent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"obolus/audit"
	"obolus/store"
)

// The errors of the book.
var (
	ErrNotFound  = errors.New("no such consent")
	ErrDecided   = errors.New("already decided")
	ErrNotYours  = errors.New("asked of somebody else")
	ErrWider     = errors.New("wider than what was asked")
	ErrExhausted = errors.New("the grant is used up")
	ErrGone      = errors.New("the grant is withdrawn or over")
)

const maxGrants = 32 // kept for one agent at one target, the newest ones

// Bundle is all that a user has allowed, ever refused or taken back from one agent at one target, as one record.
type Bundle struct {
	Grants []Drawn `json:"grants"`
	// Held is when the user was signed out everywhere, by who signs the user in: what was allowed counts for sign-ins after it. Zero: never.
	Held time.Time `json:"held,omitzero"`
}

// Drawn is a grant with what has been drawn from its budget.
type Drawn struct {
	Grant
	Used     int       `json:"used,omitempty"`
	LastUsed time.Time `json:"last_used,omitzero"`
	LastTxn  string    `json:"last_txn,omitempty"` // the transaction that was paid for last
}

// Exhausted says whether the budget is used up.
func (d Drawn) Exhausted() bool { return d.Uses > 0 && d.Used >= d.Uses }

// Book keeps grants in records, mirrored in the live store, and interactions in the live store alone.
type Book struct {
	cfg  BookConfig
	seen *store.Forms[Bundle]
}

const seenLimit = 2048

// BookConfig is what a Book needs.
type BookConfig struct {
	Records store.Engine
	Live    store.Engine
	Mirror  *store.Mirror
	Record  func(context.Context, audit.Event) error // the ledger
	Now     func() time.Time
	// InteractionLifetime is how long a user has to decide, and for how long the answer no is remembered.
	InteractionLifetime time.Duration
	MaxLifetime         time.Duration // of a grant
}

// NewBook makes a Book.
func NewBook(cfg BookConfig) *Book { return &Book{cfg: cfg, seen: store.NewForms[Bundle](seenLimit)} }

// Key is the record of the bundle of a user, an agent and a target, to be read along with other things.
func Key(user, agent, target string) store.Key {
	return store.Key{Partition: "grants/" + user, Name: agent + " " + target}
}

// ReadBundle parses the record of a bundle; an absent one is empty.
func ReadBundle(rec store.Record) (Bundle, error) {
	var b Bundle
	if !rec.Exists() {
		return b, nil
	}
	if err := json.Unmarshal(rec.Value, &b); err != nil {
		return b, fmt.Errorf("read grants: %w", err)
	}
	return b, nil
}

// Bundle is ReadBundle, done once for each version of a record. What it gives is not to be changed.
func (b *Book) Bundle(rec store.Record) (Bundle, error) {
	if got, ok := b.seen.Get(rec.Key, rec.Version); ok {
		return got, nil
	}
	got, err := ReadBundle(rec)
	if err == nil && rec.Exists() {
		b.seen.Put(rec.Key, rec.Version, got)
	}
	return got, err
}

// Draw takes one use from a grant that has a budget, durably, provided it is still there to be drawn from; for a transaction that
// was the last to be paid for, nothing more. The commits that it returns bring the copies up to date and must be carried
// out before anybody is told. A grant without a budget costs nothing and changes nothing: it returns nil.
func (b *Book) Draw(ctx context.Context, g Grant, txn string) ([]store.Commit, error) {
	if g.Uses == 0 {
		return nil, nil
	}
	since := b.cfg.Mirror.Epoch()
	out, err := b.change(ctx, Key(g.User, g.Agent, g.Target), func(bundle *Bundle) error {
		i := bundle.find(g.ID)
		switch {
		case i < 0 || !bundle.Grants[i].LiveAt(b.cfg.Now()):
			return ErrGone
		case txn != "" && bundle.Grants[i].LastTxn == txn:
			return nil
		case bundle.Grants[i].Exhausted():
			return ErrExhausted
		}
		bundle.Grants[i].LastTxn = txn
		bundle.Grants[i].Used++
		bundle.Grants[i].LastUsed = b.cfg.Now().UTC()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.cfg.Mirror.Copies(out, since), nil
}

// GrantsOf lists everything a user has allowed, by agent and target, the ended ones too.
func (b *Book) GrantsOf(ctx context.Context, user string) ([]Drawn, error) {
	var all []Drawn
	after := ""
	for {
		recs, err := b.cfg.Records.List(ctx, "grants/"+user, after, 500)
		if err != nil {
			return nil, err
		}
		for _, rec := range recs {
			bundle, err := ReadBundle(rec)
			if err != nil {
				return nil, err
			}
			all = append(all, bundle.Grants...)
			after = rec.Name
		}
		if len(recs) < 500 {
			return all, nil
		}
	}
}

// Withdraw ends a grant of a user before its time and returns it. It is in force on every server when Withdraw
// returns; ending it again is no error. Tokens already issued under it are for package transaction to stop.
func (b *Book) Withdraw(ctx context.Context, user, id, by string) (Grant, error) {
	all, err := b.GrantsOf(ctx, user)
	if err != nil {
		return Grant{}, err
	}
	i := slices.IndexFunc(all, func(d Drawn) bool { return d.ID == id })
	if i < 0 {
		return Grant{}, ErrNotFound
	}
	g := all[i].Grant
	since := b.cfg.Mirror.Epoch()
	out, err := b.change(ctx, Key(g.User, g.Agent, g.Target), func(bundle *Bundle) error {
		i := bundle.find(id)
		if i < 0 {
			return ErrNotFound
		}
		if bundle.Grants[i].Withdrawn.IsZero() {
			bundle.Grants[i].Withdrawn, bundle.Grants[i].By = b.cfg.Now().UTC(), by
		}
		g = bundle.Grants[i].Grant
		return nil
	})
	if err != nil {
		return Grant{}, err
	}
	return g, b.cfg.Mirror.Publish(ctx, out, since)
}

// Hold suspends everything that a user has allowed until the user signs in again after a time. It is in force on every server when Hold
// returns. It does not shorten a hold of a later time.
func (b *Book) Hold(ctx context.Context, user string, at time.Time) error {
	after := ""
	for {
		recs, err := b.cfg.Records.List(ctx, "grants/"+user, after, 500)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			after = rec.Name
			since := b.cfg.Mirror.Epoch()
			out, err := b.change(ctx, rec.Key, func(bundle *Bundle) error {
				if at.After(bundle.Held) {
					bundle.Held = at.UTC()
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := b.cfg.Mirror.Publish(ctx, out, since); err != nil {
				return err
			}
		}
		if len(recs) < 500 {
			return nil
		}
	}
}

// add puts a new grant into its bundle.
func (b *Book) add(ctx context.Context, g Grant) error {
	since := b.cfg.Mirror.Epoch()
	out, err := b.change(ctx, Key(g.User, g.Agent, g.Target), func(bundle *Bundle) error {
		bundle.Grants = append(bundle.Grants, Drawn{Grant: g})
		if len(bundle.Grants) > maxGrants {
			bundle.drop(b.cfg.Now())
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.cfg.Mirror.Publish(ctx, out, since)
}

// change applies a change to the bundle as it is in records, again if somebody was faster.
func (b *Book) change(ctx context.Context, k store.Key, apply func(*Bundle) error) (store.Outcome, error) {
	recs, err := store.Read(ctx, b.cfg.Records, k)
	if err != nil {
		return store.Outcome{}, err
	}
	for rec := recs[0]; ; {
		bundle, err := ReadBundle(rec)
		if err != nil {
			return store.Outcome{}, err
		}
		if err := apply(&bundle); err != nil {
			return store.Outcome{}, err
		}
		value, err := json.Marshal(bundle)
		if err != nil {
			return store.Outcome{}, err
		}
		cond := store.Condition{Name: k.Name, Is: store.Absent}
		if rec.Exists() {
			cond.Is, cond.Version = store.AtVersion, rec.Version
		}
		out, err := store.Apply(ctx, b.cfg.Records, store.Commit{
			Partition: k.Partition, If: []store.Condition{cond},
			Writes: []store.Write{{Name: k.Name, Value: value, Listed: true}},
		})
		if err != nil || out.Applied {
			return out, err
		}
		rec = out.Seen[0]
	}
}

func (b *Bundle) find(id string) int {
	return slices.IndexFunc(b.Grants, func(d Drawn) bool { return d.ID == id })
}

// drop forgets the oldest grant, one that has ended if there is any.
func (b *Bundle) drop(now time.Time) {
	i := slices.IndexFunc(b.Grants, func(d Drawn) bool { return !d.LiveAt(now) || d.Exhausted() })
	i = max(i, 0)
	b.Grants = slices.Delete(b.Grants, i, i+1)
}

// newID makes an unguessable id of 128 bits behind a prefix.
func newID(prefix string) string {
	var raw [16]byte
	rand.Read(raw[:])
	return prefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
