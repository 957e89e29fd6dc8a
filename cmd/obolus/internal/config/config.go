// Package config is the configuration of the server: what can be set, what it is when nobody set it, and what is nonsense.
// It is read once, at start, from a YAML file, variables named OBOLUS_… and flags; a flag wins over a variable, a
// variable over the file. Everything that is wrong is told at once, each with its place.
package config

import (
	"encoding/json"
	"time"

	"obolus/agents"
)

// Config is everything that can be set. Its JSON names are the keys of the file.
type Config struct {
	Issuer  string `json:"issuer"` // empty: http:// and the address that is listened on
	Listen  string `json:"listen"`
	Data    string `json:"data" path:"file"`
	Records string `json:"records" path:"bolt"`
	Live    string `json:"live"`

	TLS       TLS       `json:"tls"`
	Keys      Keys      `json:"keys"`
	Tokens    Tokens    `json:"tokens"`
	Exchange  Exchange  `json:"exchange"`
	Consent   Consent   `json:"consent"`
	Log       Log       `json:"log"`
	Operators Operators `json:"operators"`

	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []string `json:"trusted_proxies"`
	// OwnNetworks are networks off the public Internet in which agents and clients may publish their keys.
	OwnNetworks []string `json:"own_networks"`
	// AllowAgentSecrets lets agents authenticate by a shared secret. A key is better: a secret can be copied by whoever
	// sees one request.
	AllowAgentSecrets bool `json:"allow_agent_secrets"`
	// RequirePushed refuses authorization requests that were not pushed, whoever sends them (RFC 9126 section 5).
	RequirePushed bool `json:"require_pushed_authorization_requests"`

	Resources         []agents.Resource  `json:"resources"`
	Agents            []Agent            `json:"agents"`
	Clients           []Client           `json:"clients"`
	Users             []User             `json:"users"`
	IdentityProviders []IdentityProvider `json:"identity_providers"`
	TrustedIssuers    []TrustedIssuer    `json:"trusted_issuers"`
	TrustDomains      []TrustDomain      `json:"trust_domains"`
	WorkloadIssuers   []WorkloadIssuer   `json:"workload_issuers"`
	Details           []json.RawMessage  `json:"details"`
	Policies          []Policy           `json:"policies"`
}

// TLS are the files of the server's certificate, both or none, and what is done with the certificates of clients.
type TLS struct {
	Cert string `json:"cert" path:"file"`
	Key  string `json:"key" path:"file"`

	ClientCertificates bool   `json:"client_certificates"`   // ask clients for one; none is still fine
	ClientCA           string `json:"client_ca" path:"file"` // who certifies clients for tls_client_auth, PEM
	CertificateHeader  string `json:"certificate_header"`    // in which a trusted proxy tells of the client's certificate
	CertificateURL     string `json:"certificate_url"`       // where clients with a certificate reach the server, if not at the issuer
}

// Keys are about the keys that sign tokens.
type Keys struct {
	Algorithm         string          `json:"algorithm"`
	EncryptionKey     string          `json:"encryption_key"` // base64 of the 32 bytes that seal them
	EncryptionKeyFile string          `json:"encryption_key_file" path:"file"`
	RotateEvery       agents.Duration `json:"rotate_every"` // zero: only by hand
}

// Tokens are about what is issued.
type Tokens struct {
	Lifetime        agents.Duration `json:"lifetime"`
	SessionLifetime agents.Duration `json:"session_lifetime"` // of a user's own token
	Leeway          agents.Duration `json:"leeway"`           // for clocks that differ
	DPoPNonce       bool            `json:"dpop_nonce"`       // DPoP proofs carry a nonce of this server
}

// The profiles of errors and the ways with scopes.
const (
	ProfileDefault = "default"
	ProfileRFC8693 = "rfc8693"
	ScopeReject    = "reject"
	ScopeNarrow    = "narrow"
)

// Exchange is about the token exchange.
type Exchange struct {
	ErrorProfile string `json:"error_profile"`
	ScopeMode    string `json:"scope_mode"`
	MaxDepth     int    `json:"max_depth"` // of the chain of actors
	// TrustDomain is the audience of the transaction tokens for which resource servers may exchange, and thereby redeem.
	TrustDomain string `json:"trust_domain"`
}

// Consent is about what users are asked.
type Consent struct {
	InteractionLifetime agents.Duration `json:"interaction_lifetime"`
	Interval            agents.Duration `json:"interval"` // that agents are told to keep between repeats
	DefaultLifetime     agents.Duration `json:"default_lifetime"`
	MaxLifetime         agents.Duration `json:"max_lifetime"`
}

// Log is about the log, which goes to the standard error.
type Log struct {
	Level  string `json:"level"`
	Format string `json:"format"`
}

// Operators are those who may use /admin/v1.
type Operators struct {
	TokenFile string `json:"token_file" path:"file"`
}

// Agent is a declared agent.
type Agent struct {
	agents.Agent
	KeyFile    string `json:"key_file,omitempty" path:"file"` // public: PEM, JWK or JWKS
	Secret     string `json:"secret,omitempty"`
	SecretFile string `json:"secret_file,omitempty" path:"file"`
}

// Client is a declared client.
type Client struct {
	agents.Client
	KeyFile    string `json:"key_file,omitempty" path:"file"`
	Secret     string `json:"secret,omitempty"`
	SecretFile string `json:"secret_file,omitempty" path:"file"`
}

// User is a declared local account.
type User struct {
	ID           string `json:"id"`
	Name         string `json:"name,omitempty"`
	Email        string `json:"email,omitempty"`
	Password     string `json:"password,omitempty"`
	PasswordFile string `json:"password_file,omitempty" path:"file"`
	PasswordHash string `json:"password_hash,omitempty"` // $argon2id$…
	Disabled     bool   `json:"disabled,omitempty"`
}

// IdentityProvider is an OpenID provider that users sign in with.
type IdentityProvider struct {
	ID               string   `json:"id"`
	Name             string   `json:"name,omitempty"`
	Issuer           string   `json:"issuer"`
	ClientID         string   `json:"client_id"`
	ClientSecret     string   `json:"client_secret,omitempty"`
	ClientSecretFile string   `json:"client_secret_file,omitempty" path:"file"`
	Scopes           []string `json:"scopes,omitempty"`
	Events           *Events  `json:"events,omitempty"` // that it sends about its users; none: they are not taken
}

// Events are the security events that an identity provider or a trusted issuer sends: who signs them, for whom, and what else they
// come with.
type Events struct {
	Issuer     string   `json:"issuer,omitempty"`   // of the events; empty: the provider's own
	Audience   string   `json:"audience,omitempty"` // they must name; empty: this server's issuer
	JWKSURI    string   `json:"jwks_uri,omitempty"` // empty: the provider's, or found by discovery of the issuer
	Algorithms []string `json:"algorithms,omitempty"`
	TokenHash  string   `json:"token_hash,omitempty"` // SHA-256, in hex, of the bearer token that they are sent with
	Email      bool     `json:"email,omitempty"`      // a subject may be the address of an account
}

// TrustedIssuer is somebody else whose tokens may be subject tokens.
type TrustedIssuer struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri,omitempty"` // empty: found by discovery
	Algorithms    []string `json:"algorithms,omitempty"`
	Audience      string   `json:"audience,omitempty"`       // its tokens must name; empty: this server's issuer
	Types         []string `json:"types,omitempty"`          // jwt, id_token; empty: both
	SubjectPrefix string   `json:"subject_prefix,omitempty"` // put before its sub to make a user id here
	Scopes        []string `json:"scopes,omitempty"`         // that a token without the claim stands for
	// Clients maps its client ids to agents and clients here, for tokens that were made for one.
	Clients map[string]string `json:"clients,omitempty"`
	Events  *Events           `json:"events,omitempty"` // that it sends about its users; none: they are not taken
}

// TrustDomain is a SPIFFE trust domain whose workloads may be agents and clients. Its bundle is in a file or at a URI.
type TrustDomain struct {
	ID         string `json:"id"`
	BundleFile string `json:"bundle_file,omitempty" path:"file"`
	BundleURI  string `json:"bundle_uri,omitempty"`
	CAFile     string `json:"ca_file,omitempty" path:"file"` // who certifies the host of the URI; empty: those whom the system trusts
}

// WorkloadIssuer is a platform whose workloads may be agents and clients by the tokens that it gives them.
type WorkloadIssuer struct {
	Issuer     string   `json:"issuer"`
	JWKSURI    string   `json:"jwks_uri,omitempty"` // empty: found by discovery
	Algorithms []string `json:"algorithms,omitempty"`
	Audience   string   `json:"audience,omitempty"`            // its tokens must name, and no other; empty: this server's issuer
	CAFile     string   `json:"ca_file,omitempty" path:"file"` // who certifies its hosts; empty: those whom the system trusts
}

// Policy is a file of guardrails.
type Policy struct {
	File string `json:"file" path:"file"`
	Text string `json:"-"` // what is in it
}

// Defaults is the configuration that nobody set: it starts, on one machine.
func Defaults() Config {
	of := func(d time.Duration) agents.Duration { return agents.Duration(d) }
	return Config{
		Listen:   "127.0.0.1:8420",
		Data:     "./obolus-data",
		Live:     "memory:",
		Keys:     Keys{Algorithm: "ES256", RotateEvery: of(720 * time.Hour)},
		Tokens:   Tokens{Lifetime: of(time.Minute), SessionLifetime: of(10 * time.Minute), Leeway: of(5 * time.Second)},
		Exchange: Exchange{ErrorProfile: ProfileDefault, ScopeMode: ScopeReject, MaxDepth: 4},
		Consent: Consent{
			InteractionLifetime: of(10 * time.Minute), Interval: of(2 * time.Second),
			DefaultLifetime: of(24 * time.Hour), MaxLifetime: of(720 * time.Hour),
		},
		Log: Log{Level: "info", Format: "text"},
	}
}
