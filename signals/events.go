package signals

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"obolus/oauth/strict"
	"obolus/token"
)

// names are the short names of the events, for the ledger.
func names(ev token.SecurityEvent) []string {
	list := slices.Sorted(maps.Keys(ev.Events))
	for i, name := range list {
		list[i] = name[strings.LastIndexByte(name, '/')+1:]
		list[i] = list[i][:min(len(list[i]), 64)]
	}
	return list
}

// moment is the time until which the events of a token end what a user began; known is false if none of them ends anything. Times are told in
// seconds, and the whole second counts. It is never later than that of the token: what a transmitter says of the future it cannot know.
func moment(ev token.SecurityEvent) (at time.Time, known bool, err error) {
	latest := int64(0)
	for kind, payload := range ev.Events {
		if !slices.Contains([]string{token.EventSessionRevoked, token.EventCredentialChange, token.EventAccountDisabled, token.EventAccountPurged}, kind) {
			continue
		}
		var p payloadOf
		if err := strict.Object(payload, strict.Limits{}, p.member); err != nil {
			return at, false, refuse(InvalidRequest, "an event is not what its type says", err)
		}
		if kind == token.EventCredentialChange && p.change == "create" {
			continue // one more way to sign in takes nothing back
		}
		known = true
		happened := ev.Claims.IssuedAt
		if p.timestamp != nil {
			happened = *p.timestamp
		} else if ev.Happened != 0 {
			happened = ev.Happened
		}
		latest = max(latest, min(happened, ev.Claims.IssuedAt))
	}
	return time.Unix(latest, int64(time.Second-1)).UTC(), known, nil
}

// payloadOf is what is read of an event.
type payloadOf struct {
	timestamp *int64 // event_timestamp, CAEP 1.0 section 2
	change    string // change_type, CAEP 1.0 section 3.3
}

var errTimestamp = errors.New("event_timestamp is a whole number of seconds since 1970")

func (p *payloadOf) member(name string, value []byte) error {
	switch name {
	case "event_timestamp":
		if err := json.Unmarshal(value, &p.timestamp); err != nil || p.timestamp == nil || *p.timestamp < 0 {
			return errTimestamp
		}
	case "change_type":
		return json.Unmarshal(value, &p.change)
	}
	return nil
}
