package web

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"obolus/users"
)

// The purposes of forms.
const (
	formSignIn         = "sign in"
	formSignOut        = "sign out"
	formOperatorSignIn = "operator sign in"
	formConsent        = "consent "
	formMine           = "my agents"
	formConsole        = "console"
)

// signInView is the page on which people sign in.
type signInView struct {
	Form      string
	ReturnTo  string
	User      string // typed before
	Failed    string
	Asked     bool // there is a question waiting
	Fresh     bool // the user is signed in, but it is too long ago
	Providers []providerView
}

type providerView struct{ Name, Path string }

// signInPage shows the ways to sign in, to who is not signed in or must do so again.
func (s *Server) signInPage(v *visit) error {
	back := s.localPath(v.query.Get("return_to"))
	fresh := v.query.Get("fresh") == "1"
	if v.signedIn && !fresh {
		return s.see(v, s.base+back)
	}
	return s.showSignIn(v, http.StatusOK, signInView{ReturnTo: back, Fresh: fresh && v.signedIn})
}

func (s *Server) showSignIn(v *visit, status int, view signInView) error {
	view.Form, view.Asked = v.formFor(formSignIn), view.ReturnTo != home
	query := url.Values{"return_to": {view.ReturnTo}}
	if view.Fresh {
		query.Set("fresh", "1")
	}
	for _, p := range s.cfg.Providers {
		view.Providers = append(view.Providers, providerView{p.name(), s.base + "/sign-in/" + p.ID + "?" + query.Encode()})
	}
	// An app that needs no consent is reached by the redirect that follows the form.
	if request, err := s.pendingAt(v, view.ReturnTo); err == nil {
		v.targets = append(v.targets, formTarget(request.RedirectURI)...)
	}
	return s.show(v, status, "signin", "Sign in", view)
}

// signIn checks a password.
func (s *Server) signIn(v *visit) error {
	back := s.localPath(v.field("return_to"))
	if err := v.checkBrowser(formSignIn); err != nil {
		return err
	}
	in, err := s.cfg.Users.SignIn(v.ctx(), users.Attempt{
		User: strings.TrimSpace(v.field("user")), Password: v.field("password"), Remote: v.remote,
		Had: users.Cookie(cookie(v.r, s.cookies.session)),
	})
	if errors.Is(err, users.ErrRefused) {
		return s.showSignIn(v, http.StatusUnauthorized, signInView{
			ReturnTo: back, Fresh: v.field("fresh") == "1" && v.signedIn, User: v.field("user"),
			Failed: "That name and password do not go together, or the account may not sign in.",
		})
	}
	if err != nil {
		return err
	}
	s.setCookie(v, s.cookies.session, string(in.Cookie), http.SameSiteLaxMode)
	return s.see(v, s.base+back)
}

// signOut ends the session. The page it leads to is for anybody.
func (s *Server) signOut(v *visit) error {
	if v.signedIn {
		if err := v.checkForm(v.session, formSignOut); err != nil {
			return err
		}
		if err := s.cfg.Users.End(v.ctx(), users.Cookie(cookie(v.r, s.cookies.session))); err != nil {
			return err
		}
	}
	s.dropCookie(v, s.cookies.session)
	return s.see(v, s.base+"/sign-in")
}

// home is where people go who were not on their way anywhere.
const home = "/agents"

// localPath holds the path that somebody is led to after the sign-in to the pages that lead there; anything else is home. It is
// without the path of the issuer.
func (s *Server) localPath(path string) string {
	if regexp.MustCompile(`^/consent/[A-Za-z0-9_-]{1,64}$`).MatchString(path) {
		return path
	}
	return home
}

// toSignIn leads to the sign-in and back.
func (s *Server) toSignIn(v *visit, back string) error {
	return s.see(v, s.base+"/sign-in?"+url.Values{"return_to": {back}}.Encode())
}

// toFreshSignIn leads somebody who is signed in through the sign-in again.
func (s *Server) toFreshSignIn(v *visit, back string) error {
	return s.see(v, s.base+"/sign-in?"+url.Values{"return_to": {back}, "fresh": {"1"}}.Encode())
}

func (p Provider) name() string {
	if p.Name != "" {
		return p.Name
	}
	return p.ID
}

func (s *Server) provider(id string) (Provider, bool) {
	i := slices.IndexFunc(s.cfg.Providers, func(p Provider) bool { return p.ID == id })
	if i < 0 {
		return Provider{}, false
	}
	return s.cfg.Providers[i], true
}
