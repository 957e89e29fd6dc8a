// Package signals is about security events, Shared Signals: it takes those that an identity provider or a trusted issuer sends about users
// here ([Receiver]), and gives resource servers those about their tokens that were stopped ([Feed]). Events are security event
// tokens (RFC 8417) with the events of CAEP and RISC. What carries them is for package endpoint; what a stop is, for package
// transaction.
package signals

import "fmt"

// Code is why a delivered event is refused: RFC 8935 section 2.4.
type Code string

// The codes.
const (
	InvalidRequest       Code = "invalid_request"
	InvalidKey           Code = "invalid_key"
	InvalidIssuer        Code = "invalid_issuer"
	InvalidAudience      Code = "invalid_audience"
	AuthenticationFailed Code = "authentication_failed"
)

// RefusedError is an event that is not taken and would not be if it were sent again. Code and Description go out, Err to the log alone.
type RefusedError struct {
	Code        Code
	Description string
	Err         error
}

// Error is for logs.
func (r *RefusedError) Error() string {
	if r.Err == nil {
		return fmt.Sprintf("%s: %s", r.Code, r.Description)
	}
	return fmt.Sprintf("%s: %s: %v", r.Code, r.Description, r.Err)
}

// Unwrap gives the cause.
func (r *RefusedError) Unwrap() error { return r.Err }

func refuse(code Code, description string, cause error) error {
	return &RefusedError{Code: code, Description: description, Err: cause}
}
