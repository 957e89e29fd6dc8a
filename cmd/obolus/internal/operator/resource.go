package operator

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"obolus/admin"
	"obolus/agents"
)

// ResourceCommand is `obolus resource`.
type ResourceCommand struct {
	Connection

	List   ResourceList   `cmd:"" help:"List resources."`
	Show   ResourceShow   `cmd:"" help:"Show one resource."`
	Add    ResourceAdd    `cmd:"" help:"Register a resource."`
	Remove ResourceRemove `cmd:"" help:"Take a resource out of the registry."`
}

// Help teaches by example.
func (ResourceCommand) Help() string {
	return `Examples:

  obolus resource list
  obolus resource add mail https://mail.example.com/mcp --scope "mail.read=Read your mail" --served-by mail-server
  obolus resource show mail`
}

// ResourceList is `obolus resource list`.
type ResourceList struct{ search }

// Help teaches by example.
func (ResourceList) Help() string {
	return "Examples:\n\n  obolus resource list\n  obolus resource list -q mail --json"
}

// Run prints the resources.
func (c *ResourceList) Run(ctx context.Context, s *Session) error {
	all := admin.ResourceList{Resources: []agents.Resource{}}
	err := pages(ctx, s, "/resources", c.values(), c.Limit, func(p admin.ResourceList) (string, int) {
		all.Resources = append(all.Resources, p.Resources...)
		return p.Next, len(p.Resources)
	})
	if err != nil {
		return err
	}
	return s.print(all, func(w io.Writer) {
		row(w, "ID", "URI", "NAME", "REDEMPTION", "SERVED BY", "SCOPES")
		for _, r := range all.Resources {
			row(w, r.ID, r.URI, r.Name, r.Redemption, strings.Join(r.Servers, " "), strings.Join(slices.Sorted(maps.Keys(r.Scopes)), " "))
		}
	})
}

// ResourceShow is `obolus resource show`.
type ResourceShow struct {
	ID string `arg:"" help:"The resource's id."`
}

// Help teaches by example.
func (ResourceShow) Help() string { return "Examples:\n\n  obolus resource show mail" }

// Run prints the resource.
func (c *ResourceShow) Run(ctx context.Context, s *Session) error {
	r, _, err := get[agents.Resource](ctx, s, admin.Path("resources", c.ID))
	if err != nil {
		return err
	}
	return s.print(r, func(w io.Writer) {
		row(w, "id", r.ID)
		row(w, "uri", r.URI)
		pair(w, "aliases", strings.Join(r.Aliases, " "))
		pair(w, "name", r.Name)
		row(w, "redemption", r.Redemption)
		pair(w, "served by", strings.Join(r.Servers, " "))
		pair(w, "algorithm", r.Algorithm)
		if r.Lifetime > 0 {
			row(w, "lifetime", time.Duration(r.Lifetime))
		}
		if r.MaxAuthAge > 0 {
			row(w, "sign-in at most", time.Duration(r.MaxAuthAge))
		}
		pair(w, "details types", strings.Join(r.Details, " "))
		pair(w, "disabled", r.Disabled)
		for _, scope := range slices.Sorted(maps.Keys(r.Scopes)) {
			row(w, "scope "+scope, r.Scopes[scope])
		}
	})
}

// ResourceAdd is `obolus resource add`.
type ResourceAdd struct {
	ID          string        `arg:"" help:"The resource's id."`
	URI         string        `arg:"" help:"Its URI: the resource of requests and the aud of tokens."`
	Name        string        `help:"What people read." placeholder:"TEXT"`
	Alias       []string      `help:"A further URI or name of it; again for each." placeholder:"URI" sep:"none"`
	Scope       []string      `help:"A scope and, after =, what it means to people; again for each." placeholder:"SCOPE=TEXT" sep:"none"`
	DetailsType []string      `help:"A type of authorization_details it understands; again for each." placeholder:"TYPE" sep:"none"`
	ServedBy    []string      `help:"A client or agent that is this resource, and redeems its tokens; again for each." placeholder:"ID" sep:"none"`
	Redemption  string        `enum:",required,none" default:"" help:"Whether each token is redeemed once: required or none. If not said, required when somebody serves it." placeholder:"HOW"`
	Algorithm   string        `help:"What its tokens are signed with: ES256, EdDSA, PS256 or RS256." placeholder:"ALG"`
	Lifetime    time.Duration `help:"The longest its tokens live." placeholder:"DURATION"`
	MaxAuthAge  time.Duration `help:"How long ago the user may have signed in." placeholder:"DURATION"`
}

// Help teaches by example.
func (ResourceAdd) Help() string {
	return `Examples:

  obolus resource add mail https://mail.example.com/mcp --name Mail --scope "mail.read=Read your mail" --served-by mail-server
  obolus resource add bank https://bank.example.com/ --details-type payment --served-by bank-api --max-auth-age 10m
  obolus resource add reports https://reports.example.com --scope reports.read --redemption none`
}

// Run registers the resource.
func (c *ResourceAdd) Run(ctx context.Context, s *Session) error {
	r := agents.Resource{
		ID: c.ID, URI: c.URI, Name: c.Name, Aliases: c.Alias, Details: c.DetailsType, Servers: c.ServedBy,
		Redemption: agents.Redemption(c.Redemption), Algorithm: c.Algorithm,
		Lifetime: agents.Duration(c.Lifetime), MaxAuthAge: agents.Duration(c.MaxAuthAge),
	}
	if len(c.Scope) > 0 {
		r.Scopes = map[string]string{}
	}
	for _, one := range c.Scope {
		scope, text, _ := strings.Cut(one, "=")
		if _, twice := r.Scopes[scope]; twice {
			return usage("the scope %s is there twice", scope)
		}
		r.Scopes[scope] = text
	}
	var done agents.Resource
	_, err := s.api.Do(ctx, admin.Call{Method: http.MethodPut, Path: admin.Path("resources", c.ID), Body: r}, &done)
	if err != nil {
		return taken(err, "resource", c.ID)
	}
	if s.json {
		return s.print(done, nil)
	}
	s.say("Registered the resource %s at %s; redemption: %s.", done.ID, done.URI, done.Redemption)
	return s.mindServers(ctx, done)
}

// ResourceRemove is `obolus resource remove`.
type ResourceRemove struct {
	ID  string `arg:"" help:"The resource's id."`
	Yes bool   `help:"Do not ask." short:"y"`
}

// Help teaches by example.
func (ResourceRemove) Help() string { return "Examples:\n\n  obolus resource remove mail --yes" }

// Run removes the resource.
func (c *ResourceRemove) Run(ctx context.Context, s *Session) error {
	if err := s.confirm(c.Yes, "The tokens of the resource "+c.ID+" are refused from now on."); err != nil {
		return err
	}
	if err := s.do(ctx, http.MethodDelete, admin.Path("resources", c.ID), nil); err != nil {
		return err
	}
	s.say("Removed the resource %s.", c.ID)
	return nil
}
