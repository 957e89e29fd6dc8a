// Package archive copies records whole: into a file and out of it, and from one store into another. It knows the store's
// contract and nothing else; what is sealed in a value stays so. docs/decisions/0009 has the format of the file.
//
// A file that was cut short or altered is refused, as its hash no longer fits. The hash is no signature: who may write the file
// may write another one. Records that a copy was not finished into are marked until it is, and [Check] refuses them. That nobody
// else uses the records meanwhile, and what is to be done about those who relied on what was there before (see
// store.Supersede), is for the caller.
package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"obolus/store"
)

// format is the version of the file that this program writes and reads.
const format = 1

// Header is what a file says of itself.
type Header struct {
	Format  int       `json:"format"`
	Program string    `json:"program,omitempty"` // the version of the program that wrote it
	Source  string    `json:"source"`            // the kind of store: bolt, postgres
	Taken   time.Time `json:"taken"`             // by the store's clock
	Epoch   uint64    `json:"epoch"`             // that was in force
	Last    uint64    `json:"last_version"`      // no record had a higher version, deleted ones included
}

// Sum is what can be compared of two files, or of a file and what was noted when it was made.
type Sum struct {
	Records uint64 `json:"records"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"` // of the file up to where it says so itself
}

// DamagedError is a file that is not what was written.
type DamagedError struct{ what string }

// Error says what was found.
func (d *DamagedError) Error() string { return "the backup is damaged: " + d.what }

func damaged(format string, args ...any) error { return &DamagedError{fmt.Sprintf(format, args...)} }

// ErrFormat is a file that this program cannot read, damaged or not.
var ErrFormat = errors.New("this is no backup that this program can read")

// The file. Numbers are big endian.
//
//	magic
//	'H' length(4) header, in JSON
//	'R' listed(1) version(8) expires(8) partition(2) name(2) value(4), all lengths; partition, name, value: for each record
//	'T' records(8) SHA-256(32) of everything before it
const (
	magic = "obolus backup\n"

	markHeader  = 'H'
	markRecord  = 'R'
	markTrailer = 'T'

	headLength   = 1 + 4
	recordLength = 1 + 1 + 8 + 8 + 2 + 2 + 4
	countLength  = 1 + 8

	maxHeader = 4 << 10
)

// Feed gives entries in their order, one for each call, and io.EOF after the last.
type Feed func() (store.Entry, error)

func sum(records uint64, bytes int64, hash [sha256.Size]byte) Sum {
	return Sum{Records: records, Bytes: bytes, SHA256: hex.EncodeToString(hash[:])}
}
