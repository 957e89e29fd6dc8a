package policy

import (
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
)

// gate is in front of policies whose conditions begin alike: with things that must be there, and then one text that must be equal to a word of
// each. As a rule those are labels. One look tells which word it is, and so which of the policies are left, of however many.
type gate struct {
	there  []flag // all of them are known in every decision: see always
	slot   int
	byWord map[types.String][]*compiled // under the empty word, which no policy has: all of them
}

// gateOf reads the gate that a condition begins with, and the policy's own word.
func gateOf(e expr, operands []operand) (*gate, types.String, bool) {
	g := &gate{byWord: make(map[types.String][]*compiled)}
	for _, part := range conjuncts(e, nil) {
		switch part := part.(type) {
		case truth:
		case flag:
			if !operands[part.slot].always() {
				return nil, "", false
			}
			g.there = append(g.there, part)
		case same:
			g.slot = part.slot
			return g, part.word, true
		default:
			return nil, "", false
		}
	}
	return nil, "", false
}

// always says that an operand has a value in every decision: whether agent, target or context have something.
func (o operand) always() bool {
	return len(o.steps) == 1 && slices.Contains([]stepKind{has, hasTag}, o.steps[0].kind)
}

// conjuncts are the parts of an and, in the order in which Cedar looks at them.
func conjuncts(e expr, to []expr) []expr {
	if both, ok := e.(and); ok {
		return conjuncts(both.right, conjuncts(both.left, to))
	}
	return append(to, e)
}

// name is equal for gates that are looked at in the same way.
func (g *gate) name() string { return fmt.Sprint(g.there, g.slot) }

// open gives the policies whose conditions may hold or fail: those of the word that is there; all of them, if there is none.
func (g *gate) open(m *memory) []*compiled {
	for _, f := range g.there {
		if f.eval(m).never() {
			return nil
		}
	}
	v, _ := m.value(g.slot)     // what is not there is no text
	word, _ := v.(types.String) // nor is anything else
	return g.byWord[word]
}
