// Package agents is the registry: the agents that may act for people, the clients and the resources around them, and who
// of them has proved to be who. It stands on the store's contract and knows no transport; package exchange asks it, the
// consoles and the configuration change it.
package agents

import (
	"encoding/json"
	"time"

	"obolus/oauth"
)

// State is the lifecycle of an agent. Only an active one gets or redeems anything.
type State string

// The states: proposed → active ⇄ suspended → retired. Nothing leaves retired.
const (
	Proposed  State = "proposed"
	Active    State = "active"
	Suspended State = "suspended"
	Retired   State = "retired"
)

// Duration is a time.Duration that reads and writes as Go's text form, "90s".
type Duration time.Duration

// MarshalText writes the text form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads the text form.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Or gives the duration, or another when it is zero.
func (d Duration) Or(other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return time.Duration(d)
}

// Agent is a registered actor: an OAuth client that acts for people. Its id is its client id and the sub of its act
// claim.
type Agent struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Purpose     string            `json:"purpose,omitempty"`
	Owner       string            `json:"owner,omitempty"`    // who answers for it
	Contact     string            `json:"contact,omitempty"`  // how to reach the owner
	Operator    string            `json:"operator,omitempty"` // who runs it
	Model       string            `json:"model,omitempty"`
	Version     string            `json:"version,omitempty"`
	Homepage    string            `json:"homepage,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Credential
	Ceiling     Ceiling   `json:"ceiling"`
	Default     string    `json:"default_resource,omitempty"` // resource id meant when a request names none
	DelegatesTo []string  `json:"delegates_to,omitempty"`     // agents it may hand on to
	State       State     `json:"state,omitempty"`
	Expires     time.Time `json:"expires,omitzero"` // not active from then on; zero: never
	// Recertify is when somebody has to look at the registration again; the console and the doctor say so, nothing else happens.
	Recertify time.Time `json:"recertify,omitzero"`

	// Changed tells of the last change of the state.
	Changed Change `json:"changed,omitzero"`
}

// Change is who set a state, when and why.
type Change struct {
	By  string    `json:"by,omitempty"`
	At  time.Time `json:"at,omitzero"`
	Why string    `json:"why,omitempty"`
}

// ActiveAt says whether the agent may act at a time.
func (a Agent) ActiveAt(now time.Time) bool {
	return a.State == Active && (a.Expires.IsZero() || now.Before(a.Expires))
}

// DueAt says whether somebody has to look at the registration: it is over, or its date to be looked at again has come. A retired agent is
// never due.
func (a Agent) DueAt(now time.Time) bool {
	past := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	return a.State != Retired && (past(a.Expires) || past(a.Recertify))
}

// Ceiling is the most an agent may ever get, whatever a user allows. An empty list allows nothing of its kind.
type Ceiling struct {
	Resources []string        `json:"resources"` // resource ids
	Scopes    []string        `json:"scopes"`
	Details   json.RawMessage `json:"authorization_details,omitempty"` // the widest details; absent: any of DetailTypes
	// DetailTypes are the authorization_details types it may ask for at all.
	DetailTypes []string `json:"details_types,omitempty"`
	Lifetime    Duration `json:"lifetime,omitempty"` // of a token; zero: the resource's
	Uses        int      `json:"uses,omitempty"`     // the most uses a grant may have; zero: no limit
	Depth       int      `json:"depth,omitempty"`    // the longest chain; zero: the server's limit
	Rate        int      `json:"rate,omitempty"`     // exchanges asked for in a minute; zero: no limit
}

// Credential is how a client proves to be itself.
type Credential struct {
	Auth oauth.AuthMethod `json:"auth,omitempty"`
	// JWKS are its public keys by value; JWKSURI is where it publishes them. At most one of them is set.
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
	// SecretHash is HMAC-SHA256 of the secret under the server's key, base64url.
	SecretHash string `json:"secret_hash,omitempty"`
	// DPoP demands a DPoP proof with every request for a token (RFC 9449 section 5.2).
	DPoP bool `json:"dpop_bound_access_tokens,omitempty"`
	// CertificateBound binds every token to the certificate of the connection that asks for it (RFC 8705 section 3.4).
	CertificateBound bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	// CertificateSubject is who the certificate of tls_client_auth is for.
	CertificateSubject
	// SPIFFE is the SPIFFE ID of its workload, for spiffe_jwt and spiffe_x509.
	SPIFFE string `json:"spiffe_id,omitempty"`
	// Federated says which tokens of a platform are those of its workload, for federated_jwt.
	Federated *Federated `json:"federated,omitempty"`
}

// Client is an OAuth client that is not an agent: the app a user signs in to, or a resource server.
type Client struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Homepage     string            `json:"homepage,omitempty"`
	RedirectURIs []string          `json:"redirect_uris,omitempty"`
	GrantTypes   []oauth.GrantType `json:"grant_types,omitempty"`
	Scopes       []string          `json:"scopes,omitempty"` // it may ask a user for; empty: any registered scope
	// DetailTypes are the authorization_details types it may ask for; empty: any registered type.
	DetailTypes []string `json:"authorization_details_types,omitempty"`
	Credential
	// FirstParty lets a user's sign-in stand for consent to this client, which must then prove who it is.
	FirstParty bool `json:"first_party,omitempty"`
	// RequirePushed refuses its authorization requests that were not pushed (RFC 9126 section 6).
	RequirePushed bool `json:"require_pushed_authorization_requests,omitempty"`
	Disabled      bool `json:"disabled,omitempty"`
}

// called is what people see of a client: its name, or its id if it has none.
func (c Client) called() string {
	if c.Name == "" {
		return c.ID
	}
	return c.Name
}

// Redemption is how a resource treats one-transaction tokens.
type Redemption string

// The ways. A resource that does not redeem gets session tokens only.
const (
	RedemptionRequired Redemption = "required"
	RedemptionNone     Redemption = "none"
)

// Resource is a target: one API that accepts our tokens.
type Resource struct {
	ID      string            `json:"id"`
	URI     string            `json:"uri"`               // registered form of RFC 8707's resource; the aud of its tokens
	Aliases []string          `json:"aliases,omitempty"` // further URIs, and names for RFC 8693's audience
	Name    string            `json:"name,omitempty"`    // for people
	Scopes  map[string]string `json:"scopes,omitempty"`  // scope → what it means, for people
	Details []string          `json:"details_types,omitempty"`
	// Algorithm signs its tokens: ES256, EdDSA, PS256 or RS256.
	Algorithm  string     `json:"algorithm,omitempty"`
	Redemption Redemption `json:"redemption,omitempty"`
	Lifetime   Duration   `json:"lifetime,omitempty"` // of its tokens, at most; zero: the server's
	// Servers are the clients or agents that are this resource: they may introspect and redeem.
	Servers []string `json:"servers,omitempty"`
	// MaxAuthAge is how long ago the user may have signed in; zero: any time.
	MaxAuthAge Duration          `json:"max_auth_age,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Disabled   bool              `json:"disabled,omitempty"`
}
