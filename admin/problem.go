package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"obolus/agents"
	"obolus/consent"
	"obolus/keys"
	"obolus/oauth"
	"obolus/policy"
	"obolus/policy/rulebook"
	"obolus/store"
	"obolus/transaction"
)

// Problem is a refusal as RFC 9457 writes it. Code is one stable word.
type Problem struct { //nolint:errname // the word of RFC 9457
	Type   string `json:"type"` // always "about:blank": the status and the code say it
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	// Problems are what is wrong with guardrails, each with its place.
	Problems []policy.Problem `json:"problems,omitempty"`

	retryAfter time.Duration
	cause      error
}

// The codes of problems.
const (
	CodeMalformed    = "malformed"             // 400
	CodeUnauthorized = "unauthorized"          // 401
	CodeNotFound     = "not_found"             // 404
	CodeMethod       = "method_not_allowed"    // 405
	CodeConflict     = "conflict"              // 409
	CodeChanged      = "changed_meanwhile"     // 412
	CodeTooLarge     = "too_large"             // 413
	CodeMediaType    = "media_type"            // 415
	CodeInvalid      = "invalid"               // 422
	CodePrecondition = "precondition_required" // 428
	CodeInternal     = "internal"              // 500
	CodeUnavailable  = "unavailable"           // 503
)

// Error is for people and logs.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// Unwrap gives the cause, which only the log learns.
func (p *Problem) Unwrap() error { return p.cause }

func problem(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func malformed(detail string) *Problem { return problem(http.StatusBadRequest, CodeMalformed, detail) }

func invalid(detail string) *Problem {
	return problem(http.StatusUnprocessableEntity, CodeInvalid, detail)
}
func notFound(detail string) *Problem { return problem(http.StatusNotFound, CodeNotFound, detail) }
func conflict(detail string) *Problem { return problem(http.StatusConflict, CodeConflict, detail) }

// asProblem finds the refusal for any error. What is not known says nothing outside.
func asProblem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if wrong, ok := errors.AsType[policy.Errors](err); ok {
		p := invalid("the guardrails cannot be in force like this: " + wrong.Error())
		p.Problems = wrong
		return p
	}
	for _, known := range []struct {
		is     error
		status int
		code   string
	}{
		{agents.ErrNotFound, http.StatusNotFound, CodeNotFound},
		{consent.ErrNotFound, http.StatusNotFound, CodeNotFound},
		{transaction.ErrNotFound, http.StatusNotFound, CodeNotFound},
		{keys.ErrWithdrawn, http.StatusNotFound, CodeNotFound},
		{keys.ErrCrowded, http.StatusConflict, CodeConflict},
		{ErrBusy, http.StatusConflict, CodeConflict},
		{agents.ErrChanged, http.StatusPreconditionFailed, CodeChanged},
		{agents.ErrTaken, http.StatusConflict, CodeConflict},
		{transaction.ErrState, http.StatusConflict, CodeConflict},
		{agents.ErrInvalid, http.StatusUnprocessableEntity, CodeInvalid},
		{transaction.ErrUnknownTarget, http.StatusUnprocessableEntity, CodeInvalid},
		{rulebook.ErrNotFound, http.StatusNotFound, CodeNotFound},
		{rulebook.ErrInvalid, http.StatusUnprocessableEntity, CodeInvalid},
		{rulebook.ErrTooBig, http.StatusRequestEntityTooLarge, CodeTooLarge},
		{rulebook.ErrChanged, http.StatusPreconditionFailed, CodeChanged},
		{store.ErrTooBig, http.StatusRequestEntityTooLarge, CodeTooLarge},
		{ErrDeclared, http.StatusConflict, CodeConflict},
	} {
		if errors.Is(err, known.is) {
			return problem(known.status, known.code, err.Error())
		}
	}
	down := errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFence) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if refusal, ok := errors.AsType[*oauth.Error](err); ok && refusal.Code == oauth.TemporarilyUnavailable {
		down = true
	}
	if down {
		p := problem(http.StatusServiceUnavailable, CodeUnavailable, "a store does not answer; what was asked may or may not have happened")
		p.retryAfter, p.cause = time.Second, err
		return p
	}
	p := problem(http.StatusInternalServerError, CodeInternal, "the server met an unexpected condition")
	p.cause = err
	return p
}

// write sends the problem.
func (p *Problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.retryAfter.Seconds())))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="obolus admin"`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}
