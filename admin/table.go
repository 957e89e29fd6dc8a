package admin

import (
	"context"
	"net/http"

	"obolus/agents"
)

// route is one thing the API does, and all that its document says about it.
type route struct {
	method   string
	path     string // under Prefix
	name     string // operationId
	about    string
	query    []parameter
	in       any    // a value of the body's type; nil: no body
	optional bool   // the body may be left out
	out      any    // a value of the answer's type; nil: 204
	media    string // of an answer that is no JSON
	created  bool   // may answer 201
	match    bool   // reads If-Match
	do       func(context.Context, call) (answer, error)
}

func (rt route) status() int {
	switch {
	case rt.out == nil && rt.media == "":
		return http.StatusNoContent
	case rt.created && rt.method == http.MethodPost:
		return http.StatusCreated
	default:
		return http.StatusOK
	}
}

// parameter is one of the query.
type parameter struct {
	name, about string
	required    bool
	enum        []string
	number      bool
}

// Why is the body of what stops or starts something.
type Why struct {
	Why string `json:"why,omitempty"`
}

func paged(more ...parameter) []parameter {
	return append([]parameter{
		{name: "after", about: "the last id of the page before"},
		{name: "limit", about: "at most so many, 1 to 1000; 100 if not said", number: true},
		{name: "q", about: "only those with this text in their id or names"},
	}, more...)
}

// table is everything the API does.
func (s *Server) table() []route {
	var all []route
	for _, part := range [][]route{
		s.agentRoutes(), s.clientRoutes(), s.resourceRoutes(), s.userRoutes(), s.grantRoutes(), s.stopRoutes(), s.keyRoutes(),
		s.auditRoutes(), s.policyRoutes(), s.statusRoutes(), s.backupRoutes(),
	} {
		all = append(all, part...)
	}
	return all
}

// Status is how the server is.
type Status struct {
	Version  string   `json:"version"`
	Issuer   string   `json:"issuer"`
	Records  string   `json:"records"` // the kind of store: bolt, postgres
	Live     string   `json:"live"`    // memory, redis, …
	Epoch    uint64   `json:"epoch"`
	Ready    bool     `json:"ready"` // both stores answer
	Warnings []string `json:"warnings"`
}

func (s *Server) statusRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/status", name: "getStatus", about: "How the server is and what is weak in its settings.",
		out: Status{}, do: func(ctx context.Context, _ call) (answer, error) {
			st, err := s.cfg.Status(ctx)
			return answer{body: st}, err
		},
	}}
}

// AgentList is a page of agents.
type AgentList struct {
	Agents []agents.Agent `json:"agents"`
	Next   string         `json:"next,omitempty"` // after of the next page
}

// ClientList is a page of clients.
type ClientList struct {
	Clients []agents.Client `json:"clients"`
	Next    string          `json:"next,omitempty"`
}

// ResourceList is a page of resources.
type ResourceList struct {
	Resources []agents.Resource `json:"resources"`
	Next      string            `json:"next,omitempty"`
}
