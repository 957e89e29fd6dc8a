package redis

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options are what a URL does not say.
type Options struct {
	// Prefix starts every key and channel, so that several can share a Redis; "obolus:" when empty.
	Prefix string
	// Hooks see every command, for measurements.
	Hooks []redis.Hook
}

const (
	defaultPrefix  = "obolus:"
	defaultTimeout = time.Second
)

var errURL = errors.New("redis url is none of redis://, rediss://, redis+sentinel://host,host/db?master=name, redis+cluster://host,host")

// parse turns a URL into client options. Its errors never quote the URL, which may hold a password.
func parse(address string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	transport, kind, _ := strings.Cut(scheme, "+")
	if !ok || transport != "redis" && transport != "rediss" || kind != "" && kind != "sentinel" && kind != "cluster" {
		return nil, errURL
	}
	single, hosts := split(rest)
	u, err := url.Parse(transport + "://" + single)
	if err != nil {
		return nil, errURL
	}
	q := u.Query()
	if q.Has("max_retries") {
		return nil, errors.New("redis url: max_retries cannot be set, because a commit is never repeated")
	}
	master, sentinelUser, sentinelPassword := q.Get("master"), q.Get("sentinel_username"), q.Get("sentinel_password")
	for _, ours := range []string{"master", "sentinel_username", "sentinel_password"} {
		if kind == "sentinel" {
			q.Del(ours)
		}
	}
	u.RawQuery = q.Encode()
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", reason(err))
	}
	out := universal(o)
	switch kind {
	case "sentinel":
		out.MasterName, out.SentinelUsername, out.SentinelPassword = master, sentinelUser, sentinelPassword
	case "cluster":
		out.IsClusterMode = true
	}
	return out, several(out, kind, append([]string{o.Addr}, hosts...))
}

// several sets the addresses and checks what goes with them.
func several(o *redis.UniversalOptions, kind string, addrs []string) error {
	o.Addrs = addrs
	if kind != "" && o.TLSConfig != nil {
		o.TLSConfig.ServerName = "" // each node is known by its own name
	}
	switch {
	case kind == "" && len(addrs) > 1:
		return errors.New("redis url: more than one host needs redis+sentinel:// or redis+cluster://")
	case kind == "sentinel" && o.MasterName == "":
		return errors.New("redis url: redis+sentinel:// needs ?master=name")
	case kind == "cluster" && o.DB != 0:
		return errors.New("redis url: a cluster has no numbered databases")
	}
	return nil
}

// split takes all hosts but the first out of what follows the scheme.
func split(rest string) (single string, hosts []string) {
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	start := strings.LastIndexByte(rest[:end], '@') + 1
	all := strings.Split(rest[start:end], ",")
	for _, host := range all[1:] {
		if !strings.Contains(host, ":") {
			host += ":6379"
		}
		hosts = append(hosts, host)
	}
	return rest[:start] + all[0] + rest[end:], hosts
}

// reason is an error without the URL that url.Error quotes.
func reason(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

func universal(o *redis.Options) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		DB:         o.DB,
		Protocol:   o.Protocol,
		Username:   o.Username,
		Password:   o.Password,
		ClientName: o.ClientName,
		TLSConfig:  o.TLSConfig,

		MaxRetries:            -1,
		DialerRetries:         1,
		DialTimeout:           cmp.Or(o.DialTimeout, defaultTimeout),
		ReadTimeout:           cmp.Or(o.ReadTimeout, defaultTimeout),
		WriteTimeout:          cmp.Or(o.WriteTimeout, defaultTimeout),
		PoolTimeout:           cmp.Or(o.PoolTimeout, defaultTimeout),
		ContextTimeoutEnabled: true,

		PoolFIFO:              o.PoolFIFO,
		PoolSize:              o.PoolSize,
		PipelinePoolSize:      -1, // everything is a pipeline, so the ordinary pool serves
		MaxConcurrentDials:    o.MaxConcurrentDials,
		MinIdleConns:          o.MinIdleConns,
		MaxIdleConns:          o.MaxIdleConns,
		MaxActiveConns:        o.MaxActiveConns,
		ConnMaxIdleTime:       o.ConnMaxIdleTime,
		ConnMaxLifetime:       o.ConnMaxLifetime,
		ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,

		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
