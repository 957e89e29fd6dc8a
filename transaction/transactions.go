package transaction

import (
	"context"
	"errors"
	"fmt"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/oauth"
	"obolus/policy"
	"obolus/store"
	"obolus/token"
)

// Keys are the signing keys of the server.
type Keys interface {
	// Signer is the newest key for an algorithm; empty means the server's default.
	Signer(alg string) (*token.SigningKey, error)
}

// Config is what Transactions need; all members are needed.
type Config struct {
	Issuer   string
	Live     *store.Live
	Mirror   *store.Mirror
	Registry *agents.Registry
	Clients  *agents.Authenticator
	Keys     Keys
	Signer   *token.Issuer
	Verifier *token.Verifier
	Recorder *audit.Recorder
	Ledger   *audit.Ledger
	Decide   func(policy.Input) policy.Decision
	Now      func() time.Time
	Leeway   time.Duration // after exp in which a token is still redeemed
	// Retention is how long after its end a redemption is remembered, so that a lost answer can be asked for again.
	Retention time.Duration
}

// Transactions is the life of every token of ours. It is safe for concurrent use by any number of servers.
type Transactions struct{ cfg Config }

// New makes Transactions.
func New(cfg Config) (*Transactions, error) {
	if cfg.Issuer == "" || cfg.Live == nil || cfg.Mirror == nil || cfg.Registry == nil || cfg.Clients == nil || cfg.Keys == nil ||
		cfg.Signer == nil || cfg.Verifier == nil || cfg.Recorder == nil || cfg.Ledger == nil || cfg.Decide == nil || cfg.Now == nil {
		return nil, errors.New("transactions: the configuration is not complete")
	}
	return &Transactions{cfg: cfg}, nil
}

// Issuance is a token that is about to count.
type Issuance struct {
	Claims    token.Claims   // complete
	Gens      []uint64       // the generations of what Watched names, read before the decision
	Alongside []store.Commit // whatever else must be carried out by then
	Keyed     *Keyed         // nil: the agent has not named the exchange
	Earlier   Earlier        // of that name
}

// Issue writes the record that lets a token count, in one live round trip together with what goes alongside. An error is
// a refusal, and then the token must not leave.
func (t *Transactions) Issue(ctx context.Context, i Issuance) error {
	c := i.Claims
	_, p, ok := splitJTI(c.ID)
	if !ok || len(c.Audience) != 1 {
		return fmt.Errorf("issue %q: not a token of this server", c.ID)
	}
	ttl := t.remember(c)
	commit := store.Commit{
		Partition: p.partition(), If: []store.Condition{{Name: p.issuedName(c.ID), Is: store.Absent}},
		Writes: []store.Write{{Name: p.issuedName(c.ID), Value: generations(i.Gens), TTL: ttl}},
	}
	for _, up := range p.above() {
		commit.If = append(commit.If, store.Condition{Name: up.stoppedName(), Is: store.Absent})
	}
	if i.Keyed != nil {
		now := keyed{Body: i.Keyed.body, Done: true, JTI: c.ID}
		if c.Context != nil {
			now.Grant = c.Context.Consent
		}
		i.Keyed.supersede(&commit, i.Earlier, now, ttl)
	}
	res, err := t.cfg.Live.Do(ctx, store.Batch{Commits: append(i.Alongside, commit)})
	if err != nil {
		return oauth.Unavailable(err)
	}
	switch out := res.Outcomes[len(i.Alongside)]; {
	case out.Applied:
		return nil
	case i.Keyed != nil:
		return i.Keyed.beaten(out)
	default:
		return oauth.Conceal(oauth.InvalidRequest, oauth.ReasonSubjectStopped, "the subject token cannot be used", nil)
	}
}

// remember is how long the record of a token is kept. It does not depend on this server's clock: the record of the claim, which another
// server may write, must outlive the one that gives the right to claim.
func (t *Transactions) remember(c token.Claims) time.Duration {
	return time.Duration(c.Expires-c.IssuedAt)*time.Second + t.cfg.Leeway + t.cfg.Retention
}

// outlives is by how much longer a claim is kept than the record of its token.
const outlives = time.Minute

// Record records what is answered about a token. An acceptance is an error, and must not leave, if the token's epoch is not in force
// any more by the time the event is durable.
func (t *Transactions) Record(ctx context.Context, e audit.Event) error {
	epoch, _, ours := splitJTI(e.JTI)
	if !e.Allowed || !ours {
		return t.cfg.Recorder.Record(ctx, e)
	}
	return t.recordIn(ctx, e, epoch)
}

// recordIn records an answer that stands on the live store of an epoch. If another one is in force this process follows.
func (t *Transactions) recordIn(ctx context.Context, e audit.Event, epoch uint64) error {
	err := t.cfg.Recorder.RecordIn(ctx, e, epoch)
	if errors.Is(err, store.ErrFence) {
		err = oauth.Unavailable(errors.Join(err, t.cfg.Live.Follow(ctx)))
	}
	return err
}

// Session is a user's own token for an app, from the authorization code flow.
type Session struct {
	User      string
	Client    string
	Audience  string // registered URI of a resource, or the issuer
	Algorithm string // of the resource; empty: the server's default
	Scope     string
	Details   []byte
	AuthTime  time.Time
	ACR       string
	AMR       []string
	JKT       string // thumbprint of the DPoP key it is bound to
	X5T       string // thumbprint of the certificate it is bound to
	Lifetime  time.Duration
	Remote    string
}

// IssueSession issues a user's own token and records it. It returns the token and its claims; the error is a refusal.
func (t *Transactions) IssueSession(ctx context.Context, s Session) (string, token.Claims, error) {
	key, err := t.cfg.Keys.Signer(s.Algorithm)
	if err != nil {
		return "", token.Claims{}, err
	}
	_, jti := t.Name("", nil)
	now := t.cfg.Now().Unix()
	c := token.Claims{
		Issuer: t.cfg.Issuer, Audience: token.Audience{s.Audience}, Subject: s.User, ClientID: s.Client, ID: jti,
		IssuedAt: now, NotBefore: now, Expires: now + int64(s.Lifetime/time.Second),
		Scope: s.Scope, Details: s.Details, ACR: s.ACR, AMR: s.AMR,
	}
	if !s.AuthTime.IsZero() {
		c.AuthTime = s.AuthTime.Unix()
	}
	if s.JKT != "" || s.X5T != "" {
		c.Confirm = &token.Confirmation{JKT: s.JKT, X5T: s.X5T}
	}
	gens, err := t.generations(ctx, c, key.KeyID())
	if err != nil {
		return "", c, err
	}
	if err := t.Issue(ctx, Issuance{Claims: c, Gens: gens}); err != nil {
		return "", c, err
	}
	err = t.Record(ctx, audit.Event{
		Kind: audit.KindSession, Allowed: true, User: c.Subject, Client: c.ClientID, Target: s.Audience, GrantedScope: c.Scope,
		GrantedDetails: c.Details, JTI: c.ID, Expires: seconds(c.Expires), Remote: s.Remote,
	})
	if err != nil {
		return "", c, err
	}
	signed, err := t.cfg.Signer.Sign(c, key)
	return signed, c, err
}

// generations reads what Watched names.
func (t *Transactions) generations(ctx context.Context, c token.Claims, kid string) ([]uint64, error) {
	keys, err := Watched(c, kid)
	if err != nil {
		return nil, err
	}
	recs, err := t.cfg.Mirror.Read(ctx, keys...)
	if err != nil {
		return nil, oauth.Unavailable(err)
	}
	return versions(recs), nil
}

func versions(recs []store.Record) []uint64 {
	gens := make([]uint64, len(recs))
	for i, rec := range recs {
		gens[i] = rec.Version
	}
	return gens
}
