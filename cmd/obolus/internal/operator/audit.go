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
	"strconv"
	"strings"
	"time"

	"obolus/admin"
	"obolus/audit"
)

// AuditCommand is `obolus audit`.
type AuditCommand struct {
	Connection

	List   AuditList   `cmd:"" help:"Show events of the ledger."`
	Show   AuditShow   `cmd:"" help:"Show everything of one event."`
	Verify AuditVerify `cmd:"" help:"Walk the chain of hashes from the first event to the last."`
	Export AuditExport `cmd:"" help:"Write the ledger as one JSON object per line."`
}

// Help teaches by example.
func (AuditCommand) Help() string {
	return `Examples:

  obolus audit list --agent mailer --since 1h
  obolus audit list --follow
  obolus audit verify`
}

// selection is which events are meant.
type selection struct {
	Txn   string `help:"Only events of this transaction." placeholder:"TXN"`
	Agent string `help:"Only events in which this agent acted." placeholder:"ID"`
	User  string `help:"Only events of this user." placeholder:"ID"`
	Kind  string `help:"Only events of this kind: exchange, redeem, consent, stop, …" placeholder:"KIND"`
	Since string `help:"Only events from then on: a time, or how long ago." placeholder:"WHEN"`
}

func (c selection) values(now time.Time) (url.Values, error) {
	v := url.Values{}
	for name, value := range map[string]string{"txn": c.Txn, "agent": c.Agent, "user": c.User, "kind": c.Kind} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if c.Since == "" {
		return v, nil
	}
	if ago, ok := duration(c.Since); ok {
		v.Set("since", now.Add(-ago).UTC().Format(time.RFC3339))
		return v, nil
	}
	if t, ok := timeOf(c.Since); ok {
		v.Set("since", t.UTC().Format(time.RFC3339))
		return v, nil
	}
	return nil, usage("--since %q is neither a time like 2030-01-02T15:04:05Z nor a duration like 1h", c.Since)
}

// timeOf reads a time as people write it.
func timeOf(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// duration reads "90s", "1h30m" and, since people count so, "7d".
func duration(s string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	d, err := time.ParseDuration(s)
	return d, err == nil
}

// AuditList is `obolus audit list`.
type AuditList struct {
	selection
	Limit  int  `default:"50"                            help:"At most so many, the newest." short:"n"`
	Follow bool `help:"Go on with what happens from now on." short:"f"`
}

// Help teaches by example.
func (AuditList) Help() string {
	return `Examples:

  obolus audit list --agent mailer --since 1h
  obolus audit list --txn txn_uq3mR0
  obolus audit list --kind stop -n 10 --json
  obolus audit list --follow`
}

// Run prints the events.
func (c *AuditList) Run(ctx context.Context, s *Session) error {
	q, err := c.values(s.Now())
	if err != nil {
		return err
	}
	q.Set("order", "newest")
	q.Set("limit", fmt.Sprint(min(max(c.Limit, 1), 1000)))
	var got admin.EventList
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: "/audit", Query: q}, &got); err != nil {
		return err
	}
	slices.Reverse(got.Events)
	if !c.Follow {
		return s.print(got, func(w io.Writer) { printEvents(w, got.Events) })
	}
	return c.follow(ctx, s, q, got.Events)
}

// follow prints what there is and then what comes, until the person has seen enough.
func (c *AuditList) follow(ctx context.Context, s *Session, q url.Values, events []audit.Event) error {
	q.Del("order")
	q.Set("limit", "1000")
	for {
		for _, e := range events {
			q.Set("after", fmt.Sprint(e.Seq))
			if err := s.printEvent(e); err != nil {
				return err
			}
		}
		if len(events) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
		var got admin.EventList
		_, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: "/audit", Query: q}, &got)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		events = got.Events
	}
}

// printEvent writes an event on a line of its own.
func (s *Session) printEvent(e audit.Event) error {
	if s.json {
		return json.NewEncoder(s.Out).Encode(e)
	}
	_, err := fmt.Fprintln(s.Out, printable(fmt.Sprintf("%8d  %s  %-8s %s", e.Seq, clock(e.At), outcome(e), story(e))))
	return err
}

func printEvents(w io.Writer, events []audit.Event) {
	row(w, "EVENT", "AT", "OUTCOME", "WHAT")
	for _, e := range events {
		row(w, e.Seq, clock(e.At), outcome(e), story(e))
	}
}

func outcome(e audit.Event) string {
	if e.Allowed {
		return "ok"
	}
	return "refused"
}

// story tells an event in one line.
func story(e audit.Event) string {
	words := []string{string(e.Kind)}
	for _, part := range []struct{ word, value string }{
		{"", e.Subject},
		{"by", e.By},
		{"actor", e.Actor},
		{"client", differs(e.Client, e.Actor)},
		{"for", e.User},
		{"at", e.Target},
		{"scope", e.GrantedScope},
		{"grant", e.Grant},
		{"", e.Txn},
		{"because", string(e.Reason)},
		{"policies", strings.Join(e.Policies, " ")},
		{"saying", e.Why},
	} {
		if part.value != "" {
			words = append(words, strings.TrimSpace(part.word+" "+part.value))
		}
	}
	return strings.Join(words, ", ")
}

func differs(s, from string) string {
	if s == from {
		return ""
	}
	return s
}

// AuditShow is `obolus audit show`.
type AuditShow struct {
	Event uint64 `arg:"" help:"The event's number."`
}

// Help teaches by example.
func (AuditShow) Help() string { return "Examples:\n\n  obolus audit show 1042" }

// Run prints the event.
func (c *AuditShow) Run(ctx context.Context, s *Session) error {
	e, err := s.event(ctx, c.Event)
	if err != nil {
		return err
	}
	return s.print(e, func(w io.Writer) { printWhole(w, e) })
}

// event finds an event by its number.
func (s *Session) event(ctx context.Context, seq uint64) (audit.Event, error) {
	var got admin.EventList
	if seq == 0 {
		return audit.Event{}, usage("events are counted from 1")
	}
	q := url.Values{"after": {fmt.Sprint(seq - 1)}, "limit": {"1"}}
	if _, err := s.api.Do(ctx, admin.Call{Method: http.MethodGet, Path: "/audit", Query: q}, &got); err != nil {
		return audit.Event{}, err
	}
	if len(got.Events) == 0 || got.Events[0].Seq != seq {
		return audit.Event{}, &admin.Problem{Status: http.StatusNotFound, Code: admin.CodeNotFound, Detail: fmt.Sprintf("there is no event %d", seq)}
	}
	return got.Events[0], nil
}

func printWhole(w io.Writer, e audit.Event) {
	data, err := json.Marshal(e)
	if err != nil {
		return
	}
	members := map[string]any{}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	if err := dec.Decode(&members); err != nil {
		return
	}
	first := []string{"seq", "at", "kind", "allowed", "error", "reason"}
	var rest []string
	for name := range members {
		if !slices.Contains(first, name) {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	for _, name := range append(first, rest...) {
		if v, ok := members[name]; ok {
			text, err := json.Marshal(v)
			if plain, ok := v.(string); ok || err != nil {
				text = []byte(plain)
			}
			row(w, name, string(text))
		}
	}
}

// AuditVerify is `obolus audit verify`.
type AuditVerify struct{}

// Help teaches by example.
func (AuditVerify) Help() string {
	return "Exit code 1 says that the ledger was changed or is incomplete.\n\nExamples:\n\n  obolus audit verify\n  obolus audit verify --json"
}

// Run walks the chain.
func (c *AuditVerify) Run(ctx context.Context, s *Session) error {
	if !s.json {
		fmt.Fprintln(s.Err, "Walking the ledger …")
	}
	v, _, err := get[admin.Verification](ctx, s, "/audit/verify")
	if err != nil {
		return err
	}
	if err := s.print(v, func(w io.Writer) {
		if v.Whole {
			fmt.Fprintf(w, "The ledger is whole: %d events, each following the one before.\n", v.Events)
		}
	}); err != nil {
		return err
	}
	if !v.Whole {
		return fmt.Errorf("the ledger is whole up to event %d only: %s", v.Events, v.Problem)
	}
	return nil
}

// AuditExport is `obolus audit export`.
type AuditExport struct {
	selection
	Output string `help:"Write here instead of the standard output." placeholder:"FILE" short:"o"`
}

// Help teaches by example.
func (AuditExport) Help() string {
	return "Examples:\n\n  obolus audit export -o ledger.jsonl\n  obolus audit export --since 2030-01-01 --kind redeem"
}

// Run writes the events.
func (c *AuditExport) Run(ctx context.Context, s *Session) (err error) {
	q, err := c.values(s.Now())
	if err != nil {
		return err
	}
	q.Set("limit", "1000")
	out := s.Out
	if c.Output != "" {
		f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("write the export: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	enc, n := json.NewEncoder(out), uint64(0)
	enc.SetEscapeHTML(false)
	m := s.events("Writing")
	if c.Output == "" {
		m.to = nil // the events themselves are seen
	}
	var failed error
	err = pages(ctx, s, "/audit", q, int(^uint(0)>>1), func(p admin.EventList) (string, int) {
		for _, e := range p.Events {
			if failed = enc.Encode(e); failed != nil {
				return "", 0
			}
		}
		n += uint64(len(p.Events))
		m.tell(n)
		if p.Next == 0 {
			return "", 0
		}
		return fmt.Sprint(p.Next), 0
	})
	m.done()
	if err = errors.Join(err, failed); err == nil && c.Output != "" {
		fmt.Fprintf(s.Err, "%s has %d events.\n", c.Output, n)
	}
	return err
}
