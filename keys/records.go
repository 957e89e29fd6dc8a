package keys

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"obolus/store"
	"obolus/token"
)

// Records of the partition: kid/<kid> is a key, and alg/<algorithm> names the one of an algorithm that was added or withdrawn
// last, so that two servers never do so at once.
const (
	partition = "keys"
	kidPrefix = "kid/"
	algPrefix = "alg/"
)

// entry is a key as it is kept: the sealed private part and its life.
type entry struct {
	Sealed    []byte    `json:"sealed,omitempty"` // gone once it is withdrawn
	Alg       string    `json:"alg"`
	Created   time.Time `json:"created"`
	Active    time.Time `json:"active"` // signs from then on
	Withdrawn time.Time `json:"withdrawn,omitzero"`
}

// read reads the keys; what was opened before is not opened again.
func (r *Ring) read(ctx context.Context, before *set) (*set, error) {
	heads, err := r.heads(ctx)
	if err != nil {
		return nil, err
	}
	recs, err := r.cfg.Records.List(ctx, partition, kidPrefix, 1000)
	if err != nil {
		return nil, err
	}
	known := make(map[string]*key)
	if before != nil {
		for _, all := range before.byAlg {
			for _, k := range all {
				known[k.id] = k
			}
		}
	}
	all := make([]*key, 0, len(recs))
	for _, rec := range recs {
		k, err := r.open(rec, known[strings.TrimPrefix(rec.Name, kidPrefix)])
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return newSet(all, heads, r.cfg.Now(), r.cfg.Overlap)
}

// heads are read before the keys: an addition that the list does not show is then refused.
func (r *Ring) heads(ctx context.Context) (map[string]uint64, error) {
	var names []store.Key
	for _, alg := range token.Algorithms() {
		names = append(names, store.Key{Partition: partition, Name: algPrefix + alg})
	}
	recs, err := store.Read(ctx, r.cfg.Records, names...)
	if err != nil {
		return nil, err
	}
	heads := make(map[string]uint64)
	for i, alg := range token.Algorithms() {
		heads[alg] = recs[i].Version
	}
	return heads, nil
}

func (r *Ring) open(rec store.Record, known *key) (*key, error) {
	if known != nil && known.version == rec.Version {
		return known, nil
	}
	k := &key{id: strings.TrimPrefix(rec.Name, kidPrefix), version: rec.Version}
	if err := json.Unmarshal(rec.Value, &k.entry); err != nil {
		return nil, fmt.Errorf("key %s: %w", k.id, err)
	}
	if !k.Withdrawn.IsZero() {
		return k, nil
	}
	var err error
	if k.signing, err = token.Open(k.Sealed, r.cfg.Master); err != nil {
		return nil, fmt.Errorf("key %s: %w", k.id, err)
	}
	if p := k.signing.Public(); p.ID != k.id || p.Alg != k.Alg {
		return nil, fmt.Errorf("key %s: the sealed key is another one", k.id)
	}
	return k, nil
}

// add makes a key for an algorithm as long as it is wanted, in one commit that fails if another server was quicker; then it
// looks again.
func (r *Ring) add(ctx context.Context, alg string, wanted func(*set, time.Time) bool) error {
	for range attempts {
		s, now := r.current.Load(), r.cfg.Now().UTC()
		if !wanted(s, now) {
			return nil
		}
		if len(s.public) >= maxPublished {
			return ErrCrowded
		}
		active := now
		if s.signer(alg, now) != nil {
			active = now.Add(r.cfg.Ahead)
		}
		fresh, err := r.generate(entry{Alg: alg, Created: now, Active: active})
		if err != nil {
			return err
		}
		done, err := r.change(ctx, alg, s.heads[alg], store.Commit{Writes: []store.Write{fresh}})
		if err != nil {
			return err
		}
		if err := r.Refresh(ctx); err != nil || done {
			return err
		}
	}
	return fmt.Errorf("add a key for %s: %w", alg, store.ErrUnavailable)
}

// generate makes a key, and the write of its record.
func (r *Ring) generate(e entry) (store.Write, error) {
	k, err := token.GenerateKey(e.Alg, rand.Reader)
	if err != nil {
		return store.Write{}, err
	}
	if e.Sealed, err = token.Seal(k, r.cfg.Master, rand.Reader); err != nil {
		return store.Write{}, err
	}
	value, err := json.Marshal(e)
	return store.Write{Name: kidPrefix + k.KeyID(), Value: value, Listed: true}, err
}

// change carries out a commit about an algorithm's keys, the last of its writes, unless another has been since its head was read.
func (r *Ring) change(ctx context.Context, alg string, head uint64, c store.Commit) (bool, error) {
	cond := store.Condition{Name: algPrefix + alg, Is: store.Absent}
	if head != 0 {
		cond.Is, cond.Version = store.AtVersion, head
	}
	last := strings.TrimPrefix(c.Writes[len(c.Writes)-1].Name, kidPrefix)
	c.Partition = partition
	c.If = append(c.If, cond)
	c.Writes = append(c.Writes, store.Write{Name: algPrefix + alg, Value: []byte(last)})
	out, err := store.Apply(ctx, r.cfg.Records, c)
	return out.Applied, err
}

// withdraw marks a key and drops its private part. If no other can sign for its algorithm, the same commit brings the one that
// does: at no moment a server finds none.
func (r *Ring) withdraw(ctx context.Context, kid string) error {
	name := kidPrefix + kid
	for range attempts {
		recs, err := store.Read(ctx, r.cfg.Records, store.Key{Partition: partition, Name: name})
		if errors.Is(err, store.ErrInvalid) || err == nil && !recs[0].Exists() {
			return ErrWithdrawn
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(recs[0].Value, &e); err != nil {
			return fmt.Errorf("key %s: %w", kid, err)
		}
		if !e.Withdrawn.IsZero() {
			return nil
		}
		done, err := r.retire(ctx, recs[0], e)
		if err != nil || done {
			return err
		}
		if err := r.Refresh(ctx); err != nil { // another change got in the way
			return err
		}
	}
	return fmt.Errorf("withdraw key %s: %w", kid, store.ErrUnavailable)
}

// retire is the commit of a withdrawal: the key as it was read, and what the keys of its algorithm were at the last reading.
func (r *Ring) retire(ctx context.Context, rec store.Record, e entry) (bool, error) {
	s, now := r.current.Load(), r.cfg.Now().UTC()
	e.Sealed, e.Withdrawn = nil, now
	value, err := json.Marshal(e)
	if err != nil {
		return false, err
	}
	c := store.Commit{
		If:     []store.Condition{{Name: rec.Name, Is: store.AtVersion, Version: rec.Version}},
		Writes: []store.Write{{Name: rec.Name, Value: value, Listed: true}},
	}
	if !slices.ContainsFunc(s.live(e.Alg), func(k *key) bool { return kidPrefix+k.id != rec.Name }) {
		fresh, err := r.generate(entry{Alg: e.Alg, Created: now, Active: now})
		if err != nil {
			return false, err
		}
		c.Writes = append(c.Writes, fresh)
	}
	return r.change(ctx, e.Alg, s.heads[e.Alg], c)
}

// forget deletes keys whose time is over.
func (r *Ring) forget(ctx context.Context) error {
	over := r.current.Load().over(r.cfg.Now(), r.cfg.Overlap)
	if len(over) == 0 {
		return nil
	}
	var b store.Batch
	for _, k := range over {
		name := kidPrefix + k.id
		b.Commits = append(b.Commits, store.Commit{
			Partition: partition, If: []store.Condition{{Name: name, Is: store.AtVersion, Version: k.version}},
			Writes: []store.Write{{Name: name, Delete: true, Listed: true}},
		})
	}
	if _, err := r.cfg.Records.Do(ctx, b); err != nil {
		return err
	}
	return r.Refresh(ctx)
}
