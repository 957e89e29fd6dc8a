package oauth

import "strings"

// ValidScope says whether s is one scope-token of RFC 6749 section 3.3.
func ValidScope(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != 0x21 && (c < 0x23 || c > 0x7e || c == 0x5c) {
			return false
		}
	}
	return true
}

// ParseScope takes a scope parameter apart: scope-tokens with one space between them, RFC 6749 section 3.3. It refuses other white
// space, empty tokens and more than 64 of them; a token that is there twice counts once.
func ParseScope(s string) ([]string, bool) {
	if s == "" {
		return nil, true
	}
	parts := strings.Split(s, " ")
	if len(parts) > 64 {
		return nil, false
	}
	seen := make(map[string]bool, len(parts))
	scopes := make([]string, 0, len(parts))
	for _, part := range parts {
		if !ValidScope(part) {
			return nil, false
		}
		if !seen[part] {
			seen[part] = true
			scopes = append(scopes, part)
		}
	}
	return scopes, true
}
