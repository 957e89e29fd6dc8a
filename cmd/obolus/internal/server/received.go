package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxReceived bounds what is received of a request before it has a place: more than any form may have.
const maxReceived = 128 << 10

// usualForm is the memory that is had for a request before any of it is here: what it says of its length may not be true.
const usualForm = 8 << 10

// received waits until a request is here as a whole, so that who sends slowly holds no place meanwhile, and gives what it has received. What
// is longer is received as it is read.
func received(r *http.Request) []byte {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	var start bytes.Buffer
	if r.ContentLength > 0 {
		start.Grow(int(min(r.ContentLength, usualForm)) + bytes.MinRead)
	}
	rest := r.Body
	_, err := start.ReadFrom(io.LimitReader(rest, maxReceived))
	form := start.Bytes()
	r.Body = &body{Reader: io.MultiReader(&start, &failing{rest, err}), Closer: rest}
	return form
}

// claimed is the client or agent that a request says to come from, by whichever way to authenticate. Nothing of it was verified: it is good for
// sharing out what an address gets, and for nothing else.
func claimed(r *http.Request, form []byte) string {
	if id, _, ok := r.BasicAuth(); ok {
		return short(id)
	}
	if id := fieldOf(form, "client_id"); id != "" {
		return short(id)
	}
	assertion := fieldOf(form, "client_assertion")
	if assertion == "" {
		assertion = r.Header.Get("Client-Assertion")
	}
	_, rest, _ := strings.Cut(assertion, ".")
	payload, _, _ := strings.Cut(rest, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var is struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(claims, &is) != nil {
		return ""
	}
	return short(is.Subject)
}

// short keeps what strangers write from holding memory.
func short(id string) string { return strings.Clone(id[:min(len(id), 256)]) }

// fieldOf finds a field of a form, the first of its name.
func fieldOf(form []byte, name string) string {
	for field := range bytes.SplitSeq(form, []byte("&")) {
		if key, value, ok := bytes.Cut(field, []byte("=")); ok && string(key) == name {
			plain, _ := url.QueryUnescape(string(value)) // empty if it is none
			return plain
		}
	}
	return ""
}

// body is one whose beginning was received.
type body struct {
	io.Reader
	io.Closer
}

// failing is what follows of a body: an error, if there was one.
type failing struct {
	rest io.Reader
	err  error
}

// Read reads on.
func (f *failing) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.rest.Read(p)
}
