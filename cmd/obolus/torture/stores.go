//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// redisPair is a Redis and its replica. Which of the two leads changes with every failover.
type redisPair struct {
	nodes    [2]*child
	addrs    [2]string
	leads    atomic.Int32
	sentinel *child // nil: the failover is ours, as that of a service which moves an address
	watch    string // the address of the sentinel
}

func (r *redisPair) leader() *child  { return r.nodes[r.leads.Load()] }
func (r *redisPair) address() string { return r.addrs[r.leads.Load()] }
func (r *redisPair) second() string  { return r.addrs[1-r.leads.Load()] }

func startRedis(dir string, p *ports) (*redisPair, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed: apt-get install redis-server")
	}
	r := &redisPair{}
	for i := range r.nodes {
		if r.addrs[i], err = p.next(); err != nil {
			return nil, err
		}
		home := filepath.Join(dir, fmt.Sprint("redis", i))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		r.nodes[i] = &child{name: "redis", path: path, dir: home}
		if err := r.launch(i); err != nil {
			return nil, err
		}
	}
	return r, await("the replica", 10*time.Second, r.inStep)
}

// launch starts a node: the second as a replica of the one that leads.
func (r *redisPair) launch(i int) error {
	_, port, err := net.SplitHostPort(r.addrs[i])
	if err != nil {
		return err
	}
	c := r.nodes[i]
	c.args = []string{
		"--port", port, "--bind", "127.0.0.1", "--dir", c.dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-diskless-load", "on-empty-db", "--repl-backlog-size", "1mb",
	}
	if i != int(r.leads.Load()) {
		c.args = append(c.args, "--replicaof", strings.Replace(r.address(), ":", " ", 1))
	}
	if err := c.start(); err != nil {
		return err
	}
	return await("redis", 10*time.Second, func() error { return ping(r.addrs[i]) })
}

// inStep says whether the replica has everything.
func (r *redisPair) inStep() error {
	said, err := ask(r.address(), "INFO", "replication")
	if err == nil && !strings.Contains(said, "state=online") {
		err = errors.New("it is not in step")
	}
	return err
}

// follow learns from the Sentinel who leads, if that one agrees.
func (r *redisPair) follow() error {
	leads, err := r.masterBySentinel()
	if err != nil {
		return err
	}
	said, err := ask(leads, "INFO", "replication")
	if err != nil {
		return err
	}
	if !strings.Contains(said, "role:master") {
		return errors.New("who is to lead does not know yet")
	}
	r.leads.Store(int32(slices.Index(r.addrs[:], leads))) //nolint:gosec // there are two
	return nil
}

// settled says whether one leads, the other follows and the Sentinel knows.
func (r *redisPair) settled() error {
	if err := r.follow(); err != nil {
		return err
	}
	if err := r.inStep(); err != nil {
		return err
	}
	return r.knowsReplica()
}

// startSentinel lets a Sentinel decide who leads.
func (r *redisPair) startSentinel(dir string, p *ports) error {
	var err error
	if r.watch, err = p.next(); err != nil {
		return err
	}
	home := filepath.Join(dir, "sentinel")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	config := filepath.Join(home, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor obolus %s 1\nsentinel down-after-milliseconds obolus 500\nsentinel failover-timeout obolus 1000\n",
		strings.Replace(r.address(), ":", " ", 1))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(r.watch)
	if err != nil {
		return err
	}
	r.sentinel = &child{
		name: "sentinel", path: r.nodes[0].path, dir: home,
		args: []string{config, "--sentinel", "--port", port, "--bind", "127.0.0.1", "--dir", home},
	}
	if err := r.sentinel.start(); err != nil {
		return err
	}
	if err := await("sentinel", 10*time.Second, func() error { return ping(r.watch) }); err != nil {
		return err
	}
	_, _ = ask(r.watch, "SENTINEL", "DEBUG", "info-period", "300") // an older one takes its ten seconds to see a new replica
	return nil
}

// masterBySentinel is who leads as the Sentinel has it.
func (r *redisPair) masterBySentinel() (string, error) {
	said, err := ask(r.watch, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "obolus")
	if err != nil {
		return "", err
	}
	parts := strings.Split(said, "\r\n")
	if len(parts) < 5 {
		return "", fmt.Errorf("the sentinel says %q", said)
	}
	return net.JoinHostPort(parts[2], parts[4]), nil
}

// knowsReplica says whether the Sentinel knows a replica that it could promote.
func (r *redisPair) knowsReplica() error {
	said, err := ask(r.watch, "SENTINEL", "REPLICAS", "obolus")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(r.second())
	if !strings.Contains(said, "\r\n"+port+"\r\n") || strings.Contains(said, "disconnected") || strings.Contains(said, "s_down") ||
		!strings.Contains(said, "\r\nok\r\n") {
		return errors.New("the sentinel does not know the replica")
	}
	return nil
}

func (r *redisPair) end() {
	if r == nil {
		return
	}
	for _, c := range []*child{r.sentinel, r.nodes[0], r.nodes[1]} {
		if c != nil && c.pid() != 0 {
			c.resume()
			c.kill()
		}
	}
}

func ping(addr string) error {
	said, err := ask(addr, "PING")
	if err == nil && !strings.HasPrefix(said, "+PONG") {
		err = fmt.Errorf("it says %q", said)
	}
	return err
}

// ask sends a Redis one command and returns the answer as it is on the wire.
func ask(addr string, words ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second) //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", strings.Join(words, " ")); err != nil {
		return "", err
	}
	answer := make([]byte, 16<<10)
	n, err := conn.Read(answer)
	if err == nil && n > 0 && answer[0] == '-' {
		err = errors.New(strings.TrimSpace(string(answer[:n])))
	}
	return string(answer[:n]), err
}

// postgresServer is a PostgreSQL of our own. Its processes are killed, not the machine: what they have handed to the operating
// system stays, so it need not wait for the disk.
type postgresServer struct {
	*child
	addr string
	bin  string
}

func startPostgres(p *ports) (*postgresServer, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "obolus-torture-pg-") // the other user must reach it
	if err != nil {
		return nil, err
	}
	s := &postgresServer{bin: bin, child: &child{name: "postgres", path: filepath.Join(bin, "postgres"), dir: dir}}
	if s.who, err = postgresUser(dir); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync") //nolint:gosec,noctx // ours
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: s.who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out)), os.RemoveAll(dir))
	}
	if s.addr, err = p.next(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil, err
	}
	s.args = []string{"-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-k", dir}
	for _, setting := range []string{
		"max_connections=200", "shared_buffers=64MB", "fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
		"checkpoint_timeout=30s", "max_wal_size=64MB", "min_wal_size=32MB", "log_min_messages=fatal",
	} {
		s.args = append(s.args, "-c", setting)
	}
	return s, s.launch()
}

// launch starts it, on what a crash has left.
func (s *postgresServer) launch() error {
	if err := os.Remove(filepath.Join(s.dir, "data", "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	return await("postgres", 30*time.Second, func() error {
		if s.ended() {
			return fmt.Errorf("%w: %s", errEnded, s.tail())
		}
		return exec.Command(filepath.Join(s.bin, "pg_isready"), "-q", "-h", host, "-p", port).Run() //nolint:gosec,noctx // it has a timeout of its own
	})
}

func (s *postgresServer) close() {
	if s == nil {
		return
	}
	s.resume()
	s.kill()
	_ = os.RemoveAll(s.dir)
}

func postgresPrograms() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("PostgreSQL is not installed: apt-get install postgresql")
	}
	return filepath.Dir(path), nil
}

// postgresUser is who PostgreSQL runs as when we are root, which it refuses to be. The folder becomes theirs.
func postgresUser(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // we are somebody already
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid)) //nolint:gosec // they have 32 bits
}
