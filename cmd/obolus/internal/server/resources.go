package server

import (
	"context"
	"slices"

	"obolus/admin"
	"obolus/agents"
	"obolus/keys"
	"obolus/token"
)

// resources is the registry of resources as the operators' API needs it: a resource is registered once there is a key for its
// algorithm.
type resources struct {
	*agents.Registry
	ring *keys.Ring
}

var _ admin.Resources = resources{}

// PutResource is for admin.Resources.
func (r resources) PutResource(ctx context.Context, res agents.Resource, version uint64) (uint64, error) {
	if slices.Contains(token.Algorithms(), res.Algorithm) {
		if err := r.ring.Ensure(ctx, res.Algorithm); err != nil {
			return 0, err
		}
	}
	return r.Registry.PutResource(ctx, res, version)
}
