package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

// inspect asks every master whether it can serve, which also tells whether it is there.
func (e *Engine) inspect(ctx context.Context) error {
	switch c := e.client.(type) {
	case *redis.Client:
		warnings, err := inspect(ctx, c)
		e.warnings = warnings
		return err
	case *redis.ClusterClient:
		var mu sync.Mutex
		err := c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			warnings, err := inspect(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			e.warnings = append(e.warnings, warnings...)
			return err
		})
		slices.Sort(e.warnings)
		e.warnings = slices.Compact(e.warnings)
		if err == nil || errors.Is(err, errUnfit) || errors.Is(err, store.ErrUnavailable) {
			return err
		}
		return unavailable(err)
	default:
		return errors.New("client is of an unknown kind")
	}
}

// errUnfit is a Redis that is there and cannot serve.
var errUnfit = errors.New("redis is unfit")

// inspect refuses a server that is too old, or that evicts: a record that says that a token was spent must not go before
// the one that says that it may be.
func inspect(ctx context.Context, c *redis.Client) (warnings []string, err error) {
	pipe := c.Pipeline()
	server, memory, replication := pipe.Info(ctx, "server"), pipe.Info(ctx, "memory"), pipe.Info(ctx, "replication")
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(field(server.Val(), "redis_version"), "%d.%d", &major, &minor); err != nil {
		return nil, fmt.Errorf("%w: it does not tell its version", errUnfit)
	}
	if major < 6 || major == 6 && minor < 2 {
		return nil, fmt.Errorf("%w: %d.%d is too old, 6.2 is the least", errUnfit, major, minor)
	}
	policy, limit := field(memory.Val(), "maxmemory_policy"), field(memory.Val(), "maxmemory")
	if policy != "" && policy != "noeviction" {
		if limit != "0" {
			return nil, fmt.Errorf("%w: it drops records when its memory is full, and a spent token may come back: set maxmemory-policy noeviction (it is %s)", errUnfit, policy)
		}
		warnings = append(warnings, fmt.Sprintf("redis has maxmemory-policy %s, which drops records once maxmemory is set: set it to noeviction", policy))
	}
	if field(replication.Val(), "connected_slaves") != "0" && field(replication.Val(), "min_slaves_good_slaves") == "" {
		warnings = append(warnings, "redis has replicas and min-replicas-to-write 0: a master that was cut off from them goes on answering")
	}
	return warnings, nil
}
