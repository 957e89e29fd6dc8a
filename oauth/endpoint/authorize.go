package endpoint

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/endpoint/internal/fositex"
)

// authorize is the authorization endpoint: RFC 6749 section 3.1. A request that is right goes on to the page where its user
// decides. One whose client or redirect URI is not right is told to whoever sent it and redirected nowhere (OAuth 2.1
// section 4.1.2.1); any other refusal goes to the client.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	a := authorization{s: s, r: r}
	location, err := a.answer(w)
	if err == nil {
		h.Set("Location", location)
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	e := oauth.AsError(err)
	s.log(r, e)
	if recorded := s.cfg.Record(r.Context(), a.event(e)); recorded != nil && e.Code != oauth.TemporarilyUnavailable {
		e, a.redirect = oauth.AsError(recorded), ""
	}
	if a.redirect == "" {
		page(w, e)
		return
	}
	location, err = s.cfg.Flow.Location(authcode.Request{RedirectURI: a.redirect, State: a.form.get("state")}, answerOf(e))
	if err != nil {
		page(w, oauth.AsError(err))
		return
	}
	h.Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// answerOf is an error as a client gets it by redirect: RFC 6749 section 4.1.2.1.
func answerOf(e *oauth.Error) url.Values {
	v := url.Values{"error": {string(e.Code)}}
	if e.Description != "" {
		v.Set("error_description", oauth.Printable(e.Description))
	}
	return v
}

// authorization is one authorization request on its way through fosite, direct or pushed.
type authorization struct {
	s        *Server
	r        *http.Request
	form     form
	client   agents.Client
	redirect string // registered for the client, once that is known
	pushed   string // request_uri, when the request was pushed
	jkt      string // of the proof that a request was pushed with
}

// answer gives the place where the browser goes on.
func (a *authorization) answer(w http.ResponseWriter) (string, error) {
	if err := a.read(w); err != nil {
		return "", err
	}
	if err := a.resume(); err != nil {
		return "", err
	}
	if err := a.place(); err != nil {
		return "", err
	}
	if a.pushed == "" && (a.s.cfg.Settings.RequirePushed || a.client.RequirePushed) {
		return "", malformed("authorization requests are pushed here")
	}
	location := ""
	err := a.check(func(ctx context.Context, request authcode.Request) error {
		kept, err := a.s.cfg.Flow.Open(ctx, request, a.pushed)
		if errors.Is(err, authcode.ErrDecided) {
			return a.over()
		}
		location = a.s.cfg.Issuer + pathConsent + kept.ID
		return err
	}, a.s.fosite.Authorize, nil)
	return location, err
}

// read reads the parameters: of a GET from the URL, of a POST from the body.
func (a *authorization) read(w http.ResponseWriter) error {
	var err error
	mayRepeat := []string{"resource"}
	switch {
	case a.r.Method == http.MethodGet && len(a.r.URL.RawQuery) > maxBody:
		err = status(http.StatusRequestURITooLong, oauth.ReasonTooLarge, "the request is too large")
	case a.r.Method == http.MethodGet:
		a.form, err = parseForm(a.r.URL.RawQuery, mayRepeat)
	case a.r.Method != http.MethodPost:
		err = wrongMethod(w, http.MethodGet, http.MethodPost)
	case a.r.URL.RawQuery != "":
		err = malformed("parameters are in the URL or in the body, not in both")
	default:
		a.form, err = readBody(w, a.r, mayRepeat)
	}
	if err == nil && (a.form.repeated == "client_id" || a.form.repeated == "redirect_uri" || a.form.repeated == "request_uri") {
		err = repeated(a.form.repeated)
	}
	return err
}

// resume takes a pushed request up again: RFC 9126 section 4. What was pushed is checked once more as if it had just been sent.
func (a *authorization) resume() error {
	uri := a.form.get("request_uri")
	if !authcode.IsPushed(uri) {
		return nil
	}
	pushed, err := a.s.cfg.Flow.Pushed(a.r.Context(), uri, a.form.get("client_id"))
	if errors.Is(err, authcode.ErrNotFound) || errors.Is(err, authcode.ErrDecided) {
		return a.over()
	}
	if err != nil {
		return err
	}
	a.pushed, a.jkt, a.form = uri, pushed.JKT, form{values: pushed.Params}
	return nil
}

// over is for a request_uri that is not known (any more), that was used, or that is another client's. It is redirected nowhere.
func (a *authorization) over() error {
	a.redirect = ""
	return &oauth.Error{
		Code: oauth.InvalidRequestURI, Reason: oauth.ReasonRequestURI, Description: "the request is not known, was used before, or is over",
	}
}

// place finds the client and where its answers go.
func (a *authorization) place() error {
	id := a.form.get("client_id")
	if id == "" {
		return missing("client_id")
	}
	unknown := &oauth.Error{Code: oauth.InvalidRequest, Reason: oauth.ReasonClientAuth, Description: "the application is not known here"}
	client, _, err := a.s.cfg.Registry.Client(a.r.Context(), id)
	switch {
	case errors.Is(err, agents.ErrNotFound):
		return unknown
	case err != nil:
		return oauth.Unavailable(err)
	case client.Disabled:
		return unknown
	}
	a.client = client
	uri, ok := redirect(client.RedirectURIs, a.form.get("redirect_uri"))
	if !ok {
		return &oauth.Error{
			Code: oauth.InvalidRequest, Reason: oauth.ReasonRedirect, Description: "the redirect_uri is not one that the application has registered",
		}
	}
	a.redirect = uri
	return nil
}

// check has fosite drive the request through the checks, and hands what is left to accept.
func (a *authorization) check(
	accept func(context.Context, authcode.Request) error,
	drive func(context.Context, fositex.Authorization) error,
	authenticate func(context.Context) (fositex.Client, error),
) error {
	if err := a.before(); err != nil {
		return err
	}
	values := maps.Clone(a.form.values)
	values.Set("redirect_uri", a.redirect)
	return drive(a.r.Context(), fositex.Authorization{
		Form: values, Authenticate: authenticate,
		Client: func(context.Context, string) (fositex.Client, error) {
			return fositex.Client{
				ID: a.client.ID, RedirectURI: a.redirect, Scopes: a.client.Scopes, Public: a.client.Auth == oauth.AuthNone,
			}, nil
		},
		Accept: func(ctx context.Context, scopes []string) error {
			request, err := a.request(ctx, scopes)
			if err != nil {
				return err
			}
			return accept(ctx, request)
		},
	})
}

// event is the entry of a refusal in the ledger. Only what is registered is named in it.
func (a *authorization) event(e *oauth.Error) audit.Event {
	event := audit.Event{Kind: audit.KindAuthorize, Client: a.client.ID, AskedScope: clip(a.form.get("scope")), Remote: a.s.cfg.Remote(a.r)}
	event.Refused(e)
	return event
}
