package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"obolus/admin"
	"obolus/agents"
	"obolus/oauth"
)

// AgentCommand is `obolus agent`.
type AgentCommand struct {
	Connection

	List      AgentList    `cmd:"" help:"List agents."`
	Show      AgentShow    `cmd:"" help:"Show one agent."`
	Add       AgentAdd     `cmd:"" help:"Register an agent."`
	Edit      AgentEdit    `cmd:"" help:"Change what is registered of an agent."`
	Suspend   AgentSuspend `cmd:"" help:"Stop an agent, and everything that came of it, until it is resumed."`
	Resume    AgentResume  `cmd:"" help:"Let a proposed or suspended agent act."`
	Retire    AgentRetire  `cmd:"" help:"Stop an agent for good."`
	RotateKey AgentRotate  `cmd:"" help:"Give an agent another key, or another secret."`
	Remove    AgentRemove  `cmd:"" help:"Stop an agent and take it out of the registry."`
}

// Help teaches by example.
func (AgentCommand) Help() string {
	return `Examples:

  obolus agent list
  obolus agent add mailer --name "Mail helper" --owner team-mail --new-key mailer.pem --resource mail --scope mail.read
  obolus agent edit mailer --scope mail.read --scope mail.send
  obolus agent suspend mailer --why "it sends too much"`
}

// AgentList is `obolus agent list`.
type AgentList struct {
	search
	State string `enum:",proposed,active,suspended,retired" default:"" help:"Only those in this state: proposed, active, suspended or retired." placeholder:"STATE"`
	Owner string `help:"Only those of this owner." placeholder:"WHO"`
	Label string `help:"Only those with this label." placeholder:"NAME[=VALUE]"`
	Due   bool   `help:"Only those that are over, or that somebody has to look at again."`
}

// Help teaches by example.
func (AgentList) Help() string {
	return `Examples:

  obolus agent list
  obolus agent list -q mail --state suspended
  obolus agent list --owner team-mail --label tier=gold
  obolus agent list --due
  obolus agent list --json`
}

// Run prints the agents.
func (c *AgentList) Run(ctx context.Context, s *Session) error {
	q := c.values()
	for name, value := range map[string]string{"state": c.State, "owner": c.Owner, "label": c.Label} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if c.Due {
		q.Set("due", "true")
	}
	all := admin.AgentList{Agents: []agents.Agent{}}
	err := pages(ctx, s, "/agents", q, c.Limit, func(p admin.AgentList) (string, int) {
		all.Agents = append(all.Agents, p.Agents...)
		return p.Next, len(p.Agents)
	})
	if err != nil {
		return err
	}
	return s.print(all, func(w io.Writer) {
		row(w, "ID", "NAME", "STATE", "OWNER", "RESOURCES", "SCOPES", "HANDS ON TO")
		for _, a := range all.Agents {
			row(w, a.ID, a.Name, a.State, a.Owner, strings.Join(a.Ceiling.Resources, " "), strings.Join(a.Ceiling.Scopes, " "), strings.Join(a.DelegatesTo, " "))
		}
	})
}

// AgentShow is `obolus agent show`.
type AgentShow struct {
	ID string `arg:"" help:"The agent's id."`
}

// Help teaches by example.
func (AgentShow) Help() string {
	return "Examples:\n\n  obolus agent show mailer\n  obolus agent show mailer --json"
}

// Run prints the agent.
func (c *AgentShow) Run(ctx context.Context, s *Session) error {
	a, _, err := get[agents.Agent](ctx, s, admin.Path("agents", c.ID))
	if err != nil {
		return err
	}
	if s.json {
		return s.print(a, nil)
	}
	around, _, err := get[agents.Delegations](ctx, s, admin.Path("agents", c.ID, "delegations"))
	if err != nil {
		return err
	}
	return s.printAgent(a, &around)
}

// printAgent shows a registration, and with it who may hand on to whom, if that was looked up.
func (s *Session) printAgent(a agents.Agent, around *agents.Delegations) error {
	return s.print(a, func(w io.Writer) {
		row(w, "id", a.ID)
		row(w, "name", a.Name)
		row(w, "state", a.State)
		pair(w, "changed", strings.TrimSpace(clock(a.Changed.At)+" by "+a.Changed.By+" "+a.Changed.Why))
		pair(w, "description", a.Description)
		pair(w, "purpose", a.Purpose)
		pair(w, "owner", a.Owner)
		pair(w, "contact", a.Contact)
		pair(w, "operator", a.Operator)
		pair(w, "model", strings.TrimSpace(a.Model+" "+a.Version))
		pair(w, "homepage", a.Homepage)
		for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
			row(w, "label", name+"="+a.Labels[name])
		}
		printCredential(w, a.Credential)
		row(w, "resources", strings.Join(a.Ceiling.Resources, " "))
		row(w, "scopes", strings.Join(a.Ceiling.Scopes, " "))
		pair(w, "details types", strings.Join(a.Ceiling.DetailTypes, " "))
		pair(w, "details", string(a.Ceiling.Details))
		if a.Ceiling.Lifetime > 0 {
			row(w, "lifetime", time.Duration(a.Ceiling.Lifetime))
		}
		pair(w, "uses", a.Ceiling.Uses)
		pair(w, "depth", a.Ceiling.Depth)
		pair(w, "a minute", a.Ceiling.Rate)
		pair(w, "default resource", a.Default)
		pair(w, "hands on to", strings.Join(a.DelegatesTo, " "))
		pair(w, "expires", clock(a.Expires))
		pair(w, "look again by", clock(a.Recertify))
		if around != nil {
			printAround(w, *around)
		}
	})
}

// printAround draws who may hand on to whom: those before the agent, and those after it as a tree.
func printAround(w io.Writer, d agents.Delegations) {
	pair(w, "comes from", strings.Join(d.From, " "))
	been := map[string]bool{d.Agent: true}
	var below func(agent, indent string)
	below = func(agent, indent string) {
		for _, h := range d.Hands {
			if h.From != agent {
				continue
			}
			again := been[h.To]
			mark := ""
			if again {
				mark = " (see above)"
			}
			row(w, "", indent+"→ "+h.To+mark)
			been[h.To] = true
			if !again {
				below(h.To, indent+"  ")
			}
		}
	}
	below(d.Agent, "")
	if d.More {
		row(w, "", "… and more than can be looked through")
	}
}

func printCredential(w io.Writer, c agents.Credential) {
	row(w, "authenticates by", c.Auth)
	pair(w, "keys at", c.JWKSURI)
	pair(w, "keys", strings.Join(keyNames(c.JWKS), " "))
	pair(w, "dpop", c.DPoP)
	printIdentity(w, c)
}

// profile is what can be said of an agent. Nil is left as it is.
type profile struct {
	Name        *string  `help:"What people read." placeholder:"TEXT"`
	Description *string  `help:"What it does." placeholder:"TEXT"`
	Purpose     *string  `help:"What it is for." placeholder:"TEXT"`
	Owner       *string  `help:"Who answers for it." placeholder:"WHO"`
	Contact     *string  `help:"How to reach the owner." placeholder:"TEXT"`
	Operator    *string  `help:"Who runs it." placeholder:"WHO"`
	Model       *string  `help:"What it runs on." placeholder:"TEXT"`
	Version     *string  `help:"Of the agent." placeholder:"TEXT"`
	Homepage    *string  `help:"Where to read about it." placeholder:"URL"`
	Label       []string `help:"A label for guardrails and searches; again for each." placeholder:"NAME=VALUE" sep:"none"`
	Resource    []string `help:"A resource it may reach; again for each." placeholder:"ID" sep:"none"`
	Scope       []string `help:"A scope it may get; again for each." placeholder:"SCOPE" sep:"none"`
	DetailsType []string `help:"A type of authorization_details it may ask for; again for each." placeholder:"TYPE" sep:"none"`

	Details         *string        `help:"The widest authorization_details it may get; @FILE reads them." placeholder:"JSON"`
	Lifetime        *time.Duration `help:"The longest a token of it lives." placeholder:"DURATION"`
	Uses            *int           `help:"The most transactions one consent pays for; 0: no limit." placeholder:"N"`
	Depth           *int           `help:"The longest chain of actors; 0: the server's limit." placeholder:"N"`
	Rate            *int           `help:"The most exchanges in a minute; 0: no limit." placeholder:"N"`
	DefaultResource *string        `help:"The resource meant when a request names none." placeholder:"ID"`
	DelegatesTo     []string       `help:"An agent it may hand on to; again for each." placeholder:"ID" sep:"none"`
	DPoP            *bool          `help:"Demand proof of a key with every request (RFC 9449)." name:"dpop" negatable:""`

	Expires   *string `help:"It may not act from then on: a time, how long from now, or never." placeholder:"WHEN"`
	Recertify *string `help:"Somebody has to look at the registration again then: a time, how long from now, or never." placeholder:"WHEN"`
}

func set[T any](into *T, v *T) {
	if v != nil {
		*into = *v
	}
}

// apply puts what was said into a registration. A list that is given replaces the whole list; one empty text is an empty list.
func (p profile) apply(a *agents.Agent, now time.Time) error {
	for _, t := range []struct{ into, said *string }{
		{&a.Name, p.Name},
		{&a.Description, p.Description},
		{&a.Purpose, p.Purpose},
		{&a.Owner, p.Owner},
		{&a.Contact, p.Contact},
		{&a.Operator, p.Operator},
		{&a.Model, p.Model},
		{&a.Version, p.Version},
		{&a.Homepage, p.Homepage},
		{&a.Default, p.DefaultResource},
	} {
		set(t.into, t.said)
	}
	for _, l := range []struct {
		into *[]string
		said []string
	}{
		{&a.Ceiling.Resources, p.Resource}, {&a.Ceiling.Scopes, p.Scope}, {&a.Ceiling.DetailTypes, p.DetailsType}, {&a.DelegatesTo, p.DelegatesTo},
	} {
		if l.said != nil {
			*l.into = slices.DeleteFunc(slices.Clone(l.said), func(s string) bool { return s == "" })
		}
	}
	if p.Lifetime != nil {
		a.Ceiling.Lifetime = agents.Duration(*p.Lifetime)
	}
	set(&a.Ceiling.Uses, p.Uses)
	set(&a.Ceiling.Depth, p.Depth)
	set(&a.Ceiling.Rate, p.Rate)
	set(&a.DPoP, p.DPoP)
	return errors.Join(p.labels(a), p.details(a), moment(&a.Expires, p.Expires, now), moment(&a.Recertify, p.Recertify, now))
}

func (p profile) labels(a *agents.Agent) error {
	if p.Label == nil {
		return nil
	}
	a.Labels = map[string]string{}
	for _, l := range p.Label {
		name, value, ok := strings.Cut(l, "=")
		if l == "" {
			continue
		}
		if !ok || name == "" {
			return usage("--label %q is no NAME=VALUE", l)
		}
		a.Labels[name] = value
	}
	return nil
}

func (p profile) details(a *agents.Agent) error {
	if p.Details == nil {
		return nil
	}
	text := []byte(*p.Details)
	if name, ok := strings.CutPrefix(*p.Details, "@"); ok {
		var err error
		if text, err = os.ReadFile(name); err != nil { //nolint:gosec // the operator says which file
			return err
		}
	}
	if len(text) > 0 && !json.Valid(text) {
		return usage("--details is no JSON")
	}
	a.Ceiling.Details = text
	return nil
}

// moment reads a time, or how long from now, or never.
func moment(into *time.Time, said *string, now time.Time) error {
	if said == nil {
		return nil
	}
	if *said == "never" {
		*into = time.Time{}
		return nil
	}
	if ahead, ok := duration(*said); ok {
		*into = now.Add(ahead).UTC().Truncate(time.Second)
		return nil
	}
	t, ok := timeOf(*said)
	if !ok {
		return usage("%q is neither a time like 2030-01-02T15:04:05Z nor a duration like 90d nor never", *said)
	}
	*into = t.UTC()
	return nil
}

// AgentAdd is `obolus agent add`.
type AgentAdd struct {
	ID string `arg:"" help:"The agent's id; also its client_id and the sub of its act claim."`
	profile
	credential
	Proposed bool `help:"Register it without letting it act yet."`
}

// Help teaches by example.
func (AgentAdd) Help() string {
	return `Examples:

  obolus agent add mailer --name "Mail helper" --new-key mailer.pem --resource mail --scope mail.read
  obolus agent add payer --name Payer --key-file payer.pub --resource bank --details-type payment --uses 1 --dpop
  obolus agent add planner --name Planner --jwks-uri https://planner.example.com/jwks.json --resource mail --scope mail.read
  obolus agent add pod --name Pod --workload-issuer https://cluster.example.com --workload-subject system:serviceaccount:mail:pod
  obolus agent add mesh --name Mesh --spiffe-id spiffe://example.org/ns/mail/sa/mesh --dpop`
}

// Run registers the agent.
func (c *AgentAdd) Run(ctx context.Context, s *Session) error {
	a := agents.Agent{ID: c.ID, State: agents.Active}
	if c.Proposed {
		a.State = agents.Proposed
	}
	if err := c.profile.apply(&a, s.Now()); err != nil {
		return err
	}
	if a.Name == "" {
		a.Name = a.ID
	}
	if err := c.credential.apply(&a.Credential, oauth.AuthPrivateKeyJWT); err != nil {
		return err
	}
	var done admin.AgentAnswer
	_, err := s.api.Do(ctx, admin.Call{Method: http.MethodPut, Path: admin.Path("agents", c.ID), Body: a}, &done)
	if err != nil {
		return c.refused(taken(err, "agent", c.ID))
	}
	if s.json {
		return s.print(done, nil)
	}
	s.say("Registered the agent %s.", c.ID)
	c.tell(s, done.Secret)
	return s.mindCeiling(ctx, done.Agent)
}

// AgentEdit is `obolus agent edit`.
type AgentEdit struct {
	ID string `arg:"" help:"The agent's id."`
	profile
}

// Help teaches by example.
func (AgentEdit) Help() string {
	return `A list that is given replaces the whole list, and an empty text empties it; what is not given stays as it is. Another owner or operator
means that users are asked again.

Examples:

  obolus agent edit mailer --scope mail.read --scope mail.send
  obolus agent edit mailer --lifetime 30s --uses 10 --rate 60
  obolus agent edit mailer --label tier=gold --expires 90d --recertify 2030-01-01
  obolus agent edit mailer --delegates-to ""
  obolus agent edit mailer --no-dpop`
}

// Run changes the agent.
func (c *AgentEdit) Run(ctx context.Context, s *Session) error {
	path := admin.Path("agents", c.ID)
	a, tag, err := get[agents.Agent](ctx, s, path)
	if err != nil {
		return err
	}
	if err := c.apply(&a, s.Now()); err != nil {
		return err
	}
	var done admin.AgentAnswer
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodPut, Path: path, Body: a, Match: tag}, &done); err != nil {
		return err
	}
	return errors.Join(s.printAgent(done.Agent, nil), s.mindCeiling(ctx, done.Agent))
}

// agentState is what the commands have in common that move an agent to another state.
type agentState struct {
	ID  string `arg:"" help:"The agent's id."`
	Why string `help:"For the ledger." placeholder:"TEXT"`
}

// AgentSuspend is `obolus agent suspend`.
type AgentSuspend struct{ agentState }

// Help teaches by example.
func (AgentSuspend) Help() string {
	return `When this answers, no server accepts a token or a request of the agent any more.

Examples:

  obolus agent suspend mailer --why "it sends too much"`
}

// AgentResume is `obolus agent resume`.
type AgentResume struct{ agentState }

// Help teaches by example.
func (AgentResume) Help() string {
	return `Tokens from before it was suspended stay worthless. What users allowed is as it was.

Examples:

  obolus agent resume mailer --why "fixed in 1.4"`
}

// AgentRetire is `obolus agent retire`.
type AgentRetire struct{ agentState }

// Help teaches by example.
func (AgentRetire) Help() string {
	return `When this answers, no server accepts a token or a request of the agent any more, and it cannot be resumed. It stays in the registry.

Examples:

  obolus agent retire mailer --why "replaced by mailer-2"`
}

// Run moves the agent; which way is the name of the command.
func (c *agentState) Run(ctx context.Context, s *Session, name CommandName) error {
	var a agents.Agent
	call, began := admin.Call{Method: http.MethodPost, Path: admin.Path("agents", c.ID, string(name)), Body: admin.Why{Why: c.Why}}, s.Now()
	if _, err := s.api.Do(ctx, call, &a); err != nil {
		return err
	}
	if s.json {
		return s.print(a, nil)
	}
	s.say("The agent %s is %s on every server, acknowledged after %s.", a.ID, a.State, s.Now().Sub(began).Round(time.Millisecond))
	return nil
}

// CommandName is the last word of the command that runs.
type CommandName string

// AgentRotate is `obolus agent rotate-key`.
type AgentRotate struct {
	ID   string `arg:"" help:"The agent's id."`
	Drop bool   `help:"Do not accept the old keys any more."`
	credential
}

// Help teaches by example.
func (AgentRotate) Help() string {
	return `The old keys stay good beside the new one until --drop says otherwise. Users are asked again: they trusted the agent by its keys.

Examples:

  obolus agent rotate-key mailer --new-key mailer-2.pem
  obolus agent rotate-key mailer --key-file mailer-2.pub --drop
  obolus agent rotate-key old-mailer`
}

// Run changes the agent's credential.
func (c *AgentRotate) Run(ctx context.Context, s *Session) error {
	path := admin.Path("agents", c.ID)
	a, tag, err := get[agents.Agent](ctx, s, path)
	if err != nil {
		return err
	}
	if a.Auth == oauth.AuthSecretBasic || a.Auth == oauth.AuthSecretPost {
		return s.rotateSecret(ctx, path)
	}
	before := a.JWKS
	if err := c.apply(&a.Credential, a.Auth); err != nil {
		return err
	}
	if !c.Drop && len(a.JWKS) > 0 {
		if a.JWKS, err = mergeKeys(a.JWKS, before); err != nil {
			return err
		}
	}
	var done admin.AgentAnswer
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodPut, Path: path, Body: a, Match: tag}, &done); err != nil {
		return err
	}
	if s.json {
		return s.print(done, nil)
	}
	s.say("The agent %s has the keys %s.", c.ID, strings.Join(keyNames(done.JWKS), " "))
	c.tell(s, "")
	return nil
}

func (s *Session) rotateSecret(ctx context.Context, path string) error {
	var fresh admin.Secret
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodPost, Path: path + "/rotate-secret"}, &fresh); err != nil {
		return err
	}
	return s.print(fresh, func(w io.Writer) {
		fmt.Fprintf(w, "The new secret of %s, shown once:\n\n  %s\n", fresh.ID, fresh.Secret)
	})
}

// AgentRemove is `obolus agent remove`.
type AgentRemove struct {
	ID  string `arg:"" help:"The agent's id."`
	Yes bool   `help:"Do not ask." short:"y"`
}

// Help teaches by example.
func (AgentRemove) Help() string {
	return "Nobody can come back under the id of an agent that was removed.\n\nExamples:\n\n  obolus agent remove mailer\n  obolus agent remove mailer --yes"
}

// Run removes the agent.
func (c *AgentRemove) Run(ctx context.Context, s *Session) error {
	if err := s.confirm(c.Yes, "The agent "+c.ID+" ends now, and its id is used up for good."); err != nil {
		return err
	}
	if err := s.do(ctx, http.MethodDelete, admin.Path("agents", c.ID), nil); err != nil {
		return err
	}
	s.say("Removed the agent %s.", c.ID)
	return nil
}

// taken makes the API's wish for a condition into what it means here.
func taken(err error, kind, id string) error {
	p, told := errors.AsType[*admin.Problem](err)
	if !told || p.Status != http.StatusPreconditionRequired {
		return err
	}
	text := "the %s %s is registered already"
	if kind != "user" {
		text += "; `obolus %[1]s show %[2]s` prints it"
	}
	return &admin.Problem{Status: http.StatusConflict, Code: admin.CodeConflict, Detail: fmt.Sprintf(text, kind, id)}
}
