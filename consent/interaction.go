package consent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"obolus/audit"
	"obolus/store"
)

const (
	maxPrompts   = 10 // pending or made decisions that one agent may put before one user per interaction lifetime
	recordName   = "is"
	maxGrantUses = 1000
)

// ErrTooMany: an agent has asked a user too often.
var ErrTooMany = errors.New("the user has been asked too often")

// Ask returns the interaction for what an agent wants of a user: a pending or denied one that an identical request has
// opened before, as long as it lasts, or else a new one.
func (b *Book) Ask(ctx context.Context, a Ask) (Interaction, error) {
	asked := store.Key{Partition: "ask/" + a.digest(), Name: recordName}
	recs, err := store.Read(ctx, b.cfg.Live, asked)
	if err != nil {
		return Interaction{}, err
	}
	if in, err := b.open(ctx, recs[0]); !errors.Is(err, ErrNotFound) {
		return in, err
	}
	if err := b.countPrompt(ctx, a); err != nil {
		return Interaction{}, err
	}
	now := b.cfg.Now().UTC()
	in := Interaction{ID: newID("r_"), Ask: a, Status: Pending, Created: now, Expires: now.Add(b.cfg.InteractionLifetime)}
	value, err := json.Marshal(in)
	if err != nil {
		return Interaction{}, err
	}
	cond := store.Condition{Name: recordName, Is: store.Absent}
	if recs[0].Exists() {
		cond.Is, cond.Version = store.AtVersion, recs[0].Version
	}
	ttl := b.cfg.InteractionLifetime
	res, err := b.cfg.Live.Do(ctx, store.Batch{Commits: []store.Commit{
		{Partition: "interaction/" + in.ID, Writes: []store.Write{{Name: recordName, Value: value, TTL: ttl}}},
		{
			Partition: asked.Partition, If: []store.Condition{cond},
			Writes: []store.Write{{Name: recordName, Value: []byte(in.ID), TTL: ttl}},
		},
	}})
	if err != nil {
		return Interaction{}, err
	}
	if first := res.Outcomes[1]; !first.Applied {
		return b.open(ctx, first.Seen[0])
	}
	return in, nil
}

// open reads the interaction that an ask points to, if it still says something: one that was allowed has said it.
func (b *Book) open(ctx context.Context, asked store.Record) (Interaction, error) {
	if !asked.Exists() {
		return Interaction{}, ErrNotFound
	}
	in, err := b.Interaction(ctx, string(asked.Value))
	if err == nil && in.Status == Allowed {
		return Interaction{}, ErrNotFound
	}
	return in, err
}

// Interaction returns an interaction by its id; ErrNotFound once it is over.
func (b *Book) Interaction(ctx context.Context, id string) (Interaction, error) {
	in, _, err := b.interaction(ctx, id)
	return in, err
}

// Watch tells when an interaction may have been decided.
func (b *Book) Watch(ctx context.Context, id string) (<-chan string, error) {
	return b.cfg.Live.Watch(ctx, "interaction/"+id)
}

// Decide carries out what a user decided, once: a second decision gets ErrDecided and the interaction as it was decided.
// A grant that comes of it is durable, in force everywhere and in the ledger when Decide returns. The user must be the one
// who was asked.
func (b *Book) Decide(ctx context.Context, id, user string, d Decision) (Interaction, error) {
	in, rec, err := b.interaction(ctx, id)
	if err != nil {
		return Interaction{}, err
	}
	if in.Ask.User != user {
		return Interaction{}, ErrNotYours
	}
	if in.Status != Pending {
		return in, ErrDecided
	}
	grant, err := b.grantOf(in, d)
	if err != nil {
		return Interaction{}, err
	}
	in.Status = Denied
	if d.Allow {
		in.Status, in.Grant = Allowed, grant.ID
	}
	// The claim comes first, so that of two decisions one counts; the grant comes before anybody is told.
	if err := b.claim(ctx, in, rec); err != nil {
		return in, err
	}
	if d.Allow {
		if err := b.add(ctx, grant); err != nil {
			return in, err
		}
	}
	return in, b.cfg.Record(ctx, audit.Event{
		Kind: audit.KindConsent, Allowed: d.Allow, User: user, By: user, Actor: in.Ask.Agent, Target: in.Ask.Target,
		AskedScope: strings.Join(in.Ask.Scopes, " "), AskedDetails: in.Ask.Details, Interaction: hash(in.ID),
		Grant: grant.ID, GrantedScope: strings.Join(grant.Scopes, " "), GrantedDetails: grant.Details, Expires: grant.Expires,
	})
}

// claim writes the decision where the pending interaction was; ErrDecided when another one was faster.
func (b *Book) claim(ctx context.Context, in Interaction, rec store.Record) error {
	value, err := json.Marshal(in)
	if err != nil {
		return err
	}
	out, err := store.Apply(ctx, b.cfg.Live, store.Commit{
		Partition: rec.Partition,
		If:        []store.Condition{{Name: rec.Name, Is: store.AtVersion, Version: rec.Version}},
		Writes:    []store.Write{{Name: rec.Name, Value: value, TTL: b.cfg.InteractionLifetime}},
	})
	if err == nil && !out.Applied {
		return ErrDecided
	}
	return err
}

// grantOf makes the grant of a decision: never wider than the ask, the agent's ceiling or the server's longest lifetime.
func (b *Book) grantOf(in Interaction, d Decision) (Grant, error) {
	if !d.Allow {
		return Grant{}, nil
	}
	ask, now := in.Ask, b.cfg.Now().UTC()
	for _, s := range d.Scopes {
		if !slices.Contains(ask.Scopes, s) {
			return Grant{}, fmt.Errorf("scope %q: %w", s, ErrWider)
		}
	}
	details, err := pick(ask.Details, d.Details)
	if err != nil {
		return Grant{}, err
	}
	if len(d.Scopes) == 0 && details == nil {
		return Grant{}, fmt.Errorf("nothing is allowed: %w", ErrWider)
	}
	uses := d.Uses
	if ask.MaxUses > 0 && (uses == 0 || uses > ask.MaxUses) {
		uses = ask.MaxUses
	}
	if uses < 0 || uses > maxGrantUses || !d.Expires.After(now) {
		return Grant{}, fmt.Errorf("limits: %w", ErrWider)
	}
	expires := d.Expires.UTC()
	if latest := now.Add(b.cfg.MaxLifetime); expires.After(latest) {
		expires = latest
	}
	return Grant{
		ID: newID("g_"), User: ask.User, Agent: ask.Agent, Target: ask.Target, Scopes: slices.Clone(d.Scopes), Details: details,
		Uses: uses, Created: now, Expires: expires, AuthTime: d.AuthTime.UTC(), AgentKeys: ask.AgentKeys,
	}, nil
}

// pick selects members of a JSON array by index; nil for none.
func pick(details json.RawMessage, indexes []int) (json.RawMessage, error) {
	if len(indexes) == 0 {
		return nil, nil
	}
	var all, picked []json.RawMessage
	if err := json.Unmarshal(details, &all); err != nil {
		return nil, fmt.Errorf("authorization details: %w", ErrWider)
	}
	for i, entry := range all {
		if slices.Contains(indexes, i) {
			picked = append(picked, entry)
		}
	}
	for _, i := range indexes {
		if i < 0 || i >= len(all) {
			return nil, fmt.Errorf("authorization detail %d: %w", i, ErrWider)
		}
	}
	return json.Marshal(picked)
}

func (b *Book) interaction(ctx context.Context, id string) (Interaction, store.Record, error) {
	if len(id) < 10 || len(id) > 64 || strings.ContainsAny(id, " /") {
		return Interaction{}, store.Record{}, ErrNotFound
	}
	recs, err := store.Read(ctx, b.cfg.Live, store.Key{Partition: "interaction/" + id, Name: recordName})
	if errors.Is(err, store.ErrInvalid) {
		return Interaction{}, store.Record{}, ErrNotFound
	}
	if err != nil {
		return Interaction{}, store.Record{}, err
	}
	if !recs[0].Exists() {
		return Interaction{}, store.Record{}, ErrNotFound
	}
	var in Interaction
	err = json.Unmarshal(recs[0].Value, &in)
	return in, recs[0], err
}

func (b *Book) countPrompt(ctx context.Context, a Ask) error {
	out, err := store.Apply(ctx, b.cfg.Live, store.Commit{
		Partition: "prompts/" + a.User + " " + a.Agent,
		If:        []store.Condition{{Name: recordName, Is: store.AtMost, Count: maxPrompts - 1}},
		Writes:    []store.Write{{Name: recordName, Add: 1, TTL: b.cfg.InteractionLifetime}},
	})
	if err == nil && !out.Applied {
		return ErrTooMany
	}
	return err
}

func (a Ask) digest() string {
	scopes := slices.Sorted(slices.Values(a.Scopes))
	return hash(strings.Join([]string{
		a.User, a.Agent, a.Target, strings.Join(scopes, " "), string(a.Details), strconv.Itoa(a.MaxUses), a.AgentKeys,
	}, "\n"))
}

// Remaining is how long the user still has.
func (i Interaction) Remaining(now time.Time) time.Duration { return max(i.Expires.Sub(now), 0) }
