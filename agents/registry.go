package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"obolus/oauth"
	"obolus/store"
)

// The errors of the registry.
var (
	ErrNotFound = errors.New("not registered")
	ErrChanged  = errors.New("changed meanwhile")
	ErrTaken    = errors.New("the name is taken")
)

const (
	parties   = "parties"   // agents and clients by id, and an order for each
	resources = "resources" // by id, and a copy under each URI and alias
	taken     = "names"     // who has an id: agents, clients, users and resources share one space
)

// Registry keeps agents, clients and resources in records, each with a copy in the live store. It holds parsed forms in
// memory, keyed by a record's version, and never answers from them alone.
type Registry struct {
	records store.Engine
	mirror  *store.Mirror
	seen    *store.Forms[any] // of parties and resources, and who holds a SPIFFE ID
}

const seenLimit = 8192

// NewRegistry keeps the registry in records, mirrored by mirror.
func NewRegistry(records store.Engine, mirror *store.Mirror) *Registry {
	return &Registry{records: records, mirror: mirror, seen: store.NewForms[any](seenLimit)}
}

// stored is an agent or another client as it is kept.
type stored struct {
	Agent  *Agent  `json:"agent,omitempty"`
	Client *Client `json:"client,omitempty"`
}

// Agent returns a registered agent and its version.
func (r *Registry) Agent(ctx context.Context, id string) (Agent, uint64, error) {
	p, version, err := r.party(ctx, id)
	if err != nil {
		return Agent{}, 0, err
	}
	if p.agent == nil {
		return Agent{}, 0, fmt.Errorf("agent %q: %w", id, ErrNotFound)
	}
	return *p.agent, version, nil
}

// Client returns a registered client that is no agent, and its version.
func (r *Registry) Client(ctx context.Context, id string) (Client, uint64, error) {
	p, version, err := r.party(ctx, id)
	if err != nil {
		return Client{}, 0, err
	}
	if p.client == nil {
		return Client{}, 0, fmt.Errorf("client %q: %w", id, ErrNotFound)
	}
	return *p.client, version, nil
}

// PutAgent registers or changes an agent. The version is that of the record it replaces: zero for a new one. It is in
// force on every server when PutAgent returns.
func (r *Registry) PutAgent(ctx context.Context, a Agent, version uint64) (uint64, error) {
	if err := a.check(); err != nil {
		return 0, err
	}
	if err := r.Claim(ctx, a.ID, "agent"); err != nil {
		return 0, err
	}
	if err := r.claimNames(ctx, a.ID, a.Name, a.SPIFFE); err != nil {
		return 0, err
	}
	return r.put(ctx, a.ID, "agent ", stored{Agent: &a}, version)
}

// PutClient registers or changes a client, as PutAgent does an agent.
func (r *Registry) PutClient(ctx context.Context, c Client, version uint64) (uint64, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	if err := r.Claim(ctx, c.ID, "client"); err != nil {
		return 0, err
	}
	if err := r.claimNames(ctx, c.ID, c.called(), c.SPIFFE); err != nil {
		return 0, err
	}
	return r.put(ctx, c.ID, "client ", stored{Client: &c}, version)
}

// Remove takes an agent or a client out of the registry. Its id stays taken: nobody else can come back under it.
func (r *Registry) Remove(ctx context.Context, id string, version uint64) error {
	out, err := r.mirror.Commit(ctx, store.Commit{
		Partition: parties,
		If:        []store.Condition{{Name: id, Is: store.AtVersion, Version: version}},
		Writes:    []store.Write{{Name: id, Delete: true}, {Name: "agent " + id, Delete: true}, {Name: "client " + id, Delete: true}},
	})
	return changed(out, err)
}

// Agents lists agents in the order of their ids.
func (r *Registry) Agents(ctx context.Context, after string, limit int) ([]Agent, error) {
	found, err := r.list(ctx, "agent ", after, limit)
	list := make([]Agent, 0, len(found))
	for _, p := range found {
		list = append(list, *p.agent)
	}
	return list, err
}

// Clients lists the clients that are no agents in the order of their ids.
func (r *Registry) Clients(ctx context.Context, after string, limit int) ([]Client, error) {
	found, err := r.list(ctx, "client ", after, limit)
	list := make([]Client, 0, len(found))
	for _, p := range found {
		list = append(list, *p.client)
	}
	return list, err
}

// Claim takes an id for a kind of thing ("agent", "client", "user", "resource …"); nothing of another kind can have
// it, ever. Claiming it again for the same kind succeeds.
func (r *Registry) Claim(ctx context.Context, id, kind string) error {
	out, err := store.Apply(ctx, r.records, store.Commit{
		Partition: taken,
		If:        []store.Condition{{Name: id, Is: store.Absent}},
		Writes:    []store.Write{{Name: id, Value: []byte(kind)}},
	})
	if err != nil {
		return err
	}
	if !out.Applied && string(out.Seen[0].Value) != kind {
		return fmt.Errorf("%q belongs to a %s: %w", id, out.Seen[0].Value, ErrTaken)
	}
	return nil
}

// claimNames takes what only one agent or client may be called.
func (r *Registry) claimNames(ctx context.Context, id, name, spiffe string) error {
	if err := r.look(ctx, id, name); err != nil {
		return err
	}
	return r.claimSPIFFE(ctx, id, spiffe)
}

func (r *Registry) party(ctx context.Context, id string) (party, uint64, error) {
	if !validID(id) {
		return party{}, 0, ErrNotFound
	}
	recs, err := store.Read(ctx, r.records, store.Key{Partition: parties, Name: id})
	if err != nil {
		return party{}, 0, err
	}
	if !recs[0].Exists() {
		return party{}, 0, fmt.Errorf("%q: %w", id, ErrNotFound)
	}
	p, err := r.readParty(recs[0])
	return p, recs[0].Version, err
}

// partyKey is the copy of a registration, to be read along with other things.
func (r *Registry) partyKey(id string) store.Key { return store.Key{Partition: parties, Name: id} }

// readParty parses a registration, once for each version of it.
func (r *Registry) readParty(rec store.Record) (party, error) {
	if p, ok := r.seen.Get(rec.Key, rec.Version); ok {
		return p.(party), nil //nolint:errcheck // only parties are put under keys of this partition
	}
	var s stored
	if err := json.Unmarshal(rec.Value, &s); err != nil {
		return party{}, fmt.Errorf("read registration %q: %w", rec.Name, err)
	}
	p := party{agent: s.Agent, client: s.Client}
	if p.agent != nil {
		p.fingerprint = p.agent.Fingerprint()
	}
	if err := p.readKeys(); err != nil {
		return party{}, fmt.Errorf("read keys of %q: %w", rec.Name, err)
	}
	r.seen.Put(rec.Key, rec.Version, p)
	return p, nil
}

func (r *Registry) put(ctx context.Context, id, order string, s stored, version uint64) (uint64, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	out, err := r.mirror.Commit(ctx, store.Commit{
		Partition: parties,
		If:        []store.Condition{at(id, version)},
		Writes: []store.Write{
			{Name: id, Value: value},
			{Name: order + id, Value: []byte("1"), Listed: true},
		},
	})
	if err := changed(out, err); err != nil {
		return 0, err
	}
	return out.Wrote[0].Version, nil
}

func (r *Registry) list(ctx context.Context, order, after string, limit int) ([]party, error) {
	recs, err := r.records.List(ctx, parties, order+after, limit)
	if err != nil {
		return nil, err
	}
	var keys []store.Key
	for _, rec := range recs {
		if id, ok := strings.CutPrefix(rec.Name, order); ok {
			keys = append(keys, r.partyKey(id))
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	if recs, err = store.Read(ctx, r.records, keys...); err != nil {
		return nil, err
	}
	list := make([]party, 0, len(recs))
	for _, rec := range recs {
		if !rec.Exists() {
			continue
		}
		p, err := r.readParty(rec)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// at is the condition that a record is as the caller knew it, version zero standing for absent.
func at(name string, version uint64) store.Condition {
	if version == 0 {
		return store.Condition{Name: name, Is: store.Absent}
	}
	return store.Condition{Name: name, Is: store.AtVersion, Version: version}
}

func changed(out store.Outcome, err error) error {
	if err == nil && !out.Applied {
		return ErrChanged
	}
	return err
}

// unavailable turns an error of a store into the refusal for it.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*oauth.Error](err); ok {
		return err
	}
	return oauth.Unavailable(err)
}

// SeenAgent is an agent as this process last saw it, or as the store has it: for what may be a moment old, such as its labels.
func (r *Registry) SeenAgent(ctx context.Context, id string) (Agent, error) {
	if a, ok := r.GuessAgent(id); ok {
		return a, nil
	}
	if !validID(id) {
		return Agent{}, ErrNotFound
	}
	recs, err := r.mirror.Read(ctx, r.partyKey(id))
	if err != nil {
		return Agent{}, err
	}
	if !recs[0].Exists() {
		return Agent{}, ErrNotFound
	}
	p, err := r.readParty(recs[0])
	if err != nil || p.agent == nil {
		return Agent{}, errors.Join(err, ErrNotFound)
	}
	return *p.agent, nil
}

// GuessAgent is an agent as this process last saw it: only good for deciding what else to read.
func (r *Registry) GuessAgent(id string) (Agent, bool) {
	seen, _, _ := r.seen.Latest(r.partyKey(id))
	if p, ok := seen.(party); ok && p.agent != nil {
		return *p.agent, true
	}
	return Agent{}, false
}
