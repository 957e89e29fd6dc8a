package signals

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// FeedConfig is what a Feed needs; members without a word about their zero value are needed.
type FeedConfig struct {
	Issuer string
	Ledger *audit.Ledger
	Keys   transaction.Keys
	Signer *token.Issuer
	// Longest is the longest that a token lives: whoever was away longer has missed nothing that still matters.
	Longest func(context.Context) (time.Duration, error)
	// Epoch is the epoch that is in force: nothing that was issued in one before it counts.
	Epoch func(context.Context) (store.Epoch, error)
	Now   func() time.Time

	Look time.Duration // between looks into the ledger; zero: 100 ms
}

// Feed follows the ledger for resource servers: it finds what was stopped, by any server, and keeps what was found lately. It looks only while
// somebody follows.
type Feed struct {
	cfg    FeedConfig
	wake   chan struct{}
	closed chan struct{}
	close  sync.Once

	reached mark // before where tokens were looked for last

	mu        sync.Mutex
	followers int
	seen      *view         // nil: nobody has looked yet
	changed   chan struct{} // closed when seen is replaced
}

// view is the ledger as it was seen at one moment.
type view struct {
	from, end uint64  // the stops above from and up to end are in stops
	hash      string  // of the event at end
	stops     []*Stop // in their order
	epoch     *Stop   // of what was issued before the epoch in force; nil: there was none before
	longest   time.Duration
	at        time.Time
}

const (
	lookEvery = 100 * time.Millisecond
	lookTime  = 2 * time.Second
	staleTime = time.Second // after which what was seen is no news any more
	pageSize  = 500
	atOnce    = 50     // stops that one News has; of each it must be found out whom it concerns
	keepMost  = 10_000 // stops
)

// ErrClosed: the server is about to end.
var ErrClosed = errors.New("the feed of stops is closed")

// NewFeed makes a Feed; Run has it look.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	if cfg.Issuer == "" || cfg.Ledger == nil || cfg.Keys == nil || cfg.Signer == nil || cfg.Longest == nil || cfg.Epoch == nil || cfg.Now == nil {
		return nil, errors.New("signals: the configuration of the feed is not complete")
	}
	if cfg.Look <= 0 {
		cfg.Look = lookEvery
	}
	return &Feed{cfg: cfg, wake: make(chan struct{}, 1), closed: make(chan struct{}), changed: make(chan struct{})}, nil
}

// Run looks until the context ends.
func (f *Feed) Run(ctx context.Context) {
	defer f.Close()
	pause := time.NewTicker(f.cfg.Look)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		for f.followed() {
			f.look(ctx)
			select {
			case <-ctx.Done():
				return
			case <-pause.C:
			}
		}
		f.show(nil)
	}
}

// Close ends all who follow.
func (f *Feed) Close() { f.close.Do(func() { close(f.closed) }) }

func (f *Feed) followed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.followers > 0
}

func (f *Feed) show(v *view) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = v
	close(f.changed)
	f.changed = make(chan struct{})
}

// view is what was seen last, and what is closed when there is something newer.
func (f *Feed) view() (*view, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen, f.changed
}

// look sees what is new in the ledger. If it cannot, what was seen before grows old.
func (f *Feed) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	was, _ := f.view()
	if now, err := f.see(ctx, was); err == nil {
		f.show(now)
	}
}

// see is the ledger as it is, given what was seen before. The end is read first: every stop up to it is then found.
func (f *Feed) see(ctx context.Context, was *view) (*view, error) {
	at := f.cfg.Now()
	longest, err := f.cfg.Longest(ctx)
	if err != nil {
		return nil, err
	}
	epoch, err := f.epoch(ctx, was)
	if err != nil {
		return nil, err
	}
	end, hash, err := f.cfg.Ledger.Head(ctx)
	if err != nil {
		return nil, err
	}
	if was == nil || end < was.end {
		return &view{from: end, end: end, hash: hash, epoch: epoch, longest: longest, at: at}, nil
	}
	v := &view{from: was.from, end: was.end, hash: was.hash, stops: slices.Clip(was.stops), epoch: epoch, longest: longest, at: at}
	for v.end < end {
		events, err := f.cfg.Ledger.Stops(ctx, v.end, pageSize)
		if err != nil {
			return nil, err
		}
		v.add(events)
		if len(events) < pageSize && v.end < end {
			v.end, v.hash = end, hash
		}
	}
	if extra := len(v.stops) - keepMost; extra > 0 {
		v.from, v.stops = v.stops[extra-1].event.Seq, v.stops[extra:]
	}
	return v, nil
}

// epoch is the stop that the epoch in force was of everything before it. It is in no ledger: the epoch itself is what is remembered of it.
func (f *Feed) epoch(ctx context.Context, was *view) (*Stop, error) {
	e, err := f.cfg.Epoch(ctx)
	if err != nil || e.Began.IsZero() {
		return nil, err
	}
	if was != nil && was.epoch != nil && was.epoch.epoch == e.Number {
		return was.epoch, nil
	}
	return &Stop{epoch: e.Number, event: audit.Event{At: e.Began, By: "server"}}, nil
}

func (v *view) add(events []audit.Event) {
	for _, e := range events {
		v.stops = append(v.stops, &Stop{event: e})
		v.end, v.hash = e.Seq, e.Hash
	}
}

// position names a place in the ledger: the number of an event and the beginning of its hash, so that the same number in another ledger, such as one that was
// restored, is not taken for it.
func position(seq uint64, hash string) string {
	return strconv.FormatUint(seq, 10) + "." + hash[:min(len(hash), hashPart)]
}

const hashPart = 12

func parsePosition(s string) (seq uint64, hash string, ok bool) {
	number, hash, found := strings.Cut(s, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	return seq, hash, found && err == nil && len(hash) == hashPart
}

// Follower is one resource server that follows the stops of one resource. It is for one goroutine.
type Follower struct {
	feed     *Feed
	resource agents.Resource
	at       uint64 // all stops up to it were looked at
	hash     string
	told     bool    // that it is at the end
	epoch    *Stop   // told, or too old to matter
	open     []*Stop // looked at, of no concern so far, and so young that this may change
	left     sync.Once
}

// Follow begins to follow behind a position that was told before; empty: with the stops that still matter. Reset says that the position is not to be had:
// what was known of before is to be forgotten. Whoever follows calls Leave.
func (f *Feed) Follow(ctx context.Context, r agents.Resource, last string) (w *Follower, reset bool, err error) {
	f.mu.Lock()
	f.followers++
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
	w = &Follower{feed: f, resource: r}
	if reset, err = w.begin(ctx, last); err != nil {
		w.Leave()
		return nil, false, err
	}
	return w, reset, nil
}

// Resource is the one whose stops are followed.
func (w *Follower) Resource() agents.Resource { return w.resource }

// Leave ends following.
func (w *Follower) Leave() {
	w.left.Do(func() {
		w.feed.mu.Lock()
		defer w.feed.mu.Unlock()
		w.feed.followers--
	})
}

func (w *Follower) begin(ctx context.Context, last string) (reset bool, err error) {
	f := w.feed
	longest, err := f.cfg.Longest(ctx)
	if err != nil {
		return false, err
	}
	matters, err := f.cfg.Ledger.Before(ctx, f.cfg.Now().Add(-longest))
	if err != nil {
		return false, err
	}
	w.at = matters
	seq, hash, ok := parsePosition(last)
	if !ok || seq < matters {
		return last != "", nil
	}
	e, found, err := f.cfg.Ledger.Event(ctx, seq)
	if err != nil {
		return false, err
	}
	if !found || !strings.HasPrefix(e.Hash, hash) {
		return true, nil
	}
	w.at, w.hash = seq, e.Hash
	return false, nil
}

// News is what a follower is told at once.
type News struct {
	Stops []*Stop // that concern the resource
	// Settled says that nothing before them may still turn out to concern the resource: to follow behind the last of them misses nothing.
	Settled bool
	// Position is where the follower stands; empty: nowhere to go on from, for the ledger is empty or not all is settled.
	Position string
	// Whole says that everything up to now was told.
	Whole bool
}

// settled is how long a stop may concern more resources than were found: what was issued right before it may not be in the ledger yet.
const settled = 10 * time.Second

// Next waits for news, for as long as patience; when there are none it says so. An error means that it is not known whether there are any.
func (w *Follower) Next(ctx context.Context, patience time.Duration) (News, error) {
	over := time.NewTimer(patience)
	defer over.Stop()
	waited := false
	for {
		v, changed := w.feed.view()
		news, again, err := w.from(ctx, v, waited)
		if err != nil || !again {
			return news, err
		}
		select {
		case <-changed:
		case <-over.C:
			waited = true
		case <-w.feed.closed:
			return News{}, ErrClosed
		case <-ctx.Done():
			return News{}, ctx.Err()
		}
	}
}

var errStill = errors.New("the ledger could not be looked at for too long")

// from reads the news from what was seen. Again says that there are none, and that the follower may wait.
func (w *Follower) from(ctx context.Context, v *view, waited bool) (news News, again bool, err error) { //nolint:revive // waited is what Next knows
	if v == nil || w.feed.cfg.Now().Sub(v.at) > staleTime {
		if waited {
			return News{}, false, errStill
		}
		return News{}, true, nil
	}
	stops, whole, err := w.unseen(ctx, v)
	if err != nil {
		return News{}, false, err
	}
	if news.Stops, err = w.concerning(ctx, append(w.open, stops...), v.longest); err != nil {
		return News{}, false, err
	}
	if v.epoch != w.epoch {
		if w.epoch = v.epoch; v.epoch != nil && w.feed.cfg.Now().Before(v.epoch.event.At.Add(v.longest)) {
			news.Stops = slices.Insert(news.Stops, 0, v.epoch)
		}
	}
	news.Whole, news.Settled = whole, len(w.open) == 0
	if news.Settled && w.hash != "" {
		news.Position = position(w.at, w.hash)
	}
	again = whole && w.told && len(news.Stops) == 0 && !waited
	w.told = w.told || whole
	return news, again, nil
}

// unseen are the stops behind the follower's place, which it moves: those at hand, or those of the ledger if it is far behind.
func (w *Follower) unseen(ctx context.Context, v *view) (stops []*Stop, whole bool, err error) {
	if w.at >= v.from {
		for _, s := range v.stops {
			if s.event.Seq <= w.at {
				continue
			}
			if len(stops) == atOnce {
				last := stops[atOnce-1].event
				w.at, w.hash = last.Seq, last.Hash
				return stops, false, nil
			}
			stops = append(stops, s)
		}
		if v.end > w.at || w.hash == "" {
			w.at, w.hash = max(w.at, v.end), v.hash
		}
		return stops, true, nil
	}
	events, err := w.feed.cfg.Ledger.Stops(ctx, w.at, atOnce)
	if err != nil {
		return nil, false, err
	}
	for _, e := range events {
		stops = append(stops, &Stop{event: e})
		w.at, w.hash = e.Seq, e.Hash
	}
	if len(events) == atOnce {
		return stops, false, nil
	}
	if v.end > w.at {
		w.at, w.hash = v.end, v.hash
	}
	return stops, true, nil
}

// concerning are those stops that the resource is told of. Those that are of no concern are looked at again until they have settled.
func (w *Follower) concerning(ctx context.Context, stops []*Stop, longest time.Duration) ([]*Stop, error) {
	var concern, open []*Stop
	for _, s := range stops {
		concerns, err := w.feed.concerns(ctx, s, w.resource, longest)
		switch {
		case err != nil:
			return nil, err
		case concerns:
			concern = append(concern, s)
		case w.feed.cfg.Now().Sub(s.event.At) < settled:
			open = append(open, s)
		}
	}
	w.open = open
	return concern, nil
}
