package web

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"obolus/agents"
	"obolus/policy"
)

// trialView is a request that nobody made, put to the guardrails in force.
type trialView struct {
	Agent, User, Resource, Scopes, Details string
	Flaw                                   flaw
	Asked                                  bool
	Allowed                                bool
	Errors                                 []string
	Verdicts                               []verdictView
}

// verdictView is what the guardrails say of one thing that was asked for.
type verdictView struct {
	Action, Because string
	Allowed         bool
	Findings        []findingView
}

// findingView is what became of one guardrail.
type findingView struct{ Name, About, Effect, Outcome, At string }

// trial asks the guardrails what they would say, if the query puts a request together. It changes nothing and issues nothing: the ceiling of
// the agent and the consent of the user, which come before the guardrails, are not looked at. The user has signed in and allowed it just now.
func (s *Server) trial(v *visit) (*trialView, error) {
	if s.cfg.Explain == nil {
		return nil, nil //nolint:nilnil // there is nothing to try
	}
	q := func(name string) string { return strings.TrimSpace(v.query.Get(name)) }
	t := &trialView{Agent: q("agent"), User: q("user"), Resource: q("resource"), Scopes: q("scope"), Details: q("details"), Asked: v.query.Has("agent")}
	if !t.Asked {
		return t, nil
	}
	in, err := s.supposed(v, t)
	if f, ok := errors.AsType[*flaw](err); ok {
		t.Flaw = *f
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	why := s.cfg.Explain(in)
	t.Allowed, t.Errors = why.Allowed, shown(why.Errors)
	for _, verdict := range why.Actions {
		seen := verdictView{Action: visible(verdict.Action, maxTextShown), Because: verdict.Because, Allowed: verdict.Allowed}
		for _, f := range verdict.Policies {
			seen.Findings = append(seen.Findings, findingView{
				visible(f.Policy, maxTextShown), visible(f.About, maxTextShown), f.Effect,
				visible(strings.TrimSpace(string(f.Outcome)+" "+f.Condition+" "+f.Message), maxTextShown), visible(f.At, maxTextShown),
			})
		}
		// What speaks for something comes before what is for others.
		slices.SortStableFunc(seen.Findings, func(a, b findingView) int { return rank(a) - rank(b) })
		t.Verdicts = append(t.Verdicts, seen)
	}
	return t, nil
}

func rank(f findingView) int {
	if f.Outcome == string(policy.Elsewhere) {
		return 1
	}
	return 0
}

// supposed is the request, with what the registry has of its agent and its resource. The error may be a flaw of the form.
func (s *Server) supposed(v *visit, t *trialView) (policy.Input, error) {
	in := policy.Input{
		Stage: policy.Exchange, ClientID: t.Agent, Scopes: strings.Fields(t.Scopes), Now: s.cfg.Now(), Chain: []string{t.Agent},
		User:    policy.User{ID: t.User, AuthTime: s.cfg.Now()},
		Consent: policy.Consent{Uses: 1, GivenAt: s.cfg.Now()},
	}
	a, _, err := s.cfg.Registry.Agent(v.ctx(), t.Agent)
	if errors.Is(err, agents.ErrNotFound) {
		return in, &flaw{"agent", "there is no agent of that id"}
	}
	if err != nil {
		return in, err
	}
	in.Agent = policy.Agent{ID: a.ID, Owner: a.Owner, Operator: a.Operator, Labels: a.Labels}
	res, err := s.cfg.Registry.ResourceAt(v.ctx(), t.Resource)
	if errors.Is(err, agents.ErrNotFound) {
		return in, &flaw{"resource", "there is no resource of that id or address"}
	}
	if err != nil {
		return in, err
	}
	in.Target = policy.Target{ID: res.ID, URI: res.URI, Labels: res.Labels}
	if t.Details != "" {
		set, err := s.cfg.Details.Parse([]byte(t.Details))
		if err != nil {
			return in, &flaw{"details", visible("the details cannot be read: "+err.Error(), maxTextShown)}
		}
		if err := json.Unmarshal(set.JSON(), &in.Details); err != nil {
			return in, err
		}
	}
	if len(in.Scopes)+len(in.Details) == 0 {
		return in, &flaw{"scope", "it asks for nothing: a scope or details"}
	}
	return in, nil
}
