package token

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"obolus/oauth/strict"
)

// Limits of what is read, before anything is decoded.
const (
	maxToken     = 16 << 10 // bytes of a compact token
	maxAudiences = 8
)

// payloadLimits are those of a payload and of every object in it.
func payloadLimits() strict.Limits { return strict.Limits{Bytes: maxToken, Depth: 12, Members: 64} }

var (
	errText    = errors.New("a string is expected")
	errTime    = errors.New("a time is a whole number of seconds since 1970")
	errObject  = errors.New("an object is expected")
	errList    = errors.New("an array is expected")
	errStrings = errors.New("an array of strings is expected")
	errAud     = errors.New("aud is a string or an array of at most 8 strings")
)

// UnmarshalJSON reads claims as every token is read: names exactly, times as whole numbers, no member of a known name
// with a value of another kind. Members it does not know are passed over.
func (c *Claims) UnmarshalJSON(data []byte) error {
	var read Claims
	if err := strict.Object(data, payloadLimits(), read.member); err != nil {
		return err
	}
	*c = read
	return nil
}

// member reads one claim, of a document that is being checked.
func (c *Claims) member(name string, value []byte) error {
	if into := c.stringOf(name); into != nil {
		return readText(into, value)
	}
	if into := c.timeOf(name); into != nil {
		return readTime(into, value)
	}
	var err error
	switch name {
	case "aud":
		err = c.Audience.read(value)
	case "act":
		c.Act = new(Actor)
		err = c.Act.UnmarshalJSON(value)
	case "may_act":
		c.MayAct = new(Actor)
		err = c.MayAct.UnmarshalJSON(value)
	case "cnf":
		c.Confirm = new(Confirmation)
		err = strict.Object(value, strict.Limits{}, c.Confirm.member)
	case "authorization_details":
		if value[0] != '[' {
			return errList
		}
		c.Details = append(c.Details, value...)
	case "amr":
		c.AMR, err = texts(value)
	case "events":
		c.Event = true
	case "tctx":
		c.Context = new(Context)
		err = strict.Object(value, strict.Limits{}, c.Context.member)
	}
	return err
}

func (c *Claims) stringOf(name string) *string {
	switch name {
	case "iss":
		return &c.Issuer
	case "sub":
		return &c.Subject
	case "client_id":
		return &c.ClientID
	case "jti":
		return &c.ID
	case "txn":
		return &c.Txn
	case "txn_mode":
		return &c.TxnMode
	case "scope":
		return &c.Scope
	case "acr":
		return &c.ACR
	case "azp":
		return &c.Party
	default:
		return nil
	}
}

func (c *Claims) timeOf(name string) *int64 {
	switch name {
	case "iat":
		return &c.IssuedAt
	case "nbf":
		return &c.NotBefore
	case "exp":
		return &c.Expires
	case "auth_time":
		return &c.AuthTime
	default:
		return nil
	}
}

func (c *Confirmation) member(name string, value []byte) error {
	switch name {
	case "jkt":
		return readText(&c.JKT, value)
	case "x5t#S256":
		return readText(&c.X5T, value)
	default:
		return nil
	}
}

func (c *Context) member(name string, value []byte) error {
	switch name {
	case "consent":
		return readText(&c.Consent, value)
	case "source":
		return readText(&c.Source, value)
	case "origin":
		return readText(&c.Origin, value)
	case "issuer":
		return readText(&c.Issuer, value)
	default:
		return nil
	}
}

// The functions below read values that were checked to be JSON.

func text(value []byte) (string, error) {
	var s string
	return s, readText(&s, value)
}

func readText(into *string, value []byte) error {
	if value[0] != '"' {
		return errText
	}
	if slices.Contains(value[1:len(value)-1], '\\') {
		return json.Unmarshal(value, into)
	}
	*into = string(value[1 : len(value)-1])
	return nil
}

const maxTime = 1<<53 - 1 // what every reader of JSON can hold

func readTime(into *int64, value []byte) error {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n > maxTime || value[0] == '-' {
		return errTime
	}
	*into = n
	return nil
}

func object(value []byte) (json.RawMessage, error) {
	if value[0] != '{' {
		return nil, errObject
	}
	return value, nil
}

func texts(value []byte) ([]string, error) {
	var list []*string
	if value[0] != '[' || json.Unmarshal(value, &list) != nil {
		return nil, errStrings
	}
	out := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil, errStrings
		}
		out[i] = *s
	}
	return out, nil
}

func (a *Audience) read(value []byte) error {
	if value[0] == '"' {
		*a = make(Audience, 1)
		return readText(&(*a)[0], value)
	}
	list, err := texts(value)
	if err != nil || len(list) > maxAudiences {
		return errAud
	}
	*a = list
	return nil
}
