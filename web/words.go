package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"obolus/agents"
	"obolus/agents/names"
	"obolus/consent"
	"obolus/users"
)

// Limits of what is shown of third parties, in characters.
const (
	maxNameShown = 80
	maxTextShown = 300
	maxLineShown = 4000
)

// visible is a text of a third party as people see it.
func visible(text string, limit int) string { return names.Visible(text, limit) }

func nameOf(session users.Session) string {
	if session.Name != "" {
		return visible(session.Name, maxNameShown)
	}
	return visible(session.User, maxNameShown)
}

// choice is a thing that may be unticked.
type choice struct {
	Index int
	Name  string // the scope, or the type of a detail
	Words []string
	Off   bool // it was unticked before
}

// flaw is what is wrong with an answer, and the field of the form that it is about.
type flaw struct{ Field, Text string }

func (f *flaw) Error() string { return f.Text }

// At says whether a field is the one; for templates.
func (f flaw) At(field string) bool { return f.Text != "" && f.Field == field }

// again unticks what a form that was refused had unticked; a page that is shown for the first time has everything ticked.
func (v *visit) again(name string, list []choice) []choice {
	for i := range list {
		list[i].Off = v.form != nil && !slices.Contains(v.form[name], strconv.Itoa(list[i].Index))
	}
	return list
}

// unexplainedFirst puts what nobody has words for before the rest: that is what to look at twice.
func unexplainedFirst(list []choice) []choice {
	slices.SortStableFunc(list, func(a, b choice) int { return cmp.Compare(min(len(a.Words), 1), min(len(b.Words), 1)) })
	return list
}

// scopeChoices are scopes in words, with the words that the resource has for them.
func scopeChoices(scopes []string, res agents.Resource) []choice {
	list := make([]choice, len(scopes))
	for i, scope := range scopes {
		list[i] = choice{Index: i, Name: visible(scope, maxNameShown)}
		if words := res.Scopes[scope]; words != "" {
			list[i].Words = []string{visible(words, maxTextShown)}
		}
	}
	return list
}

// scopeWords are scopes in one line of words.
func scopeWords(scopes []string, res agents.Resource) []string {
	list := make([]string, len(scopes))
	for i, scope := range scopes {
		list[i] = visible(scope, maxNameShown)
		if words := res.Scopes[scope]; words != "" {
			list[i] = visible(words, maxTextShown)
		}
	}
	return list
}

// detailChoices are entries of authorization_details in words. What cannot be read is shown as it is: nothing is allowed
// unseen.
func (s *Server) detailChoices(raw json.RawMessage) []choice {
	if len(raw) == 0 {
		return nil
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(raw, &entries); err != nil {
		return []choice{{Name: "details that cannot be read", Words: []string{visible(string(raw), maxTextShown)}}}
	}
	list := make([]choice, len(entries))
	for i, entry := range entries {
		list[i] = choice{Index: i, Name: "details", Words: s.detailWords(entry)}
		var typed struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(entry, &typed) == nil && typed.Type != "" {
			list[i].Name = visible(typed.Type, maxNameShown)
		}
	}
	return list
}

func (s *Server) detailWords(entry json.RawMessage) []string {
	set, err := s.cfg.Details.Parse(slices.Concat([]byte("["), entry, []byte("]")))
	if err != nil || set.Len() != 1 {
		return []string{visible(string(entry), maxTextShown)}
	}
	lines := s.cfg.Details.Describe(set.Entries()[0])
	words := make([]string, 0, len(lines))
	for _, line := range lines {
		words = append(words, visible(line, maxLineShown))
	}
	return words
}

// target is a resource as people see it.
type target struct {
	Name, Host, URI string
}

func targetOf(res agents.Resource) target {
	t := target{Name: visible(res.Name, maxNameShown), Host: names.Host(res.URI), URI: visible(res.URI, maxTextShown)}
	if t.Name == "" {
		t.Name = visible(res.ID, maxNameShown)
	}
	return t
}

// party is an agent or a client as people see it.
type party struct {
	ID, Name, Owner, Operator, Contact, Host, About, Purpose, Model string
}

func agentParty(a agents.Agent) party {
	return party{
		ID: visible(a.ID, 128), Name: visible(a.Name, maxNameShown), Owner: visible(a.Owner, maxNameShown),
		Operator: visible(a.Operator, maxNameShown), Contact: visible(a.Contact, maxNameShown), Host: names.Host(a.Homepage),
		About: visible(a.Description, maxTextShown), Purpose: visible(a.Purpose, maxTextShown), Model: visible(a.Model, maxNameShown),
	}
}

func clientParty(c agents.Client) party {
	return party{ID: visible(c.ID, 128), Name: visible(c.Name, maxNameShown), Host: names.Host(c.Homepage)}
}

// formTarget is the place that a form's answer may lead to, for the content security policy: the origin of an address, or
// its scheme where there is none or the policy cannot name it.
func formTarget(address string) []string {
	u, err := url.Parse(address)
	if err != nil || strings.ContainsAny(address, " ;,'\"") {
		return nil
	}
	_, isIP := netip.ParseAddr(u.Hostname())
	switch {
	case u.Host == "" || isIP == nil && strings.Contains(u.Hostname(), ":"):
		return []string{u.Scheme + ":"}
	default:
		return []string{u.Scheme + "://" + u.Host}
	}
}

// loopback says whether an address leads to the machine that the browser runs on.
func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// span is a stretch of time in words.
func span(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", int(d/day))
	case d >= day && d%time.Hour == 0 && d != day:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	case d >= day:
		return "1 day"
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d/time.Hour))
	case d >= time.Hour:
		return "1 hour"
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d/time.Minute))
	default:
		return "1 minute"
	}
}

// moment is a time as people read it. The server knows no time zone but one.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 January 2006, 15:04 UTC")
}

// ago is how long something is past, in words.
func ago(t, now time.Time) string {
	if d := now.Sub(t); d >= time.Minute {
		return span(d) + " ago"
	}
	return "just now"
}

// until is how long something still lasts, in words.
func until(t, now time.Time) string { return "for another " + span(t.Sub(now)) }

// left is how long a grant still lasts, in words; empty: it has ended.
func left(g consent.Grant, now time.Time) string {
	if !g.LiveAt(now) {
		return ""
	}
	return until(g.Expires, now)
}
