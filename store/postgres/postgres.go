// Package postgres is the engine that remembers, for many machines: PostgreSQL 13 or later. Records are rows of one table; a
// commit is a call of one function, which holds the partition's lock until it is on disk; a batch is one pipeline and
// one transaction, shared with the batches that wait at the same time.
//
// It keeps what PostgreSQL keeps. It turns synchronous_commit on for its own sessions; Warnings tells what else in the
// server's configuration could lose what was acknowledged. Fence says which losses are noticed.
//
// Sessions carry settings and prepared statements, so a pooler between must pool sessions, not transactions.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"obolus/store"
	"obolus/store/internal/turns"
)

// Options are what a URL does not say.
type Options struct {
	// Schema is where the table and the functions are; "obolus" when empty. It is created when it is not there.
	Schema string
	// MaxConns is how many connections there are at most, besides the one for watching; ten when zero. The URL's
	// pool_max_conns goes before it.
	MaxConns int
	// Alone opens the schema only if nobody else uses it, and keeps others out: what they are told is store.ErrLocked. There
	// is one connection then, and no watching.
	Alone bool
}

const (
	defaultSchema = "obolus"
	defaultConns  = 10

	connectTimeout = 5 * time.Second // for each host of the URL, unless it says otherwise
	callTimeout    = 10 * time.Second
)

var _ store.Durable = (*Engine)(nil)

// Engine is a schema in a database.
type Engine struct {
	pool     *pool
	words    words
	life     context.Context //nolint:containedctx // what is shared by callers ends with the engine, not with one of them
	end      context.CancelFunc
	desk     *turns.Desk
	listener *listener
	sweeping sync.WaitGroup
	warnings []string
	alone    bool
	id       atomic.Pointer[string] // that the schema had when it was opened
	closed   atomic.Bool
}

// Open connects to the database that the URL names, in the form of libpq, and makes the schema in it if need be. Of the
// context only the values live on.
func Open(ctx context.Context, url string, o Options) (*Engine, error) {
	config, conns, err := parse(url)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Alone:
		conns = 1
	case conns == 0 && o.MaxConns == 0:
		conns = defaultConns
	case conns == 0:
		conns = o.MaxConns
	}
	if o.Schema == "" {
		o.Schema = defaultSchema
	}
	if !plainName(o.Schema) {
		return nil, errors.New("postgres schema wants a name of a-z, 0-9 and _ that starts with a letter")
	}
	e := &Engine{pool: newPool(config, conns), words: wordsFor(o.Schema), alone: o.Alone}
	config.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		if err := settle(ctx, c); err != nil {
			return err
		}
		return e.take(ctx, c)
	}
	e.life, e.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := e.prepare(ctx); err != nil {
		e.end()
		e.pool.close(ctx)
		return nil, err
	}
	e.listener = newListener(e.life, config, e.words)
	e.desk = turns.Open(max(1, conns/2), e.turn)
	e.sweeping.Go(e.sweep)
	return e, nil
}

// prepare checks the server and makes the schema.
func (e *Engine) prepare(ctx context.Context) error {
	return e.pool.use(ctx, func(c *pgx.Conn) error {
		warnings, err := inspect(ctx, c)
		if err != nil {
			return err
		}
		e.warnings = warnings
		if err := e.words.create(ctx, c); err != nil {
			return err
		}
		id, err := word(ctx, c.PgConn(), "select id from "+e.words.schema+".about")
		e.id.Store(&id)
		return err
	})
}

// Warnings are sentences about settings of the server, as it was opened, under which an acknowledged change may be lost.
func (e *Engine) Warnings() []string { return e.warnings }

// Do carries out a batch in one round trip. One with commits goes out with others that are waiting.
func (e *Engine) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if err := b.Validate(); err != nil {
		return store.Results{}, err
	}
	if err := e.open(ctx); err != nil {
		return store.Results{}, err
	}
	if len(b.Commits) > 0 {
		return e.desk.Do(ctx, b)
	}
	p := e.pipeline([]*turns.Turn{{Batch: b}})
	if err := e.pool.use(ctx, func(c *pgx.Conn) error { return p.send(ctx, c) }); err != nil {
		return store.Results{}, err
	}
	return p.result(0)
}

// turn carries out the batches that were taken in one transaction. What PostgreSQL gave up for the sake of another
// transaction has not happened, and is tried again.
func (e *Engine) turn(taken []*turns.Turn) {
	ctx, cancel := context.WithTimeout(e.life, callTimeout)
	defer cancel()
	p := e.pipeline(taken)
	var err error
	for range tries {
		err = e.pool.use(ctx, func(c *pgx.Conn) error { return p.send(ctx, c) })
		if !gaveWay(err) {
			break
		}
	}
	for i, t := range taken {
		if err != nil {
			t.Answer(store.Results{}, err)
			continue
		}
		t.Answer(p.result(i))
	}
}

// tries is how often a transaction that gave way to another is sent.
const tries = 5

// gaveWay tells a transaction that was chosen to end so that another could go on: serialization failure or deadlock.
func gaveWay(err error) bool {
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (said.Code == "40001" || said.Code == "40P01")
}

// List returns the listed records of a partition in order.
func (e *Engine) List(ctx context.Context, partition, after string, limit int) ([]store.Record, error) {
	if err := store.ValidateList(partition, after, limit); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	var found []store.Record
	err := e.pool.use(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, e.words.list, partition, after, limit)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Record, error) {
			var r raw
			rec := store.Record{Key: store.Key{Partition: partition}}
			err := row.Scan(&rec.Name, &r.version, &r.expires, &r.value)
			return r.record(rec.Key), err
		})
		return err
	})
	return found, err
}

// Watch hears what the commits of all processes announce. All watches of an engine share one connection.
func (e *Engine) Watch(ctx context.Context, partition string) (<-chan string, error) {
	if err := store.ValidateList(partition, "", 1); err != nil {
		return nil, err
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	ch, err := e.listener.watch(ctx, partition)
	if err != nil {
		return nil, unavailable(err)
	}
	return ch, nil
}

// Fence names a random word made with the schema, the identity of the server, its timeline, and those of the database and
// of the table. So it differs after a promotion, a recovery to a point in time, and a dump that was restored in another
// place or into a new table. It does not after a stopped server's files were replaced by an older copy of them, or rows
// were replaced in the same table. Where the account may not ask for one of these (as with some services that are run by
// others), that one is left out.
func (e *Engine) Fence(ctx context.Context) (string, error) {
	if err := e.open(ctx); err != nil {
		return "", err
	}
	var fence string
	err := e.pool.use(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "select "+e.words.schema+".fence()").Scan(&fence)
	})
	return fence, err
}

// sweep removes the dead, a bounded number at a time.
func (e *Engine) sweep() {
	pause := time.NewTicker(sweepEvery)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-e.life.Done():
			return
		}
		for {
			var removed int64
			err := e.pool.use(e.life, func(c *pgx.Conn) error {
				tag, err := c.Exec(e.life, e.words.sweep, sweepMost)
				removed = tag.RowsAffected()
				return err
			})
			if err != nil || removed < sweepMost {
				break // the dead are invisible, so it can wait
			}
		}
	}
}

const (
	sweepEvery = 5 * time.Second
	sweepMost  = 500
)

// Close lets what was taken on end, and closes all connections.
func (e *Engine) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.desk.Close()
	e.end()
	e.listener.close()
	e.sweeping.Wait()
	e.pool.close(e.life)
	return nil
}

func (e *Engine) open(ctx context.Context) error {
	if e.closed.Load() {
		return unavailable(errClosed)
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

var errClosed = errors.New("engine is closed")

// unavailable wraps an error. A failed connection has several lines and names the account and the database; it is made one
// line. Neither it nor any other error has the password or the URL.
func unavailable(err error) error {
	if errors.Is(err, store.ErrUnavailable) {
		return err
	}
	for _, told := range []error{errServed, errAlone, errReplaced} {
		if errors.Is(err, told) {
			return fmt.Errorf("%w: postgres: %w", store.ErrUnavailable, told)
		}
	}
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return fmt.Errorf("%w: postgres: %s", store.ErrUnavailable, strings.Join(strings.Fields(failed.Error()), " "))
	}
	return fmt.Errorf("%w: postgres: %w", store.ErrUnavailable, err)
}
