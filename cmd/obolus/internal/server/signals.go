package server

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"obolus/agents"
	"obolus/cmd/obolus/internal/config"
	"obolus/signals"
	"obolus/token"
	"obolus/users"
)

// signals wires the feed of what was stopped, and the receiver of security events, if anybody is to send some.
func (p *parts) signals() error {
	var err error
	p.longest = &lasting{registry: p.registry, tokens: p.cfg.Tokens, now: p.opts.Now}
	p.feed, err = signals.NewFeed(signals.FeedConfig{
		Issuer: p.cfg.Issuer, Ledger: p.ledger, Keys: p.ring, Signer: token.NewIssuer(p.cfg.Issuer), Longest: p.longest.get,
		Epoch: p.stores.live.InForce, Now: p.opts.Now,
	})
	from := p.transmitters()
	if err != nil || len(from) == 0 {
		return err
	}
	p.receiver, err = signals.NewReceiver(signals.ReceiverConfig{
		Transmitters: from, Live: p.stores.live, SignOut: p.accounts.SignOutBefore, Hold: p.consents.Hold, Stop: p.life.Stop,
		Record: p.recorder.Record, Longest: p.longest.get, Now: p.opts.Now,
	})
	return err
}

// transmitters are those whose events are taken: identity providers, whose users have accounts here, and trusted issuers, whose users are
// known by their tokens.
func (p *parts) transmitters() []signals.Transmitter {
	var list []signals.Transmitter
	for _, one := range p.cfg.IdentityProviders {
		if one.Events == nil {
			continue
		}
		t := p.transmitter(*one.Events, one.Issuer, "")
		t.User = func(sub string) string { return users.FederatedID(one.ID, sub) }
		if one.Events.Email {
			t.ByEmail = func(ctx context.Context, email string) ([]string, error) { return p.byEmail(ctx, one.ID, email) }
		}
		list = append(list, t)
	}
	for _, one := range p.cfg.TrustedIssuers {
		if one.Events == nil {
			continue
		}
		t := p.transmitter(*one.Events, one.Issuer, one.JWKSURI)
		t.User = func(sub string) string { return one.SubjectPrefix + sub }
		if len(t.Algorithms) == 0 {
			t.Algorithms = one.Algorithms
		}
		list = append(list, t)
	}
	return list
}

// transmitter is who sends the events of an issuer.
func (p *parts) transmitter(e config.Events, issuer, keysAt string) signals.Transmitter {
	sender := cmp.Or(e.Issuer, issuer)
	if sender != issuer {
		keysAt = "" // those are the issuer's
	}
	return signals.Transmitter{
		Issuer: sender, Audience: cmp.Or(e.Audience, p.cfg.Issuer), Subjects: issuer, Algorithms: e.Algorithms, TokenHash: e.TokenHash,
		Keys: token.NewRemoteKeys(token.RemoteConfig{
			URI: cmp.Or(e.JWKSURI, keysAt), Issuer: sender, Client: p.outside, Now: p.opts.Now, Algs: e.Algorithms,
		}),
	}
}

// byEmail looks through the accounts of a provider for an address. It is slow where there are many.
func (p *parts) byEmail(ctx context.Context, provider, email string) ([]string, error) {
	const page = 500
	var ids []string
	for after := provider + ":"; ; {
		found, err := p.accounts.Accounts(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for _, a := range found {
			after = a.ID
			if !strings.HasPrefix(a.ID, provider+":") {
				return ids, nil
			}
			if a.Provider == provider && strings.EqualFold(a.Email, email) {
				ids = append(ids, a.ID)
			}
		}
		if len(found) < page {
			return ids, nil
		}
	}
}

// longestFloor is more than any token lives unless a resource says otherwise.
const longestFloor = time.Hour

// lasting knows the longest that a token may live, as it was a moment ago.
type lasting struct {
	registry *agents.Registry
	tokens   config.Tokens
	now      func() time.Time

	mu    sync.Mutex
	most  time.Duration
	until time.Time
}

// lastingFresh is how long it is believed: what is issued under a longer life meanwhile is stopped all the same, and only told for less time.
const lastingFresh = 10 * time.Second

func (l *lasting) get(ctx context.Context) (time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now().Before(l.until) {
		return l.most, nil
	}
	most := max(longestFloor, time.Duration(l.tokens.SessionLifetime), time.Duration(l.tokens.Lifetime))
	for after := ""; ; {
		found, err := l.registry.Resources(ctx, after, 500)
		if err != nil {
			return 0, err
		}
		for _, res := range found {
			after, most = res.ID, max(most, time.Duration(res.Lifetime))
		}
		if len(found) < 500 {
			break
		}
	}
	l.most, l.until = most+time.Duration(l.tokens.Leeway), l.now().Add(lastingFresh)
	return l.most, nil
}
