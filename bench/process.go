//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process that was started to be measured, or to be stood on. It listens on this machine only.
type child struct {
	name string
	addr string // 127.0.0.1:port
	log  string // file
	cmd  *exec.Cmd
	gone chan struct{}
}

// spec is what a child is started from.
type spec struct {
	name string
	path string
	args []string
	env  []string // beside PATH and HOME
	dir  string   // where it runs and its log lies
	addr string
	who  *syscall.Credential
}

// starter starts every process from one thread that lives as long as this program: the kernel ends a child when the thread that
// started it ends, so that none outlives a killed bench.
var starter = sync.OnceValue(func() chan func() { //nolint:gochecknoglobals // it is one for the process
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// start runs a child and waits until ready says so.
func start(ctx context.Context, s spec, ready func(context.Context) error) (*child, error) {
	c := &child{name: s.name, addr: s.addr, log: filepath.Join(s.dir, s.name+".log"), gone: make(chan struct{})}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.cmd = exec.Command(s.path, s.args...) //nolint:noctx // end ends it
	c.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, s.env...)
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = s.dir, out, out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: s.who}
	started := make(chan error)
	starter() <- func() { started <- c.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.gone)
	}()
	if err := c.await(ctx, ready); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

const startTime = 60 * time.Second

func (c *child) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.gone:
			return fmt.Errorf("%s ended: %s", c.name, c.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", c.name, err, c.tail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (c *child) tail() string {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}

// end asks the child to end, and makes it.
func (c *child) end() {
	if c == nil || c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.gone:
	case <-time.After(8 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.gone
	}
}

// tick is the unit of utime and stime in /proc, which Linux has fixed for programs.
const tick = 10 * time.Millisecond

// cpu is the processor time that the child has used, utime and stime of /proc/PID/stat.
func (c *child) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(data), ") ") // the name of the program may have spaces
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("/proc has another form than expected")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// rss is the memory that the child has, in bytes.
func (c *child) rss() int64 { return c.memory("VmRSS") }

// memory is one of the numbers of bytes in /proc/PID/status.
func (c *child) memory(which string) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), which+":"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// heap is what the runtime of a Go child has allocated so far, as its /metrics say; ok is false if it has none.
func (c *child) heap(ctx context.Context) (objects, bytes float64, ok bool) {
	text, err := fetch(ctx, "http://"+c.addr+"/metrics")
	if err != nil {
		return 0, 0, false
	}
	objects, ok1 := metric(text, "go_memstats_mallocs_total")
	bytes, ok2 := metric(text, "go_memstats_alloc_bytes_total")
	return objects, bytes, ok1 && ok2
}

// heapSince begins to count what the child allocates. What asking costs is measured by asking once more, and taken off.
func (c *child) heapSince(ctx context.Context) func() (objects, bytes float64) {
	o0, b0, _ := c.heap(ctx)
	o1, b1, ok := c.heap(ctx)
	return func() (float64, float64) {
		o2, b2, still := c.heap(ctx)
		if !ok || !still {
			return 0, 0
		}
		return o2 - o1 - (o1 - o0), b2 - b1 - (b1 - b0)
	}
}

func metric(text []byte, name string) (float64, bool) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(name+" ")); ok {
			v, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
			return v, err == nil
		}
	}
	return 0, false
}

// plain is the client for everything that is not measured.
var plain = sync.OnceValue(func() *http.Client { //nolint:gochecknoglobals // connections are worth sharing
	return &http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
})

const maxAnswer = 8 << 20

func fetch(ctx context.Context, uri string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := plain().Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", uri, res.Status)
	}
	return data, err
}

// answers is the readiness of whoever answers 200 at a path.
func answers(addr, path string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := fetch(ctx, "http://"+addr+path)
		return err
	}
}

// freePort finds a port of loopback that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
