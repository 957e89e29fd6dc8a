package operator

import (
	"context"
	"fmt"
	"slices"

	"obolus/admin"
	"obolus/agents"
)

// What is registered may name what is not there yet. That is allowed, and most often a slip: the person is told.

// mind tells the person of something that may be a mistake.
func (s *Session) mind(format string, args ...any) {
	fmt.Fprintln(s.Err, printable("Note: "+fmt.Sprintf(format, args...)))
}

// known reads a thing that was named. It is no mistake that it is not there.
func known[T any](ctx context.Context, s *Session, kind, id string) (thing T, there bool, err error) {
	thing, _, err = get[T](ctx, s, admin.Path(kind, id))
	if ExitCode(err) == ExitNotFound {
		return thing, false, nil
	}
	return thing, err == nil, err
}

// mindCeiling tells of resources, scopes and agents that an agent names and that are not there.
func (s *Session) mindCeiling(ctx context.Context, a agents.Agent) error {
	if s.json {
		return nil
	}
	var scopes []string
	all := true
	for _, id := range a.Ceiling.Resources {
		r, there, err := known[agents.Resource](ctx, s, "resources", id)
		if err != nil {
			return err
		}
		if !there {
			all = false
			s.mind("there is no resource %s yet.", id)
		}
		for scope := range r.Scopes {
			scopes = append(scopes, scope)
		}
	}
	for _, scope := range a.Ceiling.Scopes {
		if all && !slices.Contains(scopes, scope) {
			s.mind("no resource that %s may reach has the scope %s.", a.ID, scope)
		}
	}
	for _, id := range a.DelegatesTo {
		if _, there, err := known[agents.Agent](ctx, s, "agents", id); err != nil {
			return err
		} else if !there {
			s.mind("there is no agent %s yet.", id)
		}
	}
	return nil
}

// mindServers tells of those that serve a resource and are not there.
func (s *Session) mindServers(ctx context.Context, r agents.Resource) error {
	for _, id := range r.Servers {
		_, client, err := known[agents.Client](ctx, s, "clients", id)
		if err != nil {
			return err
		}
		_, agent, err := known[agents.Agent](ctx, s, "agents", id)
		if err != nil {
			return err
		}
		if !client && !agent {
			s.mind("there is no client and no agent %s yet: nobody can redeem tokens for %s.", id, r.ID)
		}
	}
	return nil
}
