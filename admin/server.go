// Package admin is the operators' JSON API under /admin/v1 and the client for it. Its routes stand in one table, from
// which both the server and its OpenAPI document are made. What is asked is carried out by the packages that own it; each
// change is in the ledger before it is answered. It shows no secret but the moment it is made.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth/details"
	"obolus/transaction"
)

// Prefix is where the API is.
const Prefix = "/admin/v1"

// maxBody bounds a request.
const maxBody = 1 << 20

// Config is what the API needs; all members are needed but those that say otherwise.
type Config struct {
	Token  string // the operators' bearer token
	Issuer string

	Agents    Agents
	Clients   Clients
	Resources Resources
	Users     Users
	Grants    transaction.Grants
	Lifecycle Lifecycle
	Ledger    Ledger
	Record    func(context.Context, audit.Event) error
	Keys      Keys
	Policies  Policies
	Inspect   func(ctx context.Context, compact string) (Inspection, error)
	Status    func(context.Context) (Status, error)
	Backup    func(ctx context.Context, remote string) (*Copy, error) // ErrBusy: one is being made

	// HashSecret is how a client's secret is kept.
	HashSecret func(secret string) string
	// AllowAgentSecrets lets agents authenticate by a secret.
	AllowAgentSecrets bool
	// CanProve says, by nil, that this server could tell who has a credential. Its error is agents.ErrInvalid, and told.
	CanProve func(agents.Credential) error
	// Details says what a ceiling of authorization_details may be.
	Details *details.Registry

	Now func() time.Time
	Log *slog.Logger
}

// Agents keeps the registered agents.
type Agents interface {
	Agent(ctx context.Context, id string) (agents.Agent, uint64, error)
	Agents(ctx context.Context, after string, limit int) ([]agents.Agent, error)
	PutAgent(ctx context.Context, a agents.Agent, version uint64) (uint64, error)
	Remove(ctx context.Context, id string, version uint64) error
}

// Clients keeps the registered clients that are no agents.
type Clients interface {
	Client(ctx context.Context, id string) (agents.Client, uint64, error)
	Clients(ctx context.Context, after string, limit int) ([]agents.Client, error)
	PutClient(ctx context.Context, c agents.Client, version uint64) (uint64, error)
	Remove(ctx context.Context, id string, version uint64) error
}

// Resources keeps the registered resources.
type Resources interface {
	Resource(ctx context.Context, id string) (agents.Resource, uint64, error)
	Resources(ctx context.Context, after string, limit int) ([]agents.Resource, error)
	PutResource(ctx context.Context, r agents.Resource, version uint64) (uint64, error)
	RemoveResource(ctx context.Context, id string, version uint64) error
}

// Lifecycle stops things, with everything that was derived from them.
type Lifecycle interface {
	Stop(ctx context.Context, target transaction.Target, cause transaction.Cause) error
	SetState(ctx context.Context, id string, to agents.State, cause transaction.Cause) (agents.Agent, error)
	Withdraw(ctx context.Context, grants transaction.Grants, user, id string, cause transaction.Cause) error
}

// Ledger reads what happened.
type Ledger interface {
	Events(ctx context.Context, f audit.Filter) ([]audit.Event, error)
	Latest(ctx context.Context, f audit.Filter) ([]audit.Event, error)
	Verify(ctx context.Context, progress func(seq uint64)) (uint64, error)
}

// Server answers the API.
type Server struct {
	cfg    Config
	token  [sha256.Size]byte
	routes []route
	doc    []byte
}

// New makes a Server.
func New(cfg Config) (*Server, error) {
	missing := cfg.Token == "" || cfg.Agents == nil || cfg.Clients == nil || cfg.Resources == nil || cfg.Users == nil ||
		cfg.Grants == nil || cfg.Lifecycle == nil || cfg.Ledger == nil || cfg.Record == nil || cfg.Keys == nil || cfg.Policies == nil ||
		cfg.Inspect == nil || cfg.Status == nil || cfg.Backup == nil || cfg.HashSecret == nil || cfg.CanProve == nil || cfg.Details == nil || cfg.Now == nil || cfg.Log == nil
	if missing {
		return nil, errors.New("admin: the configuration is not complete")
	}
	s := &Server{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token))}
	s.routes = s.table()
	doc, err := document(s.routes)
	if err != nil {
		return nil, err
	}
	s.doc = doc
	return s, nil
}

// Register adds the API to a router, which must match paths as they were written (mux.Router.UseEncodedPath): ids may hold a
// slash.
func (s *Server) Register(r *mux.Router) {
	api := r.PathPrefix(Prefix).Subrouter()
	for _, route := range s.routes {
		api.Handle(route.path, s.guard(s.serve(route))).Methods(route.method).Name(Prefix + route.path)
	}
	api.Handle("/openapi.json", s.guard(http.HandlerFunc(s.openAPI))).Methods(http.MethodGet).Name(Prefix + "/openapi.json")
	for _, path := range s.paths() {
		api.Handle(path, s.guard(s.wrongMethod(path))).Name(Prefix + path)
	}
	api.PathPrefix("/").Handler(s.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		notFound("there is no such path; see " + Prefix + "/openapi.json").write(w)
	}))).Name(Prefix)
}

// guard lets only operators in, and keeps answers out of caches.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if !s.operator(r) {
			problem(http.StatusUnauthorized, CodeUnauthorized, "the operators' token is missing or wrong").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) operator(r *http.Request) bool {
	header := r.Header.Values("Authorization")
	if len(header) != 1 {
		return false
	}
	scheme, token, _ := strings.Cut(header[0], " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

// serve carries out a route.
func (s *Server) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := read(rt, r, w)
		var a answer
		if err == nil {
			a, err = rt.do(r.Context(), c)
		}
		if err == nil && a.copy != nil {
			s.send(w, rt, a.copy)
			return
		}
		if err == nil {
			err = a.write(w, rt)
		}
		if err == nil {
			return
		}
		p := asProblem(err)
		if p.cause != nil {
			s.cfg.Log.ErrorContext(r.Context(), "admin request failed", "route", rt.path, "code", p.Code, "cause", p.cause)
		}
		p.write(w)
	})
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.doc)
}

// paths lists every path once.
func (s *Server) paths() []string {
	var list []string
	seen := map[string]bool{}
	for _, rt := range s.routes {
		if !seen[rt.path] {
			seen[rt.path] = true
			list = append(list, rt.path)
		}
	}
	return list
}

func (s *Server) wrongMethod(path string) http.Handler {
	var allow []string
	for _, rt := range s.routes {
		if rt.path == path {
			allow = append(allow, rt.method)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		problem(http.StatusMethodNotAllowed, CodeMethod, r.Method+" does nothing here; allowed: "+strings.Join(allow, ", ")).write(w)
	})
}

// cause is who does it, for the ledger.
func cause(c call, why string) transaction.Cause {
	return transaction.Cause{By: "operator", Why: why, Remote: c.remote}
}

// record writes down a change of the registry.
func (s *Server) record(ctx context.Context, c call, kind audit.Kind, subject, what string) error {
	return s.cfg.Record(ctx, audit.Event{
		Kind: kind, Allowed: true, By: "operator", Subject: subject, Why: what, Remote: c.remote,
	})
}
