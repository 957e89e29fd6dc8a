package endpoint_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/agents"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/endpoint"
	"obolus/signals"
	"obolus/store"
	"obolus/token"
	"obolus/transaction"
)

// telling has a feed that runs until the test is over.
func telling(t *testing.T, w *world.World, change func(*endpoint.Config)) func(*endpoint.Config) {
	t.Helper()
	feed, err := signals.NewFeed(signals.FeedConfig{
		Issuer: world.Issuer, Ledger: w.Ledger, Keys: w.Keys, Signer: w.Signer, Now: w.Now, Look: 5 * time.Millisecond,
		Longest: func(context.Context) (time.Duration, error) { return time.Hour, nil },
		Epoch:   func(ctx context.Context) (store.Epoch, error) { return w.Live.InForce(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		feed.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	seen(t, feed)
	return func(c *endpoint.Config) {
		c.Feed, c.Settings.Beat = feed, 20*time.Millisecond
		if change != nil {
			change(c)
		}
	}
}

// seen waits until a feed has looked at the ledger, which is new as long as the clock stands still.
func seen(t *testing.T, feed *signals.Feed) {
	t.Helper()
	follower, _, err := feed.Follow(t.Context(), agents.Resource{ID: "any", URI: "https://any.test"}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Leave()
	if _, err := follower.Next(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
}

// stream is an open stream, line by line; the channel ends with it.
type stream struct {
	lines chan string
	end   context.CancelFunc
}

// listen opens a stream, or gives the refusal.
func (s *site) listen(query, last string, set ...func(*http.Request)) (*stream, answer) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events"+query, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth("mail-server", "secret")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	for _, f := range set {
		f(r)
	}
	res, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		defer cancel()
		defer res.Body.Close()
		a := answer{status: res.StatusCode, header: res.Header}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		a.body = string(body)
		if err := json.Unmarshal(body, &a.json); err != nil {
			s.t.Errorf("%d %s: %v", a.status, a.body, err)
		}
		return nil, a
	}
	if kind := res.Header.Get("Content-Type"); kind != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		s.t.Errorf("headers %v", res.Header)
	}
	out := &stream{lines: make(chan string, 1000), end: cancel}
	go func() {
		defer close(out.lines)
		defer res.Body.Close()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			out.lines <- lines.Text()
		}
	}()
	s.t.Cleanup(cancel)
	return out, answer{}
}

// until reads lines until one begins so, which it returns.
func (st *stream) until(t *testing.T, prefix string) string {
	t.Helper()
	for {
		select {
		case line, open := <-st.lines:
			if !open {
				t.Fatalf("the stream ended without %q", prefix)
			}
			if strings.HasPrefix(line, prefix) {
				return line
			}
		case <-time.After(time.Minute):
			t.Fatalf("no line begins with %q", prefix)
		}
	}
}

// ended waits until a stream has ended.
func (st *stream) ended(t *testing.T) {
	t.Helper()
	for late := time.After(time.Minute); ; {
		select {
		case _, open := <-st.lines:
			if !open {
				return
			}
		case <-late:
			t.Fatal("the stream goes on")
		}
	}
}

func stop(t *testing.T, w *world.World, kind transaction.Kind, id string) {
	t.Helper()
	if err := w.Tx.Stop(t.Context(), transaction.Target{Kind: kind, ID: id}, transaction.Cause{By: "operator"}); err != nil {
		t.Fatal(err)
	}
}

func TestStopsAreStreamed(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	s := newSiteOn(t, w, telling(t, w, nil))
	st, _ := s.listen("", "")
	if st == nil {
		t.Fatal("no stream")
	}
	st.until(t, ": alive")
	stop(t, w, transaction.KindAgent, "agent-a")
	st.until(t, "event: stop")
	id := strings.TrimPrefix(st.until(t, "id: "), "id: ")
	set := strings.TrimPrefix(st.until(t, "data: "), "data: ")
	ev, err := token.VerifySecurityEvent(t.Context(), set, token.Expect{Issuer: world.Issuer, Audience: mail, Keys: w.Keys, Now: w.Now})
	if err != nil || ev.Subject.Members["application"].Subject != "agent-a" {
		t.Errorf("%+v %v", ev, err)
	}
	st.until(t, ": alive")
	st.end()
	stop(t, w, transaction.KindAgent, "agent-b")
	again, _ := s.listen("?resource="+url.QueryEscape(mail), id)
	if line := again.until(t, "event: "); line != "event: stop" {
		t.Errorf("behind %s comes %q", id, line)
	}
	if next := strings.TrimPrefix(again.until(t, "id: "), "id: "); next == id {
		t.Error("the same stop comes again")
	}
	foreign, _ := s.listen("", "7.AAAAAAAAAAAA")
	if line := foreign.until(t, "event: "); line != "event: reset" {
		t.Errorf("behind a place of another ledger comes %q", line)
	}
	if a := s.get("/.well-known/oauth-authorization-server"); a.str("events_endpoint") != world.Issuer+"/events" {
		t.Errorf("the metadata says %q", a.str("events_endpoint"))
	}
}

func TestWhoMayFollow(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	s := newSiteOn(t, w, telling(t, w, nil))
	if _, err := w.Registry.PutResource(t.Context(), agents.Resource{
		ID: "calendar", URI: "https://calendar.test", Name: "Calendar", Servers: []string{"files-server"},
		Scopes: map[string]string{"calendar.read": "Read"}, Redemption: agents.RedemptionNone,
	}, 0); err != nil {
		t.Fatal(err)
	}
	as := func(id, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(id, secret) }
	}
	anonymous := func(r *http.Request) { r.Header.Del("Authorization") }
	for name, c := range map[string]struct {
		query  string
		set    func(*http.Request)
		status int
		code   oauth.Code
	}{
		"nobody":                            {"", anonymous, 401, oauth.InvalidClient},
		"who only says who it is":           {"?client_id=app", anonymous, 401, oauth.InvalidClient},
		"a wrong secret":                    {"", as("mail-server", "x"), 401, oauth.InvalidClient},
		"the server of another resource":    {"?resource=https://files.test", as("mail-server", "secret"), 400, oauth.InvalidTarget},
		"a resource that is none":           {"?resource=https://nowhere.test", as("mail-server", "secret"), 400, oauth.InvalidTarget},
		"two resources":                     {"?resource=urn:mail&resource=urn:mail", as("mail-server", "secret"), 400, oauth.InvalidRequest},
		"one of several resources, unnamed": {"", as("files-server", "secret"), 400, oauth.InvalidTarget},
	} {
		st, a := s.listen(c.query, "", c.set)
		if st != nil {
			t.Errorf("%s: a stream", name)
			continue
		}
		s.refused(a, c.status, c.code)
	}
	for query, set := range map[string]func(*http.Request){
		"?resource=urn:mail": as("mail-server", "secret"), "?resource=https://calendar.test": as("files-server", "secret"),
	} {
		st, a := s.listen(query, "", set)
		if st == nil {
			t.Errorf("%s: %d %s", query, a.status, a.body)
			continue
		}
		st.until(t, ": alive")
	}
	if a := s.post("/events", url.Values{}); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.status)
	}
	agent := s.Agent("served-by", nil)
	res, version, err := w.Registry.Resource(t.Context(), "calendar")
	if err != nil {
		t.Fatal(err)
	}
	res.Servers = append(res.Servers, "served-by")
	if _, err := w.Registry.PutResource(t.Context(), res, version); err != nil {
		t.Fatal(err)
	}
	byKey, a := s.listen("", "", anonymous, func(r *http.Request) { r.Header.Set("Client-Assertion", s.SignedAssertion("served-by", agent)) })
	if byKey == nil {
		t.Fatalf("by a key: %d %s", a.status, a.body)
	}
	byKey.until(t, ": alive")

	// Who does not serve the resource any more is told no more.
	if res, version, err = w.Registry.Resource(t.Context(), "calendar"); err != nil {
		t.Fatal(err)
	}
	res.Servers = res.Servers[:1]
	if _, err := w.Registry.PutResource(t.Context(), res, version); err != nil {
		t.Fatal(err)
	}
	w.Pass(11 * time.Second)
	byKey.ended(t)
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	var detached atomic.Int32
	s := newSiteOn(t, w, telling(t, w, func(c *endpoint.Config) {
		c.Settings.Streams, c.Settings.StreamsEach = 3, 2
		c.Detach = func(http.ResponseWriter) { detached.Add(1) }
	}))
	files := func(r *http.Request) { r.SetBasicAuth("files-server", "secret") }
	open := func(set ...func(*http.Request)) (*stream, answer) {
		st, a := s.listen("", "", set...)
		if st != nil {
			st.until(t, ": alive")
		}
		return st, a
	}
	first, _ := open()
	open()
	if _, a := open(); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("a third stream of one client: %d %s", a.status, a.body)
	}
	open(files)
	if _, a := open(files); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a fourth stream: %d %s", a.status, a.body)
	}
	if detached.Load() != 3 {
		t.Errorf("%d streams were let go of", detached.Load())
	}
	first.end()
	for late := time.Now().Add(time.Minute); ; {
		if st, _ := open(files); st != nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal("the place of a stream that has ended is not free")
		}
	}
}

// pipes is a listener whose connections hold nothing back: a write waits for its reader.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// Who does not read is dropped, and others get the place.
func TestASlowReaderIsDropped(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	s := newSiteOn(t, w, telling(t, w, func(c *endpoint.Config) { c.Settings.StreamsEach = 1 }))
	listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: s.mux}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	mine, theirs := net.Pipe()
	defer mine.Close()
	listener.conns <- theirs
	r, err := http.NewRequest(http.MethodGet, s.url+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("mail-server", "secret")
	began := time.Now()
	if err := r.Write(mine); err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Read(make([]byte, 1)); err != nil { // the answer has begun, and nothing more of it is read
		t.Fatal(err)
	}
	if _, a := s.listen("", ""); a.status != http.StatusTooManyRequests && time.Since(began) < 5*time.Second { // within which it must read
		t.Errorf("beside it: %d %s", a.status, a.body)
	}
	for late := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if st, _ := s.listen("", ""); st != nil {
			return
		}
		if time.Now().After(late) {
			t.Fatal("its place is not free")
		}
	}
}

// Clients that come and go leave nothing behind.
func TestStreamsLeaveNothingBehind(t *testing.T) {
	w := world.New(t)
	s := newSiteOn(t, w, telling(t, w, func(c *endpoint.Config) { c.Settings.StreamsEach = 100 }))
	warm, _ := s.listen("", "")
	warm.until(t, ": alive")
	warm.end()
	warm.ended(t)
	time.Sleep(50 * time.Millisecond)
	before := runtime.NumGoroutine()
	for range 3 {
		var open []*stream
		for range 30 {
			st, _ := s.listen("", "")
			st.until(t, ": alive")
			open = append(open, st)
		}
		for _, st := range open {
			st.end()
			st.ended(t)
		}
	}
	for late := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+8; time.Sleep(20 * time.Millisecond) {
		client.CloseIdleConnections()
		if time.Now().After(late) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestAStreamWithoutTheLedger(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	s := newSiteOn(t, w, telling(t, w, nil))
	st, _ := s.listen("", "")
	st.until(t, ": alive")
	w.Records.Down.Store(true)
	w.Pass(2 * time.Second)
	st.ended(t)
	if st, a := s.listen("", ""); st != nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("without the ledger: %d %s", a.status, a.body)
	}
	w.Records.Down.Store(false)
	again, _ := s.listen("", "")
	for late := time.Now().Add(time.Minute); again == nil && time.Now().Before(late); {
		again, _ = s.listen("", "") // it may not have been looked at yet
	}
	if again == nil {
		t.Fatal("with the ledger there is no stream")
	}
	again.until(t, ": alive")
}
