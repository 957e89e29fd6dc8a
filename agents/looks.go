package agents

import (
	"context"
	"errors"
	"fmt"

	"obolus/agents/names"
	"obolus/store"
)

// looks is who has which name, by what the name looks like at a glance: people decide by names, so that no two agents or clients may
// be taken for each other (Unicode Technical Standard 39, section 4).
const looks = "looks"

// look takes the look of a name for an agent or a client. One whose holder has gone, or is called otherwise by now, is free.
func (r *Registry) look(ctx context.Context, id, name string) error {
	if err := names.Check(name); err != nil {
		return invalid("the name of %q: %v", id, err)
	}
	skeleton := names.Skeleton(name)
	cond := store.Condition{Name: skeleton, Is: store.Absent}
	for {
		out, err := store.Apply(ctx, r.records, store.Commit{
			Partition: looks, If: []store.Condition{cond}, Writes: []store.Write{{Name: skeleton, Value: []byte(id)}},
		})
		if err != nil || out.Applied {
			return err
		}
		seen := out.Seen[0]
		if string(seen.Value) == id {
			return nil
		}
		holder, err := r.called(ctx, string(seen.Value))
		if err != nil {
			return err
		}
		if holder != "" && names.Skeleton(holder) == skeleton {
			return fmt.Errorf("%q looks like %q, the name of %q: %w", name, holder, seen.Value, ErrTaken)
		}
		cond = store.Condition{Name: skeleton, Is: store.AtVersion, Version: seen.Version}
		if !seen.Exists() {
			cond = store.Condition{Name: skeleton, Is: store.Absent}
		}
	}
}

// called is the name of an agent or a client; empty if there is none.
func (r *Registry) called(ctx context.Context, id string) (string, error) {
	p, _, err := r.party(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	case p.agent != nil:
		return p.agent.Name, nil
	case p.client != nil:
		return p.client.called(), nil
	default:
		return "", nil
	}
}
