package signals

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// Transmitter is somebody whose events are acted upon.
type Transmitter struct {
	Issuer     string // iss of its events
	Audience   string // one of their aud
	Keys       token.KeySource
	Algorithms []string // empty: token.ProofAlgorithms
	// TokenHash is the SHA-256, in hex, of the bearer token that it sends along; empty: the signature alone says who it is.
	TokenHash string
	// Subjects is whose sub it may speak of: the iss of its subjects.
	Subjects string
	// User is the id here of a sub there.
	User func(sub string) string
	// ByEmail finds the users that an address stands for; nil: subjects by address are refused.
	ByEmail func(ctx context.Context, email string) ([]string, error)
}

// ReceiverConfig is what a Receiver needs; all members are needed.
type ReceiverConfig struct {
	Transmitters []Transmitter
	Live         store.Engine
	// SignOut ends the sessions of a user that began before a time or at it.
	SignOut func(ctx context.Context, user string, at time.Time) error
	// Hold suspends what a user allowed until a sign-in after a time.
	Hold func(ctx context.Context, user string, at time.Time) error
	// Stop ends what was issued.
	Stop   func(context.Context, transaction.Target, transaction.Cause) error
	Record func(context.Context, audit.Event) error // the ledger
	// Longest is the longest that a token lives.
	Longest func(context.Context) (time.Duration, error)
	Now     func() time.Time
}

// Receiver acts upon the events of transmitters. It is safe for concurrent use by any number of servers.
type Receiver struct{ cfg ReceiverConfig }

// NewReceiver makes a Receiver.
func NewReceiver(cfg ReceiverConfig) (*Receiver, error) {
	if len(cfg.Transmitters) == 0 || cfg.Live == nil || cfg.SignOut == nil || cfg.Hold == nil || cfg.Stop == nil || cfg.Record == nil ||
		cfg.Longest == nil || cfg.Now == nil {
		return nil, errors.New("signals: the configuration of the receiver is not complete")
	}
	for _, t := range cfg.Transmitters {
		if t.Issuer == "" || t.Audience == "" || t.Keys == nil || t.Subjects == "" || t.User == nil {
			return nil, errors.New("signals: a transmitter is not complete")
		}
	}
	return &Receiver{cfg: cfg}, nil
}

// Delivery is one event as it was pushed, RFC 8935.
type Delivery struct {
	Token  string
	Bearer string // that came with it; empty: none
	Remote string
}

// Receive takes one event. When it returns without error what the event asks for has been done, durably, or the event is of a type that
// is of no concern here. A *RefusedError is an event that will never be taken; any other error is a refusal with 503, and the event is to be sent
// again. The same event again does nothing more, and would do nothing more if its jti were forgotten: what began after the
// time of an event is not touched by it.
func (r *Receiver) Receive(ctx context.Context, d Delivery) error {
	ev, from, err := r.verify(ctx, d)
	if err != nil {
		return err
	}
	event := audit.Event{
		Kind: audit.KindSignal, By: "transmitter " + ev.Claims.Issuer, JTI: ev.Claims.ID, Remote: d.Remote, Why: strings.Join(names(ev), " "),
	}
	at, known, err := moment(ev)
	if err == nil && !known {
		return nil
	}
	if now := r.cfg.Now(); at.After(now) {
		at = now // the clock of the transmitter is ahead
	}
	var users []string
	if err == nil {
		users, err = r.users(ctx, ev.Subject, from)
	}
	if err != nil {
		return r.refused(ctx, event, err)
	}
	return r.once(ctx, ev, func() error { return r.apply(ctx, event, users, at) })
}

// refused writes down the refusal of an event that was truly sent by its transmitter.
func (r *Receiver) refused(ctx context.Context, event audit.Event, err error) error {
	if refusal, ok := errors.AsType[*RefusedError](err); ok {
		event.Refused(oauth.Conceal(oauth.InvalidRequest, oauth.ReasonMalformed, refusal.Description, err))
		if recorded := r.cfg.Record(ctx, event); recorded != nil {
			return recorded
		}
		return err
	}
	return oauth.Unavailable(err)
}

// verify finds the transmitters that an event is truly of: who, with which key, for whom. Several may share an issuer.
func (r *Receiver) verify(ctx context.Context, d Delivery) (token.SecurityEvent, []Transmitter, error) {
	none := token.SecurityEvent{}
	issuer, _, err := token.Peek(d.Token)
	if err != nil {
		return none, nil, refuse(InvalidRequest, "the body is no security event token", err)
	}
	said := refuse(InvalidIssuer, "events of that issuer are not taken here", nil)
	var got token.SecurityEvent
	var from []Transmitter
	for _, t := range r.cfg.Transmitters {
		if t.Issuer != issuer {
			continue
		}
		ev, err := t.verify(ctx, d, r.cfg.Now)
		if err != nil {
			said = err
			continue
		}
		got, from = ev, append(from, t)
	}
	if len(from) == 0 {
		return none, nil, said
	}
	return got, from, nil
}

func (t Transmitter) verify(ctx context.Context, d Delivery, now func() time.Time) (token.SecurityEvent, error) {
	if !t.authenticates(d.Bearer) {
		return token.SecurityEvent{}, refuse(AuthenticationFailed, "the bearer token is not that of the transmitter", nil)
	}
	ev, err := token.VerifySecurityEvent(ctx, d.Token, token.Expect{Issuer: t.Issuer, Keys: t.Keys, Algs: t.Algorithms, Now: now})
	switch {
	case errors.Is(err, token.ErrUnreachable):
		return ev, oauth.Unavailable(err)
	case errors.Is(err, token.ErrNoKey), errors.Is(err, token.ErrSignature):
		return ev, refuse(InvalidKey, "the event is not signed by a key of its issuer", err)
	case err != nil:
		return ev, refuse(InvalidRequest, "the body is no security event token that can be read", err)
	case !ev.Claims.Audience.Has(t.Audience):
		return ev, refuse(InvalidAudience, "the event is for somebody else", nil)
	default:
		return ev, nil
	}
}

// authenticates says whether a bearer token is the one that was agreed upon.
func (t Transmitter) authenticates(bearer string) bool {
	if t.TokenHash == "" {
		return true
	}
	sum := sha256.Sum256([]byte(bearer))
	return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(t.TokenHash))) == 1
}

// users are the ids here of whom an event is about.
func (r *Receiver) users(ctx context.Context, s token.SubjectID, from []Transmitter) ([]string, error) {
	if s.Format == token.FormatComplex {
		s = s.Members["user"] // a session, a device and the like narrow it, which is not told apart here: all of the user's end
	}
	var ids []string
	for _, t := range from {
		switch {
		case s.Format == token.FormatIssSub && s.Issuer == t.Subjects:
			ids = append(ids, t.User(s.Subject))
		case s.Format == token.FormatEmail && t.ByEmail != nil:
			found, err := t.ByEmail(ctx, s.Email)
			if err != nil {
				return nil, err
			}
			ids = append(ids, found...)
		}
	}
	if slices.ContainsFunc(ids, unspeakable) {
		return nil, refuse(InvalidRequest, "the subject cannot be a user here", nil)
	}
	if len(ids) == 0 && s.Format != token.FormatEmail || s.Format == token.FormatEmail && !slices.ContainsFunc(from, Transmitter.byEmail) {
		return nil, refuse(InvalidRequest, "the subject is no user of the transmitter in a format that is understood here", nil)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// unspeakable says whether a text is none that a user could be known by.
func unspeakable(id string) bool {
	return len(id) > maxUser || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl)
}

const maxUser = 256 // bytes

func (t Transmitter) byEmail() bool { return t.ByEmail != nil }

// once has an event acted upon by one server at a time, and not again once that is done. The memory of it is in the live store: who loses
// it acts again, to no effect.
func (r *Receiver) once(ctx context.Context, ev token.SecurityEvent, act func() error) error {
	partition := "signal/" + token.Hash(ev.Claims.Issuer+" "+ev.Claims.ID)
	mark := func(w store.Write, cond ...store.Condition) (store.Outcome, error) {
		w.Name = "taken"
		out, err := store.Apply(context.WithoutCancel(ctx), r.cfg.Live, store.Commit{Partition: partition, If: cond, Writes: []store.Write{w}})
		if err != nil {
			return out, oauth.Unavailable(err)
		}
		return out, nil
	}
	out, err := mark(store.Write{Value: []byte(busy), TTL: busyTime}, store.Condition{Name: "taken", Is: store.Absent})
	switch {
	case err != nil:
		return err
	case !out.Applied && string(out.Seen[0].Value) == done:
		return nil
	case !out.Applied:
		return oauth.Unavailable(errors.New("another delivery of the event is under way"))
	}
	if err := act(); err != nil {
		_, undone := mark(store.Write{Delete: true})
		return oauth.Unavailable(errors.Join(err, undone))
	}
	_, err = mark(store.Write{Value: []byte(done), TTL: doneTime})
	return err
}

const (
	busy, done = "busy", "done"
	busyTime   = 5 * time.Second // after which a server that took an event is taken for dead; if it is not, the event is acted upon twice, to no effect
	doneTime   = 24 * time.Hour
)

// apply ends the sessions of users from before a time, holds what they allowed until they sign in again, and stops their tokens. Sessions come first:
// what one of them issues meanwhile is stopped in the end. Tokens of before and after the time cannot be told apart, so all are
// stopped, unless the event comes so late that none of before can be left.
func (r *Receiver) apply(ctx context.Context, event audit.Event, users []string, at time.Time) error {
	longest, err := r.cfg.Longest(ctx)
	if err != nil {
		return err
	}
	for _, user := range users {
		if err := r.cfg.SignOut(ctx, user, at); err != nil {
			return err
		}
		if err := r.cfg.Hold(ctx, user, at); err != nil {
			return err
		}
		if r.cfg.Now().Sub(at) < longest {
			cause := transaction.Cause{By: event.By, Why: event.Why, Remote: event.Remote}
			if err := r.cfg.Stop(ctx, transaction.Target{Kind: transaction.KindUser, ID: user}, cause); err != nil {
				return err
			}
		}
		about := event
		about.Allowed, about.User, about.Subject = true, user, "user/"+user
		if err := r.cfg.Record(ctx, about); err != nil {
			return err
		}
	}
	return nil
}
