// Package web is the pages that people meet: sign-in, consent, a user's own agents, and the operators' console. They are
// rendered here, work without JavaScript, and load nothing from anywhere else. What is decided on them is carried
// out by the packages that own it: accounts and sessions by users, agent consents by consent, app consents by authcode,
// stops by transaction. What they show of third parties is untrusted text (package names, [Visible]).
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/details"
	"obolus/policy"
	"obolus/store"
	"obolus/transaction"
	"obolus/users"
)

// Config is what the pages need; all members are needed but those that say otherwise.
type Config struct {
	// Issuer is the server's own address. The pages lie under its path, and their cookies are Secure when it is https.
	Issuer string

	Users     *users.Book
	Registry  *agents.Registry
	Consents  *consent.Book
	Flow      Flow
	Lifecycle Lifecycle
	Ledger    Ledger
	Live      store.Engine // what a browser is in the middle of
	Record    func(context.Context, audit.Event) error

	// Details says in words what entries of authorization_details mean.
	Details *details.Registry
	// Guardrails are the operators' policies, for the console; nil: there are none.
	Guardrails func(context.Context) (Guardrails, error)
	// Explain says what the guardrails in force would decide, and why; nil: nothing can be tried out.
	Explain func(policy.Input) policy.Explanation

	// Providers are the identity providers that users may sign in with; none: only local accounts.
	Providers []Provider
	// HTTP reaches the identity providers; needed if there are any.
	HTTP *http.Client
	// OperatorToken opens the console; empty: there is no console.
	OperatorToken string

	DefaultLifetime time.Duration // of a grant, offered first
	MaxLifetime     time.Duration // of a grant

	Now func() time.Time
	Log *slog.Logger
}

// Flow is the authorization code flow in the middle: *authcode.Flow.
type Flow interface {
	Pending(ctx context.Context, id string) (authcode.Request, error)
	Allow(ctx context.Context, id string, d authcode.Decision) (location string, err error)
	Refuse(ctx context.Context, id, user string, code oauth.Code) (location string, err error)
}

// Lifecycle stops things, with everything that was derived from them, and tells where they stand: *transaction.Transactions.
type Lifecycle interface {
	Stop(ctx context.Context, target transaction.Target, cause transaction.Cause) error
	SetState(ctx context.Context, id string, to agents.State, cause transaction.Cause) (agents.Agent, error)
	Withdraw(ctx context.Context, grants transaction.Grants, user, id string, cause transaction.Cause) error
	WithdrawAll(ctx context.Context, grants transaction.Grants, user, agent string, cause transaction.Cause) error
	Status(ctx context.Context, caller agents.Authenticated, user, txn string) (transaction.Status, error)
}

// Ledger reads what happened: *audit.Ledger.
type Ledger interface {
	Events(ctx context.Context, f audit.Filter) ([]audit.Event, error)
	Latest(ctx context.Context, f audit.Filter) ([]audit.Event, error)
	Event(ctx context.Context, seq uint64) (audit.Event, bool, error)
	Before(ctx context.Context, at time.Time) (uint64, error)
	Head(ctx context.Context) (seq uint64, hash string, err error)
	Verify(ctx context.Context, progress func(seq uint64)) (uint64, error)
}

// Guardrails are the policies in force and how they came to be.
type Guardrails struct {
	Version  string
	Revision uint64 // of those that operators put; zero: nobody has
	Problem  string // why nothing is allowed; empty: they are in force
	Files    []Guardrail
	History  []GuardrailChange // the newest first
}

// Guardrail is one file of policies. One of the configuration has no revision.
type Guardrail struct {
	Name     string
	Text     string
	Revision uint64
	By, Why  string
	At       time.Time
}

// GuardrailChange is a revision of what operators put.
type GuardrailChange struct {
	Revision      uint64
	What, By, Why string
	At            time.Time
}

// Provider is an OpenID provider. It is found by discovery when somebody first signs in with it.
type Provider struct {
	ID           string // lower-case letters, digits, '.', '_' and '-'; in paths, and before the colon of account ids
	Name         string // for people; empty: the id
	Issuer       string
	ClientID     string
	ClientSecret string
	Scopes       []string // besides openid; empty: profile and email
}

// check says what is missing or wrong.
func (c Config) check() error {
	missing := c.Users == nil || c.Registry == nil || c.Consents == nil || c.Flow == nil || c.Lifecycle == nil || c.Ledger == nil ||
		c.Live == nil || c.Record == nil || c.Details == nil || c.Now == nil || c.Log == nil ||
		c.DefaultLifetime <= 0 || c.MaxLifetime < c.DefaultLifetime
	if missing {
		return errors.New("web: the configuration is not complete")
	}
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("web: the issuer %q is no http or https address", c.Issuer)
	}
	id := regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)
	seen := map[string]bool{"operator": true}
	for _, p := range c.Providers {
		if !id.MatchString(p.ID) || seen[p.ID] || p.Issuer == "" || p.ClientID == "" {
			return fmt.Errorf("web: identity provider %q: its id is not lower-case letters and digits, is there twice, or its "+
				"issuer or client id is missing", p.ID)
		}
		seen[p.ID] = true
	}
	if len(c.Providers) > 0 && c.HTTP == nil {
		return errors.New("web: identity providers without an HTTP client")
	}
	return nil
}
