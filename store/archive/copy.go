package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"obolus/store"
)

// What is loaded in one transaction.
const (
	loadEntries = 10_000
	loadWeight  = 8 << 20
)

// unfinished is there as long as a copy is.
var unfinished = store.Key{Partition: "archive", Name: "unfinished"} //nolint:gochecknoglobals // a constant that the language cannot call one

// ErrUnfinished is about records that a copy was begun into and did not come to its end.
var ErrUnfinished = errors.New("a restore or a migration into these records did not come to its end: run it again")

// ErrNotEmpty is about records that a copy would have to remove.
var ErrNotEmpty = errors.New("there are records already")

// Check refuses records that a copy was not finished into. Who serves records asks it first.
func Check(ctx context.Context, e store.Engine) error {
	recs, err := store.Read(ctx, e, unfinished)
	if err == nil && recs[0].Exists() {
		err = ErrUnfinished
	}
	return err
}

// Empty refuses records that have anything in them but what a copy left that was not finished.
func Empty(ctx context.Context, e store.Durable) error {
	if err := Check(ctx, e); err != nil {
		if errors.Is(err, ErrUnfinished) {
			return nil
		}
		return err
	}
	return e.Snapshot(ctx, func(s store.Snapshot) error {
		page, err := s.Page(store.Key{}, 1)
		if err == nil && len(page) > 0 {
			err = ErrNotEmpty
		}
		return err
	})
}

// Fill removes everything in a store and puts there what the feed gives. The store is marked as unfinished from then until
// Finish; last is as in store.Load. Progress, which may be nil, is told how many records there were so far.
func Fill(ctx context.Context, to store.Durable, last uint64, feed Feed, progress func(records uint64)) error {
	mark := store.Entry{Record: store.Record{Key: unfinished, Version: 1}}
	if err := to.Load(ctx, store.Load{Clear: true, Entries: []store.Entry{mark}, Last: last}); err != nil {
		return fmt.Errorf("make room for the records: %w", err)
	}
	records := uint64(0)
	for {
		load := store.Load{}
		end, err := gather(&load, feed)
		if err != nil {
			return err
		}
		if len(load.Entries) > 0 {
			if err := to.Load(ctx, load); err != nil {
				return fmt.Errorf("write the records: %w", err)
			}
		}
		records += uint64(len(load.Entries))
		if progress != nil {
			progress(records)
		}
		if end {
			return nil
		}
	}
}

// gather takes as much as one transaction is to hold, and says whether that was the rest.
func gather(load *store.Load, feed Feed) (end bool, err error) {
	for weight := 0; len(load.Entries) < loadEntries && weight < loadWeight; {
		e, err := feed()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if e.Key == unfinished {
			return false, ErrUnfinished
		}
		weight += len(e.Value)
		load.Entries = append(load.Entries, e)
	}
	return false, nil
}

// Same compares what a store holds after Fill with what the feed gives, one by one. Records whose time has passed since are
// left out. It returns how many there are, and their hash.
func Same(ctx context.Context, in store.Durable, feed Feed, progress func(records uint64)) (Sum, error) {
	var s Sum
	err := in.Snapshot(ctx, func(snap store.Snapshot) (err error) {
		s, err = same(snap, feed, progress)
		return err
	})
	return s, err
}

func same(snap store.Snapshot, feed Feed, progress func(uint64)) (Sum, error) {
	there := Entries(snap)
	w := &writer{to: bufio.NewWriter(io.Discard), hash: sha256.New()}
	for records := uint64(0); ; {
		wanted, ended := feed()
		if ended == nil && !wanted.Expires.IsZero() && wanted.Expires.UnixMilli() <= snap.Now.UnixMilli() {
			continue
		}
		if ended != nil && !errors.Is(ended, io.EOF) {
			return Sum{}, ended
		}
		found, err := there()
		if err == nil && found.Key == unfinished {
			found, err = there()
		}
		switch {
		case errors.Is(err, io.EOF) && ended != nil:
			return Sum{Records: records, Bytes: w.bytes, SHA256: hex.EncodeToString(w.hash.Sum(nil))}, nil //nolint:nilerr // both have come to their end
		case err != nil && !errors.Is(err, io.EOF):
			return Sum{}, err
		case err != nil || ended != nil || !equal(found, wanted):
			return Sum{}, fmt.Errorf("the copy is not as what was copied, from record %d on: begin again", records+1)
		}
		if err := w.record(found); err != nil {
			return Sum{}, err
		}
		records++
		tell(progress, records)
	}
}

func equal(a, b store.Entry) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Version == b.Version && a.Listed == b.Listed && a.Expires.Equal(b.Expires)
}

// Finish takes the mark away: the records may be served.
func Finish(ctx context.Context, e store.Engine) error {
	_, err := store.Apply(ctx, e, store.Commit{Partition: unfinished.Partition, Writes: []store.Write{{Name: unfinished.Name, Delete: true}}})
	return err
}
