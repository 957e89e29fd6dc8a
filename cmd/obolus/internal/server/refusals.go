package server

import (
	"container/list"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// refusals are what those are told who were not let in: to come again. One costs little, but where clients come again at once after each of
// them, the processors soon do nothing else. So one is given for each request that was carried out: whatever the processors are worth, those
// inside hardly feel it, and to wait for one costs nothing. Who has waited long has it all the same, and so has whoever comes when too many wait.
type refusals struct {
	log     *slog.Logger
	now     func() time.Time
	counted map[string]prometheus.Counter // by method
	head    http.Header
	later   [3][]string // Retry-After
	body    []byte

	mu   sync.Mutex
	held list.List // of chan struct{}, closed when a refusal is given; the first waits longest
	n    int       // since it was last said how many
	said time.Time
}

const (
	refusalTime = 2 * time.Second // the longest that one is waited for
	mostHeld    = maxConnections
)

func newRefusals(m *metrics, log *slog.Logger, now func() time.Time) *refusals {
	f := &refusals{log: log, now: now, counted: map[string]prometheus.Counter{}}
	for _, method := range append(methods(), otherMethod) {
		f.counted[method] = m.requests.WithLabelValues(method, "full", strconv.Itoa(http.StatusServiceUnavailable))
	}
	f.body = []byte(`{"error":"temporarily_unavailable","error_description":"the server has too much in hand; try again"}` + "\n")
	f.head = http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Content-Length": {strconv.Itoa(len(f.body))}}
	for i := range f.later {
		f.later[i] = []string{strconv.Itoa(i + 1)}
	}
	return f
}

// give tells a request that it was not let in. Those that come together are told different times.
func (f *refusals) give(w http.ResponseWriter, r *http.Request) {
	n := f.count(r.Context())
	head := w.Header()
	maps.Copy(head, f.head)
	head["Retry-After"] = f.later[n%len(f.later)]
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(f.body)
	f.counted[methodName(r.Method)].Inc()
}

// count counts a refusal, and says once a second how many there were.
func (f *refusals) count(ctx context.Context) int {
	f.mu.Lock()
	f.n++
	n, now := f.n, f.now()
	say := now.Sub(f.said) >= time.Second
	if say {
		f.n, f.said = 0, now
	}
	f.mu.Unlock()
	if say {
		f.log.WarnContext(ctx, "there is more to do than can be done", "refused", n)
	}
	return n
}

// wait waits until it is the turn of a request to be refused.
func (f *refusals) wait(r *http.Request) {
	r.Body = http.NoBody // what was received of it is let go
	f.mu.Lock()
	if f.held.Len() >= mostHeld {
		f.mu.Unlock()
		return
	}
	given := make(chan struct{})
	at := f.held.PushBack(given)
	f.mu.Unlock()
	over := time.NewTimer(refusalTime)
	defer over.Stop()
	select {
	case <-given:
		return
	case <-over.C:
	case <-r.Context().Done():
	}
	f.mu.Lock()
	f.held.Remove(at) // nothing, if it was given at the last moment
	f.mu.Unlock()
}

// another says that a request was carried out.
func (f *refusals) another() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if first := f.held.Front(); first != nil {
		given, _ := f.held.Remove(first).(chan struct{})
		close(given)
	}
}
