package store

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"
)

// Durable is the contract of an engine that remembers: it can be copied whole besides.
type Durable interface {
	Engine
	// Snapshot shows everything as it is at one moment, whatever is committed meanwhile. The look is over when use returns,
	// whose error is passed on as it is.
	Snapshot(ctx context.Context, use func(Snapshot) error) error
	// Load puts entries in as they are, with their versions and expiries, in one transaction that is on disk before it
	// answers. It is for an engine that nobody else uses: those who watch are not told, and nothing is compared. What is
	// there already under one of the keys makes it ErrInvalid.
	Load(ctx context.Context, l Load) error
}

// Entry is a record as an engine has it, with what else a copy needs.
type Entry struct {
	Record
	Listed bool // List finds it
}

// Snapshot is everything in an engine at one moment.
type Snapshot struct {
	Now  time.Time // the store's clock then
	Last uint64    // the highest version that was ever given, or above it
	// Page returns living records in the order of Compare, those after a key: up to limit (1 to 1000), fewer where values are
	// big, and none at the end. The zero Key is before all.
	Page func(after Key, limit int) ([]Entry, error)
}

// Load is a part of a copy.
type Load struct {
	Clear   bool    // removes everything first, in the same transaction, and renews the fence
	Entries []Entry // in the order of Compare
	Last    uint64  // versions that are given from then on are above it, and above those of the entries
}

// Compare orders keys by the bytes of the partition and then of the name.
func (k Key) Compare(other Key) int {
	return cmp.Or(strings.Compare(k.Partition, other.Partition), strings.Compare(k.Name, other.Name))
}

// PageWeight is about how many bytes of values a page holds at most.
const PageWeight = 8 << 20

// ValidatePage holds the arguments of Page to the contract.
func ValidatePage(after Key, limit int) error {
	if after != (Key{}) && (!validName(after.Partition) || !validName(after.Name)) || limit < 1 || limit > 1000 {
		return fmt.Errorf("%w: page after %q %q", ErrInvalid, after.Partition, after.Name)
	}
	return nil
}

// Validate holds a load to the contract.
func (l Load) Validate() error {
	last := Key{}
	for _, e := range l.Entries {
		if err := e.Validate(); err != nil {
			return err
		}
		if e.Compare(last) <= 0 {
			return fmt.Errorf("%w: entry %q %q is out of order", ErrInvalid, e.Partition, e.Name)
		}
		last = e.Key
	}
	if l.Last >= 1<<53 {
		return fmt.Errorf("%w: version %d", ErrInvalid, l.Last)
	}
	return nil
}

// Validate holds an entry to the contract.
func (e Entry) Validate() error {
	if len(e.Value) > MaxValue {
		return ErrTooBig
	}
	mortal := e.Expires.IsZero() || e.Expires.UnixMilli() > 0 && e.Expires.Equal(time.UnixMilli(e.Expires.UnixMilli()))
	if !validName(e.Partition) || !validName(e.Name) || e.Version == 0 || e.Version >= 1<<53 || !mortal {
		return fmt.Errorf("%w: entry %q %q", ErrInvalid, e.Partition, e.Name)
	}
	return nil
}
