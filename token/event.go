package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"obolus/oauth/strict"
)

// The types of events that are read and written here.
const (
	EventSessionRevoked   = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"   // CAEP 1.0 section 3.1
	EventCredentialChange = "https://schemas.openid.net/secevent/caep/event-type/credential-change" // CAEP 1.0 section 3.3
	EventAccountDisabled  = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"  // RISC 1.0 section 2.3
	EventAccountPurged    = "https://schemas.openid.net/secevent/risc/event-type/account-purged"    // RISC 1.0 section 2.2
)

// TypeSecurityEvent is the typ of a security event token, RFC 8417 section 2.3.
const TypeSecurityEvent = "secevent+jwt"

// Formats of subject identifiers: RFC 9493 section 3.2, Shared Signals Framework 1.0 section 3.
const (
	FormatIssSub  = "iss_sub"
	FormatEmail   = "email"
	FormatOpaque  = "opaque"
	FormatURI     = "uri"
	FormatJWTID   = "jwt_id"
	FormatComplex = "complex"
)

// SubjectID is a subject identifier, RFC 9493. The members that its format does not have are empty. Of a format that is not known here
// there is the name alone.
type SubjectID struct {
	Format  string               `json:"format"`
	Issuer  string               `json:"iss,omitempty"`
	Subject string               `json:"sub,omitempty"`
	Email   string               `json:"email,omitempty"`
	ID      string               `json:"id,omitempty"`
	URI     string               `json:"uri,omitempty"`
	JTI     string               `json:"jti,omitempty"`
	Members map[string]SubjectID `json:"-"` // of a complex subject
}

// Equal says whether two identifiers are the same.
func (s SubjectID) Equal(o SubjectID) bool {
	return s.Format == o.Format && s.Issuer == o.Issuer && s.Subject == o.Subject && s.Email == o.Email && s.ID == o.ID && s.URI == o.URI &&
		s.JTI == o.JTI && maps.EqualFunc(s.Members, o.Members, SubjectID.Equal)
}

// MarshalJSON writes the members of a complex subject beside its format.
func (s SubjectID) MarshalJSON() ([]byte, error) {
	type plain SubjectID
	if s.Format != FormatComplex {
		return json.Marshal(plain(s))
	}
	all := map[string]any{"format": s.Format}
	for name, member := range s.Members {
		all[name] = member
	}
	return json.Marshal(all)
}

// SecurityEvent is a verified security event token, RFC 8417.
type SecurityEvent struct {
	Claims Claims // iss, aud, iat and jti; sub is not how the subject is told
	// Events are the events by type, each an object.
	Events map[string]json.RawMessage
	// Subject is sub_id (RFC 9493 section 4), or where there is none the member subject of the events. Empty: neither is there.
	Subject SubjectID
	// Happened is toe, the time of the event (RFC 8417 section 2.2); zero: it does not say.
	Happened int64
}

const (
	maxEvents  = 8 // in one token
	maxEventID = 256
)

// VerifySecurityEvent checks a security event token as VerifyJWT does, its type, and that it has iat, jti, events and at most one subject. Types of e are
// not looked at. What it does not check is whether it came before, and what its events mean.
func VerifySecurityEvent(ctx context.Context, s string, e Expect) (SecurityEvent, error) {
	e.Types = []string{TypeSecurityEvent}
	got, err := VerifyJWT(ctx, s, e)
	if err != nil {
		return SecurityEvent{}, err
	}
	ev := SecurityEvent{Claims: got.Claims}
	if err := strict.Object(got.Raw, payloadLimits(), ev.member); err != nil {
		return SecurityEvent{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if c := ev.Claims; c.IssuedAt <= 0 || c.ID == "" || len(c.ID) > maxEventID || len(c.Audience) == 0 || len(ev.Events) == 0 {
		return SecurityEvent{}, fmt.Errorf("%w: a security event has iss, aud, iat, jti and events", ErrMalformed)
	}
	if err := ev.ownSubjects(); err != nil {
		return SecurityEvent{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return ev, nil
}

func (ev *SecurityEvent) member(name string, value []byte) error {
	var err error
	switch name {
	case "sub_id":
		ev.Subject, err = subjectOf(value, maxNested)
	case "toe":
		err = readTime(&ev.Happened, value)
	case "events":
		ev.Events, err = members(value, maxEvents)
		for _, payload := range ev.Events {
			if payload[0] != '{' {
				err = errObject
			}
		}
	}
	return err
}

var errSubjects = errors.New("there are two different subjects")

// ownSubjects takes the subject of the events themselves, as CAEP and RISC did before there was sub_id. All that are told must be the same.
func (ev *SecurityEvent) ownSubjects() error {
	for _, payload := range ev.Events {
		inside, err := members(payload, 0)
		if err != nil || inside["subject"] == nil {
			continue // checked before; there is none
		}
		own, err := subjectOf(inside["subject"], maxNested)
		if err != nil {
			return err
		}
		if ev.Subject.Format != "" && !ev.Subject.Equal(own) {
			return errSubjects
		}
		ev.Subject = own
	}
	return nil
}

// members takes an object apart; most bounds how many there may be, zero does not.
func members(value []byte, most int) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	err := strict.Object(value, strict.Limits{Members: most}, func(name string, value []byte) error {
		all[name] = value
		return nil
	})
	return all, err
}

// maxNested is how deep subjects are within each other: those in a complex one are simple.
const maxNested = 1

var errSubject = errors.New("the subject is not what its format says")

// subjectOf reads a subject identifier. It has the members of its format and no others.
func subjectOf(value []byte, nested int) (SubjectID, error) {
	all, err := members(value, maxEvents)
	if err != nil {
		return SubjectID{}, err
	}
	var s SubjectID
	name := "format"
	if _, ok := all[name]; !ok {
		name = "subject_type" // as drafts before RFC 9493 called it
	}
	if all[name] == nil || readText(&s.Format, all[name]) != nil {
		return SubjectID{}, errSubject
	}
	delete(all, name)
	if s.Format == FormatComplex {
		return s, s.complex(all, nested)
	}
	into := s.parts()
	if into == nil {
		return SubjectID{Format: s.Format}, nil
	}
	for name, part := range into {
		if all[name] == nil || readText(part, all[name]) != nil || *part == "" {
			return SubjectID{}, errSubject
		}
	}
	if len(all) != len(into) {
		return SubjectID{}, errSubject
	}
	return s, nil
}

// parts are the members of a simple format; nil: it is not known.
func (s *SubjectID) parts() map[string]*string {
	switch s.Format {
	case FormatIssSub:
		return map[string]*string{"iss": &s.Issuer, "sub": &s.Subject}
	case FormatEmail:
		return map[string]*string{"email": &s.Email}
	case FormatOpaque:
		return map[string]*string{"id": &s.ID}
	case FormatURI:
		return map[string]*string{"uri": &s.URI}
	case FormatJWTID:
		return map[string]*string{"iss": &s.Issuer, "jti": &s.JTI}
	default:
		return nil
	}
}

// complex reads the members of a complex subject, which are simple ones.
func (s *SubjectID) complex(all map[string]json.RawMessage, nested int) error {
	if nested == 0 || len(all) == 0 {
		return errSubject
	}
	s.Members = map[string]SubjectID{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		member, err := subjectOf(all[name], nested-1)
		if err != nil {
			return err
		}
		s.Members[name] = member
	}
	return nil
}
