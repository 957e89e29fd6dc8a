package token

import (
	"encoding/json"
	"errors"
	"fmt"

	"obolus/oauth/strict"
)

// The errors of a chain of actors.
var (
	ErrActor       = errors.New("malformed act claim")
	ErrActorIssuer = errors.New("an actor has no iss")
	ErrChainDepth  = errors.New("the chain of actors is too long")
)

// MarshalJSON writes an act object: as it was received, if it was.
func (a Actor) MarshalJSON() ([]byte, error) { return a.json(), nil }

func (a Actor) json() json.RawMessage {
	if a.raw != nil {
		return a.raw
	}
	out := []byte{'{'}
	if a.Issuer != "" {
		out = append(quoted(append(out, `"iss":`...), a.Issuer), ',')
	}
	out = quoted(append(out, `"sub":`...), a.Subject)
	if a.Profile != "" {
		out = quoted(append(out, `,"sub_profile":`...), a.Profile)
	}
	if a.Prior != nil {
		out = append(append(out, `,"act":`...), a.Prior...)
	}
	return append(out, '}')
}

// UnmarshalJSON reads an act object and keeps its bytes. Members without a meaning, and those that have none inside act
// such as exp and cnf, neither help nor harm.
func (a *Actor) UnmarshalJSON(data []byte) error {
	read := Actor{raw: append([]byte(nil), data...)}
	err := strict.Object(read.raw, payloadLimits(), func(name string, value []byte) error {
		var err error
		switch name {
		case "iss":
			read.Issuer, err = text(value)
		case "sub":
			read.Subject, err = text(value)
		case "sub_profile":
			read.Profile, err = text(value)
		case "act":
			read.Prior, err = object(value)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrActor, err)
	}
	*a = read
	return nil
}

// Chain lists the actors, outermost first. A nil actor has no chain. Every link must have sub and iss (OAuth Actor Profile), and there
// must be at most limit of them.
func (a *Actor) Chain(limit int) ([]Actor, error) {
	var chain []Actor
	for link := a; link != nil; {
		if len(chain) >= limit {
			return nil, ErrChainDepth
		}
		if link.Subject == "" {
			return nil, ErrActor
		}
		if link.Issuer == "" {
			return nil, ErrActorIssuer
		}
		chain = append(chain, *link)
		if link.Prior == nil {
			return chain, nil
		}
		inner := new(Actor)
		if err := inner.UnmarshalJSON(link.Prior); err != nil {
			return nil, err
		}
		link = inner
	}
	return chain, nil
}

// Nest makes the chain in which outer acts now and prior, whole and as it was received, is the history beneath.
func Nest(outer Actor, prior *Actor) Actor {
	nested := Actor{Issuer: outer.Issuer, Subject: outer.Subject, Profile: outer.Profile}
	if prior != nil {
		nested.Prior = prior.json()
	}
	return nested
}
