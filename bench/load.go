//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// request is one request, written out, and what its answer must be. What follows from the answer is sent at once on the same
// connection, and counts as part of the same request.
type request struct {
	raw   []byte
	check func(status int, body []byte) error
	next  func(body []byte) (request, error) // nil: nothing follows
}

// load is how requests are sent: each once, over connections that stay open, never more than maxLoad of them.
type load struct {
	addr     string
	more     []string // further servers: connections are spread over all
	requests []request
	workers  int
	// rate, when not zero, is the number of requests in a second at which they are due, whatever the answers do (open
	// loop). A latency then counts from when the request was due. Zero: a worker sends its next request upon the answer (closed loop).
	rate float64
	// sent makes a latency count from when the request was sent, for a load whose sender may be late.
	sent bool
}

const (
	maxLoad    = 200_000 // requests of one run
	maxRunTime = 60 * time.Second
)

// run is what came of a load.
type run struct {
	took      time.Duration
	latencies []time.Duration // of the good answers, sorted
	failed    int
	first     error // of those that failed
}

func (r run) perSecond() float64 {
	return float64(len(r.latencies)) / r.took.Seconds()
}

// quantile of the latencies; zero if there is none.
func (r run) quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// send carries out a load. Answers that are not what they must be are counted, and so are lost connections, which are
// opened anew.
func (l load) send(ctx context.Context) (run, error) {
	if len(l.requests) == 0 || len(l.requests) > maxLoad || l.workers < 1 {
		return run{}, fmt.Errorf("a load of %d requests", len(l.requests))
	}
	ctx, cancel := context.WithTimeout(ctx, maxRunTime)
	defer cancel()
	due := l.due()
	results := make([]time.Duration, len(l.requests))
	var failed atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	addrs := append([]string{l.addr}, l.more...)
	for i := range l.workers {
		wg.Go(func() {
			w := &wire{addr: addrs[i%len(addrs)]}
			defer w.close()
			for {
				i, from, ok := due(ctx, began)
				if !ok {
					return
				}
				if err := w.do(ctx, l.requests[i]); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, &err)
					results[i] = -1
					continue
				}
				results[i] = max(time.Since(from), 1)
			}
		})
	}
	wg.Wait()
	r := run{took: time.Since(began), failed: int(failed.Load())}
	for _, d := range results {
		if d > 0 {
			r.latencies = append(r.latencies, d)
		}
	}
	slices.Sort(r.latencies)
	if e := first.Load(); e != nil {
		r.first = *e
	}
	if len(r.latencies)+r.failed < len(l.requests) {
		return r, fmt.Errorf("only %d of %d requests were answered in time", len(r.latencies)+r.failed, len(l.requests))
	}
	return r, nil
}

// due hands out the requests: the index of the next one, from when its latency counts.
func (l load) due() func(context.Context, time.Time) (int, time.Time, bool) {
	var next atomic.Int64
	take := func(ctx context.Context) (int, bool) {
		i := int(next.Add(1)) - 1
		return i, i < len(l.requests) && ctx.Err() == nil
	}
	if l.rate == 0 {
		return func(ctx context.Context, _ time.Time) (int, time.Time, bool) {
			i, ok := take(ctx)
			return i, time.Now(), ok
		}
	}
	gap := time.Duration(float64(time.Second) / l.rate)
	return func(ctx context.Context, began time.Time) (int, time.Time, bool) {
		i, ok := take(ctx)
		at := began.Add(time.Duration(i) * gap)
		if ok {
			sleepUntil(at)
		}
		if l.sent {
			at = time.Now()
		}
		return i, at, ok
	}
}

// wire is one connection.
type wire struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

const answerTime = 10 * time.Second

func (w *wire) do(ctx context.Context, r request) error {
	if w.conn == nil {
		conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp", w.addr)
		if err != nil {
			return err
		}
		w.conn, w.in = conn, bufio.NewReaderSize(conn, 16<<10)
	}
	for {
		status, body, err := w.trip(r.raw)
		if err != nil {
			w.close()
			return err
		}
		if err := r.check(status, body); err != nil || r.next == nil {
			return err
		}
		if r, err = r.next(body); err != nil {
			return err
		}
	}
}

func (w *wire) trip(raw []byte) (int, []byte, error) {
	if err := w.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, nil, err
	}
	if _, err := w.conn.Write(raw); err != nil {
		return 0, nil, err
	}
	res, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	if res.ContentLength > maxAnswer {
		return 0, nil, errors.New("the answer is too large")
	}
	if w.body == nil {
		w.body = make([]byte, 0, 16<<10)
	}
	w.body, err = appendAll(w.body[:0], res.Body)
	if err == nil && res.Close {
		err = errors.New("the server closed the connection")
	}
	return res.StatusCode, w.body, err
}

func appendAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil || len(b) > maxAnswer {
			return b, errors.Join(err, errTooLong(len(b)))
		}
	}
}

func errTooLong(n int) error {
	if n > maxAnswer {
		return errors.New("the answer is too large")
	}
	return nil
}

func (w *wire) close() {
	if w.conn != nil {
		w.conn.Close()
	}
	w.conn = nil
}
