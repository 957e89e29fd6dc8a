// Package oauth is the vocabulary of the protocol: the names that go over the wire, the one error type, the
// answer of the token endpoint and the metadata document. It does nothing by itself and imports nothing but the
// standard library.
package oauth

// GrantType names what is presented at the token endpoint.
type GrantType string

// The grant types that Obolus knows.
const (
	GrantTokenExchange     GrantType = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693 section 2.1
	GrantAuthorizationCode GrantType = "authorization_code"                              // RFC 6749 section 4.1.3
)

// TokenType names the kind of a presented or issued token, RFC 8693 section 3.
type TokenType string

// The token types of RFC 8693 and of the drafts that are read.
const (
	TypeAccessToken TokenType = "urn:ietf:params:oauth:token-type:access_token"
	TypeIDToken     TokenType = "urn:ietf:params:oauth:token-type:id_token"
	TypeJWT         TokenType = "urn:ietf:params:oauth:token-type:jwt"
	TypeTxnToken    TokenType = "urn:ietf:params:oauth:token-type:txn_token"
)

// The values of client_assertion_type that are read.
const (
	// AssertionJWT is for what a client signed itself (RFC 7523 section 2.2), and for the token of the workload that it runs as.
	AssertionJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// AssertionSPIFFE is for a JWT-SVID, OAuth SPIFFE Client Authentication.
	AssertionSPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
)

// AuthMethod is how a client authenticates at the token endpoint, RFC 7591 section 2.
type AuthMethod string

// The client authentication methods. AuthNone is for public clients, which cannot exchange.
const (
	AuthPrivateKeyJWT AuthMethod = "private_key_jwt"
	AuthSecretBasic   AuthMethod = "client_secret_basic"
	AuthSecretPost    AuthMethod = "client_secret_post"
	AuthNone          AuthMethod = "none"

	AuthTLS        AuthMethod = "tls_client_auth"             // RFC 8705 section 2.1
	AuthSelfSigned AuthMethod = "self_signed_tls_client_auth" // RFC 8705 section 2.2
	AuthSPIFFEJWT  AuthMethod = "spiffe_jwt"                  // a JWT-SVID, OAuth SPIFFE Client Authentication
	AuthSPIFFEX509 AuthMethod = "spiffe_x509"                 // an X.509-SVID, the same
	// AuthFederated is for a token that a platform issued to the workload: a Kubernetes cluster, a CI system, a cloud. Ours.
	AuthFederated AuthMethod = "federated_jwt"
)

// Asserts says whether the client sends a signed assertion to authenticate in this way.
func (m AuthMethod) Asserts() bool {
	return m == AuthPrivateKeyJWT || m == AuthSPIFFEJWT || m == AuthFederated
}

// ByCertificate says whether the client authenticates in this way by the certificate of its TLS connection.
func (m AuthMethod) ByCertificate() bool {
	return m == AuthTLS || m == AuthSelfSigned || m == AuthSPIFFEX509
}

// Values of token_type in an answer: RFC 6750, RFC 9449 section 5.
const (
	Bearer = "Bearer"
	DPoP   = "DPoP"
	// NotApplicable is for what is no access token, RFC 8693 section 2.2.1.
	NotApplicable = "N_A"
)

// ModeRedeem is the value of the claim txn_mode in a token that a resource server must redeem.
const ModeRedeem = "redeem"
