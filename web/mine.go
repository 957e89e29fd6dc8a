package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/transaction"
)

const (
	deedsRead  = 300 // events of a user's that are looked through
	deedsShown = 8   // of one agent
)

// mineView is a user's own page: which agents may do what, what each did lately, and how to stop it.
type mineView struct {
	Form, Path string
	Stopped    string // what was stopped by the button just now
	Active     []mineAgent
	Ended      []mineAgent
}

// mineAgent is one agent as its user sees it.
type mineAgent struct {
	party
	Raw    string // its id, for the form
	keys   string // what its users trust it by, now
	Note   string // why it does nothing at the moment
	Live   []mineGrant
	Over   []mineGrant
	Deeds  []deed
	Newest time.Time
	Stop   bool // there is something to stop
}

// mineGrant is what an agent may do at one resource.
type mineGrant struct {
	ID      string
	Target  target
	Words   []string
	Details []choice
	Uses    string
	Until   string
	Left    string
	Given   string
	End     string // how it ended
}

// deed is one thing that an agent did.
type deed struct {
	When    string
	What    string
	Refused bool
}

func (s *Server) minePage(v *visit) error {
	if !v.signedIn {
		return s.toSignIn(v, home)
	}
	grants, err := s.cfg.Consents.GrantsOf(v.ctx(), v.session.User)
	if err != nil {
		return err
	}
	events, err := s.cfg.Ledger.Latest(v.ctx(), audit.Filter{User: v.session.User, Limit: deedsRead})
	if err != nil {
		return err
	}
	known := s.registry(v.ctx())
	found := map[string]*mineAgent{}
	for _, g := range grants {
		a, err := known.mine(found, g.Agent)
		if err != nil {
			return err
		}
		if err := s.addGrant(a, g, known); err != nil {
			return err
		}
	}
	for _, e := range events {
		if a := found[e.Actor]; a != nil && len(a.Deeds) < deedsShown {
			if d, ok := known.deed(e, s.cfg.Now()); ok {
				a.Deeds = append(a.Deeds, d)
			}
		}
	}
	view := mineView{Form: v.session.Form(formMine), Path: s.base + home, Stopped: stopped(v.query.Get("stopped"), grants, found)}
	for _, a := range found {
		if len(a.Live) > 0 || a.Stop {
			view.Active = append(view.Active, *a)
		} else {
			view.Ended = append(view.Ended, *a)
		}
	}
	newestFirst := func(a, b mineAgent) int { return cmp.Or(b.Newest.Compare(a.Newest), cmp.Compare(a.Raw, b.Raw)) }
	slices.SortFunc(view.Active, newestFirst)
	slices.SortFunc(view.Ended, newestFirst)
	return s.show(v, http.StatusOK, "mine", "Your agents", view)
}

// stopped is the name of the agent that a button has stopped, altogether or at one resource, if the grants bear that out: anybody can
// make a link that says so.
func stopped(what string, grants []consent.Drawn, found map[string]*mineAgent) string {
	name := ""
	for _, g := range grants {
		if g.ID != what && g.Agent != what {
			continue
		}
		if g.Withdrawn.IsZero() && g.ID == what || found[g.Agent].Stop && g.Agent == what {
			return ""
		}
		name = found[g.Agent].Name
	}
	return name
}

// addGrant puts a grant where its user looks for it.
func (s *Server) addGrant(a *mineAgent, g consent.Drawn, known *registry) error {
	res, err := known.resource(g.Target)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	shown := mineGrant{
		ID: g.ID, Target: targetOf(res), Words: scopeWords(g.Scopes, res), Details: s.detailChoices(g.Details),
		Uses: usesLeft(g), Given: moment(g.Created), Until: moment(g.Expires),
	}
	if g.Created.After(a.Newest) {
		a.Newest = g.Created
	}
	a.Stop = a.Stop || g.LiveAt(now)
	switch {
	case !g.Withdrawn.IsZero() && g.By == g.User:
		shown.End = "you stopped it " + ago(g.Withdrawn, now)
	case !g.Withdrawn.IsZero():
		shown.End = "an operator stopped it " + ago(g.Withdrawn, now)
	case !now.Before(g.Expires):
		shown.End = "it ran out " + ago(g.Expires, now)
	case g.AgentKeys != a.keys:
		shown.End = "void: the agent has changed its keys or its owner, and must ask again"
	case g.Exhausted():
		shown.End = "used up " + ago(g.LastUsed, now)
	default:
		shown.Left = until(g.Expires, now)
		a.Live = append(a.Live, shown)
		return nil
	}
	a.Over = append(a.Over, shown)
	return nil
}

func usesLeft(g consent.Drawn) string {
	switch g.Uses {
	case 0:
		return "Any number of times"
	case 1:
		return "Once"
	default:
		return fmt.Sprintf("%d of %d times left", max(g.Uses-g.Used, 0), g.Uses)
	}
}

// mineStop stops one grant, or everything of an agent.
func (s *Server) mineStop(v *visit) error {
	if !v.signedIn {
		return s.toSignIn(v, home)
	}
	if err := v.checkForm(v.session, formMine); err != nil {
		return err
	}
	user, grant, agent := v.session.User, v.field("grant"), v.field("agent")
	cause := transaction.Cause{By: user, Why: "by the user's own page", Remote: v.remote}
	var err error
	switch {
	case grant != "" && agent == "":
		err = s.cfg.Lifecycle.Withdraw(v.ctx(), s.cfg.Consents, user, grant, cause)
	case agent != "" && grant == "":
		err = s.cfg.Lifecycle.WithdrawAll(v.ctx(), s.cfg.Consents, user, agent, cause)
	default:
		err = refusal(http.StatusBadRequest, "It does not say what to stop")
	}
	if err != nil {
		return err
	}
	return s.see(v, s.base+home+"?"+url.Values{"stopped": {grant + agent}}.Encode())
}

// registry reads each registration once for a page.
type registry struct {
	ctx       context.Context //nolint:containedctx // it lives as long as the request whose context it is
	from      *agents.Registry
	resources map[string]agents.Resource
	now       time.Time
}

func (s *Server) registry(ctx context.Context) *registry {
	return &registry{ctx: ctx, from: s.cfg.Registry, resources: map[string]agents.Resource{}, now: s.cfg.Now()}
}

// resource finds a resource by its id or URI; one that is gone has nothing but the name it was looked for by.
func (r *registry) resource(name string) (agents.Resource, error) {
	if res, ok := r.resources[name]; ok {
		return res, nil
	}
	res, err := r.from.ResourceAt(r.ctx, name)
	if errors.Is(err, agents.ErrNotFound) {
		res, err = agents.Resource{ID: name}, nil
	}
	if err == nil {
		r.resources[name] = res
	}
	return res, err
}

// mine finds an agent among those of a page, or adds it.
func (r *registry) mine(found map[string]*mineAgent, id string) (*mineAgent, error) {
	if a := found[id]; a != nil {
		return a, nil
	}
	a := &mineAgent{Raw: id}
	reg, _, err := r.from.Agent(r.ctx, id)
	switch {
	case errors.Is(err, agents.ErrNotFound):
		a.party, a.Note = party{ID: visible(id, 128), Name: visible(id, maxNameShown)}, "This agent is no longer registered."
	case err != nil:
		return nil, err
	default:
		a.party, a.keys = agentParty(reg), reg.Fingerprint()
		if !reg.ActiveAt(r.now) {
			a.Note = "This agent is switched off by the operators."
		}
	}
	found[id] = a
	return a, nil
}

// deed tells an event in words, if it is one for the user's eyes.
func (r *registry) deed(e audit.Event, now time.Time) (deed, bool) {
	res, err := r.resource(cmp.Or(e.Target, "-"))
	if err != nil {
		return deed{}, false
	}
	at := targetOf(res).Name
	d := deed{When: ago(e.At, now), Refused: !e.Allowed}
	switch {
	case e.Kind == audit.KindExchange && e.Allowed:
		d.What = "Got a pass for one transaction at " + at
		if e.JTI != "" && e.Txn == "" {
			d.What = "Got a pass for " + at
		}
	case e.Kind == audit.KindExchange:
		d.What = "Was refused a pass for " + at
	case e.Kind == audit.KindRedeem && e.Allowed:
		d.What = "Carried out a transaction at " + at
	case e.Kind == audit.KindRedeem:
		d.What = "Was turned away at " + at
	case e.Kind == audit.KindAsk:
		d.What, d.Refused = "Asked you about "+at, false
	case e.Kind == audit.KindConsent && e.Allowed:
		d.What = "You said yes for " + at
	case e.Kind == audit.KindConsent:
		d.What = "You said no for " + at
	case e.Kind == audit.KindWithdraw:
		d.What, d.Refused = "Was stopped at "+at, true
	default:
		return deed{}, false
	}
	return d, true
}
