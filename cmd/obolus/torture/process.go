//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// child is a program that is started, and ended in every way a program can end, again and again.
type child struct {
	name string
	path string
	args []string
	env  []string
	dir  string
	who  *syscall.Credential
	down atomic.Bool // it is being ended or started, and by whom is settled

	mu     sync.Mutex
	cmd    *exec.Cmd
	orders io.WriteCloser // its standard input
	gone   chan struct{}
}

// starter starts every process from one thread that lives as long as this program: the kernel ends a child when the thread that
// started it ends, so that none outlives a killed torture.
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

// start runs the program. It does not wait until that is ready.
func (c *child) start() error {
	out, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(c.path, c.args...) //nolint:gosec,noctx // it is one of ours, and is ended by kill
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, c.env...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: c.who}
	orders, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	gone := make(chan struct{})
	c.mu.Lock()
	c.cmd, c.orders, c.gone = cmd, orders, gone
	c.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	return nil
}

func (c *child) log() string { return filepath.Join(c.dir, c.name+".log") }

func (c *child) tail() string {
	data, err := os.ReadFile(c.log())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}

// order writes a line to the standard input.
func (c *child) order(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.orders != nil {
		_, _ = io.WriteString(c.orders, line+"\n") // one that has just ended needs no orders
	}
}

// pid is zero for one that was never started.
func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// ended says whether the program runs no more.
func (c *child) ended() bool {
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	select {
	case <-gone:
		return true
	default:
		return gone == nil
	}
}

// kill is kill -9 of the program and of all that it started, at once: nobody among them notices that another has ended.
func (c *child) kill() {
	if c.pid() == 0 || c.ended() {
		return
	}
	family := c.family()
	signalAll(family, syscall.SIGSTOP)
	signalAll(c.family(), syscall.SIGKILL) // those too that came meanwhile
	<-c.gone
	for _, pid := range family {
		awaitEnd(pid)
	}
}

// pause makes the program and all that it started hang.
func (c *child) pause() { signalAll(c.family(), syscall.SIGSTOP) }

// resume lets them go on.
func (c *child) resume() { signalAll(c.family(), syscall.SIGCONT) }

// family is the program and its children, itself first.
func (c *child) family() []int {
	self := c.pid()
	if self == 0 || c.ended() {
		return nil
	}
	found := []int{self}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return found
	}
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		_, rest, _ := strings.Cut(string(data), ") ") // the name of a program may have spaces
		fields := strings.Fields(rest)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(self) {
			found = append(found, pid)
		}
	}
	return found
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s) // it may have ended
	}
}

// awaitEnd waits until nothing of a killed process is left but what its parent has to fetch.
func awaitEnd(pid int) {
	for range 1000 {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, _ := strings.Cut(string(data), ") ")
		if err != nil || strings.HasPrefix(state, "Z") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

var errEnded = errors.New("it ended")

// await asks until ready says yes.
func await(what string, patience time.Duration, ready func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Now().After(end) || errors.Is(err, errEnded) {
			return fmt.Errorf("%s is not ready: %w", what, err)
		}
	}
}

// ports hands out ports of loopback that nobody listens on and that it has not handed out before.
type ports struct {
	mu   sync.Mutex
	used []string
}

func (p *ports) next() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is closed at once
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return "", err
		}
		if !slices.Contains(p.used, addr) {
			p.used = append(p.used, addr)
			return addr, nil
		}
	}
	return "", errors.New("no port is free")
}
