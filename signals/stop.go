package signals

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/token"
	"obolus/transaction"
)

// Stop is something that was stopped, as the ledger has it, or everything that was issued before an epoch.
type Stop struct {
	event audit.Event
	epoch uint64 // zero: it is in the ledger

	mu      sync.Mutex
	reach   reach
	known   time.Time // when reach was found out; zero: it was not
	written map[string]string
}

// Position is the place of the stop in the ledger; empty: it has none, and is told on every stream for as long as it matters.
func (s *Stop) Position() string {
	if s.epoch != 0 {
		return ""
	}
	return position(s.event.Seq, s.event.Hash)
}

// name is part of the jti by which the stop is told.
func (s *Stop) name() string {
	if s.epoch != 0 {
		return "epoch-" + strconv.FormatUint(s.epoch, 10)
	}
	return s.Position()
}

// reach is at which resources a stop may have ended tokens.
type reach struct {
	all     bool
	targets []string // URIs, or the id
}

func (r reach) has(res agents.Resource) bool {
	return r.all || slices.Contains(r.targets, res.URI) || slices.Contains(r.targets, res.ID)
}

// fresh is for how long it is believed how far a young stop reaches.
const fresh = time.Second

// concerns says whether a resource is told of a stop.
func (f *Feed) concerns(ctx context.Context, s *Stop, res agents.Resource, longest time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := f.cfg.Now()
	if s.known.IsZero() || !s.reach.has(res) && s.known.Sub(s.event.At) < settled && now.Sub(s.known) >= fresh {
		r, err := f.reach(ctx, s.event, longest)
		if err != nil {
			return false, err
		}
		s.reach, s.known = r, now
	}
	return s.reach.has(res), nil
}

// reach finds out where a stop is told. What is about a person is told where tokens were issued for that person as long ago as one can live; a grant that is withdrawn,
// where it was for. An agent, a client, a key or an issuer are told everywhere: they are names of software, and leaving out a server by mistake would leave
// stopped tokens in use there.
func (f *Feed) reach(ctx context.Context, e audit.Event, longest time.Duration) (reach, error) {
	switch kind, id := about(e); {
	case e.Kind == audit.KindWithdraw:
		return reach{targets: []string{e.Target}}, nil
	case kind == transaction.KindUser:
		return f.personal(ctx, id, e.At.Add(-longest))
	case kind == transaction.KindToken || kind == transaction.KindTxn:
		user, err := f.owner(ctx, e)
		if err != nil || user == "" {
			return reach{all: true}, err // a name by chance, which tells nothing
		}
		return f.personal(ctx, user, e.At.Add(-longest))
	default:
		return reach{all: true}, nil
	}
}

// about is what a stop was about.
func about(e audit.Event) (transaction.Kind, string) {
	if e.Kind == audit.KindRevoke {
		return transaction.KindToken, e.JTI
	}
	kind, id, _ := strings.Cut(e.Subject, "/")
	if transaction.Kind(kind) == transaction.KindAgent {
		id, _, _ = strings.Cut(id, " ") // the state follows
	}
	return transaction.Kind(kind), id
}

// owner is the user whose transaction was stopped; empty: the ledger does not say.
func (f *Feed) owner(ctx context.Context, e audit.Event) (string, error) {
	if e.User != "" || e.Txn == "" {
		return e.User, nil
	}
	story, err := f.cfg.Ledger.Events(ctx, audit.Filter{Txn: e.Txn})
	if err != nil {
		return "", err
	}
	for _, one := range story {
		if one.Allowed && one.User != "" {
			return one.User, nil
		}
	}
	return "", nil
}

const personalPages = 5 // of 1000 events, which are looked through for where a user's tokens are

// personal is where tokens of a user were issued since a time.
func (f *Feed) personal(ctx context.Context, user string, since time.Time) (reach, error) {
	after, err := f.before(ctx, since)
	if err != nil {
		return reach{}, err
	}
	var r reach
	for range personalPages {
		events, err := f.cfg.Ledger.Events(ctx, audit.Filter{User: user, After: after, Limit: 1000})
		if err != nil {
			return reach{}, err
		}
		for _, e := range events {
			after = e.Seq
			if e.Allowed && (e.Kind == audit.KindExchange || e.Kind == audit.KindSession) && !slices.Contains(r.targets, e.Target) {
				r.targets = append(r.targets, e.Target)
			}
		}
		if len(events) < 1000 {
			return r, nil
		}
	}
	return reach{all: true}, nil
}

// mark is a place in the ledger before everything that happened at a time or later.
type mark struct {
	mu  sync.Mutex
	at  time.Time
	seq uint64
}

// before is such a place, up to a minute too far back: many stops are looked at one after the other, and the place is looked for once.
func (f *Feed) before(ctx context.Context, at time.Time) (uint64, error) {
	at = at.Truncate(time.Minute)
	f.reached.mu.Lock()
	defer f.reached.mu.Unlock()
	if f.reached.at.Equal(at) {
		return f.reached.seq, nil
	}
	seq, err := f.cfg.Ledger.Before(ctx, at)
	if err == nil {
		f.reached.at, f.reached.seq = at, seq
	}
	return seq, err
}

// Token is the security event token by which a resource is told of a stop: a CAEP session-revoked, whose subject says which tokens
// are meant. They are those issued before event_timestamp; until is when the last of them is over.
func (f *Feed) Token(ctx context.Context, s *Stop, res agents.Resource) (string, error) {
	longest, err := f.cfg.Longest(ctx)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if set, ok := s.written[res.URI]; ok {
		return set, nil
	}
	key, err := f.cfg.Keys.Signer(res.Algorithm)
	if err != nil {
		return "", err
	}
	e := s.event
	payload, err := json.Marshal(map[string]any{
		"iss": f.cfg.Issuer, "aud": res.URI, "iat": f.cfg.Now().Unix(), "jti": s.name() + "." + token.Hash(res.URI)[:hashPart],
		"sub_id": f.subject(s),
		"events": map[string]any{token.EventSessionRevoked: occurrence{
			At: e.At.Unix(), Until: e.At.Add(longest).Unix(), By: initiator(e), Txn: e.Txn,
		}},
	})
	if err != nil {
		return "", err
	}
	set, err := f.cfg.Signer.SignAs(token.TypeSecurityEvent, payload, key)
	if err != nil {
		return "", err
	}
	if s.written == nil {
		s.written = map[string]string{}
	}
	s.written[res.URI] = set
	return set, nil
}

// occurrence is the event: CAEP 1.0 section 2, and two members of ours.
type occurrence struct {
	At    int64  `json:"event_timestamp"`
	By    string `json:"initiating_entity"`
	Until int64  `json:"until"`
	Txn   string `json:"txn,omitempty"` // the transaction, with all that were derived from it
}

// initiator is who stopped it, in the words of CAEP.
func initiator(e audit.Event) string {
	switch {
	case e.By == "server":
		return "system"
	case strings.HasPrefix(e.By, "transmitter "):
		return "policy"
	case e.By != "" && e.By == e.User || e.By == strings.TrimPrefix(e.Subject, "user/") || e.Kind == audit.KindRevoke:
		return "user"
	default:
		return "admin"
	}
}

// subject says which tokens were stopped, as a complex subject: each member narrows it, but for the epoch, before which all of them were.
func (f *Feed) subject(s *Stop) token.SubjectID {
	e := s.event
	who := func(id string) token.SubjectID {
		return token.SubjectID{Format: token.FormatIssSub, Issuer: f.cfg.Issuer, Subject: id}
	}
	opaque := func(id string) token.SubjectID { return token.SubjectID{Format: token.FormatOpaque, ID: id} }
	members := map[string]token.SubjectID{}
	if s.epoch != 0 {
		members["epoch"] = opaque(strconv.FormatUint(s.epoch, 10))
		return token.SubjectID{Format: token.FormatComplex, Members: members}
	}
	if e.Kind == audit.KindWithdraw {
		members["user"], members["application"], members["grant"] = who(e.User), who(e.Actor), opaque(e.Grant)
		return token.SubjectID{Format: token.FormatComplex, Members: members}
	}
	switch kind, id := about(e); kind {
	case transaction.KindUser:
		members["user"] = who(id)
	case transaction.KindAgent, transaction.KindClient:
		members["application"] = who(id)
	case transaction.KindIssuer:
		members["issuer"] = token.SubjectID{Format: token.FormatURI, URI: id}
	case transaction.KindToken:
		members["token"] = token.SubjectID{Format: token.FormatJWTID, Issuer: f.cfg.Issuer, JTI: id}
	default: // a grant, a key, a transaction
		members[string(kind)] = opaque(id)
	}
	return token.SubjectID{Format: token.FormatComplex, Members: members}
}
