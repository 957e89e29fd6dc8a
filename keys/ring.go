// Package keys holds the server's signing keys: made on first use, sealed under the master key in records, rotated with an
// overlap, withdrawn at once. Every server of an installation shares them. What a key is belongs to package token.
package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"obolus/store"
	"obolus/token"
)

// Config is what a Ring needs; Records, Default and Now are needed.
type Config struct {
	Records store.Engine
	Master  [32]byte // seals the keys at rest
	Default string   // the algorithm of tokens whose resource names none
	Now     func() time.Time
	// Ahead is how long a new key is published before it signs, so that verifiers with a cached key set know it.
	Ahead time.Duration
	// Overlap is how long an old key stays published: longer than any token lives.
	Overlap time.Duration
	// RotateEvery is the age at which a key is replaced; zero: never by itself.
	RotateEvery time.Duration
	// Report is told what went wrong in Run; nil: nobody is.
	Report func(error)
}

// Ring is the set of keys. What it answers is as new as the last Refresh, at most a few seconds old; a withdrawn key stops
// its tokens at once all the same, through the generation that every redemption reads.
type Ring struct {
	cfg     Config
	current atomic.Pointer[set]
	reading sync.Mutex // one Refresh at a time
	asked   time.Time  // when an unknown kid last caused one
}

// Info tells of a key without its private part.
type Info struct {
	ID        string    `json:"kid"`
	Alg       string    `json:"alg"`
	Created   time.Time `json:"created"`
	Active    time.Time `json:"active"`             // signs from then on
	Replaced  time.Time `json:"replaced,omitzero"`  // does not sign from then on
	Withdrawn time.Time `json:"withdrawn,omitzero"` // not published from then on
	Status    string    `json:"status"`             // next, active, retiring or withdrawn
}

// The values of Info.Status.
const (
	Next      = "next"      // published, and will sign
	Active    = "active"    // signs
	Retiring  = "retiring"  // published, and signs no more
	Withdrawn = "withdrawn" // neither
)

var (
	// ErrWithdrawn: the key is not in the set.
	ErrWithdrawn = errors.New("no such key")
	// ErrCrowded: there are so many keys that another one must wait until an old one is gone.
	ErrCrowded = errors.New("too many keys are published: wait until an old one is gone")
)

const (
	refreshEvery = 3 * time.Second
	askEvery     = time.Second // between two readings for unknown kids
	maxPublished = 16          // keys
	attempts     = 8           // at a commit that another server got in the way of
)

// Open reads the keys and makes the first one if there is none for the default algorithm.
func Open(ctx context.Context, cfg Config) (*Ring, error) {
	if cfg.Records == nil || cfg.Now == nil || !slices.Contains(token.Algorithms(), cfg.Default) || cfg.Ahead < 0 || cfg.Overlap < 0 {
		return nil, errors.New("keys: the configuration is not complete")
	}
	r := &Ring{cfg: cfg}
	if err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	return r, r.Ensure(ctx, cfg.Default)
}

// Refresh reads the keys anew. On an error those of the last time stay in force.
func (r *Ring) Refresh(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	return r.refresh(ctx)
}

func (r *Ring) refresh(ctx context.Context) error {
	next, err := r.read(ctx, r.current.Load())
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	r.current.Store(next)
	return nil
}

// Signer is the key that signs for an algorithm now; empty means the default. There is one for every algorithm that was
// given to Ensure or Rotate.
func (r *Ring) Signer(alg string) (*token.SigningKey, error) {
	if alg == "" {
		alg = r.cfg.Default
	}
	k := r.current.Load().signer(alg, r.cfg.Now())
	if k == nil {
		return nil, fmt.Errorf("no key signs %s: %w", alg, token.ErrNoKey)
	}
	return k.signing, nil
}

// Key finds a published key. For a kid that is not among those of the last reading the store is asked again, at most once a
// second: another server may have made it since.
func (r *Ring) Key(ctx context.Context, kid string) (token.PublicKey, error) {
	if k, ok := r.current.Load().public[kid]; ok {
		return k, nil
	}
	if err := r.ask(ctx); err != nil {
		return token.PublicKey{}, err
	}
	if k, ok := r.current.Load().public[kid]; ok {
		return k, nil
	}
	return token.PublicKey{}, token.ErrNoKey
}

func (r *Ring) ask(ctx context.Context) error {
	r.reading.Lock()
	defer r.reading.Unlock()
	now := r.cfg.Now()
	if now.Before(r.asked.Add(askEvery)) {
		return nil
	}
	r.asked = now
	return r.refresh(ctx)
}

// JWKS is the published key set, RFC 7517. It must not be changed.
func (r *Ring) JWKS() []byte { return r.current.Load().jwks }

// Infos tells of all keys, also those that are not published any more, the newest of each algorithm first.
func (r *Ring) Infos() []Info { return r.current.Load().infos(r.cfg.Now()) }

// Ensure makes a key for an algorithm that has none to sign with; empty means the default. Of several servers that do so at
// once, one makes it.
func (r *Ring) Ensure(ctx context.Context, alg string) error {
	if alg == "" {
		alg = r.cfg.Default
	}
	return r.add(ctx, alg, func(s *set, now time.Time) bool { return s.signer(alg, now) == nil })
}

// Rotate makes a new key for an algorithm; empty means the default. It is published at once and signs after Ahead, or at once if
// there was none. ErrCrowded: not now.
func (r *Ring) Rotate(ctx context.Context, alg string) error {
	if alg == "" {
		alg = r.cfg.Default
	}
	return r.add(ctx, alg, func(*set, time.Time) bool { return true })
}

// Withdraw takes a key out of the published set at once. If nothing else can sign for its algorithm, a new key does so
// from the same moment, known to verifiers or not. It can be repeated. ErrWithdrawn: there is no such key. What it does not do
// is stop the tokens of the key: that is for package transaction.
func (r *Ring) Withdraw(ctx context.Context, kid string) error {
	if err := r.withdraw(ctx, kid); err != nil {
		return err
	}
	return r.Refresh(ctx)
}

// Run keeps the ring new until the context ends: it reads the keys every few seconds and when one changes, replaces those
// that have reached RotateEvery, and forgets those whose time is over.
func (r *Ring) Run(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	var changes <-chan string
	for ctx.Err() == nil {
		if changes == nil {
			changes, _ = r.cfg.Records.Watch(ctx, partition) // only a hint: the ticker is what counts
		}
		r.report(r.Tend(ctx))
		select {
		case <-ctx.Done():
		case <-tick.C:
		case _, ok := <-changes:
			if !ok {
				changes = nil
				wait(ctx, tick.C)
			}
		}
	}
}

func wait(ctx context.Context, tick <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-tick:
	}
}

func (r *Ring) report(err error) {
	if err != nil && r.cfg.Report != nil {
		r.cfg.Report(err)
	}
}

// Tend does once what Run does again and again.
func (r *Ring) Tend(ctx context.Context) error {
	if err := r.Refresh(ctx); err != nil {
		return err
	}
	for alg := range r.current.Load().byAlg {
		if err := r.add(ctx, alg, r.due(alg)); err != nil {
			return err
		}
	}
	return r.forget(ctx)
}

// due says that an algorithm has no key to sign with, or that its newest is old enough to be replaced.
func (r *Ring) due(alg string) func(*set, time.Time) bool {
	return func(s *set, now time.Time) bool {
		live := s.live(alg)
		return len(live) == 0 || r.cfg.RotateEvery > 0 && !now.Before(live[0].Created.Add(r.cfg.RotateEvery))
	}
}
