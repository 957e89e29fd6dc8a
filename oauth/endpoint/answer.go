package endpoint

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/mux"

	"obolus/oauth"
)

// endpoint answers one request or gives the refusal.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// guard is in front of everything that decides: nothing is cached, nothing is sniffed, nothing that came as TLS early data is
// acted upon (RFC 8470), and each refusal is written in one place.
func (s *Server) guard(next endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		err := early(r)
		if err == nil {
			err = next(w, r)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	})
}

// early refuses what an attacker could have sent again: a proxy in front says so (RFC 8470 section 5.1), or this server's own
// TLS has not finished its handshake.
func early(r *http.Request) error {
	if r.Header.Get("Early-Data") == "1" || r.TLS != nil && !r.TLS.HandshakeComplete {
		return status(http.StatusTooEarly, oauth.ReasonMalformed, "the request came as TLS early data; send it again")
	}
	return nil
}

// refuse is the one writer of errors: RFC 6749 section 5.2. The reason and its explanation go out only where the error allows it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := oauth.AsError(err)
	s.log(r, e)
	h := w.Header()
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	switch {
	case e.Code == oauth.UseDPoPNonce:
		h.Set("DPoP-Nonce", s.nonces.current())
	case e.Status() == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "":
		h.Set("WWW-Authenticate", `Basic realm="obolus", charset="UTF-8"`)
	}
	body := make(map[string]any, len(e.Members)+4)
	maps.Copy(body, e.Members)
	body["error"] = e.Code
	if e.Description != "" {
		body["error_description"] = oauth.Printable(e.Description)
	}
	if e.Tell && e.Reason != "" {
		body["reason"] = e.Reason
		body["error_uri"] = s.cfg.Settings.ErrorURI + "#" + string(e.Reason)
	}
	write(w, e.Status(), body)
}

// log tells the log what no caller learns. A refusal is everyday, a failure of the server is not.
func (s *Server) log(r *http.Request, e *oauth.Error) {
	path := ""
	if route := mux.CurrentRoute(r); route != nil {
		path = route.GetName() // the route's, since that of the request may be anybody's secret
	}
	attrs := []any{"path", path, "code", string(e.Code), "reason", string(e.Reason), "cause", e.Err}
	if e.Status() >= http.StatusInternalServerError {
		s.cfg.Log.ErrorContext(r.Context(), "request failed", attrs...)
		return
	}
	s.cfg.Log.DebugContext(r.Context(), "request refused", attrs...)
}

// write sends JSON.
func write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
