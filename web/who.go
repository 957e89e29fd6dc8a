package web

import (
	"net/http"

	"obolus/users"
)

// SignedIn is the user who has signed in with the browser that sent a request. It is for endpoints beside the pages that answer
// by reading only: it says nothing about whether the user meant to send it.
func (s *Server) SignedIn(r *http.Request) (user string, ok bool) {
	session, err := s.cfg.Users.Session(r.Context(), users.Cookie(cookie(r, s.cookies.session)))
	return session.User, err == nil
}
