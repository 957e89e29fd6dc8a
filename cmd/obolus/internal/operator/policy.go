package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"obolus/admin"
	"obolus/agents"
	"obolus/audit"
	"obolus/cmd/obolus/internal/config"
	"obolus/oauth/details"
	"obolus/policy"
)

// PolicyCommand is `obolus policy`.
type PolicyCommand struct {
	Check   PolicyCheck   `cmd:"" help:"Check files of guardrails, as the server would."`
	Test    PolicyTest    `cmd:"" help:"Decide the cases of a file and compare."`
	Explain PolicyExplain `cmd:"" help:"Say why the guardrails decide a request as they do."`
	Replay  PolicyReplay  `cmd:"" help:"Say what a draft would have decided otherwise over the past."`
	List    PolicyList    `cmd:"" help:"List the guardrails in force."`
	Show    PolicyShow    `cmd:"" help:"Print guardrails, as they are or as they were."`
	Put     PolicyPut     `cmd:"" help:"Bring a file of guardrails into force."`
	Remove  PolicyRemove  `cmd:"" help:"Take a file of guardrails out of force."`
	History PolicyHistory `cmd:"" help:"Show who changed the guardrails, when and why."`
	Revert  PolicyRevert  `cmd:"" help:"Go back to the guardrails of a revision."`
	Library PolicyLibrary `cmd:"" help:"Show the ready guardrails, to copy and to change."`
	Schema  PolicySchema  `cmd:"" help:"Show what a guardrail can look at."`
}

// Help teaches by example.
func (PolicyCommand) Help() string {
	return `Guardrails are Cedar policies: permit and forbid, where forbid wins. A server decides by those its configuration names, which it reads again
when they change, and by those that operators put, which all servers share.

Examples:

  obolus policy library office-hours > office-hours.cedar
  obolus policy check office-hours.cedar
  obolus policy test office-hours.cases.json --policies office-hours.cedar
  obolus policy replay --draft office-hours.cedar --since 7d
  obolus policy put office-hours.cedar --why "nobody answers at night"
  obolus policy revert 3 --why "4 refuses everybody"`
}

// rails are the guardrails that a command works with.
type rails struct {
	Policies []string `help:"A file of guardrails; again for each. Those of the configuration if not said." placeholder:"FILE" sep:"none" type:"existingfile"`
	Config   string   `env:"OBOLUS_CONFIG" help:"The server's configuration file: it knows guardrails and types of authorization_details." placeholder:"FILE" short:"c"`
}

// engine loads files of guardrails, or those of the configuration when there are none.
func (r rails) engine(stage Stage, files []string) (*policy.Engine, error) {
	cfg, err := config.Load(config.Sources{File: r.Config, Environ: stage.Environ})
	if err != nil {
		return nil, err
	}
	types, err := details.New(cfg.Details)
	if err != nil {
		return nil, err
	}
	engine, err := policy.New(types)
	if err != nil {
		return nil, err
	}
	var set []policy.File
	if len(files) == 0 {
		for _, p := range cfg.Policies {
			set = append(set, policy.File{Name: p.File, Text: p.Text})
		}
	}
	for _, name := range files {
		text, err := os.ReadFile(name) //nolint:gosec // the operator says which file
		if err != nil {
			return nil, err
		}
		set = append(set, policy.File{Name: name, Text: string(text)})
	}
	return engine, loaded(engine.Load(set))
}

// loaded makes a mistake in a guardrail one in the usage.
func loaded(err error) error {
	if err == nil {
		return nil
	}
	return Usage(err)
}

// PolicyCheck is `obolus policy check`.
type PolicyCheck struct {
	Files  []string `arg:"" help:"The files, which are one set together." optional:"" type:"existingfile"`
	Config string   `env:"OBOLUS_CONFIG" help:"The server's configuration file." placeholder:"FILE" short:"c"`
}

// Help teaches by example.
func (PolicyCheck) Help() string {
	return "Examples:\n\n  obolus policy check night.cedar payments.cedar\n  obolus policy check --config obolus.yaml"
}

// Run checks.
func (c *PolicyCheck) Run(stage Stage) error {
	engine, err := rails{Config: c.Config}.engine(stage, c.Files)
	if err != nil {
		return err
	}
	if err := loaded(engine.Trial(stage.Now())); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stage.Out, "%d policies in %d files are fine; version %s.\n", len(engine.Names()), len(engine.Files()), engine.Version())
	return err
}

// PolicyTest is `obolus policy test`.
type PolicyTest struct {
	Cases []string `arg:"" help:"Files of cases: JSON arrays of {name, input, allow, policies}." type:"existingfile"`
	rails
	JSON bool `help:"Print JSON for programs." name:"json"`
}

// Help teaches by example.
func (PolicyTest) Help() string {
	return `A case is an input and what must come of it:

  [{"name": "not at night", "allow": false, "policies": ["office-hours"], "input": {"stage": "exchange", "scopes": ["mail.send"],
    "now": "2030-01-02T03:00:00Z", "agent": {"id": "mailer"}, "user": {"id": "alice"}, "target": {"id": "mail"}}}]

Exit code 1: a case came out otherwise.

Examples:

  obolus policy test cases.json
  obolus policy test cases.json --policies draft.cedar`
}

// Run decides the cases.
func (c *PolicyTest) Run(stage Stage) error {
	engine, err := c.engine(stage, c.Policies)
	if err != nil {
		return err
	}
	var results []policy.Result
	for _, name := range c.Cases {
		data, err := os.ReadFile(name) //nolint:gosec // the operator says which file
		if err != nil {
			return err
		}
		cases, err := policy.ReadCases(data)
		if err != nil {
			return usage("%s: %w", name, err)
		}
		results = append(results, engine.Test(cases)...)
	}
	failed := 0
	for _, r := range results {
		if !r.Passed {
			failed++
		}
	}
	s := &Session{Stage: stage, json: c.JSON}
	err = s.print(map[string]any{"results": results, "failed": failed}, func(w io.Writer) {
		for _, r := range results {
			if r.Passed {
				row(w, "ok", r.Name, strings.Join(r.Got.Policies, " "))
			} else {
				row(w, "FAILED", r.Name, r.Why)
			}
		}
	})
	if err == nil && failed > 0 {
		return fmt.Errorf("%d of %d cases came out otherwise", failed, len(results))
	}
	return err
}

// PolicyExplain is `obolus policy explain`.
type PolicyExplain struct {
	Input    string   `arg:""                                                                               help:"An input as in a case, in a JSON file; - is the standard input; a number is an event of the ledger." placeholder:"FILE|EVENT"`
	Policies []string `help:"A file of guardrails; again for each. Those in force if not said." placeholder:"FILE"                                                                                         sep:"none"               type:"existingfile"`
	Connection
}

// Help teaches by example.
func (PolicyExplain) Help() string {
	return `Of every guardrail it says what became of it: for other requests, a condition that does not hold, satisfied, or failed.

Examples:

  obolus policy explain 1042
  obolus policy explain input.json --policies draft.cedar`
}

// Run explains.
func (c *PolicyExplain) Run(ctx context.Context, s *Session) error {
	engine, err := c.engine(ctx, s)
	if err != nil {
		return err
	}
	in, err := c.input(ctx, s)
	if err != nil {
		return err
	}
	why := engine.Explain(in)
	return s.print(why, func(w io.Writer) {
		row(w, verdict(why.Allowed), "by version "+why.Version)
		for _, bad := range why.Errors {
			row(w, "", bad)
		}
		for _, v := range why.Actions {
			row(w, "")
			row(w, verdict(v.Allowed), v.Action, v.Because)
			for _, f := range v.Policies {
				row(w, "", f.Effect+" "+f.Policy, strings.TrimSpace(string(f.Outcome)+" "+f.Condition+" "+f.Message), f.At)
			}
		}
	})
}

// engine decides by the files that were named, or by what is in force.
func (c *PolicyExplain) engine(ctx context.Context, s *Session) (*policy.Engine, error) {
	engine, err := rails{Config: c.Config}.engine(s.Stage, c.Policies)
	if err != nil || len(c.Policies) > 0 {
		return engine, err
	}
	files, err := inForce(ctx, s)
	if err != nil {
		return nil, err
	}
	return engine, loaded(engine.Load(files))
}

func verdict(allowed bool) string { //nolint:revive // it shows a truth value
	if allowed {
		return "allowed"
	}
	return "refused"
}

// input reads what is to be explained.
func (c *PolicyExplain) input(ctx context.Context, s *Session) (policy.Input, error) {
	var seq uint64
	if _, err := fmt.Sscanf(c.Input, "%d", &seq); err == nil && fmt.Sprint(seq) == c.Input {
		e, err := s.event(ctx, seq)
		if err != nil {
			return policy.Input{}, err
		}
		in, ok := policy.Past(e)
		if !ok {
			return in, usage("guardrails had no say in event %d (%s)", seq, e.Kind)
		}
		return newMemory(s).complete(ctx, in)
	}
	var data []byte
	var err error
	if c.Input == "-" {
		data, err = io.ReadAll(io.LimitReader(s.In, 1<<20))
	} else {
		data, err = os.ReadFile(c.Input)
	}
	if err != nil {
		return policy.Input{}, fmt.Errorf("read the input: %w", err)
	}
	cases, err := policy.ReadCases([]byte(`[{"name":"input","allow":false,"input":` + string(data) + `}]`))
	if err != nil {
		return policy.Input{}, usage("the input: %w", err)
	}
	in := cases[0].Input
	if in.Now.IsZero() {
		in.Now = s.Now().UTC()
	}
	return in, nil
}

// memory fills in what the ledger does not keep, as the registry has it today.
type memory struct {
	s         *Session
	agents    map[string]*agents.Agent
	resources map[string]agents.Resource // by URI; nil: not read yet
}

func newMemory(s *Session) *memory { return &memory{s: s, agents: map[string]*agents.Agent{}} }

// complete adds owner, operator and labels. Of what was removed since there is nothing to add.
func (m *memory) complete(ctx context.Context, in policy.Input) (policy.Input, error) {
	a, seen := m.agents[in.Agent.ID]
	if !seen {
		found, _, err := get[agents.Agent](ctx, m.s, admin.Path("agents", in.Agent.ID))
		if err != nil && ExitCode(err) != ExitNotFound {
			return in, err
		}
		if err == nil {
			a = &found
		}
		m.agents[in.Agent.ID] = a
	}
	if a != nil {
		in.Agent.Owner, in.Agent.Operator, in.Agent.Labels = a.Owner, a.Operator, a.Labels
	}
	if m.resources == nil {
		m.resources = map[string]agents.Resource{}
		err := pages(ctx, m.s, "/resources", url.Values{"limit": {"1000"}}, 100_000, func(p admin.ResourceList) (string, int) {
			for _, r := range p.Resources {
				m.resources[r.URI] = r
			}
			return p.Next, len(p.Resources)
		})
		if err != nil {
			return in, err
		}
	}
	if r, ok := m.resources[in.Target.URI]; ok {
		in.Target.ID, in.Target.Labels = r.ID, r.Labels
	}
	return in, nil
}

// PolicyReplay is `obolus policy replay`.
type PolicyReplay struct {
	Draft []string `help:"A file of the draft; again for each. It takes the place of all guardrails in force." placeholder:"FILE" required:"" sep:"none" type:"existingfile"`
	Since string   `default:"7d" help:"From then on: a time, or how long ago."`
	Limit int      `default:"20" help:"Show at most so many differences."`
	Connection
}

// Help teaches by example.
func (PolicyReplay) Help() string {
	return `It walks the ledger and decides every request that guardrails had a say in by the draft. Owners and labels are those of today; what the
ledger does not keep, such as how a user had signed in, is absent, so that a guardrail that looks at it may decide otherwise than it would.

Examples:

  obolus policy replay --draft office-hours.cedar
  obolus policy replay --draft a.cedar --draft b.cedar --since 24h --json`
}

// change is one request that the draft decides otherwise.
type change struct {
	Event  audit.Event     `json:"event"`
	Before bool            `json:"allowed_then"`
	After  policy.Decision `json:"draft"`
}

// replayed is what came of it.
type replayed struct {
	Requests     int      `json:"requests"`
	NowRefused   int      `json:"now_refused"`
	NowAllowed   int      `json:"now_allowed"`
	Differences  []change `json:"differences"`
	DraftVersion string   `json:"draft_version"`
}

// Run replays.
func (c *PolicyReplay) Run(ctx context.Context, s *Session) error {
	draft, err := rails{Config: c.Config}.engine(s.Stage, c.Draft)
	if err != nil {
		return err
	}
	out := replayed{DraftVersion: draft.Version(), Differences: []change{}}
	m, progress, decided := newMemory(s), s.events("Deciding"), uint64(0)
	for _, kind := range []audit.Kind{audit.KindExchange, audit.KindRedeem} {
		err := c.walk(ctx, m, kind, func(e audit.Event, in policy.Input) {
			out.count(e, draft.Decide(in), c.Limit)
			decided++
			progress.tell(decided)
		})
		if err != nil {
			return err
		}
	}
	progress.done()
	return s.print(out, func(w io.Writer) {
		for _, d := range out.Differences {
			row(w, d.Event.Seq, clock(d.Event.At), verdict(d.Before)+" → "+verdict(d.After.Allowed), story(d.Event), strings.Join(d.After.Policies, " "))
		}
		row(w, fmt.Sprintf("%d requests: the draft refuses %d that were allowed and allows %d that were refused.", out.Requests, out.NowRefused, out.NowAllowed))
	})
}

func (r *replayed) count(e audit.Event, after policy.Decision, most int) {
	r.Requests++
	if e.Allowed == after.Allowed {
		return
	}
	if e.Allowed {
		r.NowRefused++
	} else {
		r.NowAllowed++
	}
	if len(r.Differences) < most {
		r.Differences = append(r.Differences, change{Event: e, Before: e.Allowed, After: after})
	}
}

// walk goes through the events of a kind that guardrails had a say in.
func (c *PolicyReplay) walk(ctx context.Context, m *memory, kind audit.Kind, each func(audit.Event, policy.Input)) error {
	q, err := selection{Kind: string(kind), Since: c.Since}.values(m.s.Now())
	if err != nil {
		return err
	}
	q.Set("limit", "1000")
	var failed error
	err = pages(ctx, m.s, "/audit", q, int(^uint(0)>>1), func(p admin.EventList) (string, int) {
		for _, e := range p.Events {
			in, ok := policy.Past(e)
			if !ok {
				continue
			}
			if in, failed = m.complete(ctx, in); failed != nil {
				return "", 0
			}
			each(e, in)
		}
		if p.Next == 0 {
			return "", 0
		}
		return fmt.Sprint(p.Next), 0
	})
	return errors.Join(err, failed)
}

// PolicyLibrary is `obolus policy library`.
type PolicyLibrary struct {
	Name  string `arg:"" help:"Print this one." optional:""`
	Cases bool   `help:"Print its cases instead."`
	JSON  bool   `help:"Print JSON for programs." name:"json"`
}

// Help teaches by example.
func (PolicyLibrary) Help() string {
	return "Examples:\n\n  obolus policy library\n  obolus policy library office-hours > office-hours.cedar\n  obolus policy library office-hours --cases > office-hours.cases.json"
}

// Run prints the library, or one of it.
func (c *PolicyLibrary) Run(stage Stage) error {
	all, err := policy.Library()
	if err != nil {
		return err
	}
	s := &Session{Stage: stage, json: c.JSON}
	if c.Name == "" {
		return s.print(all, func(w io.Writer) {
			for _, g := range all {
				row(w, strings.TrimSuffix(g.Name, ".cedar"), g.About)
			}
		})
	}
	i := slices.IndexFunc(all, func(g policy.Guardrail) bool {
		return strings.TrimSuffix(g.Name, ".cedar") == strings.TrimSuffix(c.Name, ".cedar")
	})
	switch {
	case i < 0:
		return &admin.Problem{Status: http.StatusNotFound, Code: admin.CodeNotFound, Detail: fmt.Sprintf("there is no guardrail %q; `obolus policy library` lists them", c.Name)}
	case c.Cases:
		enc := json.NewEncoder(stage.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(all[i].Cases)
	default:
		_, err = io.WriteString(stage.Out, all[i].Text)
		return err
	}
}

// PolicySchema is `obolus policy schema`.
type PolicySchema struct {
	Config string `env:"OBOLUS_CONFIG" help:"The server's configuration file." placeholder:"FILE" short:"c"`
}

// Help teaches by example.
func (PolicySchema) Help() string { return "Examples:\n\n  obolus policy schema" }

// Run prints the schema.
func (c *PolicySchema) Run(stage Stage) error {
	engine, err := rails{Config: c.Config}.engine(stage, nil)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stage.Out, engine.Schema())
	return err
}
