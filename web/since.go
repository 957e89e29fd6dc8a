package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"obolus/audit"
	"obolus/transaction"
)

// since is what happened since something was stopped: an operator sees who still tries, and that nothing comes through.
type since struct {
	At, By, Why string
	Path        string // of the page that has this alone
	Refused     int
	Most        bool // there are more than were counted
	First, Last string
	// Through is how much the ledger has after the stop as let through: at most what was under way at that very moment.
	Through int
	Tried   []entry // the newest first
}

const (
	sinceCounted = 1000
	sinceShown   = 10
)

// sinceStop tells what was tried since a thing was stopped, not before a time; nil if the ledger knows of no stop that is in force. What a
// stopped key had signed is refused without being put down to that key, so nothing is counted for it.
func (s *Server) sinceStop(v *visit, thing transaction.Target, at time.Time) (*since, error) {
	stop, ok, err := s.stopOf(v, thing, at)
	if err != nil || !ok {
		return nil, err
	}
	out := &since{At: stop.At.UTC().Format("2 January 2006, 15:04:05 UTC"), By: visible(stop.By, maxNameShown), Why: visible(stop.Why, maxTextShown), Path: s.sincePath(thing)}
	counted, err := s.cfg.Ledger.Events(v.ctx(), about(audit.Filter{After: stop.Seq, Limit: sinceCounted}, thing))
	if err != nil {
		return nil, err
	}
	newest := counted
	if out.Most = len(counted) == sinceCounted; out.Most {
		if newest, err = s.cfg.Ledger.Latest(v.ctx(), about(audit.Filter{After: stop.Seq, Limit: sinceCounted}, thing)); err != nil {
			return nil, err
		}
	}
	for _, e := range counted {
		switch {
		case !attempt(e, thing):
		case e.Allowed:
			out.Through++
		default:
			if out.Refused++; out.Refused == 1 {
				out.First = afterwards(e.At.Sub(stop.At))
			}
		}
	}
	for _, e := range newestFirst(newest) {
		if attempt(e, thing) && len(out.Tried) < sinceShown {
			out.Tried = append(out.Tried, entryOf(e))
		}
	}
	if len(out.Tried) > 0 {
		out.Last = out.Tried[0].At
	}
	return out, nil
}

// stopOf finds the stop of a thing: of an agent, whose registration says when that was, however long ago; of anything else among what
// happened lately.
func (s *Server) stopOf(v *visit, thing transaction.Target, at time.Time) (stop audit.Event, ok bool, err error) {
	var stops []audit.Event
	if thing.Kind == transaction.KindAgent {
		before, err := s.cfg.Ledger.Before(v.ctx(), at)
		if err != nil {
			return stop, false, err
		}
		stops, err = s.cfg.Ledger.Events(v.ctx(), audit.Filter{Actor: thing.ID, Kind: audit.KindStop, After: before, Limit: 1000})
		if err != nil {
			return stop, false, err
		}
	} else if stops, err = s.cfg.Ledger.Latest(v.ctx(), audit.Filter{Kind: audit.KindStop, Limit: 1000}); err != nil {
		return stop, false, err
	}
	stop, ok = firstStop(newestFirst(stops), string(thing.Kind)+"/"+thing.ID)
	return stop, ok, nil
}

// about narrows a filter to a thing, where the ledger has an order of it.
func about(f audit.Filter, thing transaction.Target) audit.Filter {
	switch thing.Kind {
	case transaction.KindAgent:
		f.Actor = thing.ID
	case transaction.KindUser:
		f.User = thing.ID
	case transaction.KindTxn:
		f.Txn = thing.ID
	default:
	}
	return f
}

// firstStop is the first of the stops of a thing, newest first, that no resuming came after.
func firstStop(stops []audit.Event, subject string) (first audit.Event, ok bool) {
	for _, e := range stops {
		if e.Subject != subject && !strings.HasPrefix(e.Subject, subject+" ") {
			continue
		}
		if !e.Stops() {
			break
		}
		first, ok = e, true
	}
	return first, ok
}

// attempt says whether an event is one of somebody who wants to get or to use a token that derives from a thing.
func attempt(e audit.Event, thing transaction.Target) bool {
	if e.Kind != audit.KindExchange && e.Kind != audit.KindRedeem {
		return false
	}
	is := map[transaction.Kind]string{
		transaction.KindAgent: e.Actor, transaction.KindUser: e.User, transaction.KindClient: e.Client, transaction.KindGrant: e.Grant,
		transaction.KindToken: e.JTI, transaction.KindTxn: e.Txn,
	}
	return thing.ID != "" && is[thing.Kind] == thing.ID
}

// newestFirst turns events that are in the order in which they happened.
func newestFirst(events []audit.Event) []audit.Event {
	if len(events) > 1 && events[0].Seq > events[1].Seq {
		return events
	}
	turned := make([]audit.Event, len(events))
	for i, e := range events {
		turned[len(events)-1-i] = e
	}
	return turned
}

// afterwards is how long after something else a thing happened.
func afterwards(d time.Duration) string {
	switch {
	case d < time.Second:
		return "at once"
	case d < 2*time.Second:
		return "1 second after"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds after", int(d/time.Second))
	default:
		return span(d) + " after"
	}
}

// sincePage is what happened since a stop and nothing else: what the other pages read anew, and what is watched without JavaScript.
func (s *Server) sincePage(v *visit) error {
	thing := transaction.Target{Kind: transaction.Kind(v.query.Get("kind")), ID: v.query.Get("id")}
	var at time.Time
	if thing.Kind == transaction.KindAgent {
		a, _, err := s.cfg.Registry.Agent(v.ctx(), thing.ID)
		if err != nil {
			return err
		}
		at = a.Changed.At
	}
	view, err := s.sinceStop(v, thing, at)
	if err != nil {
		return err
	}
	if view == nil {
		return transaction.ErrNotFound
	}
	return s.show(v, http.StatusOK, "since", "Since it was stopped", sinceView{visible(thing.ID, maxTextShown), s.stoppedPath(thing), view})
}

type sinceView struct {
	Name, Back string
	Since      *since
}

func (s *Server) sincePath(thing transaction.Target) string {
	return s.base + "/console/since?" + queryOf(thing)
}

// stoppedPath is the page that tells what came of a stop.
func (s *Server) stoppedPath(thing transaction.Target) string {
	if thing.Kind == transaction.KindAgent {
		return pathTo(s.base, thing.ID)
	}
	return s.base + "/console/stop?done&" + queryOf(thing)
}

func queryOf(thing transaction.Target) string {
	return url.Values{"kind": {string(thing.Kind)}, "id": {thing.ID}}.Encode()
}
