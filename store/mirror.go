package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// Mirror keeps versioned copies of records in the live store, so that a request reads all it needs in one round trip.
//
// A copy is never older than the last change that was acknowledged. Commit writes records first and the copies
// second, and is acknowledged after both, if the epoch of the copies is still in force then. Resolve fills a missing copy from records, under three guards: a copy never
// overwrites a newer one; a fill is refused once the reader's look at the live store is older than half a copy's
// life, so that the newer copy which would have stopped it cannot have expired meanwhile; and it is refused in another
// epoch than that of the look, where the newer copy is forgotten. So is the copy of a change in another epoch than that from before
// the change. The copy of a change lives longer than one that was
// filled, for it may have to stop the copy of an older change whose writer, or network, was held up.
//
// Mirrored records have a value and no expiry of the store's: what ends says so in its value.
type Mirror struct {
	records Engine
	live    Epochal
}

// Epochal is a live store that is under an epoch, as Live is.
type Epochal interface {
	Engine
	Epoch() Epoch
}

const (
	copyName  = "copy"
	copyTTL   = time.Minute
	changeTTL = 5 * time.Minute
	fillLimit = 30 * time.Second

	neverWas = 1 // version of the copy of a record that never existed; drivers start above it
)

// NewMirror mirrors records in live.
func NewMirror(records Engine, live Epochal) *Mirror { return &Mirror{records: records, live: live} }

// Key is where the copy of a record lies in the live store: in a partition of its own, so that copies spread. Different
// records never share one, whatever is in their names.
func (m *Mirror) Key(k Key) Key {
	partition := "copy/" + strconv.Itoa(len(k.Partition)) + "/" + k.Partition + "/" + k.Name
	if len(partition) > MaxKey {
		sum := sha256.Sum256([]byte(partition))
		partition = "copy/" + hex.EncodeToString(sum[:])
	}
	return Key{Partition: partition, Name: copyName}
}

// Resolve turns what was read at Key(k), and the store's clock of that read, into the record itself, asking records
// when there was no copy. A record that does not exist comes back with version zero.
func (m *Mirror) Resolve(ctx context.Context, k Key, found Record, now time.Time) (Record, error) {
	if found.Exists() {
		return decodeCopy(k, found), nil
	}
	recs, err := Read(ctx, m.records, k)
	if err != nil {
		return Record{}, err
	}
	fill := m.copyOf(recs[0], copyTTL)
	fill.NotAfter = now.Add(fillLimit)
	if _, err := m.live.Do(ctx, Batch{Commits: []Commit{fill}, epoch: found.epoch}); err != nil {
		return Record{}, err
	}
	return recs[0], nil
}

// Read reads records through their copies: one live round trip when all have one.
func (m *Mirror) Read(ctx context.Context, keys ...Key) ([]Record, error) {
	reads := make([]Key, len(keys))
	for i, k := range keys {
		reads[i] = m.Key(k)
	}
	res, err := m.live.Do(ctx, Batch{Reads: reads})
	if err != nil {
		return nil, err
	}
	out := make([]Record, len(keys))
	for i, k := range keys {
		if out[i], err = m.Resolve(ctx, k, res.Records[i], res.Now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Commit changes records and then the copies of what it wrote. An error after the records were changed leaves the
// change in force but unacknowledged: the caller tells its caller to repeat.
func (m *Mirror) Commit(ctx context.Context, c Commit) (Outcome, error) {
	since := m.Epoch()
	out, err := Apply(ctx, m.records, c)
	if err != nil || !out.Applied {
		return out, err
	}
	return out, m.Publish(ctx, out, since)
}

// Epoch is the number of the live store's epoch. Who changes records without Commit asks for it before.
func (m *Mirror) Epoch() uint64 { return m.live.Epoch().Number }

// Copies are the live commits that bring the copies up to an outcome of records, for callers who send them along with
// something else. Until they are carried out the change must not be acknowledged. Since is the epoch from before the change:
// in a later one they are refused with ErrFence, for a newer change may have been acknowledged there already.
func (m *Mirror) Copies(out Outcome, since uint64) []Commit {
	commits := make([]Commit, len(out.Wrote))
	for i, rec := range out.Wrote {
		commits[i] = m.copyOf(rec, changeTTL)
		commits[i].Spends = true // it may be a stop
		commits[i].epoch = since
	}
	return commits
}

// Publish carries out copies; in a new epoch, if one has begun since, those of what records say now, for there a fill of before
// may be under way. It returns without error only if the epoch that they were written in is still in force after they
// were: copies in a store whose place another one has taken are seen by nobody.
func (m *Mirror) Publish(ctx context.Context, out Outcome, since uint64) error {
	_, err := m.live.Do(ctx, Batch{Commits: m.Copies(out, since), inForce: true})
	if !errors.Is(err, ErrFence) {
		return err
	}
	since = m.Epoch()
	keys := make([]Key, len(out.Wrote))
	for i, rec := range out.Wrote {
		keys[i] = rec.Key
	}
	now, err := Read(ctx, m.records, keys...)
	if err != nil {
		return err
	}
	_, err = m.live.Do(ctx, Batch{Commits: m.Copies(Outcome{Wrote: now}, since), inForce: true})
	return err
}

// copyOf is a commit that writes the copy of a record; the first byte says whether the record exists.
func (m *Mirror) copyOf(rec Record, life time.Duration) Commit {
	value, version := append([]byte{'+'}, rec.Value...), rec.Version
	if rec.Value == nil {
		value = []byte{'-'}
	}
	if version == 0 {
		version = neverWas
	}
	return Commit{
		Partition: m.Key(rec.Key).Partition,
		Writes:    []Write{{Name: copyName, Value: value, Version: version, TTL: life}},
	}
}

func decodeCopy(k Key, found Record) Record {
	if len(found.Value) == 0 || found.Value[0] != '+' {
		return Record{Key: k}
	}
	return Record{Key: k, Value: found.Value[1:], Version: found.Version}
}
