package policy

import (
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// index finds the policies that Cedar has to be asked about. It leaves out only those whose scope cannot match and those whose
// conditions certainly do not hold: neither could decide or fail.
type index struct {
	free     lists // whose conditions are the same for all actions of a request
	bound    lists // whose conditions are not
	byAction map[cedar.EntityUID][]*compiled
	operands []operand
}

type lists struct {
	everywhere              []*compiled
	byPrincipal, byResource map[string][]*compiled
	gates                   []*gate // what would be everywhere
	byGate                  map[string]*gate
}

func newIndex(policies []*compiled) index {
	u := understanding{slots: make(map[string]int)}
	x := index{free: newLists(), bound: newLists(), byAction: make(map[cedar.EntityUID][]*compiled)}
	for _, p := range policies {
		p.when = u.conditions(p.source)
		x.operands = u.operands
		x.add(p)
	}
	return x
}

func newLists() lists {
	return lists{byPrincipal: make(map[string][]*compiled), byResource: make(map[string][]*compiled), byGate: make(map[string]*gate)}
}

func (x *index) add(p *compiled) {
	principal, onePrincipal := entityOf(p.source.Principal)
	resource, oneResource := entityOf(p.source.Resource)
	actions := actionsOf(p.source.Action)
	in := &x.free
	if p.reads.action {
		in = &x.bound
	}
	switch {
	case actions != nil:
		for _, a := range actions {
			x.byAction[a] = append(x.byAction[a], p)
		}
	case onePrincipal:
		in.byPrincipal[string(principal.ID)] = append(in.byPrincipal[string(principal.ID)], p)
	case oneResource:
		in.byResource[string(resource.ID)] = append(in.byResource[string(resource.ID)], p)
	default:
		in.addAnywhere(p, x.operands)
	}
}

// addAnywhere adds a policy that is for all agents and targets.
func (l *lists) addAnywhere(p *compiled, operands []operand) {
	g, word, ok := gateOf(p.when, operands)
	if !ok {
		l.everywhere = append(l.everywhere, p)
		return
	}
	name := g.name()
	if have, known := l.byGate[name]; known {
		g = have
	} else {
		l.byGate[name], l.gates = g, append(l.gates, g)
	}
	g.byWord[""], g.byWord[word] = append(g.byWord[""], p), append(g.byWord[word], p)
}

// entityOf is the one agent or target that a scope is for. Neither has parents, so being in one is being it.
func entityOf(scope ast.IsScopeNode) (cedar.EntityUID, bool) {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return s.Entity, true
	case ast.ScopeTypeIn:
		return s.Entity, true
	case ast.ScopeTypeIsIn:
		return s.Entity, true
	default:
		return cedar.EntityUID{}, false
	}
}

// actionsOf are the actions and groups that a scope is for; nil: all.
func actionsOf(scope ast.IsActionScopeNode) []cedar.EntityUID {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeIn:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeInSet:
		return s.Entities
	default:
		return nil
	}
}

// candidates are the policies that Cedar is asked about.
type candidates []*compiled

// forRequest are those that are the same for all actions of a request.
func (x *index) forRequest(r *request) candidates {
	m := newMemory(x.operands, r.environment(r.actions[0]))
	return x.left(nil, m, x.free.lists(r, m))
}

// forAction adds to them those for one action.
func (x *index) forAction(shared candidates, r *request, a action) candidates {
	m := newMemory(x.operands, r.environment(a))
	return x.left(slices.Clip(shared), m, append(x.bound.lists(r, m), x.byAction[a.uid], x.byAction[a.group]))
}

func (l *lists) lists(r *request, m *memory) [][]*compiled {
	from := [][]*compiled{l.everywhere, l.byPrincipal[r.agent], l.byResource[r.target]}
	for _, g := range l.gates {
		from = append(from, g.open(m))
	}
	return from
}

// left adds what is left of some lists when those are passed over whose conditions do not hold.
func (x *index) left(to candidates, m *memory, from [][]*compiled) candidates {
	for _, list := range from {
		for _, p := range list {
			if !p.when.eval(m).never() {
				to = append(to, p)
			}
		}
	}
	return to
}

// All makes candidates a cedar.PolicyIterator.
func (c candidates) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i := 0; i < len(c) && yield(cedar.PolicyID(c[i].name), c[i].cedar); i++ { // yield is all there is to do
		}
	}
}
