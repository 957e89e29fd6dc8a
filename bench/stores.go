//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// startRedis runs a Redis of our own that keeps nothing.
func startRedis(ctx context.Context, dir string) (*child, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed")
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, Protocol: 2})
	defer c.Close()
	return start(ctx, spec{
		name: "redis", path: path, dir: dir, addr: addr,
		args: []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"},
	}, func(ctx context.Context) error { return c.Ping(ctx).Err() })
}

// redisInfo reads one number of what INFO says.
func redisInfo(ctx context.Context, addr, name string) (float64, error) {
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	info, err := c.Info(ctx).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("INFO has no %s", name)
}

// watchRedis counts what clients send while f runs; what scripts do inside is left out, and MGET counts as one for each key.
func watchRedis(ctx context.Context, addr string, f func() error) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		return 0, err
	}
	time.Sleep(20 * time.Millisecond)
	if err := f(); err != nil {
		return 0, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		return 0, err
	}
	said, err := appendAll(nil, conn)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, err
	}
	count := 0
	for line := range strings.Lines(string(said)) {
		head, command, ok := strings.Cut(line, `] "`)
		switch {
		case !ok || strings.HasSuffix(head, " lua"):
		case strings.HasPrefix(strings.ToLower(command), "mget"):
			count += strings.Count(command, `" "`)
		default:
			count++
		}
	}
	return count, nil
}

// postgresServer is a PostgreSQL of our own.
type postgresServer struct {
	*child
	url string
}

// startPostgres makes one in a folder of its own; as the user postgres when we are root, because the server refuses to be root.
func startPostgres(ctx context.Context) (*postgresServer, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "obolus-bench-pg-") // the other user must reach it
	if err != nil {
		return nil, err
	}
	who, err := postgresUser(dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: who}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out)), os.RemoveAll(dir))
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	p := &postgresServer{url: "postgres://postgres@" + addr + "/postgres?sslmode=disable"}
	p.child, err = start(ctx, spec{
		name: "postgres", path: filepath.Join(bin, "postgres"), dir: dir, addr: addr, who: who,
		args: []string{"-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-k", dir, "-c", "max_connections=300", "-c", "shared_buffers=128MB"},
	}, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.url)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

// end ends it and removes its data.
func (p *postgresServer) end() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT) // fast
	p.child.end()
	_ = os.RemoveAll(p.cmd.Dir)
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
		return "", errors.New("PostgreSQL is not installed")
	}
	return filepath.Dir(path), nil
}

func postgresUser(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // we are somebody already
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, uid, gid)
}

// family is the processor time of the server and its processes, those that have ended included.
func (p *postgresServer) family() (time.Duration, error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	self := strconv.Itoa(p.cmd.Process.Pid)
	var ticks int64
	for _, name := range all {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile, and is in its parent's account
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		own := filepath.Base(filepath.Dir(name)) == self
		if len(fields) < 15 || !own && fields[1] != self {
			continue
		}
		last := 13
		if own {
			last = 15
		}
		for _, f := range fields[11:last] {
			n, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}
