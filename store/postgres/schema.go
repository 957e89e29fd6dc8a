package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"

	"github.com/jackc/pgx/v5"
)

// layout is the version of the schema that this program knows. Another layout comes with functions that change the old one.
const layout = 1

// The spaces of advisory locks, which all users of a database share: partitions, the ears of those who watch, the making of the
// schema, and its use.
const (
	lockPartition = 0x0b0100
	lockEar       = 0x0b0101
	lockSchema    = 0x0b0102
	lockUse       = 0x0b0103

	stripes = 4096 // partitions share this many locks, so that a transaction never needs more than the server has
	ears    = 64
)

//go:embed schema.sql
var schemaSQL string

// words are the statements for one schema.
type words struct {
	name    string
	schema  string // the name, quoted
	channel string
	salt    string
	use     int32 // the lock of the schema in the space of lockUse

	hold, apply, read, list, clock, sweep, moment, walk string
}

func wordsFor(schema string) words {
	quoted := pgx.Identifier{schema}.Sanitize()
	sum := sha256.Sum256([]byte(schema))
	const now = "floor(extract(epoch from statement_timestamp()) * 1000)::bigint"
	const alive = "(r.expires is null or r.expires > " + now + ")"
	return words{
		name:    schema,
		schema:  quoted,
		channel: "obolus_" + hex.EncodeToString(sum[:8]),
		salt:    schema + "\x00",
		use:     int32(binary.BigEndian.Uint32(sum[:])), //nolint:gosec // any 32 bits will do

		hold:  "select " + quoted + ".hold($1)",
		apply: "select * from " + quoted + ".apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
		read: "select coalesce(r.version, 0), coalesce(r.expires, 0), r.value" +
			" from unnest($1::text[], $2::text[]) with ordinality k(partition, name, place)" +
			" left join lateral (select * from " + quoted + ".records r where r.partition = k.partition and r.name = k.name and " + alive +
			" limit 1) r on true order by k.place",
		list: "select r.name, r.version, coalesce(r.expires, 0), r.value from " + quoted + ".records r" +
			" where r.partition = $1 and r.name > $2 and r.listed and " + alive +
			" order by r.name limit $3",
		clock: "select floor(extract(epoch from clock_timestamp()) * 1000000)::bigint, case when $1 then " + quoted + ".fence() else '' end",
		sweep: "delete from " + quoted + ".records where ctid = any (array(select r.ctid from " + quoted + ".records r" +
			" where r.expires <= " + now + " order by r.expires limit $1 for update skip locked))",
		moment: "select floor(extract(epoch from clock_timestamp()) * 1000000)::bigint, last_value - (not is_called)::int from " + quoted + ".versions",
		walk: "select r.partition, r.name, r.version, coalesce(r.expires, 0), r.listed, r.value from " + quoted + ".records r" +
			" where (r.partition, r.name) > ($1, $2) and (r.expires is null or r.expires > $3)" +
			" order by r.partition, r.name limit $4",
	}
}

// plainName says whether a name needs no quotes anywhere.
func plainName(s string) bool {
	for i := range len(s) {
		letter := s[i] >= 'a' && s[i] <= 'z'
		if !letter && (i == 0 || s[i] != '_' && (s[i] < '0' || s[i] > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// stripe is the lock of a partition.
func (w words) stripe(partition string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.salt + partition)) // it never fails
	return int32(h.Sum32() % stripes)
}

// inspect refuses a server that cannot serve, and tells what could lose data.
func inspect(ctx context.Context, c *pgx.Conn) (warnings []string, err error) {
	var version int
	var encoding, fsync, pages string
	err = c.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('fsync'), current_setting('full_page_writes')`).Scan(&version, &encoding, &fsync, &pages)
	if err != nil {
		return nil, err
	}
	if version < 130000 {
		return nil, fmt.Errorf("version %d is too old: 13 is the least", version/10000)
	}
	if encoding != "UTF8" {
		return nil, fmt.Errorf("the database is encoded in %s: create one with encoding UTF8", encoding)
	}
	if fsync == "off" {
		warnings = append(warnings, "postgres runs with fsync off: a crash of its machine loses what was acknowledged")
	}
	if pages == "off" {
		warnings = append(warnings, "postgres runs with full_page_writes off: a crash of its machine may damage what was acknowledged")
	}
	return warnings, nil
}

// create makes the schema unless it is there. Of several processes that do so at once, one makes it.
func (w words) create(ctx context.Context, c *pgx.Conn) error {
	if found, err := w.version(ctx, c); err != nil || found {
		return err
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1, 0)", lockSchema); err != nil {
			return err
		}
		if found, err := w.version(ctx, c); err != nil || found {
			return err
		}
		text := "create schema if not exists " + w.schema + ";\n" +
			"create table " + w.schema + ".about (layout int not null, id text not null);\n" +
			fmt.Sprintf("insert into "+w.schema+".about values (%d, '%s');\n", layout, rand.Text()) +
			fmt.Sprintf(schemaSQL, w.schema, lockPartition, lockEar)
		_, err := tx.Conn().PgConn().Exec(ctx, text).ReadAll()
		return err
	})
}

// version says whether the schema is there, and refuses one that this program does not know.
func (w words) version(ctx context.Context, c *pgx.Conn) (found bool, err error) {
	var there bool
	// Asked of the catalog, because looking a name up remembers that it was not there a moment ago.
	err = c.QueryRow(ctx, `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relname = 'about')`, w.name).Scan(&there)
	if err != nil || !there {
		return false, err
	}
	var of int
	if err := c.QueryRow(ctx, "select layout from "+w.schema+".about").Scan(&of); err != nil {
		return false, err
	}
	if of != layout {
		return false, fmt.Errorf("schema %s has layout %d, and this program knows %d: use the program that made it", w.schema, of, layout)
	}
	return true, nil
}
