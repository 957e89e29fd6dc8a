package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/mux"

	"obolus/oauth/strict"
)

// call is a request as it was read at the door.
type call struct {
	id     string // of the path
	query  url.Values
	body   []byte
	match  match
	remote string
}

// match is what If-Match or If-None-Match say.
type match struct {
	given   bool
	any     bool   // If-Match: *
	absent  bool   // If-None-Match: *
	version uint64 // If-Match: "v7"
}

// read takes a request apart and refuses what the route does not know.
func read(rt route, r *http.Request, w http.ResponseWriter) (call, error) {
	id, err := url.PathUnescape(mux.Vars(r)["id"]) // the router matches the path as it was written
	c := call{id: id, remote: peer(r.RemoteAddr)}
	if err != nil {
		return c, malformed("the path cannot be read")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return c, malformed("the query cannot be read")
	}
	for name, values := range query {
		known := slices.ContainsFunc(rt.query, func(p parameter) bool { return p.name == name })
		if !known {
			return c, malformed("there is no query parameter " + strconv.Quote(name) + " here")
		}
		if len(values) > 1 {
			return c, malformed("the query parameter " + name + " is there twice")
		}
	}
	for _, p := range rt.query {
		if p.required && query.Get(p.name) == "" {
			return c, malformed("the query parameter " + p.name + " is missing")
		}
	}
	c.query = query
	if c.match, err = readMatch(r); err != nil {
		return c, err
	}
	if c.body, err = readBody(rt, r, w); err != nil {
		return c, err
	}
	return c, nil
}

func readMatch(r *http.Request) (match, error) {
	if none := r.Header.Get("If-None-Match"); none != "" {
		if none != "*" {
			return match{}, malformed("If-None-Match is * or absent")
		}
		return match{given: true, absent: true}, nil
	}
	tag := r.Header.Get("If-Match")
	switch tag {
	case "":
		return match{}, nil
	case "*":
		return match{given: true, any: true}, nil
	}
	number, ok := strings.CutPrefix(strings.Trim(tag, `"`), "v")
	version, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || version == 0 || tag != etag(version) {
		return match{}, problem(http.StatusPreconditionFailed, CodeChanged, "If-Match is not an ETag of this server")
	}
	return match{given: true, version: version}, nil
}

func etag(version uint64) string { return `"v` + strconv.FormatUint(version, 10) + `"` }

func readBody(rt route, r *http.Request, w http.ResponseWriter) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
			return nil, problem(http.StatusRequestEntityTooLarge, CodeTooLarge, "a request is at most 1 MiB")
		}
		return nil, malformed("the body cannot be read")
	}
	if rt.in == nil {
		if len(body) > 0 {
			return nil, malformed("there is no body here")
		}
		return nil, nil
	}
	if len(body) == 0 && rt.optional {
		return []byte("{}"), nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, problem(http.StatusUnsupportedMediaType, CodeMediaType, "the body is application/json")
	}
	return body, nil
}

// into reads the body strictly: unknown and repeated members are refused.
func (c call) into(v any) error {
	if err := strict.Check(c.body, strict.Limits{Depth: 24}); err != nil {
		return malformed("the body: " + err.Error())
	}
	dec := json.NewDecoder(bytes.NewReader(c.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return malformed("the body: " + err.Error())
	}
	return nil
}

func peer(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// answer is what a route gives back.
type answer struct {
	body    any
	version uint64 // sent as ETag when not zero
	created bool
	copy    *Copy // sent as it is, instead of a body
}

func (a answer) write(w http.ResponseWriter, rt route) error {
	status := rt.status()
	if a.created {
		status = http.StatusCreated
	}
	if a.version != 0 {
		w.Header().Set("ETag", etag(a.version))
	}
	if a.body == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	data, err := json.Marshal(a.body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
	return nil
}

// replaced finds the version that a PUT replaces. A thing that exists is only replaced by who says which state of it
// he knew.
func (c call) replaced(have uint64) (uint64, error) {
	switch {
	case c.match.absent && have != 0:
		return 0, problem(http.StatusPreconditionFailed, CodeChanged, "it exists already")
	case c.match.absent:
		return 0, nil
	case have == 0 && c.match.given:
		return 0, problem(http.StatusPreconditionFailed, CodeChanged, "it does not exist")
	case have == 0:
		return 0, nil
	case !c.match.given:
		return 0, problem(http.StatusPreconditionRequired, CodePrecondition,
			"it exists: send If-Match with the ETag you read, or * to replace whatever is there")
	case c.match.any || c.match.version == have:
		return have, nil
	default:
		return 0, problem(http.StatusPreconditionFailed, CodeChanged, "it has changed since you read it")
	}
}

// removed is replaced for a DELETE, which may leave the condition out.
func (c call) removed(have uint64) (uint64, error) {
	if !c.match.given {
		return have, nil
	}
	return c.replaced(have)
}
