package details

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// read checks the members of an entry against the form.
func (f *form) read(members map[string]any) error {
	if err := f.fields.read(members, ""); err != nil {
		return err
	}
	if f.check == nil {
		return nil
	}
	return f.check(members)
}

// read checks members by name; path is where they stand, with a dot behind it.
func (f fields) read(members map[string]any, path string) error {
	for name := range members {
		if f.find(name) == nil && (name != "type" || path != "") {
			return fmt.Errorf("member %s is not one of the type", show(path+name))
		}
	}
	for _, m := range f {
		v, present := members[m.name]
		switch {
		case !present && m.required:
			return fmt.Errorf("member %s is missing", path+m.name)
		case !present:
		default:
			if err := m.named(m.read(v, path+m.name+"."), path); err != nil {
				return err
			}
		}
	}
	return nil
}

// named puts the member into an error that does not yet say which it is about.
func (m *member) named(err error, path string) error {
	var inner innerError
	if err == nil || errors.As(err, &inner) {
		return err
	}
	return fmt.Errorf("member %s %w", path+m.name, err)
}

// innerError is about a member of a member, and says so.
type innerError struct{ error }

func (m *member) read(v any, path string) error {
	switch m.kind {
	case String:
		s, ok := v.(string)
		if !ok {
			return errors.New("is not a string")
		}
		return m.readString(s)
	case Integer:
		n, ok := v.(json.Number)
		if !ok || !isInteger(n.String()) {
			return errors.New("is not an integer of at most 15 digits")
		}
		return m.inRange(n.String())
	case Decimal:
		s, ok := v.(string)
		if !ok || !isDecimal(s) {
			return errors.New("is not an amount as a string such as 12.50, with at most 14 digits and 4 decimals")
		}
		return m.inRange(s)
	case Boolean:
		if _, ok := v.(bool); !ok {
			return errors.New("is not true or false")
		}
		return nil
	case StringSet:
		return m.readSet(v)
	case Parameters:
		return readParameters(v)
	case Const:
		if !same(v, m.constant) {
			return errors.New("has not the one value that it may have")
		}
		return nil
	default:
		return m.readObject(v, path)
	}
}

func (m *member) readString(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > m.maxLength:
		return fmt.Errorf("is longer than %d bytes", m.maxLength)
	case strings.ContainsFunc(s, unseen):
		return errors.New("has a character that cannot be seen")
	case m.values != nil && !slices.Contains(m.values, s):
		return fmt.Errorf("is none of %s", strings.Join(m.values, ", "))
	case m.pattern != nil && !m.pattern.MatchString(s):
		return errors.New("has not the form that it must have")
	case m.rule == prefix && slices.ContainsFunc(strings.Split(s, "/"), func(p string) bool { return p == "." || p == ".." }):
		return errors.New("has a segment that is . or ..") //nolint:revive,staticcheck // the dots are what it is about
	case m.check != nil:
		return m.check(s)
	default:
		return nil
	}
}

// unseen are characters that a person who is asked to allow a value could not see, or that change the order of the others.
func unseen(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) || r == unicode.ReplacementChar
}

func (m *member) inRange(s string) error {
	if m.minimum != "" && compare(s, m.minimum) < 0 {
		return errors.New("is less than " + m.minimum)
	}
	if m.maximum != "" && compare(s, m.maximum) > 0 {
		return errors.New("is more than " + m.maximum)
	}
	return nil
}

func (m *member) readSet(v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("is not a list of strings")
	}
	if len(list) == 0 {
		return errors.New("is an empty list")
	}
	seen := make(map[string]bool, len(list))
	for _, one := range list {
		s, ok := one.(string)
		if !ok {
			return errors.New("has an element that is not a string")
		}
		if err := m.readString(s); err != nil {
			return fmt.Errorf("has an element that %w", err)
		}
		if seen[s] {
			return errors.New("has an element twice")
		}
		seen[s] = true
	}
	return nil
}

// readParameters checks an object of names with lists of plain values.
func readParameters(v any) error {
	object, ok := v.(map[string]any)
	if !ok || len(object) == 0 {
		return errors.New("is not an object of names with lists of values")
	}
	for name, values := range object {
		list, ok := values.([]any)
		if !ok || name == "" {
			return errors.New("has a name without a list of values")
		}
		if strings.Contains(name, "*") || slices.ContainsFunc(list, isPattern) {
			return errors.New("has a pattern; only exact names and values are granted")
		}
		if slices.ContainsFunc(list, func(v any) bool { return !isPlain(v) }) {
			return errors.New("has a value that is not a string, a number or a boolean")
		}
	}
	return plainNumbers(v)
}

func isPattern(v any) bool {
	s, ok := v.(string)
	return ok && strings.Contains(s, "*")
}

func isPlain(v any) bool {
	switch v.(type) {
	case string, json.Number, bool:
		return true
	default:
		return false
	}
}

func (m *member) readObject(v any, path string) error {
	object, ok := v.(map[string]any)
	if !ok {
		return errors.New("is not an object")
	}
	if m.fields == nil {
		return plainNumbers(v)
	}
	if err := m.fields.read(object, path); err != nil {
		return innerError{err}
	}
	return nil
}

// plainNumbers refuses numbers that two programs could read differently: with an exponent, or with more digits than a double holds.
func plainNumbers(v any) error {
	switch v := v.(type) {
	case json.Number:
		digits := strings.TrimLeft(strings.Replace(v.String(), ".", "", 1), "-0")
		if strings.ContainsAny(digits, "eE") || len(digits) > maxDigits || digits != "" && math.Abs(value(v)) < tiny {
			return errors.New("has a number with an exponent, with more than 15 digits or smaller than 0.000001")
		}
	case []any:
		for _, one := range v {
			if err := plainNumbers(one); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, one := range v {
			if err := plainNumbers(one); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	maxDigits   = 15 // that a double holds exactly
	maxWhole    = 14 // of a decimal, so that it fits a guardrail's
	maxFraction = 4
	tiny        = 1e-6 // from there down canonical JSON needs an exponent
)

func isInteger(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil && s != "-0" && s[0] != '+' && len(strings.TrimPrefix(s, "-")) <= maxDigits
}

// isDecimal holds an amount to one way of writing it, but for zeros at the end.
func isDecimal(s string) bool {
	whole, fraction, dot := strings.Cut(s, ".")
	if !digits(whole) || len(whole) > maxWhole || len(whole) > 1 && whole[0] == '0' {
		return false
	}
	return !dot || digits(fraction) && len(fraction) <= maxFraction
}

func digits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// compare orders two numbers that were checked to be integers or decimals.
func compare(a, b string) int {
	negA, negB := strings.HasPrefix(a, "-"), strings.HasPrefix(b, "-")
	switch {
	case negA && negB:
		return magnitude(b[1:], a[1:])
	case negA:
		return -1
	case negB:
		return 1
	default:
		return magnitude(a, b)
	}
}

func magnitude(a, b string) int {
	wholeA, fractionA, _ := strings.Cut(a, ".")
	wholeB, fractionB, _ := strings.Cut(b, ".")
	if len(wholeA) != len(wholeB) { // neither has zeros in front
		return len(wholeA) - len(wholeB)
	}
	if c := strings.Compare(wholeA, wholeB); c != 0 {
		return c
	}
	return strings.Compare(strings.TrimRight(fractionA, "0"), strings.TrimRight(fractionB, "0"))
}
