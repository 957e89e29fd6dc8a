package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"obolus/agents"
	"obolus/audit"
	"obolus/cmd/obolus/internal/config"
	"obolus/keys"
	"obolus/oauth"
	"obolus/store"
	"obolus/transaction"
	"obolus/users"
)

// declared applies what the configuration declares. A thing is applied when its declaration is not the one that was
// applied last, so that what an operator changed by hand since then stays, and a restart changes nothing. What left the
// file stays registered. An agent that was stopped by hand is not set going again by a file.
type declared struct {
	records  store.Engine
	registry *agents.Registry
	accounts *users.Book
	life     *transaction.Transactions
	ring     *keys.Ring
	record   func(context.Context, audit.Event) error
	secret   []byte // hashes clients' secrets
	digest   []byte // the key of what is remembered of declarations
	now      func() time.Time
	log      *slog.Logger
}

// remembered is what was applied last.
type remembered struct {
	Digest   string `json:"digest"`
	Disabled bool   `json:"disabled,omitempty"`
}

// thing is one declared thing.
type thing struct {
	kind, id string
	what     any // all that is declared of it
	disabled bool
	apply    func(ctx context.Context, was remembered) (changed string, err error)
}

const declaredPartition = "declared"

// configuration is who the ledger says it was.
const configuration = "configuration"

func (d *declared) apply(ctx context.Context, cfg config.Config) error {
	things := d.things(cfg)
	was, err := d.read(ctx, things)
	if err != nil {
		return err
	}
	for i, t := range things {
		next := remembered{Digest: d.sum(t), Disabled: t.disabled}
		if was[i].Digest == next.Digest {
			continue
		}
		if err := d.applyOne(ctx, t, was[i]); err != nil {
			return fmt.Errorf("%s %s, as it is declared: %w", t.kind, t.id, err)
		}
		if err := d.remember(ctx, t, next); err != nil {
			return err
		}
	}
	return d.tellLeft(ctx, things)
}

// applyOne applies a declaration; when another server does the same at the same time, it looks again.
func (d *declared) applyOne(ctx context.Context, t thing, was remembered) error {
	for try := 0; ; try++ {
		what, err := t.apply(ctx, was)
		if errors.Is(err, agents.ErrChanged) && try < 5 {
			continue
		}
		if err != nil || what == "" {
			return err
		}
		d.log.InfoContext(ctx, "the configuration was applied", "kind", t.kind, "id", t.id, "how", what)
		return d.record(ctx, audit.Event{Kind: audit.KindRegistry, Allowed: true, By: configuration, Subject: t.kind + "/" + t.id, Why: what})
	}
}

func (d *declared) things(cfg config.Config) []thing {
	var list []thing
	for _, c := range cfg.Clients {
		list = append(list, thing{"client", c.ID, c, c.Disabled, func(ctx context.Context, _ remembered) (string, error) { return d.client(ctx, c) }})
	}
	for _, a := range cfg.Agents {
		list = append(list, thing{"agent", a.ID, a, false, func(ctx context.Context, _ remembered) (string, error) { return d.agent(ctx, a) }})
	}
	for _, r := range cfg.Resources {
		list = append(list, thing{"resource", r.ID, r, false, func(ctx context.Context, _ remembered) (string, error) { return d.resource(ctx, r) }})
	}
	for _, u := range cfg.Users {
		list = append(list, thing{"user", u.ID, u, u.Disabled, func(ctx context.Context, was remembered) (string, error) { return d.user(ctx, u, was) }})
	}
	return list
}

func (d *declared) read(ctx context.Context, things []thing) ([]remembered, error) {
	found := make([]remembered, 0, len(things))
	for len(found) < len(things) {
		part := things[len(found):]
		part = part[:min(len(part), store.MaxBatch)]
		keys := make([]store.Key, len(part))
		for i, t := range part {
			keys[i] = store.Key{Partition: declaredPartition, Name: t.kind + "/" + t.id}
		}
		recs, err := store.Read(ctx, d.records, keys...)
		if err != nil {
			return nil, err
		}
		for _, rec := range recs {
			var r remembered
			if rec.Exists() && json.Unmarshal(rec.Value, &r) != nil {
				r = remembered{}
			}
			found = append(found, r)
		}
	}
	return found, nil
}

func (d *declared) remember(ctx context.Context, t thing, r remembered) error {
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = store.Apply(ctx, d.records, store.Commit{
		Partition: declaredPartition, Writes: []store.Write{{Name: t.kind + "/" + t.id, Value: value, Listed: true}},
	})
	return err
}

// sum tells one declaration from another. It is keyed, since a declaration may hold a password.
func (d *declared) sum(t thing) string {
	data, err := json.Marshal(t.what)
	if err != nil {
		return "" // like none that was applied
	}
	mac := hmac.New(sha256.New, d.digest)
	mac.Write(data)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// tellLeft logs what was declared once and is not any more.
func (d *declared) tellLeft(ctx context.Context, things []thing) error {
	now := map[string]bool{}
	for _, t := range things {
		now[t.kind+"/"+t.id] = true
	}
	for after := ""; ; {
		recs, err := d.records.List(ctx, declaredPartition, after, 1000)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if after = rec.Name; !now[rec.Name] {
				d.log.InfoContext(ctx, "not in the configuration any more; it stays registered until it is removed by hand", "thing", rec.Name)
			}
		}
		if len(recs) < 1000 {
			return nil
		}
	}
}

func (d *declared) client(ctx context.Context, c config.Client) (string, error) {
	want := c.Client
	d.hash(&want.Credential, c.Secret)
	_, version, err := d.registry.Client(ctx, c.ID)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return "", err
	}
	if _, err := d.registry.PutClient(ctx, want, version); err != nil {
		return "", err
	}
	if want.Disabled {
		err = d.life.Stop(ctx, transaction.Target{Kind: transaction.KindClient, ID: c.ID}, transaction.Cause{By: configuration})
		return done(version), err
	}
	return done(version), nil
}

func (d *declared) hash(cred *agents.Credential, secret string) {
	if cred.Auth == oauth.AuthSecretBasic || cred.Auth == oauth.AuthSecretPost {
		cred.SecretHash = agents.HashSecret(d.secret, secret)
	}
}

func done(version uint64) string {
	if version == 0 {
		return "registered"
	}
	return "changed"
}

func (d *declared) agent(ctx context.Context, a config.Agent) (string, error) {
	want := a.Agent
	d.hash(&want.Credential, a.Secret)
	have, version, err := d.registry.Agent(ctx, a.ID)
	switch {
	case errors.Is(err, agents.ErrNotFound):
		want.Changed = agents.Change{By: configuration, At: d.now().UTC()}
		_, err = d.registry.PutAgent(ctx, want, 0)
		return done(0), err
	case err != nil:
		return "", err
	}
	want.State, want.Changed = have.State, have.Changed
	if _, err := d.registry.PutAgent(ctx, want, version); err != nil {
		return "", err
	}
	return done(version), d.state(ctx, have, a.State)
}

// state moves an agent to the declared state, unless somebody else than a file had put it where it is.
func (d *declared) state(ctx context.Context, have agents.Agent, to agents.State) error {
	if have.State == to {
		return nil
	}
	if have.Changed.By != configuration && to == agents.Active {
		d.log.WarnContext(ctx, "the agent was stopped by hand and stays so; resume it by hand", "agent", have.ID, "state", string(have.State))
		return nil
	}
	_, err := d.life.SetState(ctx, have.ID, to, transaction.Cause{By: configuration})
	if errors.Is(err, transaction.ErrState) {
		d.log.WarnContext(ctx, "the agent cannot go to the declared state", "agent", have.ID, "state", string(have.State), "declared", string(to))
		return nil
	}
	return err
}

func (d *declared) resource(ctx context.Context, r agents.Resource) (string, error) {
	_, version, err := d.registry.Resource(ctx, r.ID)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return "", err
	}
	if err := d.ring.Ensure(ctx, r.Algorithm); err != nil {
		return "", err
	}
	_, err = d.registry.PutResource(ctx, r, version)
	return done(version), err
}

func (d *declared) user(ctx context.Context, u config.User, was remembered) (string, error) {
	have, version, err := d.accounts.Account(ctx, u.ID)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return "", err
	}
	want := users.Account{ID: u.ID, Name: u.Name, Email: u.Email, Disabled: u.Disabled}
	if have.Disabled && !u.Disabled && !was.Disabled {
		d.log.WarnContext(ctx, "the user was disabled by hand and stays so; enable the account by hand", "user", u.ID)
		want.Disabled = true
	}
	if _, err := d.accounts.Put(ctx, want, users.Secret{Password: u.Password, Hash: u.PasswordHash}, version); err != nil {
		return "", err
	}
	if want.Disabled && !have.Disabled {
		err = d.life.Stop(ctx, transaction.Target{Kind: transaction.KindUser, ID: u.ID}, transaction.Cause{By: configuration})
		return done(version), err
	}
	return done(version), nil
}
