package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"obolus/oauth/details"
)

// The names of the schema.
const (
	agentType  = cedar.EntityType("Agent")
	targetType = cedar.EntityType("Target")
	actionType = cedar.EntityType("Action")
	valuesType = cedar.EntityType("Values")

	scopePrefix  = "scope/"
	detailPrefix = "detail/"
)

func scopeGroup() cedar.EntityUID  { return cedar.NewEntityUID(actionType, "scope") }
func detailGroup() cedar.EntityUID { return cedar.NewEntityUID(actionType, "detail") }

// request is an Input in Cedar's terms.
type request struct {
	agent, target string
	principal     cedar.Entity
	resource      cedar.Entity
	actions       []action
}

// action is one of the decisions that a request is made of.
type action struct {
	uid     cedar.EntityUID
	group   cedar.EntityUID
	context cedar.Record
	values  cedar.EntityMap // what the context refers to; nil: nothing
}

// check says why no decision can be made about an Input, if so.
func (in Input) check() error {
	switch {
	case in.Stage != Exchange && in.Stage != Redeem:
		return errors.New("the stage is neither exchange nor redeem")
	case in.Agent.ID == "" || in.Target.ID == "" || in.Now.IsZero():
		return errors.New("the agent, the target or the time is missing")
	case len(in.Scopes) == 0 && len(in.Details) == 0:
		return errors.New("there is neither a scope nor a detail to decide about")
	default:
		return nil
	}
}

// read turns an Input into a request with everything in it that may be looked at, or says why no decision can be made about it.
func read(in Input, known *details.Registry, need *reads) (*request, error) {
	set, err := readDetails(in.Details, known)
	if err != nil {
		return nil, err
	}
	r := &request{
		agent: in.Agent.ID, target: in.Target.ID,
		principal: cedar.Entity{UID: cedar.NewEntityUID(agentType, cedar.String(in.Agent.ID))},
		resource:  cedar.Entity{UID: cedar.NewEntityUID(targetType, cedar.String(in.Target.ID))},
	}
	if need.principal {
		r.principal.Attributes = cedar.NewRecord(texts("owner", in.Agent.Owner, "operator", in.Agent.Operator))
		r.principal.Tags = tags(in.Agent.Labels)
	}
	if need.resource {
		r.resource.Attributes, r.resource.Tags = cedar.NewRecord(texts("uri", in.Target.URI)), tags(in.Target.Labels)
	}
	facts := factsOf(in, set, need)
	context := cedar.NewRecord(facts)
	for _, s := range in.Scopes {
		r.actions = append(r.actions, action{uid: cedar.NewEntityUID(actionType, cedar.String(scopePrefix+s)), group: scopeGroup(), context: context})
	}
	for _, e := range set.Entries() {
		a := action{uid: cedar.NewEntityUID(actionType, cedar.String(detailPrefix+e.Type())), group: detailGroup(), context: context}
		if need.fact("detail") {
			a = a.about(e, facts, known)
		}
		r.actions = append(r.actions, a)
	}
	return r, nil
}

func readDetails(list []json.RawMessage, known *details.Registry) (details.Set, error) {
	if len(list) == 0 {
		return details.Set{}, nil
	}
	array := append(append([]byte{'['}, bytes.Join(anyBytes(list), []byte{','})...), ']')
	set, err := known.Parse(array)
	if err != nil {
		return set, errors.New("authorization_details: " + err.Error())
	}
	return set, nil
}

func anyBytes(list []json.RawMessage) [][]byte {
	out := make([][]byte, 0, len(list))
	for _, one := range list {
		out = append(out, one)
	}
	return out
}

// factsOf is the part of the context that all actions share, as far as it is looked at.
func factsOf(in Input, set details.Set, need *reads) cedar.RecordMap {
	facts := make(cedar.RecordMap)
	for name, value := range map[string]func() cedar.Value{
		"stage":        func() cedar.Value { return cedar.String(in.Stage) },
		"client":       func() cedar.Value { return cedar.String(in.ClientID) },
		"scopes":       func() cedar.Value { return strs(in.Scopes) },
		"detail_types": func() cedar.Value { return strs(set.Types()) },
		"user":         func() cedar.Value { return in.User.value(in.Now) },
		"consent":      func() cedar.Value { return in.Consent.value(in.Now) },
		"time":         func() cedar.Value { return timeOf(in.Now.UTC()) },
		"chain": func() cedar.Value {
			return cedar.NewRecord(cedar.RecordMap{"depth": cedar.Long(len(in.Chain)), "agents": strs(in.Chain)})
		},
	} {
		if need.fact(name) {
			facts[cedar.String(name)] = value()
		}
	}
	return facts
}

func (u User) value(now time.Time) cedar.Value {
	m := texts("acr", u.ACR)
	m["id"] = cedar.String(u.ID)
	if !u.AuthTime.IsZero() {
		m["auth_time"], m["auth_age"] = cedar.Long(u.AuthTime.Unix()), seconds(now.Sub(u.AuthTime))
	}
	return cedar.NewRecord(m)
}

func (c Consent) value(now time.Time) cedar.Value {
	m := cedar.RecordMap{"id": cedar.String(c.ID)}
	if c.Uses > 0 {
		m["uses"] = cedar.Long(c.Uses)
	}
	if !c.GivenAt.IsZero() {
		m["age"] = seconds(now.Sub(c.GivenAt))
	}
	return cedar.NewRecord(m)
}

func timeOf(now time.Time) cedar.Value {
	return cedar.NewRecord(cedar.RecordMap{
		"now": cedar.NewDatetime(now), "unix": cedar.Long(now.Unix()), "hour": cedar.Long(now.Hour()), "minute": cedar.Long(now.Minute()),
		"weekday": cedar.String(strings.ToLower(now.Weekday().String())),
	})
}

func seconds(d time.Duration) cedar.Long { return cedar.Long(d / time.Second) }

// texts are attributes of pairs of name and text; an empty text is none.
func texts(pairs ...string) cedar.RecordMap {
	m := make(cedar.RecordMap, len(pairs))
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[cedar.String(pairs[i])] = cedar.String(pairs[i+1])
		}
	}
	return m
}

func tags(labels map[string]string) cedar.Record {
	m := make(cedar.RecordMap, len(labels))
	for k, v := range labels {
		m[cedar.String(k)] = cedar.String(v)
	}
	return cedar.NewRecord(m)
}

func strs(list []string) cedar.Set {
	values := make([]cedar.Value, 0, len(list))
	for _, s := range list {
		values = append(values, cedar.String(s))
	}
	return cedar.NewSet(values...)
}

// environment is what one action is decided in.
func (r *request) environment(a action) environment {
	return environment{
		request:  cedar.Request{Principal: r.principal.UID, Action: a.uid, Resource: r.resource.UID, Context: a.context},
		entities: entities{r, a},
	}
}

// entities are what one action is decided with.
type entities struct {
	r *request
	a action
}

// Get makes entities a cedar.EntityGetter.
func (e entities) Get(uid cedar.EntityUID) (cedar.Entity, bool) {
	switch uid {
	case e.r.principal.UID:
		return e.r.principal, true
	case e.r.resource.UID:
		return e.r.resource, true
	case e.a.uid:
		return cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(e.a.group)}, true
	default:
		found, ok := e.a.values[uid]
		return found, ok
	}
}

// about puts the members of an entry of authorization_details into the context of its action: context.detail.
func (a action) about(e details.Entry, facts cedar.RecordMap, known *details.Registry) action {
	members, _ := known.Members(e.Type())
	a.values = make(cedar.EntityMap)
	facts["detail"] = a.recordOf(e.Members(), members, "")
	a.context = cedar.NewRecord(facts)
	return a
}

func (a action) recordOf(values map[string]any, members map[string]details.Member, path string) cedar.Record {
	m := make(cedar.RecordMap, len(members))
	for name, member := range members {
		if v, ok := values[name]; ok && member.Kind != details.Const {
			m[cedar.String(name)] = a.valueOf(v, member, path+name)
		}
	}
	return cedar.NewRecord(m)
}

func (a action) valueOf(v any, m details.Member, path string) cedar.Value {
	switch v := v.(type) {
	case string:
		if m.Kind == details.Decimal {
			return decimalOf(v)
		}
		return cedar.String(v)
	case json.Number:
		n, _ := v.Int64() // the registry lets only integers in that fit
		return cedar.Long(n)
	case bool:
		return cedar.Boolean(v)
	case []any:
		values := make([]cedar.Value, 0, len(v))
		for _, one := range v {
			values = append(values, cedar.String(textOf(one)))
		}
		return cedar.NewSet(values...)
	default:
		object, _ := v.(map[string]any) // nothing else is left
		if m.Members != nil {
			return a.recordOf(object, m.Members, path+".")
		}
		return a.entityOf(object, path)
	}
}

// decimalOf is exact: the registry lets in what Cedar's decimal holds.
func decimalOf(s string) cedar.Value {
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	d, _ := types.ParseDecimal(s) // see above
	return d
}

// entityOf gives an object whose members nobody has declared: an entity with a tag for each, a text as it is and anything
// else as JSON.
func (a action) entityOf(object map[string]any, path string) cedar.EntityUID {
	uid := cedar.NewEntityUID(valuesType, cedar.String(path))
	labels := make(map[string]string, len(object))
	for name, v := range object {
		labels[name] = textOf(v)
	}
	a.values[uid] = cedar.Entity{UID: uid, Tags: tags(labels)}
	return uid
}

func textOf(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	data, _ := json.Marshal(v) // it came from JSON
	return string(data)
}
