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
	e := &Engine{types: types, schema: s}
	return e, errors.Join(err, e.Load(nil))
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

// Shut makes every decision a refusal, and why its error, until a set is loaded: for a server that knows that others decide by a set which
// it cannot load itself.
func (e *Engine) Shut(why string) { e.now.Store(&set{shut: why}) }

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
func (e *Engine) Decide(in Input) Decision { return e.decide(e.now.Load(), in) }

func (e *Engine) decide(s *set, in Input) Decision {
	out := Decision{Version: s.version}
	req, err := s.request(in, e.types)
	if err != nil {
		out.Errors = []string{err.Error()}
		return out
	}
	out.Allowed = true
	if len(s.policies) == 0 {
		return out
	}
	var permitted, against []int
	shared := s.index.forRequest(req)
	for _, a := range req.actions {
		v := s.judge(s.index.forAction(shared, req, a), req.environment(a))
		permitted, against = append(permitted, v.permitted...), append(against, v.against...)
		out.Errors = append(out.Errors, v.errors...)
		out.Allowed = out.Allowed && v.allowed
	}
	if out.Allowed {
		out.Policies = s.names(permitted)
	} else {
		out.Policies = s.names(against)
	}
	return out
}

// request is what the set has to see of an Input: nothing, if there are no policies.
func (s *set) request(in Input, known *details.Registry) (*request, error) {
	if s.shut != "" {
		return nil, errors.New(s.shut)
	}
	if err := in.check(); err != nil || len(s.policies) == 0 {
		return nil, err
	}
	return read(in, known, &s.reads)
}

// verdict is about one action; policies are told by their order in the set.
type verdict struct {
	allowed   bool
	permitted []int
	against   []int // those that forbid and those that failed
	errors    []string
}

func (s *set) judge(policies candidates, env environment) verdict {
	decision, diagnostic := cedar.Authorize(policies, env.entities, env.request)
	var v verdict
	for _, bad := range diagnostic.Errors {
		v.against = append(v.against, s.byName[bad.PolicyID])
		v.errors = append(v.errors, string(bad.PolicyID)+": "+bad.Message)
	}
	forbidden := false
	for _, reason := range diagnostic.Reasons {
		if decision == cedar.Allow {
			v.permitted = append(v.permitted, s.byName[reason.PolicyID])
		} else {
			v.against, forbidden = append(v.against, s.byName[reason.PolicyID]), true
		}
	}
	v.allowed = len(v.errors) == 0 && (decision == cedar.Allow || !s.permits && !forbidden)
	return v
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
