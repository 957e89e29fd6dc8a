// Package consent keeps what users allowed: grants, the interactions in which they decide, and the receipts of their
// decisions. A grant is the only way by which an agent gets anything. The pages are in package web; whether a
// grant suffices for a request is decided in package exchange.
package consent

import (
	"encoding/json"
	"time"
)

// Ask is what an agent wants of a user: the subject of one decision. Its digest makes an identical request find the
// same interaction.
type Ask struct {
	User     string          `json:"user"`
	UserName string          `json:"user_name,omitempty"` // for the page, if the subject token tells
	Agent    string          `json:"agent"`
	Target   string          `json:"target"` // resource id
	Scopes   []string        `json:"scopes,omitempty"`
	Details  json.RawMessage `json:"authorization_details,omitempty"`
	MaxUses  int             `json:"max_uses,omitempty"` // the agent's ceiling; zero: no limit
	// AgentKeys fingerprints the agent's credential and owner; it goes into the grant.
	AgentKeys string `json:"agent_keys,omitempty"`
}

// Grant is what a user allowed one agent at one resource. Its limits only ever narrow.
type Grant struct {
	ID       string          `json:"id"`
	User     string          `json:"user"`
	Agent    string          `json:"agent"`
	Target   string          `json:"target"`
	Scopes   []string        `json:"scopes,omitempty"`
	Details  json.RawMessage `json:"authorization_details,omitempty"`
	Uses     int             `json:"uses,omitempty"` // transactions it pays for; zero: any number until Expires
	Created  time.Time       `json:"created"`
	Expires  time.Time       `json:"expires"`
	AuthTime time.Time       `json:"auth_time,omitzero"` // when the user had signed in
	// Withdrawn is when it ended before its time, and By is who ended it.
	Withdrawn time.Time `json:"withdrawn,omitzero"`
	By        string    `json:"withdrawn_by,omitempty"`
	// AgentKeys fingerprints the agent's credential and owner at the time of consent; another one asks the user again.
	AgentKeys string `json:"agent_keys,omitempty"`
}

// LiveAt says whether the grant is neither withdrawn nor over at a time. Its budget is counted elsewhere.
func (g Grant) LiveAt(now time.Time) bool { return g.Withdrawn.IsZero() && now.Before(g.Expires) }

// Status is where an interaction stands.
type Status string

// The states of an interaction. Only pending leads anywhere.
const (
	Pending Status = "pending"
	Allowed Status = "allowed"
	Denied  Status = "denied"
)

// Interaction is one pending or made decision. Its id is opaque and unguessable, and is all that a page carries.
type Interaction struct {
	ID      string    `json:"id"`
	Ask     Ask       `json:"ask"`
	Status  Status    `json:"status"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Grant   string    `json:"grant,omitempty"` // the grant that came of it
}

// Decision is what a user decided on the page. It can only narrow the ask: scopes and details not asked for are refused.
type Decision struct {
	Allow    bool
	Scopes   []string
	Details  []int // indexes of the asked details that are allowed
	Uses     int   // 1: once; n: that many; zero: any number until Expires
	Expires  time.Time
	AuthTime time.Time // of the session that decides
}
