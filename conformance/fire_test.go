package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"obolus/store/storetest/servers"
)

// TestUnderFire breaks what the server stands on in the middle of its work, and mends it: the server goes on by itself, nothing
// that it acknowledged is lost, and nothing that was spent or stopped comes back.
func TestUnderFire(t *testing.T) {
	t.Run("the disk is full", func(t *testing.T) {
		t.Parallel()
		underFire(&check{t, boltMemory().start(t, nil)}, (*work).fillDisk)
	})
	database := servers.StartPostgres(t, "-c", "fsync=off", "-c", "max_connections=200")
	records := database.Database(t)
	between := before(t, addressOf(records))
	redis := servers.StartRedis(t)
	e := start(t, "postgres+redis", options{
		records: strings.Replace(records, addressOf(records), between.addr, 1), live: redis.URL, nodes: 2, redis: &fleet{masters: []*servers.RedisServer{redis}},
	})
	for _, f := range []struct {
		name  string
		fault func()
	}{
		{"PostgreSQL crashes", func() { database.Restart(t, "-c", "fsync=off", "-c", "max_connections=200") }},
		{"PostgreSQL does not get its answers through", func() {
			between.lose("")
			time.Sleep(300 * time.Millisecond)
			if between.heal() == 0 {
				t.Error("no answer was lost")
			}
		}},
		{"Redis hangs", func() {
			redis.Pause()
			time.Sleep(1500 * time.Millisecond)
			redis.Resume()
		}},
		{"Redis begins anew", redis.Restart},
	} {
		t.Run(f.name, func(t *testing.T) {
			underFire(&check{t, e}, func(*work) {
				time.Sleep(someTime(100 * time.Millisecond))
				f.fault()
			})
		})
	}
}

func underFire(c *check, fault func(*work)) {
	c.Helper()
	w := c.work()
	w.during(func() { fault(w) })
	c.settle()
	c.recovers(w.budgetless())
	w.judge()
	for i, n := range c.nodes {
		select {
		case <-n.gone:
			c.Errorf("process %d ended: %s", i, tail(n.log))
		default:
		}
	}
}

// budgetless is a request that may be made any number of times.
func (w *work) budgetless() *exchange {
	for _, agent := range w.revoke {
		return w.c.lasting(agent, "mail.read")
	}
	return nil
}

// addressOf is the host and the port of a URL.
func addressOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// fillDisk lets the file of the records grow no further until it is full, and then lets it again.
func (w *work) fillDisk() {
	c := w.c
	name := strings.TrimPrefix(c.records, "bolt:")
	info, err := os.Stat(name)
	if err != nil {
		c.Error(err)
		return
	}
	pid := c.nodes[0].cmd.Process.Pid
	var was unix.Rlimit
	if err := errors.Join(unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &was),
		unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(info.Size()), Max: was.Max}, nil)); err != nil {
		c.Error(err)
		return
	}
	x := w.budgetless()
	var last, refused answer
	for range 2000 {
		a, err := c.send(c.Context(), x.ready())
		if err != nil {
			c.Error(err)
			return
		}
		if a.status != http.StatusOK {
			refused = a
			break
		}
		last = a
	}
	c.unavailable("an exchange", refused)
	id := nonce()
	r := c.redeem(c.rs1, last.token(), id).ready()
	if a, err := c.send(c.Context(), r); err != nil || a.status != http.StatusServiceUnavailable {
		c.Errorf("a redemption on a full disk: %d %s %v", a.status, a.body, err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &was, nil); err != nil {
		c.Error(err)
	}
	c.ok(c.redeem(c.rs1, last.token(), id).do())
	c.want(c.redeem(c.rs1, last.token(), nonce()).do(), 409, "already_redeemed")
	if !strings.Contains(c.logs(), "file too large") {
		c.Error("the log does not say why")
	}
}

// TestAStartThatIsRefused: what the server cannot stand on it says in a sentence, at once, and leaves as it was.
func TestAStartThatIsRefused(t *testing.T) {
	t.Parallel()
	if err := os.Chmod(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(t.TempDir(), "data")
	n := &node{log: filepath.Join(t.TempDir(), "log")}
	beginning(t, n, whole)
	n.end()
	for _, tc := range []struct {
		name string
		harm func(dir string) error
		want string
	}{
		{"records cut short", func(dir string) error { return os.Truncate(filepath.Join(dir, "records.db"), 9000) }, "cut short: put a backup in its place"},
		{"records emptied", func(dir string) error { return os.Truncate(filepath.Join(dir, "records.db"), 0) }, "it was not once: put a backup in its place"},
		{"records full of something else", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "records.db"), bytes.Repeat([]byte("garbage "), 9000), 0o600)
		}, "damaged or cut short: put a backup in its place"},
		{"the master key lost", func(dir string) error { return os.Remove(filepath.Join(dir, "master.key")) }, "master key"},
		{"the master key cut short", func(dir string) error { return os.Truncate(filepath.Join(dir, "master.key"), 10) }, "does not hold 32 bytes in base64"},
		{"an operators' token that is empty", func(dir string) error { return os.Truncate(filepath.Join(dir, "operator.token"), 0) }, "operator.token is empty"},
		{"records that may only be read", func(dir string) error { return os.Chmod(filepath.Join(dir, "records.db"), 0o400) }, "records.db: permission denied"},
		{"a folder that may only be read", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "operator.token")), os.Chmod(dir, 0o500))
		}, "permission denied"},
		{"a folder of somebody else", func(dir string) error { return os.Chmod(dir, 0) }, "permission denied"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := copied(t, whole)
			if err := tc.harm(dir); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				text := refusedStart(t, dir)
				if !strings.Contains(text, tc.want) || strings.Count(text, "\n") != 1 {
					t.Errorf("it says %q, not %q", text, tc.want)
				}
			}
		})
	}
	t.Run("another process has it", func(t *testing.T) {
		t.Parallel()
		dir := copied(t, whole)
		n := &node{log: filepath.Join(t.TempDir(), "log")}
		beginning(t, n, dir)
		defer n.end()
		if text := refusedStart(t, dir); !strings.Contains(text, "in use by another process") {
			t.Errorf("it says %q", text)
		}
		if err := n.ready(time.Minute); err != nil {
			t.Error(err)
		}
	})
}

// stranger is whom a server runs as that must not be able to do everything.
const stranger = 65534

// copied is a copy of a folder that belongs to the stranger, if there is need of one.
func copied(t *testing.T, folder string) string {
	t.Helper()
	above := t.TempDir()
	dir := filepath.Join(above, "data")
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) }) // so that it can be removed
	if err := errors.Join(os.Chmod(filepath.Dir(above), 0o755), os.CopyFS(dir, os.DirFS(folder))); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || os.Getuid() != 0 {
			return err
		}
		return os.Chown(name, stranger, stranger)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// beginning starts a server that has nothing but a folder.
func beginning(t *testing.T, n *node, dir string) {
	t.Helper()
	n.addr = loopback(servers.FreePort(t))
	n.base = "http://" + n.addr
	n.args = []string{"serve", "--data", dir, "--listen", n.addr}
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
}

// refusedStart starts a server on a folder, as somebody who may not do everything, and returns what it says before it ends.
func refusedStart(t *testing.T, dir string) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	}
	out, err := cmd.CombinedOutput()
	if failed, ok := errors.AsType[*exec.ExitError](err); !ok || failed.ExitCode() < 1 {
		t.Fatalf("it ends with %v and says %q", err, out)
	}
	return string(out)
}
