package web

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/transaction"
)

// registryView is the registry as operators see it.
type registryView struct {
	Query     string
	Agents    []registered
	Clients   []registered
	Resources []registered
	More      bool
}

// registered is a line of the registry.
type registered struct {
	Path, ID, Name, Host, Note string
	State                      string
}

func (s *Server) consoleRegistry(v *visit) error {
	view := registryView{Query: v.query.Get("q")}
	list, err := s.cfg.Registry.Agents(v.ctx(), "", registryRows)
	if err != nil {
		return err
	}
	view.More = len(list) == registryRows
	for _, a := range list {
		p := agentParty(a)
		if view.finds(agentWords(a, s.stateOf(a))...) {
			view.Agents = append(view.Agents, registered{pathTo(s.base, a.ID), p.ID, p.Name, p.Host, s.noteOf(a), s.stateOf(a)})
		}
	}
	clients, err := s.cfg.Registry.Clients(v.ctx(), "", registryRows)
	if err != nil {
		return err
	}
	for _, c := range clients {
		p := clientParty(c)
		if view.finds(c.ID, c.Name) {
			view.Clients = append(view.Clients, registered{ID: p.ID, Name: p.Name, Host: p.Host, Note: string(c.Auth), State: onOff(c.Disabled)})
		}
	}
	resources, err := s.cfg.Registry.Resources(v.ctx(), "", registryRows)
	if err != nil {
		return err
	}
	for _, r := range resources {
		t := targetOf(r)
		if view.finds(r.ID, r.Name, r.URI) {
			view.Resources = append(view.Resources, registered{
				ID: visible(r.ID, 128), Name: t.Name, Host: t.URI, Note: "redemption " + string(r.Redemption), State: onOff(r.Disabled),
			})
		}
	}
	return s.show(v, http.StatusOK, "registry", "Registry", view)
}

// agentWords are the texts by which an agent is found: labels are NAME=VALUE.
func agentWords(a agents.Agent, state string) []string {
	return append([]string{a.ID, a.Name, a.Owner, a.Operator, a.Purpose, a.Model, state}, labelsOf(a)...)
}

func labelsOf(a agents.Agent) []string {
	labels := make([]string, 0, len(a.Labels))
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		labels = append(labels, name+"="+a.Labels[name])
	}
	return labels
}

// noteOf is what an operator should know of an agent in a list: whose it is, whom it hands on to, and whether somebody has to look at it.
func (s *Server) noteOf(a agents.Agent) string {
	note := visible(a.Owner, maxNameShown)
	if len(a.DelegatesTo) > 0 {
		note += " · hands on to " + visible(strings.Join(a.DelegatesTo, ", "), maxNameShown)
	}
	if a.DueAt(s.cfg.Now()) {
		note += " · has to be looked at again"
	}
	return note
}

func (r registryView) finds(words ...string) bool {
	for _, w := range words {
		if strings.Contains(strings.ToLower(w), strings.ToLower(r.Query)) {
			return true
		}
	}
	return false
}

func onOff(disabled bool) string { //nolint:revive // it names a member
	if disabled {
		return "disabled"
	}
	return "active"
}

// stateOf is the state of an agent as it counts.
func (s *Server) stateOf(a agents.Agent) string {
	if a.State == agents.Active && !a.ActiveAt(s.cfg.Now()) {
		return "expired"
	}
	return string(a.State)
}

// agentView is one agent as operators see it.
type agentView struct {
	party
	Form, Path string
	State      string
	Changed    string
	Expires    string
	Recertify  string
	Due        bool
	Auth       string
	Version    string
	Labels     []string
	Details    string
	Lifetime   string
	Rate       int
	Hands      neighbours
	Resources  []string
	Scopes     []string
	Types      []string
	Delegates  []string
	Uses       int
	Depth      int
	Deeds      []entry
	// To are the states that it can be brought to.
	To []string
}

func (s *Server) consoleAgent(v *visit) error {
	a, _, err := s.cfg.Registry.Agent(v.ctx(), v.query.Get("id"))
	if err != nil {
		return err
	}
	events, err := s.cfg.Ledger.Latest(v.ctx(), audit.Filter{Actor: a.ID, Limit: consoleRows})
	if err != nil {
		return err
	}
	view := agentView{
		party: agentParty(a), Form: v.operator.Form(formConsole), Path: pathTo(s.base, a.ID), State: s.stateOf(a), Expires: moment(a.Expires),
		Auth: string(a.Auth), Resources: shown(a.Ceiling.Resources), Scopes: shown(a.Ceiling.Scopes), Types: shown(a.Ceiling.DetailTypes),
		Delegates: shown(a.DelegatesTo), Uses: a.Ceiling.Uses, Depth: a.Ceiling.Depth, Rate: a.Ceiling.Rate,
		Recertify: moment(a.Recertify), Due: a.DueAt(s.cfg.Now()), Version: visible(a.Version, maxNameShown), Labels: shown(labelsOf(a)),
		Details: visible(string(a.Ceiling.Details), 1000),
	}
	if a.Ceiling.Lifetime > 0 {
		view.Lifetime = time.Duration(a.Ceiling.Lifetime).String()
	}
	if view.Hands, err = s.neighbours(v, a); err != nil {
		return err
	}
	if !a.Changed.At.IsZero() {
		view.Changed = visible(a.Changed.By, maxNameShown) + ", " + moment(a.Changed.At) + " " + visible(a.Changed.Why, maxTextShown)
	}
	for _, e := range events {
		view.Deeds = append(view.Deeds, entryOf(e))
	}
	switch a.State {
	case agents.Active:
		view.To = []string{string(agents.Suspended), string(agents.Retired)}
	case agents.Proposed, agents.Suspended:
		view.To = []string{string(agents.Active), string(agents.Retired)}
	case agents.Retired:
	}
	return s.show(v, http.StatusOK, "agent", "Agent "+view.Name, view)
}

func shown(list []string) []string {
	out := make([]string, len(list))
	for i, text := range list {
		out[i] = visible(text, maxTextShown)
	}
	return out
}

func (s *Server) consoleSetState(v *visit) error {
	id := v.query.Get("id")
	_, err := s.cfg.Lifecycle.SetState(v.ctx(), id, agents.State(v.field("state")), operatorCause(v))
	if err != nil {
		return err
	}
	return s.see(v, pathTo(s.base, id))
}

func operatorCause(v *visit) transaction.Cause {
	return transaction.Cause{By: operatorName, Why: visible(v.field("why"), maxTextShown), Remote: v.remote}
}

// stopView is the red button.
type stopView struct {
	Form string
	Kind string
	ID   string
	Done string
}

// stopKind is a kind of thing that the red button stops.
type stopKind struct {
	Kind  string
	Words string
}

func stopKinds() []stopKind {
	return []stopKind{
		{string(transaction.KindAgent), "An agent: suspend it"},
		{string(transaction.KindUser), "A user: end all sessions and tokens"},
		{string(transaction.KindClient), "A client: end all its tokens"},
		{string(transaction.KindGrant), "A grant: end the tokens that came of it"},
		{string(transaction.KindKey), "A key: end all tokens that it signed"},
		{string(transaction.KindTxn), "A transaction"},
		{string(transaction.KindToken), "A token, by its jti"},
	}
}

func (s *Server) stopPage(v *visit) error {
	view := stopView{Form: v.operator.Form(formConsole), Kind: v.query.Get("kind"), ID: v.query.Get("id")}
	if v.query.Has("done") {
		view.Done = "Stopped. No server accepts anything that was derived from it any more."
	}
	return s.show(v, http.StatusOK, "stop", "Stop", view)
}

// stop ends everything that was derived from a thing. An agent is suspended, so that it gets nothing new either; a user is
// signed out everywhere.
func (s *Server) stop(v *visit) error {
	kind, id, cause := transaction.Kind(v.field("kind")), strings.TrimSpace(v.field("id")), operatorCause(v)
	if id == "" {
		return refusal(http.StatusBadRequest, "It does not say what to stop")
	}
	var err error
	switch kind {
	case transaction.KindAgent:
		_, err = s.cfg.Lifecycle.SetState(v.ctx(), id, agents.Suspended, cause)
	case transaction.KindUser:
		// Users of other issuers have no account here, and are stopped all the same.
		if err = s.cfg.Users.SignOut(v.ctx(), id); err == nil || errors.Is(err, agents.ErrNotFound) {
			err = s.cfg.Lifecycle.Stop(v.ctx(), transaction.Target{Kind: kind, ID: id}, cause)
		}
	case transaction.KindClient, transaction.KindGrant, transaction.KindKey, transaction.KindToken, transaction.KindTxn:
		err = s.cfg.Lifecycle.Stop(v.ctx(), transaction.Target{Kind: kind, ID: id}, cause)
	default:
		err = transaction.ErrUnknownTarget
	}
	if err != nil {
		return err
	}
	return s.see(v, s.base+"/console/stop?done")
}
