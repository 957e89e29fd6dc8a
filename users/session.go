package users

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"obolus/agents"
	"obolus/store"
)

// Session is one browser in which a user, or an operator, has signed in.
type Session struct {
	ID       string    `json:"-"` // names it without giving access to it
	User     string    `json:"user,omitempty"`
	Name     string    `json:"-"` // of the user, as the account now says
	Operator bool      `json:"operator,omitempty"`
	AuthTime time.Time `json:"auth_time,omitzero"` // when the user proved who it is; zero: the identity provider did not say
	ACR      string    `json:"acr,omitempty"`
	AMR      []string  `json:"amr,omitempty"`
	Started  time.Time `json:"started"`
	Seen     time.Time `json:"seen"`
	Reign    uint64    `json:"reign,omitempty"`
	Secret   []byte    `json:"secret"`
	// Proof ties an operator's session to the token it was opened with.
	Proof string `json:"proof,omitempty"`
}

// Cookie is what a browser is given for a session. It is kept nowhere here, only its hash.
type Cookie string

// Form gives the token that a form carries for one purpose, so that nobody can send it but this session and for nothing
// else.
func (s Session) Form(purpose string) string {
	mac := hmac.New(sha256.New, s.Secret)
	mac.Write([]byte(purpose))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// CheckForm says whether a form's token is the one for a purpose.
func (s Session) CheckForm(purpose, sent string) bool {
	return len(s.Secret) > 0 && hmac.Equal([]byte(sent), []byte(s.Form(purpose)))
}

// Session returns the session of a user that a cookie stands for, ErrNoSession when it is over or the user may not sign in
// any more. Looking at it keeps it from idling.
func (b *Book) Session(ctx context.Context, c Cookie) (Session, error) {
	s, rec, err := b.session(ctx, c)
	if err != nil {
		return Session{}, err
	}
	if s.Operator {
		return Session{}, ErrNoSession
	}
	account, _, err := b.read(ctx, s.User)
	switch {
	case errors.Is(err, agents.ErrNotFound):
		return Session{}, ErrNoSession
	case err != nil:
		return Session{}, err
	case account.Disabled || account.Reign != s.Reign || !s.Started.After(account.Ended):
		return Session{}, ErrNoSession
	}
	s.Name = account.Name
	return s, b.touch(ctx, s, rec)
}

// Operator returns the session of an operator that a cookie stands for. The proof is that of the operators' token as it is
// now: another one than at the sign-in ends the session.
func (b *Book) Operator(ctx context.Context, c Cookie, proof string) (Session, error) {
	s, rec, err := b.session(ctx, c)
	if err != nil {
		return Session{}, err
	}
	if !s.Operator || !hmac.Equal([]byte(s.Proof), []byte(proof)) {
		return Session{}, ErrNoSession
	}
	return s, b.touch(ctx, s, rec)
}

// End ends the session that a cookie stands for, if there is one.
func (b *Book) End(ctx context.Context, c Cookie) error {
	_, err := store.Apply(ctx, b.cfg.Records, store.Commit{
		Partition: sessionKey(c).Partition, Writes: []store.Write{{Name: sessionName, Delete: true}},
	})
	return err
}

const sessionName = "is"

func sessionKey(c Cookie) store.Key {
	return store.Key{Partition: "session/" + digest(string(c)), Name: sessionName}
}

// open starts a session and ends the one that the browser had: a cookie from before the sign-in is worth nothing after it.
func (b *Book) open(ctx context.Context, s Session, had Cookie) (Cookie, Session, error) {
	if had != "" {
		if err := b.End(ctx, had); err != nil {
			return "", Session{}, err
		}
	}
	c := Cookie(random())
	k := sessionKey(c)
	s.ID, s.Started, s.Secret = k.Partition, b.cfg.Now().UTC(), make([]byte, sha256.Size)
	s.Seen = s.Started
	rand.Read(s.Secret)
	value, err := json.Marshal(s) //nolint:gosec // kept in the store, never shown
	if err != nil {
		return "", Session{}, err
	}
	out, err := store.Apply(ctx, b.cfg.Records, store.Commit{
		Partition: k.Partition, If: []store.Condition{{Name: k.Name, Is: store.Absent}},
		Writes: []store.Write{{Name: k.Name, Value: value, TTL: b.cfg.Idle}},
	})
	return c, s, changed(out, err)
}

func (b *Book) session(ctx context.Context, c Cookie) (Session, store.Record, error) {
	if len(c) < 40 || len(c) > 64 {
		return Session{}, store.Record{}, ErrNoSession
	}
	recs, err := store.Read(ctx, b.cfg.Records, sessionKey(c))
	if err != nil {
		return Session{}, store.Record{}, err
	}
	if !recs[0].Exists() {
		return Session{}, store.Record{}, ErrNoSession
	}
	var s Session
	if err := json.Unmarshal(recs[0].Value, &s); err != nil {
		return Session{}, store.Record{}, fmt.Errorf("read a session: %w", err)
	}
	s.ID = recs[0].Partition
	now := b.cfg.Now()
	if now.Sub(s.Seen) >= b.cfg.Idle || now.Sub(s.Started) >= b.cfg.Lifetime {
		return Session{}, store.Record{}, ErrNoSession
	}
	return s, recs[0], nil
}

// touch notes that the session is in use, now and then. When somebody else was faster, or it just ended, nothing is noted.
func (b *Book) touch(ctx context.Context, s Session, rec store.Record) error {
	now := b.cfg.Now().UTC()
	if now.Sub(s.Seen) < b.cfg.Idle/10 {
		return nil
	}
	s.Seen = now
	value, err := json.Marshal(s) //nolint:gosec // kept in the store, never shown
	if err != nil {
		return err
	}
	ttl := min(b.cfg.Idle, s.Started.Add(b.cfg.Lifetime).Sub(now))
	if ttl < time.Millisecond {
		return nil
	}
	_, err = store.Apply(ctx, b.cfg.Records, store.Commit{
		Partition: rec.Partition, If: []store.Condition{{Name: rec.Name, Is: store.AtVersion, Version: rec.Version}},
		Writes: []store.Write{{Name: rec.Name, Value: value, TTL: ttl}},
	})
	return err
}

// random is an unguessable text of 256 bits.
func random() string {
	var raw [32]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
