package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"obolus/store"
	"obolus/store/postgres"
	"obolus/store/storetest"
	"obolus/store/storetest/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, url string, o postgres.Options) *postgres.Engine {
	t.Helper()
	e, err := postgres.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestContract(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	serial := 0
	again := func(t *testing.T) store.Engine {
		t.Helper()
		return open(t, url, postgres.Options{Schema: fmt.Sprint("test", serial)})
	}
	storetest.Run(t, storetest.Suite{
		Open:   func(t *testing.T) store.Engine { serial++; return again(t) },
		Reopen: again,
		Second: again,
	})
}

func BenchmarkDo(b *testing.B) { storetest.Bench(b, open(b, servers.Postgres(b), postgres.Options{})) }

func exec(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, url, sql string, args ...any) int {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	var n int
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func put(t *testing.T, e store.Engine, name string) error {
	t.Helper()
	_, err := store.Apply(t.Context(), e, store.Commit{Partition: "p", Writes: []store.Write{{Name: name, Value: []byte("x")}}})
	return err
}

func TestManyOpenAtOnce(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	var all sync.WaitGroup
	var fences [8]string
	for i := range fences {
		all.Go(func() {
			e, err := postgres.Open(t.Context(), url, postgres.Options{MaxConns: 1})
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Close()
			fences[i], _ = e.Fence(t.Context())
		})
	}
	all.Wait()
	for _, f := range fences {
		if f == "" || f != fences[0] {
			t.Errorf("fences %q", fences)
		}
	}
}

func TestALayoutOfAnotherTimeIsRefused(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	open(t, url, postgres.Options{}).Close()
	exec(t, url, "update obolus.about set layout = 2")
	if _, err := postgres.Open(t.Context(), url, postgres.Options{}); err == nil || !strings.Contains(err.Error(), "layout 2") {
		t.Errorf("got %v", err)
	}
}

func TestAnAccountThatMayOnlyUseTheSchema(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	fence, _ := open(t, url, postgres.Options{}).Fence(t.Context())
	role := "user_" + strings.ToLower(rand.Text())
	exec(t, url, fmt.Sprintf(`create role %[1]s login; grant usage on schema obolus to %[1]s;
		grant select on obolus.about to %[1]s; grant select, insert, update, delete on obolus.records to %[1]s;
		grant select, usage, update on obolus.versions to %[1]s`, role))
	e := open(t, strings.Replace(url, "postgres@", role+"@", 1), postgres.Options{})
	if err := put(t, e, "a"); err != nil {
		t.Error(err)
	}
	if f, err := e.Fence(t.Context()); err != nil || f != fence {
		t.Errorf("fence %q, for the owner %q, %v", f, fence, err)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	e := open(t, url, postgres.Options{MaxConns: 2})
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table obolus.records in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, read := store.Read(ctx, e, store.Key{Partition: "p", Name: "n"})
	_, wrote := store.Apply(ctx, e, store.Commit{Partition: "p", Writes: []store.Write{{Name: "n"}}})
	_, list := e.List(ctx, "p", "", 1)
	for name, err := range map[string]error{"read": read, "commit": wrote, "list": list} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := put(t, e, "n"); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t) + "&pool_max_conns=3"
	e := open(t, url, postgres.Options{MaxConns: 50})
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			for range 5 {
				if err := put(t, e, fmt.Sprint("n", i)); err != nil {
					t.Error(err)
				}
				if _, err := e.List(t.Context(), "p", "", 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	n := count(t, strings.TrimSuffix(url, "&pool_max_conns=3"),
		"select count(*) from pg_stat_activity where datname = current_database() and application_name = 'obolus'")
	if n < 1 || n > 3 {
		t.Errorf("%d connections", n)
	}
}

func TestCommitsTravelTogether(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	e := open(t, url, postgres.Options{MaxConns: 2})
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table obolus.records in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var begun atomic.Int32
	await := func(what string, happened func() bool) {
		t.Helper()
		for late := time.Now().Add(time.Minute); !happened(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("%s did not happen", what)
			}
		}
	}
	for i := range 50 {
		all.Go(func() {
			begun.Add(1)
			if err := put(t, e, fmt.Sprint("n", i)); err != nil {
				t.Error(err)
			}
		})
		if i == 0 { // goes alone
			await("that the first meets the lock", func() bool {
				return count(t, url, "select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") > 0
			})
		}
	}
	await("that all have come", func() bool { return begun.Load() == 50 })
	time.Sleep(300 * time.Millisecond) // to where they wait
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if n := count(t, url, "select count(distinct xmin::text) from obolus.records"); n > 4 {
		t.Errorf("%d transactions for 50 commits that came together", n)
	}
}

// TestTheCostDoesNotGrow counts what the indexes were asked for by sessions whose plans were made when there was nothing.
func TestTheCostDoesNotGrow(t *testing.T) {
	t.Parallel()
	const commits, each = 40, 200
	url := servers.Postgres(t)
	e := open(t, url, postgres.Options{MaxConns: 1})
	for n := range commits {
		c := store.Commit{Partition: "p", If: []store.Condition{{Name: "none", Is: store.Absent}, {Name: "n0", Is: store.AtMost}}}
		b := store.Batch{}
		for i := range each {
			name := fmt.Sprint("n", n*each+i)
			w := store.Write{Name: name, Value: []byte("x"), Listed: true, TTL: time.Hour}
			if i%10 == 0 {
				w = store.Write{Name: fmt.Sprint("n", (n-1)*each+i+1), Delete: true}
			}
			c.Writes = append(c.Writes, w)
			b.Reads = append(b.Reads, store.Key{Partition: "p", Name: name})
		}
		b.Commits = append(b.Commits, c)
		if _, err := e.Do(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if _, err := e.List(t.Context(), "p", "n5", 10); err != nil {
			t.Fatal(err)
		}
	}
	e.Close() // which makes the session report what it did
	const sql = `select coalesce(sum(coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)), 0)::int from pg_stat_user_tables where schemaname = 'obolus'`
	touched := 0
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		if touched = count(t, url, sql); touched > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if touched == 0 || touched > 5*commits*each {
		t.Errorf("%d rows were touched for %d writes and as many reads", touched, commits*each)
	}
}

func TestTheDeadAreRemoved(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	e := open(t, url, postgres.Options{})
	for i := range 3 {
		c := store.Commit{Partition: fmt.Sprint("p", i), Writes: []store.Write{{Name: "lives", TTL: time.Hour}, {Name: "stays"}}}
		for n := range 300 {
			c.Writes = append(c.Writes, store.Write{Name: fmt.Sprint("n", n), TTL: 10 * time.Millisecond, Listed: true})
		}
		if _, err := store.Apply(t.Context(), e, c); err != nil {
			t.Fatal(err)
		}
	}
	left := 0
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		if left = count(t, url, "select count(*) from obolus.records"); left == 6 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%d rows are left", left)
}

func TestURLs(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	with := func(what string) string { return strings.Replace(url, "postgres@", "postgres:secret@", 1) + what }
	latin := strings.Replace(url, "/test", "/latin", 1)
	exec(t, url, "create database "+latin[strings.LastIndex(latin, "/")+1:strings.Index(latin, "?")]+" encoding latin1 lc_collate 'C' lc_ctype 'C' template template0")
	for _, c := range []struct{ name, url, want string }{
		{"plain", with(""), ""},
		{"pool", with("&pool_max_conns=2&connect_timeout=3"), ""},
		{"no pool", with("&pool_max_conns=0"), "1 to 1000"},
		{"other scheme", "mysql://root:secret@localhost/x", "postgres url is none"},
		{"no url", "host=localhost password=secret", "postgres url is none"},
		{"bad port", "postgres://postgres:secret@127.0.0.1:x/y", "postgres url is none"},
		{"bad escape", "postgres://postgres:secret%@127.0.0.1/y", "postgres url is none"},
		{"bad mode", "postgres://postgres:secret@127.0.0.1/y?sslmode=maybe", "sslmode"},
		{"bad timeout", "postgres://postgres:secret@127.0.0.1/y?connect_timeout=secret", "postgres url is none"},
		{"no such database", strings.Replace(with(""), "/test", "/none", 1), "does not exist"},
		{"nobody there", "postgres://postgres:secret@127.0.0.1:1/y", "connection refused"},
		{"unknown setting", with("&secret_setting=1"), "unrecognized configuration parameter"},
		{"encoding", latin, "encoding UTF8"},
	} {
		e, err := postgres.Open(t.Context(), c.url, postgres.Options{})
		if err == nil {
			e.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret@") || strings.Contains(err.Error(), ":secret") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: the password is in the error, or it has lines: %v", c.name, err)
		}
	}
	if _, err := postgres.Open(t.Context(), url, postgres.Options{Schema: `x"; drop`}); err == nil {
		t.Error("a schema of any name")
	}
}

func TestAStandbyIsRefused(t *testing.T) {
	t.Parallel()
	url := servers.Postgres(t)
	role := "reader_" + strings.ToLower(rand.Text())
	exec(t, url, fmt.Sprintf("create role %[1]s login; alter role %[1]s set default_transaction_read_only = on; grant create on database %[2]s to %[1]s",
		role, url[strings.LastIndex(url, "/")+1:strings.Index(url, "?")]))
	_, err := postgres.Open(t.Context(), strings.Replace(url, "postgres@", role+"@", 1), postgres.Options{})
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "read only") {
		t.Errorf("got %v", err)
	}
}

// TestAServerThatFails has a server of its own, which its parts kill.
func TestAServerThatFails(t *testing.T) {
	t.Parallel()
	s := servers.StartPostgres(t)
	t.Run("a restart between calls is not noticed", func(t *testing.T) { restartsQuietly(t, s) })
	t.Run("restarts lose nothing", func(t *testing.T) { losesNothing(t, s) })
	t.Run("warnings", func(t *testing.T) { warns(t, s) })
	t.Run("fence", func(t *testing.T) { fences(t, s) })
}

func restartsQuietly(t *testing.T, s *servers.PostgresServer) {
	t.Helper()
	e := open(t, s.Database(t), postgres.Options{})
	told, err := e.Watch(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := put(t, e, fmt.Sprint("n", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.Kill()
	for range told { // it ends
	}
	start := time.Now()
	if err := put(t, e, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("stopped: got %v", err)
	}
	if _, err := e.Watch(t.Context(), "p"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("watch: got %v", err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	s.Restart(t)
	for range 20 {
		if err := put(t, e, "a"); err != nil {
			t.Errorf("started again: got %v", err)
		}
	}
	if told, err = e.Watch(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, e, "b"); err != nil {
		t.Error(err)
	}
	if name := <-told; name != "b" {
		t.Errorf("told %q", name)
	}
}

func losesNothing(t *testing.T, s *servers.PostgresServer) {
	t.Helper()
	// Left to itself this server would acknowledge first and write much later.
	careless := []string{"-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s"}
	s.Restart(t, careless...)
	url := s.Database(t)
	engines := []*postgres.Engine{open(t, url, postgres.Options{}), open(t, url, postgres.Options{})}
	ctx, stop := context.WithCancel(t.Context())
	const workers = 12
	var acked [workers]int
	var tried atomic.Int32
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				err := storetest.Toil(ctx, engines[w%2], w, func(n int) {
					acked[w] = n
					tried.Add(1)
				})
				if err != nil && !errors.Is(err, store.ErrUnavailable) {
					t.Error(err)
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	for range 3 {
		time.Sleep(mathrand.N(300*time.Millisecond) + 50*time.Millisecond)
		s.Restart(t, careless...)
	}
	for late := time.Now().Add(time.Minute); tried.Load() < workers && time.Now().Before(late); {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	all.Wait()
	s.Restart(t, careless...) // what was given up while it was under way is over by now, whole or not at all
	total := 0
	for w := range workers {
		total += storetest.Whole(t, engines[0], w, acked[w])
	}
	if total < workers {
		t.Errorf("only %d commits were tried", total)
	}
	t.Logf("%d commits", total)
}

func warns(t *testing.T, s *servers.PostgresServer) {
	t.Helper()
	if w := open(t, s.Database(t), postgres.Options{}).Warnings(); len(w) != 0 {
		t.Errorf("a server as it should be: %q", w)
	}
	s.Restart(t, "-c", "fsync=off", "-c", "full_page_writes=off")
	w := open(t, s.Database(t), postgres.Options{}).Warnings()
	if len(w) != 2 || !strings.Contains(w[0], "fsync") || !strings.Contains(w[1], "full_page_writes") {
		t.Errorf("got %q", w)
	}
}

func fences(t *testing.T, s *servers.PostgresServer) {
	t.Helper()
	url := s.Database(t)
	fence := func(url string) string {
		t.Helper()
		e := open(t, url, postgres.Options{})
		defer e.Close()
		f, err := e.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := fence(url)
	s.Restart(t)
	if again := fence(url); again != first {
		t.Errorf("after a crash it is %q, before it was %q", again, first)
	}
	name := url[strings.LastIndex(url, "/")+1 : strings.Index(url, "?")]
	exec(t, s.Database(t), "create database copied template "+name)
	if copied := fence(strings.Replace(url, name, "copied", 1)); copied == first {
		t.Error("a copy of the database has the same fence")
	}
	exec(t, url, `create table obolus.old as select * from obolus.records; drop table obolus.records;
		alter table obolus.old rename to records`)
	if restored := fence(url); restored == first {
		t.Error("another table has the same fence")
	}
	e := open(t, url, postgres.Options{})
	before, _ := e.Fence(t.Context())
	s.Recover(t)
	if _, err := e.Do(t.Context(), store.Batch{Fence: before}); !errors.Is(err, store.ErrFence) {
		t.Errorf("after a recovery: got %v", err)
	}
}
