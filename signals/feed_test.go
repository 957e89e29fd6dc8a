package signals_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/internal/world"
	"obolus/signals"
	"obolus/store"
	"obolus/store/memory"
	"obolus/token"
	"obolus/transaction"
)

const (
	mail  = "https://mail.test/api"
	files = "https://files.test"
)

// feeding is a house with a feed that runs.
type feeding struct {
	*house
	feed *signals.Feed
}

func newFeeding(t *testing.T) *feeding {
	t.Helper()
	h := newHouse(t, nil)
	feed, err := signals.NewFeed(signals.FeedConfig{
		Issuer: world.Issuer, Ledger: h.Ledger, Keys: h.Keys, Signer: h.Signer, Now: h.Now, Look: 5 * time.Millisecond,
		Longest: func(context.Context) (time.Duration, error) { return time.Hour, nil },
		Epoch:   func(ctx context.Context) (store.Epoch, error) { return h.Live.InForce(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		feed.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return &feeding{house: h, feed: feed}
}

func (f *feeding) resource(uri string) agents.Resource {
	f.t.Helper()
	res, err := f.Registry.ResourceAt(f.t.Context(), uri)
	f.must(err)
	return res
}

func (f *feeding) follow(uri, last string) (*signals.Follower, bool) {
	f.t.Helper()
	w, reset, err := f.feed.Follow(f.t.Context(), f.resource(uri), last)
	f.must(err)
	f.t.Cleanup(w.Leave)
	return w, reset
}

// told are the next news, verified as the resource server would.
func (f *feeding) told(w *signals.Follower) ([]token.SecurityEvent, signals.News) {
	f.t.Helper()
	news, err := w.Next(f.t.Context(), 50*time.Millisecond)
	for late := time.Now().Add(time.Minute); err != nil && time.Now().Before(late); { // a machine that is busy looks late
		news, err = w.Next(f.t.Context(), 50*time.Millisecond)
	}
	f.must(err)
	var events []token.SecurityEvent
	for _, stop := range news.Stops {
		set, err := f.feed.Token(f.t.Context(), stop, w.Resource())
		f.must(err)
		ev, err := token.VerifySecurityEvent(f.t.Context(), set, token.Expect{
			Issuer: world.Issuer, Audience: w.Resource().URI, Keys: f.Keys, Now: f.Now,
		})
		f.must(err)
		again, err := f.feed.Token(f.t.Context(), stop, w.Resource())
		if err != nil || again != set {
			f.t.Errorf("the same stop is told in two ways: %v", err)
		}
		events = append(events, ev)
	}
	return events, news
}

// subjects are what is told up to now: the members of each subject.
func (f *feeding) subjects(w *signals.Follower) string {
	f.t.Helper()
	marker := fmt.Sprint("marker-", serial.Add(1))
	f.stop(transaction.KindAgent, marker)
	var all []string
	for late := time.Now().Add(time.Minute); marker != ""; {
		if time.Now().After(late) {
			f.t.Fatalf("%s is not told", marker)
		}
		events, _ := f.told(w)
		for _, ev := range events {
			for name, m := range ev.Subject.Members {
				if m.Subject == marker {
					marker = ""
				}
				if !strings.HasPrefix(m.Subject, "marker-") {
					all = append(all, name+"="+m.Subject+m.ID+m.JTI+m.URI)
				}
			}
			if !strings.Contains(string(ev.Events[token.EventSessionRevoked]), `"until":`) {
				f.t.Errorf("the event is %s", ev.Events[token.EventSessionRevoked])
			}
		}
	}
	return strings.Join(all, " ")
}

func (f *feeding) stop(kind transaction.Kind, id string) {
	f.t.Helper()
	f.must(f.Tx.Stop(f.t.Context(), transaction.Target{Kind: kind, ID: id}, transaction.Cause{By: "operator"}))
}

// mailToken is a token of carol's at mail, by agent-a.
func (f *feeding) mailToken() token.Claims {
	f.t.Helper()
	compact, err := f.exchange(f.Now())
	f.must(err)
	v, err := f.Verifier.Verify(f.t.Context(), compact)
	f.must(err)
	return v.Claims()
}

func TestAStopIsToldWhereItMatters(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	grant := f.Consent("corp:carol", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}})
	at := f.mailToken()
	own := f.UserToken("corp:carol", nil)
	v, err := f.Verifier.Verify(t.Context(), own)
	f.must(err)
	atMail, _ := f.follow(mail, "")
	atFiles, _ := f.follow(files, "")
	if got := f.subjects(atMail) + f.subjects(atFiles); got != "" {
		t.Fatalf("told %s before anything was stopped", got)
	}
	for _, c := range []struct {
		name        string
		stop        func()
		mail, files string
	}{
		{"a user with a token at mail", func() { f.stop(transaction.KindUser, "corp:carol") }, "user=corp:carol", ""},
		{"a user without", func() { f.stop(transaction.KindUser, "alice") }, "", ""},
		{"an agent", func() { f.stop(transaction.KindAgent, "agent-a") }, "application=agent-a", "application=agent-a"},
		{"a client", func() { f.stop(transaction.KindClient, "app") }, "application=app", "application=app"},
		{"a key", func() { f.stop(transaction.KindKey, "kid") }, "key=kid", "key=kid"},
		{"an issuer", func() { f.stop(transaction.KindIssuer, idp) }, "issuer=" + idp, "issuer=" + idp},
		{"a transaction at mail", func() { f.stop(transaction.KindTxn, at.Txn) }, "txn=" + at.Txn, ""},
		{"a token at mail", func() { f.stop(transaction.KindToken, at.ID) }, "token=" + at.ID, ""},
		{"a user's own token, by an operator", func() { f.stop(transaction.KindToken, v.Claims().ID) }, "token=" + v.Claims().ID, "token=" + v.Claims().ID},
		{"an agent that is suspended", func() {
			_, err := f.Tx.SetState(t.Context(), "agent-a", agents.Suspended, transaction.Cause{By: "operator"})
			f.must(err)
		}, "application=agent-a", "application=agent-a"},
		{"an agent that goes on", func() {
			_, err := f.Tx.SetState(t.Context(), "agent-a", agents.Active, transaction.Cause{By: "operator"})
			f.must(err)
		}, "", ""},
	} {
		c.stop()
		if got := f.subjects(atMail); got != c.mail {
			t.Errorf("%s: mail is told %q, want %q", c.name, got, c.mail)
		}
		if got := f.subjects(atFiles); got != c.files {
			t.Errorf("%s: files is told %q, want %q", c.name, got, c.files)
		}
	}
	f.subjects(atMail)
	f.must(f.Tx.Withdraw(t.Context(), f.Consents, "corp:carol", grant.ID, transaction.Cause{By: "corp:carol"}))
	events, news := f.told(atMail)
	for late := time.Now().Add(time.Minute); len(events) == 0 && time.Now().Before(late); {
		events, news = f.told(atMail)
	}
	if len(events) != 1 || !news.Whole || events[0].Subject.Members["grant"].ID != grant.ID || events[0].Subject.Members["user"].Subject != "corp:carol" ||
		!strings.Contains(string(events[0].Events[token.EventSessionRevoked]), `"initiating_entity":"user"`) {
		t.Errorf("a grant withdrawn: %+v", events)
	}
	if got := f.subjects(atFiles); got != "" {
		t.Errorf("a grant withdrawn: files is told %q", got)
	}
}

// A token whose issuance is entered after the stop of its user, for both happened at once, is found all the same.
func TestAStopIsToldWhereATokenComesToLight(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	w, _ := f.follow(mail, "")
	f.told(w)
	f.stop(transaction.KindUser, "corp:carol")
	events, news := f.told(w)
	for late := time.Now().Add(time.Minute); news.Settled && time.Now().Before(late); {
		events, news = f.told(w)
	}
	if len(events) != 0 || news.Settled || news.Position != "" {
		t.Fatalf("told %+v, %+v", events, news)
	}
	f.must(f.Recorder.Record(t.Context(), audit.Event{Kind: audit.KindExchange, Allowed: true, User: "corp:carol", Target: mail}))
	f.Pass(2 * time.Second)
	if got := f.subjects(w); got != "user=corp:carol" {
		t.Errorf("told %q", got)
	}
	f.stop(transaction.KindUser, "alice")
	f.Pass(time.Minute)
	for late := time.Now().Add(time.Minute); ; {
		if _, news = f.told(w); news.Settled && news.Position != "" {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("after a minute: %+v", news)
		}
	}
}

func TestAFollowerGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	w, reset := f.follow(mail, "")
	if reset {
		t.Error("a new follower is told to forget")
	}
	f.stop(transaction.KindAgent, "agent-1")
	f.subjects(w)
	_, news := f.told(w)
	w.Leave()
	f.stop(transaction.KindAgent, "agent-2")
	again, reset := f.follow(mail, news.Position)
	if got := f.subjects(again); reset || got != "application=agent-2" {
		t.Errorf("behind %q: %v %q", news.Position, reset, got)
	}
	fresh, _ := f.follow(mail, "")
	if got := f.subjects(fresh); got != "application=agent-1 application=agent-2" {
		t.Errorf("from the beginning: %q", got)
	}
	seq, _, _ := strings.Cut(news.Position, ".")
	for _, c := range []struct{ name, last string }{
		{"another ledger", seq + ".AAAAAAAAAAAA"},
		{"a place to come", "999." + news.Position[len(seq)+1:]},
		{"no place", "x"},
		{"half a place", seq},
		{"a place without a hash", seq + "."},
	} {
		w, reset := f.follow(mail, c.last)
		if got := f.subjects(w); !reset || got != "application=agent-1 application=agent-2" {
			t.Errorf("%s: %v %q", c.name, reset, got)
		}
	}
	// Longer away than a token lives: what was missed before that does not matter, and what was known is to be forgotten.
	f.Pass(3 * time.Hour)
	f.stop(transaction.KindAgent, "agent-3")
	f.Pass(time.Minute)
	late, reset := f.follow(mail, news.Position)
	if got := f.subjects(late); !reset || got != "application=agent-3" {
		t.Errorf("after hours: %v %q", reset, got)
	}
}

func TestAFollowerThatIsFarBehind(t *testing.T) {
	t.Parallel()
	const stops = 1234
	f := newFeeding(t)
	var all []chan error
	for i := range stops {
		done := make(chan error, 1)
		all = append(all, done)
		go func() {
			done <- f.Recorder.Record(t.Context(), audit.Event{Kind: audit.KindStop, Allowed: true, Subject: fmt.Sprint("agent/a", i)})
		}()
	}
	for _, done := range all {
		f.must(<-done)
	}
	w, _ := f.follow(mail, "")
	n, rounds := 0, 0
	for whole := false; !whole; rounds++ {
		events, news := f.told(w)
		n, whole = n+len(events), news.Whole
		if len(events) > 50 {
			t.Fatalf("the first of %d stops wait until it is known whom the last concerns", len(events))
		}
	}
	if n != stops || rounds != 25 {
		t.Errorf("told %d of %d stops, in %d parts", n, stops, rounds)
	}
}

func TestAFeedThatCannotSeeSaysSo(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	w, _ := f.follow(mail, "")
	f.told(w)
	f.Records.Down.Store(true)
	f.Pass(2 * time.Second)
	_, err := w.Next(t.Context(), 50*time.Millisecond)
	for late := time.Now().Add(time.Minute); err == nil && time.Now().Before(late); { // a look was under way
		f.Pass(2 * time.Second)
		_, err = w.Next(t.Context(), 50*time.Millisecond)
	}
	if err == nil || errors.Is(err, signals.ErrClosed) {
		t.Errorf("without the ledger: %v", err)
	}
	if _, _, err := f.feed.Follow(t.Context(), f.resource(mail), ""); err == nil {
		t.Error("a new follower without the ledger")
	}
	f.Records.Down.Store(false)
	f.told(w)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	again, _ := f.follow(mail, "")
	f.told(again)
	if _, err := again.Next(ended, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("a follower that goes: %v", err)
	}
	f.feed.Close()
	if _, err := again.Next(t.Context(), time.Minute); !errors.Is(err, signals.ErrClosed) {
		t.Errorf("a feed that is closed: %v", err)
	}
}

func TestNobodyLooksForNobody(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	w, _ := f.follow(mail, "")
	f.told(w)
	w.Leave()
	w.Leave()
	for late := time.Now().Add(time.Minute); ; { // a look was under way
		before := f.Records.Trips.Load()
		time.Sleep(300 * time.Millisecond)
		n := f.Records.Trips.Load() - before
		if n == 0 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%d looks for nobody", n)
		}
	}
	if _, err := signals.NewFeed(signals.FeedConfig{}); err == nil {
		t.Error("an empty configuration is taken")
	}
}

// A new epoch ends everything before it. It is told at once to who follows, and to who comes while a token of before could be alive.
func TestANewEpochIsTold(t *testing.T) {
	t.Parallel()
	f := newFeeding(t)
	until := func(w *signals.Follower, epoch string) (token.SecurityEvent, signals.News) {
		t.Helper()
		for late := time.Now().Add(time.Minute); time.Now().Before(late); {
			events, news := f.told(w)
			for i, ev := range events {
				if ev.Subject.Members["epoch"].ID == epoch {
					if at := news.Stops[i].Position(); at != "" {
						t.Errorf("it has a place, %s", at)
					}
					return ev, news
				}
			}
		}
		t.Fatalf("epoch %s is not told", epoch)
		return token.SecurityEvent{}, signals.News{}
	}
	w, _ := f.follow(mail, "")
	if got := f.subjects(w); got != "" {
		t.Errorf("before: %s", got)
	}
	for _, epoch := range []string{"2", "3"} {
		f.Pass(time.Minute)
		f.Engine.Engine = memory.New(f.Now) // what was in the live store is gone
		f.must(f.Live.Renew(t.Context()))
		ev, _ := until(w, epoch)
		began := f.Live.Epoch().Began
		if want := fmt.Sprintf(`"event_timestamp":%d,"initiating_entity":"system","until":%d`, began.Unix(), began.Add(time.Hour).Unix()); !strings.Contains(string(ev.Events[token.EventSessionRevoked]), want) {
			t.Errorf("epoch %s is told as %s", epoch, ev.Events[token.EventSessionRevoked])
		}
	}
	_, news := f.told(w)
	if len(news.Stops) > 0 {
		t.Errorf("it is told again: %d", len(news.Stops))
	}
	again, reset := f.follow(mail, news.Position)
	if until(again, "3"); reset {
		t.Error("the place is not to be had")
	}
	f.Pass(2 * time.Hour)
	late, _ := f.follow(mail, "")
	if got := f.subjects(late); strings.Contains(got, "epoch") {
		t.Errorf("long after it is told: %s", got)
	}
}
