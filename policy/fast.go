package policy

import (
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Most policies of a large set have nothing to say about a request, and asking Cedar about each of them costs more than all the rest of a
// decision. So a policy's conditions are also kept as an expr, which knows the simple comparisons and is unsure about everything
// else. What an expr says is no, Cedar would too, and without an error; only then is the policy passed over. The tests
// hold the two against each other.

// answer is what an expr says. What is not known may also be an error.
type answer struct{ known, holds bool }

// never says that a condition does not hold and cannot fail.
func (a answer) never() bool { return a.known && !a.holds }

// always says that it holds and cannot fail.
func (a answer) always() bool { return a.known && a.holds }

// expr is a condition, or the part of it that is understood.
type expr interface{ eval(*memory) answer }

// relation says whether it holds of a value, and whether it can be asked of it at all.
type relation func(types.Value) (holds, asked bool)

// not, and, or follow Cedar: the left side first, and if that is not known, neither is the whole.
type (
	not   struct{ of expr }
	and   struct{ left, right expr }
	or    struct{ left, right expr }
	huh   struct{} // not understood
	truth struct{}
	test  struct {
		slot int
		is   relation
	}
	same struct { // the commonest test
		slot int
		word types.String
	}
	flag struct{ slot int } // a boolean by itself: principal.hasTag("tier")
)

func (huh) eval(*memory) answer { return answer{} }

func (truth) eval(*memory) answer { return answer{known: true, holds: true} }

func (e not) eval(m *memory) answer {
	a := e.of.eval(m)
	return answer{known: a.known, holds: !a.holds}
}

func (e and) eval(m *memory) answer {
	if left := e.left.eval(m); !left.always() {
		return left
	}
	return e.right.eval(m)
}

func (e or) eval(m *memory) answer {
	if left := e.left.eval(m); !left.never() {
		return left
	}
	return e.right.eval(m)
}

func (e test) eval(m *memory) (a answer) {
	if v, ok := m.value(e.slot); ok {
		a.holds, a.known = e.is(v)
	}
	return a
}

func (e same) eval(m *memory) answer {
	v, ok := m.value(e.slot)
	return answer{known: ok, holds: v == types.Value(e.word)}
}

func (e flag) eval(m *memory) answer {
	v, ok := m.value(e.slot)
	b, isBoolean := v.(types.Boolean)
	return answer{known: ok && isBoolean, holds: bool(b)}
}

// memory holds what the operands of a set are in one decision, each found once.
type memory struct {
	operands []operand
	env      environment
	found    []finding
}

type finding struct {
	value     types.Value
	ok, known bool
}

func newMemory(operands []operand, env environment) *memory {
	return &memory{operands: operands, env: env, found: make([]finding, len(operands))}
}

func (m *memory) value(slot int) (types.Value, bool) {
	f := &m.found[slot]
	if !f.known {
		f.value, f.ok = m.operands[slot].value(m.env)
		f.known = true
	}
	return f.value, f.ok
}

// environment is what variables stand for.
type environment struct {
	request  cedar.Request
	entities entities
}

// operand is a variable and a path from it: context.time.hour, principal.getTag("tier"), context has detail.
type operand struct {
	variable string
	steps    []step
}

type step struct {
	kind stepKind
	name types.String
}

type stepKind string

const (
	access stepKind = "."
	has    stepKind = " has "
	getTag stepKind = ".getTag "
	hasTag stepKind = ".hasTag "
)

// key is equal for equal operands.
func (o operand) key() string {
	var b strings.Builder
	b.WriteString(o.variable)
	for _, s := range o.steps {
		b.WriteString(string(s.kind) + strconv.Quote(string(s.name)))
	}
	return b.String()
}

// operandOf reads an operand, if the node is one.
func operandOf(n ast.IsNode) (operand, bool) {
	var inner ast.IsNode
	var s step
	switch n := n.(type) {
	case ast.NodeTypeVariable:
		return operand{variable: string(n.Name)}, true
	case ast.NodeTypeAccess:
		inner, s = n.Arg, step{access, n.Value}
	case ast.NodeTypeHas:
		inner, s = n.Arg, step{has, n.Value}
	case ast.NodeTypeGetTag:
		inner, s = n.Left, step{getTag, word(n.Right)}
	case ast.NodeTypeHasTag:
		inner, s = n.Left, step{hasTag, word(n.Right)}
	default:
		return operand{}, false
	}
	o, ok := operandOf(inner)
	o.steps = append(o.steps, s)
	return o, ok && s.name != ""
}

// word is a string that stands in the policy; anything else is none.
func word(n ast.IsNode) types.String {
	v, _ := n.(ast.NodeValue)      // none
	s, _ := v.Value.(types.String) // none
	return s
}

// value finds what the operand is. What Cedar would call an error is not found.
func (o operand) value(env environment) (types.Value, bool) {
	var v types.Value
	switch o.variable {
	case "principal":
		v = env.request.Principal
	case "action":
		v = env.request.Action
	case "resource":
		v = env.request.Resource
	default:
		v = env.request.Context
	}
	found := true
	for _, s := range o.steps {
		var ok bool
		v, ok = s.value(v, env)
		found = found && ok
	}
	return v, found
}

func (s step) value(of types.Value, env environment) (types.Value, bool) {
	attributes, ok := of.(types.Record)
	var tags types.Record
	if uid, isEntity := of.(types.EntityUID); isEntity {
		var e cedar.Entity
		e, ok = env.entities.Get(uid)
		attributes, tags = e.Attributes, e.Tags
	}
	from := attributes
	if s.kind == getTag || s.kind == hasTag {
		from = tags
	}
	v, there := from.Get(s.name)
	if s.kind == has || s.kind == hasTag {
		return types.Boolean(there), ok
	}
	return v, ok && there
}

// understanding turns conditions into exprs, and numbers the operands that it meets.
type understanding struct {
	operands []operand
	slots    map[string]int
}

// conditions are those of a policy as one expr.
func (u *understanding) conditions(p *ast.Policy) expr {
	var whole expr = truth{}
	for _, c := range p.Conditions {
		e := u.expr(c.Body)
		if c.Condition == ast.ConditionUnless {
			e = not{e}
		}
		whole = and{whole, e}
	}
	return whole
}

func (u *understanding) expr(n ast.IsNode) expr {
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		return and{u.expr(n.Left), u.expr(n.Right)}
	case ast.NodeTypeOr:
		return or{u.expr(n.Left), u.expr(n.Right)}
	case ast.NodeTypeNot:
		return not{u.expr(n.Arg)}
	case ast.NodeTypeEquals:
		return u.equals(n.BinaryNode)
	case ast.NodeTypeNotEquals:
		return not{u.equals(n.BinaryNode)}
	case ast.NodeTypeLessThan:
		return u.compare(n.BinaryNode, isLess)
	case ast.NodeTypeGreaterThan:
		return u.compare(n.BinaryNode, isGreater)
	case ast.NodeTypeLessThanOrEqual:
		return not{u.compare(n.BinaryNode, isGreater)}
	case ast.NodeTypeGreaterThanOrEqual:
		return not{u.compare(n.BinaryNode, isLess)}
	case ast.NodeTypeExtensionCall:
		return u.decimal(n)
	case ast.NodeTypeContains:
		return u.contains(n.BinaryNode)
	case ast.NodeTypeLike:
		return u.test(n.Arg, func(v types.Value) (bool, bool) {
			s, ok := v.(types.String)
			return n.Value.Match(s), ok
		})
	default:
		if slot, simple := u.slot(n); simple {
			return flag{slot}
		}
		return huh{}
	}
}

// test is about an operand; what is none is not understood.
func (u *understanding) test(n ast.IsNode, is relation) expr {
	slot, simple := u.slot(n)
	if !simple {
		return huh{}
	}
	return test{slot, is}
}

func (u *understanding) slot(n ast.IsNode) (int, bool) {
	o, simple := operandOf(n)
	if !simple {
		return 0, false
	}
	key := o.key()
	slot, known := u.slots[key]
	if !known {
		slot = len(u.operands)
		u.operands = append(u.operands, o)
		u.slots[key] = slot
	}
	return slot, true
}

// equals is compare, with a short way for texts.
func (u *understanding) equals(n ast.BinaryNode) expr {
	if slot, simple := u.slot(n.Left); simple && word(n.Right) != "" {
		return same{slot, word(n.Right)}
	}
	return u.compare(n, func(a, b types.Value) (bool, bool) { return a.Equal(b), true })
}

// compare is for an operand on the left and a value on the right.
func (u *understanding) compare(n ast.BinaryNode, is func(a, b types.Value) (bool, bool)) expr {
	v, ok := n.Right.(ast.NodeValue)
	if !ok {
		return huh{}
	}
	want := v.Value
	return u.test(n.Left, func(have types.Value) (bool, bool) { return is(have, want) })
}

func isLess(a, b types.Value) (holds, asked bool) {
	x, isLong := a.(types.Long)
	y, areLongs := b.(types.Long)
	return x < y, isLong && areLongs
}

func isGreater(a, b types.Value) (holds, asked bool) { return isLess(b, a) }

// decimal understands OPERAND.greaterThan(decimal("1.0")) and the like.
func (u *understanding) decimal(n ast.NodeTypeExtensionCall) expr {
	if len(n.Args) != 2 {
		return huh{}
	}
	want, ok := decimalIn(n.Args[1])
	if !ok {
		return huh{}
	}
	against := func(holds func(int) bool) expr {
		return u.test(n.Args[0], func(v types.Value) (bool, bool) {
			d, ok := v.(types.Decimal)
			return holds(d.Compare(want)), ok
		})
	}
	switch n.Name {
	case "lessThan":
		return against(func(c int) bool { return c < 0 })
	case "lessThanOrEqual":
		return against(func(c int) bool { return c <= 0 })
	case "greaterThan":
		return against(func(c int) bool { return c > 0 })
	default: // greaterThanOrEqual: no other method takes a decimal
		return against(func(c int) bool { return c >= 0 })
	}
}

func decimalIn(n ast.IsNode) (types.Decimal, bool) {
	call, ok := n.(ast.NodeTypeExtensionCall)
	if !ok || call.Name != "decimal" {
		return types.Decimal{}, false
	}
	d, err := types.ParseDecimal(string(word(call.Args[0])))
	return d, err == nil
}

// contains understands OPERAND.contains("value") and ["value", …].contains(OPERAND).
func (u *understanding) contains(n ast.BinaryNode) expr {
	if v, ok := n.Right.(ast.NodeValue); ok {
		want := v.Value
		return u.test(n.Left, func(have types.Value) (bool, bool) {
			set, ok := have.(types.Set)
			return set.Contains(want), ok
		})
	}
	set, ok := setIn(n.Left)
	if !ok {
		return huh{}
	}
	return u.test(n.Right, func(have types.Value) (bool, bool) { return set.Contains(have), true })
}

func setIn(n ast.IsNode) (types.Set, bool) {
	literal, ok := n.(ast.NodeTypeSet)
	values := make([]types.Value, 0, len(literal.Elements))
	for _, e := range literal.Elements {
		v, plain := e.(ast.NodeValue)
		if !plain {
			return types.Set{}, false
		}
		values = append(values, v.Value)
	}
	return types.NewSet(values...), ok
}
