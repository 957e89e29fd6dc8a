package store

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// Validate holds a batch to the contract, so that every driver refuses the same ones. Drivers call it first.
func (b Batch) Validate() error {
	n := len(b.Commits) + len(b.Reads)
	for _, c := range b.Commits {
		n += len(c.If) + len(c.Writes)
	}
	if n > MaxBatch {
		return ErrTooBig
	}
	for _, k := range b.Reads {
		if !validName(k.Partition) || !validName(k.Name) {
			return fmt.Errorf("%w: key %q %q", ErrInvalid, k.Partition, k.Name)
		}
	}
	for _, c := range b.Commits {
		if err := c.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (c Commit) validate() error {
	if !validName(c.Partition) {
		return fmt.Errorf("%w: partition %q", ErrInvalid, c.Partition)
	}
	for _, cond := range c.If {
		known := cond.Is >= Absent && cond.Is <= AtMost
		if !known || !validName(cond.Name) || cond.Is == AtVersion && cond.Version == 0 {
			return fmt.Errorf("%w: condition on %q", ErrInvalid, cond.Name)
		}
	}
	if name, twice := repeated(c.If, func(c Condition) string { return c.Name }); twice {
		return fmt.Errorf("%w: two conditions on %q", ErrInvalid, name)
	}
	for _, w := range c.Writes {
		if err := w.validate(); err != nil {
			return err
		}
	}
	if name, twice := repeated(c.Writes, func(w Write) string { return w.Name }); twice {
		return fmt.Errorf("%w: two writes of %q", ErrInvalid, name)
	}
	return nil
}

// repeated finds a name that is there twice. Most commits are too short to be worth a map.
func repeated[T any](all []T, name func(T) string) (string, bool) {
	if len(all) > 16 {
		seen := make(map[string]struct{}, len(all))
		for _, one := range all {
			if _, twice := seen[name(one)]; twice {
				return name(one), true
			}
			seen[name(one)] = struct{}{}
		}
		return "", false
	}
	for i, one := range all {
		for _, other := range all[:i] {
			if name(other) == name(one) {
				return name(one), true
			}
		}
	}
	return "", false
}

func (w Write) validate() error {
	if len(w.Value) > MaxValue {
		return ErrTooBig
	}
	short := w.TTL < 0 || w.TTL > 0 && w.TTL < time.Millisecond
	mixed := w.Delete && (w.Add != 0 || w.Value != nil) || w.Add == math.MinInt64 || w.Add != 0 && w.Version != 0
	if !validName(w.Name) || short || mixed || w.Version >= 1<<53 {
		return fmt.Errorf("%w: write of %q", ErrInvalid, w.Name)
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > MaxKey || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// ValidateList holds the arguments of List to the contract.
func ValidateList(partition, after string, limit int) error {
	if !validName(partition) || after != "" && !validName(after) || limit < 1 || limit > 1000 {
		return fmt.Errorf("%w: list of %q", ErrInvalid, partition)
	}
	return nil
}
