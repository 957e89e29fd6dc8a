package agents

import (
	"slices"
	"time"

	"obolus/oauth"
	"obolus/token"
)

// Credentials are what a client presented, taken apart at the door: exactly one mechanism.
type Credentials struct {
	Method    oauth.AuthMethod
	ClientID  string // of Basic, of the body, or the unverified sub of the assertion
	Secret    string
	Assertion string
	// Certificate is that of the connection; nil: the client showed none.
	Certificate *Certificate
	// Proof is the DPoP proof of the request, verified but for its replay; nil: none came, or nobody has looked. It is only needed beside a
	// credential that can be used more than once.
	Proof *token.Proof
}

// holdsKey says whether the request proves a key beside the credential.
func (c Credentials) holdsKey() bool { return c.Proof != nil || c.Certificate != nil }

// Presented is a client whose credential was checked against a known form of its registration, and whose
// assertion is not yet spent. It must be settled, alone or together with what else a request reads, before anything is
// done for it. Only Authenticator makes one.
type Presented struct {
	id       string
	known    party  // the registration the credential was checked against
	version  uint64 // of that registration
	method   oauth.AuthMethod
	jti      string    // of the assertion; empty for what is not spent
	expires  time.Time // of the credential; zero: it does not end
	issued   time.Time // of the assertion; zero: it did not say
	creds    Credentials
	reusable bool
	verified bool
}

// ClientID is who presents itself.
func (p Presented) ClientID() string { return p.id }

// Public says that the client only named itself.
func (p Presented) Public() bool { return p.method == oauth.AuthNone }

// Proof is the DPoP proof that came with the credential, if it was looked at for it.
func (p Presented) Proof() *token.Proof { return p.creds.Proof }

// Authenticated is a client or agent that has proved to be itself in this request. Only Authenticator makes one.
type Authenticated struct {
	party    party
	method   oauth.AuthMethod
	expires  time.Time
	x5t      string
	reusable bool
}

// party is either an agent or another client.
type party struct {
	agent  *Agent
	client *Client
	keys   token.PublicSet // by value; those at a jwks_uri are elsewhere

	fingerprint string // of an agent
}

// readKeys parses the keys of the registration.
func (p *party) readKeys() error {
	jwks := p.credential().JWKS
	if len(jwks) == 0 {
		return nil
	}
	var err error
	p.keys, err = token.ParseJWKS(jwks)
	return err
}

// ID is the client id.
func (a Authenticated) ID() string { return a.party.id() }

// Agent gives the registration of an agent, if the client is one.
func (a Authenticated) Agent() (Agent, bool) {
	if a.party.agent == nil {
		return Agent{}, false
	}
	return *a.party.agent, true
}

// Client gives the registration of a client that is no agent.
func (a Authenticated) Client() (Client, bool) {
	if a.party.client == nil {
		return Client{}, false
	}
	return *a.party.client, true
}

// Fingerprint is that of the registration of an agent; empty if the client is none.
func (a Authenticated) Fingerprint() string { return a.party.fingerprint }

// Public says that the client has named itself only and proved nothing.
func (a Authenticated) Public() bool { return a.method == oauth.AuthNone }

// Expires is when the credential that was shown ends; zero: it does not.
func (a Authenticated) Expires() time.Time { return a.expires }

// Certificate is the thumbprint of the certificate of the client's connection; empty: there is none.
func (a Authenticated) Certificate() string { return a.x5t }

// Bound says that what is issued to the client must be bound to a key: its registration demands its certificate, or its credential could
// be shown again by others, who do not have the key that came along.
func (a Authenticated) Bound() bool { return a.reusable || a.party.credential().CertificateBound }

// MayUse says whether the client is registered for a grant type.
func (a Authenticated) MayUse(g oauth.GrantType) bool { return a.party.mayUse(g) }

func (p party) id() string {
	switch {
	case p.agent != nil:
		return p.agent.ID
	case p.client != nil:
		return p.client.ID
	default:
		return ""
	}
}

func (p party) mayUse(g oauth.GrantType) bool {
	if p.agent != nil {
		return g == oauth.GrantTokenExchange
	}
	if p.client == nil {
		return false
	}
	return slices.Contains(p.client.GrantTypes, g)
}

func (p party) credential() Credential {
	if p.agent != nil {
		return p.agent.Credential
	}
	if p.client != nil {
		return p.client.Credential
	}
	return Credential{}
}
