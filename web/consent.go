package web

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"obolus/agents"
	"obolus/consent"
	"obolus/store"
	"obolus/users"
)

// consentPage shows what is asked: by an agent (r_…) or by an app (a_…).
func (s *Server) consentPage(v *visit) error {
	switch id := v.vars["id"]; kindOf(id) {
	case "r_":
		return s.askPage(v, id)
	case "a_":
		return s.appPage(v, id)
	default:
		page := over()
		return &page
	}
}

// decide takes the answer. Only the session that was shown the page can send its form, and only for this one question.
func (s *Server) decide(v *visit) error {
	id := v.vars["id"]
	kind := kindOf(id)
	if kind == "" {
		page := over()
		return &page
	}
	if !v.signedIn {
		return s.toSignIn(v, "/consent/"+id)
	}
	if err := v.checkForm(v.session, formConsent+id); err != nil {
		return err
	}
	if kind == "a_" {
		return s.decideApp(v, id)
	}
	return s.decideAsk(v, id)
}

func kindOf(id string) string {
	if !regexp.MustCompile(`^[ra]_[A-Za-z0-9_-]{8,62}$`).MatchString(id) {
		return ""
	}
	return id[:2]
}

// askView is the page on which a user answers an agent.
type askView struct {
	Form, Path string
	Flaw       flaw
	Before     string // whether this user has had to do with the agent
	Agent      party
	Target     target
	Scopes     []choice
	Details    []choice
	Once       bool   // the agent may ask for no more than that
	Any        bool   // there is no limit of the agent's
	Times      int    // most uses that can be given
	How        string // how often, chosen: once, times or any
	Suggest    string
	Ends       []ending
	Left       string
}

// ending is a time for which a grant may last.
type ending struct {
	Seconds int64
	Words   string
	Chosen  bool
}

// question is an agent's question with what it is about, as the registry has it now.
type question struct {
	in    consent.Interaction
	agent agents.Agent
	res   agents.Resource
}

func (s *Server) askPage(v *visit, id string) error {
	if !v.signedIn {
		return s.toSignIn(v, "/consent/"+id)
	}
	q, err := s.question(v, id)
	if err != nil {
		return err
	}
	if q.in.Status != consent.Pending {
		return s.showAnswer(v, q)
	}
	if err := s.answerable(q); err != nil {
		return err
	}
	if s.tooLongAgo(v.session, q.res) {
		return s.toFreshSignIn(v, "/consent/"+id)
	}
	return s.showAsk(v, http.StatusOK, q, nil)
}

// showAsk shows a question, for the first time or with what is wrong with the answer; then the limits are as they were chosen.
func (s *Server) showAsk(v *visit, status int, q question, wrong error) error {
	ask := q.in.Ask
	all, err := s.cfg.Consents.GrantsOf(v.ctx(), v.session.User)
	if err != nil {
		return err
	}
	view := askView{
		Form: v.session.Form(formConsent + q.in.ID), Path: s.base + "/consent/" + q.in.ID, Before: before(all, q.agent.ID),
		Agent: agentParty(q.agent), Target: targetOf(q.res), Details: v.again("detail", s.detailChoices(ask.Details)),
		Scopes: v.again("scope", unexplainedFirst(scopeChoices(ask.Scopes, q.res))),
		Once:   ask.MaxUses == 1, Any: ask.MaxUses == 0, Times: mostUses(ask), How: chosen(v.field("uses"), ask), Ends: s.endings(),
		Left: span(q.in.Remaining(s.cfg.Now())),
	}
	view.Suggest = cmp.Or(visible(v.field("times"), 8), strconv.Itoa(min(5, view.Times)))
	title := view.Agent.Name + " asks for your permission"
	if f, ok := errors.AsType[*flaw](wrong); ok {
		view.Flaw, title = *f, "Not yet: "+title
	}
	choose(view.Ends, v.field("until"))
	return s.show(v, status, "ask", title, view)
}

// before says whether a user has ever had to do with an agent: a stranger should look like one.
func before(grants []consent.Drawn, agent string) string {
	var last consent.Grant
	for _, g := range grants {
		if g.Agent == agent && g.Created.After(last.Created) {
			last = g.Grant
		}
	}
	switch {
	case last.ID == "":
		return "You have never allowed it anything."
	case last.By == last.User:
		return "You have allowed it something before, and stopped it."
	default:
		return "You have allowed it something before, last on " + moment(last.Created) + "."
	}
}

// chosen is which of the ways to say how often is marked: the one that was sent, if the agent's ceiling has it.
func chosen(sent string, ask consent.Ask) string {
	if sent == "times" && ask.MaxUses != 1 || sent == "any" && ask.MaxUses == 0 {
		return sent
	}
	return "once"
}

// choose marks the ending that was sent, if it is one that is offered.
func choose(ends []ending, sent string) {
	if i := slices.IndexFunc(ends, func(e ending) bool { return strconv.FormatInt(e.Seconds, 10) == sent }); i >= 0 {
		for j := range ends {
			ends[j].Chosen = j == i
		}
	}
}

func (s *Server) decideAsk(v *visit, id string) error {
	q, err := s.question(v, id)
	if err != nil {
		return err
	}
	path := s.base + "/consent/" + id
	if q.in.Status != consent.Pending {
		return s.see(v, path)
	}
	d := consent.Decision{AuthTime: v.session.AuthTime}
	switch v.field("decision") {
	case "deny":
	case "allow":
		if err := s.answerable(q); err != nil {
			return err
		}
		if s.tooLongAgo(v.session, q.res) {
			return s.toFreshSignIn(v, "/consent/"+id)
		}
		if d, err = s.readAnswer(v, q); err != nil {
			return s.showAsk(v, http.StatusBadRequest, q, err)
		}
	default:
		return refusal(http.StatusBadRequest, "Neither yes nor no", "Nothing was allowed.")
	}
	_, err = s.cfg.Consents.Decide(v.ctx(), id, v.session.User, d)
	if err != nil && !errors.Is(err, consent.ErrDecided) {
		return err
	}
	return s.see(v, path)
}

// readAnswer reads what was left ticked and the limits. It names places in the question, never things, so a form that was
// tampered with can allow nothing that was not asked.
func (s *Server) readAnswer(v *visit, q question) (consent.Decision, error) {
	d := consent.Decision{Allow: true, AuthTime: v.session.AuthTime}
	scopes, err := v.indexes("scope", len(q.in.Ask.Scopes))
	if err != nil {
		return d, err
	}
	for _, i := range scopes {
		d.Scopes = append(d.Scopes, q.in.Ask.Scopes[i])
	}
	if d.Details, err = v.indexes("detail", len(s.detailChoices(q.in.Ask.Details))); err != nil {
		return d, err
	}
	if len(d.Scopes)+len(d.Details) == 0 {
		return d, &flaw{"what", "you left nothing ticked. Tick what the agent may do, or deny"}
	}
	if d.Uses, err = v.uses(q.in.Ask); err != nil {
		return d, err
	}
	lasts, err := s.lasting(v.field("until"))
	d.Expires = s.cfg.Now().Add(lasts)
	return d, err
}

// uses reads how often: once unless the form says otherwise.
func (v *visit) uses(ask consent.Ask) (int, error) {
	switch v.field("uses") {
	case "", "once":
		return 1, nil
	case "any":
		if ask.MaxUses == 0 {
			return 0, nil
		}
	case "times":
		n, err := strconv.Atoi(strings.TrimSpace(v.field("times")))
		if err == nil && n >= 1 && n <= mostUses(ask) {
			return n, nil
		}
	}
	return 0, &flaw{"times", fmt.Sprintf("how often: a number from 1 to %d", mostUses(ask))}
}

// indexes reads which of n things are ticked.
func (v *visit) indexes(name string, n int) ([]int, error) {
	var list []int
	for _, value := range v.form[name] {
		i, err := strconv.Atoi(value)
		if err != nil || i < 0 || i >= n || slices.Contains(list, i) {
			return nil, &flaw{"what", "the form names something that was not asked for"}
		}
		list = append(list, i)
	}
	return list, nil
}

// mostUses is the largest number of uses that a user can choose.
func mostUses(ask consent.Ask) int {
	if ask.MaxUses > 0 {
		return min(ask.MaxUses, 1000)
	}
	return 1000
}

// endings are the times that a grant may be given for, the usual one chosen.
func (s *Server) endings() []ending {
	spans := []time.Duration{10 * time.Minute, time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, s.cfg.DefaultLifetime}
	spans = slices.DeleteFunc(spans, func(d time.Duration) bool { return d > s.cfg.MaxLifetime })
	slices.Sort(spans)
	list := make([]ending, 0, len(spans))
	for _, d := range slices.Compact(spans) {
		list = append(list, ending{int64(d / time.Second), span(d), d == s.cfg.DefaultLifetime})
	}
	return list
}

func (s *Server) lasting(sent string) (time.Duration, error) {
	if sent == "" {
		return s.cfg.DefaultLifetime, nil
	}
	for _, e := range s.endings() {
		if strconv.FormatInt(e.Seconds, 10) == sent {
			return time.Duration(e.Seconds) * time.Second, nil
		}
	}
	return 0, &flaw{"until", "choose one of the times that are offered"}
}

// question reads a question that was asked of this user, with what it is about. Looking for questions is limited.
func (s *Server) question(v *visit, id string) (question, error) {
	in, err := s.cfg.Consents.Interaction(v.ctx(), id)
	if errors.Is(err, consent.ErrNotFound) {
		page := over()
		return question{}, s.missed(v, v.session.User, &page)
	}
	if err != nil {
		return question{}, err
	}
	if in.Ask.User != v.session.User {
		return question{}, consent.ErrNotYours
	}
	q := question{in: in}
	if q.agent, _, err = s.cfg.Registry.Agent(v.ctx(), in.Ask.Agent); err != nil && !errors.Is(err, agents.ErrNotFound) {
		return q, err
	}
	if q.res, _, err = s.cfg.Registry.Resource(v.ctx(), in.Ask.Target); err != nil && !errors.Is(err, agents.ErrNotFound) {
		return q, err
	}
	return q, nil
}

// answerable refuses a question of an agent that may not act any more, or is not the one that asked.
func (s *Server) answerable(q question) error {
	if !q.agent.ActiveAt(s.cfg.Now()) || q.res.ID == "" || q.res.Disabled {
		return refusal(http.StatusConflict, "This question is void",
			"The agent, or what it wants to use, was switched off since it asked. Nothing was allowed.")
	}
	if q.agent.Fingerprint() != q.in.Ask.AgentKeys {
		return refusal(http.StatusConflict, "This question is void",
			"The agent has changed its keys or its owner since it asked. Nothing was allowed; it has to ask again.")
	}
	return nil
}

// tooLongAgo says whether a resource wants a more recent sign-in than the session's.
func (s *Server) tooLongAgo(session users.Session, res agents.Resource) bool {
	limit := time.Duration(res.MaxAuthAge)
	return limit > 0 && (session.AuthTime.IsZero() || s.cfg.Now().Sub(session.AuthTime) > limit)
}

const (
	missWindow = 15 * time.Minute
	missLimit  = 40 // links that lead nowhere, for one person in that time
)

// missed counts a look for a question that is not there, and passes the error on or says that it is enough.
func (s *Server) missed(v *visit, who string, err error) error {
	out, failed := store.Apply(v.ctx(), s.cfg.Live, store.Commit{
		Partition: "missed/" + hashed(who),
		If:        []store.Condition{{Name: "looks", Is: store.AtMost, Count: missLimit - 1}},
		Writes:    []store.Write{{Name: "looks", Add: 1, TTL: missWindow}},
	})
	if failed != nil {
		return failed
	}
	if !out.Applied {
		return refusal(http.StatusTooManyRequests, "Too many links that lead nowhere", "Wait a quarter of an hour.")
	}
	return err
}

// answerView is what became of a question.
type answerView struct {
	Allowed bool
	Agent   party
	Target  target
	Words   []string
	Details []choice
	Uses    int
	Until   string
	Left    string
	Mine    string
}

// showAnswer tells what was decided, and what happens now.
func (s *Server) showAnswer(v *visit, q question) error {
	view := answerView{Allowed: q.in.Status == consent.Allowed, Agent: agentParty(q.agent), Target: targetOf(q.res), Mine: s.base + home}
	if view.Agent.Name == "" {
		view.Agent.Name = visible(q.in.Ask.Agent, maxNameShown)
	}
	title := "You said no"
	if view.Allowed {
		title = "You said yes"
		all, err := s.cfg.Consents.GrantsOf(v.ctx(), v.session.User)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(d consent.Drawn) bool { return d.ID == q.in.Grant })
		if i >= 0 {
			g := all[i]
			view.Words, view.Details = scopeWords(g.Scopes, q.res), s.detailChoices(g.Details)
			view.Uses, view.Until, view.Left = g.Uses, moment(g.Expires), left(g.Grant, s.cfg.Now())
		}
	}
	return s.show(v, http.StatusOK, "answer", title, view)
}
