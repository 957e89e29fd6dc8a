package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PostgresServer is a PostgreSQL cluster. Connections are trusted: it listens on loopback only.
type PostgresServer struct {
	port int
	dir  string
	bin  string
	who  *syscall.Credential
	proc *process
}

// sharedCluster is the one cluster of a test process, started by the first test that asks.
type sharedCluster struct {
	once   sync.Once
	server *PostgresServer
	err    error
	serial atomic.Int64
}

// Postgres returns the URL of a fresh database in a cluster that this test process shares, and that does not wait for the disk. The
// package's TestMain calls Main, which ends the cluster.
func Postgres(tb testing.TB) string {
	tb.Helper()
	shared.once.Do(func() { shared.server, shared.err = startPostgres("-c", "fsync=off") })
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.server.Database(tb)
}

func (c *sharedCluster) stop() error {
	if c.server == nil {
		return nil
	}
	c.server.Kill()
	return os.RemoveAll(c.server.dir)
}

// StartPostgres starts a cluster for one test.
func StartPostgres(tb testing.TB, extraArgs ...string) *PostgresServer {
	tb.Helper()
	s, err := startPostgres(extraArgs...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(s.dir)
	})
	return s
}

// Database creates a database and returns its URL.
func (s *PostgresServer) Database(tb testing.TB) string {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), s.url("postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(tb.Context())) }()
	name := fmt.Sprint("test", shared.serial.Add(1))
	if _, err := conn.Exec(tb.Context(), "create database "+name); err != nil {
		tb.Fatal(err)
	}
	return s.url(name)
}

// Kill ends the cluster at once, as a crash would; what was not on disk is lost.
func (s *PostgresServer) Kill() { s.proc.end(syscall.SIGQUIT) }

// Restart starts the cluster again on its data, with more arguments if there are any, ending it first if it runs.
func (s *PostgresServer) Restart(tb testing.TB, extraArgs ...string) {
	tb.Helper()
	s.Kill()
	if err := s.launch(extraArgs...); err != nil {
		tb.Fatal(err)
	}
}

// Recover starts the cluster again as a recovery does, to the end of what it has, and on a new timeline.
func (s *PostgresServer) Recover(tb testing.TB) {
	tb.Helper()
	s.Kill()
	signal := filepath.Join(s.data(), "recovery.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if s.who != nil {
		if err := os.Chown(signal, int(s.who.Uid), int(s.who.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	s.Restart(tb, "-c", "restore_command=false")
	if err := s.proc.await(func() error { return leads(s.url("postgres")) }); err != nil {
		tb.Fatal(err)
	}
}

func leads(url string) error {
	ctx, cancel := context.WithTimeout(noContext(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var recovering bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&recovering); err != nil {
		return err
	}
	if recovering {
		return errors.New("it is still recovering")
	}
	return nil
}

func (s *PostgresServer) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func startPostgres(extraArgs ...string) (*PostgresServer, error) {
	s := &PostgresServer{}
	var err error
	if s.bin, err = findPostgres(); err != nil {
		return nil, err
	}
	if s.dir, err = folder(); err != nil {
		return nil, err
	}
	if err = s.create(); err == nil {
		err = s.launch(extraArgs...)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// findPostgres looks where Debian puts the server binaries, then in the path.
func findPostgres() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		sort.Strings(found)
		return filepath.Dir(found[len(found)-1]), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errors.New("PostgreSQL is not installed: apt-get install postgresql")
}

// create makes the data folder, as the user postgres when we are root, because the server refuses to be root.
func (s *PostgresServer) create() error {
	if os.Getuid() == 0 {
		if err := s.become("postgres"); err != nil {
			return err
		}
	}
	out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *PostgresServer) become(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, int(uid), int(gid))
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) // it outlives every context; the arguments are a test's
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who}
	return cmd
}

func (s *PostgresServer) launch(extraArgs ...string) error {
	if s.port != 0 {
		return s.launchAt(s.port, extraArgs...)
	}
	var err error
	for range 5 {
		var port int
		if port, err = ports.take(); err != nil {
			return err
		}
		if err = s.launchAt(port, extraArgs...); err == nil {
			s.port = port
			return nil
		}
	}
	return err
}

func (s *PostgresServer) launchAt(port int, extraArgs ...string) error {
	args := append([]string{
		"-D", s.data(), "-p", fmt.Sprint(port), "-c", "listen_addresses=127.0.0.1", "-k", s.dir,
		"-c", "max_connections=100", "-c", "shared_buffers=64MB",
	}, extraArgs...)
	if err := os.Remove(filepath.Join(s.data(), "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p, err := start(s.command("postgres", args...), syscall.SIGQUIT)
	if err != nil {
		return err
	}
	url := (&PostgresServer{port: port}).url("postgres")
	if err := p.await(func() error { return ping(url) }); err != nil {
		p.end(syscall.SIGQUIT)
		return err
	}
	s.proc = p
	return nil
}

func ping(url string) error {
	ctx, cancel := context.WithTimeout(noContext(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
