package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"obolus/oauth"
	"obolus/oauth/strict"
	"obolus/token"
)

// Actor is one who acts for the user.
type Actor struct {
	Issuer  string
	Subject string
	Profile string // sub_profile, such as "ai_agent"
}

// Caller is who sends a request, for whom, and what for. Its members are only to be read.
type Caller struct {
	User   string  // sub: on whose behalf
	Agent  string  // who acts, the outermost of Chain; empty: the user's own app
	Chain  []Actor // who acts, then on whose behalf that one acts, and so on
	Client string  // client_id

	// Txn names the transaction. An effect that is written together with it happens once.
	Txn            string
	TokenID        string // jti
	OneTransaction bool
	Free           bool // the request costs nothing: its token is not redeemed
	Scopes         []string
	Details        []Detail
	Expires        time.Time

	AuthTime time.Time // when the user signed in; zero: not told
	ACR      string
	AMR      []string

	guard *Guard
	rule  Rule
	token string
	// scheme is the one by which the token came.
	scheme string
	jkt    string // thumbprint of the key that the token is bound to
	x5t    string // thumbprint of the certificate that it is bound to
	nonce  string // to be announced
	// stopped is why a token does not count, as far as stops are followed. Of a one-transaction token the redemption tells, if there is one.
	stopped error
	body    *ahead
	digest  string // the request_hash

	mu       sync.Mutex
	id       string // redemption_id, once there is one
	redeemed bool
	receipt  string
}

func newCaller(c token.Claims) (*Caller, error) {
	caller := &Caller{
		User: c.Subject, Client: c.ClientID, Txn: c.Txn, TokenID: c.ID, OneTransaction: c.TxnMode == oauth.ModeRedeem,
		Scopes: c.Scopes(), Expires: time.Unix(c.Expires, 0).UTC(), ACR: c.ACR, AMR: c.AMR,
	}
	if c.Confirm != nil {
		caller.jkt, caller.x5t = c.Confirm.JKT, c.Confirm.X5T
	}
	if c.AuthTime > 0 {
		caller.AuthTime = time.Unix(c.AuthTime, 0).UTC()
	}
	chain, err := c.Act.Chain(maxChain)
	if err != nil {
		return nil, err
	}
	if len(chain) > 0 {
		caller.Chain = make([]Actor, len(chain))
		for i, a := range chain {
			caller.Chain[i] = Actor{Issuer: a.Issuer, Subject: a.Subject, Profile: a.Profile}
		}
		caller.Agent = chain[0].Subject
	}
	caller.Details, err = parseDetails(c.Details)
	return caller, err
}

// parseDetails takes the claim authorization_details apart.
func parseDetails(raw json.RawMessage) ([]Detail, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var list []json.RawMessage
	if err := strict.Unmarshal(raw, &list, strict.Limits{Depth: 32}); err != nil {
		return nil, err
	}
	details := make([]Detail, 0, len(list))
	for _, one := range list {
		var d struct {
			Type      string   `json:"type"`
			Locations []string `json:"locations"`
		}
		if err := json.Unmarshal(one, &d); err != nil {
			return nil, fmt.Errorf("authorization_details: %w", err)
		}
		if d.Type == "" {
			return nil, errors.New("authorization_details: a member without type")
		}
		details = append(details, Detail{Type: d.Type, Locations: d.Locations, Raw: one})
	}
	return details, nil
}

type callerKey struct{}

// CallerFrom gives the caller of a request that a guard let through, and nil for any other.
func CallerFrom(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}

// Token gives the access token itself: as the subject_token of an onward exchange, and for nothing else. It must not be sent to
// another resource.
func (c *Caller) Token() string { return c.token }

// Receipt is the authorization server's signed statement of the redemption, for the resource server's own records. It is empty before
// the redemption and for session tokens.
func (c *Caller) Receipt() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.receipt
}

// request is what the handler gets: the caller in its context, and no credential in its headers.
func (c *Caller) request(r *http.Request) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
	r.Header = maps.Clone(r.Header)
	delete(r.Header, "Authorization")
	delete(r.Header, "Dpop")
	return r
}
