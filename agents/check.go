package agents

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"obolus/oauth"
	"obolus/token"
)

// ErrInvalid: a registration that cannot be accepted as it is. The message says why, for the person who sent it.
var ErrInvalid = errors.New("cannot be registered")

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrInvalid)...)
}

const maxID = 128

// validID keeps ids to printable ASCII without space, quotes, backslash, '<', '>' and '|'.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool { return r <= 0x20 || r > 0x7e || strings.ContainsRune(`"\<>|`, r) })
}

// CheckID says what is wrong with an id for an agent, a client, a resource or a user, if anything.
func CheckID(id string) error {
	if !validID(id) {
		return invalid("id %q: 1 to %d printable ASCII characters without space, quotes, backslash, <, > and |", id, maxID)
	}
	return nil
}

func (a Agent) check() error {
	if err := CheckID(a.ID); err != nil {
		return err
	}
	if a.Name == "" {
		return invalid("agent %q has no name: people are asked to trust it", a.ID)
	}
	if !slices.Contains([]State{Proposed, Active, Suspended, Retired}, a.State) {
		return invalid("agent %q: state %q is none of proposed, active, suspended, retired", a.ID, a.State)
	}
	if a.Ceiling.Uses < 0 || a.Ceiling.Depth < 0 || a.Ceiling.Rate < 0 || a.Ceiling.Lifetime < 0 {
		return invalid("agent %q: a ceiling is below zero", a.ID)
	}
	if a.Auth == oauth.AuthNone {
		return invalid("agent %q: an agent must prove who it is", a.ID)
	}
	if slices.Contains(a.DelegatesTo, a.ID) {
		return invalid("agent %q cannot hand on to itself", a.ID)
	}
	if err := a.checkTexts(); err != nil {
		return err
	}
	for _, scope := range a.Ceiling.Scopes {
		if !oauth.ValidScope(scope) {
			return invalid("agent %q: scope %q has characters that RFC 6749 section 3.3 does not allow", a.ID, scope)
		}
	}
	return a.Check(a.ID)
}

// What may be said of an agent.
const (
	maxWords  = 1000 // bytes of a name of somebody or something
	maxText   = 2000 // of a description
	maxLabels = 64
)

// checkTexts holds what is said of an agent to sizes that a page can show. What its characters look like is for who shows them.
func (a Agent) checkTexts() error {
	for _, t := range []struct {
		member, text string
		most         int
	}{
		{"description", a.Description, maxText},
		{"purpose", a.Purpose, maxText},
		{"owner", a.Owner, maxWords},
		{"contact", a.Contact, maxWords},
		{"operator", a.Operator, maxWords},
		{"model", a.Model, maxWords},
		{"version", a.Version, maxWords},
		{"homepage", a.Homepage, maxURI},
	} {
		if len(t.text) > t.most || !utf8.ValidString(t.text) {
			return invalid("agent %q: the %s is longer than %d bytes or no UTF-8", a.ID, t.member, t.most)
		}
	}
	if a.Homepage != "" {
		if u, err := url.Parse(a.Homepage); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
			return invalid("agent %q: the homepage %q is no http or https address", a.ID, a.Homepage)
		}
	}
	if len(a.Labels) > maxLabels {
		return invalid("agent %q has more than %d labels", a.ID, maxLabels)
	}
	for name, value := range a.Labels {
		if !validID(name) || strings.Contains(name, "=") || len(value) > maxWords || !utf8.ValidString(value) {
			return invalid("agent %q: label %q: its name is one word without '=', its value at most %d bytes", a.ID, name, maxWords)
		}
	}
	return nil
}

func (c Client) check() error {
	if err := CheckID(c.ID); err != nil {
		return err
	}
	for _, g := range c.GrantTypes {
		if g != oauth.GrantAuthorizationCode && g != oauth.GrantTokenExchange {
			return invalid("client %q: grant type %q is not served", c.ID, g)
		}
		if g == oauth.GrantTokenExchange {
			return invalid("client %q: only agents exchange tokens; register it as an agent", c.ID)
		}
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirect(uri); err != nil {
			return invalid("client %q: redirect_uri %q %s", c.ID, uri, err)
		}
	}
	if slices.Contains(c.GrantTypes, oauth.GrantAuthorizationCode) && len(c.RedirectURIs) == 0 {
		return invalid("client %q uses the authorization code and has no redirect_uris", c.ID)
	}
	return c.Check(c.ID)
}

// checkRedirect holds a redirect URI to RFC 9700 section 2.1 and OAuth 2.1 section 2.3: https, http on loopback, or a
// private scheme with a dot; without fragment, user information or parameters of ours.
func checkRedirect(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || !u.IsAbs() || strings.Contains(uri, "#") || strings.ContainsFunc(uri, control) {
		return errors.New("is not an absolute URI without fragment")
	}
	if u.User != nil || strings.Contains(uri, "*") {
		return errors.New("has user information or a wildcard")
	}
	for _, name := range []string{"code", "state", "iss", "error", "error_description"} {
		if u.Query().Has(name) {
			return fmt.Errorf("has the parameter %s, which belongs to the answer", name)
		}
	}
	loopback := slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname())
	if u.Scheme == "https" && u.Host != "" || u.Scheme == "http" && loopback || u.Host == "" && strings.Contains(u.Scheme, ".") {
		return nil
	}
	return errors.New("is neither https, nor http on loopback, nor a private scheme with a dot")
}

func (r Resource) check() error {
	if err := CheckID(r.ID); err != nil {
		return err
	}
	if canonical, err := CanonicalURI(r.URI); err != nil || canonical != r.URI {
		return invalid("resource %q: uri %q must be absolute, in canonical form and without fragment", r.ID, r.URI)
	}
	if !slices.Contains([]Redemption{RedemptionRequired, RedemptionNone}, r.Redemption) {
		return invalid("resource %q: redemption %q is neither required nor none", r.ID, r.Redemption)
	}
	if r.Redemption == RedemptionRequired && len(r.Servers) == 0 {
		return invalid("resource %q requires redemption and names no client that could redeem (servers)", r.ID)
	}
	if r.Lifetime < 0 || r.MaxAuthAge < 0 {
		return invalid("resource %q: a duration is below zero", r.ID)
	}
	if r.Algorithm != "" && !slices.Contains(token.Algorithms(), r.Algorithm) {
		return invalid("resource %q: algorithm %q is none of %s", r.ID, r.Algorithm, strings.Join(token.Algorithms(), ", "))
	}
	for scope := range r.Scopes {
		if !oauth.ValidScope(scope) {
			return invalid("resource %q: scope %q has characters that RFC 6749 section 3.3 does not allow", r.ID, scope)
		}
	}
	for _, alias := range r.Aliases {
		if len(alias) == 0 || len(alias) > maxURI || strings.ContainsFunc(alias, control) {
			return invalid("resource %q: alias %q is empty, too long or has spaces", r.ID, alias)
		}
	}
	return nil
}
