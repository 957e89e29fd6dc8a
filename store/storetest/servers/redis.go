package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// RedisServer is a private Redis server. Kill, Restart and the like may be called at any time; the test ends it.
type RedisServer struct {
	URL  string
	Addr string

	t      testing.TB
	args   []string
	proc   *process
	master *RedisServer // of a replica
	watch  *RedisServer // the Sentinel over a master
}

// Redis starts a private Redis server without persistence and returns its URL, by which a busy machine is waited for.
func Redis(tb testing.TB) string {
	tb.Helper()
	return StartRedis(tb).URL + "?dial_timeout=30s&read_timeout=30s&write_timeout=30s&pool_timeout=30s"
}

// StartRedis starts a private Redis server without persistence, with more arguments if there are any.
func StartRedis(tb testing.TB, extraArgs ...string) *RedisServer {
	tb.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Fatal("redis-server is not installed: apt-get install redis-server")
	}
	dir, err := folder()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	for range 5 {
		port := FreePort(tb)
		s := &RedisServer{t: tb, Addr: fmt.Sprint("127.0.0.1:", port)}
		s.URL = "redis://" + s.Addr
		s.args = append([]string{
			binary, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
		}, extraArgs...)
		if err := s.launch(); err != nil {
			tb.Log(err)
			continue
		}
		tb.Cleanup(s.Stop)
		return s
	}
	tb.Fatal("redis-server does not start")
	return nil
}

func (s *RedisServer) launch() error {
	cmd := exec.Command(s.args[0], s.args[1:]...) // it outlives every context; the arguments are a test's
	p, err := start(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	if err := p.await(s.ping); err != nil {
		p.end(syscall.SIGKILL)
		return err
	}
	s.proc = p
	return nil
}

func (s *RedisServer) ping() error {
	answer, err := s.ask("PING")
	if err == nil && !strings.HasPrefix(answer, "+PONG") && !strings.HasPrefix(answer, "-NOAUTH") {
		err = fmt.Errorf("it says %q", answer)
	}
	return err
}

// ask sends one inline command and returns the start of the answer.
func (s *RedisServer) ask(command string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr, patience) // it has a timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(deadline()); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// Stop ends the server in an orderly way.
func (s *RedisServer) Stop() { s.proc.end(syscall.SIGTERM) }

// Kill ends the server without warning.
func (s *RedisServer) Kill() { s.proc.end(syscall.SIGKILL) }

// Restart starts the server again at its address, ending it first if it runs.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.launch(); err != nil {
		s.t.Fatal(err)
	}
}

// Pause makes the server hang: connections stay, answers do not come.
func (s *RedisServer) Pause() { s.proc.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *RedisServer) Resume() { s.proc.signal(syscall.SIGCONT) }

// Cluster starts a Redis Cluster of that many masters, with that many replicas for each, and returns its URL and the nodes,
// the masters first. No replica takes the place of its master before TakeOver is called.
func Cluster(tb testing.TB, masters, replicas int) (string, []*RedisServer) {
	tb.Helper()
	nodes := make([]*RedisServer, masters*(1+replicas))
	hosts := make([]string, len(nodes))
	for i := range nodes {
		nodes[i] = StartRedis(tb, "--cluster-enabled", "yes", "--cluster-node-timeout", "600000",
			"--repl-diskless-sync-delay", "0", "--cluster-config-file", fmt.Sprint("nodes-", i))
		hosts[i] = nodes[i].Addr
		nodes[i].must(fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1))
		if i < masters {
			nodes[i].must(fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*16384/masters, (i+1)*16384/masters-1))
		}
		nodes[i].must("CLUSTER MEET " + strings.Replace(nodes[0].Addr, ":", " ", 1))
	}
	await := func(ready func() error) {
		if err := nodes[0].proc.await(ready); err != nil {
			tb.Fatal(err)
		}
	}
	for _, n := range nodes {
		await(func() error { return n.whole(masters, len(nodes)) })
	}
	for i, n := range nodes[masters:] {
		n.master = nodes[i%masters]
		await(func() error { return n.follow(nodes[i%masters]) })
	}
	for _, n := range nodes[:masters] {
		await(func() error {
			if n.Replicas() < replicas {
				return errors.New("its replicas are not in step")
			}
			return nil
		})
	}
	return "redis+cluster://" + strings.Join(hosts, ","), nodes
}

// Replica starts a server that follows this one, and returns when it is in step.
func (s *RedisServer) Replica() *RedisServer {
	s.t.Helper()
	before := s.Replicas()
	r := StartRedis(s.t, "--replicaof", strings.Replace(s.Addr, ":", " ", 1))
	r.master = s
	if err := r.proc.await(func() error {
		if s.Replicas() <= before {
			return errors.New("it is not in step")
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// TakeOver puts a replica in the place of its master, which may be gone: by the Sentinel that watches over it, or in a Cluster by itself.
func (s *RedisServer) TakeOver() {
	s.t.Helper()
	by, command := s, "CLUSTER FAILOVER TAKEOVER"
	if s.master.watch != nil {
		by, command = s.master.watch, "SENTINEL FAILOVER obolus"
	}
	if err := s.proc.await(func() error {
		answer, err := by.ask(command)
		if err == nil && !strings.HasPrefix(answer, "+OK") { // a Sentinel may not know the replica yet
			err = fmt.Errorf("it says %q", answer)
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	_, port, _ := strings.Cut(s.Addr, ":")
	if err := s.proc.await(func() error {
		answer, err := s.ask("INFO replication")
		if err == nil && !strings.Contains(answer, "role:master") {
			err = errors.New("it is still a replica")
		}
		if err == nil && by != s { // and whoever asks is led to it
			if answer, err = by.ask("SENTINEL GET-MASTER-ADDR-BY-NAME obolus"); err == nil && !strings.Contains(answer, "\n"+port+"\r") {
				err = fmt.Errorf("the Sentinel says %q", answer)
			}
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

// Say sends a command of one line and returns the start of the answer as it came.
func (s *RedisServer) Say(command string) string {
	s.t.Helper()
	answer, err := s.ask(command)
	if err != nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return answer
}

// follow makes a node of a Cluster a replica of another one.
func (s *RedisServer) follow(master *RedisServer) error {
	answer, err := master.ask("CLUSTER MYID")
	if err != nil {
		return err
	}
	_, id, _ := strings.Cut(strings.TrimSpace(answer), "\r\n")
	if answer, err = s.ask("CLUSTER REPLICATE " + id); err == nil && !strings.HasPrefix(answer, "+OK") {
		err = fmt.Errorf("it says %q", answer)
	}
	return err
}

func (s *RedisServer) must(command string) {
	s.t.Helper()
	if answer, err := s.ask(command); err != nil || !strings.HasPrefix(answer, "+OK") {
		s.t.Fatalf("%s: %q, %v", command, answer, err)
	}
}

func (s *RedisServer) whole(masters, nodes int) error {
	answer, err := s.ask("CLUSTER INFO")
	if err != nil {
		return err
	}
	for _, fact := range []string{"cluster_state:ok", fmt.Sprint("cluster_size:", masters), fmt.Sprint("cluster_known_nodes:", nodes)} {
		if !strings.Contains(answer, fact) {
			return fmt.Errorf("not yet %s", fact)
		}
	}
	return nil
}

// Sentinel starts a Sentinel that watches the server as "obolus" and returns the URL to reach the server through it. It puts no replica
// in the place of a server that seems to be gone, since on a busy machine all do at times, until TakeOver tells it to.
func (s *RedisServer) Sentinel() string {
	s.t.Helper()
	return s.SentinelAt(s.Addr)
}

// SentinelAt is Sentinel for a server that is to be watched at another of its addresses, with more arguments if there are any.
func (s *RedisServer) SentinelAt(addr string, extraArgs ...string) string {
	s.t.Helper()
	config := s.t.TempDir() + "/sentinel.conf"
	text := fmt.Sprintf("sentinel monitor obolus %s 1\nsentinel down-after-milliseconds obolus 600000\nsentinel failover-timeout obolus 120000\n",
		strings.Replace(addr, ":", " ", 1))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	port := FreePort(s.t)
	watch := &RedisServer{t: s.t, Addr: fmt.Sprint("127.0.0.1:", port)}
	watch.args = append([]string{s.args[0], config, "--sentinel", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", s.t.TempDir()}, extraArgs...)
	if err := watch.launch(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(watch.Stop)
	s.watch = watch
	return "redis+sentinel://" + watch.Addr + "/0?master=obolus"
}

// Replicas says how many replicas the server has in step.
func (s *RedisServer) Replicas() int {
	s.t.Helper()
	answer, err := s.ask("INFO replication")
	if err != nil {
		return 0
	}
	return strings.Count(answer, "state=online")
}
