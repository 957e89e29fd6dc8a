package exchange

import (
	"fmt"
	"slices"
	"time"

	"obolus/oauth"
	"obolus/oauth/details"
)

// bound is how far one party lets a token go.
type bound struct {
	scopes     []string
	details    details.Set
	anyDetails bool // the party says nothing about details: it neither gives nor takes
}

// limits are everything that a token must stay within.
type limits struct {
	asked        want
	resource     []string // the scopes the resource has
	types        []string // the detail types that resource and agent both know
	subject      bound
	ceiling      bound
	grant        *bound // nil: what a user could be asked for is wanted
	registry     *details.Registry
	narrowScopes bool // leave out what goes too far instead of refusing

	now      time.Time
	lifetime time.Duration
	ends     []time.Time // whatever the token must not outlive; zero ones are ignored
}

// want is what was asked for.
type want struct {
	scopes  []string
	given   bool // scopes were named; otherwise whatever is allowed is meant
	details details.Set
}

// granted is what comes out: within every limit.
type granted struct {
	scopes  []string
	details details.Set
	expires time.Time
}

// narrow is the one place where the extent of a token is decided. What comes out is never wider than the request, the resource,
// the subject token, the ceiling and the grant, and never longer than any of the ends: for every input, or else it is
// a refusal. It reads nothing but its argument.
func narrow(l limits) (granted, error) {
	scopes, err := l.narrowScope()
	if err != nil {
		return granted{}, err
	}
	set, err := l.narrowDetails()
	if err != nil {
		return granted{}, err
	}
	if len(scopes) == 0 && set.Len() == 0 {
		return granted{}, oauth.Refuse(oauth.InvalidScope, oauth.ReasonScopeEmpty, "nothing is left of the request within what is allowed")
	}
	expires := l.now.Add(l.lifetime)
	for _, end := range l.ends {
		if !end.IsZero() && end.Before(expires) {
			expires = end
		}
	}
	expires = expires.Truncate(time.Second)
	if !expires.After(l.now) {
		return granted{}, oauth.Refuse(oauth.InvalidRequest, oauth.ReasonExpired, "the token would be over before it could be used")
	}
	return granted{scopes: scopes, details: set, expires: expires}, nil
}

func (l limits) narrowScope() ([]string, error) {
	candidates := l.asked.scopes
	if !l.asked.given {
		if l.asked.details.Len() > 0 {
			return nil, nil // the request is for details alone
		}
		candidates = l.resource
	}
	var kept []string
	for _, s := range candidates {
		err := l.admits(s)
		if err == nil {
			kept = append(kept, s)
		} else if l.asked.given && !l.narrowScopes {
			return nil, err
		}
	}
	return kept, nil
}

// admits says which limit a scope goes beyond, if any.
func (l limits) admits(s string) error {
	refuse := func(reason oauth.Reason, why string) error {
		return oauth.Refuse(oauth.InvalidScope, reason, oauth.Printable(fmt.Sprintf("scope %s %s", s, why)))
	}
	switch {
	case !slices.Contains(l.resource, s):
		return refuse(oauth.ReasonScopeUnknown, "is not one of the resource")
	case !slices.Contains(l.ceiling.scopes, s):
		return refuse(oauth.ReasonCeilingScope, "is above the ceiling of the agent")
	case !slices.Contains(l.subject.scopes, s):
		return refuse(oauth.ReasonSubjectScope, "is not in the subject token")
	case l.grant != nil && !slices.Contains(l.grant.scopes, s):
		return refuse(oauth.ReasonGrantScope, "was not allowed by the user; ask for it by itself to have the user asked")
	default:
		return nil
	}
}

func (l limits) narrowDetails() (details.Set, error) {
	none := details.Set{}
	set := l.asked.details
	if set.Len() == 0 {
		if l.asked.given || l.grant == nil || l.grant.details.Len() == 0 {
			return none, nil
		}
		set = l.grant.details // nothing was named: what the user allowed, as far as the rest still allows it
		if l.admitDetails(set) != nil {
			return none, nil //nolint:nilerr // what the rest does not allow was not asked for either
		}
		return set, nil
	}
	return set, l.admitDetails(set)
}

// admitDetails says which limit a set of authorization details goes beyond, if any: RFC 9396 section 6.
func (l limits) admitDetails(set details.Set) error {
	refuse := func(reason oauth.Reason, why string) error {
		return oauth.Refuse(oauth.InvalidAuthorizationDetails, reason, "authorization_details "+why)
	}
	for _, name := range set.Types() {
		if !slices.Contains(l.types, name) {
			return refuse(oauth.ReasonDetailsType, oauth.Printable("of type "+name+" are not for this agent at this resource"))
		}
	}
	switch {
	case !l.ceiling.anyDetails && l.registry.Covers(l.ceiling.details, set) != nil:
		return refuse(oauth.ReasonCeilingDetails, "are above the ceiling of the agent")
	case !l.subject.anyDetails && l.registry.Covers(l.subject.details, set) != nil:
		return refuse(oauth.ReasonSubjectDetails, "are not within those of the subject token")
	case l.grant != nil && l.registry.Covers(l.grant.details, set) != nil:
		return refuse(oauth.ReasonGrantDetails, "are not within what the user allowed")
	default:
		return nil
	}
}
