package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/admin"
	"obolus/audit"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/policy/rulebook"
	"obolus/store"
)

// rails are guardrails as a server keeps them: one declared file and those that are put.
type rails struct {
	*rulebook.Book
	engine *policy.Engine
}

var declared = policy.File{Name: "declared.cedar", Text: `@id("declared") forbid(principal, action, resource) when { context.time.hour > 22 };`}

func newRails(t *testing.T, records store.Engine) rails {
	t.Helper()
	engine := must[*policy.Engine](t)(policy.New(must[*details.Registry](t)(details.New(nil))))
	r := rails{must[*rulebook.Book](t)(rulebook.New(records, time.Now)), engine}
	if err := engine.Load([]policy.File{declared}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r rails) Set(ctx context.Context) (admin.PolicySet, error) {
	now, err := r.Current(ctx)
	if err != nil {
		return admin.PolicySet{}, err
	}
	files, err := r.Files(ctx, now)
	set := admin.PolicySet{
		Version: r.engine.Version(), Revision: now.Number, Policies: []admin.Policy{{Name: declared.Name, Text: declared.Text, Source: admin.FromFile}},
	}
	for _, f := range files {
		e, _ := now.Find(f.Name)
		set.Policies = append(set.Policies, admin.PolicyOf(e, f.Text))
	}
	return set, err
}

func (r rails) Change(ctx context.Context, c rulebook.Change) (rulebook.Revision, error) {
	var set []policy.File
	made, err := r.Book.Change(ctx, c, func(files []policy.File) error {
		if slices.ContainsFunc(files, func(f policy.File) bool { return f.Name == declared.Name }) {
			return admin.ErrDeclared
		}
		set = append([]policy.File{declared}, files...)
		draft, err := r.engine.Draft(set)
		if err != nil {
			return err
		}
		return draft.Trial(time.Now())
	})
	if err == nil && !c.DryRun && set != nil {
		err = r.engine.Load(set)
	}
	return made, err
}

func (r rails) Revision(ctx context.Context, n uint64) (rulebook.Revision, []policy.File, error) {
	found, err := r.Book.Revision(ctx, n)
	if err != nil {
		return found, nil, err
	}
	files, err := r.Files(ctx, found)
	return found, files, err
}

// aPolicy is a request to put one.
func aPolicy(text, why string) string {
	data, _ := json.Marshal(admin.PolicyText{Text: text, Why: why})
	return string(data)
}

const night = `@id("night") forbid(principal, action, resource) when { context.time.hour < 6 };`

func TestGuardrailsArePutReadAndTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.want(201, "PUT", "/policies/night.cedar", aPolicy(night, "nobody is up"))
	if tag := first.header.Get("ETag"); tag != `"v1"` {
		t.Errorf("the tag is %s", tag)
	}
	var p admin.Policy
	if err := json.Unmarshal(w.want(200, "GET", "/policies/night.cedar", "").body, &p); err != nil || p.Text != night || p.Source != "api" ||
		p.Revision != 1 || p.By != "operator" || p.Why != "nobody is up" || p.At.IsZero() {
		t.Errorf("it reads %+v, %v", p, err)
	}
	w.want(428, "PUT", "/policies/night.cedar", aPolicy(night+"//", ""))
	w.want(412, "PUT", "/policies/night.cedar", aPolicy(night+"//", ""), `If-None-Match: *`)
	w.want(412, "PUT", "/policies/night.cedar", aPolicy(night+"//", ""), `If-Match: "v2"`)
	w.want(412, "PUT", "/policies/other.cedar", aPolicy(night, ""), `If-Match: "v1"`)
	second := w.want(200, "PUT", "/policies/night.cedar", aPolicy(night+"// later", "longer"), `If-Match: "v1"`)
	if second.header.Get("ETag") != `"v2"` {
		t.Errorf("the tag is %s", second.header.Get("ETag"))
	}
	w.want(200, "PUT", "/policies/night.cedar", aPolicy(night+"// later", "the same again"), `If-Match: "v2"`)
	w.want(412, "DELETE", "/policies/night.cedar", "", `If-Match: "v1"`)
	w.want(412, "POST", "/policy-revisions/1/revert", "", `If-Match: "v1"`)
	w.want(200, "POST", "/policy-revisions/1/revert", `{"why":"too long"}`, `If-Match: "v2"`)
	if err := json.Unmarshal(w.want(200, "GET", "/policies/night.cedar", "").body, &p); err != nil || p.Text != night || p.Revision != 3 {
		t.Errorf("reverted, it reads %+v, %v", p, err)
	}
	w.want(200, "DELETE", "/policies/night.cedar?why=done", "", `If-Match: "v3"`)
	w.want(404, "GET", "/policies/night.cedar", "")
	w.want(404, "DELETE", "/policies/night.cedar", "")

	var h admin.PolicyHistory
	if err := json.Unmarshal(w.want(200, "GET", "/policy-revisions?limit=3&name=night.cedar", "").body, &h); err != nil || len(h.Revisions) != 3 ||
		h.Next != 2 || h.Revisions[0].What != "removed night.cedar" || h.Revisions[0].Why != "done" || h.Revisions[1].What != "reverted to 1" {
		t.Errorf("the history is %+v, %v", h, err)
	}
	h = admin.PolicyHistory{}
	if err := json.Unmarshal(w.want(200, "GET", "/policy-revisions?after=2", "").body, &h); err != nil || len(h.Revisions) != 1 || h.Next != 0 {
		t.Errorf("the end of the history is %+v, %v", h, err)
	}
	var old admin.PolicyRevision
	if err := json.Unmarshal(w.want(200, "GET", "/policy-revisions/2", "").body, &old); err != nil || len(old.Policies) != 1 || old.Policies[0].Text != night+"// later" {
		t.Errorf("revision 2 is %+v, %v", old, err)
	}
	w.want(404, "GET", "/policy-revisions/99", "")
	w.want(404, "GET", "/policy-revisions/one", "")

	events, err := w.ledger.Events(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range events {
		if strings.HasPrefix(e.Subject, "polic") {
			told = append(told, e.Subject+": "+e.Why)
		}
	}
	want := []string{
		"policy/night.cedar: put night.cedar, revision 1: nobody is up", "policy/night.cedar: put night.cedar, revision 2: longer",
		"policies: reverted to 1, revision 3: too long", "policy/night.cedar: removed night.cedar, revision 4: done",
	}
	if !slices.Equal(told, want) {
		t.Errorf("the ledger says %q, want %q", told, want)
	}
}

func TestGuardrailsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(201, "PUT", "/policies/night.cedar", aPolicy(night, ""))
	before := string(w.want(200, "GET", "/policies", "").body)
	for name, c := range map[string]struct {
		path, body string
		status     int
		code, says string
	}{
		"half a policy":           {"/policies/a.cedar", aPolicy("\n  forbid(", ""), 422, "invalid", "a.cedar:2:"},
		"an unknown attribute":    {"/policies/a.cedar", aPolicy("forbid(principal, action, resource)\n  when { context.colour == 1 };", ""), 422, "invalid", "a.cedar:1:1: a.cedar#1: "},
		"types that do not fit":   {"/policies/a.cedar", aPolicy(`forbid(principal, action, resource) when { context.time.hour > "six" };`, ""), 422, "invalid", "a.cedar:1:1"},
		"what can only fail":      {"/policies/a.cedar", aPolicy(`forbid(principal, action, resource) when { context.time.unix * 9223372036854775807 > 1 };`, ""), 422, "invalid", "cannot be evaluated"},
		"an @id that is taken":    {"/policies/a.cedar", aPolicy(night, ""), 422, "invalid", "night: another policy has the same name"},
		"an @id that is declared": {"/policies/a.cedar", aPolicy(declared.Text, ""), 422, "invalid", "another policy has the same name"},
		"a declared file":         {"/policies/declared.cedar", aPolicy(night, ""), 409, "conflict", "declared"},
		"a statement too long":    {"/policies/a.cedar", aPolicy("forbid(principal, action, resource) when { context.client == \""+strings.Repeat("x", 17<<10)+"\" };", ""), 422, "invalid", "longer"},
		"too many policies":       {"/policies/a.cedar", aPolicy(strings.Repeat("forbid(principal, action, resource);", 10_001), ""), 422, "invalid", "more than 10000 policies"},
		"nesting without end":     {"/policies/a.cedar", aPolicy("forbid(principal, action, resource) when { "+strings.Repeat("(", 1000)+"true"+strings.Repeat(")", 1000)+" };", ""), 422, "invalid", "nests deeper"},
		"a body too big":          {"/policies/a.cedar", aPolicy(strings.Repeat("/", 1<<20), ""), 413, "too_large", ""},
		"nothing":                 {"/policies/a.cedar", aPolicy("", ""), 422, "invalid", "empty"},
		"a path as name":          {"/policies/..%2Fa", aPolicy(night, ""), 422, "invalid", "name"},
		"another member":          {"/policies/a.cedar", `{"text":"","force":true}`, 400, "malformed", "force"},
		"a member twice":          {"/policies/a.cedar", `{"text":"","text":""}`, 400, "malformed", ""},
		"a revision to come":      {"/policy-revisions/7/revert", "", 404, "not_found", ""},
	} {
		method := "PUT"
		if strings.HasSuffix(c.path, "/revert") {
			method = "POST"
		}
		a := w.request(method, c.path, c.body)
		var p admin.Problem
		if err := json.Unmarshal(a.body, &p); err != nil || a.status != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if c.status == 422 && strings.Contains(c.says, "a.cedar:") && (len(p.Problems) == 0 || p.Problems[0].File != "a.cedar" || p.Problems[0].Line == 0 || p.Problems[0].Reason == "") {
			t.Errorf("%s: no place is told: %s", name, a.body)
		}
	}
	if after := string(w.want(200, "GET", "/policies", "").body); after != before {
		t.Errorf("the set is another:\n%s\n%s", before, after)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(201, "PUT", "/policies/night.cedar", aPolicy(night, ""))
	before := string(w.want(200, "GET", "/policies", "").body)
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/policies/day.cedar?dry_run=true", aPolicy(strings.Replace(night, "night", "day", 1), "")},
		{"DELETE", "/policies/night.cedar?dry_run=true", ""},
		{"POST", "/policy-revisions/0/revert?dry_run=true", ""},
	} {
		var r admin.PolicyRevision
		if a := w.request(c.method, c.path, c.body); a.status >= 300 || json.Unmarshal(a.body, &r) != nil || !r.DryRun || r.Revision != 2 {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
	}
	w.want(422, "PUT", "/policies/day.cedar?dry_run=true", aPolicy("forbid(", ""))
	if after := string(w.want(200, "GET", "/policies", "").body); after != before {
		t.Errorf("the set is another:\n%s\n%s", before, after)
	}
}

// Of many operators who change the same file at once one succeeds, and the others are told that it has changed.
func TestOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(201, "PUT", "/policies/night.cedar", aPolicy(night, ""))
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			a := w.request(http.MethodPut, "/policies/night.cedar", aPolicy(fmt.Sprintf("%s // %d", night, i), ""), `If-Match: "v1"`)
			mu.Lock()
			statuses[a.status]++
			mu.Unlock()
		})
	}
	all.Wait()
	if statuses[200] != 1 || statuses[412] != 11 {
		t.Errorf("the answers are %v", statuses)
	}
}

// While the store does not answer nothing is said to be done.
func TestGuardrailsWithoutAStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.records.down = true
	w.want(503, "PUT", "/policies/night.cedar", aPolicy(night, ""))
	w.want(503, "GET", "/policies", "")
	w.want(503, "GET", "/policy-revisions/1", "")
}
