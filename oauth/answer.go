package oauth

import (
	"encoding/json"
	"time"
)

// TokenAnswer is a successful answer of the token endpoint: RFC 6749 section 5.1, RFC 8693 section 2.2.1, RFC 9396
// section 7. There is no refresh_token on purpose.
type TokenAnswer struct {
	AccessToken          string          `json:"access_token"`
	IssuedTokenType      TokenType       `json:"issued_token_type,omitempty"`
	TokenType            string          `json:"token_type"`
	ExpiresIn            int64           `json:"expires_in"` // seconds
	Scope                string          `json:"scope,omitempty"`
	AuthorizationDetails json.RawMessage `json:"authorization_details,omitempty"`
	Txn                  string          `json:"txn,omitempty"`
}

// Interaction is what an agent is told when its user has not decided yet.
type Interaction struct {
	URI       string
	ExpiresIn time.Duration
	Interval  time.Duration
}

// Refusal is the 400 that carries the link to the user, to be repeated as it was once the user has decided.
func (i Interaction) Refusal() *Error {
	return &Error{
		Code: InteractionRequired, Reason: ReasonNoGrant, Tell: true,
		Description: "the user has not consented yet: show interaction_uri to the user and repeat this request",
		Members: map[string]any{
			"interaction_uri": i.URI,
			"expires_in":      int64(i.ExpiresIn / time.Second),
			"interval":        int64(i.Interval / time.Second),
		},
	}
}
