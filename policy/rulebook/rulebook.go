// Package rulebook keeps the guardrails that operators change while the servers run. What is kept is always a whole set: every change makes a
// new revision, which says who made it, when and why, and stays readable for good. A change is one commit under the condition that nobody
// else made one meanwhile, so that no reader ever finds half of it.
//
// It does not know what makes a set good: whoever changes one hands in the check. It keeps no set in force; servers read it and do that.
package rulebook

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"obolus/policy"
	"obolus/store"
)

// Partition is where the book lies in the store.
const Partition = "policies"

// What a set may be at most.
const (
	maxFiles = 500
	maxTotal = 8 << 20 // bytes of all texts
	maxName  = 128
	maxWhy   = 500
	maxTries = 16 // of a change that others keep coming before
)

// The errors of the book.
var (
	ErrNotFound = errors.New("not in the book")
	ErrInvalid  = errors.New("cannot be put in the book")
	ErrTooBig   = errors.New("too much for the book")
	ErrChanged  = errors.New("the book was changed again and again meanwhile")
)

// Entry is one file of policies in a revision.
type Entry struct {
	Name     string    `json:"name"`
	Sum      string    `json:"sum"` // SHA-256 of the text, base64url
	Size     int       `json:"size"`
	Revision uint64    `json:"revision"` // with which it came to be as it is
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at"`
	Why      string    `json:"why,omitempty"`
}

// Revision is a whole set and the change that made it. Number zero is the empty book, which nobody made.
type Revision struct {
	Number  uint64    `json:"revision"`
	What    string    `json:"what,omitempty"` // "put night.cedar", "removed night.cedar", "reverted to 3"
	By      string    `json:"by,omitempty"`
	At      time.Time `json:"at,omitzero"`
	Why     string    `json:"why,omitempty"`
	Entries []Entry   `json:"policies"`
}

// Find gives the entry of a name.
func (r Revision) Find(name string) (Entry, bool) {
	i := slices.IndexFunc(r.Entries, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return r.Entries[i], true
}

// Book keeps revisions in records.
type Book struct {
	records store.Engine
	now     func() time.Time
}

// New makes a Book.
func New(records store.Engine, now func() time.Time) (*Book, error) {
	if records == nil || now == nil {
		return nil, errors.New("rulebook: records and a clock are needed")
	}
	return &Book{records: records, now: now}, nil
}

// head is the record with the number of the revision that counts.
const head = "head"

// revisionName orders revisions by the newest first.
func revisionName(n uint64) string { return fmt.Sprintf("r/%016x", math.MaxUint64-n) }

func textName(sum string) string { return "text/" + sum }

func key(name string) store.Key { return store.Key{Partition: Partition, Name: name} }

// Head is the number of the revision that counts; zero if there is none.
func (s *Book) Head(ctx context.Context) (uint64, error) {
	recs, err := store.Read(ctx, s.records, key(head))
	if err != nil {
		return 0, err
	}
	return numberOf(recs[0])
}

func numberOf(r store.Record) (uint64, error) {
	if !r.Exists() {
		return 0, nil
	}
	n, err := strconv.ParseUint(string(r.Value), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the number of the book's revision: %w", err)
	}
	return n, nil
}

// Revision reads one revision.
func (s *Book) Revision(ctx context.Context, n uint64) (Revision, error) {
	if n == 0 {
		return Revision{Entries: []Entry{}}, nil
	}
	recs, err := store.Read(ctx, s.records, key(revisionName(n)))
	if err != nil {
		return Revision{}, err
	}
	if !recs[0].Exists() {
		return Revision{}, fmt.Errorf("revision %d: %w", n, ErrNotFound)
	}
	return readRevision(recs[0])
}

func readRevision(rec store.Record) (Revision, error) {
	var r Revision
	if err := json.Unmarshal(rec.Value, &r); err != nil {
		return Revision{}, fmt.Errorf("read a revision of the book: %w", err)
	}
	return r, nil
}

// Current reads the revision that counts.
func (s *Book) Current(ctx context.Context) (Revision, error) {
	n, err := s.Head(ctx)
	if err != nil {
		return Revision{}, err
	}
	return s.Revision(ctx, n)
}

// Files reads the texts of a revision, each held to its sum.
func (s *Book) Files(ctx context.Context, r Revision) ([]policy.File, error) {
	if len(r.Entries) == 0 {
		return nil, nil
	}
	keys := make([]store.Key, 0, len(r.Entries))
	for _, e := range r.Entries {
		keys = append(keys, key(textName(e.Sum)))
	}
	recs, err := store.Read(ctx, s.records, keys...)
	if err != nil {
		return nil, err
	}
	files := make([]policy.File, 0, len(recs))
	for i, e := range r.Entries {
		if sumOf(recs[i].Value) != e.Sum {
			return nil, fmt.Errorf("the text of %s in revision %d is not the one that was put", e.Name, r.Number)
		}
		files = append(files, policy.File{Name: e.Name, Text: string(recs[i].Value)})
	}
	return files, nil
}

func sumOf(text []byte) string {
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// History lists revisions below a number, the newest first; zero begins with the newest.
func (s *Book) History(ctx context.Context, before uint64, limit int) ([]Revision, error) {
	after := "r/"
	if before > 0 {
		after = revisionName(before)
	}
	recs, err := s.records.List(ctx, Partition, after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]Revision, 0, len(recs))
	for _, rec := range recs {
		if !strings.HasPrefix(rec.Name, "r/") {
			break
		}
		r, err := readRevision(rec)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
