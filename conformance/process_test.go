package conformance_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// node is one process of the server.
type node struct {
	base string // http://127.0.0.1:port
	addr string
	args []string
	env  []string
	log  string // file
	cmd  *exec.Cmd
	gone chan struct{}
}

// starter starts every process from one thread that lives as long as the tests: the kernel ends a child when the thread
// that started it ends.
var starter = sync.OnceValue(func() chan func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// start runs the process and waits until it says that it is ready.
func (n *node) start() error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.ready(2 * time.Minute)
}

func (n *node) launch() error {
	path, err := program()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(path, n.args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=halt_on_error=0 exitcode=0"}, n.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return err
	}
	gone := make(chan struct{})
	n.cmd, n.gone = cmd, gone
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	return nil
}

func (n *node) ready(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.base+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := wire.RoundTrip(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-n.gone:
			return fmt.Errorf("the server ended: %s", tail(n.log))
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %s", tail(n.log))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func tail(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

// end stops the process in an orderly way, as an operator would.
func (n *node) end() {
	n.signal(syscall.SIGTERM)
	select {
	case <-n.gone:
	case <-time.After(time.Minute):
		n.kill()
	}
}

// kill is kill -9.
func (n *node) kill() {
	n.signal(syscall.SIGKILL)
	<-n.gone
}

func (n *node) signal(s syscall.Signal) { _ = n.cmd.Process.Signal(s) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
