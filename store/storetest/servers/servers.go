// Package servers starts real Redis and PostgreSQL servers for tests: private ones, on loopback, with their data in a
// temporary folder, that end with the test process however it ends. A missing binary fails the test; nothing is skipped.
package servers

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds how long a server may take to start or to stop.
const patience = 2 * time.Minute

// Main runs the tests of a package that uses Postgres and removes the shared cluster after them. It goes into TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// process is a running server. Its end is waited for in one goroutine, so nothing is left a zombie.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	out   *lockedBuffer
}

// lockedBuffer keeps what a server says, for the message of a failed start.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write keeps what was said.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was said.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// launcher starts every server from one thread that lives as long as the process: the kernel sends the death signal
// of a child when the thread that started it ends.
type launcher struct {
	once sync.Once
	jobs chan func()
}

func (l *launcher) run(job func() error) error {
	l.once.Do(func() {
		l.jobs = make(chan func())
		go func() {
			runtime.LockOSThread()
			for job := range l.jobs {
				job()
			}
		}()
	})
	done := make(chan error)
	l.jobs <- func() { done <- job() }
	return <-done
}

// start runs a command that dies by the signal when this process does.
func start(cmd *exec.Cmd, death syscall.Signal) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{}), out: &lockedBuffer{}}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = death
	cmd.WaitDelay = time.Second
	if err := launch.run(cmd.Start); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // however it ended, it ended
		close(p.ended)
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have ended by itself
}

// end signals the process and waits until it is gone, killing it when it takes too long.
func (p *process) end(s syscall.Signal) {
	p.signal(syscall.SIGCONT)
	p.signal(s)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-p.ended
	}
}

// await calls ready until it agrees, the process ends or patience does.
func (p *process) await(ready func() error) error {
	deadline := time.After(patience)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("server ended: %s", p.out)
		case <-deadline:
			return fmt.Errorf("server does not answer: %w: %s", err, p.out)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// FreePort returns a port of loopback that nobody listens on, also while the server that is to listen there is not yet, or not now: it is
// none that the system chooses for those who ask for any, and this process is told it once.
func FreePort(tb testing.TB) int {
	tb.Helper()
	port, err := ports.take()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// portRange gives ports below those that Linux gives to who asks for any, from 32768 on. The bus of a Redis Cluster is 10000 above.
type portRange struct {
	mu   sync.Mutex
	next int // zero: begin anywhere
}

const firstPort, lastPort = 10000, 19999

func (r *portRange) take() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == 0 {
		n, err := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort+1))
		if err != nil {
			return 0, err
		}
		r.next = firstPort + int(n.Int64())
	}
	for range lastPort - firstPort + 1 {
		port := r.next
		if r.next++; r.next > lastPort {
			r.next = firstPort
		}
		l, err := (&net.ListenConfig{}).Listen(noContext(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port is free")
}

const folderPrefix = "obolus-test-"

// folder makes a temporary folder that names this process, and removes those of processes that are no more.
func folder() (string, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), folderPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // the next one tries again
		}
	}
	return os.MkdirTemp("", fmt.Sprint(folderPrefix, os.Getpid(), "-"))
}
