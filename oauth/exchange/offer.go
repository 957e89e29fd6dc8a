package exchange

import (
	"errors"
	"slices"
	"strings"

	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/details"
	"obolus/token"
)

// offering puts into the refusal of a request that was too wide what the agent could have asked for instead: the largest part of it that
// would be granted, or of which the user would be asked. Whoever repeats the request with exactly that gets it, as things stand; what a user
// then says is the user's. It is told to the agent that was authenticated, about its own registration, its own grants and a token it holds.
func (x *Exchange) offering(f *facts, act *token.Actor, l limits, err error) error {
	refusal, ok := errors.AsType[*oauth.Error](err)
	tooWide := ok && refusal.Tell && (refusal.Code == oauth.InvalidScope || refusal.Code == oauth.InvalidAuthorizationDetails)
	if !tooWide || f.earlier.Grant != "" { // what was paid for is repeated as it is, or not at all
		return err
	}
	best, found := x.offer(f, act, l)
	if !found {
		return err
	}
	more := *refusal
	more.Members = map[string]any{"grantable": best.members()}
	return &more
}

// offer is a request that would not be refused.
type offer struct{ want }

// members are the parameters of the request, as the token endpoint reads them.
func (o offer) members() map[string]any {
	m := map[string]any{}
	if len(o.scopes) > 0 {
		m["scope"] = strings.Join(o.scopes, " ")
	}
	if o.details.Len() > 0 {
		m["authorization_details"] = o.details.JSON()
	}
	return m
}

func (o offer) size() int { return len(o.scopes) + o.details.Len() }

// offer is the largest part of a request that would be granted: of the grants that allow some of it, by the one that allows most; if there is
// none, what the user would be asked for.
func (x *Exchange) offer(f *facts, act *token.Actor, l limits) (offer, bool) {
	keys, best, partly := f.who.Fingerprint(), offer{}, false
	for _, d := range f.bundle.Grants {
		if d.AgentKeys != keys || !d.LiveAt(x.cfg.Now()) || d.Exhausted() || !overlaps(l, d.Grant) {
			continue
		}
		partly = true
		part := l.within(d.Grant)
		if o := x.unguarded(f, act, d.Grant, part, part.part(f)); o.size() > best.size() {
			best = o
		}
	}
	if !partly {
		best = l.part(f)
	}
	return best, best.size() > 0 && x.stands(f, act, l, best)
}

// asking are the limits of the same request for something else.
func (l limits) asking(o offer) limits {
	l.asked = o.want
	return l
}

// part is what of a request lies within its limits. An empty one is none.
func (l limits) part(f *facts) offer {
	var o offer
	for _, s := range l.asked.scopes {
		if l.admits(s) == nil {
			o.scopes = append(o.scopes, s)
		}
	}
	o.given, o.details = len(o.scopes) > 0, l.detailsPart(f)
	if _, err := narrow(l.asking(o)); err != nil {
		return offer{}
	}
	return o
}

// detailsPart is what of the asked details lies within the limits, as it would be read in a request for the same target.
func (l limits) detailsPart(f *facts) details.Set {
	none, set := details.Set{}, l.asked.details
	if set.Len() == 0 {
		return none
	}
	limits := []bound{l.ceiling, l.subject}
	if l.grant != nil {
		limits = append(limits, *l.grant)
	}
	for _, limit := range limits {
		if limit.anyDetails {
			continue
		}
		var ok bool
		if set, ok = l.registry.Widest(limit.details, set); !ok {
			return none
		}
	}
	return l.sift(set, func(one details.Set) bool {
		return slices.Contains(l.types, one.Types()[0]) && l.registry.CheckTarget(one, f.resource.URI, f.resource.Aliases) == nil
	})
}

// sift keeps the entries of a set that pass, and reads them again as those of a request are read.
func (l limits) sift(set details.Set, pass func(one details.Set) bool) details.Set {
	var kept []string
	for _, e := range set.Entries() {
		text := string(e.JSON())
		if one, err := l.registry.Parse([]byte("[" + text + "]")); err == nil && pass(one) {
			kept = append(kept, text)
		}
	}
	if len(kept) == 0 {
		return details.Set{}
	}
	out, err := l.registry.Parse([]byte("[" + strings.Join(kept, ",") + "]"))
	if err != nil {
		return details.Set{}
	}
	return out
}

// maxSifted bounds how many parts of a request the guardrails are asked about one by one.
const maxSifted = 32

// unguarded is what the guardrails leave of an offer within a grant.
func (x *Exchange) unguarded(f *facts, act *token.Actor, g consent.Grant, l limits, o offer) offer {
	allowed := func(o offer) bool {
		out, err := narrow(l.asking(o))
		if err != nil {
			return false
		}
		var event audit.Event
		describeChain(&event, act)
		return x.guard(f, x.claims(f, act, g, out), g, &event) == nil
	}
	if o.size() == 0 || allowed(o) {
		return o
	}
	if o.size() > maxSifted {
		return offer{}
	}
	var left offer
	for _, s := range o.scopes {
		if allowed(offer{want{scopes: []string{s}, given: true}}) {
			left.scopes = append(left.scopes, s)
		}
	}
	left.given = len(left.scopes) > 0
	left.details = l.sift(o.details, func(one details.Set) bool { return allowed(offer{want{details: one}}) })
	if left.size() == 0 || !allowed(left) {
		return offer{}
	}
	return left
}

// stands says whether a request for an offer would be answered by a grant, guardrails included, or by a question to the user: and not by a
// refusal that remembers what the user has taken back or used up.
func (x *Exchange) stands(f *facts, act *token.Actor, l limits, o offer) bool {
	g, _, err := x.given(f, l.asking(o))
	if g == nil || err != nil {
		return err == nil
	}
	return x.unguarded(f, act, *g, l.within(*g), o).size() == o.size()
}
