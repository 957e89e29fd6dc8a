//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A flood is sent by one thread over non-blocking sockets, so that whoever sends costs less than whoever answers, however much more is
// sent than can be answered. Requests are written out beforehand, and each answer is looked at.
type flood struct {
	addr   string
	lasts  time.Duration
	cpu    int // that it is sent from; negative: any
	shares []*share
}

// share is a part of a flood: whose requests they are.
type share struct {
	name        string
	raw         func(i int) []byte
	good        []byte  // what the body of a good answer has
	rate        float64 // requests in a second that are due, whatever the answers do (open loop). Zero: the next upon each answer (closed loop)
	most        int     // requests; zero: as many as are due
	connections int

	free []*socket // of which no answer is awaited
	flooded
}

// flooded is what came of a share.
type flooded struct {
	sent, lost        int // lost: the connection ended, or nothing came in time
	refused           int // 429 and 503 that say when to come again
	wrong             int
	first             string          // of the wrong ones
	latencies, waited []time.Duration // of the good answers and of the refusals, from when they were sent, sorted
	opened            int             // connections
}

// socket is one connection.
type socket struct {
	fd    int
	of    *share
	since time.Time // when the request was sent whose answer is awaited; zero: none is
	part  []byte    // of an answer
}

// drainTime is how long answers may take that are not there when a flood ends.
const drainTime = 15 * time.Second

// send carries a flood out.
func (f *flood) send(ctx context.Context) error {
	runtime.LockOSThread() // and never unlocked: the thread is bound to its processor, and ends with its goroutine
	if f.cpu >= 0 {
		var set unix.CPUSet
		set.Set(f.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("bind to processor %d: %w", f.cpu, err)
		}
	}
	p, err := newPoller(f.addr)
	if err != nil {
		return err
	}
	defer p.close()
	for _, s := range f.shares {
		if err := p.connect(s); err != nil {
			return err
		}
	}
	began := time.Now()
	end := began.Add(f.lasts)
	for now := began; now.Before(end) && ctx.Err() == nil && f.unsent(); now = time.Now() {
		for _, s := range f.shares {
			p.due(s, now.Sub(began))
		}
		if err := p.answers(time.Millisecond); err != nil {
			return err
		}
	}
	for end = time.Now().Add(drainTime); p.awaited > 0 && time.Now().Before(end); {
		if err := p.answers(time.Millisecond); err != nil {
			return err
		}
	}
	for _, s := range f.shares {
		s.lost = s.sent - s.refused - s.wrong - len(s.latencies)
		slices.Sort(s.latencies)
		slices.Sort(s.waited)
	}
	return ctx.Err()
}

// unsent says whether there is anything left that may be sent.
func (f *flood) unsent() bool {
	return slices.ContainsFunc(f.shares, func(s *share) bool { return s.most == 0 || s.sent < s.most })
}

// quantile of sorted durations.
func quantile(list []time.Duration, q float64) time.Duration {
	return run{latencies: list}.quantile(q)
}

// poller waits for the answers of all connections at once.
type poller struct {
	to      unix.Sockaddr
	fd      int
	sockets map[int32]*socket
	events  []unix.EpollEvent
	in      []byte
	awaited int
}

func newPoller(addr string) (*poller, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &poller{
		to: &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, fd: fd,
		sockets: map[int32]*socket{}, events: make([]unix.EpollEvent, 512), in: make([]byte, 64<<10),
	}, nil
}

func (p *poller) close() {
	for fd := range p.sockets {
		_ = unix.Close(int(fd))
	}
	_ = unix.Close(p.fd)
}

// connect opens the connections of a share.
func (p *poller) connect(s *share) error {
	for range s.connections {
		c, err := p.open(s)
		if err != nil {
			return err
		}
		s.free = append(s.free, c)
	}
	return nil
}

// open waits until a connection stands. A listener that accepts no more lets it stand all the same, as long as its backlog has room.
func (p *poller) open(s *share) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &socket{fd: fd, of: s}
	err = errors.Join(
		unix.Connect(fd, p.to), unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}),
	)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p.sockets[int32(fd)] = c
	s.opened++
	return c, nil
}

// drop ends a connection; its request, if there was one, has no answer.
func (p *poller) drop(c *socket) {
	delete(p.sockets, int32(c.fd))
	_ = unix.Close(c.fd)
	if !c.since.IsZero() {
		p.awaited--
	}
}

// due sends what is due, over the connections that are free, the one first that was free for longest.
func (p *poller) due(s *share, since time.Duration) {
	n := len(s.free)
	if s.rate > 0 {
		n = min(n, int(s.rate*since.Seconds())-s.sent)
	}
	if s.most > 0 {
		n = min(n, s.most-s.sent)
	}
	if n <= 0 {
		return
	}
	for _, c := range s.free[:n] {
		raw := s.raw(s.sent)
		s.sent++
		c.since = time.Now()
		p.awaited++
		if wrote, err := unix.Write(c.fd, raw); err != nil || wrote < len(raw) {
			p.drop(c)
		}
	}
	s.free = append(s.free[:0], s.free[n:]...)
}

// answers takes what has come, and waits for it if nothing has.
func (p *poller) answers(patience time.Duration) error {
	n, err := unix.EpollWait(p.fd, p.events, int(patience.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	for _, e := range p.events[:max(n, 0)] {
		c := p.sockets[e.Fd]
		if c == nil {
			continue
		}
		n, err := unix.Read(c.fd, p.in)
		switch {
		case errors.Is(err, unix.EAGAIN):
			continue
		case err != nil || n == 0:
			p.drop(c)
			if c, err = p.open(c.of); err != nil {
				return err
			}
			c.of.free = append(c.of.free, c)
			continue
		}
		if err := p.took(c, p.in[:n]); err != nil {
			return err
		}
	}
	return nil
}

// took takes a part of an answer, mostly all of it.
func (p *poller) took(c *socket, data []byte) error {
	if len(c.part) > 0 {
		c.part = append(c.part, data...)
		data = c.part
	}
	head, body, whole := bytes.Cut(data, []byte("\r\n\r\n"))
	length, known := headerOf(head, "Content-Length")
	n, _ := strconv.Atoi(length)
	if !whole || known && len(body) < n {
		if len(c.part) == 0 {
			c.part = append(c.part, data...)
		}
		return nil
	}
	c.of.count(time.Since(c.since), head, body)
	c.part, c.since = c.part[:0], time.Time{}
	p.awaited--
	if last, _ := headerOf(head, "Connection"); last == "close" {
		of := c.of
		p.drop(c)
		var err error
		if c, err = p.open(of); err != nil {
			return err
		}
	}
	c.of.free = append(c.of.free, c)
	return nil
}

// count counts an answer.
func (s *share) count(took time.Duration, head, body []byte) {
	status := 0
	if len(head) > len("HTTP/1.1 200") {
		status, _ = strconv.Atoi(string(head[len("HTTP/1.1 "):len("HTTP/1.1 200")]))
	}
	_, later := headerOf(head, "Retry-After")
	switch {
	case status == http.StatusOK && bytes.Contains(body, s.good):
		s.latencies = append(s.latencies, took)
	case (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) && later:
		s.refused++
		s.waited = append(s.waited, took)
	default:
		s.wrong++
		if s.first == "" {
			s.first = string(head) + "\n" + string(body)
		}
	}
}

func headerOf(head []byte, name string) (string, bool) {
	for line := range bytes.Lines(head) {
		if key, value, ok := bytes.Cut(line, []byte(": ")); ok && strings.EqualFold(string(key), name) {
			return string(bytes.TrimSpace(value)), true
		}
	}
	return "", false
}

// bind binds all threads that a process has, and those that they will start, to the first processors.
func bind(pid, processors int) error {
	var set unix.CPUSet
	for i := range processors {
		set.Set(i)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		id, err1 := strconv.Atoi(task.Name())
		err = errors.Join(err, err1, unix.SchedSetaffinity(id, &set))
	}
	return err
}
