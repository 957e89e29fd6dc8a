package oauth

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Code is an error code on the wire.
type Code string

// The codes, each with the section that defines it.
const (
	InvalidRequest              Code = "invalid_request"                   // RFC 6749 section 5.2
	InvalidClient               Code = "invalid_client"                    // RFC 6749 section 5.2
	InvalidGrant                Code = "invalid_grant"                     // RFC 6749 section 5.2
	UnauthorizedClient          Code = "unauthorized_client"               // RFC 6749 section 5.2
	UnsupportedGrantType        Code = "unsupported_grant_type"            // RFC 6749 section 5.2
	InvalidScope                Code = "invalid_scope"                     // RFC 6749 section 5.2
	AccessDenied                Code = "access_denied"                     // RFC 6749 section 4.1.2.1, RFC 8628 section 3.5
	UnsupportedResponseType     Code = "unsupported_response_type"         // RFC 6749 section 4.1.2.1
	ServerError                 Code = "server_error"                      // RFC 6749 section 4.1.2.1
	TemporarilyUnavailable      Code = "temporarily_unavailable"           // RFC 6749 section 4.1.2.1
	InvalidToken                Code = "invalid_token"                     // RFC 6750 section 3.1
	InsufficientScope           Code = "insufficient_scope"                // RFC 6750 section 3.1
	InvalidTarget               Code = "invalid_target"                    // RFC 8707 section 2, RFC 8693 section 2.2.2
	InvalidAuthorizationDetails Code = "invalid_authorization_details"     // RFC 9396 section 5
	InvalidDPoPProof            Code = "invalid_dpop_proof"                // RFC 9449 section 5
	UseDPoPNonce                Code = "use_dpop_nonce"                    // RFC 9449 section 8
	RequestNotSupported         Code = "request_not_supported"             // OpenID Connect Core section 3.1.2.6
	RequestURINotSupported      Code = "request_uri_not_supported"         // OpenID Connect Core section 3.1.2.6
	LoginRequired               Code = "login_required"                    // OpenID Connect Core section 3.1.2.6
	InteractionRequired         Code = "interaction_required"              // OpenID Connect Core section 3.1.2.6
	UnmetAuthRequirements       Code = "unmet_authentication_requirements" // OpenID Connect Unmet Authentication Requirements 1.0
	InvalidRequestURI           Code = "invalid_request_uri"               // RFC 9101 section 6.2.3
	InsufficientUserAuth        Code = "insufficient_user_authentication"  // RFC 9470 section 3
	ActorUnauthorized           Code = "actor_unauthorized"                // OAuth Actor Profile draft

	// Codes of the redemption endpoint, docs/redemption.md.
	AlreadyRedeemed Code = "already_redeemed"
	RequestMismatch Code = "request_mismatch"
	WrongAudience   Code = "wrong_audience"
	KeyMismatch     Code = "key_mismatch"
	TokenExpired    Code = "token_expired"
	TokenRevoked    Code = "token_revoked"
	TokenSuperseded Code = "token_superseded"
	TokenUnknown    Code = "token_unknown"
	StaleEpoch      Code = "stale_epoch"

	// Codes of the token endpoint for a request that its agent named by an Idempotency-Key, docs/agents.md.
	TransactionConsumed      Code = "transaction_consumed"
	TransactionIndeterminate Code = "transaction_indeterminate"
)

// Status is the HTTP status that goes with the code at an endpoint that answers in JSON.
func (c Code) Status() int {
	switch c {
	case InvalidClient:
		return http.StatusUnauthorized
	case ServerError:
		return http.StatusInternalServerError
	case TemporarilyUnavailable:
		return http.StatusServiceUnavailable
	case AlreadyRedeemed:
		return http.StatusConflict
	case RequestMismatch:
		return http.StatusUnprocessableEntity
	case WrongAudience, KeyMismatch:
		return http.StatusForbidden
	case TokenExpired, TokenRevoked, TokenSuperseded, TokenUnknown, StaleEpoch:
		return http.StatusGone
	default:
		return http.StatusBadRequest
	}
}

// Error is a refusal. Code, Description and Members go over the wire; Reason goes into the ledger always and over the
// wire only when Tell is set; Err goes to the log alone.
type Error struct {
	Code        Code
	Description string         // a plain sentence; see Printable
	Reason      Reason         // why, from the list in reason.go
	Tell        bool           // the caller is authenticated and telling the reason is no oracle
	Members     map[string]any // further members of the JSON body
	HTTPStatus  int            // instead of Code.Status, when not zero
	RetryAfter  time.Duration  // sent as Retry-After, rounded up to seconds, when positive
	Err         error          // the cause, never shown
}

// Error is for logs.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Reason != "" {
		s += " (" + string(e.Reason) + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Status is the HTTP status of the refusal.
func (e *Error) Status() int {
	if e.HTTPStatus != 0 {
		return e.HTTPStatus
	}
	return e.Code.Status()
}

// AsError finds the refusal in an error. One that is not ours becomes a server_error that says nothing.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: ServerError, Description: "the server met an unexpected condition", Reason: ReasonInternal, Err: err}
}

// Refuse makes a refusal whose reason may be told to an authenticated caller.
func Refuse(code Code, reason Reason, description string) *Error {
	return &Error{Code: code, Reason: reason, Description: description, Tell: true}
}

// Conceal makes a refusal whose reason only the ledger learns.
func Conceal(code Code, reason Reason, description string, cause error) *Error {
	return &Error{Code: code, Reason: reason, Description: description, Err: cause}
}

// Unavailable makes the refusal for a store that did not answer: 503 with Retry-After.
func Unavailable(cause error) *Error {
	return &Error{
		Code: TemporarilyUnavailable, Reason: ReasonStore, Description: "the server cannot decide right now; repeat the request",
		RetryAfter: time.Second, Err: cause,
	}
}

// Printable removes from a description what RFC 6749 section 5.2 does not allow in it: anything outside
// %x20-21 / %x23-5B / %x5D-7E.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' {
			return '\''
		}
		if r < 0x20 || r > 0x7e || r == '\\' {
			return '?'
		}
		return r
	}, s)
}
