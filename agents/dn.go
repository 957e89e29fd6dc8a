package agents

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// A distinguished name, from the most specific part to the least, each a set of types and values. It is written as RFC 4514 says and compared part
// by part, values code point by code point.
type (
	distinguished []relative
	relative      []attribute
	attribute     struct{ kind, value string } // kind is an object identifier
)

// kindOf is the object identifier for a short name: RFC 4514 section 3, and those that OpenSSL writes besides.
func kindOf(name string) (string, bool) {
	switch strings.ToUpper(name) {
	case "CN":
		return "2.5.4.3", true
	case "SERIALNUMBER":
		return "2.5.4.5", true
	case "C":
		return "2.5.4.6", true
	case "L":
		return "2.5.4.7", true
	case "ST":
		return "2.5.4.8", true
	case "STREET":
		return "2.5.4.9", true
	case "O":
		return "2.5.4.10", true
	case "OU":
		return "2.5.4.11", true
	case "UID":
		return "0.9.2342.19200300.100.1.1", true
	case "DC":
		return "0.9.2342.19200300.100.1.25", true
	case "EMAILADDRESS":
		return "1.2.840.113549.1.9.1", true
	default:
		return name, name != "" && strings.Trim(name, "0123456789.") == ""
	}
}

// parseDN reads a name as people write it.
func parseDN(s string) (distinguished, error) {
	var name distinguished
	for _, part := range split(s, ',') {
		var set relative
		for _, pair := range split(part, '+') {
			kind, value, ok := strings.Cut(pair, "=")
			oid, known := kindOf(strings.TrimSpace(kind))
			text, err := unescape(value)
			if !ok || !known || err != nil || text == "" {
				return nil, errors.New("not a distinguished name such as CN=mailer,O=Acme")
			}
			set = append(set, attribute{oid, text})
		}
		name = append(name, set.sorted())
	}
	return name, nil
}

// split cuts at a separator that is not escaped.
func split(s string, sep byte) []string {
	var parts []string
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// unescape reads a value: RFC 4514 section 2.4. Spaces around it that are not escaped are not part of it.
func unescape(s string) (string, error) {
	s = strings.TrimLeft(s, " ")
	if strings.HasPrefix(s, "#") {
		return "", errors.New("a value in hexadecimal")
	}
	var out []byte
	end := 0 // of what is no space at the end
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(` "#+,;<=>\`, s[i+1]) >= 0:
			i++
			out = append(out, s[i])
			end = len(out)
		case c == '\\':
			raw, err := hex.DecodeString(s[min(i+1, len(s)):min(i+3, len(s))])
			if err != nil || len(raw) != 1 {
				return "", errors.New("an escape that is none")
			}
			i += 2
			out = append(out, raw[0])
			end = len(out)
		case strings.IndexByte(`",;<>`, c) >= 0:
			return "", errors.New("a character that must be escaped")
		default:
			if out = append(out, c); c != ' ' {
				end = len(out)
			}
		}
	}
	return string(out[:end]), nil
}

// subjectOf is the subject of a certificate; nil for one that has values which are not text.
func subjectOf(c *x509.Certificate) distinguished {
	var raw pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &raw); err != nil || len(rest) > 0 {
		return nil
	}
	var name distinguished
	for _, part := range slices.Backward(raw) {
		var set relative
		for _, one := range part {
			text, ok := one.Value.(string)
			if !ok {
				return nil
			}
			set = append(set, attribute{one.Type.String(), text})
		}
		name = append(name, set.sorted())
	}
	return name
}

// sorted makes sets equal that hold the same.
func (r relative) sorted() relative {
	slices.SortFunc(r, func(a, b attribute) int { return strings.Compare(a.kind+"="+a.value, b.kind+"="+b.value) })
	return r
}

func (d distinguished) equal(other distinguished) bool {
	return len(d) > 0 && slices.EqualFunc(d, other, func(a, b relative) bool { return slices.Equal(a, b) })
}
