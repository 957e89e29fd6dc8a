package rulebook

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"obolus/policy"
	"obolus/store"
)

// Kind is what a change does.
type Kind uint8

// The kinds of changes.
const (
	Put    Kind = iota + 1 // one file comes, or comes in the place of another of its name
	Remove                 // one file goes
	Revert                 // the set is what it was in a revision
)

// Change is what somebody wants of the set.
type Change struct {
	Kind Kind
	Name string // of the file, for Put and Remove
	Text string // for Put
	To   uint64 // the revision, for Revert
	// If is asked whether the change may be made to what is there: the revision with which the file came to be as it is, zero for none;
	// for Revert the revision that counts. Nil: always.
	If func(have uint64) error
	// DryRun checks everything and changes nothing.
	DryRun  bool
	By, Why string
}

// Change makes a change, if check finds nothing wrong with the set that comes of it. The revision is the one that counts then; a change that
// changes nothing makes none. On any error the set is as it was, unless a store did not answer: then it may be either.
func (s *Book) Change(ctx context.Context, c Change, check func([]policy.File) error) (Revision, error) {
	if len(c.Why) > maxWhy {
		return Revision{}, fmt.Errorf("the reason is longer than %d bytes: %w", maxWhy, ErrInvalid)
	}
	for range maxTries {
		next, done, err := s.try(ctx, c, check)
		if err != nil || done {
			return next, err
		}
	}
	return Revision{}, ErrChanged
}

// try makes the change to the revision that counts now. It is not done if another one came between.
func (s *Book) try(ctx context.Context, c Change, check func([]policy.File) error) (Revision, bool, error) {
	recs, err := store.Read(ctx, s.records, key(head))
	if err != nil {
		return Revision{}, false, err
	}
	n, err := numberOf(recs[0])
	if err != nil {
		return Revision{}, false, err
	}
	was, err := s.Revision(ctx, n)
	if err != nil {
		return Revision{}, false, err
	}
	next, err := s.apply(ctx, c, was)
	if err != nil {
		return Revision{}, false, err
	}
	if slices.EqualFunc(was.Entries, next.Entries, func(a, b Entry) bool { return a.Name == b.Name && a.Sum == b.Sum }) {
		return was, true, nil
	}
	if err := s.examine(ctx, c, next, check); err != nil || c.DryRun {
		return next, true, err
	}
	done, err := s.commit(ctx, c, next, recs[0].Version)
	return next, done, err
}

// apply gives the revision that a change makes of another.
func (s *Book) apply(ctx context.Context, c Change, was Revision) (Revision, error) {
	next := Revision{Number: was.Number + 1, By: c.By, At: s.now().UTC(), Why: c.Why, Entries: slices.Clone(was.Entries)}
	e, there := was.Find(c.Name)
	have := e.Revision
	if c.Kind == Revert {
		have = was.Number
	}
	if c.If != nil {
		if err := c.If(have); err != nil {
			return next, err
		}
	}
	switch c.Kind {
	case Put:
		if !validName(c.Name) {
			return next, fmt.Errorf("the name %q is not 1 to %d letters, digits, '.', '_' and '-': %w", c.Name, maxName, ErrInvalid)
		}
		if c.Text == "" {
			return next, fmt.Errorf("%s is empty: %w", c.Name, ErrInvalid)
		}
		next.What = "put " + c.Name
		next.Entries = slices.DeleteFunc(next.Entries, func(e Entry) bool { return e.Name == c.Name })
		next.Entries = append(next.Entries, Entry{
			Name: c.Name, Sum: sumOf([]byte(c.Text)), Size: len(c.Text), Revision: next.Number, By: c.By, At: next.At, Why: c.Why,
		})
		slices.SortFunc(next.Entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	case Remove:
		if !there {
			return next, fmt.Errorf("%s: %w", c.Name, ErrNotFound)
		}
		next.What = "removed " + c.Name
		next.Entries = slices.DeleteFunc(next.Entries, func(e Entry) bool { return e.Name == c.Name })
	case Revert:
		old, err := s.Revision(ctx, c.To)
		if err != nil {
			return next, err
		}
		next.What, next.Entries = "reverted to "+strconv.FormatUint(c.To, 10), reverted(was, old, next)
	default:
		return next, fmt.Errorf("a change of no kind: %w", ErrInvalid)
	}
	return next, nil
}

// reverted are the entries of an old revision. What is as it is now keeps its tag; what comes back gets a new one, so that nobody takes it
// for what he knew.
func reverted(was, old, next Revision) []Entry {
	entries := slices.Clone(old.Entries)
	for i, e := range entries {
		if now, there := was.Find(e.Name); there && now.Sum == e.Sum {
			entries[i] = now
			continue
		}
		entries[i].Revision, entries[i].By, entries[i].At, entries[i].Why = next.Number, next.By, next.At, next.Why
	}
	return entries
}

// examine holds a set to the limits and to the caller's check.
func (s *Book) examine(ctx context.Context, c Change, next Revision, check func([]policy.File) error) error {
	total := 0
	for _, e := range next.Entries {
		total += e.Size
	}
	if len(next.Entries) > maxFiles || total > maxTotal || len(c.Text) > store.MaxValue {
		return fmt.Errorf("a set is at most %d files and %d bytes, and a file %d: %w", maxFiles, maxTotal, store.MaxValue, ErrTooBig)
	}
	old := next
	if c.Kind == Put { // its text is not in the store yet
		old.Entries = slices.DeleteFunc(slices.Clone(next.Entries), func(e Entry) bool { return e.Name == c.Name })
	}
	files, err := s.Files(ctx, old)
	if err != nil {
		return err
	}
	if c.Kind == Put {
		files = append(files, policy.File{Name: c.Name, Text: c.Text})
	}
	return check(files)
}

func (s *Book) commit(ctx context.Context, c Change, next Revision, version uint64) (bool, error) {
	value, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	cond := store.Condition{Name: head, Is: store.AtVersion, Version: version}
	if version == 0 {
		cond = store.Condition{Name: head, Is: store.Absent}
	}
	writes := []store.Write{
		{Name: head, Value: []byte(strconv.FormatUint(next.Number, 10))},
		{Name: revisionName(next.Number), Value: value, Listed: true},
	}
	if c.Kind == Put {
		writes = append(writes, store.Write{Name: textName(sumOf([]byte(c.Text))), Value: []byte(c.Text)})
	}
	out, err := store.Apply(ctx, s.records, store.Commit{Partition: Partition, If: []store.Condition{cond}, Writes: writes})
	return out.Applied, err
}

// validName keeps names to what needs no escape in a path, on a command line and in a table.
func validName(name string) bool {
	return name != "" && len(name) <= maxName && name[0] != '.' && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}
