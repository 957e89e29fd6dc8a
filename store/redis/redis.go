// Package redis is the live store of many machines: Redis 6.2 or later, or Valkey, alone, under Sentinel or as a
// Cluster. Commits are scripts, a partition is a hash tag, and a batch is one pipeline; to one server, batches that are asked for at the
// same time go as one.
//
// It keeps what Redis keeps. A Redis that may evict records is refused; continuity.go says which losses are noticed, and
// Warnings which setting lets one pass. A failover is noticed, and opens a new epoch; replicas.go says what it is good for to
// wait for replicas all the same.
//
// The account needs the commands get, getex, getrange, set, del, incrby, persist, pexpireat, zadd, zcard, zrem, zrangebylex,
// zrangebyscore, zrevrange, publish, subscribe, unsubscribe, evalsha, script|load, info, time, ping and, with a Cluster,
// cluster|slots, with replicas to wait for, wait, on the keys and channels that start with the prefix. With config|get it is
// also told when a server keeps nothing on disk.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

var _ store.Engine = (*Engine)(nil)

// Engine is a Redis. Versions are microseconds of its clock or, within one of them, one more than the last.
type Engine struct {
	client   redis.UniversalClient
	prefix   string
	cluster  bool
	listener *listener
	fence    continuity
	ferry    ferry
	replicas replicas
	warnings []string
	closed   atomic.Bool
}

// Open connects to the Redis that the URL names: redis:// and rediss:// for one, redis+sentinel://host,host/db?master=name,
// redis+cluster://host,host. Timeouts, pool sizes and the like are parameters of the URL as in go-redis. Those of this package
// are ca_file, cert_file, key_file and server_name for TLS, and replicas and replicas_timeout.
//
// A call ends at its context's deadline. A context that is cancelled earlier is noticed before and after a round trip,
// which the read timeout (a second) bounds.
func Open(ctx context.Context, address string, o Options) (*Engine, error) {
	opts, err := parse(address)
	if err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if strings.ContainsAny(o.Prefix, "{}") {
		return nil, errors.New("redis prefix must not have braces")
	}
	silent.Do(func() { redis.SetLogger(mute{}) })
	e := &Engine{prefix: o.Prefix, replicas: opts.replicas}
	opts.OnConnect = e.greet
	e.client = redis.NewUniversalClient(opts.UniversalOptions)
	_, e.cluster = e.client.(*redis.ClusterClient)
	e.listener = newListener(e.client)
	for _, hook := range o.Hooks {
		e.client.AddHook(hook)
	}
	if err := e.inspect(ctx); err != nil {
		_ = e.Close() // it was never used
		return nil, err
	}
	return e, nil
}

// Everything that goes wrong is in the errors, so the client library, which has one logger for the process, says nothing.
var silent sync.Once //nolint:gochecknoglobals // as the logger is

type mute struct{}

// Printf says nothing.
func (mute) Printf(context.Context, string, ...any) {}

// Warnings are sentences about settings of the servers, as they were opened, under which a loss may go unnoticed.
func (e *Engine) Warnings() []string { return e.warnings }

// Do sends a batch as one pipeline, or with others as one; to a Cluster, one to each node concerned, at the same time.
func (e *Engine) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	res, err := e.do(ctx, b)
	e.doubt(ctx, err)
	return res, err
}

// doubt makes the client of a Cluster ask anew who holds which slots when a node did not answer: another one may have
// taken its place.
func (e *Engine) doubt(ctx context.Context, err error) {
	if c, ok := e.client.(*redis.ClusterClient); ok && errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
		c.ReloadState(ctx)
	}
}

func (e *Engine) do(ctx context.Context, b store.Batch) (store.Results, error) {
	if err := b.Validate(); err != nil {
		return store.Results{}, err
	}
	if err := e.open(ctx); err != nil {
		return store.Results{}, err
	}
	known, err := e.knownAs(ctx, b.Fence)
	if err != nil {
		return store.Results{}, err
	}
	p := e.pipeline(ctx, b, known)
	e.send(ctx, b, p)
	if b.Fence == "" && p.unheard() {
		if err := load(ctx, e.client); err != nil {
			return store.Results{}, unavailable(err)
		}
		p = e.pipeline(ctx, b, known)
		e.send(ctx, b, p)
	}
	if known != nil && (p.broken() || e.fence.strangers.Load() != known.strangers) {
		return store.Results{}, store.ErrFence
	}
	res, err := p.results(b)
	if err != nil {
		return store.Results{}, err
	}
	return res, e.confirm(ctx, b, known)
}

// send sends a pipeline; in a Cluster by itself, for it goes to many servers, of which one may hang.
func (e *Engine) send(ctx context.Context, b store.Batch, p *pipeline) {
	if e.cluster {
		together([]*passenger{{pipeline: p, ctx: ctx}})
		return
	}
	e.ferry.send(ctx, b, p)
}

// List runs through the index of the partition.
func (e *Engine) List(ctx context.Context, partition, after string, limit int) ([]store.Record, error) {
	if err := store.ValidateList(partition, after, limit); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	base := e.base(partition)
	answer, err := listScript.Run(ctx, e.client, []string{base + indexName, base + deathsName}, base, after, limit).StringSlice()
	if err != nil {
		err = unavailable(err)
		e.doubt(ctx, err)
		return nil, err
	}
	found := make([]store.Record, 0, len(answer)/2)
	for i := 0; i+1 < len(answer); i += 2 {
		rec, err := decode(store.Key{Partition: partition, Name: answer[i]}, answer[i+1])
		if err != nil {
			return nil, err
		}
		found = append(found, rec)
	}
	return found, nil
}

// Watch hears what the commit scripts of all processes publish. All watches of an engine share one connection.
func (e *Engine) Watch(ctx context.Context, partition string) (<-chan string, error) {
	if err := store.ValidateList(partition, "", 1); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	ch, err := e.listener.watch(ctx, e.base(partition))
	if err != nil {
		err = unavailable(err)
		e.doubt(ctx, err)
		return nil, err
	}
	return ch, nil
}

// Close closes all connections.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.listener.close()
	return e.client.Close()
}

func (e *Engine) open(ctx context.Context) error {
	if e.closed.Load() {
		return unavailable(redis.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// base is what the keys of a partition start with, and its channel. Braces and what escapes them are escaped, so that
// the hash tag is the partition and no two partitions share a key.
func (e *Engine) base(partition string) string { return e.prefix + "{" + escape(partition) + "}" }

// key is where a record lies: the base of its partition and its name.
func (e *Engine) key(k store.Key) string { return e.prefix + "{" + escape(k.Partition) + "}" + k.Name }

func escape(partition string) string {
	if strings.ContainsAny(partition, "%{}") {
		return strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D").Replace(partition)
	}
	return partition
}

func unavailable(err error) error {
	return fmt.Errorf("%w: redis: %w", store.ErrUnavailable, err)
}

// field reads one line of what INFO says.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func decode(k store.Key, raw string) (store.Record, error) {
	version, expires, ok := head(raw)
	if !ok {
		return store.Record{}, fmt.Errorf("%w: redis: key of partition %q holds no record", store.ErrUnavailable, k.Partition)
	}
	return store.Record{Key: k, Value: []byte(raw[headSize:]), Version: version, Expires: expires}, nil
}

func head(raw string) (version uint64, expires time.Time, ok bool) {
	if len(raw) < headSize {
		return 0, time.Time{}, false
	}
	if ms := number(raw[8:headSize]); ms != 0 {
		expires = time.UnixMilli(int64(ms)).UTC() //nolint:gosec // the script adds a clock and a duration
	}
	return number(raw[:8]), expires, true
}

func number(b string) (n uint64) {
	for i := range len(b) {
		n = n<<8 | uint64(b[i])
	}
	return n
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
