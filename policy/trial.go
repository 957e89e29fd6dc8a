package policy

import (
	"strings"
	"time"
)

// Trial evaluates every policy of the set for an ordinary request of its own agent, target and scope, at both stages, and tells which of
// them fail: such a policy would refuse whatever it is asked about. The error is an Errors. It says nothing of what other requests do, nor
// of policies about authorization_details.
func (e *Engine) Trial(now time.Time) error {
	s := e.now.Load()
	var bad Errors
	for _, p := range s.policies {
		scope, ok := p.scopeFor()
		if !ok {
			continue
		}
		if f := p.tried(scope, now); f.Outcome == Failed {
			at := p.cedar.Position()
			bad = append(bad, Problem{
				File: at.Filename, Line: at.Line, Column: at.Column, Policy: p.name, Reason: f.Condition + " cannot be evaluated: " + f.Message,
			})
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}

// scopeFor is a scope that the policy is about, if it is about scopes.
func (p *compiled) scopeFor() (string, bool) {
	actions := actionsOf(p.source.Action)
	for _, a := range actions {
		if a == scopeGroup() {
			return "scope", true
		}
		if name, ok := strings.CutPrefix(string(a.ID), scopePrefix); ok {
			return name, true
		}
	}
	return "scope", actions == nil && !p.reads.fact("detail")
}

// tried is what becomes of the policy for an ordinary request; the first failure counts.
func (p *compiled) tried(scope string, now time.Time) Finding {
	agent, target := "agent", "target"
	if uid, ok := entityOf(p.source.Principal); ok {
		agent = string(uid.ID)
	}
	if uid, ok := entityOf(p.source.Resource); ok {
		target = string(uid.ID)
	}
	var f Finding
	for _, in := range []Input{
		{
			Stage: Exchange, ClientID: agent, Agent: Agent{ID: agent, Owner: "owner", Operator: "operator"}, Chain: []string{agent},
			User: User{ID: "user", ACR: "acr", AuthTime: now}, Target: Target{ID: target, URI: "https://target.example"},
			Consent: Consent{ID: "grant", Uses: 1, GivenAt: now},
		},
		{Stage: Redeem, Agent: Agent{ID: agent}, Chain: []string{agent}, User: User{ID: "user"}, Target: Target{ID: target}},
	} {
		in.Now, in.Scopes = now, []string{scope}
		r := ordinary(in)
		if f = p.find(r.environment(r.actions[0])); f.Outcome == Failed {
			return f
		}
	}
	return f
}

// ordinary is a request with everything in it.
func ordinary(in Input) *request {
	r, _ := read(in, nil, &reads{all: true, principal: true, resource: true}) // without details there is nothing to fail
	return r
}
