package resource

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"obolus/oauth/strict"
	"obolus/token"
)

// Stops is what becomes of session tokens that were stopped before they expire. One-transaction tokens are asked about anyway.
type Stops int

// The ways with stopped tokens.
const (
	// StopsUnheard: a session token counts until it expires.
	StopsUnheard Stops = iota
	// StopsFollowed refuses a stopped token as soon as [Guard.Follow] hears of it, and every session token with 503 as long as it is not known
	// what was stopped.
	StopsFollowed
	// InsecureStopsIfHeard refuses a stopped token as soon as [Guard.Follow] hears of it. While it hears nothing a session token counts until it
	// expires: whoever can keep the stream away can keep a stopped token in use. It is for servers to which an answer matters more.
	InsecureStopsIfHeard
)

// place is what a stop is found by.
type place struct {
	kind string
	id   string
}

// The kinds of places, the narrowest first. A stop is found by the narrowest member of its subject, and the others must fit too.
const (
	ofToken  = "token"
	ofTxn    = "txn"
	ofGrant  = "grant"
	ofKey    = "key"
	ofUser   = "user"
	ofApp    = "application"
	ofIssuer = "issuer"
)

func kinds() []string {
	return []string{ofToken, ofTxn, ofGrant, ofKey, ofUser, ofApp, ofIssuer}
}

// stopped is one stop.
type stopped struct {
	at    int64   // tokens issued until then are meant
	until int64   // no such token lives longer
	ever  bool    // tokens issued later are meant too: nothing is issued under that name any more
	also  []place // what a token must have besides
}

// stops are those that may still matter, bounded in number, and whether more may have been missed.
type stops struct {
	most   int
	leeway int64
	lost   time.Duration
	now    func() time.Time

	mu    sync.RWMutex
	by    map[place][]stopped
	n     int
	swept int64
	// floor is for what had no room: every token issued until floor.at is refused until it cannot live any more.
	floor stopped
	heard time.Time // zero: nothing was heard yet
}

func newStops(cfg Config) *stops {
	return &stops{
		most: cfg.MaxStops, leeway: int64(cfg.Leeway / time.Second), lost: cfg.StopsLost, now: cfg.Now, by: map[place][]stopped{},
	}
}

// alive notes that everything up to now was told.
func (s *stops) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = s.now()
}

// forget is for a stream that cannot go on where it was.
func (s *stops) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by, s.n, s.floor, s.heard = map[place][]stopped{}, 0, stopped{}, time.Time{}
}

// deaf says whether stops may have been missed for longer than is allowed.
func (s *stops) deaf() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.heard.IsZero() || s.now().Sub(s.heard) > s.lost
}

// untold is how long a stop is kept that does not say.
const untold = 24 * 60 * 60 // seconds

// add takes in a security event. One whose subject is not understood stops everything that was issued until then.
func (s *stops) add(ev token.SecurityEvent, issuer string) error {
	payload, ok := ev.Events[token.EventSessionRevoked]
	if !ok {
		return nil
	}
	o, err := readOccurrence(payload)
	if err != nil {
		return err
	}
	if o.until < s.now().Unix() {
		return nil // none of the tokens that are meant can be alive
	}
	one := stopped{at: o.at, until: o.until}
	places, err := placesOf(ev.Subject, issuer)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	if len(places) == 0 {
		s.raise(one)
		return nil
	}
	one.also = places[1:]
	one.ever = places[0].kind != ofUser && places[0].kind != ofApp && places[0].kind != ofIssuer
	s.put(places[0], one)
	if o.txn != "" && places[0].kind != ofTxn {
		s.put(place{ofTxn, o.txn}, stopped{at: o.at, until: o.until, ever: true})
	}
	return nil
}

// put keeps a stop. What was there of the same kind is widened, so that repeats take no room.
func (s *stops) put(p place, one stopped) {
	for i, have := range s.by[p] {
		if len(have.also) == 0 && len(one.also) == 0 && have.ever == one.ever {
			s.by[p][i].at, s.by[p][i].until = max(have.at, one.at), max(have.until, one.until)
			return
		}
	}
	if s.n >= s.most {
		s.raise(one)
		return
	}
	s.by[p] = append(s.by[p], one)
	s.n++
}

func (s *stops) raise(one stopped) {
	s.floor.at, s.floor.until = max(s.floor.at, one.at), max(s.floor.until, one.until)
}

const sweepEvery = 10 // seconds

// sweep lets go of stops that no living token can be meant by.
func (s *stops) sweep() {
	now := s.now().Unix()
	if now-s.swept < sweepEvery && s.n < s.most {
		return
	}
	s.swept = now
	for p, list := range s.by {
		kept := list[:0]
		for _, one := range list {
			if one.until >= now {
				kept = append(kept, one)
			}
		}
		s.n -= len(list) - len(kept)
		if s.by[p] = kept; len(kept) == 0 {
			delete(s.by, p)
		}
	}
	if s.floor.until < now {
		s.floor = stopped{}
	}
}

// meets says whether a token was stopped.
func (s *stops) meets(c token.Claims, kid string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.floor.at != 0 && c.IssuedAt <= s.floor.at+s.leeway {
		return true
	}
	if s.n == 0 {
		return false
	}
	at := placesIn(c, kid)
	for _, p := range at {
		for _, one := range s.by[p] {
			if (one.ever || c.IssuedAt <= one.at+s.leeway) && containsAll(at, one.also) {
				return true
			}
		}
	}
	return false
}

func containsAll(all, some []place) bool {
	for _, p := range some {
		found := false
		for _, q := range all {
			found = found || p == q
		}
		if !found {
			return false
		}
	}
	return true
}

// placesIn are all places in which a stop of a token may lie.
func placesIn(c token.Claims, kid string) []place {
	at := []place{{ofToken, c.ID}, {ofUser, c.Subject}, {ofApp, c.ClientID}, {ofKey, kid}}
	if actors, err := c.Act.Chain(maxChain); err == nil { // it was read before
		for _, a := range actors {
			at = append(at, place{ofApp, a.Subject})
		}
	}
	for txn := c.Txn; txn != ""; { // a transaction is named after the one that it came of
		at = append(at, place{ofTxn, txn})
		i := strings.LastIndexByte(txn, '.')
		txn = txn[:max(i, 0)]
	}
	if of := c.Context; of != nil {
		at = append(at, place{ofToken, of.Source}, place{ofApp, of.Origin}, place{ofGrant, of.Consent}, place{ofIssuer, of.Issuer})
	}
	return at
}

var errSubject = errors.New("the subject of the event is none that was stopped")

// placesOf are what a subject says, the narrowest first. Members that are not known would narrow it further, and are passed over.
func placesOf(s token.SubjectID, issuer string) ([]place, error) {
	if s.Format != token.FormatComplex {
		return nil, fmt.Errorf("%w: format %q", errSubject, s.Format)
	}
	var places []place
	for _, kind := range kinds() {
		m, ok := s.Members[kind]
		if !ok {
			continue
		}
		p := place{kind: kind}
		switch {
		case m.Format == token.FormatIssSub && m.Issuer == issuer && (kind == ofUser || kind == ofApp):
			p.id = m.Subject
		case m.Format == token.FormatJWTID && m.Issuer == issuer && kind == ofToken:
			p.id = m.JTI
		case m.Format == token.FormatURI && kind == ofIssuer:
			p.id = m.URI
		case m.Format == token.FormatOpaque && (kind == ofTxn || kind == ofGrant || kind == ofKey):
			p.id = m.ID
		default:
			return nil, fmt.Errorf("%w: %s", errSubject, kind)
		}
		places = append(places, p)
	}
	return places, nil
}

// occurrence is what an event says of itself.
type occurrence struct {
	at, until int64
	txn       string
}

func readOccurrence(payload []byte) (occurrence, error) {
	var o struct {
		At    *int64 `json:"event_timestamp"`
		Until int64  `json:"until"`
		Txn   string `json:"txn"`
	}
	if err := strict.Unmarshal(payload, &o, strict.Limits{}); err != nil {
		return occurrence{}, err
	}
	if o.At == nil || *o.At <= 0 {
		return occurrence{}, errors.New("the event has no time")
	}
	if o.Until == 0 {
		o.Until = *o.At + untold
	}
	return occurrence{at: *o.At, until: o.Until, txn: o.Txn}, nil
}
