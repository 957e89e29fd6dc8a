package operator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"obolus/admin"
)

// GrantCommand is `obolus grant`.
type GrantCommand struct {
	Connection

	List     GrantList     `cmd:"" help:"List what a user allowed."`
	Show     GrantShow     `cmd:"" help:"Show one grant."`
	Withdraw GrantWithdraw `cmd:"" help:"End a grant, and every token that came of it."`
}

// Help teaches by example.
func (GrantCommand) Help() string {
	return `Examples:

  obolus grant list --user alice
  obolus grant withdraw g_4f2a --user alice --why "asked by phone"`
}

// GrantList is `obolus grant list`.
type GrantList struct {
	User  string `help:"Whose grants." placeholder:"ID" required:""`
	Agent string `help:"Only those of this agent." placeholder:"ID"`
	All   bool   `help:"The ended ones too."`
}

// Help teaches by example.
func (GrantList) Help() string {
	return "Examples:\n\n  obolus grant list --user alice\n  obolus grant list --user alice --agent mailer --all"
}

// Run prints the grants.
func (c *GrantList) Run(ctx context.Context, s *Session) error {
	q := url.Values{"user": {c.User}}
	if c.Agent != "" {
		q.Set("agent", c.Agent)
	}
	var got admin.GrantList
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: "/grants", Query: q}, &got); err != nil {
		return err
	}
	list := admin.GrantList{Grants: []admin.Grant{}}
	for _, g := range got.Grants {
		if g.Live || c.All {
			list.Grants = append(list.Grants, g)
		}
	}
	return s.print(list, func(w io.Writer) {
		row(w, "ID", "AGENT", "RESOURCE", "SCOPES", "USED", "UNTIL", "STATE")
		for _, g := range list.Grants {
			row(w, g.ID, g.Agent, g.Target, strings.Join(g.Scopes, " "), budget(g), clock(g.Expires), grantState(g))
		}
	})
}

func budget(g admin.Grant) string {
	if g.Uses == 0 {
		return fmt.Sprint(g.Used)
	}
	return fmt.Sprintf("%d of %d", g.Used, g.Uses)
}

func grantState(g admin.Grant) string {
	switch {
	case g.Live:
		return "live"
	case !g.Withdrawn.IsZero():
		return "withdrawn by " + g.By
	case g.Uses > 0 && g.Used >= g.Uses:
		return "used up"
	default:
		return "over"
	}
}

// GrantShow is `obolus grant show`.
type GrantShow struct {
	ID   string `arg:"" help:"The grant's id."`
	User string `help:"Whose grant." placeholder:"ID" required:""`
}

// Help teaches by example.
func (GrantShow) Help() string { return "Examples:\n\n  obolus grant show g_4f2a --user alice" }

// Run prints the grant.
func (c *GrantShow) Run(ctx context.Context, s *Session) error {
	var g admin.Grant
	call := admin.Call{Method: http.MethodGet, Path: admin.Path("grants", c.ID), Query: url.Values{"user": {c.User}}}
	if _, err := s.api.Do(ctx, call, &g); err != nil {
		return err
	}
	return s.print(g, func(w io.Writer) {
		row(w, "id", g.ID)
		row(w, "user", g.User)
		row(w, "agent", g.Agent)
		row(w, "resource", g.Target)
		pair(w, "scopes", strings.Join(g.Scopes, " "))
		pair(w, "details", string(g.Details))
		row(w, "used", budget(g))
		pair(w, "last used", clock(g.LastUsed))
		row(w, "given", clock(g.Created))
		row(w, "until", clock(g.Expires))
		row(w, "state", grantState(g))
	})
}

// GrantWithdraw is `obolus grant withdraw`.
type GrantWithdraw struct {
	ID   string `arg:"" help:"The grant's id."`
	User string `help:"Whose grant." placeholder:"ID" required:""`
	Why  string `help:"For the ledger." placeholder:"TEXT"`
}

// Help teaches by example.
func (GrantWithdraw) Help() string {
	return "Examples:\n\n  obolus grant withdraw g_4f2a --user alice --why \"asked by phone\""
}

// Run ends the grant.
func (c *GrantWithdraw) Run(ctx context.Context, s *Session) error {
	var g admin.Grant
	call := admin.Call{
		Method: http.MethodPost, Path: admin.Path("grants", c.ID, "withdraw"), Query: url.Values{"user": {c.User}}, Body: admin.Why{Why: c.Why},
	}
	if _, err := s.api.Do(ctx, call, &g); err != nil {
		return err
	}
	if s.json {
		return s.print(g, nil)
	}
	s.say("The grant %s of %s to %s is over, and so are its tokens.", g.ID, g.User, g.Agent)
	return nil
}
