package strict

import (
	"fmt"
	"unicode/utf8"
)

// Object checks a document that must be an object, and hands its members to visit as they come: the name by its meaning, the
// value as it stands. Names are told apart exactly, where encoding/json would take SUB for sub. What visit was given counts only
// if Object returns no error. An error of visit is returned as it is.
func Object(data []byte, l Limits, visit func(name string, value []byte) error) error {
	if l.Bytes > 0 && len(data) > l.Bytes {
		return fmt.Errorf("%w: larger than %d bytes", ErrSyntax, l.Bytes)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	if l.Depth <= 0 || l.Depth > maxDepth {
		l.Depth = maxDepth
	}
	s := scanner{data: data, limits: l}
	s.space()
	if !s.take('{') {
		return fmt.Errorf("%w: not an object", ErrSyntax)
	}
	err := s.members(visit)
	if err != nil {
		return err
	}
	s.space()
	if s.at != len(data) {
		return fmt.Errorf("%w: something follows the document at byte %d", ErrSyntax, s.at)
	}
	return nil
}

// members reads an outermost object behind its brace.
func (s *scanner) members(visit func(name string, value []byte) error) error {
	s.space()
	if s.take('}') {
		return nil
	}
	var names names
	for {
		name, value, err := s.member(&names)
		if err != nil {
			return fmt.Errorf("%w: %w at byte %d", ErrSyntax, err, s.at)
		}
		if err := visit(name, value); err != nil {
			return err
		}
		s.space()
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return fmt.Errorf("%w: %w at byte %d", ErrSyntax, errByte, s.at)
		}
	}
}

func (s *scanner) member(names *names) (string, []byte, error) {
	s.space()
	name, err := s.str()
	if err != nil {
		return "", nil, err
	}
	if !names.add(name) {
		return "", nil, errTwice
	}
	if s.limits.Members > 0 && names.n > s.limits.Members {
		return "", nil, errMany
	}
	s.space()
	if !s.take(':') {
		return "", nil, errByte
	}
	s.space()
	start := s.at
	err = s.value(1)
	return string(name), s.data[start:min(s.at, len(s.data))], err
}
