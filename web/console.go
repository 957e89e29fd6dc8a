package web

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/store"
	"obolus/transaction"
	"obolus/users"
)

// operatorName is who an operator is in the ledger.
const operatorName = "operator"

// asOperator lets only operators in.
func (s *Server) asOperator(next handler) handler {
	return func(v *visit) error {
		if s.cfg.OperatorToken == "" {
			page := notHere()
			return &page
		}
		session, err := s.cfg.Users.Operator(v.ctx(), s.operatorCookie(v), users.OperatorProof(s.cfg.OperatorToken))
		if errors.Is(err, users.ErrNoSession) {
			return s.see(v, s.base+"/console/sign-in")
		}
		if err != nil {
			return err
		}
		v.operator = session
		if v.r.Method == http.MethodPost {
			if err := v.checkForm(session, formConsole); err != nil {
				return err
			}
		}
		return next(v)
	}
}

func (s *Server) operatorCookie(v *visit) users.Cookie {
	return users.Cookie(cookie(v.r, s.cookies.operator))
}

func (s *Server) operatorSignInPage(v *visit) error {
	return s.showOperatorSignIn(v, http.StatusOK, "")
}

func (s *Server) showOperatorSignIn(v *visit, status int, failed string) error {
	if s.cfg.OperatorToken == "" {
		page := notHere()
		return &page
	}
	return s.show(v, status, "operator", "Operators", struct{ Form, Failed string }{v.formFor(formOperatorSignIn), failed})
}

func (s *Server) operatorSignIn(v *visit) error {
	if s.cfg.OperatorToken == "" {
		page := notHere()
		return &page
	}
	if err := v.checkBrowser(formOperatorSignIn); err != nil {
		return err
	}
	in, err := s.cfg.Users.SignInOperator(v.ctx(), strings.TrimSpace(v.field("token")), s.cfg.OperatorToken,
		users.Attempt{Remote: v.remote, Had: s.operatorCookie(v)})
	if errors.Is(err, users.ErrRefused) {
		return s.showOperatorSignIn(v, http.StatusUnauthorized, "That is not the operators' token.")
	}
	if err != nil {
		return err
	}
	s.setCookie(v, s.cookies.operator, string(in.Cookie), http.SameSiteStrictMode)
	return s.see(v, s.base+"/console")
}

func (s *Server) operatorSignOut(v *visit) error {
	if err := s.cfg.Users.End(v.ctx(), s.operatorCookie(v)); err != nil {
		return err
	}
	s.dropCookie(v, s.cookies.operator)
	return s.see(v, s.base+"/console/sign-in")
}

// entry is an event as operators see it.
type entry struct {
	Seq     uint64
	At      string
	Kind    string
	Who     string
	Target  string
	What    string
	Refused bool
	Txn     string
}

func entryOf(e audit.Event) entry {
	out := entry{
		Seq: e.Seq, At: e.At.UTC().Format("2006-01-02 15:04:05"), Kind: strings.ReplaceAll(string(e.Kind), "_", " "), Refused: !e.Allowed, Txn: e.Txn,
		Target: visible(cmp.Or(e.Target, e.Subject), maxTextShown), What: visible(cmp.Or(e.GrantedScope, e.AskedScope), maxTextShown),
	}
	var who []string
	for _, name := range []string{e.User, e.Actor, e.Client, e.By} {
		if name != "" && !slices.Contains(who, name) {
			who = append(who, name)
		}
	}
	out.Who = visible(strings.Join(who, " · "), maxTextShown)
	if !e.Allowed {
		out.What = refusedBy(e)
	}
	if e.Why != "" {
		out.What = strings.TrimSpace(out.What + " (" + visible(e.Why, maxTextShown) + ")")
	}
	return out
}

// refusedBy says why an event is no yes.
func refusedBy(e audit.Event) string {
	reasons := []string{string(e.Error), string(e.Reason)}
	reasons = slices.Compact(slices.DeleteFunc(reasons, func(text string) bool { return text == "" }))
	switch {
	case e.Kind == audit.KindConsent && len(reasons) == 0:
		return "the user said no"
	case len(reasons) == 0:
		return "refused"
	default:
		return visible("refused: "+strings.Join(reasons, ", "), maxTextShown)
	}
}

// passage is an outstanding transaction.
type passage struct {
	Txn, User, Agent, Target, Scope string
	Left                            string
	Hops                            int
}

// consoleView is the operators' first page.
type consoleView struct {
	Form      string
	Live      []passage
	Refusals  []entry
	Latest    []entry
	Agents    int
	Active    int
	More      bool // there are more agents than were counted
	Resources int
	Clients   int
	Rules     int
}

const (
	consoleEvents = 400
	consoleRows   = 20
	registryRows  = 500
)

func (s *Server) consolePage(v *visit) error {
	events, err := s.cfg.Ledger.Latest(v.ctx(), audit.Filter{Limit: consoleEvents})
	if err != nil {
		return err
	}
	view := consoleView{Form: v.operator.Form(formConsole)}
	if err := s.countRegistry(v, &view); err != nil {
		return err
	}
	if view.Live, err = s.outstanding(v, events); err != nil {
		return err
	}
	for _, e := range events {
		if !e.Allowed && len(view.Refusals) < consoleRows {
			view.Refusals = append(view.Refusals, entryOf(e))
		}
		if len(view.Latest) < consoleRows {
			view.Latest = append(view.Latest, entryOf(e))
		}
	}
	return s.show(v, http.StatusOK, "console", "Console", view)
}

func (s *Server) countRegistry(v *visit, view *consoleView) error {
	list, err := s.cfg.Registry.Agents(v.ctx(), "", registryRows)
	if err != nil {
		return err
	}
	view.Agents, view.More = len(list), len(list) == registryRows
	for _, a := range list {
		if a.ActiveAt(s.cfg.Now()) {
			view.Active++
		}
	}
	resources, err := s.cfg.Registry.Resources(v.ctx(), "", registryRows)
	if err != nil {
		return err
	}
	clients, err := s.cfg.Registry.Clients(v.ctx(), "", registryRows)
	if err != nil {
		return err
	}
	rules, err := s.guardrails(v)
	view.Resources, view.Clients, view.Rules = len(resources), len(clients), len(rules.Files)
	return err
}

// outstanding are the transactions that were issued lately and are neither redeemed nor over nor stopped, newest first.
func (s *Server) outstanding(v *visit, events []audit.Event) ([]passage, error) {
	var list []passage
	now := s.cfg.Now()
	for _, e := range events {
		if e.Kind != audit.KindExchange || !e.Allowed || e.Txn == "" || now.After(e.Expires) || len(list) == consoleRows {
			continue
		}
		status, err := s.cfg.Lifecycle.Status(v.ctx(), agents.Authenticated{}, e.User, e.Txn)
		if errors.Is(err, transaction.ErrNotFound) || err == nil && status.Phase != transaction.PhaseIssued {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, passage{
			Txn: e.Txn, User: visible(e.User, maxNameShown), Agent: visible(e.Actor, maxNameShown), Target: visible(e.Target, maxNameShown),
			Scope: visible(e.GrantedScope, maxTextShown), Left: e.Expires.Sub(now).Round(time.Second).String(), Hops: len(e.Chain),
		})
	}
	return list, nil
}

// transactionView is the story of one transaction.
type transactionView struct {
	Form  string
	Txn   string
	Phase string
	Live  bool
	Chain picture
	Story []entry
}

func (s *Server) consoleTransaction(v *visit) error {
	txn := v.vars["txn"]
	if len(txn) > store.MaxKey/2 {
		return transaction.ErrNotFound
	}
	events, err := s.cfg.Ledger.Events(v.ctx(), audit.Filter{Txn: txn})
	if errors.Is(err, store.ErrInvalid) {
		return transaction.ErrNotFound
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(events, func(e audit.Event) bool { return e.Kind == audit.KindExchange })
	if i < 0 {
		return transaction.ErrNotFound
	}
	view := transactionView{Form: v.operator.Form(formConsole), Txn: visible(txn, 128), Phase: "refused", Chain: s.picture(v, events[i])}
	for _, e := range events {
		view.Story = append(view.Story, entryOf(e))
	}
	status, err := s.cfg.Lifecycle.Status(v.ctx(), agents.Authenticated{}, events[i].User, txn)
	switch {
	case err == nil:
		view.Phase, view.Live = string(status.Phase), status.Phase == transaction.PhaseIssued
	case !errors.Is(err, transaction.ErrNotFound):
		return err
	}
	return s.show(v, http.StatusOK, "transaction", "Transaction", view)
}

func (s *Server) guardrails(v *visit) (Guardrails, error) {
	if s.cfg.Guardrails == nil {
		return Guardrails{}, nil
	}
	return s.cfg.Guardrails(v.ctx())
}

// guardrailsView is the policies as operators see them.
type guardrailsView struct {
	Version, Problem string
	Revision         uint64
	Files            []guardrailView
	History          []guardrailView
	Trial            *trialView // nil: nothing can be tried out
}

// guardrailView is a file, or a change of one.
type guardrailView struct {
	Name, Text string
	Revision   uint64
	Made       string // by whom, when and why
}

func (s *Server) consoleGuardrails(v *visit) error {
	rules, err := s.guardrails(v)
	if err != nil {
		return err
	}
	view := guardrailsView{Version: rules.Version, Problem: visible(rules.Problem, maxTextShown), Revision: rules.Revision}
	if view.Trial, err = s.trial(v); err != nil {
		return err
	}
	for _, f := range rules.Files {
		view.Files = append(view.Files, guardrailView{visible(f.Name, maxTextShown), f.Text, f.Revision, made(f.By, f.Why, f.At)})
	}
	for _, h := range rules.History {
		view.History = append(view.History, guardrailView{Name: visible(h.What, maxTextShown), Revision: h.Revision, Made: made(h.By, h.Why, h.At)})
	}
	return s.show(v, http.StatusOK, "guardrails", "Guardrails", view)
}

// made says who did something, when and why.
func made(by, why string, at time.Time) string {
	words := visible(by, maxNameShown) + ", " + moment(at)
	if why != "" {
		words += ": " + visible(why, maxTextShown)
	}
	return words
}
