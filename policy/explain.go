package policy

import (
	"strconv"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// Outcome is what became of one policy in a decision.
type Outcome string

// The outcomes.
const (
	Elsewhere   Outcome = "elsewhere"     // it is for other agents, actions or targets
	Unsatisfied Outcome = "not satisfied" // a condition does not hold
	Satisfied   Outcome = "satisfied"
	Failed      Outcome = "failed" // it could not be evaluated, which refuses
)

// Explanation is a Decision with the reasons for it.
type Explanation struct {
	Decision
	Actions []Verdict `json:"actions,omitempty"`
}

// Verdict is the decision about one action.
type Verdict struct {
	Action   string    `json:"action"` // "scope/mail.send" or "detail/payment"
	Allowed  bool      `json:"allowed"`
	Because  string    `json:"because"` // a sentence
	Policies []Finding `json:"policies"`
}

// Finding is what one policy had to do with it.
type Finding struct {
	Policy  string  `json:"policy"`
	At      string  `json:"at"`     // file:line:column
	Effect  string  `json:"effect"` // permit or forbid
	About   string  `json:"about,omitempty"`
	Outcome Outcome `json:"outcome"`
	// Condition is the clause that did not hold or that failed: "when 1" if it is a when and the first of all clauses.
	Condition string `json:"condition,omitempty"`
	Message   string `json:"message,omitempty"` // why it failed
}

// Explain decides, and tells of every policy what became of it. It decides exactly as Decide does.
func (e *Engine) Explain(in Input) Explanation {
	s := e.now.Load()
	out := Explanation{Decision: e.decide(s, in)}
	req, err := s.request(in, e.types)
	if err != nil || req == nil {
		return out
	}
	for _, a := range req.actions {
		env := req.environment(a)
		v := Verdict{Action: string(a.uid.ID)}
		var c count
		for _, p := range s.policies {
			f := p.find(env)
			c.add(f)
			v.Policies = append(v.Policies, f)
		}
		v.Allowed, v.Because = s.conclude(c)
		out.Actions = append(out.Actions, v)
	}
	return out
}

// count is how many of the findings speak for what.
type count struct{ failed, forbid, permit int }

func (c *count) add(f Finding) {
	switch {
	case f.Outcome == Failed:
		c.failed++
	case f.Outcome == Satisfied && f.Effect == "forbid":
		c.forbid++
	case f.Outcome == Satisfied:
		c.permit++
	}
}

// conclude is the decision, and why.
func (s *set) conclude(c count) (allowed bool, because string) {
	switch {
	case c.failed > 0:
		return false, "a policy could not be evaluated"
	case c.forbid > 0:
		return false, "a policy forbids it"
	case c.permit > 0:
		return true, "a policy permits it and none forbids it"
	case s.permits:
		return false, "the set has permits, and none of them permits it"
	default:
		return true, "no policy forbids it, and the set has no permits, so that everything else is allowed"
	}
}

// find says what became of the policy.
func (p *compiled) find(env environment) Finding {
	at := p.cedar.Position()
	f := Finding{
		Policy: p.name, At: at.Filename + ":" + strconv.Itoa(at.Line) + ":" + strconv.Itoa(at.Column), Effect: "forbid",
		About: string(p.cedar.Annotations()["about"]),
	}
	if p.cedar.Effect() == cedar.Permit {
		f.Effect = "permit"
	}
	in := eval.Env{
		Entities: env.entities, Principal: env.request.Principal, Action: env.request.Action, Resource: env.request.Resource,
		Context: env.request.Context,
	}
	scope := *p.source
	scope.Conditions = nil
	if holds, _ := evaluate(eval.PolicyToNode(&scope), in); !holds {
		f.Outcome = Elsewhere
		return f
	}
	for i, c := range p.source.Conditions {
		holds, message := evaluate(ast.NewNode(c.Body), in)
		if message != "" {
			f.Outcome, f.Condition, f.Message = Failed, clause(c, i), message
			return f
		}
		if holds != bool(c.Condition) {
			f.Outcome, f.Condition = Unsatisfied, clause(c, i)
			return f
		}
	}
	f.Outcome = Satisfied
	return f
}

func clause(c ast.ConditionType, i int) string {
	if c.Condition == ast.ConditionUnless {
		return "unless " + strconv.Itoa(i+1)
	}
	return "when " + strconv.Itoa(i+1)
}

// evaluate gives the truth of a condition, or why it has none.
func evaluate(n ast.Node, env eval.Env) (holds bool, failure string) {
	v, err := eval.Eval(n.AsIsNode(), env)
	if err != nil {
		return false, err.Error()
	}
	return v == cedar.True, ""
}
