package bolt

import (
	"bytes"
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"

	"obolus/store"
	"obolus/store/memory/commit"
)

// A record is its version and its expiry in milliseconds (zero for never), eight bytes each, then the value. Its key
// is partition and name with a zero between, which neither can have.
const headSize = 16

// view is the records as one transaction sees them.
type view struct {
	listed, other, deaths, about *bbolt.Bucket
}

func viewOf(tx *bbolt.Tx) view {
	return view{
		listed: tx.Bucket([]byte(bucketListed)),
		other:  tx.Bucket([]byte(bucketOther)),
		deaths: tx.Bucket([]byte(bucketDeaths)),
		about:  tx.Bucket([]byte(bucketAbout)),
	}
}

func keyOf(k store.Key) []byte {
	key := make([]byte, 0, len(k.Partition)+1+len(k.Name))
	key = append(key, k.Partition...)
	key = append(key, 0)
	return append(key, k.Name...)
}

// find returns the bucket that has a record, dead or alive, and what it has there.
func (v view) find(key []byte) (*bbolt.Bucket, []byte) {
	for _, b := range []*bbolt.Bucket{v.listed, v.other} {
		if raw := b.Get(key); raw != nil {
			return b, raw
		}
	}
	return nil, nil
}

// borrow returns a record whose value is good until the transaction changes something or ends.
func (v view) borrow(k store.Key, now time.Time) store.Record {
	_, raw := v.find(keyOf(k))
	if raw == nil {
		return store.Record{Key: k}
	}
	return decode(k, raw, now)
}

// decode returns the record, absent if it is dead.
func decode(k store.Key, raw []byte, now time.Time) store.Record {
	expires := expiry(raw)
	if !commit.Alive(expires, now) {
		return store.Record{Key: k}
	}
	return store.Record{Key: k, Value: raw[headSize:], Version: number(raw), Expires: expires}
}

func expiry(raw []byte) time.Time {
	ms := number(raw[8:headSize])
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC() //nolint:gosec // it was one
}

func (v view) readAll(keys []store.Key, now time.Time) []store.Record {
	recs := make([]store.Record, len(keys))
	for i, k := range keys {
		recs[i] = v.borrow(k, now)
		recs[i].Value = bytes.Clone(recs[i].Value)
	}
	return recs
}

func (v view) list(partition, after string, limit int, now time.Time) []store.Record {
	var found []store.Record
	prefix := keyOf(store.Key{Partition: partition})
	from := keyOf(store.Key{Partition: partition, Name: after})
	c := v.listed.Cursor()
	for key, raw := c.Seek(from); bytes.HasPrefix(key, prefix) && len(found) < limit; key, raw = c.Next() {
		if bytes.Equal(key, from) {
			continue
		}
		rec := decode(store.Key{Partition: partition, Name: string(key[len(prefix):])}, raw, now)
		if rec.Exists() {
			rec.Value = bytes.Clone(rec.Value)
			found = append(found, rec)
		}
	}
	return found
}

// put makes one change.
func (v view) put(c commit.Change) error {
	key := keyOf(c.Key)
	where, raw := v.find(key)
	if raw != nil {
		if err := v.forget(expiry(raw), key); err != nil {
			return err
		}
	}
	if c.Deleted {
		return remove(where, key)
	}
	if c.Listed && where == v.other {
		if err := remove(where, key); err != nil {
			return err
		}
		where = nil
	}
	if where == nil {
		where = v.other
		if c.Listed {
			where = v.listed
		}
	}
	if err := where.Put(key, encode(c.Record)); err != nil || c.Expires.IsZero() {
		return err
	}
	return v.deaths.Put(deathOf(c.Expires, key), nil)
}

func encode(r store.Record) []byte {
	raw := make([]byte, headSize, headSize+len(r.Value))
	binary.BigEndian.PutUint64(raw, r.Version)
	if !r.Expires.IsZero() {
		binary.BigEndian.PutUint64(raw[8:], uint64(r.Expires.UnixMilli()))
	}
	return append(raw, r.Value...)
}

func remove(from *bbolt.Bucket, key []byte) error {
	if from == nil {
		return nil
	}
	return from.Delete(key)
}

func deathOf(expires time.Time, key []byte) []byte {
	death := make([]byte, 8, 8+len(key))
	binary.BigEndian.PutUint64(death, uint64(expires.UnixMilli()))
	return append(death, key...)
}

func (v view) forget(expires time.Time, key []byte) error {
	if expires.IsZero() {
		return nil
	}
	return v.deaths.Delete(deathOf(expires, key))
}

// bury removes up to most of the dead, those first that have been dead longest.
func (v view) bury(now time.Time, most int) error {
	var dead [][]byte
	c := v.deaths.Cursor()
	for death, _ := c.First(); death != nil && len(dead) < most; death, _ = c.Next() {
		if commit.Alive(time.UnixMilli(int64(number(death))), now) { //nolint:gosec // it was one
			break
		}
		dead = append(dead, bytes.Clone(death))
	}
	for _, death := range dead {
		where, _ := v.find(death[8:])
		if err := remove(where, death[8:]); err != nil {
			return err
		}
		if err := v.deaths.Delete(death); err != nil {
			return err
		}
	}
	return nil
}
