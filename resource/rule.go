package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"obolus/oauth"
)

// Rule is what a request must have to reach a handler. The functions run before the redemption and must have no effect; each may
// read the body, which is given again to whoever comes after it. An error that is not an *oauth.Error refuses with 403.
type Rule struct {
	// Scopes are all needed.
	Scopes []string
	// OneTransaction refuses session tokens.
	OneTransaction bool
	// Late leaves it to the handler to call [Caller.Redeem] when the effect is about to begin: for handlers that may answer without
	// one, as with a question back to the agent. A handler that forgets to call it lets a token be used more than once.
	Late bool
	// MaxAge is how long ago the user may have signed in, and ACR the ways of signing in that suffice (RFC 9470). Zero: any.
	MaxAge time.Duration
	ACR    []string
	// Arrays says that a body which is a JSON array is one thing. Else it is a batch, which no one-transaction token pays for.
	Arrays bool

	// Chain says whether those who act for the user may: whoever acts comes first, and there is nobody where the user's own app asks. Its errors
	// refuse with 403 and actor_unauthorized, since no broader scope would help. It does not see the request.
	Chain func(actors []Actor) error
	// Refine gives a further rule for what this request asks: its scopes are needed too, and its functions run too.
	Refine func(r *http.Request) (Rule, error)
	// Details says whether the request is within what was granted. Without it a token with authorization_details is refused:
	// they would be ignored. [AnyDetails] ignores them aloud.
	Details func(r *http.Request, granted []Detail) error
	// Check is for everything else that can fail without an effect: input, quotas, whether the object exists.
	Check func(r *http.Request, caller *Caller) error
	// Digest gives what is hashed as the request; nil: method, path, query and body, JSON in its canonical form. What may differ when
	// an agent repeats a request, such as a JSON-RPC id, must not be in it.
	Digest func(r *http.Request) ([]byte, error)

	// free lets a one-transaction token through without using it up, as if it were a session token: for what has no effect.
	free bool
	// instead is a type of authorization_details that stand in for Scopes, but for those that are needed always.
	instead string
	always  []string
}

// Detail is one member of authorization_details, RFC 9396 section 2.
type Detail struct {
	Type      string
	Locations []string
	Raw       json.RawMessage // the whole object
}

// Into decodes the whole object.
func (d Detail) Into(v any) error { return json.Unmarshal(d.Raw, v) }

// AnyDetails is a [Rule].Details for handlers that authorization_details do not concern.
func AnyDetails(*http.Request, []Detail) error { return nil }

// NoDetail is the refusal of a request that none of the granted authorization_details allows.
func NoDetail(description string) error {
	return &oauth.Error{
		Code: oauth.InsufficientScope, Reason: oauth.ReasonGrantDetails, HTTPStatus: http.StatusForbidden, Description: oauth.Printable(description),
	}
}

// WrongActor is the refusal of those who act: of who they are, whatever they ask for.
func WrongActor(description string) error {
	return &oauth.Error{
		Code: oauth.ActorUnauthorized, Reason: oauth.ReasonGuardrail, HTTPStatus: http.StatusForbidden, Description: oauth.Printable(description),
	}
}

// readsBody says whether the rule's functions may look at the body.
func (r Rule) readsBody() bool {
	return r.Refine != nil || r.Details != nil || r.Check != nil || r.Digest != nil
}

// and joins a rule with one that refines it.
func (r Rule) and(more Rule) Rule {
	out := r
	out.Scopes = slices.Clone(r.Scopes)
	for _, s := range more.Scopes {
		if !slices.Contains(out.Scopes, s) {
			out.Scopes = append(out.Scopes, s)
		}
	}
	out.OneTransaction = r.OneTransaction || more.OneTransaction
	out.Late = r.Late || more.Late
	out.free, out.instead, out.always = more.free, more.instead, more.always
	out.Arrays = r.Arrays || more.Arrays
	if r.MaxAge == 0 || more.MaxAge > 0 && more.MaxAge < r.MaxAge {
		out.MaxAge = more.MaxAge
	}
	if len(more.ACR) > 0 {
		out.ACR = more.ACR
	}
	if r.Chain != nil && more.Chain != nil {
		out.Chain = func(actors []Actor) error { return errors.Join(r.Chain(actors), more.Chain(actors)) }
	} else if more.Chain != nil {
		out.Chain = more.Chain
	}
	out.Details = both(r.Details, more.Details)
	out.Check = both(r.Check, more.Check)
	if more.Digest != nil {
		out.Digest = more.Digest
	}
	out.Refine = more.Refine
	return out
}

// both runs two checks of the same kind.
func both[T any](first, second func(*http.Request, T) error) func(*http.Request, T) error {
	if first == nil || second == nil {
		if first == nil {
			return second
		}
		return first
	}
	return func(r *http.Request, v T) error {
		if err := first(r, v); err != nil {
			return err
		}
		rewind(r)
		return second(r, v)
	}
}

const maxRefinements = 4

// allow is step 3: scope, user authentication, the body and the functions of the rule. The rule that was applied in the end is in the caller.
func (g *Guard) allow(r *http.Request, c *Caller) error {
	if err := g.allowWho(c); err != nil {
		return err // before a body is read for somebody who may not ask anyway
	}
	if err := g.readAhead(r, c); err != nil {
		return err
	}
	if err := c.refine(r); err != nil {
		return err
	}
	if err := g.allowWho(c); err != nil {
		return err
	}
	if err := g.allowUser(c.rule, c); err != nil {
		return err
	}
	if err := g.allowMode(r, c); err != nil {
		return err
	}
	if err := allowDetails(r, c); err != nil {
		return err
	}
	if err := c.digestOf(r); err != nil {
		return err
	}
	if c.rule.Check == nil {
		return nil
	}
	err := c.rule.Check(r, c)
	rewind(r)
	return forbidden(err)
}

// refine joins the rule with what it says of this request.
func (c *Caller) refine(r *http.Request) error {
	for n := 0; c.rule.Refine != nil; n++ {
		if n == maxRefinements {
			return errors.New("resource guard: the rule refines itself without end")
		}
		more, err := c.rule.Refine(r)
		rewind(r)
		if err != nil {
			return forbidden(err)
		}
		c.rule = c.rule.and(more)
	}
	c.Free = c.rule.free
	return nil
}

// allowWho judges those who act, and then their scopes.
func (g *Guard) allowWho(c *Caller) error {
	if c.rule.Chain != nil {
		if err := c.rule.Chain(slices.Clone(c.Chain)); err != nil {
			return refused(err, WrongActor("whoever acts is not let in here"))
		}
	}
	return g.allowScopes(c.needs(), c)
}

// needs are the scopes that a request needs with this token.
func (c *Caller) needs() []string {
	if c.rule.instead != "" && c.has(c.rule.instead) {
		return c.rule.always
	}
	return c.rule.Scopes
}

// has says whether there are authorization_details of a type.
func (c *Caller) has(kind string) bool {
	return slices.ContainsFunc(c.Details, func(d Detail) bool { return d.Type == kind })
}

// allowScopes wants every scope, itself or within a broader one.
func (g *Guard) allowScopes(need []string, c *Caller) error {
	for _, scope := range need {
		if !g.covers(c.Scopes, scope, len(g.cfg.Includes)+1) {
			return &oauth.Error{
				Code: oauth.InsufficientScope, Reason: oauth.ReasonGrantScope, HTTPStatus: http.StatusForbidden,
				Description: "the token lacks a scope that this request needs",
			}
		}
	}
	return nil
}

// covers looks for a scope among those that were granted and what they include, at most depth steps away.
func (g *Guard) covers(granted []string, scope string, depth int) bool {
	if slices.Contains(granted, scope) {
		return true
	}
	if depth == 0 || len(g.cfg.Includes) == 0 {
		return false
	}
	for _, s := range granted {
		if g.covers(g.cfg.Includes[s], scope, depth-1) {
			return true
		}
	}
	return false
}

// allowUser is RFC 9470: how and when the user signed in.
func (g *Guard) allowUser(rule Rule, c *Caller) error {
	weak := len(rule.ACR) > 0 && !slices.Contains(rule.ACR, c.ACR)
	old := rule.MaxAge > 0 && (c.AuthTime.IsZero() || g.cfg.Now().Sub(c.AuthTime) > rule.MaxAge)
	if !weak && !old {
		return nil
	}
	return &oauth.Error{
		Code: oauth.InsufficientUserAuth, Reason: oauth.ReasonUserAuthTooOld, HTTPStatus: http.StatusUnauthorized,
		Description: "the user must sign in again, or in a stronger way",
	}
}

// allowMode holds the token's mode against the rule, and the request against what one transaction can be.
func (g *Guard) allowMode(r *http.Request, c *Caller) error {
	if !c.OneTransaction {
		if c.rule.OneTransaction {
			return invalidToken("this request needs a one-transaction token", nil)
		}
		return nil
	}
	if c.Free && c.stopped != nil {
		return c.stopped // no redemption will tell
	}
	switch {
	case r.Method == http.MethodHead || r.Method == http.MethodOptions:
		return badRequest(oauth.ReasonMalformed, r.Method+" is no transaction", nil)
	case r.Header.Get("Early-Data") == "1":
		return &oauth.Error{
			Code: oauth.InvalidRequest, Reason: oauth.ReasonMalformed, HTTPStatus: http.StatusTooEarly,
			Description: "a one-transaction token cannot be used in TLS early data",
		}
	default:
		return c.oneThing(r)
	}
}

// allowDetails holds the request against the token's authorization_details.
func allowDetails(r *http.Request, c *Caller) error {
	if c.rule.Details == nil {
		if len(c.Details) == 0 {
			return nil
		}
		return NoDetail("the token has authorization_details, which this request cannot be held against")
	}
	err := c.rule.Details(r, c.Details)
	rewind(r)
	return forbidden(err)
}

// forbidden makes a refusal of the error of a rule's function.
func forbidden(err error) error {
	if err == nil {
		return nil
	}
	return refused(err, &oauth.Error{
		Code: oauth.InsufficientScope, Reason: oauth.ReasonGrantDetails, HTTPStatus: http.StatusForbidden,
		Description: "the request is not within what was granted", Err: err,
	})
}

// refused is the error of a rule's function as a refusal: itself if it is one, else the usual one for it.
func refused(err, usual error) error {
	if _, ok := errors.AsType[*oauth.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return oauth.Unavailable(err)
	}
	return fmt.Errorf("rule: %w", usual)
}
