package resource_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/resource"
	"obolus/token"
)

// stream is what an issuer tells of stops: the same texts to whoever comes, and more as they are added.
type stream struct {
	is    *issuer
	opens atomic.Int32
	last  atomic.Value // the Last-Event-ID that came last

	mu    sync.Mutex
	texts []string
	more  chan struct{} // closed when there are more, or none any more
	down  bool
	turns int    // how often it was turned on or off, which ends what is open
	kind  string // Content-Type; empty: the right one
}

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.is.mu.Lock()
	known := s.is.asserted(r, r.Header.Get("Client-Assertion"))
	s.is.mu.Unlock()
	s.mu.Lock()
	down, kind, turns := s.down, s.kind, s.turns
	s.mu.Unlock()
	if !known || down || r.URL.Query().Get("resource") != api {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.opens.Add(1)
	s.last.Store(r.Header.Get("Last-Event-ID"))
	if kind == "" {
		kind = "text/event-stream"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	for sent := 0; ; {
		s.mu.Lock()
		texts, more, over := s.texts, s.more, s.turns != turns
		s.mu.Unlock()
		if over {
			return
		}
		for ; sent < len(texts); sent++ {
			fmt.Fprint(w, texts[sent])
		}
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// tell sends a text to all who listen and will.
func (s *stream) tell(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, text)
	close(s.more)
	s.more = make(chan struct{})
}

// cut ends all streams and lets nobody open one.
func (s *stream) cut() { s.turn(true) }

func (s *stream) turn(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	s.turns++
	close(s.more)
	s.more = make(chan struct{})
}

// clear forgets what was told.
func (s *stream) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = nil
}

const alive = ": alive\n\n"

type object = map[string]any

func (is *issuer) who(id string) object {
	return object{"format": "iss_sub", "iss": is.server.URL, "sub": id}
}

func opaque(id string) object { return object{"format": "opaque", "id": id} }

// set is the token of a stop, with changes to its claims.
func (is *issuer) set(members object, changes object) string {
	is.t.Helper()
	subject := object{"format": "complex"}
	maps.Copy(subject, members)
	now := is.now().Unix()
	payload, err := json.Marshal(merge(object{
		"iss": is.server.URL, "aud": api, "iat": now, "jti": "s", "sub_id": subject,
		"events": object{token.EventSessionRevoked: object{"event_timestamp": now, "until": now + 3600}},
	}, changes))
	if err != nil {
		is.t.Fatal(err)
	}
	signed, err := token.NewIssuer(is.server.URL).SignAs("secevent+jwt", payload, is.signing)
	if err != nil {
		is.t.Fatal(err)
	}
	return signed
}

func stopEvent(set string) string { return "event: stop\nid: 1.abc\ndata: " + set + "\n\n" }

// follow has a guard follow until the test is over.
func follow(t *testing.T, g *resource.Guard) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Follow(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func followed(c *resource.Config) { c.Stops, c.StopsLost = resource.StopsFollowed, time.Minute }

// eventually waits for a request to be answered so.
func eventually(t *testing.T, h http.Handler, bearer string, status int) *httptest.ResponseRecorder {
	t.Helper()
	for late := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		w := do(h, request("POST", "/mail/send", "{}", bearer))
		if w.Code == status {
			return w
		}
		if time.Now().After(late) {
			t.Fatalf("the answer stays %d %s, want %d", w.Code, w.Body, status)
		}
	}
}

func TestAStopEndsWhatItMeans(t *testing.T) {
	t.Parallel()
	session := func(c *token.Claims) {
		c.ID, c.Txn = "e1.abc.x", "txn_abc.def"
		c.Act = &token.Actor{
			Issuer: c.Issuer, Subject: "agent-a", Prior: json.RawMessage(`{"iss":"` + c.Issuer + `","sub":"agent-b"}`),
		}
		c.Context = &token.Context{Consent: "grant-1", Source: "e1.own.y", Origin: "app", Issuer: "https://idp.test"}
	}
	for _, c := range []struct {
		name    string
		members func(is *issuer) object
		changes func(is *issuer) object
		ends    bool
		lasting bool // tokens issued later are meant too
	}{
		{name: "its user", members: func(is *issuer) object { return object{"user": is.who("alice")} }, ends: true},
		{name: "another user", members: func(is *issuer) object { return object{"user": is.who("bob")} }},
		{name: "its agent", members: func(is *issuer) object { return object{"application": is.who("agent-a")} }, ends: true},
		{name: "an agent deeper in its chain", members: func(is *issuer) object { return object{"application": is.who("agent-b")} }, ends: true},
		{name: "the app it came through", members: func(is *issuer) object { return object{"application": is.who("app")} }, ends: true},
		{name: "another agent", members: func(is *issuer) object { return object{"application": is.who("agent-c")} }},
		{name: "its grant", members: func(*issuer) object { return object{"grant": opaque("grant-1")} }, ends: true, lasting: true},
		{name: "its grant, with user and agent", members: func(is *issuer) object {
			return object{"grant": opaque("grant-1"), "user": is.who("alice"), "application": is.who("agent-a")}
		}, ends: true, lasting: true},
		{name: "a grant of another user", members: func(is *issuer) object { return object{"grant": opaque("grant-1"), "user": is.who("bob")} }},
		{name: "its user with its agent", members: func(is *issuer) object { return object{"user": is.who("alice"), "application": is.who("agent-a")} }, ends: true},
		{name: "its user with another agent", members: func(is *issuer) object { return object{"user": is.who("alice"), "application": is.who("agent-c")} }},
		{name: "its transaction", members: func(*issuer) object { return object{"txn": opaque("txn_abc.def")} }, ends: true, lasting: true},
		{name: "the transaction it came of", members: func(*issuer) object { return object{"txn": opaque("txn_abc")} }, ends: true, lasting: true},
		{name: "a transaction with a name alike", members: func(*issuer) object { return object{"txn": opaque("txn_ab")} }},
		{name: "itself", members: func(is *issuer) object {
			return object{"token": object{"format": "jwt_id", "iss": is.server.URL, "jti": "e1.abc.x"}}
		}, ends: true, lasting: true},
		{name: "the token it came of", members: func(is *issuer) object {
			return object{"token": object{"format": "jwt_id", "iss": is.server.URL, "jti": "e1.own.y"}}
		}, ends: true, lasting: true},
		{name: "another token of its transaction", members: func(is *issuer) object {
			return object{"token": object{"format": "jwt_id", "iss": is.server.URL, "jti": "e1.abc.z"}}
		}, changes: func(is *issuer) object {
			now := is.now().Unix()
			return object{"events": object{token.EventSessionRevoked: object{"event_timestamp": now, "txn": "txn_abc"}}}
		}, ends: true, lasting: true},
		{name: "its key", members: func(is *issuer) object { return object{"key": opaque(is.signing.KeyID())} }, ends: true, lasting: true},
		{name: "another key", members: func(*issuer) object { return object{"key": opaque("other")} }},
		{name: "the issuer of its user's token", members: func(*issuer) object { return object{"issuer": object{"format": "uri", "uri": "https://idp.test"}} }, ends: true},
		{name: "its user in a session, which is not told apart", members: func(is *issuer) object { return object{"user": is.who("alice"), "session": opaque("s")} }, ends: true},
		{name: "all from before an epoch", members: func(*issuer) object { return object{"epoch": opaque("2")} }, ends: true},
		{name: "something that is not known", members: func(*issuer) object { return object{"tenant": opaque("t")} }, ends: true},
		{name: "an event of another type", members: func(is *issuer) object { return object{"user": is.who("alice")} }, changes: func(*issuer) object {
			return object{"events": object{"https://example.test/event": object{}}}
		}},
		{name: "a stop of before", members: func(is *issuer) object { return object{"user": is.who("alice")} }, changes: func(is *issuer) object {
			return object{"events": object{token.EventSessionRevoked: object{"event_timestamp": is.now().Unix() - 60}}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t)
			g := is.guard(followed)
			h := g.Require(resource.Rule{})(new(effects))
			is.stream.tell(alive)
			follow(t, g)
			bearer := is.token(session)
			eventually(t, h, bearer, http.StatusOK)
			var changes object
			if c.changes != nil {
				changes = c.changes(is)
			}
			is.stream.tell(stopEvent(is.set(c.members(is), changes)) + alive)
			other := is.token(func(c *token.Claims) { c.Subject = "nobody" })
			is.stream.tell(stopEvent(is.set(object{"user": is.who("nobody")}, nil)))
			eventually(t, h, other, http.StatusUnauthorized) // all before it was taken in
			w := do(h, request("POST", "/mail/send", "{}", bearer))
			if (w.Code == http.StatusUnauthorized) != c.ends {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if w.Code == http.StatusUnauthorized && !strings.Contains(w.Body.String(), "stopped") {
				t.Errorf("%s", w.Body)
			}
			if w := do(h, request("POST", "/mail/send", "{}", is.token(session, once))); w.Code != http.StatusOK {
				t.Errorf("a one-transaction token is for the authorization server to judge: %d %s", w.Code, w.Body)
			}
		})
	}
}

// clockOf is a clock that moves when it is told to.
func clockOf(is *issuer) func(time.Duration) {
	var ahead atomic.Int64
	start := time.Now()
	is.now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	return func(d time.Duration) { ahead.Add(int64(d)) }
}

func TestWhatIsIssuedAfterAStopCounts(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	pass := clockOf(is)
	g := is.guard(func(c *resource.Config) { c.Stops, c.StopsLost = resource.InsecureStopsIfHeard, time.Minute })
	h := g.Require(resource.Rule{})(new(effects))
	follow(t, g)
	is.stream.tell(stopEvent(is.set(object{"grant": opaque("g")}, nil)) + stopEvent(is.set(object{"user": is.who("alice")}, nil)) + alive)
	eventually(t, h, is.token(), http.StatusUnauthorized)
	granted := func(c *token.Claims) { c.Context = &token.Context{Consent: "g"} }
	pass(10 * time.Second)
	if w := do(h, request("POST", "/mail/send", "{}", is.token())); w.Code != http.StatusOK {
		t.Errorf("a token of after the stop: %d %s", w.Code, w.Body)
	}
	if w := do(h, request("POST", "/mail/send", "{}", is.token(granted))); w.Code != http.StatusUnauthorized {
		t.Errorf("a token under a grant that was withdrawn: %d", w.Code)
	}
	pass(2 * time.Hour) // nothing from then can live any more, and the memory of it goes with the next stop
	is.stream.tell(stopEvent(is.set(object{"user": is.who("bob")}, nil)))
	eventually(t, h, is.token(func(c *token.Claims) { c.Subject = "bob" }), http.StatusUnauthorized)
	if w := do(h, request("POST", "/mail/send", "{}", is.token(granted))); w.Code != http.StatusOK {
		t.Errorf("a stop is remembered for ever: %d", w.Code)
	}
}

func TestALostStream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		stops resource.Stops
		lost  int // the answer while nothing is heard
	}{
		{"fails closed", resource.StopsFollowed, http.StatusServiceUnavailable},
		{"goes on by setting", resource.InsecureStopsIfHeard, http.StatusOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t)
			pass := clockOf(is)
			var log strings.Builder
			var mu sync.Mutex
			g := is.guard(func(cfg *resource.Config) {
				cfg.Stops, cfg.StopsLost = c.stops, 20*time.Second
				cfg.Log = slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))
			})
			h := g.Require(resource.Rule{})(new(effects))
			if w := do(h, request("POST", "/mail/send", "{}", is.token())); w.Code != c.lost {
				t.Errorf("before anything is heard: %d", w.Code)
			}
			if err := g.Ready(t.Context()); (err == nil) != (c.lost == http.StatusOK) {
				t.Errorf("ready: %v", err)
			}
			follow(t, g)
			alices := is.token()
			is.stream.tell(stopEvent(is.set(object{"user": is.who("alice")}, nil)) + ": alive\nid: 7.abc\n\n")
			eventually(t, h, alices, http.StatusUnauthorized)
			bobs := func() string { return is.token(func(c *token.Claims) { c.Subject = "bob" }) }
			eventually(t, h, bobs(), http.StatusOK)
			is.stream.cut()
			pass(5 * time.Second)
			if w := do(h, request("POST", "/mail/send", "{}", bobs())); w.Code != http.StatusOK {
				t.Errorf("lost for a moment: %d", w.Code)
			}
			pass(20 * time.Second)
			w := do(h, request("POST", "/mail/send", "{}", bobs()))
			if w.Code != c.lost || c.lost == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
				t.Errorf("lost: %d %s", w.Code, w.Body)
			}
			is.stream.clear()
			is.stream.tell(alive)
			is.stream.turn(false)
			eventually(t, h, bobs(), http.StatusOK)
			for late := time.Now().Add(time.Minute); is.stream.last.Load() != "7.abc"; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(late) {
					t.Fatalf("it goes on behind %q", is.stream.last.Load())
				}
			}
			if w := do(h, request("POST", "/mail/send", "{}", alices)); w.Code != http.StatusUnauthorized {
				t.Errorf("what was known before is forgotten: %d", w.Code)
			}
			mu.Lock()
			defer mu.Unlock()
			if !strings.Contains(log.String(), "the stream of stops was lost") {
				t.Errorf("the log says %s", log.String())
			}
		})
	}
}

// locked is a log that several write to.
type locked struct {
	mu *sync.Mutex
	to *strings.Builder
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

func TestAResetForgets(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(followed)
	h := g.Require(resource.Rule{})(new(effects))
	follow(t, g)
	stopped := is.token()
	is.stream.tell(stopEvent(is.set(object{"user": is.who("alice")}, nil)) + alive)
	eventually(t, h, stopped, http.StatusUnauthorized)
	is.stream.tell("event: reset\ndata: {}\n\n")
	eventually(t, h, is.token(), http.StatusServiceUnavailable)
	is.stream.tell(alive)
	eventually(t, h, is.token(), http.StatusOK)
}

// An event that cannot be believed is not passed over: what it was meant to say is not known.
func TestAStreamThatCannotBeBelieved(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]func(is *issuer) string{
		"another audience": func(is *issuer) string {
			return is.set(object{"user": is.who("alice")}, object{"aud": "https://other.test"})
		},
		"another issuer": func(is *issuer) string {
			return is.set(object{"user": is.who("alice")}, object{"iss": "https://other.test"})
		},
		"no signature": func(is *issuer) string {
			return mutate(is.set(object{"user": is.who("alice")}, nil), 1, func(m map[string]any) { m["jti"] = "x" })
		},
		"another type": func(is *issuer) string {
			return mutate(is.set(object{"user": is.who("alice")}, nil), 0, func(m map[string]any) { m["typ"] = "JWT" })
		},
		"an access token":  func(is *issuer) string { return is.token() },
		"no token":         func(*issuer) string { return "x" },
		"no subject":       func(is *issuer) string { return is.set(nil, object{"sub_id": nil}) },
		"a simple subject": func(is *issuer) string { return is.set(nil, object{"sub_id": is.who("alice")}) },
		"a user elsewhere": func(is *issuer) string {
			return is.set(object{"user": object{"format": "iss_sub", "iss": "https://other.test", "sub": "alice"}}, nil)
		},
		"no time": func(is *issuer) string {
			return is.set(object{"user": is.who("alice")}, object{"events": object{token.EventSessionRevoked: object{}}})
		},
		"a time that is none": func(is *issuer) string {
			return is.set(object{"user": is.who("alice")}, object{"events": object{token.EventSessionRevoked: object{"event_timestamp": "x"}}})
		},
		"a line without end": func(*issuer) string { return strings.Repeat("x", 40<<10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t)
			g := is.guard(func(c *resource.Config) { c.Stops, c.StopsLost = resource.StopsFollowed, time.Minute })
			h := g.Require(resource.Rule{})(new(effects))
			follow(t, g)
			is.stream.tell(stopEvent(text(is)))
			is.stream.tell(alive)
			for late := time.Now().Add(time.Minute); is.stream.opens.Load() < 2; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(late) {
					t.Fatal("the stream is read on")
				}
			}
			if w := do(h, request("POST", "/mail/send", "{}", is.token())); w.Code != http.StatusServiceUnavailable {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// A connection over which nothing comes is given up, and so is an answer that is no stream.
func TestASilentStream(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(func(c *resource.Config) { c.Stops, c.StopsLost = resource.StopsFollowed, 200*time.Millisecond })
	follow(t, g)
	for late := time.Now().Add(time.Minute); is.stream.opens.Load() < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("opened %d times", is.stream.opens.Load())
		}
	}
	other := newIssuer(t)
	other.stream.kind = "text/html"
	other.stream.tell(alive)
	g = other.guard(followed)
	follow(t, g)
	for late := time.Now().Add(time.Minute); other.stream.opens.Load() < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("an answer that is no stream is read on")
		}
	}
	if g.Ready(t.Context()) == nil {
		t.Error("ready by an answer that is no stream")
	}
}

// What there is no room for refuses more, never less.
func TestMoreStopsThanRoom(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	pass := clockOf(is)
	g := is.guard(func(c *resource.Config) {
		c.Stops, c.StopsLost, c.MaxStops = resource.InsecureStopsIfHeard, time.Minute, 3
	})
	h := g.Require(resource.Rule{})(new(effects))
	follow(t, g)
	old := is.token(func(c *token.Claims) { c.Subject = "bystander" })
	for i := range 3 {
		is.stream.tell(stopEvent(is.set(object{"user": is.who(fmt.Sprint("user", i))}, nil)))
		is.stream.tell(stopEvent(is.set(object{"user": is.who(fmt.Sprint("user", i))}, nil))) // a repeat takes no room
	}
	eventually(t, h, is.token(func(c *token.Claims) { c.Subject = "user2" }), http.StatusUnauthorized)
	if w := do(h, request("POST", "/mail/send", "{}", old)); w.Code != http.StatusOK {
		t.Errorf("a bystander while there is room: %d", w.Code)
	}
	is.stream.tell(stopEvent(is.set(object{"user": is.who("user3")}, nil)))
	eventually(t, h, is.token(func(c *token.Claims) { c.Subject = "user3" }), http.StatusUnauthorized)
	if w := do(h, request("POST", "/mail/send", "{}", old)); w.Code != http.StatusUnauthorized {
		t.Errorf("a bystander of before, without room: %d", w.Code)
	}
	pass(10 * time.Second)
	if w := do(h, request("POST", "/mail/send", "{}", is.token())); w.Code != http.StatusOK {
		t.Errorf("a token of after: %d", w.Code)
	}
}

func TestFollowingIsConfigured(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	if err := is.guard().Follow(t.Context()); err == nil {
		t.Error("a guard follows that is not configured to")
	}
	for _, cfg := range []resource.Config{
		{Issuer: is.server.URL, Resource: api, Stops: resource.StopsFollowed},
		{Issuer: is.server.URL, Resource: api, Stops: 7, Client: resource.Secret(me, "correct+horse")},
	} {
		if _, err := resource.New(cfg); err == nil {
			t.Errorf("accepted: %+v", cfg)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := is.guard(followed).Follow(ended); err == nil {
		t.Error("following goes on after its context")
	}
}
