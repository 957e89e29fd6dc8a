package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"obolus/audit"
	"obolus/store"
)

// ledgerView is the ledger as operators see it: the newest events that match.
type ledgerView struct {
	User, Agent, Txn, Kind string
	Kinds                  []audit.Kind
	Events                 []entry
	More                   string // where more of them are; empty: there are no more
	Export                 string // where they are as JSON
	Seq                    uint64 // the last event there is
	Hash                   string
	Verify                 string // where the chain is walked
	Walked, Whole          bool
	Fits                   uint64 // so many events fit
	Problem                string
}

const (
	ledgerRows = 100
	ledgerMost = 1000
	// verifyMost is how long a chain may be to be walked while somebody waits.
	verifyMost = 250_000
	// exportTime is how long a reader of an export may take for a piece of it.
	exportTime = time.Minute
)

// consoleLedger shows what happened. On demand it walks the chain; that takes what it takes, so it is not done by itself.
func (s *Server) consoleLedger(v *visit) error {
	view := ledgerView{
		User: strings.TrimSpace(v.query.Get("user")), Agent: strings.TrimSpace(v.query.Get("agent")), Txn: strings.TrimSpace(v.query.Get("txn")),
		Kind: v.query.Get("kind"), Kinds: kinds(), Verify: s.base + "/console/ledger?verify",
	}
	f := view.filter()
	f.Limit = ledgerRows
	if v.query.Has("more") {
		f.Limit = ledgerMost
	}
	events, err := s.cfg.Ledger.Latest(v.ctx(), f)
	if err != nil {
		return noSuchEvents(err)
	}
	for _, e := range events {
		view.Events = append(view.Events, entryOf(e))
	}
	asked := url.Values{"user": {view.User}, "agent": {view.Agent}, "txn": {view.Txn}, "kind": {view.Kind}}.Encode()
	view.Export = s.base + "/console/ledger.jsonl?" + asked
	if len(events) == f.Limit && f.Limit < ledgerMost {
		view.More = s.base + "/console/ledger?more&" + asked
	}
	if view.Seq, view.Hash, err = s.cfg.Ledger.Head(v.ctx()); err != nil {
		return err
	}
	if v.query.Has("verify") {
		if err := s.walkChain(v, &view); err != nil {
			return err
		}
	}
	return s.show(v, http.StatusOK, "ledger", "Ledger", view)
}

// filter selects what was asked for.
func (l ledgerView) filter() audit.Filter {
	return audit.Filter{User: l.User, Actor: l.Agent, Txn: l.Txn, Kind: audit.Kind(l.Kind)}
}

// kinds are those of events, for the form.
func kinds() []audit.Kind {
	return []audit.Kind{
		audit.KindExchange, audit.KindRedeem, audit.KindReport, audit.KindSession, audit.KindConsent, audit.KindWithdraw, audit.KindStop, audit.KindRevoke,
		audit.KindSignIn, audit.KindRegistry, audit.KindKey, audit.KindClient, audit.KindAuthorize, audit.KindSignal, audit.KindBackup, audit.KindRestore, audit.KindMigrate,
	}
}

// walkChain says whether every event follows the one before.
func (s *Server) walkChain(v *visit, view *ledgerView) error {
	if view.Seq > verifyMost {
		view.Problem = "There are too many events to walk through while you wait: obolus audit verify does it."
		return nil
	}
	fits, err := s.cfg.Ledger.Verify(v.ctx(), func(uint64) {})
	if p := asPage(err); err != nil && p.status == http.StatusServiceUnavailable {
		return err
	}
	if view.Walked, view.Fits, view.Whole = true, fits, err == nil; err != nil {
		view.Problem = visible(err.Error(), maxTextShown)
	}
	return nil
}

// exportLedger sends what matches, in the order in which it happened: one JSON object on a line, as obolus audit export writes it. What
// cannot be sent to its end is broken off, so that nobody takes a part for the whole.
func (s *Server) exportLedger(v *visit) error {
	f := ledgerView{User: v.query.Get("user"), Agent: v.query.Get("agent"), Txn: v.query.Get("txn"), Kind: v.query.Get("kind")}.filter()
	f.Limit = ledgerMost
	events, err := s.cfg.Ledger.Events(v.ctx(), f)
	if err != nil {
		return noSuchEvents(err)
	}
	v.w.Header().Set("Content-Type", "application/jsonl")
	v.w.Header().Set("Content-Disposition", `attachment; filename="ledger.jsonl"`)
	deadline, lines := http.NewResponseController(v.w), json.NewEncoder(v.w)
	_ = deadline.SetWriteDeadline(time.Time{}) // it may be long, as long as it goes on
	stuck := time.AfterFunc(exportTime, func() { _ = deadline.SetWriteDeadline(time.Unix(1, 0)) })
	defer stuck.Stop()
	lines.SetEscapeHTML(false)
	for {
		stuck.Reset(exportTime)
		for _, e := range events {
			if err := lines.Encode(e); err != nil {
				panic(http.ErrAbortHandler)
			}
			f.After = e.Seq
		}
		if len(events) < f.Limit {
			return nil
		}
		if events, err = s.cfg.Ledger.Events(v.ctx(), f); err != nil {
			s.cfg.Log.ErrorContext(v.ctx(), "export broken off", "after", f.After, "cause", err)
			panic(http.ErrAbortHandler)
		}
	}
}

// noSuchEvents is the error of a search for what no event can have.
func noSuchEvents(err error) error {
	if errors.Is(err, store.ErrInvalid) {
		return refusal(http.StatusBadRequest, "Nothing is called that", "The name of a user, an agent or a transaction is shorter, and has no such characters.")
	}
	return err
}

// eventView is everything of one event.
type eventView struct {
	Entry    entry
	Chain    picture
	Facts    []fact
	Raw      string
	Earlier  string
	Later    string
	Hash     string
	Previous string
}

// fact is one thing that an event tells.
type fact struct{ Name, Text, Path string }

func (s *Server) consoleEvent(v *visit) error {
	seq, err := strconv.ParseUint(v.vars["seq"], 10, 64)
	if err != nil {
		page := notHere()
		return &page
	}
	e, ok, err := s.cfg.Ledger.Event(v.ctx(), seq)
	if err != nil {
		return err
	}
	if !ok {
		page := notHere()
		return &page
	}
	raw, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	view := eventView{Entry: entryOf(e), Facts: s.factsOf(e), Raw: string(raw), Hash: e.Hash, Previous: e.Prev}
	if seq > 1 {
		view.Earlier = s.eventPath(seq - 1)
	}
	if _, later, err := s.cfg.Ledger.Event(v.ctx(), seq+1); err == nil && later {
		view.Later = s.eventPath(seq + 1)
	}
	if e.Actor != "" && e.User != "" && e.Target != "" {
		view.Chain = s.picture(v, e)
	}
	return s.show(v, http.StatusOK, "event", "Entry "+strconv.FormatUint(seq, 10), view)
}

func (s *Server) eventPath(seq uint64) string {
	return s.base + "/console/ledger/" + strconv.FormatUint(seq, 10)
}

// factsOf tells an event in the order in which people ask: who did what for whom, where, and what came of it.
func (s *Server) factsOf(e audit.Event) []fact {
	agent, txn := "", ""
	if e.Actor != "" {
		agent = pathTo(s.base, e.Actor)
	}
	if e.Txn != "" {
		txn = s.base + "/console/transactions/" + url.PathEscape(e.Txn)
	}
	outcome := "let through"
	if !e.Allowed {
		outcome = refusedBy(e)
	}
	facts := []fact{
		{"What", strings.ReplaceAll(string(e.Kind), "_", " "), ""},
		{"Outcome", outcome, ""},
		{"When", e.At.UTC().Format("2006-01-02 15:04:05.000 UTC"), ""},
		{"For the user", e.User, s.base + "/console/ledger?" + url.Values{"user": {e.User}}.Encode()},
		{"Who acts", e.Actor, agent},
		{"Who asked", e.Client, ""},
		{"Decided by", e.By, ""},
		{"Why", e.Why, ""},
		{"About", e.Subject, ""},
		{"Where", e.Target, ""},
		{"Asked for", e.AskedScope, ""},
		{"Got", e.GrantedScope, ""},
		{"Details asked for", string(e.AskedDetails), ""},
		{"Details got", string(e.GrantedDetails), ""},
		{"Transaction", e.Txn, txn},
		{"Grant", e.Grant, ""},
		{"Guardrails", strings.TrimSpace(strings.Join(e.Policies, " ")), ""},
		{"Ends", moment(e.Expires), ""},
		{"From", e.Remote, ""},
	}
	told := facts[:0]
	for _, f := range facts {
		if f.Text = visible(f.Text, maxLineShown); f.Text != "" {
			told = append(told, f)
		}
	}
	return told
}
