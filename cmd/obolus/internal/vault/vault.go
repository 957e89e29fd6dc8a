// Package vault says, without asking anybody, what HashiCorp Vault's OAuth resource server would refuse of a token and why:
// Vault itself answers nearly everything with the same 403 and tells the reason to its own log alone. It knows what
// Vault's documentation and those who ran it report; it checks no signature and knows no alias, entity or policy.
package vault

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"obolus/oauth/strict"
)

// Profile is an OAuth resource server profile of Vault, by the names of its API. The zero value is one with nothing set.
type Profile struct {
	IssuerID       string   `json:"issuer_id"`
	Audiences      []string `json:"audiences"`
	UserClaim      string   `json:"user_claim"`
	ActorClaim     string   `json:"actor_claim"`
	UniqueIDClaim  string   `json:"unique_id_claim"`
	Algorithms     []string `json:"supported_algorithms"`
	Leeway         int      `json:"clock_skew_leeway"` // seconds
	OptionalDetail bool     `json:"optional_authorization_details"`
	Enabled        *bool    `json:"enabled"`
}

// ReadProfile reads what `vault read -format=json sys/config/oauth-resource-server/NAME` prints, or the data in it alone.
func ReadProfile(data []byte) (Profile, error) {
	var answer struct {
		Data *Profile `json:"data"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return Profile{}, fmt.Errorf("the profile is no JSON: %w", err)
	}
	if answer.Data != nil {
		return *answer.Data, nil
	}
	var p Profile
	if err := json.Unmarshal(data, &p); err != nil {
		return Profile{}, fmt.Errorf("the profile: %w", err)
	}
	return p, nil
}

// Asked is what a token is checked against.
type Asked struct {
	Profile Profile
	Version Version // of Vault; zero: the newest that is known here
	Now     time.Time
	// Path and Capability are a request to be made with the token; empty: none.
	Path, Capability string
}

// Version is a version of Vault.
type Version struct{ Major, Minor, Patch int }

// ParseVersion reads "2.1.0" or "2.1".
func ParseVersion(s string) (Version, error) {
	var v Version
	n, err := fmt.Sscanf(strings.TrimPrefix(s, "v")+".0", "%d.%d.%d", &v.Major, &v.Minor, &v.Patch)
	if n < 3 || v.Major < 2 {
		return Version{}, errors.Join(fmt.Errorf("%q is no version of Vault with an OAuth resource server, such as 2.1.0", s), err)
	}
	return v, nil
}

func (v Version) before(major, minor, patch int) bool { //nolint:unparam // there is only Vault 2 so far
	return v != Version{} && slices.Compare([]int{v.Major, v.Minor, v.Patch}, []int{major, minor, patch}) < 0
}

// Verdict is how bad a finding is.
type Verdict string

// The verdicts.
const (
	Fine    Verdict = "fine"
	Note    Verdict = "note"    // cannot be told from here, or is good to know
	Weak    Verdict = "weak"    // works, with some versions or for now
	Refused Verdict = "refused" // Vault says no
)

// Finding is one thing that was looked at.
type Finding struct {
	Verdict  Verdict `json:"verdict"`
	About    string  `json:"about"` // the part of the token: "aud", "authorization_details[0]"
	Sentence string  `json:"sentence"`
}

// Refuses says whether Vault would refuse a token with these findings.
func Refuses(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Verdict == Refused })
}

// Token is a JWT taken apart. Nothing of it has been verified.
type Token struct {
	Header map[string]any
	Claims map[string]any
	Size   int
}

// Decode takes a compact JWS apart.
func Decode(compact string) (Token, error) {
	parts := strings.Split(compact, ".")
	switch {
	case len(parts) == 5:
		return Token{}, errors.New("it is encrypted (JWE): nobody but the one it is for can read it")
	case len(parts) != 3:
		return Token{}, errors.New("it is no JWT: three parts with dots between them are wanted")
	}
	t := Token{Size: len(compact)}
	for i, into := range []*map[string]any{&t.Header, &t.Claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return Token{}, fmt.Errorf("part %d is no base64url", i+1)
		}
		if err := strict.Unmarshal(raw, into, strict.Limits{Depth: 24}); err != nil {
			return Token{}, fmt.Errorf("part %d: %w", i+1, err)
		}
		if *into == nil {
			return Token{}, fmt.Errorf("part %d is no JSON object", i+1)
		}
	}
	return t, nil
}

// Explain checks a token in the order in which Vault would.
func Explain(t Token, a Asked) []Finding {
	x := &explainer{Token: t, Asked: a}
	x.defaults()
	x.header()
	x.issuer()
	x.times()
	x.audience()
	x.people()
	x.names()
	x.details()
	x.extras()
	return x.found
}
