// Package strict reads JSON that strangers sent: one meaning or none. It refuses what different parsers read
// differently (repeated names, invalid UTF-8, lone surrogates, numbers that do not fit) and what costs too much (depth,
// members, size), before anything is decoded. It needs the standard library alone.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits bound a document. A zero member is no limit, except that depth is never above 1000.
type Limits struct {
	Bytes    int // of the whole document
	Depth    int // of nested objects and arrays
	Members  int // of one object
	Elements int // of one array
}

// ErrSyntax is what every refusal wraps.
var ErrSyntax = errors.New("not acceptable JSON")

const (
	maxDepth  = 1000
	maxNumber = 32 // characters
)

// Check reads the whole document once and says what is wrong with it, if anything.
func Check(data []byte, l Limits) error {
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
	if err := s.value(0); err != nil {
		return fmt.Errorf("%w: %w at byte %d", ErrSyntax, err, s.at)
	}
	s.space()
	if s.at != len(data) {
		return fmt.Errorf("%w: something follows the document at byte %d", ErrSyntax, s.at)
	}
	return nil
}

// Unmarshal checks the document and decodes it.
func Unmarshal(data []byte, v any, l Limits) error {
	if err := Check(data, l); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return nil
}

type scanner struct {
	data   []byte
	at     int
	limits Limits
}

var (
	errEnd       = errors.New("the document ends too early")
	errDeep      = errors.New("nested too deeply")
	errMany      = errors.New("too many members or elements")
	errTwice     = errors.New("a member name stands twice")
	errByte      = errors.New("unexpected character")
	errNumber    = errors.New("a number that does not fit")
	errString    = errors.New("a malformed string")
	errSurrogate = errors.New("half of a surrogate pair")
)

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) value(depth int) error {
	if s.at >= len(s.data) {
		return errEnd
	}
	switch c := s.data[s.at]; {
	case c == '{':
		return s.object(depth + 1)
	case c == '[':
		return s.array(depth + 1)
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	default:
		return s.word()
	}
}

func (s *scanner) object(depth int) error {
	if depth > s.limits.Depth {
		return errDeep
	}
	s.at++
	var names names
	for first := true; ; first = false {
		s.space()
		if s.take('}') && first {
			return nil
		}
		name, err := s.str()
		if err != nil {
			return err
		}
		if !names.add(name) {
			return errTwice
		}
		if s.limits.Members > 0 && names.n > s.limits.Members {
			return errMany
		}
		s.space()
		if !s.take(':') {
			return errByte
		}
		s.space()
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errByte
		}
	}
}

func (s *scanner) array(depth int) error {
	if depth > s.limits.Depth {
		return errDeep
	}
	s.at++
	s.space()
	if s.take(']') {
		return nil
	}
	for n := 1; ; n++ {
		if s.limits.Elements > 0 && n > s.limits.Elements {
			return errMany
		}
		s.space()
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errByte
		}
	}
}

func (s *scanner) take(c byte) bool {
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

// str reads a string and gives its meaning, so that an escaped name equals the plain one. A plain one is not copied.
func (s *scanner) str() ([]byte, error) {
	if !s.take('"') {
		return nil, errByte
	}
	start, plain := s.at, true
	for s.at < len(s.data) {
		switch c := s.data[s.at]; {
		case c == '"':
			raw := s.data[start:s.at]
			s.at++
			if plain {
				return raw, nil
			}
			return unescape(raw)
		case c == '\\':
			plain = false
			s.at += 2
		case c < 0x20:
			return nil, errString
		default:
			s.at++
		}
	}
	return nil, errEnd
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'} //nolint:gochecknoglobals // a constant table

func unescape(raw []byte) ([]byte, error) {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++ // str has seen that something follows
		if c, ok := escapes[raw[i]]; ok {
			out = append(out, c)
			continue
		}
		r, err := hex4(raw, i)
		if err != nil {
			return nil, err
		}
		i += 4
		if utf16.IsSurrogate(r) {
			if i+2 >= len(raw) || raw[i+1] != '\\' {
				return nil, errSurrogate
			}
			low, err := hex4(raw, i+2)
			if err != nil {
				return nil, errSurrogate
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return nil, errSurrogate
			}
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return out, nil
}

// hex4 reads u and four hexadecimal digits at i.
func hex4(raw []byte, i int) (rune, error) {
	if i+4 >= len(raw) || raw[i] != 'u' {
		return 0, errString
	}
	n, err := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
	if err != nil {
		return 0, errString
	}
	return rune(n), nil
}

// number follows RFC 8259 section 6, and the value must be a finite float64 of at most 32 characters.
func (s *scanner) number() error {
	start := s.at
	s.take('-')
	if !s.take('0') && !s.digits() {
		return errNumber
	}
	if s.take('.') && !s.digits() {
		return errNumber
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if !s.digits() {
			return errNumber
		}
	}
	text := string(s.data[start:s.at])
	f, err := strconv.ParseFloat(text, 64)
	if len(text) > maxNumber || err != nil || math.IsInf(f, 0) {
		return errNumber
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

func (s *scanner) word() error {
	for _, w := range []string{"true", "false", "null"} {
		if len(s.data)-s.at >= len(w) && string(s.data[s.at:s.at+len(w)]) == w {
			s.at += len(w)
			return nil
		}
	}
	return errByte
}

// names are the member names of one object: a short list first, a set when it grows.
type names struct {
	n    int
	few  [24][]byte
	many map[string]struct{}
}

func (n *names) add(name []byte) bool {
	for _, have := range n.few[:min(n.n, len(n.few))] {
		if bytes.Equal(have, name) {
			return false
		}
	}
	if n.n < len(n.few) {
		n.few[n.n] = name
		n.n++
		return true
	}
	if n.many == nil {
		n.many = make(map[string]struct{})
	}
	if _, ok := n.many[string(name)]; ok {
		return false
	}
	n.many[string(name)] = struct{}{}
	n.n++
	return true
}
