package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/server"
)

// inn is a door with few places before a handler that holds its request until it is told.
type inn struct {
	*httptest.Server
	t       *testing.T
	inside  chan string // paths, as they come in
	release chan struct{}
}

// newPatientInn is one where who waits gets a place, however slow the machine.
func newPatientInn(t *testing.T, places int) *inn {
	t.Helper()
	i := newInn(t, places)
	server.Patient(i.Config.Handler)
	return i
}

func newInn(t *testing.T, places int) *inn {
	t.Helper()
	i := &inn{t: t, inside: make(chan string, 100), release: make(chan struct{})}
	i.Server = httptest.NewServer(server.NewDoor(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "z") {
			return
		}
		i.inside <- r.URL.Path
		if r.URL.Path == "/waits" {
			back, ok := server.Aside(r.Context())
			if ok {
				<-i.release
				back()
			}
			return
		}
		<-i.release
	}), slog.New(slog.DiscardHandler), places))
	t.Cleanup(i.Close)
	return i
}

// ask sends a request and gives its status, some time.
func (i *inn) ask(path string) <-chan *http.Response {
	answered := make(chan *http.Response, 1)
	go func() {
		req, err := http.NewRequestWithContext(context.WithoutCancel(i.t.Context()), http.MethodPost, i.URL+path, strings.NewReader("a=b"))
		if err != nil {
			panic(err)
		}
		res, err := client().Do(req)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(res.Body)
			_ = res.Body.Close()
			res.Body = io.NopCloser(bytes.NewReader(body))
		}
		if err != nil {
			i.t.Error(err)
			res = &http.Response{Header: http.Header{}}
		}
		answered <- res
	}()
	return answered
}

// isWaiting waits until so many wait at the door.
func (i *inn) isWaiting(n int) {
	i.t.Helper()
	for began := time.Now(); server.WaitingAt(i.Config.Handler) != n; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			i.t.Fatalf("%d wait, not %d", server.WaitingAt(i.Config.Handler), n)
		}
	}
}

func (i *inn) isInside(path string) {
	i.t.Helper()
	select {
	case got := <-i.inside:
		if got != path {
			i.t.Errorf("%s came in, not %s", got, path)
		}
	case <-time.After(10 * time.Second):
		i.t.Fatalf("%s does not come in", path)
	}
}

// Who finds no place is told to come again; probes are answered all the same.
func TestAFullServerSaysSo(t *testing.T) {
	t.Parallel()
	i := newInn(t, 1)
	first := i.ask("/token")
	i.isInside("/token")
	for _, path := range []string{"/token", "/redeem"} {
		began := time.Now()
		res := <-i.ask(path)
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "temporarily_unavailable") {
			t.Errorf("%s: %d %v %s", path, res.StatusCode, res.Header, body)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%s: after %s", path, took)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if res := <-i.ask(path); res.StatusCode != http.StatusOK {
			t.Errorf("%s of a full server: %d", path, res.StatusCode)
		}
	}
	i.release <- struct{}{}
	if res := <-first; res.StatusCode != http.StatusOK {
		t.Errorf("who was inside: %d", res.StatusCode)
	}
	again := i.ask("/token")
	i.isInside("/token")
	i.release <- struct{}{}
	if res := <-again; res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
}

// A redemption that came later goes in before an exchange that waits.
func TestRedemptionsGoFirst(t *testing.T) {
	t.Parallel()
	i := newPatientInn(t, 1)
	first := i.ask("/token")
	i.isInside("/token")
	exchange := i.ask("/token")
	i.isWaiting(1)
	redemption := i.ask("/redeem")
	i.isWaiting(2)
	i.release <- struct{}{}
	i.isInside("/redeem")
	i.release <- struct{}{}
	i.isInside("/token")
	i.release <- struct{}{}
	for name, answered := range map[string]<-chan *http.Response{"first": first, "exchange": exchange, "redemption": redemption} {
		if res := <-answered; res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
}

// Neither who waits for a person nor who sends slowly holds a place.
func TestWhoHoldsNoPlace(t *testing.T) {
	t.Parallel()
	i := newInn(t, 1)
	conn, err := net.Dial("tcp", strings.TrimPrefix(i.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
	time.Sleep(50 * time.Millisecond)
	var waiting []<-chan *http.Response
	for range 5 {
		waiting = append(waiting, i.ask("/waits"))
		i.isInside("/waits")
	}
	other := i.ask("/token")
	i.isInside("/token")
	close(i.release)
	for n, answered := range append(waiting, other) {
		if res := <-answered; res.StatusCode != http.StatusOK {
			t.Errorf("%d: %d", n, res.StatusCode)
		}
	}
}

// Ten times as many clients as can be served get answers all the time, and what is done is as much as without them.
func TestTooManyClients(t *testing.T) {
	t.Parallel()
	const work = 5 * time.Millisecond
	var done atomic.Int64
	door := httptest.NewServer(server.NewDoor(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		time.Sleep(work)
		done.Add(1)
	}), slog.New(slog.DiscardHandler), 4))
	defer door.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 400}
	defer transport.CloseIdleConnections()
	crowd := func(clients int) (perSecond float64, refused int64) {
		done.Store(0)
		var shed atomic.Int64
		began := time.Now()
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for time.Since(began) < 2*time.Second {
					res, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Post(door.URL+"/token", "text/plain", http.NoBody)
					if err != nil {
						t.Errorf("no answer: %v", err)
						return
					}
					_ = res.Body.Close()
					switch {
					case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
						shed.Add(1)
						time.Sleep(100 * time.Millisecond) // a tenth of what it was asked
					case res.StatusCode != http.StatusOK:
						t.Errorf("%d", res.StatusCode)
					}
				}
			})
		}
		all.Wait()
		return float64(done.Load()) / time.Since(began).Seconds(), shed.Load()
	}
	few, none := crowd(4)
	many, refused := crowd(40)
	t.Logf("%.0f a second for 4 clients (%d refused), %.0f for 40 (%d refused)", few, none, many, refused)
	if none > 0 || refused == 0 || many < few/3 { // on a machine that does other things too
		t.Errorf("%.0f a second for 4 clients (%d refused), %.0f for 40 (%d refused)", few, none, many, refused)
	}
}

// A quiet agent gets through while another one, or another address, sends ten times what can be carried out, by whichever way agents say who they
// are. An address that invents agents takes from its own alone.
func TestAQuietAgentGetsThrough(t *testing.T) {
	t.Parallel()
	assertion := func(sub string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"x", "sub" : "`+sub+`","jti":"`+rand.Text()+`"}`)) + ".AA"
	}
	form := func(field, value string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader("a=b&" + field + "=" + url.QueryEscape(value)))
		}
	}
	for _, c := range []struct {
		name         string
		noisy, quiet func(*http.Request)
		elsewhere    bool // the quiet one
	}{
		{"a secret in the form", form("client_id", "noisy"), form("client_id", "quiet"), false},
		{"a secret in the header", func(r *http.Request) { r.SetBasicAuth("noisy", rand.Text()) }, func(r *http.Request) { r.SetBasicAuth("quiet", "x") }, false},
		{"assertions", func(r *http.Request) { form("client_assertion", assertion("noisy"))(r) }, form("client_assertion", assertion("quiet")), false},
		{"an assertion in the header", form("client_id", "noisy"), func(r *http.Request) { r.Header.Set("Client-Assertion", assertion("quiet")) }, false},
		{"nobody says who", form("x", "y"), form("client_id", "quiet"), false},
		{"invented agents", func(r *http.Request) { form("client_id", rand.Text())(r) }, form("x", "y"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			door := httptest.NewServer(server.Patient(server.NewDoor(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				time.Sleep(2 * time.Millisecond)
				if _, err := io.ReadAll(r.Body); err != nil {
					t.Error(err)
				}
			}), slog.New(slog.DiscardHandler), 4)))
			defer door.Close()
			var over atomic.Bool
			var refused atomic.Int64
			var all sync.WaitGroup
			noisy := from(t, "127.0.0.1")
			for range 40 {
				all.Go(func() {
					for !over.Load() {
						if noisy(door.URL, c.noisy) == http.StatusServiceUnavailable {
							refused.Add(1)
						}
					}
				})
			}
			for refused.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			quiet := noisy
			if c.elsewhere {
				quiet = from(t, "127.0.0.2")
			}
			for range 100 {
				if status := quiet(door.URL, c.quiet); status != http.StatusOK {
					t.Errorf("the quiet one: %d", status)
				}
			}
			over.Store(true)
			all.Wait()
		})
	}
}

// from posts from an address of this machine, as whoever sign says.
func from(t *testing.T, address string) func(url string, sign func(*http.Request)) (status int) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{MaxIdleConnsPerHost: 100, DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	return func(url string, sign func(*http.Request)) int {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, url+"/token", strings.NewReader(""))
		if err != nil {
			panic(err)
		}
		req.ContentLength = -1
		sign(req)
		res, err := client.Do(req)
		if err != nil {
			t.Errorf("no answer: %v", err)
			return 0
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode
	}
}

// Operators are let in when nobody else is, and what makes new tokens has every eighth turn.
func TestNobodyIsShutOut(t *testing.T) {
	t.Parallel()
	i := newPatientInn(t, 16)
	var asked []<-chan *http.Response
	for range 16 {
		asked = append(asked, i.ask("/token"))
		i.isInside("/token")
	}
	asked = append(asked, i.ask("/token"))
	i.isWaiting(1)
	for range 12 {
		asked = append(asked, i.ask("/redeem"))
	}
	i.isWaiting(13)
	for _, path := range []string{"/admin/v1/x", "/base/admin/v1/agents/x", "/console", "/console/live"} {
		answered := i.ask(path)
		i.isInside(path)
		i.release <- struct{}{} // of whomever
		<-i.inside
		asked = append(asked, answered)
	}
	turn := 4
	for range 8 {
		i.release <- struct{}{}
		turn++
		if <-i.inside == "/token" {
			break
		}
	}
	if turn > 8 {
		t.Error("the exchange waits for all redemptions")
	}
	close(i.release)
	for n, answered := range asked {
		if res := <-answered; res.StatusCode != http.StatusOK {
			t.Errorf("%d: %d", n, res.StatusCode)
		}
	}
}

// Refusals are given as requests are carried out, or after two seconds; at different times those are told to come again who come together.
func TestRefusalsComeInTurn(t *testing.T) {
	t.Parallel()
	i := newInn(t, 1)
	inside := i.ask("/token")
	i.isInside("/token")
	var asked []<-chan *http.Response
	for range 12 {
		asked = append(asked, i.ask("/token"))
	}
	later := map[string]bool{}
	for _, answered := range asked {
		res := <-answered
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%d", res.StatusCode)
		}
		later[res.Header.Get("Retry-After")] = true
	}
	if len(later) != 3 {
		t.Errorf("they are told to come in %v", later)
	}
	close(i.release)
	if res := <-inside; res.StatusCode != http.StatusOK {
		t.Errorf("%d", res.StatusCode)
	}
}

// A server with a single place serves others while a request waits for a user.
func TestAWaitingAgentHoldsNoPlace(t *testing.T) {
	t.Parallel()
	e := setOut(t, start(t, load(t, t.TempDir(), errands), server.Options{MaxInFlight: 1}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.Issuer()+"/token", strings.NewReader(url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {e.subject},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "resource": {"https://mail.example.com"}, "scope": {"mail.send"},
		"client_id": {"mailer"}, "client_secret": {"0123456789abcdef"},
	}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Prefer", "wait=4")
	over := make(chan said, 1)
	go func() { over <- e.do(req) }()
	time.Sleep(500 * time.Millisecond)
	for range 5 {
		if a := e.exchange(); a.status != http.StatusOK {
			t.Errorf("meanwhile: %d %s", a.status, a.text)
		}
	}
	select {
	case a := <-over:
		t.Errorf("it did not wait: %d %s", a.status, a.text)
	default:
	}
	if a := <-over; a.str("error") != "interaction_required" {
		t.Errorf("%d %s", a.status, a.text)
	}
}
