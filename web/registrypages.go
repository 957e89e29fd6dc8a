package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/transaction"
)

// registryView is the registry as operators see it: everything that is found, or with a kind one page of that.
type registryView struct {
	Query, State, Kind string
	States             []string
	Sections           []section
}

// section is a page of one kind of things.
type section struct {
	Kind, Title string
	Rows        []registered
	Next        string // where the next page is; empty: there is none
	Empty       string // why there is nothing
}

// registered is a line of the registry.
type registered struct {
	Path, ID, Name, Host, Note string
	State                      string
}

func (s *Server) consoleRegistry(v *visit) error {
	view := registryView{
		Query: strings.TrimSpace(v.query.Get("q")), State: v.query.Get("state"), Kind: v.query.Get("kind"),
		States: []string{"active", "proposed", "suspended", "retired", "expired", "due"},
	}
	for _, one := range []struct {
		kind, title string
		page        func(*visit, registryView) (rows []registered, next string, err error)
	}{
		{"agents", "Agents", s.agentRows}, {"resources", "Resources", s.resourceRows}, {"clients", "Clients", s.clientRows},
	} {
		if view.Kind != "" && view.Kind != one.kind || view.State != "" && one.kind != "agents" {
			continue
		}
		rows, next, err := one.page(v, view)
		if err != nil {
			return err
		}
		part := section{Kind: one.kind, Title: one.title, Rows: rows, Empty: view.empty(one.kind)}
		if next != "" {
			part.Next = s.base + "/console/registry?" + url.Values{"kind": {one.kind}, "q": {view.Query}, "state": {view.State}, "after": {next}}.Encode()
		}
		view.Sections = append(view.Sections, part)
	}
	return s.show(v, http.StatusOK, "registry", "Registry", view)
}

// empty says why a page has nothing on it.
func (r registryView) empty(kind string) string {
	switch {
	case r.Query != "" || r.State != "":
		return "None here that is so. The search looks for a part of the id, the name, the owner, the purpose or a label."
	case kind == "agents":
		return "No agent is registered yet: obolus agent add registers one."
	case kind == "resources":
		return "No resource is registered yet: obolus resource add registers one."
	default:
		return "None."
	}
}

// agentRows are the agents that are looked for. The one whose id was typed is there at once, however many there are.
func (s *Server) agentRows(v *visit, r registryView) ([]registered, string, error) {
	row := func(a agents.Agent) registered {
		p := agentParty(a)
		return registered{pathTo(s.base, a.ID), p.ID, p.Name, p.Host, s.noteOf(a), s.stateOf(a)}
	}
	wanted := func(a agents.Agent) bool {
		state := s.stateOf(a)
		return (r.State == "" || r.State == state || r.State == "due" && a.DueAt(s.cfg.Now())) && r.finds(agentWords(a, state)...)
	}
	after := v.query.Get("after")
	exact, _, err := s.cfg.Registry.Agent(v.ctx(), r.Query)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return nil, "", err
	}
	list, next, err := shelf[agents.Agent]{
		list: s.cfg.Registry.Agents, id: func(a agents.Agent) string { return a.ID },
		keep: func(a agents.Agent) bool { return a.ID != exact.ID && wanted(a) },
	}.walk(v.ctx(), after)
	var rows []registered
	if exact.ID != "" && after == "" && wanted(exact) {
		rows = append(rows, row(exact))
	}
	for _, a := range list {
		rows = append(rows, row(a))
	}
	return rows, next, err
}

func (s *Server) resourceRows(v *visit, r registryView) ([]registered, string, error) {
	list, next, err := shelf[agents.Resource]{
		list: s.cfg.Registry.Resources, id: func(a agents.Resource) string { return a.ID },
		keep: func(a agents.Resource) bool { return r.finds(a.ID, a.Name, a.URI) },
	}.walk(v.ctx(), v.query.Get("after"))
	var rows []registered
	for _, one := range list {
		t := targetOf(one)
		rows = append(rows, registered{
			ID: visible(one.ID, 128), Name: t.Name, Host: t.URI, Note: "redemption " + string(one.Redemption), State: onOff(one.Disabled),
		})
	}
	return rows, next, err
}

func (s *Server) clientRows(v *visit, r registryView) ([]registered, string, error) {
	list, next, err := shelf[agents.Client]{
		list: s.cfg.Registry.Clients, id: func(a agents.Client) string { return a.ID },
		keep: func(a agents.Client) bool { return r.finds(a.ID, a.Name) },
	}.walk(v.ctx(), v.query.Get("after"))
	var rows []registered
	for _, one := range list {
		p := clientParty(one)
		rows = append(rows, registered{ID: p.ID, Name: p.Name, Host: p.Host, Note: string(one.Auth), State: onOff(one.Disabled)})
	}
	return rows, next, err
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
	Keys       []string // by which it proves itself
	Seen       string   // when it last asked for something
	Version    string
	Labels     []string
	Details    string
	Lifetime   string
	Rate       int
	Hands      neighbours
	Resources  []string
	Scopes     []string
	Types      []string
	Uses       int
	Depth      int
	Allowed    []running
	Deeds      []entry
	Since      *since // nil: it is not stopped
	// To are the states that it can be brought to.
	To []string
}

// running is something that a user has allowed an agent, or has been asked.
type running struct {
	User, Target, Scope, Until string
	Asked                      bool
}

const agentEvents = 300 // of an agent's that are looked through

func (s *Server) consoleAgent(v *visit) error {
	a, _, err := s.cfg.Registry.Agent(v.ctx(), v.query.Get("id"))
	if err != nil {
		return err
	}
	events, err := s.cfg.Ledger.Latest(v.ctx(), audit.Filter{Actor: a.ID, Limit: agentEvents})
	if err != nil {
		return err
	}
	view := agentView{
		party: agentParty(a), Form: v.operator.Form(formConsole), Path: pathTo(s.base, a.ID), State: s.stateOf(a), Expires: moment(a.Expires),
		Auth: string(a.Auth), Keys: keysOf(a.Credential), Resources: shown(a.Ceiling.Resources), Scopes: shown(a.Ceiling.Scopes), Types: shown(a.Ceiling.DetailTypes),
		Uses: a.Ceiling.Uses, Depth: a.Ceiling.Depth, Rate: a.Ceiling.Rate,
		Recertify: moment(a.Recertify), Due: a.DueAt(s.cfg.Now()), Version: visible(a.Version, maxNameShown), Labels: shown(labelsOf(a)),
		Details: visible(string(a.Ceiling.Details), 1000), To: next(a.State),
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
	s.lately(&view, events)
	if a.State != agents.Active {
		if view.Since, err = s.sinceStop(v, transaction.Target{Kind: transaction.KindAgent, ID: a.ID}, a.Changed.At); err != nil {
			return err
		}
	}
	return s.show(v, http.StatusOK, "agent", "Agent "+view.Name, view)
}

// next are the states that an agent can be brought to, the first one by the large button.
func next(from agents.State) []string {
	switch from {
	case agents.Active:
		return []string{string(agents.Suspended), string(agents.Retired)}
	case agents.Proposed, agents.Suspended:
		return []string{string(agents.Active), string(agents.Retired)}
	default:
		return nil
	}
}

// lately fills in what the newest events of an agent tell: what it did, when it was last seen, what it was allowed and what it waits for.
func (s *Server) lately(view *agentView, events []audit.Event) {
	now, over := s.cfg.Now(), map[string]bool{}
	for _, e := range events { // the newest first: what ended a thing is seen before it
		if len(view.Deeds) < consoleRows {
			view.Deeds = append(view.Deeds, entryOf(e))
		}
		if view.Seen == "" && (e.Kind == audit.KindExchange || e.Kind == audit.KindRedeem) {
			view.Seen = ago(e.At, now)
		}
		allowed := e.Kind == audit.KindConsent && e.Allowed && now.Before(e.Expires) && !over[e.Grant]
		asked := e.Kind == audit.KindExchange && e.Error == oauth.InteractionRequired && now.Sub(e.At) < askedLately && !over[e.Interaction]
		if (allowed || asked) && len(view.Allowed) < consoleRows {
			view.Allowed = append(view.Allowed, running{
				visible(e.User, maxNameShown), visible(e.Target, maxTextShown), visible(cmp.Or(e.GrantedScope, e.AskedScope), maxTextShown), moment(e.Expires), asked,
			})
		}
		for _, done := range []string{e.Interaction, e.Grant} {
			over[done] = over[done] || done != "" && (e.Kind == audit.KindConsent || e.Kind == audit.KindWithdraw || asked)
		}
	}
}

// askedLately is for how long a question is shown that nobody has answered.
const askedLately = 10 * time.Minute

// keysOf names what a client proves itself by: the ids of its keys, or where they are, or who vouches for it. Never a secret.
func keysOf(c agents.Credential) []string {
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	var names []string
	if len(c.JWKS) > 0 && json.Unmarshal(c.JWKS, &set) == nil {
		for _, key := range set.Keys {
			names = append(names, cmp.Or(key.ID, "a key without an id"))
		}
	}
	for _, name := range []string{c.JWKSURI, c.DN, c.DNS, c.URI, c.IP, c.Email, c.SPIFFE} {
		if name != "" {
			names = append(names, name)
		}
	}
	if f := c.Federated; f != nil {
		names = append(names, strings.TrimSpace(f.Issuer+" "+f.Subject))
	}
	return shown(names)
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
	Form  string
	Kind  string
	ID    string
	Since *since // what came of it; nil: nothing was stopped
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

func (s *Server) stopPage(v *visit) (err error) {
	view := stopView{Form: v.operator.Form(formConsole), Kind: v.query.Get("kind"), ID: v.query.Get("id")}
	if v.query.Has("done") {
		thing := transaction.Target{Kind: transaction.Kind(view.Kind), ID: view.ID}
		if view.Since, err = s.sinceStop(v, thing, time.Time{}); err != nil {
			return err
		}
	}
	return s.show(v, http.StatusOK, "stop", "Stop", view)
}

// stop ends everything that was derived from a thing. An agent is suspended, so that it gets nothing new either; a user is
// signed out everywhere.
func (s *Server) stop(v *visit) error {
	thing, cause := transaction.Target{Kind: transaction.Kind(v.field("kind")), ID: strings.TrimSpace(v.field("id"))}, operatorCause(v)
	if thing.ID == "" {
		return refusal(http.StatusBadRequest, "It does not say what to stop")
	}
	var err error
	switch thing.Kind {
	case transaction.KindAgent:
		_, err = s.cfg.Lifecycle.SetState(v.ctx(), thing.ID, agents.Suspended, cause)
	case transaction.KindUser:
		// Users of other issuers have no account here, and are stopped all the same.
		if err = s.cfg.Users.SignOut(v.ctx(), thing.ID); err == nil || errors.Is(err, agents.ErrNotFound) {
			err = s.cfg.Lifecycle.Stop(v.ctx(), thing, cause)
		}
	case transaction.KindClient, transaction.KindGrant, transaction.KindKey, transaction.KindToken, transaction.KindTxn:
		err = s.cfg.Lifecycle.Stop(v.ctx(), thing, cause)
	default:
		err = transaction.ErrUnknownTarget
	}
	if err != nil {
		return err
	}
	return s.see(v, s.stoppedPath(thing))
}
