package vault

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

type explainer struct {
	Token
	Asked
	found []Finding
}

func (x *explainer) say(v Verdict, about, format string, args ...any) {
	x.found = append(x.found, Finding{v, about, fmt.Sprintf(format, args...)})
}

// defaults are what Vault's documentation says a profile has when nothing was set.
func (x *explainer) defaults() {
	p := &x.Profile
	if x.Now.IsZero() {
		x.Now = time.Unix(0, 0)
	}
	if p.UserClaim == "" {
		p.UserClaim = "sub"
	}
	if p.ActorClaim == "" {
		p.ActorClaim = "act.sub"
	}
	if p.UniqueIDClaim == "" {
		p.UniqueIDClaim = "jti"
	}
	if len(p.Algorithms) == 0 {
		p.Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
		if !x.Version.before(2, 2, 0) {
			p.Algorithms = append(p.Algorithms, "EdDSA")
		}
	}
	if p.Enabled != nil && !*p.Enabled {
		x.say(Refused, "profile", "the profile is not enabled")
	}
}

const maxHeader = 8 << 10

func (x *explainer) header() {
	if x.Size >= maxHeader {
		x.say(Refused, "size", "%d bytes; Vault takes less than %d in a header", x.Size, maxHeader)
	}
	alg, _ := x.Header["alg"].(string)
	switch {
	case strings.HasPrefix(alg, "HS") || alg == "none" || alg == "":
		x.say(Refused, "alg", "%q: Vault wants a signature by a private key", alg)
	case alg == "EdDSA" && x.Version.before(2, 2, 0):
		x.say(Refused, "alg", "EdDSA is known from Vault 2.2 on")
	case !slices.Contains(x.Profile.Algorithms, alg):
		x.say(Refused, "alg", "%s is none of the profile's supported_algorithms: %s", alg, strings.Join(x.Profile.Algorithms, ", "))
	case alg == "RS256":
		x.say(Weak, "alg", "RS256 is accepted with a warning in Vault's log; ES256 and PS256 are not warned of")
	default:
		x.say(Fine, "alg", "%s", alg)
	}
	if kid, _ := x.Header["kid"].(string); kid == "" {
		x.say(Refused, "kid", "missing: Vault finds the key by it")
	} else {
		x.say(Fine, "kid", "%s; it must be in the JWKS at the profile's jwks_uri", kid)
	}
	typ, _ := x.Header["typ"].(string)
	switch kind := strings.TrimPrefix(strings.ToLower(typ), "application/"); {
	case kind == "at+jwt":
		x.say(Fine, "typ", "at+jwt")
	case kind == "jwt" && x.Version.before(2, 0, 4):
		x.say(Refused, "typ", "JWT is accepted from Vault 2.0.4 on; at+jwt by all")
	case kind == "jwt":
		x.say(Weak, "typ", "JWT is accepted from Vault 2.0.4 on; at+jwt by all")
	default:
		x.say(Refused, "typ", "%q is no access token; at+jwt is", typ)
	}
}

func (x *explainer) issuer() {
	iss, _ := x.Claims["iss"].(string)
	known := strings.ToLower(strings.TrimSuffix(x.Profile.IssuerID, "/")) // as Vault keeps it
	switch {
	case iss == "":
		x.say(Refused, "iss", "missing: Vault finds the profile by it")
	case strings.HasSuffix(iss, "/") || iss != strings.ToLower(iss):
		x.say(Refused, "iss", "%s: Vault keeps its issuer_id in lower case and without the slash at the end, and compares exactly", iss)
	case known == "":
		x.say(Note, "iss", "%s must be the profile's issuer_id", iss)
	case iss != known:
		x.say(Refused, "iss", "%s is not the profile's issuer_id, %s", iss, known)
	default:
		x.say(Fine, "iss", "%s", iss)
	}
}

func (x *explainer) times() {
	leeway := time.Duration(x.Profile.Leeway) * time.Second
	exp, ok := x.time("exp")
	switch {
	case !ok:
		x.say(Refused, "exp", "missing or no number")
	case !x.Now.Before(exp.Add(leeway)):
		x.say(Refused, "exp", "it ended %s ago", x.Now.Sub(exp).Round(time.Second))
	default:
		x.say(Fine, "exp", "another %s", exp.Sub(x.Now).Round(time.Second))
	}
	for _, name := range []string{"iat", "nbf"} {
		at, ok := x.time(name)
		switch {
		case !ok:
			x.say(Note, name, "missing; whether Vault wants it is not documented")
		case at.After(x.Now.Add(leeway)):
			x.say(Refused, name, "%s ahead of this clock; the profile's clock_skew_leeway is %s", at.Sub(x.Now).Round(time.Second), leeway)
		default:
			x.say(Fine, name, "%s ago", x.Now.Sub(at).Round(time.Second))
		}
	}
	if leeway == 0 {
		x.say(Note, "clock", "the profile forgives no difference of clocks: a Vault whose clock is behind refuses a fresh token; clock_skew_leeway=5s helps")
	}
}

func (x *explainer) time(name string) (time.Time, bool) {
	switch v := x.Claims[name].(type) {
	case float64:
		return time.Unix(int64(v), 0), true
	case json.Number:
		f, err := v.Float64()
		return time.Unix(int64(f), 0), err == nil
	default:
		return time.Time{}, false
	}
}

func (x *explainer) audience() {
	list := texts(x.Claims["aud"])
	want := x.Profile.Audiences
	switch {
	case len(list) == 0:
		if len(want) > 0 {
			x.say(Refused, "aud", "missing; the profile wants one of %s", strings.Join(want, ", "))
		} else {
			x.say(Note, "aud", "missing; a profile with audiences would refuse it")
		}
	case len(want) == 0:
		x.say(Note, "aud", "%s must be among the profile's audiences; a profile without any accepts tokens that are for somebody else",
			strings.Join(list, ", "))
	case !slices.ContainsFunc(list, func(one string) bool { return slices.Contains(want, one) }):
		x.say(Refused, "aud", "%s is none of the profile's audiences: %s", strings.Join(list, ", "), strings.Join(want, ", "))
	default:
		x.say(Fine, "aud", "%s", strings.Join(list, ", "))
	}
}

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, one := range v {
			if s, ok := one.(string); ok {
				list = append(list, s)
			}
		}
		return list
	default:
		return nil
	}
}

// people checks for whom and by whom.
func (x *explainer) people() {
	user := x.claim(x.Profile.UserClaim)
	if user == "" {
		x.say(Refused, x.Profile.UserClaim, "missing: it names the entity of the user")
	} else {
		x.say(Note, x.Profile.UserClaim, "an entity alias must exist with name and external id %q and this issuer; that it does not is the "+
			"commonest mistake (no alias found)", user)
	}
	act, delegated := x.Claims["act"]
	if !delegated {
		x.say(Note, "act", "absent: Vault takes the token as the agent's own and %q must be registered as an agent", user)
		return
	}
	object, ok := act.(map[string]any)
	if !ok {
		x.say(Refused, "act", "is no object")
		return
	}
	agent := x.claim(x.Profile.ActorClaim)
	if agent == "" {
		x.say(Refused, x.Profile.ActorClaim, "missing: it names the agent")
		return
	}
	x.say(Note, x.Profile.ActorClaim, "an entity with an alias for %q must be in Vault's agent registry; its ceiling policies limit what it may do", agent)
	if _, nested := object["act"]; nested {
		x.say(Note, "act.act", "Vault is documented to read the outermost actor only")
	}
}

// claim reads a text at a dotted path.
func (x *explainer) claim(path string) string {
	var at any = x.Claims
	for name := range strings.SplitSeq(path, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = object[name]
	}
	s, _ := at.(string)
	return s
}

// names checks the ids by which Vault's audit log and ours are joined.
func (x *explainer) names() {
	if x.claim(x.Profile.UniqueIDClaim) == "" {
		x.say(Refused, x.Profile.UniqueIDClaim, "missing: a token without a unique id is refused")
	} else {
		x.say(Fine, x.Profile.UniqueIDClaim, "joins Vault's audit log with the ledger here")
	}
	if x.claim("txn") == "" {
		x.say(Weak, "txn", "missing: Vault's audit log has nothing to join the transaction by")
	}
	if _, there := x.Claims["typ"]; there {
		x.say(Refused, "typ (claim)", "a claim typ in the payload makes Vault refuse the token; it belongs into the header")
	}
}

// extras tells what Vault does not enforce.
func (x *explainer) extras() {
	if x.claim("txn_mode") == "redeem" {
		x.say(Weak, "txn_mode", "Vault does not redeem: until it expires the token works there any number of times; set redemption: none for this "+
			"resource and keep lifetime short")
	}
	if _, bound := x.Claims["cnf"]; bound {
		x.say(Note, "cnf", "the token is bound to a key; that Vault checks it is not documented")
	}
}
