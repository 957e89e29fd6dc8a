package endpoint

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"obolus/oauth"
)

// Limits of a request.
const (
	maxBody       = 64 << 10 // bytes
	maxToken      = 16 << 10 // bytes of one token in it
	maxParameters = 100
)

const formType = "application/x-www-form-urlencoded"

// form is the parameters of a request. An empty one counts as absent (RFC 6749 section 3.2).
type form struct {
	values   url.Values
	repeated string // a parameter that is there twice and must not be
	body     string // as it came
}

// get is a parameter; empty: absent.
func (f form) get(name string) string { return f.values.Get(name) }

// list is a parameter that may repeat.
func (f form) list(name string) []string { return f.values[name] }

// readForm reads the body of a POST: RFC 6749 section 3.2 and appendix B. It refuses other methods, other media types, parameters in
// the URL, what is too large, what is no text, and parameters that repeat, but for those that may.
func readForm(w http.ResponseWriter, r *http.Request, mayRepeat ...string) (form, error) {
	if r.Method != http.MethodPost {
		return form{}, wrongMethod(w, http.MethodPost)
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return form{}, malformed("parameters belong into the body, not into the URL")
	}
	f, err := readBody(w, r, mayRepeat)
	if err == nil && f.repeated != "" {
		return form{}, repeated(f.repeated)
	}
	return f, err
}

func readBody(w http.ResponseWriter, r *http.Request, mayRepeat []string) (form, error) {
	if !isForm(r.Header) {
		return form{}, malformed("the body is " + formType)
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), maxBody)) + bytes.MinRead) // so that it need not grow to find the end
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return form{}, status(http.StatusRequestEntityTooLarge, oauth.ReasonTooLarge, "the request is too large")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return form{}, status(http.StatusRequestTimeout, oauth.ReasonMalformed, "the request took too long")
	}
	if err != nil {
		return form{}, malformed("the body cannot be read")
	}
	return parseForm(body.String(), mayRepeat)
}

// isForm says whether the headers announce a form: one Content-Type, no other charset than UTF-8, no compression.
func isForm(h http.Header) bool {
	types := h.Values("Content-Type")
	if len(types) != 1 || h.Get("Content-Encoding") != "" {
		return false
	}
	if types[0] == formType {
		return true
	}
	kind, params, err := mime.ParseMediaType(types[0])
	if err != nil || kind != formType {
		return false
	}
	charset, has := params["charset"]
	return len(params) == 0 || has && len(params) == 1 && strings.EqualFold(charset, "utf-8")
}

// parseForm takes a body or a query apart. A parameter that repeats is noted, for who must know the others to answer.
func parseForm(s string, mayRepeat []string) (form, error) {
	f := form{values: url.Values{}, body: s}
	if s == "" {
		return f, nil
	}
	if strings.Count(s, "&") >= maxParameters {
		return f, malformed("there are too many parameters")
	}
	seen := make([]string, 0, 16)
	for pair := range strings.SplitSeq(s, "&") {
		name, value, err := readPair(pair)
		if err != nil {
			return f, err
		}
		if slices.Contains(seen, name) && !slices.Contains(mayRepeat, name) {
			f.repeated = name
		}
		seen = append(seen, name)
		if value != "" {
			f.values.Add(name, value)
		}
	}
	return f, nil
}

func readPair(pair string) (name, value string, err error) {
	name, value, _ = strings.Cut(pair, "=")
	if !plain(pair) {
		if name, value, err = decode(name, value); err != nil {
			return "", "", err
		}
	}
	switch {
	case name == "":
		return "", "", errForm()
	case len(value) > maxToken && isToken(name):
		return "", "", status(http.StatusRequestEntityTooLarge, oauth.ReasonTooLarge, "a token of the request is too large")
	default:
		return name, value, nil
	}
}

// decode is for a pair that does not stand for itself.
func decode(rawName, rawValue string) (name, value string, err error) {
	name, errName := url.QueryUnescape(rawName)
	value, errValue := url.QueryUnescape(rawValue)
	switch {
	case errName != nil || errValue != nil || strings.Contains(rawName, ";") || strings.Contains(rawValue, ";"):
		return "", "", errForm()
	case !text(name, "") || !text(value, spaceIn(name)):
		return "", "", malformed("a parameter is not UTF-8 or has control characters")
	default:
		return name, value, nil
	}
}

func errForm() error { return malformed("the parameters are not encoded as a form") }

// plain says whether a pair is all printable ASCII and none of what has a meaning in a form.
func plain(pair string) bool {
	for i := range len(pair) {
		if c := pair[i]; c <= 0x20 || c >= 0x7f || c == '%' || c == '+' || c == ';' {
			return false
		}
	}
	return true
}

func isToken(name string) bool {
	switch name {
	case "token", "subject_token", "actor_token", "client_assertion", "code":
		return true
	default:
		return false
	}
}

// spaceIn are the control characters that a parameter may have here: JSON may be laid out in lines, and what is wrong with a scope has a
// code of its own.
func spaceIn(name string) string {
	if name == "authorization_details" || name == "scope" {
		return "\t\n\r"
	}
	return ""
}

// text says whether s is UTF-8 without control characters, but for those allowed.
func text(s, allowed string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 0x20 || r >= 0x7f && r < 0xa0) && !strings.ContainsRune(allowed, r)
	})
}

func malformed(description string) error {
	return &oauth.Error{Code: oauth.InvalidRequest, Reason: oauth.ReasonMalformed, Description: description}
}

func missing(name string) error {
	return &oauth.Error{Code: oauth.InvalidRequest, Reason: oauth.ReasonMissing, Description: name + " is missing"}
}

func repeated(name string) error {
	if len(name) > 64 {
		name = name[:64]
	}
	return &oauth.Error{
		Code: oauth.InvalidRequest, Reason: oauth.ReasonRepeated, Description: oauth.Printable("the parameter " + name + " is there twice"),
	}
}

// wrongMethod refuses a method, and says which ones there are.
func wrongMethod(w http.ResponseWriter, allowed ...string) error {
	methods := strings.Join(allowed, ", ")
	w.Header().Set("Allow", methods)
	return status(http.StatusMethodNotAllowed, oauth.ReasonMalformed, "this is asked by "+methods)
}

// status is an invalid_request with a status of its own.
func status(code int, reason oauth.Reason, description string) error {
	return &oauth.Error{Code: oauth.InvalidRequest, Reason: reason, Description: description, HTTPStatus: code}
}
