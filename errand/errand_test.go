package errand_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/mux" //nolint:depguard // the test serves the real endpoints

	"obolus/audit"
	"obolus/consent"
	"obolus/errand"
	"obolus/internal/world"
	"obolus/oauth"
	"obolus/oauth/authcode"
	"obolus/oauth/endpoint"
	"obolus/resource"
	"obolus/token"
)

const mail = "https://mail.test/api"

// place is an authorization server, and the way to it.
type place struct {
	*world.World
	t    *testing.T
	key  *token.SigningKey // of agent-a
	site http.Handler

	lose  atomic.Int32 // how many more answers are lost after the server gave them
	busy  atomic.Int32 // how many more requests are answered 503
	asked atomic.Int32 // requests for a token
}

func newPlace(t *testing.T, change func(*endpoint.Config)) *place {
	t.Helper()
	w := world.New(t)
	w.Populate()
	p := &place{World: w, t: t, key: w.Agent("agent-a", nil)}
	flow, err := authcode.New(authcode.Config{
		Issuer: world.Issuer, Live: w.Live, Mirror: w.Mirror, Record: w.Recorder.Record, Stop: w.Tx.Stop, Now: w.Now,
		RequestLifetime: 10 * time.Minute, Remember: 10 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := endpoint.Config{
		Issuer: world.Issuer, Live: w.Live, Registry: w.Registry, Clients: w.Clients, Exchange: w.Exchange, Transactions: w.Tx, Flow: flow,
		Details: w.Details, Verifier: w.Verifier, Keys: w.Keys, Record: w.Recorder.Record, Now: w.Now,
		Settings: endpoint.Settings{SessionLifetime: 10 * time.Minute}, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	server, err := endpoint.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	router := mux.NewRouter()
	server.Register(router)
	p.site = router
	return p
}

// RoundTrip is the wire.
func (p *place) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/token" {
		return served(p.site, r), nil
	}
	p.asked.Add(1)
	if p.busy.Add(-1) >= 0 {
		w := httptest.NewRecorder()
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return w.Result(), nil
	}
	res := served(p.site, r)
	if p.lose.Add(-1) >= 0 {
		return nil, errors.New("the answer was lost")
	}
	return res, nil
}

// served is the answer of a handler, which ends when the request does.
func served(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.RequestURI, r.RemoteAddr, r.Host = r.URL.RequestURI(), "192.0.2.1:1", r.URL.Host
	if r.Body == nil {
		r.Body = http.NoBody
	}
	h.ServeHTTP(w, r)
	return w.Result()
}

func (p *place) agent(change func(*errand.Config)) *errand.Agent {
	p.t.Helper()
	cfg := errand.Config{Issuer: world.Issuer, Agent: "agent-a", Key: p.key, HTTP: &http.Client{Transport: p}, Now: p.Now}
	if change != nil {
		change(&cfg)
	}
	a, err := errand.New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *place) wants(scopes ...string) errand.Request {
	return errand.Request{UserToken: p.UserToken("alice", nil), Resource: mail, Scopes: scopes}
}

// decide answers the question behind a link.
func (p *place) decide(link string, d consent.Decision) {
	id := link[strings.LastIndexByte(link, '/')+1:]
	if d.Expires.IsZero() {
		d.Expires = p.Now().Add(time.Hour)
	}
	if _, err := p.Consents.Decide(p.t.Context(), id, "alice", d); err != nil {
		p.t.Error(err)
	}
}

// The user is shown one link and decides; the agent gets what was allowed, or is told no.
func TestTheUserIsAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		decision consent.Decision
		want     oauth.Code
	}{
		"yes": {consent.Decision{Allow: true, Scopes: []string{"mail.read"}}, ""},
		"no":  {consent.Decision{}, oauth.AccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, nil)
			links := make(chan string, 10)
			decided := make(chan struct{})
			go func() {
				defer close(decided)
				p.decide(<-links, c.decision)
			}()
			got, err := p.agent(nil).Run(t.Context(), p.wants("mail.read"), func(link string) { links <- link })
			<-decided
			no, _ := errors.AsType[*errand.Refusal](err)
			if c.want == "" && (err != nil || got.Scope != "mail.read" || got.Txn == "") || c.want != "" && (no == nil || no.Code != c.want) {
				t.Errorf("%+v %v", got.TokenAnswer, err)
			}
			if len(links) > 0 {
				t.Errorf("the user was shown %d links more", len(links))
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	p := newPlace(t, nil)
	_, err := p.agent(nil).Run(t.Context(), p.wants("mail.read"), nil)
	no, ok := errors.AsType[*errand.Refusal](err)
	if !ok || no.Code != oauth.InteractionRequired || !strings.HasPrefix(no.Interaction, world.Issuer+"/consent/") || no.Interval != 2*time.Second ||
		!strings.Contains(err.Error(), no.Interaction) {
		t.Errorf("without anybody to ask: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = p.agent(nil).Run(ctx, p.wants("mail.read"), func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an agent that waits no more: %v", err)
	}
	p.decide(no.Interaction, consent.Decision{Allow: true, Scopes: []string{"mail.read"}})
	_, err = p.agent(nil).Run(t.Context(), p.wants("mail.read", "mail.send"), nil)
	if no, ok = errors.AsType[*errand.Refusal](err); !ok || no.Code != oauth.InvalidScope || string(no.Grantable) != `{"scope":"mail.read"}` {
		t.Errorf("too wide: %v", err)
	}
	stranger := p.agent(func(c *errand.Config) { c.Key = world.Key(t) })
	before := p.asked.Load()
	if _, err = stranger.Run(t.Context(), p.wants("mail.read"), nil); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("with another key: %v", err)
	}
	if n := p.asked.Load() - before; n != 1 {
		t.Errorf("what does not help was repeated: %d", n)
	}
	again := p.agent(func(c *errand.Config) {
		c.HTTP = &http.Client{Transport: other(func(r *http.Request) *http.Response {
			if r.URL.Path != "/token" {
				t.Errorf("a token was sent to %s", r.URL)
			}
			w := httptest.NewRecorder()
			http.Redirect(w, r, "https://elsewhere.test/token", http.StatusTemporaryRedirect)
			return w.Result()
		})}
	})
	if _, err = again.Run(t.Context(), p.wants("mail.read"), nil); err == nil {
		t.Error("a redirect was followed")
	}
}

type other func(r *http.Request) *http.Response

func (f other) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// Answers that are lost, and a server that is down for a moment, cost time and nothing else.
func TestOneTransactionWhateverIsLost(t *testing.T) {
	t.Parallel()
	p := newPlace(t, nil)
	p.Consent("alice", "agent-a", "mail", consent.Decision{Scopes: []string{"mail.read"}, Uses: 2})
	p.lose.Store(2)
	p.busy.Store(1)
	request := p.wants("mail.read")
	got, err := p.agent(nil).Run(t.Context(), request, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := p.asked.Load(); n != 4 {
		t.Errorf("asked %d times", n)
	}
	for _, e := range p.Events(audit.KindExchange) {
		if e.Txn != got.Txn {
			t.Errorf("there is the transaction %s besides %s", e.Txn, got.Txn)
		}
	}
	request.Name = "after a crash"
	first, err := p.agent(nil).Run(t.Context(), request, nil)
	if err != nil {
		t.Fatalf("the second of two uses is gone: %v", err)
	}
	second, err := p.agent(nil).Run(t.Context(), request, nil)
	if err != nil || second.Txn != first.Txn {
		t.Errorf("the same name, another transaction: %v", err)
	}
	p.busy.Store(1000)
	if _, err := p.agent(nil).Run(t.Context(), request, nil); err == nil || p.busy.Load() != 1000-6 {
		t.Errorf("a server that stays down: %v, asked %d times", err, 1000-p.busy.Load())
	}
}

func TestAnAgentIsConfigured(t *testing.T) {
	t.Parallel()
	key := world.Key(t)
	for name, cfg := range map[string]errand.Config{
		"no issuer":                {Agent: "a", Key: key},
		"an issuer that is no URL": {Issuer: "obolus", Agent: "a", Key: key},
		"an issuer with a query":   {Issuer: "https://as.test?x", Agent: "a", Key: key},
		"no agent":                 {Issuer: world.Issuer, Key: key},
		"no key":                   {Issuer: world.Issuer, Agent: "a"},
	} {
		if _, err := errand.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r := httptest.NewRequest(http.MethodGet, mail, http.NoBody)
	if err := (errand.Token{}).Authorize(r); err == nil {
		t.Error("no token, and no error")
	}
	bound := errand.Token{TokenAnswer: oauth.TokenAnswer{AccessToken: "x", TokenType: oauth.DPoP}}
	if err := bound.Authorize(r); err == nil || r.Header.Get("Authorization") != "" {
		t.Error("a bound token without its key, and no error")
	}
}

// The calls of an MCP client are paid for, each by a token for just that call, and everything else goes as it is: through the real guard.
func TestTransport(t *testing.T) {
	t.Parallel()
	for name, bind := range map[string]*token.SigningKey{"bearer": nil, "bound to a key, with nonces of both servers": world.Key(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, func(c *endpoint.Config) {
				if bind != nil {
					c.Settings.RequireNonce, c.Settings.NonceKey = true, []byte(strings.Repeat("n", 32))
				}
			})
			guard, err := resource.New(resource.Config{
				Issuer: world.Issuer, Resource: mail, Client: resource.Secret("mail-server", "secret"), HTTP: &http.Client{Transport: p}, Now: p.Now,
				NonceKey: nonceKey(bind), RequireDPoP: bind != nil,
			})
			if err != nil {
				t.Fatal(err)
			}
			var effects, busy atomic.Int32
			rule := resource.MCP{Tools: map[string]resource.Tool{"send": {OneTransaction: true, Detailed: true}}}.Rule()
			guarded := guard.Require(rule)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				effects.Add(1)
				w.Write(body)
			}))
			api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if busy.Add(-1) >= 0 {
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				guarded.ServeHTTP(w, r)
			})
			user := p.UserToken("alice", nil)
			var links atomic.Int32
			client := &http.Client{Transport: &errand.Transport{
				Agent: p.agent(func(c *errand.Config) { c.Bind = bind }),
				For: func(r *http.Request) (*errand.Request, error) {
					call, err := errand.MCPCall(r)
					if call == nil || err != nil {
						return nil, err
					}
					details, err := call.Details()
					return &errand.Request{Resource: mail, Details: details}, err
				},
				Ask: func(link string) {
					links.Add(1)
					p.decide(link, consent.Decision{Allow: true, Details: []int{0}})
				},
				Base: other(func(r *http.Request) *http.Response { return served(api, r) }),
			}}
			send := func(body string) (int, string) {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, mail, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Authorization", "Bearer "+user)
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				got, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				return res.StatusCode, string(got)
			}
			call := func(to string) string {
				return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"send","arguments":{"to":"` + to + `"}}}`
			}
			if status, _ := send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); status == http.StatusOK || p.asked.Load() != 0 {
				t.Errorf("a list goes as it is, by a token that is not for this resource: %d", status)
			}
			for _, to := range []string{"bob", "carol", "bob"} {
				if status, body := send(call(to)); status != http.StatusOK || body != call(to) {
					t.Errorf("%s: %d %s", to, status, body)
				}
			}
			if effects.Load() != 3 || links.Load() < 2 {
				t.Errorf("%d effects, %d questions", effects.Load(), links.Load())
			}
			before := len(p.Events(audit.KindExchange))
			busy.Store(2)
			if status, _ := send(call("dave")); status != http.StatusOK || effects.Load() != 4 {
				t.Errorf("after 503: %d", status)
			}
			issued := map[string]bool{}
			for _, e := range p.Events(audit.KindExchange)[before:] {
				if e.JTI != "" {
					issued[e.JTI] = true
				}
			}
			if len(issued) != 1 {
				t.Errorf("%d tokens for one call", len(issued))
			}
			if status, _ := send(`{"jsonrpc":"2.0","method":"tools/call","params":{"name":"other"}}`); status != http.StatusForbidden || effects.Load() != 4 {
				t.Errorf("a tool that is not there: %d", status)
			}
		})
	}
}

func nonceKey(bind *token.SigningKey) []byte {
	if bind == nil {
		return nil
	}
	return []byte(strings.Repeat("r", 32))
}
