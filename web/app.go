package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/agents/names"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/store"
	"obolus/users"
)

// appView is the page on which a user lets an app in.
type appView struct {
	Form, Path string
	Flaw       flaw
	Client     party
	Redirect   string // host, or scheme, that the answer goes to
	Loopback   bool
	Private    bool // the redirect is a private scheme of an app on this device
	Proven     bool // the app proves to be itself
	Target     target
	Scopes     []choice
	Details    []choice
}

// appRequest is an authorization request with the client that made it.
type appRequest struct {
	authcode.Request
	client agents.Client
}

// appPage shows what an app asks, unless the request or the client says that nobody is to be asked. An app is asked for each
// time: that somebody said yes before says nothing about who asks now (OAuth 2.1 section 7.3).
func (s *Server) appPage(v *visit, id string) error {
	req, err := s.appRequest(v, id)
	if err != nil {
		return err
	}
	silent := req.prompts("none")
	switch {
	case !v.signedIn && silent:
		return s.refuseApp(v, req, oauth.LoginRequired)
	case !v.signedIn:
		return s.toSignIn(v, "/consent/"+id)
	case !s.signedInFor(req, v.session):
		return s.signInFor(v, req)
	}
	if err := s.take(v, req); err != nil {
		return err
	}
	if req.client.FirstParty && req.client.Auth != oauth.AuthNone && !req.prompts("consent") {
		return s.allowApp(v, req, req.Scopes, all(len(s.detailChoices(req.Details))))
	}
	if silent {
		return s.refuseApp(v, req, oauth.InteractionRequired)
	}
	return s.showApp(v, http.StatusOK, req, nil)
}

func (s *Server) showApp(v *visit, status int, req appRequest, wrong error) error {
	res, err := s.resourceAt(v, req.Resource)
	if err != nil {
		return err
	}
	view := appView{
		Form: v.session.Form(formConsent + req.ID), Path: s.base + "/consent/" + req.ID,
		Client: clientParty(req.client), Redirect: names.Host(req.RedirectURI), Loopback: loopback(req.RedirectURI),
		Proven: req.client.Auth != oauth.AuthNone, Scopes: scopeChoices(req.Scopes, res), Details: v.again("detail", s.detailChoices(req.Details)),
	}
	if res.ID != "" {
		view.Target = targetOf(res)
	} else if view.Scopes, err = s.scopesAnywhere(v, req.Scopes); err != nil {
		return err
	}
	if view.Redirect == "" {
		scheme, _, _ := strings.Cut(req.RedirectURI, ":")
		view.Redirect, view.Private = visible(scheme, maxNameShown), true
	}
	view.Scopes = v.again("scope", unexplainedFirst(view.Scopes))
	title := view.Client.Name + " asks for access"
	if f, ok := errors.AsType[*flaw](wrong); ok {
		view.Flaw, title = *f, "Not yet: "+title
	}
	v.targets = append(v.targets, formTarget(req.RedirectURI)...)
	return s.show(v, status, "app", title, view)
}

func (s *Server) decideApp(v *visit, id string) error {
	req, err := s.appRequest(v, id)
	if err != nil {
		return err
	}
	if err := s.take(v, req); err != nil {
		return err
	}
	switch v.field("decision") {
	case "deny":
		return s.refuseApp(v, req, oauth.AccessDenied)
	case "allow":
	default:
		return refusal(http.StatusBadRequest, "Neither yes nor no", "Nothing was allowed.")
	}
	if !s.signedInFor(req, v.session) {
		return s.signInFor(v, req)
	}
	ticked, err := v.indexes("scope", len(req.Scopes))
	if err != nil {
		return s.showApp(v, http.StatusBadRequest, req, err)
	}
	details, err := v.indexes("detail", len(s.detailChoices(req.Details)))
	if err != nil {
		return s.showApp(v, http.StatusBadRequest, req, err)
	}
	if len(ticked)+len(details) == 0 {
		return s.showApp(v, http.StatusBadRequest, req, &flaw{"what", "you left nothing ticked. Tick what the app may do, or deny"})
	}
	var scopes []string
	for _, i := range ticked {
		scopes = append(scopes, req.Scopes[i])
	}
	return s.allowApp(v, req, scopes, details)
}

func (s *Server) allowApp(v *visit, req appRequest, scopes []string, details []int) error {
	location, err := s.cfg.Flow.Allow(v.ctx(), req.ID, authcode.Decision{
		User: v.session.User, AuthTime: v.session.AuthTime, ACR: v.session.ACR, AMR: v.session.AMR, Scopes: scopes, Details: details,
	})
	if errors.Is(err, authcode.ErrSignIn) {
		return s.signInFor(v, req)
	}
	if err != nil {
		return appError(err)
	}
	return s.see(v, location)
}

func (s *Server) refuseApp(v *visit, req appRequest, code oauth.Code) error {
	location, err := s.cfg.Flow.Refuse(v.ctx(), req.ID, v.session.User, code)
	if err != nil {
		return appError(err)
	}
	return s.see(v, location)
}

// signInFor asks for another sign-in where the one there is does not do, or gives up where that cannot help.
func (s *Server) signInFor(v *visit, req appRequest) error {
	if req.prompts("none") || signedInSince(v.session, req.Request) {
		return s.refuseApp(v, req, oauth.LoginRequired)
	}
	return s.toFreshSignIn(v, "/consent/"+req.ID)
}

// signedInFor says whether a session is good enough for prompt=login, max_age and acr_values.
func (s *Server) signedInFor(req appRequest, session users.Session) bool {
	if len(req.ACRValues) > 0 && !slices.Contains(req.ACRValues, session.ACR) {
		return false
	}
	if signedInSince(session, req.Request) {
		return true
	}
	if req.prompts("login") {
		return false
	}
	return req.MaxAge < 0 || !session.AuthTime.IsZero() && s.cfg.Now().Sub(session.AuthTime) <= time.Duration(req.MaxAge)*time.Second
}

func signedInSince(session users.Session, r authcode.Request) bool {
	return !session.AuthTime.Before(r.Created.Truncate(time.Second))
}

func (r appRequest) prompts(value string) bool {
	return slices.Contains(strings.Fields(r.Prompt), value)
}

// appRequest reads a request that waits, and its client, which must still be there.
func (s *Server) appRequest(v *visit, id string) (appRequest, error) {
	req, err := s.cfg.Flow.Pending(v.ctx(), id)
	if errors.Is(err, authcode.ErrNotFound) {
		page := over()
		return appRequest{}, s.missed(v, v.remote, &page)
	}
	if err != nil {
		return appRequest{}, appError(err)
	}
	client, _, err := s.cfg.Registry.Client(v.ctx(), req.ClientID)
	if errors.Is(err, agents.ErrNotFound) || err == nil && client.Disabled {
		return appRequest{}, refusal(http.StatusConflict, "This request is void", "The app was switched off since it asked. Nothing was allowed.")
	}
	return appRequest{req, client}, err
}

// pendingAt is the request of an app that a path leads to, if it does.
func (s *Server) pendingAt(v *visit, path string) (authcode.Request, error) {
	id, _ := strings.CutPrefix(path, "/consent/")
	if kindOf(id) != "a_" {
		return authcode.Request{}, authcode.ErrNotFound
	}
	return s.cfg.Flow.Pending(v.ctx(), id)
}

func appError(err error) error {
	switch {
	case errors.Is(err, authcode.ErrDecided):
		return refusal(http.StatusConflict, "This was decided before", "Go back to the app; it has the answer. Nothing more was allowed.")
	case errors.Is(err, authcode.ErrNotFound):
		page := over()
		return &page
	case errors.Is(err, authcode.ErrWider):
		return refusal(http.StatusBadRequest, "That was not asked for", "Nothing was allowed.")
	default:
		return err
	}
}

// opened is who first opened a request: nobody else can decide it.
type opened struct {
	User    string `json:"user"`
	Browser string `json:"browser"` // hash of what only that browser knows
}

// take binds a request to the user and the browser that opened it first.
func (s *Server) take(v *visit, req appRequest) error {
	me := opened{User: v.session.User, Browser: hashed(v.browser)}
	value, err := json.Marshal(me)
	if err != nil {
		return err
	}
	ttl := max(req.Expires.Sub(s.cfg.Now()), time.Second)
	out, err := store.Apply(v.ctx(), s.cfg.Live, store.Commit{
		Partition: "opened/" + hashed(req.ID), If: []store.Condition{{Name: "by", Is: store.Absent}},
		Writes: []store.Write{{Name: "by", Value: value, TTL: ttl}},
	})
	if err != nil || out.Applied {
		return err
	}
	var first opened
	if err := json.Unmarshal(out.Seen[0].Value, &first); err != nil {
		return err
	}
	if first != me {
		return refusal(http.StatusForbidden, "Somebody else has opened this", "Go back to the app and begin again.")
	}
	return nil
}

// resourceAt is the resource that a request names; the zero value when it names the issuer itself or one that is gone.
func (s *Server) resourceAt(v *visit, uri string) (agents.Resource, error) {
	if uri == "" || uri == s.cfg.Issuer {
		return agents.Resource{}, nil
	}
	res, err := s.cfg.Registry.ResourceAt(v.ctx(), uri)
	if errors.Is(err, agents.ErrNotFound) {
		return agents.Resource{}, nil
	}
	return res, err
}

// scopesAnywhere are scopes in the words of every resource that has them, for a request that names no resource.
func (s *Server) scopesAnywhere(v *visit, scopes []string) ([]choice, error) {
	list, err := s.cfg.Registry.Resources(v.ctx(), "", registryRows)
	if err != nil {
		return nil, err
	}
	choices := scopeChoices(scopes, agents.Resource{})
	for i, scope := range scopes {
		for _, res := range list {
			if words := res.Scopes[scope]; words != "" && !res.Disabled {
				choices[i].Words = append(choices[i].Words, visible(words, maxTextShown)+" ("+targetOf(res).Name+")")
			}
		}
	}
	return choices, nil
}

func all(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
