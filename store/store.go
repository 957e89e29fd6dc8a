// Package store is the engine contract that everything Obolus remembers stands on: versioned records in partitions, read
// many at a time, written to one partition atomically under conditions. It knows no domain word. Drivers live in
// the packages below it; the repositories of the domain stand on it in their own packages.
//
// Two engines are in use at once: one that remembers (records) and one that forgets on time (live). [Live] puts
// the second under an epoch, [Mirror] keeps copies of the first in the second.
package store

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// Key names one record: a partition, which is what a commit is atomic over, and a name in it. Both are
// non-empty UTF-8 without control characters, at most 512 bytes each.
type Key struct{ Partition, Name string }

// Record is a value with its version. A record that does not exist, or whose time has passed, has version zero.
type Record struct {
	Key
	Value   []byte
	Version uint64    // grows with each write of the name, deletions included; below 1<<53
	Expires time.Time // zero: never

	epoch uint64 // that Live read it in, for Mirror
}

// Exists says whether there is such a record.
func (r Record) Exists() bool { return r.Version != 0 }

// Count reads the record as a counter; an absent one counts zero, and so does one that is no counter.
func (r Record) Count() int64 {
	n, err := strconv.ParseInt(string(r.Value), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Check is what a condition asks of a record.
type Check uint8

// The checks. AtMost reads the record as a counter, absent counting zero.
const (
	Absent    Check = iota + 1 // there is no such record
	Present                    // there is one, whatever its version
	AtVersion                  // there is one and it has exactly this version
	AtMost                     // its count is not above this number
)

// Condition must hold for a commit to happen.
type Condition struct {
	Name    string
	Is      Check
	Version uint64 // for AtVersion
	Count   int64  // for AtMost
}

// Write is one change of a commit: a value, a deletion, or an addition to a counter.
type Write struct {
	Name   string
	Value  []byte
	Delete bool
	// Add, when not zero, adds to the counter of that name (absent: zero) and ignores Value. The result
	// must fit an int64. An existing counter keeps its expiry.
	Add int64
	// TTL, when positive, is how long the record lives by the store's clock; at least a millisecond.
	TTL time.Duration
	// Version, when not zero, is given to the record instead of the next one, and the write is passed over
	// when the stored record is not older: a copy never overwrites a newer one. A deletion ignores it.
	Version uint64
	// Listed enters the record into the order of its partition, so that List finds it. Records that nobody
	// lists cost less without it. Every write of a name says the same.
	Listed bool
}

// Commit changes one partition: all of it or nothing. Names in Writes are distinct, and so are those in If.
type Commit struct {
	Partition string
	If        []Condition
	Writes    []Write
	// NotAfter, when set, refuses the commit once the store's clock has passed it (millisecond precision).
	NotAfter time.Time
	// Spends marks what uses something up or takes it back, and must not be acknowledged by a server that stands alone: an
	// engine that is told to has replicas confirm it before it answers, whether it was applied or refused.
	Spends bool

	epoch uint64 // when not zero, Live refuses the batch in any other
}

// Outcome tells how a commit went. A refused commit is an answer, not an error.
type Outcome struct {
	Applied bool
	// Late is set when NotAfter had passed.
	Late bool
	// Seen holds the records that If names, in its order, as the commit found them; filled in either case.
	Seen []Record
	// Wrote holds, for an applied commit, the records as they now are, in the order of Writes. A deletion has
	// no value, and the version that the deletion took; a write passed over has the record that stood in its way.
	Wrote []Record
}

// Batch is what goes out in one round trip: first the commits, each atomic by itself and independent of the
// others, in their order where they share a partition; then the reads, which see the commits.
type Batch struct {
	// Fence, when not empty, refuses the batch with ErrFence unless it equals what Fence returns at the end of it.
	// Commits may then have been carried out, on data that the fence says nobody relies on any more.
	Fence   string
	Commits []Commit
	Reads   []Key

	epoch   uint64 // when not zero, Live refuses the batch in any other
	inForce bool   // Live refuses with ErrFence, afterwards, if another epoch than that of the batch is in force by then
}

// Results answers a batch, member by member.
type Results struct {
	Outcomes []Outcome
	Records  []Record
	Now      time.Time // the store's clock
}

// Engine is the contract of a driver. All methods are safe for concurrent use and honour the context; an error
// of Do means that what happened to the batch is unknown unless it is ErrFence, ErrTooBig or ErrInvalid.
type Engine interface {
	// Do carries out a batch in one round trip. A durable engine has everything on disk before it answers.
	Do(ctx context.Context, b Batch) (Results, error)
	// List returns up to limit (1 to 1000) listed records of a partition whose name is above after, in byte
	// order of the names.
	List(ctx context.Context, partition, after string, limit int) ([]Record, error)
	// Watch sends the names that change in a partition, by any process, from when it returns. It is a hint, not a
	// log: a burst may be folded, expiry is not told, and after a lost connection the channel closes, upon which the
	// reader reads again and watches anew. It ends with the context.
	Watch(ctx context.Context, partition string) (<-chan string, error)
	// Fence names the continuity of the data: it stays the same as long as nothing acknowledged can have been
	// lost or rolled back, and differs ever after.
	Fence(ctx context.Context) (string, error)
	// Close lets go of everything. Calls after it fail.
	Close() error
}

// The errors every driver returns, wrapped or bare.
var (
	// ErrUnavailable: the store could not be asked or did not answer in time. Nothing is known of the outcome.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrFence: the data is not the data the caller knew.
	ErrFence = errors.New("store lost its continuity")
	// ErrTooBig: a value above MaxValue, or a batch above MaxBatch members.
	ErrTooBig = errors.New("value or batch is too big for the store")
	// ErrInvalid: a key, condition or write outside the contract.
	ErrInvalid = errors.New("batch is outside the store's contract")
	// ErrLocked: another process holds the store, and it takes one at a time.
	ErrLocked = errors.New("store is in use by another process")
)

// Limits of the contract.
const (
	MaxValue = 1 << 20 // bytes of one value
	MaxBatch = 1024    // commits, reads, conditions and writes together
	MaxKey   = 512     // bytes of a partition or a name
)

// Read fetches records in one round trip; the answer has their order.
func Read(ctx context.Context, e Engine, keys ...Key) ([]Record, error) {
	res, err := e.Do(ctx, Batch{Reads: keys})
	return res.Records, err
}

// Apply carries out one commit.
func Apply(ctx context.Context, e Engine, c Commit) (Outcome, error) {
	res, err := e.Do(ctx, Batch{Commits: []Commit{c}})
	if err != nil {
		return Outcome{}, err
	}
	return res.Outcomes[0], nil
}
