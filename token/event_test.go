package token_test

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"

	"obolus/token"
)

const transmitter = "https://idp.test"

func issSub(sub string) object { return object{"format": "iss_sub", "iss": transmitter, "sub": sub} }

// eventOf is a good security event token, to be changed in one place.
func eventOf() object {
	return object{
		"iss": transmitter, "aud": issuer, "iat": start.Unix(), "jti": "set-1", "sub_id": issSub("alice"), "toe": start.Unix() - 5,
		"events": object{token.EventSessionRevoked: object{"event_timestamp": start.Unix() - 10}},
	}
}

func event(payload object) object { return object{token.EventSessionRevoked: payload} }

func TestSecurityEvents(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	head := object{"alg": token.ES256, "kid": key.KeyID(), "typ": "secevent+jwt"}
	expect := token.Expect{
		Issuer: transmitter, Keys: token.NewPublicSet(key.Public()), Audience: issuer, Types: []string{"at+jwt"}, Now: clock,
	}
	good := eventOf()
	complexOf := func(members object) object {
		all := object{"format": "complex"}
		maps.Copy(all, members)
		return all
	}
	for _, c := range []struct {
		name    string
		head    object
		payload object
		good    bool
	}{
		{name: "as it is", good: true},
		{name: "typ in its long form", head: head.with("typ", "application/secevent+jwt"), good: true},
		{name: "typ that the caller asked for", head: head.with("typ", "at+jwt")},
		{name: "typ JWT", head: head.with("typ", "JWT")},
		{name: "no typ", head: head.without("typ")},
		{name: "of another issuer", payload: good.with("iss", "https://evil.test")},
		{name: "for somebody else", payload: good.with("aud", "https://rs.test")},
		{name: "for several", payload: good.with("aud", []string{"x", issuer}), good: true},
		{name: "for nobody", payload: good.without("aud")},
		{name: "no iat", payload: good.without("iat")},
		{name: "from the future", payload: good.with("iat", start.Unix()+60)},
		{name: "no jti", payload: good.without("jti")},
		{name: "an empty jti", payload: good.with("jti", "")},
		{name: "a jti without end", payload: good.with("jti", strings.Repeat("j", 257))},
		{name: "an exp that is over", payload: good.with("exp", start.Unix()-1)},
		{name: "toe is no time", payload: good.with("toe", "now")},
		{name: "no events", payload: good.without("events")},
		{name: "events are none", payload: good.with("events", object{})},
		{name: "events are a list", payload: good.with("events", []object{})},
		{name: "an event is no object", payload: good.with("events", object{token.EventSessionRevoked: 1})},
		{name: "events without end", payload: good.with("events", object{"1": object{}, "2": object{}, "3": object{}, "4": object{}, "5": object{}, "6": object{}, "7": object{}, "8": object{}, "9": object{}})},
		{name: "no subject", payload: good.without("sub_id"), good: true},
		{name: "the subject is a text", payload: good.with("sub_id", "alice")},
		{name: "the subject is in the event", payload: good.without("sub_id").with("events", event(object{"subject": issSub("alice")})), good: true},
		{name: "the subject is in the event, as drafts had it", payload: good.without("sub_id").with("events", event(object{
			"subject": object{"subject_type": "iss_sub", "iss": transmitter, "sub": "alice"},
		})), good: true},
		{name: "both name the same", payload: good.with("events", event(object{"subject": issSub("alice")})), good: true},
		{name: "they name two", payload: good.with("events", event(object{"subject": issSub("bob")}))},
		{name: "the event's subject is malformed", payload: good.with("events", event(object{"subject": object{}}))},
		{name: "no format", payload: good.with("sub_id", object{"iss": transmitter, "sub": "alice"})},
		{name: "format is no text", payload: good.with("sub_id", object{"format": 1})},
		{name: "format twice", payload: good.with("sub_id", issSub("alice").with("subject_type", "iss_sub"))},
		{name: "a format that is not known", payload: good.with("sub_id", object{"format": "did", "url": "did:x"}), good: true},
		{name: "iss_sub without iss", payload: good.with("sub_id", issSub("alice").without("iss"))},
		{name: "iss_sub with an empty sub", payload: good.with("sub_id", issSub(""))},
		{name: "iss_sub with a number", payload: good.with("sub_id", object{"format": "iss_sub", "iss": transmitter, "sub": 7})},
		{name: "iss_sub with more", payload: good.with("sub_id", issSub("alice").with("email", "a@b.test"))},
		{name: "email", payload: good.with("sub_id", object{"format": "email", "email": "alice@example.test"}), good: true},
		{name: "opaque", payload: good.with("sub_id", object{"format": "opaque", "id": "x"}), good: true},
		{name: "uri", payload: good.with("sub_id", object{"format": "uri", "uri": "urn:x"}), good: true},
		{name: "jwt_id", payload: good.with("sub_id", object{"format": "jwt_id", "iss": issuer, "jti": "j"}), good: true},
		{name: "complex", payload: good.with("sub_id", complexOf(object{"user": issSub("alice"), "session": object{"format": "opaque", "id": "s"}})), good: true},
		{name: "complex and empty", payload: good.with("sub_id", complexOf(nil))},
		{name: "complex in itself", payload: good.with("sub_id", complexOf(object{"user": complexOf(object{"user": issSub("alice")})}))},
		{name: "complex with a text", payload: good.with("sub_id", complexOf(object{"user": "alice"}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, p := c.head, c.payload
			if h == nil {
				h = head
			}
			if p == nil {
				p = good
			}
			got, err := token.VerifySecurityEvent(t.Context(), forge(key, token.ES256, h.text(), p.text()), expect)
			if (err == nil) != c.good {
				t.Fatalf("%v", err)
			}
			if err == nil && (got.Claims.ID != "set-1" || len(got.Events) != 1 || got.Happened != start.Unix()-5) {
				t.Errorf("read %+v", got)
			}
		})
	}
}

func TestASecurityEventIsSignedByItsTransmitter(t *testing.T) {
	t.Parallel()
	key, other := pairs()[token.ES256], pairs()["other"]
	head := object{"alg": token.ES256, "kid": key.KeyID(), "typ": "secevent+jwt"}
	_, err := token.VerifySecurityEvent(t.Context(), forge(other, token.ES256, head.text(), eventOf().text()), token.Expect{
		Issuer: transmitter, Keys: token.NewPublicSet(key.Public()), Now: clock,
	})
	if !errors.Is(err, token.ErrSignature) {
		t.Errorf("%v", err)
	}
}

// A subject that was written is the one that is read.
func TestSubjectsGoRound(t *testing.T) {
	t.Parallel()
	key := pairs()[token.ES256]
	user := token.SubjectID{Format: token.FormatIssSub, Issuer: transmitter, Subject: "alice"}
	for _, s := range []token.SubjectID{
		user,
		{Format: token.FormatEmail, Email: "a@b.test"},
		{Format: token.FormatJWTID, Issuer: issuer, JTI: "j"},
		{Format: token.FormatComplex, Members: map[string]token.SubjectID{"user": user, "grant": {Format: token.FormatOpaque, ID: "g"}}},
	} {
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		head := object{"alg": token.ES256, "kid": key.KeyID(), "typ": "secevent+jwt"}
		got, err := token.VerifySecurityEvent(t.Context(), forge(key, token.ES256, head.text(), eventOf().with("sub_id", json.RawMessage(written)).text()), token.Expect{
			Issuer: transmitter, Keys: token.NewPublicSet(key.Public()), Now: clock,
		})
		if err != nil || !got.Subject.Equal(s) {
			t.Errorf("%s: %+v, %v", written, got.Subject, err)
		}
		if got.Subject.Equal(token.SubjectID{Format: s.Format}) {
			t.Errorf("%s is like anything of its format", written)
		}
	}
}

// Whatever a transmitter signs, what is read of it is what it must be, and a subject that was read can be written and read again.
func FuzzSecurityEvent(f *testing.F) {
	key := pairs()[token.ES256]
	head := object{"alg": token.ES256, "kid": key.KeyID(), "typ": "secevent+jwt"}.text()
	expect := token.Expect{Issuer: transmitter, Audience: issuer, Keys: token.NewPublicSet(key.Public()), Now: clock}
	f.Add(eventOf().text())
	f.Add(eventOf().without("sub_id").with("events", event(object{"subject": issSub("alice")})).text())
	f.Add(eventOf().with("sub_id", object{"format": "complex", "user": issSub("alice"), "x": object{"format": "did"}}).text())
	f.Add(`{"events":{"":[]}}`)
	f.Fuzz(func(t *testing.T, payload string) {
		got, err := token.VerifySecurityEvent(t.Context(), forge(key, token.ES256, head, payload), expect)
		if err != nil {
			return
		}
		if c := got.Claims; c.Issuer != transmitter || !c.Audience.Has(issuer) || c.ID == "" || c.IssuedAt <= 0 || len(got.Events) == 0 {
			t.Errorf("read %+v", got)
		}
		if got.Subject.Format == "" || !readable(got.Subject) {
			return
		}
		written, err := json.Marshal(got.Subject)
		if err != nil {
			t.Fatal(err)
		}
		again, err := token.VerifySecurityEvent(t.Context(), forge(key, token.ES256, head, eventOf().with("sub_id", json.RawMessage(written)).text()), expect)
		if err != nil || !again.Subject.Equal(got.Subject) {
			t.Errorf("%s: %+v, %v", written, again.Subject, err)
		}
	})
}

// readable says whether all of a subject is of formats that are known: of others there is only the name.
func readable(s token.SubjectID) bool {
	for name, m := range s.Members {
		if name == "format" || name == "subject_type" || !readable(m) {
			return false
		}
	}
	return s.Format == token.FormatComplex || s.Issuer+s.Email+s.ID+s.URI != ""
}
