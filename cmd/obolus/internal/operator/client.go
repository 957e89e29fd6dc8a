package operator

import (
	"context"
	"io"
	"net/http"
	"strings"

	"obolus/admin"
	"obolus/agents"
	"obolus/oauth"
)

// ClientCommand is `obolus client`.
type ClientCommand struct {
	Connection

	List         ClientList   `cmd:"" help:"List the clients that are no agents."`
	Show         ClientShow   `cmd:"" help:"Show one client."`
	Add          ClientAdd    `cmd:"" help:"Register an app or a resource server."`
	RotateSecret ClientRotate `cmd:"" help:"Give a client another secret."`
	Remove       ClientRemove `cmd:"" help:"Stop a client and take it out of the registry."`
}

// Help teaches by example.
func (ClientCommand) Help() string {
	return `Examples:

  obolus client add mail-server --new-key mail-server.pem
  obolus client add app --name "My app" --redirect-uri http://127.0.0.1/callback --scope mail.read
  obolus client list`
}

// ClientList is `obolus client list`.
type ClientList struct{ search }

// Help teaches by example.
func (ClientList) Help() string {
	return "Examples:\n\n  obolus client list\n  obolus client list --json"
}

// Run prints the clients.
func (c *ClientList) Run(ctx context.Context, s *Session) error {
	all := admin.ClientList{Clients: []agents.Client{}}
	err := pages(ctx, s, "/clients", c.values(), c.Limit, func(p admin.ClientList) (string, int) {
		all.Clients = append(all.Clients, p.Clients...)
		return p.Next, len(p.Clients)
	})
	if err != nil {
		return err
	}
	return s.print(all, func(w io.Writer) {
		row(w, "ID", "NAME", "AUTHENTICATES BY", "REDIRECTS TO", "DISABLED")
		for _, cl := range all.Clients {
			row(w, cl.ID, cl.Name, cl.Auth, strings.Join(cl.RedirectURIs, " "), mark(cl.Disabled))
		}
	})
}

func mark(b bool) string { //nolint:revive // it shows a truth value
	if b {
		return "yes"
	}
	return ""
}

// ClientShow is `obolus client show`.
type ClientShow struct {
	ID string `arg:"" help:"The client's id."`
}

// Help teaches by example.
func (ClientShow) Help() string { return "Examples:\n\n  obolus client show app" }

// Run prints the client.
func (c *ClientShow) Run(ctx context.Context, s *Session) error {
	cl, _, err := get[agents.Client](ctx, s, admin.Path("clients", c.ID))
	if err != nil {
		return err
	}
	return s.print(cl, func(w io.Writer) {
		row(w, "id", cl.ID)
		pair(w, "name", cl.Name)
		pair(w, "homepage", cl.Homepage)
		printCredential(w, cl.Credential)
		for _, uri := range cl.RedirectURIs {
			row(w, "redirects to", uri)
		}
		for _, g := range cl.GrantTypes {
			row(w, "grant type", g)
		}
		pair(w, "scopes", strings.Join(cl.Scopes, " "))
		pair(w, "first party", mark(cl.FirstParty))
		pair(w, "pushes its requests", mark(cl.RequirePushed))
		pair(w, "disabled", mark(cl.Disabled))
	})
}

// ClientAdd is `obolus client add`.
type ClientAdd struct {
	ID          string   `arg:"" help:"The client's id."`
	Name        string   `help:"What people read." placeholder:"TEXT"`
	RedirectURI []string `help:"Where its users come back to; again for each. It makes the client an app that users sign in to." name:"redirect-uri" placeholder:"URI" sep:"none"`
	Scope       []string `help:"A scope it may ask its users for; again for each; any if not said." placeholder:"SCOPE" sep:"none"`
	FirstParty  bool     `help:"Its users' sign-in is consent enough; only for a client that proves who it is."`
	Pushed      bool     `help:"Refuse its authorization requests that were not pushed (RFC 9126)." name:"require-pushed"`
	credential
}

// Help teaches by example.
func (ClientAdd) Help() string {
	return `Examples:

  obolus client add app --name "My app" --redirect-uri http://127.0.0.1/callback --scope mail.read
  obolus client add mail-server --new-key mail-server.pem
  obolus client add legacy-server --auth client_secret_basic`
}

// Run registers the client.
func (c *ClientAdd) Run(ctx context.Context, s *Session) error {
	cl := agents.Client{ID: c.ID, Name: c.Name, RedirectURIs: c.RedirectURI, Scopes: c.Scope, FirstParty: c.FirstParty, RequirePushed: c.Pushed}
	if cl.Name == "" {
		cl.Name = cl.ID
	}
	usual := oauth.AuthPrivateKeyJWT
	if len(c.RedirectURI) > 0 {
		usual = oauth.AuthNone
		cl.GrantTypes = []oauth.GrantType{oauth.GrantAuthorizationCode}
	}
	if err := c.apply(&cl.Credential, usual); err != nil {
		return err
	}
	var done admin.ClientAnswer
	_, err := s.api.Do(ctx, admin.Call{Method: http.MethodPut, Path: admin.Path("clients", c.ID), Body: cl}, &done)
	if err != nil {
		return c.refused(taken(err, "client", c.ID))
	}
	if s.json {
		return s.print(done, nil)
	}
	s.say("Registered the client %s, which authenticates by %s.", done.ID, done.Auth)
	c.tell(s, done.Secret)
	return nil
}

// ClientRotate is `obolus client rotate-secret`.
type ClientRotate struct {
	ID string `arg:"" help:"The client's id."`
}

// Help teaches by example.
func (ClientRotate) Help() string {
	return "The old secret is worthless at once.\n\nExamples:\n\n  obolus client rotate-secret legacy-server"
}

// Run makes a new secret.
func (c *ClientRotate) Run(ctx context.Context, s *Session) error {
	return s.rotateSecret(ctx, admin.Path("clients", c.ID))
}

// ClientRemove is `obolus client remove`.
type ClientRemove struct {
	ID  string `arg:"" help:"The client's id."`
	Yes bool   `help:"Do not ask." short:"y"`
}

// Help teaches by example.
func (ClientRemove) Help() string { return "Examples:\n\n  obolus client remove app --yes" }

// Run removes the client.
func (c *ClientRemove) Run(ctx context.Context, s *Session) error {
	if err := s.confirm(c.Yes, "The client "+c.ID+" and the tokens it got end now, and its id is used up for good."); err != nil {
		return err
	}
	if err := s.do(ctx, http.MethodDelete, admin.Path("clients", c.ID), nil); err != nil {
		return err
	}
	s.say("Removed the client %s.", c.ID)
	return nil
}
