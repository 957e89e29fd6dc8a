package endpoint

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"obolus/oauth"
	"obolus/signals"
)

const setType = "application/secevent+jwt"

// receive takes a security event that is pushed, RFC 8935: 202 when what it asks for is done. Its errors are of a form of their own.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) error {
	d, err := delivery(w, r)
	if err == nil {
		d.Remote = s.cfg.Remote(r)
		err = s.cfg.Receiver.Receive(r.Context(), d)
	}
	refusal, refused := errors.AsType[*signals.RefusedError](err)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusAccepted)
		return nil
	case !refused:
		return err
	}
	s.cfg.Log.DebugContext(r.Context(), "security event refused", slog.Any("cause", refusal))
	w.Header().Set("Content-Language", "en")
	write(w, http.StatusBadRequest, map[string]string{"err": string(refusal.Code), "description": refusal.Description})
	return nil
}

// delivery reads the request: RFC 8935 section 2.1, and a bearer token if the transmitter sends one.
func delivery(w http.ResponseWriter, r *http.Request) (signals.Delivery, error) {
	if r.Method != http.MethodPost {
		return signals.Delivery{}, wrongMethod(w, http.MethodPost)
	}
	bad := func(sentence string) (signals.Delivery, error) {
		return signals.Delivery{}, &signals.RefusedError{Code: signals.InvalidRequest, Description: sentence}
	}
	types := r.Header.Values("Content-Type")
	if len(types) != 1 || !strings.EqualFold(types[0], setType) || r.Header.Get("Content-Encoding") != "" {
		return bad("the body is " + setType)
	}
	authorization := r.Header.Values("Authorization")
	if len(authorization) > 1 {
		return bad("there is more than one Authorization header")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxToken))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return signals.Delivery{}, status(http.StatusRequestEntityTooLarge, oauth.ReasonTooLarge, "the event is too large")
	}
	if err != nil {
		return bad("the body cannot be read")
	}
	d := signals.Delivery{Token: string(body)}
	if len(authorization) == 1 {
		scheme, bearer, _ := strings.Cut(authorization[0], " ")
		if !strings.EqualFold(scheme, oauth.Bearer) {
			return signals.Delivery{}, &signals.RefusedError{Code: signals.AuthenticationFailed, Description: "a transmitter authenticates by a bearer token"}
		}
		d.Bearer = bearer
	}
	return d, nil
}
