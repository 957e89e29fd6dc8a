package resource

import (
	"cmp"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"obolus/oauth"
)

// errNoToken is for a request without a token: a challenge without an error, RFC 6750 section 3.1.
var errNoToken = errors.New("no token came with the request")

// refusal is an error with what its answer says besides.
type refusal struct {
	err    error
	scheme string // by which the token came; empty: none came
	rule   Rule   // whose scopes are told
	nonce  string // to be used in the next proof
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// refuse adds to an error what its challenge says.
func refuse(err error, scheme string, rule Rule) error {
	r := &refusal{err: err, scheme: scheme, rule: rule}
	if have, ok := errors.AsType[*refusal](err); ok {
		r.nonce = have.nonce
		if have.scheme != "" {
			r.scheme = have.scheme
		}
	}
	return r
}

func invalidToken(description string, cause error) error {
	return &oauth.Error{
		Code: oauth.InvalidToken, Reason: oauth.ReasonTokenInvalid, HTTPStatus: http.StatusUnauthorized, Description: description, Err: cause,
	}
}

func badRequest(reason oauth.Reason, description string, cause error) error {
	return &oauth.Error{
		Code: oauth.InvalidRequest, Reason: reason, HTTPStatus: http.StatusBadRequest, Description: description, Err: cause,
	}
}

// Refuse answers a request with an error of [Guard.Check] or [Caller.Redeem]: a status, a challenge (RFC 6750 section 3, RFC 9449
// section 7.1, RFC 9728 section 5.1) and a JSON body. An error that is no refusal becomes a 500 that says nothing.
func (g *Guard) Refuse(w http.ResponseWriter, err error) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = &refusal{err: err}
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.nonce != "" {
		h.Set("DPoP-Nonce", r.nonce)
	}
	if errors.Is(err, errNoToken) {
		g.challenge(h, r, nil)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	e := oauth.AsError(err)
	if e.Code == oauth.ServerError {
		g.cfg.Log.Error("request was refused for a fault of this server", slog.Any("error", err))
	}
	status := e.Status()
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		g.challenge(h, r, e)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	body, err := json.Marshal(map[string]string{"error": string(e.Code), "error_description": oauth.Printable(e.Description)})
	if err != nil {
		body = []byte(`{"error":"server_error"}`)
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// challenge writes WWW-Authenticate: for a 401 one challenge for each scheme that would do, with the error in that of the
// token; for a 403 that one alone.
func (g *Guard) challenge(h http.Header, r *refusal, e *oauth.Error) {
	schemes, blamed := []string{oauth.Bearer, oauth.DPoP}, cmp.Or(r.scheme, oauth.Bearer)
	if g.cfg.RequireDPoP {
		schemes, blamed = schemes[1:], oauth.DPoP
	}
	if e != nil && e.Status() == http.StatusForbidden {
		schemes = []string{blamed}
	}
	for _, scheme := range schemes {
		var p params
		if e != nil && scheme == blamed {
			p.blame(r, e)
		}
		p.add("scope", strings.Join(r.rule.Scopes, " "))
		p.add("resource_metadata", g.metadata)
		if scheme == oauth.DPoP {
			p.add("algs", g.algs)
		}
		h.Add("WWW-Authenticate", strings.TrimRight(scheme+" "+strings.Join(p, ", "), " "))
	}
}

// params are the parameters of a challenge.
type params []string

func (p *params) add(name, value string) {
	if value != "" {
		*p = append(*p, name+`="`+value+`"`)
	}
}

// blame tells the error, and for RFC 9470 section 3 which sign-in would do.
func (p *params) blame(r *refusal, e *oauth.Error) {
	p.add("error", string(e.Code))
	p.add("error_description", oauth.Printable(e.Description))
	if e.Code != oauth.InsufficientUserAuth {
		return
	}
	p.add("acr_values", oauth.Printable(strings.Join(r.rule.ACR, " ")))
	if r.rule.MaxAge > 0 {
		p.add("max_age", strconv.FormatInt(int64(r.rule.MaxAge/time.Second), 10))
	}
}
