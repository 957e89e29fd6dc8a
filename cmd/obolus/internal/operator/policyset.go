package operator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"obolus/admin"
	"obolus/policy"
)

// PolicyList is `obolus policy list`.
type PolicyList struct {
	Connection
	Text bool `help:"Print what is in the files too."`
}

// Help teaches by example.
func (PolicyList) Help() string {
	return "Examples:\n\n  obolus policy list\n  obolus policy list --text"
}

// Run prints what is in force.
func (c *PolicyList) Run(ctx context.Context, s *Session) error {
	set, _, err := get[admin.PolicySet](ctx, s, "/policies")
	if err != nil {
		return err
	}
	return s.print(set, func(w io.Writer) {
		row(w, "version", set.Version)
		row(w, "revision", set.Revision)
		pair(w, "nothing is allowed", set.Problem)
		for _, p := range set.Policies {
			row(w, "file", p.Name, origin(p))
			for line := range strings.Lines(p.Text) {
				if c.Text {
					row(w, "", strings.TrimRight(strings.ReplaceAll(line, "\t", "  "), "\r\n"))
				}
			}
		}
		if len(set.Policies) == 0 {
			row(w, "There are no guardrails: what a user allows within an agent's ceiling is granted.")
		}
	})
}

// origin says where a file comes from.
func origin(p admin.Policy) string {
	if p.Source == admin.FromFile {
		return "of the configuration"
	}
	return strings.TrimSpace("revision " + strconv.FormatUint(p.Revision, 10) + ", " + clock(p.At) + " by " + p.By + " " + p.Why)
}

// PolicyShow is `obolus policy show`.
type PolicyShow struct {
	Name     string  `arg:"" help:"The file; all of them if not said." optional:""`
	Revision *uint64 `help:"As it was at this revision, instead of now." placeholder:"N"`
	Connection
}

// Help teaches by example.
func (PolicyShow) Help() string {
	return `Prints the text as it was put, so that it can go into a file.

Examples:

  obolus policy show night.cedar > night.cedar
  obolus policy show night.cedar --revision 3
  obolus policy show --revision 3 --json`
}

// Run prints the files.
func (c *PolicyShow) Run(ctx context.Context, s *Session) error {
	var found []admin.Policy
	if c.Revision != nil {
		r, _, err := get[admin.PolicyRevision](ctx, s, admin.Path("policy-revisions", strconv.FormatUint(*c.Revision, 10)))
		if err != nil {
			return err
		}
		found = r.Policies
	} else {
		set, _, err := get[admin.PolicySet](ctx, s, "/policies")
		if err != nil {
			return err
		}
		found = set.Policies
	}
	if c.Name != "" {
		found = slices.DeleteFunc(found, func(p admin.Policy) bool { return p.Name != c.Name })
		if len(found) == 0 {
			return &admin.Problem{Status: http.StatusNotFound, Code: admin.CodeNotFound, Detail: fmt.Sprintf("there is no file of guardrails %q", c.Name)}
		}
	}
	if s.json {
		return s.print(append([]admin.Policy{}, found...), nil)
	}
	for _, p := range found {
		if c.Name == "" {
			fmt.Fprintf(s.Out, "// %s\n", printable(p.Name))
		}
		for line := range strings.Lines(p.Text) {
			text, ended := strings.CutSuffix(line, "\n")
			fmt.Fprint(s.Out, printableText(text))
			if ended {
				fmt.Fprintln(s.Out)
			}
		}
	}
	return nil
}

// printableText is printable, but for what ends and indents lines of a text.
func printableText(line string) string {
	parts := strings.Split(strings.TrimSuffix(line, "\r"), "\t")
	for i := range parts {
		parts[i] = printable(parts[i])
	}
	return strings.Join(parts, "\t")
}

// PolicyPut is `obolus policy put`.
type PolicyPut struct {
	File   string `arg:"" help:"The file with the policies; - is the standard input."`
	Name   string `help:"What it is called there; the name of the file if not said." placeholder:"NAME"`
	Over   uint64 `help:"Only if the file is still as it came to be with this revision." placeholder:"N"`
	Why    string `help:"For the ledger and the history." placeholder:"TEXT"`
	DryRun bool   `help:"Say whether it could be done, and do nothing."`
	Connection
}

// Help teaches by example.
func (PolicyPut) Help() string {
	return `The server checks the whole set that would come of it. If anything is wrong it says where, and nothing changes.

Examples:

  obolus policy put night.cedar --why "no mail at night"
  obolus policy put night.cedar --dry-run
  obolus policy put draft.cedar --name night.cedar --over 4`
}

// Run puts the file.
func (c *PolicyPut) Run(ctx context.Context, s *Session) error {
	name := c.Name
	if name == "" {
		name = filepath.Base(c.File)
	}
	var text []byte
	var err error
	if c.File == "-" {
		if c.Name == "" {
			return usage("say --name for what comes from the standard input")
		}
		text, err = io.ReadAll(io.LimitReader(s.In, 2<<20))
	} else {
		text, err = os.ReadFile(c.File)
	}
	if err != nil {
		return err
	}
	path, tag := admin.Path("policies", name), tagOf(c.Over)
	if tag == "" {
		if _, tag, err = get[admin.Policy](ctx, s, path); err != nil && ExitCode(err) != ExitNotFound {
			return err
		}
	}
	return s.changePolicies(ctx, admin.Call{
		Method: http.MethodPut, Path: path, Query: dryRun(c.DryRun), Body: admin.PolicyText{Text: string(text), Why: c.Why}, Match: tag,
	})
}

// tagOf is the ETag of a revision; zero is none.
func tagOf(revision uint64) string {
	if revision == 0 {
		return ""
	}
	return `"v` + strconv.FormatUint(revision, 10) + `"`
}

func dryRun(yes bool) url.Values { //nolint:revive // the flag of the person
	if !yes {
		return nil
	}
	return url.Values{"dry_run": {"true"}}
}

// changePolicies makes a change and tells what came of it.
func (s *Session) changePolicies(ctx context.Context, call admin.Call) error {
	var done admin.PolicyRevision
	if _, err := s.api.Do(ctx, call, &done); err != nil {
		return err
	}
	if s.json {
		return s.print(done, nil)
	}
	if done.DryRun {
		s.say("It could be done: %s would be revision %d.", printable(done.What), done.Revision)
		return nil
	}
	s.say("In force: revision %d (%s).", done.Revision, printable(done.What))
	return nil
}

// PolicyRemove is `obolus policy remove`.
type PolicyRemove struct {
	Name   string `arg:"" help:"The file."`
	Why    string `help:"For the ledger and the history." placeholder:"TEXT"`
	DryRun bool   `help:"Say whether it could be done, and do nothing."`
	Yes    bool   `help:"Do not ask." short:"y"`
	Connection
}

// Help teaches by example.
func (PolicyRemove) Help() string {
	return "What it forbade is allowed from then on. Its texts stay in the history.\n\nExamples:\n\n  obolus policy remove night.cedar --why \"replaced by hours.cedar\"\n  obolus policy remove night.cedar --yes"
}

// Run removes the file.
func (c *PolicyRemove) Run(ctx context.Context, s *Session) error {
	if !c.DryRun {
		if err := s.confirm(c.Yes, "What "+c.Name+" forbids is allowed from now on, if no other guardrail forbids it."); err != nil {
			return err
		}
	}
	q := url.Values{}
	if c.Why != "" {
		q.Set("why", c.Why)
	}
	if c.DryRun {
		q.Set("dry_run", "true")
	}
	return s.changePolicies(ctx, admin.Call{Method: http.MethodDelete, Path: admin.Path("policies", c.Name), Query: q})
}

// PolicyHistory is `obolus policy history`.
type PolicyHistory struct {
	Name  string `arg:"" help:"Only changes of this file." optional:""`
	Limit int    `default:"50" help:"At most so many."`
	Connection
}

// Help teaches by example.
func (PolicyHistory) Help() string {
	return "The newest change comes first.\n\nExamples:\n\n  obolus policy history\n  obolus policy history night.cedar --json"
}

// Run prints the changes.
func (c *PolicyHistory) Run(ctx context.Context, s *Session) error {
	q := url.Values{"limit": {strconv.Itoa(min(max(c.Limit, 1), 1000))}}
	if c.Name != "" {
		q.Set("name", c.Name)
	}
	all := admin.PolicyHistory{Revisions: []admin.PolicyRevision{}}
	err := pages(ctx, s, "/policy-revisions", q, c.Limit, func(p admin.PolicyHistory) (string, int) {
		all.Revisions = append(all.Revisions, p.Revisions...)
		if p.Next == 0 {
			return "", 0
		}
		return strconv.FormatUint(p.Next, 10), len(p.Revisions)
	})
	if err != nil {
		return err
	}
	return s.print(all, func(w io.Writer) {
		row(w, "REVISION", "WHEN", "BY", "WHAT", "WHY")
		for _, r := range all.Revisions {
			row(w, r.Revision, clock(r.At), r.By, r.What, r.Why)
		}
	})
}

// PolicyRevert is `obolus policy revert`.
type PolicyRevert struct {
	Revision uint64 `arg:"" help:"The revision to go back to; 0 is none at all."`
	Why      string `help:"For the ledger and the history." placeholder:"TEXT"`
	DryRun   bool   `help:"Say whether it could be done, and do nothing."`
	Connection
}

// Help teaches by example.
func (PolicyRevert) Help() string {
	return `Puts back everything that operators had put at a revision, as a new revision: nothing is lost, and a revert can be reverted. Files of the
configuration stay as they are. One file alone comes back by show and put.

Examples:

  obolus policy revert 3 --why "4 refuses everybody"
  obolus policy show night.cedar --revision 3 | obolus policy put - --name night.cedar`
}

// Run goes back.
func (c *PolicyRevert) Run(ctx context.Context, s *Session) error {
	return s.changePolicies(ctx, admin.Call{
		Method: http.MethodPost, Path: admin.Path("policy-revisions", strconv.FormatUint(c.Revision, 10), "revert"),
		Query: dryRun(c.DryRun), Body: admin.Why{Why: c.Why},
	})
}

// inForce are the guardrails that the server decides by.
func inForce(ctx context.Context, s *Session) ([]policy.File, error) {
	set, _, err := get[admin.PolicySet](ctx, s, "/policies")
	if err != nil {
		return nil, err
	}
	files := make([]policy.File, 0, len(set.Policies))
	for _, p := range set.Policies {
		files = append(files, policy.File{Name: p.Name, Text: p.Text})
	}
	return files, nil
}
