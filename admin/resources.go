package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"obolus/agents"
	"obolus/audit"
	"obolus/token"
)

func (s *Server) resourceRoutes() []route {
	const one = "/resources/{id}"
	return []route{
		{
			method: http.MethodGet, path: "/resources", name: "listResources", about: "Resources in the order of their ids.",
			query: paged(), out: ResourceList{}, do: s.listResources,
		},
		{method: http.MethodGet, path: one, name: "getResource", about: "One resource.", out: agents.Resource{}, do: s.getResource},
		{
			method: http.MethodPut, path: one, name: "putResource", match: true, created: true,
			about: "Register a resource, or change one that was read before (If-Match).",
			in:    agents.Resource{}, out: agents.Resource{}, do: s.putResource,
		},
		{
			method: http.MethodDelete, path: one, name: "removeResource", match: true,
			about: "Take a resource out of the registry: its tokens are refused from then on.", do: s.removeResource,
		},
	}
}

func (s *Server) listResources(ctx context.Context, c call) (answer, error) {
	p, err := c.paging()
	if err != nil {
		return answer{}, err
	}
	list, next, err := shelf[agents.Resource]{
		list:  s.cfg.Resources.Resources,
		id:    func(r agents.Resource) string { return r.ID },
		words: func(r agents.Resource) []string { return append([]string{r.ID, r.Name, r.URI}, r.Aliases...) },
	}.page(ctx, p)
	return answer{body: ResourceList{list, next}}, err
}

func (s *Server) getResource(ctx context.Context, c call) (answer, error) {
	r, version, err := s.cfg.Resources.Resource(ctx, c.id)
	return answer{body: r, version: version}, err
}

func (s *Server) putResource(ctx context.Context, c call) (answer, error) {
	var r agents.Resource
	if err := c.into(&r); err != nil {
		return answer{}, err
	}
	if err := named(&r.ID, c.id); err != nil {
		return answer{}, err
	}
	_, have, err := s.cfg.Resources.Resource(ctx, c.id)
	if err != nil && !errors.Is(err, agents.ErrNotFound) {
		return answer{}, err
	}
	version, err := c.replaced(have)
	if err != nil {
		return answer{}, err
	}
	if r.Redemption == "" {
		r.Redemption = agents.RedemptionNone
		if len(r.Servers) > 0 {
			r.Redemption = agents.RedemptionRequired
		}
	}
	if slices.Contains(token.Algorithms(), r.Algorithm) { // any other one is refused with the rest
		if err := s.cfg.Keys.Ensure(ctx, r.Algorithm); err != nil {
			return answer{}, err
		}
	}
	if version, err = s.cfg.Resources.PutResource(ctx, r, version); err != nil {
		return answer{}, err
	}
	err = s.record(ctx, c, audit.KindRegistry, "resource/"+r.ID, verb(have))
	return answer{body: r, version: version, created: have == 0}, err
}

func (s *Server) removeResource(ctx context.Context, c call) (answer, error) {
	_, have, err := s.cfg.Resources.Resource(ctx, c.id)
	if err != nil {
		return answer{}, err
	}
	if have, err = c.removed(have); err != nil {
		return answer{}, err
	}
	if err := s.cfg.Resources.RemoveResource(ctx, c.id, have); err != nil {
		return answer{}, err
	}
	return answer{}, s.record(ctx, c, audit.KindRegistry, "resource/"+c.id, "removed")
}
