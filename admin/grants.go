package admin

import (
	"context"
	"net/http"
	"time"

	"obolus/consent"
	"obolus/transaction"
)

// Grant is what a user allowed, and what came of it.
type Grant struct {
	consent.Grant
	Used     int       `json:"used"`
	LastUsed time.Time `json:"last_used,omitzero"`
	Live     bool      `json:"live"` // neither withdrawn, nor over, nor used up
}

// GrantList is everything a user allowed.
type GrantList struct {
	Grants []Grant `json:"grants"`
}

// Stop is one thing to be stopped, and with it everything that was derived from it.
type Stop struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Why  string `json:"why,omitempty"`
}

// Stopped is a stop that no server accepts anything against any more.
type Stopped struct {
	Stop
	At time.Time `json:"at"`
}

func (s *Server) grantRoutes() []route {
	user := parameter{name: "user", about: "the user whose grants are meant", required: true}
	return []route{
		{
			method: http.MethodGet, path: "/grants", name: "listGrants", about: "Everything a user allowed, the ended grants too.",
			query: []parameter{user, {name: "agent", about: "only those of this agent"}}, out: GrantList{}, do: s.listGrants,
		},
		{
			method: http.MethodGet, path: "/grants/{id}", name: "getGrant", about: "One grant.", query: []parameter{user},
			out: Grant{}, do: s.getGrant,
		},
		{
			method: http.MethodPost, path: "/grants/{id}/withdraw", name: "withdrawGrant", query: []parameter{user},
			about: "End a grant, and every token that came of it.", in: Why{}, optional: true, out: Grant{}, do: s.withdrawGrant,
		},
	}
}

func (s *Server) stopRoutes() []route {
	return []route{{
		method: http.MethodPost, path: "/stops", name: "stop", in: Stop{}, out: Stopped{}, created: true,
		about: "Make every outstanding token that was derived from an agent, user, client, grant, key, token (jti) or txn worthless. " +
			"It says nothing about new ones: suspend the agent, disable the user or withdraw the grant for that.",
		do: s.postStop,
	}}
}

func (s *Server) listGrants(ctx context.Context, c call) (answer, error) {
	list, err := s.grants(ctx, c.query.Get("user"), c.query.Get("agent"))
	return answer{body: GrantList{list}}, err
}

func (s *Server) grants(ctx context.Context, user, agent string) ([]Grant, error) {
	all, err := s.cfg.Grants.GrantsOf(ctx, user)
	if err != nil {
		return nil, err
	}
	list := []Grant{}
	for _, d := range all {
		if agent == "" || d.Agent == agent {
			list = append(list, Grant{d.Grant, d.Used, d.LastUsed, d.LiveAt(s.cfg.Now()) && !d.Exhausted()})
		}
	}
	return list, nil
}

func (s *Server) getGrant(ctx context.Context, c call) (answer, error) {
	list, err := s.grants(ctx, c.query.Get("user"), "")
	if err != nil {
		return answer{}, err
	}
	for _, g := range list {
		if g.ID == c.id {
			return answer{body: g}, nil
		}
	}
	return answer{}, consent.ErrNotFound
}

func (s *Server) withdrawGrant(ctx context.Context, c call) (answer, error) {
	var why Why
	if err := c.into(&why); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Lifecycle.Withdraw(ctx, s.cfg.Grants, c.query.Get("user"), c.id, cause(c, why.Why)); err != nil {
		return answer{}, err
	}
	return s.getGrant(ctx, c)
}

func (s *Server) postStop(ctx context.Context, c call) (answer, error) {
	var st Stop
	if err := c.into(&st); err != nil {
		return answer{}, err
	}
	if err := s.stop(ctx, c, st.Kind, st.ID, st.Why); err != nil {
		return answer{}, err
	}
	return answer{body: Stopped{st, s.cfg.Now().UTC()}}, nil
}

func (s *Server) stop(ctx context.Context, c call, kind, id, why string) error {
	return s.cfg.Lifecycle.Stop(ctx, transaction.Target{Kind: transaction.Kind(kind), ID: id}, cause(c, why))
}
