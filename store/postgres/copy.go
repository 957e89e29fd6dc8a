package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"obolus/store"
)

// patient lets a transaction take its time: a look waits for who looks, and a load for the disk.
const patient = "set local statement_timeout = '10min'; set local idle_in_transaction_session_timeout = '10min'"

// Snapshot shows the schema as one transaction sees it, on a connection of its own. As long as it lasts PostgreSQL keeps what was
// replaced meanwhile.
func (e *Engine) Snapshot(ctx context.Context, use func(store.Snapshot) error) error {
	var failed error // by the caller's doing
	err := e.within(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var micros, last int64
		if err := tx.QueryRow(ctx, e.words.moment).Scan(&micros, &last); err != nil {
			return err
		}
		s := store.Snapshot{Now: time.UnixMicro(micros).UTC(), Last: uint64(last)} //nolint:gosec // it counts up from one
		s.Page = func(after store.Key, limit int) ([]store.Entry, error) {
			if err := store.ValidatePage(after, limit); err != nil {
				return nil, err
			}
			page, err := e.words.page(ctx, tx, after, limit, s.Now)
			if err != nil {
				return nil, unavailable(err)
			}
			return page, nil
		}
		failed = use(s)
		return failed
	})
	if failed != nil {
		return failed
	}
	return err
}

// within runs work in a transaction that may take long.
func (e *Engine) within(ctx context.Context, o pgx.TxOptions, work func(pgx.Tx) error) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	return e.pool.use(ctx, func(c *pgx.Conn) error {
		return pgx.BeginTxFunc(ctx, c, o, func(tx pgx.Tx) error {
			if _, err := tx.Conn().PgConn().Exec(ctx, patient).ReadAll(); err != nil {
				return err
			}
			return work(tx)
		})
	})
}

func (w words) page(ctx context.Context, tx pgx.Tx, after store.Key, limit int, now time.Time) ([]store.Entry, error) {
	rows, err := tx.Query(ctx, w.walk, after.Partition, after.Name, now.UnixMilli(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []store.Entry
	for weight := 0; weight < store.PageWeight && rows.Next(); {
		var k store.Key
		var r raw
		var listed bool
		if err := rows.Scan(&k.Partition, &k.Name, &r.version, &r.expires, &listed, &r.value); err != nil {
			return nil, err
		}
		weight += len(r.value)
		page = append(page, store.Entry{Record: r.record(k), Listed: listed})
	}
	rows.Close()
	return page, rows.Err()
}

// Load puts entries in as they are. To clear a schema the account must be one that may change all of it, as the one that made it.
func (e *Engine) Load(ctx context.Context, l store.Load) error {
	if err := l.Validate(); err != nil {
		return err
	}
	last := l.Last
	rows := make([][]any, len(l.Entries))
	for i, entry := range l.Entries {
		last = max(last, entry.Version)
		var expires *int64
		if !entry.Expires.IsZero() {
			ms := entry.Expires.UnixMilli()
			expires = &ms
		}
		rows[i] = []any{entry.Partition, entry.Name, int64(entry.Version), expires, entry.Listed, some(entry.Value)} //nolint:gosec // it is below 1<<53
	}
	id := rand.Text()
	err := e.within(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if l.Clear {
			if _, err := tx.Exec(ctx, "delete from "+e.words.schema+".records"); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "update "+e.words.schema+".about set id = $1", id); err != nil {
				return err
			}
		}
		columns := []string{"partition", "name", "version", "expires", "listed", "value"}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{e.words.name, "records"}, columns, pgx.CopyFromRows(rows)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "select "+e.words.schema+".pass($1)", int64(last)) //nolint:gosec // so is this
		return err
	})
	if said, ok := errors.AsType[*pgconn.PgError](err); ok && said.Code == "23505" {
		return fmt.Errorf("%w: what is loaded is there already", store.ErrInvalid)
	}
	if err == nil && l.Clear {
		e.id.Store(&id)
	}
	return err
}

// take is the part of a new connection that takes hold of the schema: together with others, or alone. So whoever has the schema
// alone knows that nobody else can ask it anything, and a process that had it before, and lost all its connections meanwhile,
// learns from the id whether the records are still those that it knew.
func (e *Engine) take(ctx context.Context, c *pgconn.PgConn) error {
	how := "pg_try_advisory_lock_shared"
	if e.alone {
		how = "pg_try_advisory_lock"
	}
	got, err := "", error(nil)
	for range lockTries {
		if got, err = word(ctx, c, fmt.Sprintf("select %s(%d, %d)", how, lockUse, e.words.use)); got == "t" || err != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(lockPause):
		}
	}
	switch {
	case err != nil:
		return err
	case got == "t":
	case e.alone:
		return errServed
	default:
		return errAlone
	}
	known := e.id.Load()
	if known == nil {
		return nil
	}
	id, err := word(ctx, c, "select id from "+e.words.schema+".about")
	if err == nil && id != *known {
		err = errReplaced
	}
	return err
}

// A connection that was closed holds its lock until the server has noticed.
const (
	lockTries = 20
	lockPause = 25 * time.Millisecond
)

// What a connection is refused with.
var (
	errServed   = fmt.Errorf("%w: a server, or a command", store.ErrLocked)
	errAlone    = fmt.Errorf("%w, which needs it alone: a restore or a migration", store.ErrLocked)
	errReplaced = errors.New("the records were replaced while this process had no connection: start it anew")
)

// word is the one value that a statement gives.
func word(ctx context.Context, c *pgconn.PgConn, statement string) (string, error) {
	results, err := c.Exec(ctx, statement).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
		return "", errAnswer
	}
	return string(results[0].Rows[0][0]), nil
}
