package endpoint

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWait is the longest that an answer is held back.
const maxWait = 60 * time.Second

// wait reads the preference wait of RFC 7240 section 4.3. A preference that cannot be read is none, as section 2 says; of
// several the first counts.
func wait(h http.Header) time.Duration {
	for preference := range strings.SplitSeq(strings.Join(h.Values("Prefer"), ","), ",") {
		name, rest, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		value, _, _ := strings.Cut(rest, ";")
		n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return 0
		}
		return min(time.Duration(n)*time.Second, maxWait)
	}
	return 0
}

// maxKey bounds an Idempotency-Key.
const maxKey = 255

// idempotencyKey reads the header of that name: a string of RFC 9651 section 3.3.3, at most once. Empty: none was sent.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	bad := malformed("Idempotency-Key is one string in quotes, of at most 255 characters")
	raw := strings.Trim(values[0], " \t")
	if len(values) > 1 || len(raw) < 3 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", bad
	}
	var key strings.Builder
	inner := raw[1 : len(raw)-1]
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		if c == '\\' {
			i++
			if i == len(inner) || inner[i] != '"' && inner[i] != '\\' {
				return "", bad
			}
			c = inner[i]
		} else if c == '"' || c < 0x20 || c > 0x7e {
			return "", bad
		}
		key.WriteByte(c)
	}
	if key.Len() > maxKey {
		return "", bad
	}
	return key.String(), nil
}
