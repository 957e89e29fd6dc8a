package endpoint

import (
	"slices"
	"strings"
)

// redirect finds where an authorization request of a client goes: the registered URI that it names, compared character by
// character, or the only one that is registered if it names none. On loopback the port may differ, and nothing else
// (OAuth 2.1 sections 2.3.1 and 8.4.2).
func redirect(registered []string, asked string) (string, bool) {
	if asked == "" {
		if len(registered) == 1 {
			return registered[0], true
		}
		return "", false
	}
	if slices.Contains(registered, asked) {
		return asked, true
	}
	for _, uri := range registered {
		if sameOnLoopback(uri, asked) {
			return asked, true
		}
	}
	return "", false
}

// sameOnLoopback says whether two loopback URIs differ in the port at most.
func sameOnLoopback(registered, asked string) bool {
	want, rest := loopback(registered)
	got, gotRest := loopback(asked)
	return want != "" && want == got && rest == gotRest
}

// loopback splits http://<loopback host>[:port]<rest> into the host and the rest; the host is empty for anything else.
func loopback(uri string) (host, rest string) {
	after, ok := strings.CutPrefix(uri, "http://")
	if !ok {
		return "", ""
	}
	authority := after
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		authority, rest = after[:i], after[i:]
	}
	for _, name := range []string{"127.0.0.1", "[::1]", "localhost"} {
		port, ok := strings.CutPrefix(authority, name)
		if ok && (port == "" || isPort(port)) && !strings.Contains(rest, "#") {
			return name, rest
		}
	}
	return "", ""
}

func isPort(s string) bool {
	digits, ok := strings.CutPrefix(s, ":")
	return ok && digits != "" && len(digits) <= 5 && strings.Trim(digits, "0123456789") == ""
}
