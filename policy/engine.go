package policy

import (
	"errors"
	"slices"
	"sync/atomic"

	"github.com/cedar-policy/cedar-go"

	"obolus/oauth/details"
)

// Engine decides by the set that was loaded last. It is safe for concurrent use.
type Engine struct {
	types  *details.Registry
	schema *schema
	now    atomic.Pointer[set]
}

// New makes an Engine with an empty set. The registry says what authorization_details look like in a context.
func New(types *details.Registry) (*Engine, error) {
	if types == nil {
		return nil, errors.New("policy: there is no registry of authorization details")
	}
	s, err := newSchema(types)
	if err != nil {
		return nil, err
	}
	e := &Engine{types: types, schema: s}
	return e, e.Load(nil)
}

// Load compiles the files into a set and decides by it from then on. If anything is wrong with any of them the set in force stays, and
// the error, an Errors, says what and where.
func (e *Engine) Load(files []File) error {
	s, err := compile(files, e.schema)
	if err != nil {
		return err
	}
	e.now.Store(s)
	return nil
}

// Draft makes a second Engine with another set, to be tested, explained or replayed against this one.
func (e *Engine) Draft(files []File) (*Engine, error) {
	d := &Engine{types: e.types, schema: e.schema}
	return d, d.Load(files)
}

// Version names the set in force: a hash of the names and texts of its files.
func (e *Engine) Version() string { return e.now.Load().version }

// Files are those of the set in force, in the order of their names.
func (e *Engine) Files() []File { return slices.Clone(e.now.Load().files) }

// Names are the policies of the set in force, in order.
func (e *Engine) Names() []string {
	var names []string
	for _, p := range e.now.Load().policies {
		names = append(names, p.name)
	}
	return names
}

// Decide says whether the guardrails let a request through. Anything that keeps it from deciding is a refusal.
func (e *Engine) Decide(in Input) Decision {
	s := e.now.Load()
	out := Decision{Version: s.version}
	req, err := read(in, e.types)
	if err != nil {
		out.Errors = []string{err.Error()}
		return out
	}
	out.Allowed = true
	var permitted, against []int
	for _, a := range req.actions {
		decision, diagnostic := cedar.Authorize(s.candidates(req, a), req.entities(a), req.cedar(a))
		for _, bad := range diagnostic.Errors {
			against = append(against, s.byName[bad.PolicyID])
			out.Errors = append(out.Errors, string(bad.PolicyID)+": "+bad.Message)
		}
		deciders := &permitted
		if decision == cedar.Deny {
			deciders = &against
		}
		for _, reason := range diagnostic.Reasons {
			if reason.PolicyID != builtin {
				*deciders = append(*deciders, s.byName[reason.PolicyID])
			}
		}
		out.Allowed = out.Allowed && decision == cedar.Allow && len(diagnostic.Errors) == 0
	}
	if out.Allowed {
		out.Policies = s.names(permitted)
	} else {
		out.Policies = s.names(against)
	}
	return out
}

// names are those of policies, each once, in the order of the set.
func (s *set) names(orders []int) []string {
	slices.Sort(orders)
	var out []string
	for _, i := range slices.Compact(orders) {
		out = append(out, s.policies[i].name)
	}
	return out
}
