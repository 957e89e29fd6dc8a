package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

// inspect asks every master whether it can serve, which also tells whether it is there.
func (e *Engine) inspect(ctx context.Context) error {
	switch c := e.client.(type) {
	case *redis.Client:
		warnings, err := e.inspectOne(ctx, c)
		e.warnings = warnings
		return err
	case *redis.ClusterClient:
		var mu sync.Mutex
		err := c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			warnings, err := e.inspectOne(ctx, c)
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

// inspectOne refuses a server that is too old, or that evicts: a record that says that a token was spent must not go before
// the one that says that it may be.
func (e *Engine) inspectOne(ctx context.Context, c *redis.Client) (warnings []string, err error) {
	pipe := c.Pipeline()
	server, memory := pipe.Info(ctx, "server"), pipe.Info(ctx, "memory")
	replication, persistence := pipe.Info(ctx, "replication"), pipe.Info(ctx, "persistence")
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
	return append(warnings, e.copies(ctx, c, replication.Val(), persistence.Val())...), nil
}

// copies says what is weak about the replicas of a server. Nothing on disk matters where there are some: a master that comes
// back empty before it is missed empties them too.
func (e *Engine) copies(ctx context.Context, c *redis.Client, replication, persistence string) (warnings []string) {
	online := strings.Count(replication, "state=online")
	if online < e.replicas.least {
		warnings = append(warnings, fmt.Sprintf(
			"redis has %d replicas in step and %d must confirm: until there are as many nothing is redeemed, exchanged or stopped", online, e.replicas.least))
	}
	if field(replication, "connected_slaves") == "0" {
		return warnings
	}
	if field(replication, "min_slaves_good_slaves") == "" {
		warnings = append(warnings, "redis has replicas and min-replicas-to-write 0: a master that was cut off from them goes on answering")
	}
	saves := c.ConfigGet(ctx, "save").Val() // the account may not be allowed to ask
	if points, known := saves["save"]; known && points == "" && field(persistence, "aof_enabled") == "0" {
		warnings = append(warnings, "redis has replicas and keeps nothing on disk: a master that starts again comes back empty and empties them too: set appendonly yes")
	}
	return warnings
}
