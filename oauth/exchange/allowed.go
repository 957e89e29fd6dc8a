package exchange

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// checkResource holds one resource parameter to RFC 8707 section 2.
func checkResource(uri string) error {
	if _, err := agents.CanonicalURI(uri); err != nil {
		return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "resource "+err.Error())
	}
	return nil
}

// target makes sure that the request means exactly one resource, registered, in use and within the agent's ceiling, and that
// the user signed in recently enough for it: step 6.
func (x *Exchange) target(ctx context.Context, f *facts) error {
	switch {
	case f.resource.ID == "" && len(f.ask.targets) == 0:
		return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTargetMissing, "neither resource nor audience was sent, and the agent has no default")
	case f.resource.ID == "" || f.resource.Disabled:
		return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTarget, "the target is not known")
	}
	for _, name := range agents.Distinct(f.ask.targets) {
		if name == f.ask.targets[0] {
			continue
		}
		other, err := x.cfg.Registry.ResourceAt(ctx, name)
		if err != nil && !errors.Is(err, agents.ErrNotFound) {
			return oauth.Unavailable(err)
		}
		if err != nil || other.ID != f.resource.ID {
			return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonTargetSeveral, "a token is for one resource; ask for one")
		}
	}
	if !slices.Contains(f.agent.Ceiling.Resources, f.resource.ID) {
		return oauth.Refuse(oauth.InvalidTarget, oauth.ReasonCeilingTarget, "the target is above the ceiling of the agent")
	}
	if f.ask.details.Len() > 0 {
		if err := x.cfg.Details.CheckTarget(f.ask.details, f.resource.URI, f.resource.Aliases); err != nil {
			return oauth.Refuse(oauth.InvalidAuthorizationDetails, oauth.ReasonDetailsLocation, "authorization_details name another location than the target")
		}
	}
	return x.recent(f)
}

// recent refuses a user who signed in too long ago for the target.
func (x *Exchange) recent(f *facts) error {
	limit, signedIn := time.Duration(f.resource.MaxAuthAge), f.subject.claims.AuthTime
	if limit <= 0 || signedIn != 0 && x.cfg.Now().Sub(time.Unix(signedIn, 0)) <= limit {
		return nil
	}
	refusal := oauth.Refuse(oauth.InsufficientUserAuth, oauth.ReasonUserAuthTooOld, "the user signed in too long ago for the target")
	refusal.Members = map[string]any{"max_age": int64(limit / time.Second)}
	return refusal
}

// limits are what binds the token, but for the grant.
func (x *Exchange) limits(f *facts) limits {
	ends := []time.Time{f.subject.expires, f.agent.Expires, f.who.Expires()}
	if f.by != nil {
		ends = append(ends, f.by.expires)
	}
	lifetime := x.cfg.Settings.Lifetime
	lifetime = min(lifetime, f.resource.Lifetime.Or(lifetime), f.agent.Ceiling.Lifetime.Or(lifetime))
	if f.resource.Redemption == agents.RedemptionNone {
		lifetime = min(f.resource.Lifetime.Or(x.cfg.Settings.Lifetime), f.agent.Ceiling.Lifetime.Or(maxSession))
	}
	return limits{
		asked:    want{scopes: f.ask.scopes, given: len(f.ask.scopes) > 0, details: f.ask.details},
		resource: scopesOf(f.resource), types: f.detailTypes(), subject: f.subject.limit(), ceiling: f.ceiling(x.cfg.Details),
		registry: x.cfg.Details, narrowScopes: x.cfg.Settings.NarrowScopes,
		now: x.cfg.Now(), lifetime: lifetime, ends: ends,
	}
}

// maxSession is the longest that a token without redemption may be good for.
const maxSession = 10 * time.Minute

func scopesOf(r agents.Resource) []string {
	scopes := make([]string, 0, len(r.Scopes))
	for s := range r.Scopes {
		scopes = append(scopes, s)
	}
	slices.Sort(scopes)
	return scopes
}

// within are the limits with those of a grant.
func (l limits) within(g consent.Grant) limits {
	set, err := l.registry.Parse(g.Details)
	b := bound{scopes: g.Scopes}
	if len(g.Details) > 0 && err == nil {
		b.details = set
	}
	l.grant = &b
	l.ends = append(slices.Clone(l.ends), g.Expires)
	return l
}

// justSpent is how long an exhausted grant answers a burst of requests with a refusal before the user is asked anew.
const justSpent = 3 * time.Second

// grant finds what the user allowed that covers the request, and what the token may be within it: steps 7 and 8. Of
// several grants one without a budget comes first, then the one that lasts longest.
func (x *Exchange) grant(ctx context.Context, f *facts, l limits, event *audit.Event) (consent.Grant, granted, error) {
	if err := f.held(); err != nil {
		return consent.Grant{}, granted{}, err
	}
	if f.earlier.Grant != "" {
		return x.paidBy(f, l)
	}
	g, out, err := x.given(f, l)
	if g == nil && err == nil {
		return x.askUser(ctx, f, l, event)
	}
	if err != nil {
		return consent.Grant{}, granted{}, err
	}
	return *g, out, nil
}

// given is the grant that covers the request, or why what the user has allowed so far does not. Neither: nothing of it was ever asked.
func (x *Exchange) given(f *facts, l limits) (*consent.Grant, granted, error) {
	now, keys := x.cfg.Now(), f.who.Fingerprint()
	live := slices.DeleteFunc(slices.Clone(f.bundle.Grants), func(d consent.Drawn) bool { return d.AgentKeys != keys })
	slices.SortFunc(live, func(a, b consent.Drawn) int {
		return cmp.Or(cmp.Compare(min(a.Uses, 1), min(b.Uses, 1)), b.Expires.Compare(a.Expires))
	})
	var refusal error
	for i := range live {
		d := &live[i]
		out, err := narrow(l.within(d.Grant))
		covers := err == nil
		switch {
		case !now.Before(d.Expires):
		case covers && !d.Withdrawn.IsZero() && now.Sub(d.Withdrawn) < x.cfg.Settings.Remember:
			refusal = oauth.Refuse(oauth.AccessDenied, oauth.ReasonGrantWithdrawn, "the user has taken the consent back")
		case !d.Withdrawn.IsZero():
		case covers && d.Exhausted() && now.Sub(d.LastUsed) < justSpent:
			refusal = oauth.Refuse(oauth.AccessDenied, oauth.ReasonGrantExhausted, "the consent is used up")
		case d.Exhausted():
		case covers:
			return &d.Grant, out, nil
		case refusal == nil && overlaps(l, d.Grant):
			refusal = err
		}
	}
	return nil, granted{}, refusal
}

// held refuses what the user allowed before being signed out everywhere, until the subject token is of a sign-in after that. Of a token of
// ours it is: all from before were stopped along with it.
func (f *facts) held() error {
	if f.bundle.Held.IsZero() || f.subject.own != nil {
		return nil
	}
	c := f.subject.claims
	if since := cmp.Or(c.AuthTime, c.IssuedAt); since > f.bundle.Held.Unix() {
		return nil
	}
	return oauth.Refuse(oauth.InsufficientUserAuth, oauth.ReasonUserStopped, "the user was signed out and has to sign in again")
}

// overlaps says whether a grant allows some of what was asked but not all. Such a request is too wide; one that has nothing in
// common with the grant is a new question to the user.
func overlaps(l limits, g consent.Grant) bool {
	if slices.ContainsFunc(l.asked.scopes, func(s string) bool { return slices.Contains(g.Scopes, s) }) {
		return true
	}
	set, err := l.registry.Parse(g.Details)
	if len(g.Details) == 0 || err != nil || l.asked.details.Len() == 0 {
		return false
	}
	widest, ok := l.registry.Widest(set, l.asked.details)
	return ok && widest.Len() > 0
}

// askUser opens, or finds, the question to the user, and waits for the answer as long as the agent wanted to.
func (x *Exchange) askUser(ctx context.Context, f *facts, l limits, event *audit.Event) (consent.Grant, granted, error) {
	none := consent.Grant{}
	possible, err := narrow(l) // what is beyond the ceiling or the subject token is not worth a question
	if err != nil {
		return none, granted{}, err
	}
	in, err := x.cfg.Consents.Ask(ctx, consent.Ask{
		User: f.subject.user, Agent: f.agent.ID, Target: f.resource.ID, Scopes: possible.scopes, Details: possible.details.JSON(),
		MaxUses: f.agent.Ceiling.Uses, AgentKeys: f.who.Fingerprint(),
	})
	if errors.Is(err, consent.ErrTooMany) {
		refusal := oauth.Refuse(oauth.AccessDenied, oauth.ReasonPrompts, "the user has been asked too often; wait before asking again")
		refusal.HTTPStatus, refusal.RetryAfter = 429, time.Minute
		return none, granted{}, refusal
	}
	if err != nil {
		return none, granted{}, oauth.Unavailable(err)
	}
	event.Interaction = token.Hash(in.ID)
	if in.Status == consent.Pending && f.ask.Wait > 0 {
		if in, err = x.wait(ctx, in, f.ask.Wait); err != nil {
			return none, granted{}, err
		}
	}
	switch in.Status {
	case consent.Denied:
		return none, granted{}, oauth.Refuse(oauth.AccessDenied, oauth.ReasonDenied, "the user said no")
	case consent.Allowed:
		return x.answered(ctx, f, in)
	default:
		return none, granted{}, oauth.Interaction{
			URI: x.cfg.Settings.InteractionURI + in.ID, ExpiresIn: in.Remaining(x.cfg.Now()), Interval: x.cfg.Settings.Interval,
		}.Refusal()
	}
}

// wait holds the request until the interaction is decided or the time is over. The hint of the store may be missed, so it
// also looks by itself.
func (x *Exchange) wait(ctx context.Context, in consent.Interaction, patience time.Duration) (consent.Interaction, error) {
	if x.cfg.Aside != nil {
		back, ok := x.cfg.Aside(ctx)
		if !ok {
			return in, nil
		}
		defer back()
	}
	ctx, cancel := context.WithCancel(ctx) // not a deadline: a look that meets it would seem to be a store that fails
	defer cancel()
	over := time.NewTimer(patience)
	defer over.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	hints, err := x.cfg.Consents.Watch(ctx, in.ID)
	if err != nil {
		return in, oauth.Unavailable(err)
	}
	for {
		now, err := x.cfg.Consents.Interaction(ctx, in.ID)
		switch {
		case ctx.Err() != nil || errors.Is(err, consent.ErrNotFound):
			return in, nil
		case err != nil:
			return in, oauth.Unavailable(err)
		case now.Status != consent.Pending:
			return now, nil
		}
		select {
		case _, open := <-hints:
			if !open {
				hints = nil
			}
		case <-look.C:
		case <-over.C:
			return now, nil
		case <-ctx.Done():
			return now, nil
		}
	}
}

// The decision is told before its grant is in force: how often, and after which pause, a request that waited looks for it.
const (
	grantLooks = 60
	grantPause = 50 * time.Millisecond
)

// answered takes the grant that came of an interaction while the request waited. Meanwhile time has passed: everything is looked at anew.
func (x *Exchange) answered(ctx context.Context, f *facts, in consent.Interaction) (consent.Grant, granted, error) {
	none := consent.Grant{}
	if err := x.again(ctx, f); err != nil {
		return none, granted{}, err
	}
	l := x.limits(f)
	pause := time.NewTicker(grantPause)
	defer pause.Stop()
	for range grantLooks {
		recs, err := x.cfg.Mirror.Read(ctx, consent.Key(f.subject.user, f.agent.ID, f.resource.ID))
		if err != nil {
			return none, granted{}, oauth.Unavailable(err)
		}
		bundle, err := x.cfg.Consents.Bundle(recs[0])
		if err != nil {
			return none, granted{}, err
		}
		i := slices.IndexFunc(bundle.Grants, func(d consent.Drawn) bool { return d.ID == in.Grant })
		switch {
		case i >= 0 && bundle.Grants[i].LiveAt(x.cfg.Now()) && !bundle.Grants[i].Exhausted():
			out, err := narrow(l.within(bundle.Grants[i].Grant))
			return bundle.Grants[i].Grant, out, err
		case i >= 0:
			return none, granted{}, oauth.Refuse(oauth.AccessDenied, oauth.ReasonGrantExhausted, "the consent is used up or over")
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return none, granted{}, oauth.Unavailable(ctx.Err())
		}
	}
	return none, granted{}, oauth.Unavailable(errors.New("the grant of the decision is not there yet"))
}

// commit draws from the budget, durably, and then lets the token count: step 10. An exchange that its agent has named begins by
// keeping its duplicates out, and one that was paid for before draws nothing. It is carried through when the agent hangs up: half of it would
// cost the user a use, and keep the agent that asks again waiting for itself.
func (x *Exchange) commit(ctx context.Context, f *facts, c token.Claims, g consent.Grant) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	if err := x.cfg.Transactions.Begin(ctx, f.named, f.earlier); err != nil {
		return err
	}
	var copies []store.Commit
	if f.earlier.Grant == "" {
		var err error
		if copies, err = x.draw(ctx, g, c.Txn); err != nil {
			return errors.Join(err, x.cfg.Transactions.Abandon(ctx, f.named, f.earlier))
		}
	}
	return x.cfg.Transactions.Issue(ctx, transaction.Issuance{
		Claims: c, Gens: f.gens, Alongside: copies, Keyed: f.named, Earlier: f.earlier,
	})
}

// commitTime bounds a commit that nobody waits for any more.
const commitTime = 15 * time.Second

// draw takes a use from the grant's budget.
func (x *Exchange) draw(ctx context.Context, g consent.Grant, txn string) ([]store.Commit, error) {
	copies, err := x.cfg.Consents.Draw(ctx, g, txn)
	switch {
	case errors.Is(err, consent.ErrExhausted):
		return nil, oauth.Refuse(oauth.AccessDenied, oauth.ReasonGrantExhausted, "the consent is used up")
	case errors.Is(err, consent.ErrGone):
		return nil, oauth.Refuse(oauth.AccessDenied, oauth.ReasonGrantWithdrawn, "the user has taken the consent back")
	case err != nil:
		return nil, oauth.Unavailable(err)
	default:
		return copies, nil
	}
}
