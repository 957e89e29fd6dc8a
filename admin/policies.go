package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"obolus/audit"
	"obolus/policy"
	"obolus/policy/rulebook"
)

// Policies keeps the guardrails: files that a configuration declares and those that operators put, one set.
type Policies interface {
	// Set is what this server decides by.
	Set(ctx context.Context) (PolicySet, error)
	// Change changes what operators put, if the set that comes of it is good; it is in force here when it returns.
	Change(ctx context.Context, c rulebook.Change) (rulebook.Revision, error)
	// Revision is one that was in force, with its texts.
	Revision(ctx context.Context, number uint64) (rulebook.Revision, []policy.File, error)
	// History lists revisions below a number, the newest first; zero begins with the newest.
	History(ctx context.Context, before uint64, limit int) ([]rulebook.Revision, error)
}

// ErrDeclared: a file of guardrails has the name of one that the configuration declares.
var ErrDeclared = errors.New("what is declared is changed where it is declared")

// Where a file of guardrails comes from.
const (
	FromFile = "file" // the configuration names it
	FromAPI  = "api"  // an operator put it
)

// PolicySet is the guardrails in force.
type PolicySet struct {
	Version  string   `json:"version"`  // as the events of the ledger name it
	Revision uint64   `json:"revision"` // of what operators put; zero: nobody has yet
	Problem  string   `json:"problem,omitempty"`
	Policies []Policy `json:"policies"`
}

// Policy is one file of guardrails.
type Policy struct {
	Name     string    `json:"name"`
	Text     string    `json:"text"`
	Source   string    `json:"source"`             // file or api
	Revision uint64    `json:"revision,omitempty"` // with which it came to be as it is
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Why      string    `json:"why,omitempty"`
}

// PolicyOf is a file that an operator put.
func PolicyOf(e rulebook.Entry, text string) Policy {
	return Policy{Name: e.Name, Text: text, Source: FromAPI, Revision: e.Revision, By: e.By, At: e.At, Why: e.Why}
}

// PolicyText is a file of guardrails that an operator puts.
type PolicyText struct {
	Text string `json:"text"`
	Why  string `json:"why,omitempty"`
}

// PolicyRevision is a set that was in force, and the change that made it.
type PolicyRevision struct {
	Revision uint64    `json:"revision"`
	What     string    `json:"what,omitempty"`
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Why      string    `json:"why,omitempty"`
	DryRun   bool      `json:"dry_run,omitempty"` // it is good, and was not made
	Policies []Policy  `json:"policies,omitempty"`
}

// PolicyHistory is a page of revisions.
type PolicyHistory struct {
	Revisions []PolicyRevision `json:"revisions"`
	Next      uint64           `json:"next,omitempty"` // after of the next page
}

func (s *Server) policyRoutes() []route {
	const one, revision = "/policies/{id}", "/policy-revisions/{id}"
	dry := parameter{name: "dry_run", about: "true: say whether it could be done, and do nothing", enum: []string{"true", "false"}}
	return []route{
		{method: http.MethodGet, path: "/policies", name: "listPolicies", about: "The guardrails in force.", out: PolicySet{}, do: s.listPolicies},
		{method: http.MethodGet, path: one, name: "getPolicy", about: "One file of the guardrails in force.", out: Policy{}, do: s.getPolicy},
		{
			method: http.MethodPut, path: one, name: "putPolicy", match: true, created: true, query: []parameter{dry}, in: PolicyText{},
			about: "Put a file of guardrails, or another text for one that was read before (If-Match). The whole set is checked, and stays as it " +
				"was if anything is wrong. In force here at once, on every other server within seconds.",
			out: PolicyRevision{}, do: s.putPolicy,
		},
		{
			method: http.MethodDelete, path: one, name: "removePolicy", match: true,
			query: []parameter{dry, {name: "why", about: "for the ledger and the history"}},
			about: "Take a file of guardrails out of force. Its texts stay readable in the history.", out: PolicyRevision{}, do: s.removePolicy,
		},
		{
			method: http.MethodGet, path: "/policy-revisions", name: "listPolicyRevisions", about: "Every change of the guardrails that operators put, the newest first.",
			query: []parameter{
				{name: "after", about: "the last revision of the page before", number: true},
				{name: "limit", about: "at most so many, 1 to 1000; 100 if not said", number: true},
				{name: "name", about: "only changes of this file"},
			},
			out: PolicyHistory{}, do: s.listRevisions,
		},
		{method: http.MethodGet, path: revision, name: "getPolicyRevision", about: "A set that was in force, with its texts.", out: PolicyRevision{}, do: s.getRevision},
		{
			method: http.MethodPost, path: revision + "/revert", name: "revertPolicies", match: true, query: []parameter{dry}, in: Why{}, optional: true,
			about: "Put back all guardrails that operators had put at a revision; 0 is none. It makes a new revision.",
			out:   PolicyRevision{}, do: s.revertPolicies,
		},
	}
}

func (s *Server) listPolicies(ctx context.Context, _ call) (answer, error) {
	set, err := s.cfg.Policies.Set(ctx)
	return answer{body: set, version: set.Revision}, err
}

func (s *Server) getPolicy(ctx context.Context, c call) (answer, error) {
	set, err := s.cfg.Policies.Set(ctx)
	if err != nil {
		return answer{}, err
	}
	i := slices.IndexFunc(set.Policies, func(p Policy) bool { return p.Name == c.id })
	if i < 0 {
		return answer{}, notFound("there is no file of guardrails of that name")
	}
	return answer{body: set.Policies[i], version: set.Policies[i].Revision}, nil
}

func (s *Server) putPolicy(ctx context.Context, c call) (answer, error) {
	var in PolicyText
	if err := c.into(&in); err != nil {
		return answer{}, err
	}
	created := false
	a, err := s.changePolicies(ctx, c, rulebook.Change{
		Kind: rulebook.Put, Name: c.id, Text: in.Text, Why: in.Why,
		If: func(have uint64) error {
			created = have == 0
			_, err := c.replaced(have)
			return err
		},
	})
	a.created = created
	return a, err
}

func (s *Server) removePolicy(ctx context.Context, c call) (answer, error) {
	return s.changePolicies(ctx, c, rulebook.Change{
		Kind: rulebook.Remove, Name: c.id, Why: c.query.Get("why"),
		If: func(have uint64) error {
			if have == 0 {
				return nil // which is not found, rather than changed
			}
			_, err := c.removed(have)
			return err
		},
	})
}

func (s *Server) revertPolicies(ctx context.Context, c call) (answer, error) {
	n, err := revisionOf(c)
	if err != nil {
		return answer{}, err
	}
	var why Why
	if err := c.into(&why); err != nil {
		return answer{}, err
	}
	return s.changePolicies(ctx, c, rulebook.Change{
		Kind: rulebook.Revert, To: n, Why: why.Why,
		If: func(have uint64) error {
			_, err := c.removed(have)
			return err
		},
	})
}

// changePolicies makes a change and writes it down. One that changed nothing, or was only tried, leaves no event.
func (s *Server) changePolicies(ctx context.Context, c call, change rulebook.Change) (answer, error) {
	change.By, change.DryRun = "operator", c.query.Get("dry_run") == "true"
	before, err := s.cfg.Policies.Set(ctx)
	if err != nil {
		return answer{}, err
	}
	r, err := s.cfg.Policies.Change(ctx, change)
	if err != nil {
		return answer{}, err
	}
	out := revisionAnswer(r, nil)
	out.DryRun = change.DryRun
	if change.DryRun || r.Number == before.Revision {
		return answer{body: out, version: tagOf(r, change)}, nil
	}
	subject := "policy/" + change.Name
	if change.Kind == rulebook.Revert {
		subject = "policies"
	}
	err = s.cfg.Record(ctx, audit.Event{
		Kind: audit.KindRegistry, Allowed: true, By: "operator", Subject: subject, Remote: c.remote, Why: told(r),
	})
	return answer{body: out, version: tagOf(r, change)}, err
}

// tagOf is the version that the next change of the same thing has to name.
func tagOf(r rulebook.Revision, change rulebook.Change) uint64 {
	if change.Kind == rulebook.Put {
		e, _ := r.Find(change.Name)
		return e.Revision
	}
	return r.Number
}

// told is a change in one line of the ledger.
func told(r rulebook.Revision) string {
	line := r.What + ", revision " + strconv.FormatUint(r.Number, 10)
	if r.Why != "" {
		line += ": " + r.Why
	}
	return line
}

func revisionAnswer(r rulebook.Revision, files []policy.File) PolicyRevision {
	out := PolicyRevision{Revision: r.Number, What: r.What, By: r.By, At: r.At, Why: r.Why}
	for _, f := range files {
		e, _ := r.Find(f.Name)
		out.Policies = append(out.Policies, PolicyOf(e, f.Text))
	}
	return out
}

func revisionOf(c call) (uint64, error) {
	n, err := strconv.ParseUint(c.id, 10, 64)
	if err != nil {
		return 0, notFound("a revision is a number")
	}
	return n, nil
}

func (s *Server) getRevision(ctx context.Context, c call) (answer, error) {
	n, err := revisionOf(c)
	if err != nil {
		return answer{}, err
	}
	r, files, err := s.cfg.Policies.Revision(ctx, n)
	return answer{body: revisionAnswer(r, files)}, err
}

func (s *Server) listRevisions(ctx context.Context, c call) (answer, error) {
	limit, err := c.limit()
	if err != nil {
		return answer{}, err
	}
	var after uint64
	if text := c.query.Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil || after == 0 {
			return answer{}, malformed("after is the number of a revision")
		}
	}
	out := PolicyHistory{Revisions: []PolicyRevision{}}
	for {
		page, err := s.cfg.Policies.History(ctx, after, limit)
		if err != nil {
			return answer{}, err
		}
		for _, r := range page {
			after = r.Number
			if !changes(r, c.query.Get("name")) {
				continue
			}
			if out.Revisions = append(out.Revisions, revisionAnswer(r, nil)); len(out.Revisions) == limit {
				out.Next = after
				return answer{body: out}, nil
			}
		}
		if len(page) < limit || after <= 1 {
			return answer{body: out}, nil
		}
	}
}

// changes says whether a revision put or removed a file, or was a revert, which may have done either; empty: any.
func changes(r rulebook.Revision, name string) bool {
	if name == "" || r.What == "removed "+name || strings.HasPrefix(r.What, "reverted ") {
		return true
	}
	e, ok := r.Find(name)
	return ok && e.Revision == r.Number
}
