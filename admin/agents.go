package admin

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
)

func (s *Server) agentRoutes() []route {
	const one = "/agents/{id}"
	return []route{
		{
			method: http.MethodGet, path: "/agents", name: "listAgents", about: "Agents in the order of their ids.",
			query: paged(
				parameter{name: "state", about: "only those in this state", enum: []string{"proposed", "active", "suspended", "retired"}},
				parameter{name: "owner", about: "only those of this owner"},
				parameter{name: "label", about: "only those with this label: NAME or NAME=VALUE"},
				parameter{name: "due", about: "true: only those that are over, or that somebody has to look at again", enum: []string{"true", "false"}},
			),
			out: AgentList{}, do: s.listAgents,
		},
		{method: http.MethodGet, path: one, name: "getAgent", about: "One agent.", out: agents.Agent{}, do: s.getAgent},
		{
			method: http.MethodGet, path: one + "/delegations", name: "getAgentDelegations", out: agents.Delegations{}, do: s.getDelegations,
			about: "Who may hand on to an agent, and to whom it and those after it may hand on.",
		},
		{
			method: http.MethodPut, path: one, name: "putAgent", match: true, created: true,
			about: "Register an agent, or change one that was read before (If-Match). Its state changes by suspend, resume and retire only.",
			in:    agents.Agent{}, out: AgentAnswer{}, do: s.putAgent,
		},
		{
			method: http.MethodDelete, path: one, name: "removeAgent", match: true,
			about: "Stop an agent and take it out of the registry. Nobody can come back under its id.", do: s.removeAgent,
		},
		{
			method: http.MethodPost, path: one + "/suspend", name: "suspendAgent", in: Why{}, optional: true, out: agents.Agent{},
			about: "Stop an agent: no server accepts anything from it, or that came of it, once this is answered.",
			do:    s.setState(agents.Suspended),
		},
		{
			method: http.MethodPost, path: one + "/resume", name: "resumeAgent", in: Why{}, optional: true, out: agents.Agent{},
			about: "Let a proposed or suspended agent act. Tokens from before stay worthless.", do: s.setState(agents.Active),
		},
		{
			method: http.MethodPost, path: one + "/retire", name: "retireAgent", in: Why{}, optional: true, out: agents.Agent{},
			about: "Stop an agent for good.", do: s.setState(agents.Retired),
		},
		{
			method: http.MethodPost, path: one + "/rotate-secret", name: "rotateAgentSecret", out: Secret{},
			about: "Give an agent that authenticates by a secret a new one, shown once.", do: s.rotateAgentSecret,
		},
	}
}

// AgentAnswer is an agent, with its new secret when it just got one.
type AgentAnswer struct {
	agents.Agent
	Secret string `json:"client_secret,omitempty"`
}

// shown takes out of an agent what nobody is shown.
func shown(a agents.Agent) agents.Agent {
	a.SecretHash = ""
	a.Ceiling.Resources = append([]string{}, a.Ceiling.Resources...)
	a.Ceiling.Scopes = append([]string{}, a.Ceiling.Scopes...)
	return a
}

func (s *Server) listAgents(ctx context.Context, c call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, err
	}
	list, next, err := shelf[agents.Agent]{
		list: s.cfg.Agents.Agents, id: func(a agents.Agent) string { return a.ID }, words: wordsOf, keep: s.wanted(c),
	}.page(ctx, p)
	for i := range list {
		list[i] = shown(list[i])
	}
	return answer{body: AgentList{list, next}}, err
}

// wordsOf are the texts that a search looks at.
func wordsOf(a agents.Agent) []string {
	words := []string{a.ID, a.Name, a.Owner, a.Operator, a.Description, a.Purpose, a.Contact, a.Model}
	for name, value := range a.Labels {
		words = append(words, name+"="+value)
	}
	return words
}

// wanted says whether an agent is one of those that the query wants.
func (s *Server) wanted(c call) func(agents.Agent) bool {
	state, owner, due := agents.State(c.query.Get("state")), c.query.Get("owner"), c.query.Get("due") == "true"
	label, value, exact := strings.Cut(c.query.Get("label"), "=")
	now := s.cfg.Now()
	return func(a agents.Agent) bool {
		if label != "" {
			if has, ok := a.Labels[label]; !ok || exact && has != value {
				return false
			}
		}
		return (state == "" || a.State == state) && (owner == "" || a.Owner == owner) && (!due || a.DueAt(now))
	}
}

func (s *Server) getAgent(ctx context.Context, c call) (answer, error) {
	a, version, err := s.cfg.Agents.Agent(ctx, c.id)
	return answer{body: shown(a), version: version}, err
}

func (s *Server) getDelegations(ctx context.Context, c call) (answer, error) {
	a, _, err := s.cfg.Agents.Agent(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	around, err := agents.Around(ctx, s.cfg.Agents.Agents, a)
	return answer{body: around}, err
}

func (s *Server) putAgent(ctx context.Context, c call) (answer, error) {
	var a agents.Agent
	if err := c.into(&a); err != nil {
		return answer{}, err
	}
	if err := named(&a.ID, c.id); err != nil {
		return answer{}, err
	}
	was, have, err := s.cfg.Agents.Agent(ctx, c.id)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return answer{}, err
	}
	version, err := c.replaced(have)
	if err != nil {
		return answer{}, err
	}
	if err := s.keepState(&a, was, have != 0); err != nil {
		return answer{}, err
	}
	secret, err := s.credential(&a.Credential, was.Credential, s.cfg.AllowAgentSecrets)
	if err != nil {
		return answer{}, err
	}
	if err := errors.Join(s.canProve(a.ID, a.Credential), s.checkCeiling(a.Ceiling)); err != nil {
		return answer{}, err
	}
	if version, err = s.cfg.Agents.PutAgent(ctx, a, version); err != nil {
		return answer{}, err
	}
	err = s.record(ctx, c, audit.KindRegistry, "agent/"+a.ID, verb(have))
	return answer{body: AgentAnswer{shown(a), secret}, version: version, created: have == 0}, err
}

// canProve holds a credential to its way to authenticate, and to what this server can tell.
func (s *Server) canProve(id string, c agents.Credential) error {
	if err := c.Check(id); err != nil {
		return err
	}
	return s.cfg.CanProve(c)
}

// checkCeiling holds the details of a ceiling to their types: what cannot be read would cover nothing.
func (s *Server) checkCeiling(c agents.Ceiling) error {
	for _, name := range c.DetailTypes {
		if !s.cfg.Details.Has(name) {
			return invalid("ceiling.details_types: there is no type " + strconv.Quote(name) + " of authorization_details")
		}
	}
	if len(c.Details) == 0 {
		return nil
	}
	if _, err := s.cfg.Details.Parse(c.Details); err != nil {
		return invalid("ceiling.authorization_details: " + err.Error())
	}
	return nil
}

// keepState keeps what a PUT cannot change: a state has its own ways, which stop what was derived from the agent.
func (s *Server) keepState(a *agents.Agent, was agents.Agent, exists bool) error { //nolint:revive // the zero agent has no state to tell it by
	if !exists {
		if a.State == "" {
			a.State = agents.Active
		}
		a.Changed = agents.Change{By: "operator", At: s.cfg.Now().UTC()}
		return nil
	}
	if a.State != "" && a.State != was.State {
		return invalid("the agent is " + string(was.State) + "; use suspend, resume or retire to change that")
	}
	a.State, a.Changed = was.State, was.Changed
	return nil
}

// credential settles how a client proves who it is: a secret is made here and kept as a hash, which nobody sends.
func (s *Server) credential(now *agents.Credential, was agents.Credential, secrets bool) (string, error) { //nolint:revive // a setting
	if now.SecretHash != "" {
		return "", invalid("secret_hash is not sent; the server makes secrets")
	}
	if now.Auth == "" {
		now.Auth = oauth.AuthPrivateKeyJWT
	}
	if now.Auth != oauth.AuthSecretBasic && now.Auth != oauth.AuthSecretPost {
		return "", nil
	}
	if !secrets {
		return "", invalid("agents authenticate by private_key_jwt; the setting allow_agent_secrets allows secrets")
	}
	if was.SecretHash != "" {
		now.SecretHash = was.SecretHash
		return "", nil
	}
	secret := newSecret()
	now.SecretHash = s.cfg.HashSecret(secret)
	return secret, nil
}

func (s *Server) removeAgent(ctx context.Context, c call) (answer, error) { //nolint:dupl // the same done to another kind of thing
	_, have, err := s.cfg.Agents.Agent(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	if have, err = c.removed(have); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Agents.Remove(ctx, c.id, have); err != nil {
		return answer{}, err
	}
	if err := s.stop(ctx, c, "agent", c.id, "removed"); err != nil {
		return answer{}, err
	}
	return answer{}, s.record(ctx, c, audit.KindRegistry, "agent/"+c.id, "removed")
}

func (s *Server) setState(to agents.State) func(context.Context, call) (answer, error) {
	return func(ctx context.Context, c call) (answer, error) {
		var why Why
		if err := c.into(&why); err != nil {
			return answer{}, err
		}
		a, err := s.cfg.Lifecycle.SetState(ctx, c.id, to, cause(c, why.Why))
		if err != nil {
			return answer{}, err
		}
		return answer{body: shown(a)}, nil
	}
}

func (s *Server) rotateAgentSecret(ctx context.Context, c call) (answer, error) { //nolint:dupl // the same done to another kind of thing
	a, version, err := s.cfg.Agents.Agent(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	secret, err := s.freshSecret(&a.Credential)
	if err != nil {
		return answer{}, err
	}
	if _, err := s.cfg.Agents.PutAgent(ctx, a, version); err != nil {
		return answer{}, err
	}
	err = s.record(ctx, c, audit.KindRegistry, "agent/"+c.id, "secret rotated")
	return answer{body: Secret{c.id, secret}}, err
}

// named settles the id of a thing that stands in the path and may stand in the body.
func named(id *string, path string) error {
	if *id != "" && *id != path {
		return invalid("the id in the body is not the one in the path")
	}
	*id = path
	return nil
}

func verb(have uint64) string {
	if have == 0 {
		return "registered"
	}
	return "changed"
}
