package token

import (
	"strconv"
	"unicode/utf8"
)

// payload writes complete claims: what encoding/json would write without escapes for HTML, so that a chain of actors stays as it was
// received, byte for byte.
func (c Claims) payload() []byte {
	w := writer{out: append(make([]byte, 0, 1024), '{')}
	w.text("iss", c.Issuer)
	w.audience(c.Audience)
	w.text("sub", c.Subject)
	w.text("client_id", c.ClientID)
	w.time("iat", c.IssuedAt)
	w.time("nbf", c.NotBefore)
	w.time("exp", c.Expires)
	w.text("jti", c.ID)
	w.text("txn", c.Txn)
	w.text("txn_mode", c.TxnMode)
	w.text("scope", c.Scope)
	if c.Act != nil {
		w.raw("act", c.Act.json())
	}
	if c.MayAct != nil {
		w.raw("may_act", c.MayAct.json())
	}
	if c.Confirm != nil {
		w.open("cnf")
		w.text("jkt", c.Confirm.JKT)
		w.text("x5t#S256", c.Confirm.X5T)
		w.close()
	}
	if len(c.Details) > 0 {
		w.raw("authorization_details", c.Details)
	}
	w.time("auth_time", c.AuthTime)
	w.text("acr", c.ACR)
	if len(c.AMR) > 0 {
		w.list("amr", c.AMR)
	}
	if c.Context != nil {
		w.open("tctx")
		w.text("consent", c.Context.Consent)
		w.text("source", c.Context.Source)
		w.text("origin", c.Context.Origin)
		w.text("issuer", c.Context.Issuer)
		w.close()
	}
	w.close()
	return w.out
}

// foreign says whether there is JSON in the claims that came from elsewhere and is written as it stands.
func (c Claims) foreign() bool {
	ours := func(a *Actor) bool { return a == nil || a.raw == nil && a.Prior == nil }
	return len(c.Details) > 0 || !ours(c.Act) || !ours(c.MayAct)
}

// writer writes objects, member by member. A text that is empty and a time that is zero are left out.
type writer struct{ out []byte }

func (w *writer) name(name string) {
	if w.out[len(w.out)-1] != '{' {
		w.out = append(w.out, ',')
	}
	w.out = append(append(append(w.out, '"'), name...), '"', ':')
}

func (w *writer) text(name, s string) {
	if s == "" {
		return
	}
	w.name(name)
	w.out = quoted(w.out, s)
}

func (w *writer) time(name string, seconds int64) {
	if seconds == 0 {
		return
	}
	w.name(name)
	w.out = strconv.AppendInt(w.out, seconds, 10)
}

func (w *writer) raw(name string, value []byte) {
	w.name(name)
	w.out = append(w.out, value...)
}

func (w *writer) list(name string, list []string) {
	w.name(name)
	w.out = append(w.out, '[')
	for i, s := range list {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.out = quoted(w.out, s)
	}
	w.out = append(w.out, ']')
}

func (w *writer) audience(a Audience) {
	if len(a) == 1 {
		w.name("aud")
		w.out = quoted(w.out, a[0])
		return
	}
	w.list("aud", a)
}

func (w *writer) open(name string) {
	w.name(name)
	w.out = append(w.out, '{')
}

func (w *writer) close() { w.out = append(w.out, '}') }

// quoted appends a string as JSON. What is not UTF-8 becomes the replacement character.
func quoted(out []byte, s string) []byte {
	out = append(out, '"')
	for s != "" {
		n := plain(s)
		out, s = append(out, s[:n]...), s[n:]
		if s == "" {
			break
		}
		r, size := utf8.DecodeRuneInString(s)
		out, s = escaped(out, r, s[:size]), s[size:]
	}
	return append(out, '"')
}

// plain is how many bytes at the beginning of s stand for themselves in JSON.
func plain(s string) int {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

// escaped appends a character that may have to be escaped, and stands in the string as it is given.
func escaped(out []byte, r rune, as string) []byte {
	const hex = "0123456789abcdef"
	switch r {
	case '"', '\\':
		return append(out, '\\', byte(r))
	case '\b':
		return append(out, `\b`...)
	case '\f':
		return append(out, `\f`...)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	}
	if r >= 0x20 && r != 0x2028 && r != 0x2029 && (r != utf8.RuneError || len(as) > 1) {
		return append(out, as...)
	}
	return append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
