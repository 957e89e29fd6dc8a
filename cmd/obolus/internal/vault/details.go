package vault

import (
	"fmt"
	"slices"
	"strings"
)

// pathAccess is the one type that Vault knows.
const pathAccess = "vault:path_access"

// capabilities are those of vault:path_access.
func capabilities() []string {
	return []string{"read", "create", "update", "delete", "list", "sudo", "patch", "subscribe", "recover"}
}

func (x *explainer) details() {
	const name = "authorization_details"
	v, there := x.Claims[name]
	list, array := v.([]any)
	switch {
	case !there && x.Profile.OptionalDetail:
		x.say(Fine, name, "absent, which the profile allows")
		return
	case !there:
		x.say(Refused, name, "missing: Vault wants it unless the profile or the registration says optional_authorization_details")
		return
	case !array:
		x.say(Refused, name, "is no array")
		return
	case len(list) == 0:
		x.say(Refused, name, "an empty array is worse than none: 403 RAR_NO_MATCH, also where it is optional")
		return
	}
	matched := false
	for i, one := range list {
		about := fmt.Sprintf("%s[%d]", name, i)
		entry, ok := one.(map[string]any)
		if !ok {
			x.say(Refused, about, "is no object")
			continue
		}
		if x.entry(about, entry) {
			matched = matched || x.matches(entry)
		}
	}
	x.request(matched)
}

// entry checks one object and says whether Vault understands it.
func (x *explainer) entry(about string, entry map[string]any) bool {
	if kind, _ := entry["type"].(string); kind != pathAccess {
		x.say(Note, about, "has the type %q: Vault knows %s and lets others allow nothing", kind, pathAccess)
		return false
	}
	before := len(x.found)
	path, _ := entry["path"].(string)
	switch {
	case path == "":
		x.say(Refused, about, "has no path")
	case strings.HasPrefix(path, "/") || strings.HasPrefix(path, "v1/"):
		x.say(Refused, about, "path %s: Vault's paths begin with the mount, without / and v1/", path)
	case strings.ContainsAny(path, "*+"):
		x.say(Weak, about, "path %s: matching is documented as exact; whether globs work is not", path)
	}
	x.capabilities(about, entry)
	for member := range entry {
		switch member {
		case "type", "path", "capabilities":
		case "allowed_parameters", "denied_parameters", "required_parameters":
			if x.Version.before(2, 2, 0) {
				x.say(Refused, about, "%s is known from Vault 2.2 on, and before it nothing unknown may be there", member)
			}
		default:
			x.say(Refused, about, "%s is no member of %s, and nothing else may be there", member, pathAccess)
		}
	}
	ok := !Refuses(x.found[before:])
	if ok {
		x.say(Fine, about, "%s on %s", strings.Join(texts(entry["capabilities"]), ", "), path)
	}
	return ok
}

func (x *explainer) capabilities(about string, entry map[string]any) {
	list := texts(entry["capabilities"])
	if len(list) == 0 {
		x.say(Refused, about, "has no capabilities")
	}
	for _, c := range list {
		if !slices.Contains(capabilities(), c) {
			x.say(Refused, about, "%q is no capability; they are %s", c, strings.Join(capabilities(), ", "))
		}
	}
}

func (x *explainer) matches(entry map[string]any) bool {
	return entry["path"] == x.Path && (x.Capability == "" || slices.Contains(texts(entry["capabilities"]), x.Capability))
}

// request says whether the request that was asked about is within the details.
func (x *explainer) request(matched bool) { //nolint:revive // what came of the entries
	if x.Path == "" {
		return
	}
	what := strings.TrimSpace(x.Capability + " " + x.Path)
	if matched {
		x.say(Fine, "request", "%s is within authorization_details", what)
		return
	}
	x.say(Refused, "request", "%s: no entry matches, 403 RAR_NO_MATCH. `vault kv get` and `put` first read another path; "+
		"use `vault read` and `write` or allow that path too", what)
}
