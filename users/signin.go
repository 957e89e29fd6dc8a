package users

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/store"
)

// Attempt is one try at a password.
type Attempt struct {
	User     string
	Password string
	Remote   string // the address of the browser
	Had      Cookie // the session that the browser had before
}

// SignedIn is what came of signing in.
type SignedIn struct {
	Cookie  Cookie
	Session Session
}

// SignIn opens a session for who knows the password of a local account. Whatever is wrong, it takes the same time and is
// ErrRefused; too many attempts are ErrTooMany, for accounts that do not exist too.
func (b *Book) SignIn(ctx context.Context, a Attempt) (SignedIn, error) {
	if err := b.admit(ctx, a.User, a.Remote); err != nil {
		return SignedIn{}, err
	}
	account, _, err := b.read(ctx, a.User)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return SignedIn{}, err
	}
	hash, known := account.Hash, err == nil
	if hash == "" {
		hash = b.dummy
	}
	right := false
	err = b.affording(ctx, func() error {
		right = matches(hash, a.Password)
		return nil
	})
	if err != nil {
		return SignedIn{}, err
	}
	why := ""
	switch {
	case !known:
		why = "no such account"
	case account.Hash == "":
		why = "the account signs in with an identity provider"
	case !right:
		why = "wrong password"
	case account.Disabled:
		why = "the account is disabled"
	}
	if why != "" {
		return SignedIn{}, b.refused(ctx, account.ID, why, a.Remote)
	}
	if err := b.forgive(ctx, a.User, a.Remote); err != nil {
		return SignedIn{}, err
	}
	return b.signedIn(ctx, account, Session{AuthTime: b.cfg.Now().UTC(), AMR: []string{"pwd"}}, a)
}

// Federated is who an identity provider says that somebody is. It was verified by the caller.
type Federated struct {
	Provider string
	Subject  string
	Name     string
	Email    string
	AuthTime time.Time // zero: the provider did not say
	ACR      string
	AMR      []string
	Remote   string
	Had      Cookie
}

// SignInFederated opens a session for who has signed in with an identity provider. The account is made at the first time; its
// name and address follow the provider. A disabled or removed account is ErrRefused.
func (b *Book) SignInFederated(ctx context.Context, f Federated) (SignedIn, error) {
	account, err := b.federated(ctx, f)
	if errors.Is(err, errRemoved) || errors.Is(err, agents.ErrTaken) || errors.Is(err, agents.ErrInvalid) {
		return SignedIn{}, b.refused(ctx, "", "the id of the account is not to be had", f.Remote)
	}
	if err != nil {
		return SignedIn{}, err
	}
	if account.Disabled {
		return SignedIn{}, b.refused(ctx, account.ID, "the account is disabled", f.Remote)
	}
	s := Session{AuthTime: f.AuthTime.UTC(), ACR: f.ACR, AMR: f.AMR}
	return b.signedIn(ctx, account, s, Attempt{Remote: f.Remote, Had: f.Had})
}

// SignInOperator opens an operator's session for who has the operators' token: want is the token, or a hash of it that
// sent was hashed to as well. It is limited by address.
func (b *Book) SignInOperator(ctx context.Context, sent, want string, a Attempt) (SignedIn, error) {
	if err := b.admit(ctx, "", a.Remote); err != nil {
		return SignedIn{}, err
	}
	if want == "" || !hmac.Equal([]byte(digest(sent)), []byte(digest(want))) {
		return SignedIn{}, b.refused(ctx, "", "wrong operators' token", a.Remote)
	}
	if err := b.forgive(ctx, "", a.Remote); err != nil {
		return SignedIn{}, err
	}
	err := b.cfg.Record(ctx, audit.Event{Kind: audit.KindSignIn, Allowed: true, By: "operator", Remote: a.Remote})
	if err != nil {
		return SignedIn{}, err
	}
	c, s, err := b.open(ctx, Session{Operator: true, Proof: OperatorProof(want), AuthTime: b.cfg.Now().UTC()}, a.Had)
	return SignedIn{c, s}, err
}

// OperatorProof ties a session to an operators' token without keeping it.
func OperatorProof(token string) string {
	sum := sha256.Sum256([]byte("operator session\n" + token))
	return digest(string(sum[:]))
}

// federated finds or makes the account.
func (b *Book) federated(ctx context.Context, f Federated) (stored, error) {
	id := FederatedID(f.Provider, f.Subject)
	want := Account{ID: id, Name: cut(f.Name), Email: cut(f.Email), Provider: f.Provider, Subject: f.Subject}
	for {
		was, version, err := b.read(ctx, id)
		switch {
		case errors.Is(err, errRemoved):
			return stored{}, err
		case errors.Is(err, agents.ErrNotFound):
			_, err = b.Put(ctx, want, Secret{}, 0)
		case err != nil:
			return stored{}, err
		case was.Provider != f.Provider || was.Subject != f.Subject:
			return stored{}, agents.ErrTaken
		case was.Name == want.Name && was.Email == want.Email || was.Disabled:
			return was, nil
		default:
			was.Name, was.Email = want.Name, want.Email
			_, err = b.write(ctx, was, version)
		}
		if err != nil && !errors.Is(err, agents.ErrChanged) {
			return stored{}, err
		}
	}
}

func (b *Book) signedIn(ctx context.Context, account stored, s Session, a Attempt) (SignedIn, error) {
	s.User, s.Reign = account.ID, account.Reign
	err := b.cfg.Record(ctx, audit.Event{
		Kind: audit.KindSignIn, Allowed: true, User: account.ID, By: account.ID, Remote: a.Remote, Why: account.Provider,
	})
	if err != nil {
		return SignedIn{}, err
	}
	c, s, err := b.open(ctx, s, a.Had)
	s.Name = account.Name
	return SignedIn{c, s}, err
}

// refused writes down a refusal. A name that is nobody's is left out: people type passwords into the wrong field.
func (b *Book) refused(ctx context.Context, user, why, remote string) error {
	err := b.cfg.Record(ctx, audit.Event{
		Kind: audit.KindSignIn, User: user, Error: oauth.AccessDenied, Reason: oauth.ReasonSignIn, Why: why, Remote: remote,
	})
	if err != nil {
		return err
	}
	return ErrRefused
}

const window = 15 * time.Minute // of the limits

// admit counts an attempt and refuses it beyond the limits.
func (b *Book) admit(ctx context.Context, user, remote string) error {
	limits := b.counters(user, remote)
	batch := store.Batch{Commits: make([]store.Commit, len(limits))}
	for i, l := range limits {
		batch.Commits[i] = store.Commit{
			Partition: l.partition,
			If:        []store.Condition{{Name: "tries", Is: store.AtMost, Count: int64(l.limit) - 1}},
			Writes:    []store.Write{{Name: "tries", Add: 1, TTL: window}},
		}
	}
	res, err := b.cfg.Live.Do(ctx, batch)
	if err != nil {
		return err
	}
	for i, out := range res.Outcomes {
		if !out.Applied {
			return b.tooMany(ctx, limits[i].partition, remote)
		}
	}
	return nil
}

type counter struct {
	partition string
	limit     int
}

// counters are what an attempt counts towards. Names are hashed: they may be passwords.
func (b *Book) counters(user, remote string) []counter {
	addr := network(remote)
	list := []counter{
		{"sign-in/address " + addr, b.cfg.Limits.Address},
		{"sign-in/pair " + digest(user) + " " + addr, b.cfg.Limits.Pair},
	}
	if user != "" {
		list = append(list, counter{"sign-in/account " + digest(user), b.cfg.Limits.Account})
	}
	return list
}

// forgive forgets the attempts of who has got it right.
func (b *Book) forgive(ctx context.Context, user, remote string) error {
	_, err := store.Apply(ctx, b.cfg.Live, store.Commit{
		Partition: b.counters(user, remote)[1].partition, Writes: []store.Write{{Name: "tries", Delete: true}},
	})
	return err
}

// tooMany refuses, and writes it down once for each stretch of refusals, so that an attacker does not write the ledger.
func (b *Book) tooMany(ctx context.Context, partition, remote string) error {
	out, err := store.Apply(ctx, b.cfg.Live, store.Commit{
		Partition: partition, If: []store.Condition{{Name: "told", Is: store.Absent}},
		Writes: []store.Write{{Name: "told", Value: []byte("1"), TTL: window}},
	})
	if err != nil {
		return err
	}
	if out.Applied {
		err = b.cfg.Record(ctx, audit.Event{
			Kind: audit.KindSignIn, Error: oauth.AccessDenied, Reason: oauth.ReasonRateLimited, Remote: remote, Why: "too many attempts",
		})
		if err != nil {
			return err
		}
	}
	return ErrTooMany
}

// network is what an address is counted as: itself, or the /64 of an IPv6 address, which one person has all of.
func network(remote string) string {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		return digest(remote)
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

// cut shortens a text of a provider to what an account may have.
func cut(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "")
}
