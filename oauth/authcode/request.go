package authcode

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
)

const (
	requestPrefix = "a_"
	pushedPrefix  = "urn:ietf:params:oauth:request_uri:" // RFC 9126 section 2.2
	idLength      = 22                                   // base64url of 128 bits

	pushedName  = "pushed"
	requestName = "request"
	codeName    = "code"
)

func partition(id string) string { return "authorize/" + id }

// status is where a request stands.
type status string

const (
	pending status = "pending"
	allowed status = "allowed"
	refused status = "refused"
)

// waiting is the record of a request.
type waiting struct {
	Request Request `json:"request"`
	Status  status  `json:"status"`
}

// Push keeps a request that a client sent ahead and names it. The name is good until Pushed.Expires, for that client.
func (f *Flow) Push(ctx context.Context, p Pushed) (requestURI string, lifetime time.Duration, err error) {
	id, now := newID(), f.cfg.Now().UTC()
	p.Expires = now.Add(f.cfg.PushLifetime)
	value, err := json.Marshal(p)
	if err != nil {
		return "", 0, err
	}
	_, err = store.Apply(ctx, f.cfg.Live, store.Commit{
		Partition: partition(id), Writes: []store.Write{{Name: pushedName, Value: value, TTL: f.cfg.PushLifetime}},
	})
	if err != nil {
		return "", 0, unavailable(err)
	}
	return pushedPrefix + id, f.cfg.PushLifetime, nil
}

// IsPushed says whether a request_uri could be one that Push gave.
func IsPushed(requestURI string) bool { return strings.HasPrefix(requestURI, pushedPrefix) }

// Pushed finds what a client has pushed. It can be looked at again, for a page that is loaded anew, until the user has
// decided. ErrNotFound is also for another client's; ErrDecided for one that was used.
func (f *Flow) Pushed(ctx context.Context, requestURI, client string) (Pushed, error) {
	id, ok := strings.CutPrefix(requestURI, pushedPrefix)
	if !ok || !validID(id) {
		return Pushed{}, ErrNotFound
	}
	recs, err := store.Read(ctx, f.cfg.Live, store.Key{Partition: partition(id), Name: pushedName}, store.Key{Partition: partition(id), Name: requestName})
	if err != nil {
		return Pushed{}, unavailable(err)
	}
	if !recs[0].Exists() {
		return Pushed{}, ErrNotFound
	}
	var p Pushed
	if err := json.Unmarshal(recs[0].Value, &p); err != nil {
		return Pushed{}, fmt.Errorf("read a pushed request: %w", err)
	}
	if p.ClientID != client || !f.cfg.Now().Before(p.Expires) {
		return Pushed{}, ErrNotFound
	}
	if w, err := readWaiting(recs[1]); err == nil && w.Status != pending {
		return Pushed{}, ErrDecided
	}
	return p, nil
}

// Open keeps a request until its user has decided, and gives it its id. One that was pushed is opened under the same id
// each time, so that it is decided once.
func (f *Flow) Open(ctx context.Context, r Request, requestURI string) (Request, error) {
	id := newID()
	if requestURI != "" {
		pushed, ok := strings.CutPrefix(requestURI, pushedPrefix)
		if !ok || !validID(pushed) {
			return Request{}, ErrNotFound
		}
		id = pushed
	}
	now := f.cfg.Now().UTC()
	r.ID, r.Created, r.Expires = requestPrefix+id, now, now.Add(f.cfg.RequestLifetime)
	out, err := store.Apply(ctx, f.cfg.Live, store.Commit{
		Partition: partition(id),
		If:        []store.Condition{{Name: requestName, Is: store.Absent}},
		Writes:    []store.Write{{Name: requestName, Value: waiting{r, pending}.json(), TTL: f.cfg.RequestLifetime}},
	})
	if err != nil {
		return Request{}, unavailable(err)
	}
	if out.Applied {
		return r, nil
	}
	w, err := readWaiting(out.Seen[0])
	if err == nil && w.Status != pending {
		err = ErrDecided
	}
	return w.Request, err
}

// Pending returns a request that waits for its user.
func (f *Flow) Pending(ctx context.Context, id string) (Request, error) {
	w, _, err := f.waiting(ctx, id)
	return w.Request, err
}

// waiting reads a request that was not decided yet, and its record.
func (f *Flow) waiting(ctx context.Context, id string) (waiting, store.Record, error) {
	raw, ok := strings.CutPrefix(id, requestPrefix)
	if !ok || !validID(raw) {
		return waiting{}, store.Record{}, ErrNotFound
	}
	recs, err := store.Read(ctx, f.cfg.Live, store.Key{Partition: partition(raw), Name: requestName})
	if err != nil {
		return waiting{}, store.Record{}, unavailable(err)
	}
	w, err := readWaiting(recs[0])
	switch {
	case err != nil:
		return waiting{}, recs[0], err
	case w.Status != pending:
		return waiting{}, recs[0], ErrDecided
	case !f.cfg.Now().Before(w.Request.Expires):
		return waiting{}, recs[0], ErrNotFound
	default:
		return w, recs[0], nil
	}
}

// Allow carries out what the user allowed, once, and returns where the browser goes with the code: the location is told once
// and kept nowhere. It is in the ledger when Allow returns.
func (f *Flow) Allow(ctx context.Context, id string, d Decision) (location string, err error) {
	w, rec, err := f.waiting(ctx, id)
	if err != nil {
		return "", err
	}
	r := w.Request
	granted, err := f.narrow(r, d)
	if err != nil {
		return "", err
	}
	stops, err := f.stops(ctx, d.User, r.ClientID)
	if err != nil {
		return "", err
	}
	secret := newID()
	c := issued{Granted: granted, Hash: token.Hash(secret), Stops: stops, Expires: f.cfg.Now().UTC().Add(f.cfg.CodeLifetime)}
	code := store.Write{Name: codeName, Value: c.json(), TTL: f.cfg.CodeLifetime}
	if err := f.decide(ctx, rec, waiting{r, allowed}, code); err != nil {
		return "", err
	}
	event := f.event(r, d.User)
	event.Allowed = true
	event.GrantedScope, event.GrantedDetails = strings.Join(granted.Request.Scopes, " "), granted.Request.Details
	if err := f.cfg.Record(ctx, event); err != nil {
		return "", err
	}
	return f.Location(r, url.Values{"code": {strings.TrimPrefix(id, requestPrefix) + secret}})
}

// Refuse ends a request with an error of RFC 6749 section 4.1.2.1 or OpenID Connect Core section 3.1.2.6, once, and returns where
// the browser goes with it. The user may be empty if nobody has signed in.
func (f *Flow) Refuse(ctx context.Context, id, user string, code oauth.Code) (location string, err error) {
	w, rec, err := f.waiting(ctx, id)
	if err != nil {
		return "", err
	}
	if err := f.decide(ctx, rec, waiting{w.Request, refused}); err != nil {
		return "", err
	}
	event := f.event(w.Request, user)
	event.Error, event.Reason = code, oauth.ReasonSignIn
	if code == oauth.AccessDenied {
		event.Reason = oauth.ReasonDenied
	}
	if err := f.cfg.Record(ctx, event); err != nil {
		return "", err
	}
	return f.Location(w.Request, url.Values{"error": {string(code)}})
}

// Location is the redirect URI of a request with an answer: what is given, the state, and iss (RFC 9207).
func (f *Flow) Location(r Request, answer url.Values) (string, error) {
	u, err := url.Parse(r.RedirectURI)
	if err != nil {
		return "", fmt.Errorf("the redirect URI: %w", err)
	}
	answer.Set("iss", f.cfg.Issuer)
	if r.State != "" {
		answer.Set("state", r.State)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += answer.Encode()
	u.Fragment, u.RawFragment = "", ""
	return u.String(), nil
}

// decide ends the wait, for the first who does.
func (f *Flow) decide(ctx context.Context, rec store.Record, w waiting, more ...store.Write) error {
	out, err := store.Apply(ctx, f.cfg.Live, store.Commit{
		Partition: rec.Partition,
		If:        []store.Condition{{Name: requestName, Is: store.AtVersion, Version: rec.Version}},
		Writes:    append(more, store.Write{Name: requestName, Value: w.json(), TTL: f.cfg.RequestLifetime}),
	})
	if err != nil {
		return unavailable(err)
	}
	if !out.Applied {
		return ErrDecided
	}
	return nil
}

// narrow holds a decision to its request: never wider, and by a sign-in that is good enough for it.
func (f *Flow) narrow(r Request, d Decision) (Granted, error) {
	if d.User == "" {
		return Granted{}, fmt.Errorf("nobody decided: %w", ErrSignIn)
	}
	if !f.recent(r, d.AuthTime) {
		return Granted{}, fmt.Errorf("it is too long ago: %w", ErrSignIn)
	}
	if len(r.ACRValues) > 0 && !slices.Contains(r.ACRValues, d.ACR) {
		return Granted{}, fmt.Errorf("it was done in another way: %w", ErrSignIn)
	}
	for _, s := range d.Scopes {
		if !slices.Contains(r.Scopes, s) {
			return Granted{}, fmt.Errorf("scope %q: %w", s, ErrWider)
		}
	}
	details, err := pick(r.Details, d.Details)
	if err != nil {
		return Granted{}, err
	}
	if len(d.Scopes) == 0 && details == nil {
		return Granted{}, fmt.Errorf("nothing is allowed: %w", ErrWider)
	}
	r.Scopes, r.Details = slices.Clone(d.Scopes), details
	return Granted{Request: r, User: d.User, AuthTime: d.AuthTime.UTC(), ACR: d.ACR, AMR: d.AMR}, nil
}

// recent says whether a sign-in satisfies max_age and prompt=login. One that followed the request always does.
func (f *Flow) recent(r Request, signedIn time.Time) bool {
	if !signedIn.Before(r.Created.Truncate(time.Second)) {
		return true
	}
	if slices.Contains(strings.Fields(r.Prompt), "login") {
		return false
	}
	return r.MaxAge < 0 || f.cfg.Now().Sub(signedIn) <= time.Duration(r.MaxAge)*time.Second
}

// pick selects members of a JSON array by index; nil for none.
func pick(details json.RawMessage, indexes []int) (json.RawMessage, error) {
	if len(indexes) == 0 {
		return nil, nil
	}
	var all, picked []json.RawMessage
	if len(details) > 0 {
		if err := json.Unmarshal(details, &all); err != nil {
			return nil, fmt.Errorf("read authorization details: %w", err)
		}
	}
	for _, i := range indexes {
		if i < 0 || i >= len(all) {
			return nil, fmt.Errorf("authorization detail %d: %w", i, ErrWider)
		}
	}
	for i, entry := range all {
		if slices.Contains(indexes, i) {
			picked = append(picked, entry)
		}
	}
	return json.Marshal(picked)
}

// event begins the entry of a decision in the ledger.
func (f *Flow) event(r Request, user string) audit.Event {
	return audit.Event{
		Kind: audit.KindAuthorize, User: user, By: user, Client: r.ClientID, Target: r.Resource,
		AskedScope: strings.Join(r.Scopes, " "), AskedDetails: r.Details, Interaction: token.Hash(r.ID),
	}
}

func (w waiting) json() []byte {
	data, _ := json.Marshal(w) //nolint:errchkjson // strings, times and details that were parsed before
	return data
}

func readWaiting(rec store.Record) (waiting, error) {
	var w waiting
	if !rec.Exists() {
		return w, ErrNotFound
	}
	if err := json.Unmarshal(rec.Value, &w); err != nil {
		return w, fmt.Errorf("read an authorization request: %w", err)
	}
	return w, nil
}

// newID makes 128 bits that nobody can guess.
func newID() string {
	var raw [16]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func validID(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == 16 && len(s) == idLength
}

// unavailable turns an error of the store into the refusal for it.
func unavailable(err error) error {
	if _, ok := errors.AsType[*oauth.Error](err); ok {
		return err
	}
	return oauth.Unavailable(err)
}
