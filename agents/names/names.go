// Package names judges the names that agents and clients give themselves, which people are asked to trust: whether a name
// can be read for what it is, what it could be taken for, and how text of third parties is shown. It follows UTS #39 with a
// small table of its own. Whether a name is taken is for the registry, which compares skeletons.
package names

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// ErrName: a name that people could misread. The message says why.
var ErrName = errors.New("not a name that people can read for what it is")

const maxName = 64 // characters

func refuse(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrName)...)
}

// Check says what is wrong with a name, if anything: it must be in NFKC, short, made of letters, digits and plain
// punctuation, without anything that is not seen, and of one script or a mix that is in everyday use. It does not say
// whether the name looks like somebody else's.
func Check(name string) error {
	switch {
	case !utf8.ValidString(name):
		return refuse("it is no UTF-8")
	case name == "" || utf8.RuneCountInString(name) > maxName:
		return refuse("it is empty or longer than %d characters", maxName)
	case norm.NFKC.String(name) != name:
		return refuse("it has compatibility characters; write it as %q", Visible(norm.NFKC.String(name), maxName))
	case strings.TrimSpace(name) != name || strings.Contains(name, "  "):
		return refuse("it has a space at an end, or two in a row")
	}
	letters := false
	for _, r := range name {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			letters = true
		case unicode.IsMark(r) && letters, r == ' ', strings.ContainsRune("-_.,:+&'()/!#@’–·", r):
		default:
			return refuse("%s does not belong into it", Visible(string(r), 1))
		}
	}
	if !letters {
		return refuse("it has no letter or digit")
	}
	return checkScripts(name)
}

// checkScripts allows one script, and the mixes with Latin that UTS #39 calls highly restrictive.
func checkScripts(name string) error {
	found := scripts(name)
	if len(found) <= 1 {
		return nil
	}
	for _, mix := range [][]string{
		{"Latin", "Han", "Hiragana", "Katakana"},
		{"Latin", "Han", "Hangul"},
		{"Latin", "Han", "Bopomofo"},
	} {
		if !slices.ContainsFunc(found, func(s string) bool { return !slices.Contains(mix, s) }) {
			return nil
		}
	}
	return refuse("it mixes the scripts %s", strings.Join(found, " and "))
}

// scripts lists the scripts of the letters of a text, sorted.
func scripts(text string) []string {
	var found []string
	for _, r := range text {
		if unicode.In(r, unicode.Common, unicode.Inherited) {
			continue
		}
		script := "unknown"
		for name, table := range unicode.Scripts {
			if unicode.Is(table, r) {
				script = name
				break
			}
		}
		if !slices.Contains(found, script) {
			found = append(found, script)
		}
	}
	slices.Sort(found)
	return found
}

// Skeleton is what a name looks like at a glance: names with the same skeleton can be taken for each other. It is for
// comparing, not for showing.
func Skeleton(name string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(norm.NFKC.String(strings.ToValidUTF8(name, ""))) {
		if r >= 0x300 && r <= 0x36f || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != '|' && r != '$' && r != '@' {
			continue // accents, spaces, punctuation and what is not seen
		}
		if like, ok := lookalikes[r]; ok {
			b.WriteString(like)
			continue
		}
		r = unicode.ToLower(r)
		if like, ok := lookalikes[r]; ok {
			b.WriteString(like)
			continue
		}
		b.WriteRune(r)
	}
	// What was left out may have kept marks apart that have an order among themselves.
	return norm.NFD.String(strings.NewReplacer("rn", "m", "vv", "w", "cl", "d").Replace(b.String()))
}

// Visible shows a text of a third party on one line: at most so many characters, with everything that is not seen or changes
// the direction of what is around it as ⟨U+202E⟩, and accents piled on one letter cut short. HTML is escaped elsewhere.
func Visible(text string, limit int) string {
	var b strings.Builder
	n, marks := 0, 0
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if n == limit {
			return b.String() + "…"
		}
		marks++
		if !unicode.Is(unicode.Mn, r) && !unicode.Is(unicode.Me, r) {
			marks = 0
		}
		switch {
		case marks > 2:
			continue
		case hidden(r):
			fmt.Fprintf(&b, "⟨U+%04X⟩", r)
		default:
			b.WriteRune(r)
		}
		n++
	}
	return b.String()
}

// hidden says whether a character is not seen as itself: controls, format characters, odd spaces, fillers, private use.
func hidden(r rune) bool {
	switch {
	case r == ' ':
		return false
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Zs):
		return true
	case unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r):
		return true
	default:
		return r == 0x2800 || r == 0x3164 || r == 0xffa0
	}
}

// Host is the host of an address as it is shown to people: in the ASCII form when it has other characters (RFC 5890), with
// its port; empty when there is none.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if ascii, err := idna.Punycode.ToASCII(host); err == nil {
		host = ascii
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" {
		if h, p, err := net.SplitHostPort(host + ":" + port); err == nil {
			host = net.JoinHostPort(strings.Trim(h, "[]"), p)
		}
	}
	return Visible(host, 255)
}
