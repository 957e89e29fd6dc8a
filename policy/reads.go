package policy

import (
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// reads is what the conditions of a policy, or of all policies of a set, look at. Nothing else need be there when they are decided.
type reads struct {
	action              bool            // the action, or what only one action's context has
	principal, resource bool            // more than who and where: attributes and tags
	facts               map[string]bool // members of the context by name
	all                 bool            // the context as a whole
	wrong               []string        // sentences about comparisons that are never true
}

// fact says whether a member of the context is looked at.
func (r *reads) fact(name string) bool { return r.all || r.facts[name] }

// join adds what another policy looks at.
func (r *reads) join(p reads) {
	r.principal, r.resource, r.all = r.principal || p.principal, r.resource || p.resource, r.all || p.all
	maps.Copy(r.facts, p.facts)
}

func readsOf(p *ast.Policy) reads {
	r := reads{facts: make(map[string]bool)}
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), r.visit)
	}
	return r
}

func (r *reads) visit(n ast.IsNode) bool {
	switch n := n.(type) {
	case ast.NodeTypeAccess:
		return r.member(n.StrOpNode)
	case ast.NodeTypeHas:
		return r.member(n.StrOpNode)
	case ast.NodeTypeVariable:
		r.action = r.action || n.Name == "action" || n.Name == "context"
		r.principal = r.principal || n.Name == "principal"
		r.resource = r.resource || n.Name == "resource"
		r.all = r.all || n.Name == "context"
	case ast.NodeTypeEquals:
		r.words(n.BinaryNode)
	case ast.NodeTypeNotEquals:
		r.words(n.BinaryNode)
	}
	return true
}

// member notes context.NAME, and says whether to look further down.
func (r *reads) member(n ast.StrOpNode) bool {
	if v, ok := n.Arg.(ast.NodeTypeVariable); !ok || v.Name != "context" {
		return true
	}
	r.action = r.action || n.Value == "detail"
	r.facts[string(n.Value)] = true
	return false
}

// words catches misspelt words where there are only a few: a guardrail that compares with one never holds.
func (r *reads) words(n ast.BinaryNode) {
	for _, pair := range [][2]ast.IsNode{{n.Left, n.Right}, {n.Right, n.Left}} {
		v, isValue := pair[1].(ast.NodeValue)
		o, isOperand := operandOf(pair[0])
		if !isValue || !isOperand {
			continue
		}
		if few := wordsOf(o.key()); few != nil && !slices.ContainsFunc(few, func(w string) bool { return v.Value.Equal(cedar.String(w)) }) {
			r.wrong = append(r.wrong, o.key()+" is never "+string(v.Value.MarshalCedar()))
		}
	}
}

func wordsOf(operand string) []string {
	switch operand {
	case `context."stage"`:
		return []string{string(Exchange), string(Redeem)}
	case `context."time"."weekday"`:
		return []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	default:
		return nil
	}
}
