package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
)

// Secret is a new secret, shown once.
type Secret struct {
	ID     string `json:"id"`
	Secret string `json:"client_secret"`
}

// ClientAnswer is a client, with its new secret when it just got one.
type ClientAnswer struct {
	agents.Client
	Secret string `json:"client_secret,omitempty"`
}

func (s *Server) clientRoutes() []route {
	const one = "/clients/{id}"
	return []route{
		{
			method: http.MethodGet, path: "/clients", name: "listClients", about: "Clients that are no agents: apps and resource servers.",
			query: paged(), out: ClientList{}, do: s.listClients,
		},
		{method: http.MethodGet, path: one, name: "getClient", about: "One client.", out: agents.Client{}, do: s.getClient},
		{
			method: http.MethodPut, path: one, name: "putClient", match: true, created: true,
			about: "Register a client, or change one that was read before (If-Match). A secret is made here and shown once.",
			in:    agents.Client{}, out: ClientAnswer{}, do: s.putClient,
		},
		{
			method: http.MethodDelete, path: one, name: "removeClient", match: true,
			about: "Stop a client and take it out of the registry. Nobody can come back under its id.", do: s.removeClient,
		},
		{
			method: http.MethodPost, path: one + "/rotate-secret", name: "rotateClientSecret", out: Secret{},
			about: "Give a client a new secret, shown once. The old one is worthless at once.", do: s.rotateClientSecret,
		},
	}
}

func shownClient(c agents.Client) agents.Client {
	c.SecretHash = ""
	return c
}

func (s *Server) listClients(ctx context.Context, c call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, err
	}
	list, next, err := shelf[agents.Client]{
		list:  s.cfg.Clients.Clients,
		id:    func(a agents.Client) string { return a.ID },
		words: func(a agents.Client) []string { return []string{a.ID, a.Name} },
	}.page(ctx, p)
	for i := range list {
		list[i] = shownClient(list[i])
	}
	return answer{body: ClientList{list, next}}, err
}

func (s *Server) getClient(ctx context.Context, c call) (answer, error) {
	cl, version, err := s.cfg.Clients.Client(ctx, c.id)
	return answer{body: shownClient(cl), version: version}, err
}

func (s *Server) putClient(ctx context.Context, c call) (answer, error) {
	var cl agents.Client
	if err := c.into(&cl); err != nil {
		return answer{}, err
	}
	if err := named(&cl.ID, c.id); err != nil {
		return answer{}, err
	}
	was, have, err := s.cfg.Clients.Client(ctx, c.id)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return answer{}, err
	}
	version, err := c.replaced(have)
	if err != nil {
		return answer{}, err
	}
	if cl.Auth == oauth.AuthNone && cl.FirstParty {
		return answer{}, invalid("a client that stands for its users' consent must prove who it is")
	}
	secret, err := s.credential(&cl.Credential, was.Credential, true)
	if err != nil {
		return answer{}, err
	}
	if err := s.canProve(cl.ID, cl.Credential); err != nil {
		return answer{}, err
	}
	if version, err = s.cfg.Clients.PutClient(ctx, cl, version); err != nil {
		return answer{}, err
	}
	if cl.Disabled && !was.Disabled && have != 0 {
		if err := s.stop(ctx, c, "client", cl.ID, "disabled"); err != nil {
			return answer{}, err
		}
	}
	err = s.record(ctx, c, audit.KindRegistry, "client/"+cl.ID, verb(have))
	return answer{body: ClientAnswer{shownClient(cl), secret}, version: version, created: have == 0}, err
}

func (s *Server) removeClient(ctx context.Context, c call) (answer, error) { //nolint:dupl // the same done to another kind of thing
	_, have, err := s.cfg.Clients.Client(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	if have, err = c.removed(have); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Clients.Remove(ctx, c.id, have); err != nil {
		return answer{}, err
	}
	if err := s.stop(ctx, c, "client", c.id, "removed"); err != nil {
		return answer{}, err
	}
	return answer{}, s.record(ctx, c, audit.KindRegistry, "client/"+c.id, "removed")
}

func (s *Server) rotateClientSecret(ctx context.Context, c call) (answer, error) { //nolint:dupl // the same done to another kind of thing
	cl, version, err := s.cfg.Clients.Client(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	secret, err := s.freshSecret(&cl.Credential)
	if err != nil {
		return answer{}, err
	}
	if _, err := s.cfg.Clients.PutClient(ctx, cl, version); err != nil {
		return answer{}, err
	}
	err = s.record(ctx, c, audit.KindRegistry, "client/"+c.id, "secret rotated")
	return answer{body: Secret{c.id, secret}}, err
}

func (s *Server) freshSecret(cred *agents.Credential) (string, error) {
	if cred.Auth != oauth.AuthSecretBasic && cred.Auth != oauth.AuthSecretPost {
		return "", conflict("it does not authenticate by a secret")
	}
	secret := newSecret()
	cred.SecretHash = s.cfg.HashSecret(secret)
	return secret, nil
}

// newSecret has 256 bits.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
