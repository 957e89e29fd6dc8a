package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"obolus/store"
)

// Resource returns a registered resource by its id, and its version.
func (r *Registry) Resource(ctx context.Context, id string) (Resource, uint64, error) {
	if !validID(id) {
		return Resource{}, 0, ErrNotFound
	}
	recs, err := store.Read(ctx, r.records, store.Key{Partition: resources, Name: "id/" + id})
	if err != nil {
		return Resource{}, 0, err
	}
	res, err := r.ReadResource(recs[0])
	return res, recs[0].Version, err
}

// ResourceAt finds the resource that a target names: its URI in any spelling that RFC 3986 section 6.2.2 and 6.2.3
// make equal by case of scheme and host and by the default port, or one of its aliases.
func (r *Registry) ResourceAt(ctx context.Context, target string) (Resource, error) {
	recs, err := r.mirror.Read(ctx, TargetKey(target))
	if err != nil {
		return Resource{}, err
	}
	return r.ReadResource(recs[0])
}

// TargetKey is the record of the resource that a target names, to be read along with other things.
func TargetKey(target string) store.Key {
	name := target
	if canonical, err := CanonicalURI(target); err == nil {
		name = canonical
	}
	if len(name) > maxURI || strings.ContainsFunc(name, control) {
		name = "-" // names nothing
	}
	return store.Key{Partition: resources, Name: "at/" + name}
}

// Distinct are targets without those that another one before them names already, in whatever spelling: looking all of them up costs no more
// than there are names for what they name.
func Distinct(targets []string) []string {
	if len(targets) < 2 {
		return targets
	}
	places, distinct := make([]store.Key, 0, len(targets)), make([]string, 0, len(targets))
	for _, target := range targets {
		if place := TargetKey(target); !slices.Contains(places, place) {
			places, distinct = append(places, place), append(distinct, target)
		}
	}
	return distinct
}

// ReadResource parses a record of a resource, once for each version of it.
func (r *Registry) ReadResource(rec store.Record) (Resource, error) {
	if !rec.Exists() {
		return Resource{}, fmt.Errorf("resource %q: %w", rec.Name, ErrNotFound)
	}
	if res, ok := r.seen.Get(rec.Key, rec.Version); ok {
		return res.(Resource), nil //nolint:errcheck // only resources are put under keys of this partition
	}
	var res Resource
	if err := json.Unmarshal(rec.Value, &res); err != nil {
		return Resource{}, fmt.Errorf("read resource %q: %w", rec.Name, err)
	}
	r.seen.Put(rec.Key, rec.Version, res)
	return res, nil
}

// GuessResource is the resource that a target last named, if this process has seen it: only good for deciding what else
// to read.
func (r *Registry) GuessResource(target string) (Resource, bool) {
	return r.GuessResourceAt(TargetKey(target))
}

// GuessResourceAt is GuessResource for the record of a target.
func (r *Registry) GuessResourceAt(place store.Key) (Resource, bool) {
	seen, _, _ := r.seen.Latest(place)
	res, ok := seen.(Resource)
	return res, ok
}

// PutResource registers or changes a resource, under its URI and all its aliases at once. ErrTaken: one of them
// belongs to another resource, or its name to an agent, client or user.
func (r *Registry) PutResource(ctx context.Context, res Resource, version uint64) (uint64, error) {
	if err := res.check(); err != nil {
		return 0, err
	}
	for _, name := range append([]string{res.ID}, res.Aliases...) {
		if err := r.Claim(ctx, name, "resource "+res.ID); err != nil {
			return 0, err
		}
	}
	value, err := json.Marshal(res)
	if err != nil {
		return 0, err
	}
	was, _, err := r.Resource(ctx, res.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	conds, writes, err := r.places(ctx, was, res, value)
	if err != nil {
		return 0, err
	}
	id := "id/" + res.ID
	out, err := r.mirror.Commit(ctx, store.Commit{
		Partition: resources,
		If:        append(conds, at(id, version)),
		Writes:    append(writes, store.Write{Name: id, Value: value, Listed: true}),
	})
	if err := changed(out, err); err != nil {
		return 0, err
	}
	return out.Wrote[len(out.Wrote)-1].Version, nil
}

// places are the conditions and writes by which a resource takes its URI and aliases and leaves those it had.
func (r *Registry) places(ctx context.Context, was, res Resource, value []byte) ([]store.Condition, []store.Write, error) {
	have, want := was.places(), res.places()
	var conds []store.Condition
	var writes []store.Write
	for _, place := range want {
		recs, err := store.Read(ctx, r.records, store.Key{Partition: resources, Name: place})
		if err != nil {
			return nil, nil, err
		}
		if holder, err := r.ReadResource(recs[0]); err == nil && holder.ID != res.ID {
			return nil, nil, fmt.Errorf("%s belongs to resource %q: %w", place[3:], holder.ID, ErrTaken)
		}
		conds = append(conds, at(place, recs[0].Version))
		writes = append(writes, store.Write{Name: place, Value: value})
	}
	for _, place := range have {
		if !slices.Contains(want, place) {
			writes = append(writes, store.Write{Name: place, Delete: true})
		}
	}
	return conds, writes, nil
}

// RemoveResource takes a resource out of the registry, with its URI and aliases.
func (r *Registry) RemoveResource(ctx context.Context, id string, version uint64) error {
	res, _, err := r.Resource(ctx, id)
	if err != nil {
		return err
	}
	writes := []store.Write{{Name: "id/" + id, Delete: true}}
	for _, place := range res.places() {
		writes = append(writes, store.Write{Name: place, Delete: true})
	}
	out, err := r.mirror.Commit(ctx, store.Commit{
		Partition: resources, If: []store.Condition{at("id/"+id, version)}, Writes: writes,
	})
	return changed(out, err)
}

// Resources lists resources in the order of their ids.
func (r *Registry) Resources(ctx context.Context, after string, limit int) ([]Resource, error) {
	recs, err := r.records.List(ctx, resources, "id/"+after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]Resource, 0, len(recs))
	for _, rec := range recs {
		if !strings.HasPrefix(rec.Name, "id/") {
			break
		}
		res, err := r.ReadResource(rec)
		if err != nil {
			return nil, err
		}
		list = append(list, res)
	}
	return list, nil
}

// Names says whether a client or agent is this resource, and may introspect and redeem its tokens.
func (r Resource) Names(server string) bool { return !r.Disabled && slices.Contains(r.Servers, server) }

// places are the names of the records under which a resource is found.
func (r Resource) places() []string {
	if r.ID == "" {
		return nil
	}
	list := []string{TargetKey(r.URI).Name, TargetKey(r.ID).Name}
	for _, alias := range r.Aliases {
		list = append(list, TargetKey(alias).Name)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

const maxURI = 400

// CanonicalURI gives the form in which targets are compared: scheme and host in lower case, without the default port.
// Path, query and trailing slash stay as they are. It refuses what RFC 8707 section 2 does (a relative URI, a fragment), and a
// URI with user information or without a host where the scheme has one.
func CanonicalURI(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("not a URI")
	}
	switch {
	case !u.IsAbs():
		return "", errors.New("not absolute")
	case strings.Contains(s, "#"):
		return "", errors.New("has a fragment")
	case u.User != nil:
		return "", errors.New("has user information")
	case strings.ContainsFunc(s, control) || len(s) > maxURI:
		return "", errors.New("has control characters, spaces or too many characters")
	case u.Opaque != "": // urn:…, compared as it is but for the scheme
		return strings.ToLower(u.Scheme) + s[len(u.Scheme):], nil
	case u.Host == "":
		return "", errors.New("has no host")
	}
	host := strings.ToLower(u.Host)
	if h, port, err := net.SplitHostPort(host); err == nil && (u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80") {
		host = h
		if strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	// The rest is taken from the text itself: parsing and printing it would change its escapes.
	_, rest, _ := strings.Cut(s, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[i:]
	} else {
		rest = ""
	}
	return u.Scheme + "://" + host + rest, nil
}

func control(r rune) bool { return r <= 0x20 || r == 0x7f }
