package redis

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
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

// target is what a URL says: how to connect, and what is wanted of replicas.
type target struct {
	*redis.UniversalOptions
	replicas replicas
}

// parse turns a URL into client options. Its errors never quote the URL, which may hold a password.
func parse(address string) (target, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	transport, kind, _ := strings.Cut(scheme, "+")
	if !ok || transport != "redis" && transport != "rediss" || kind != "" && kind != "sentinel" && kind != "cluster" {
		return target{}, errURL
	}
	single, hosts := split(rest)
	u, err := url.Parse(transport + "://" + single)
	if err != nil {
		return target{}, errURL
	}
	q := u.Query()
	if err := refused(q); err != nil {
		return target{}, err
	}
	ours := take(q, kind)
	u.RawQuery = q.Encode()
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return target{}, fmt.Errorf("redis url: %w", reason(err))
	}
	t := target{UniversalOptions: universal(o)}
	switch kind {
	case "sentinel":
		t.MasterName, t.SentinelUsername, t.SentinelPassword = ours["master"], ours["sentinel_username"], ours["sentinel_password"]
	case "cluster":
		t.IsClusterMode = true
	}
	if err := several(t.UniversalOptions, kind, append([]string{o.Addr}, hosts...)); err != nil {
		return target{}, err
	}
	if err := secure(t.TLSConfig, ours); err != nil {
		return target{}, err
	}
	t.replicas, err = wanted(ours, t.ReadTimeout)
	return t, err
}

// refused refuses what the client library would take and this engine must not.
func refused(q url.Values) error {
	switch {
	case q.Has("max_retries"):
		return errors.New("redis url: max_retries cannot be set, because a commit is never repeated")
	case q.Has("skip_verify"):
		return errors.New("redis url: skip_verify cannot be set: name the certificate of the authority in ca_file")
	}
	for name, values := range q {
		if len(values) > 1 {
			return fmt.Errorf("redis url: %s is there twice", name)
		}
	}
	return nil
}

// take takes the parameters out of a query that the client library does not know.
func take(q url.Values, kind string) map[string]string {
	names := []string{"ca_file", "cert_file", "key_file", "server_name", "replicas", "replicas_timeout"}
	if kind == "sentinel" {
		names = append(names, "master", "sentinel_username", "sentinel_password")
	}
	ours := map[string]string{}
	for _, name := range names {
		if q.Has(name) {
			ours[name] = q.Get(name)
			q.Del(name)
		}
	}
	return ours
}

// secure sets whom the servers are known by, and what this side shows. Files are read once.
func secure(c *tls.Config, ours map[string]string) error {
	for _, name := range []string{"ca_file", "cert_file", "key_file", "server_name"} {
		if _, set := ours[name]; set && c == nil {
			return fmt.Errorf("redis url: %s wants rediss://", name)
		}
	}
	if name := ours["server_name"]; name != "" {
		c.ServerName = name
	}
	if file := ours["ca_file"]; file != "" {
		data, err := os.ReadFile(file) //nolint:gosec // the operator says which file
		if err != nil {
			return fmt.Errorf("redis url: ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(data) {
			return fmt.Errorf("redis url: ca_file: %s has no certificate in PEM", file)
		}
	}
	if (ours["cert_file"] == "") != (ours["key_file"] == "") {
		return errors.New("redis url: cert_file and key_file go together")
	}
	if ours["cert_file"] == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(ours["cert_file"], ours["key_file"])
	if err != nil {
		return fmt.Errorf("redis url: cert_file and key_file: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return nil
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
