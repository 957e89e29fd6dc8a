package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	cedarschema "github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"obolus/oauth"
	"obolus/oauth/details"
)

// world is the part of the schema that is always the same.
const world = `// The agent that acts. Its labels are tags: principal.hasTag("tier") && principal.getTag("tier") == "gold".
// At redemption only its id is known.
entity Agent = { owner?: String, operator?: String } tags String;

// The one resource a token is for. Its labels are tags.
entity Target = { uri?: String } tags String;

// An object of authorization_details whose members nobody has declared, such as the arguments of a tool: each is a tag, a text as it is and
// anything else as JSON.
entity Values tags String;

// On whose behalf. auth_age is in seconds.
type User = { id: String, acr?: String, auth_time?: Long, auth_age?: Long };

// What the user allowed: uses is absent if it has no limit, age is in seconds. At redemption only the id is known.
type Consent = { id: String, uses?: Long, age?: Long };

// All actors; a depth of 1 is the agent alone.
type Chain = { depth: Long, agents: Set<String> };

// In UTC. weekday is "monday" to "sunday".
type Time = { now: datetime, unix: Long, hour: Long, minute: Long, weekday: String };

// All scopes, and all types of authorization_details: forbid(principal, action in Action::"detail", resource).
action "scope", "detail";
`

// facts are the members of every context. stage is "exchange" or "redeem".
const facts = `stage: String, client: String, scopes: Set<String>, detail_types: Set<String>, user: User, consent: Consent, chain: Chain, time: Time`

// anyScope stands for every scope in the schema. It has a space in it, so that it is none.
const anyScope = scopePrefix + "any scope"

// schema holds policies to the entities, actions and facts that there are.
type schema struct {
	text     string
	resolved *resolved.Schema
}

func newSchema(known *details.Registry) (*schema, error) {
	s := &schema{text: schemaText(known)}
	var parsed cedarschema.Schema
	parsed.SetFilename("obolus.cedarschema")
	err := parsed.UnmarshalCedar([]byte(s.text))
	if err == nil {
		s.resolved, err = parsed.Resolve()
	}
	return s, err
}

// Schema is the Cedar schema that policies are checked against, with the registered types of authorization_details in it. Other tools for
// Cedar can read it; it declares one action for all scopes, where a policy names any.
func (e *Engine) Schema() string { return e.schema.text }

func schemaText(known *details.Registry) string {
	var b strings.Builder
	b.WriteString(world)
	action := func(name, group, context string) {
		b.WriteString("\naction " + strconv.Quote(name) + " in [Action::" + strconv.Quote(group) + "] appliesTo {\n" +
			"  principal: Agent, resource: Target,\n  context: { " + context + " }\n};\n")
	}
	action(anyScope, "scope", facts)
	for _, name := range known.Names() {
		members, _ := known.Members(name)
		action(detailPrefix+name, "detail", facts+", detail: "+recordType(members))
	}
	return b.String()
}

func recordType(members map[string]details.Member) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		m := members[name]
		if m.Kind == details.Const {
			continue
		}
		optional := "?"
		if m.Required {
			optional = ""
		}
		parts = append(parts, strconv.Quote(name)+optional+": "+typeOf(m))
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

func typeOf(m details.Member) string {
	switch m.Kind {
	case details.Integer:
		return "Long"
	case details.Decimal:
		return "decimal"
	case details.Boolean:
		return "Bool"
	case details.StringSet:
		return "Set<String>"
	case details.Object, details.Parameters:
		if m.Members != nil {
			return recordType(m.Members)
		}
		return "Values"
	default:
		return "String"
	}
}

// check says what is wrong with a policy.
func (s *schema) check(p *ast.Policy) []string {
	with := *s.resolved
	with.Actions = maps.Clone(with.Actions)
	example := with.Actions[types.NewEntityUID(actionType, anyScope)]
	var bad []string
	for _, uid := range actionsIn(p) {
		name, isScope := strings.CutPrefix(string(uid.ID), scopePrefix)
		_, declared := with.Actions[uid]
		switch {
		case isScope && oauth.ValidScope(name):
			named := example
			named.Entity.UID = uid
			with.Actions[uid] = named
		case isScope || !declared:
			bad = append(bad, "there is no action "+uid.String()+`: actions are Action::"scope/NAME", Action::"detail/TYPE", and in Action::"scope" or Action::"detail"`)
		}
	}
	if len(bad) > 0 {
		return bad
	}
	return sentences(validate.New(&with).Policy("", p))
}

// actionsIn are the actions a policy names, in its scope and anywhere else.
func actionsIn(p *ast.Policy) []types.EntityUID {
	var found []types.EntityUID
	add := func(uid types.EntityUID) {
		if uid.Type == actionType && !slices.Contains(found, uid) {
			found = append(found, uid)
		}
	}
	switch a := p.Action.(type) {
	case ast.ScopeTypeEq:
		add(a.Entity)
	case ast.ScopeTypeIn:
		add(a.Entity)
	case ast.ScopeTypeInSet:
		for _, uid := range a.Entities {
			add(uid)
		}
	}
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				if uid, ok := v.Value.(types.EntityUID); ok {
					add(uid)
				}
			}
			return true
		})
	}
	return found
}

// sentences takes a joined error apart, each sentence once.
func sentences(err error) []string {
	if err == nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}
