package endpoint

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"
)

// The well-known paths: RFC 8414 section 3, OpenID Connect Discovery section 4. A path of the issuer is inserted behind the former, and
// stands before or behind the latter.
const (
	wellKnownOAuth  = "/.well-known/oauth-authorization-server"
	wellKnownOpenID = "/.well-known/openid-configuration"
)

// Register adds the endpoints to a router, each under a name that is its path.
func (s *Server) Register(r *mux.Router) {
	add := func(path string, h http.Handler) { r.Handle(s.base+path, h).Name(path) }
	// The router tries one after the other: what is asked for most comes first.
	add(pathToken, cors(s.guard(s.token), http.MethodPost))
	add(pathRedeem, s.guard(s.redeem))
	add(pathIntrospect, s.guard(s.introspect))
	add(pathForward, s.guard(s.forward))
	add(pathKeys, cors(s.guard(reading(s.keys)), http.MethodGet))
	add(pathAuthorize, http.HandlerFunc(s.authorize))
	add(pathPush, s.guard(s.push))
	add(pathRevoke, cors(s.guard(s.revoke), http.MethodPost))
	add(pathTxn, s.guard(s.transaction))
	add(pathErrors, s.guard(reading(s.reasons)))
	if s.cfg.Feed != nil {
		add(pathEvents, s.guard(s.follow))
	}
	if s.cfg.Receiver != nil {
		add(pathReceive, s.guard(s.receive))
	}
	r.PathPrefix(s.base + pathForward + "/").Handler(s.guard(s.forward)).Name(pathForward)

	discover := cors(s.guard(reading(s.discover)), http.MethodGet)
	r.Handle(wellKnownOAuth+s.base, discover).Name(wellKnownOAuth)
	r.Handle(wellKnownOpenID+s.base, discover).Name(wellKnownOpenID)
	if s.base != "" {
		r.Handle(s.base+wellKnownOpenID, discover).Name(wellKnownOpenID)
	}
}

// transaction answers for one transaction by its name.
func (s *Server) transaction(w http.ResponseWriter, r *http.Request) error {
	id := mux.Vars(r)["txn"]
	switch r.Method {
	case http.MethodGet:
		return s.txn(w, r, id)
	case http.MethodPost:
		return s.report(w, r, id)
	default:
		return wrongMethod(w, http.MethodGet, http.MethodPost)
	}
}

// reading lets GET and HEAD through.
func reading(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return wrongMethod(w, http.MethodGet, http.MethodHead)
		}
		return next(w, r)
	}
}

// cors lets pages of other origins call an endpoint. There are no cookies at these endpoints, so nothing goes along that the page
// does not have itself. The authorization endpoint and the pages of people never come here.
func cors(next http.Handler, method string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "DPoP-Nonce, Retry-After, WWW-Authenticate, Preference-Applied")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", method)
			h.Set("Access-Control-Allow-Headers", strings.Join([]string{
				"Authorization", "Content-Type", "DPoP", "Idempotency-Key", "Prefer",
			}, ", "))
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
