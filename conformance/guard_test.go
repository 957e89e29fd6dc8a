package conformance_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"obolus/resource"
)

// guarded is a resource server of the suite: the guard of package resource before handlers that count what they do. It has as many
// replicas as the server has processes, and one more, so that two of them share none of their memory; each asks another process.
type guarded struct {
	c        *check
	uri      string
	replicas []*httptest.Server
	guards   []*resource.Guard
	crashes  atomic.Bool // before the effect

	mu      sync.Mutex
	effects map[string]int // by transaction, or by token where there is none
}

// through is the way from a replica to the process of the server that it asks.
type through struct {
	e    *env
	node int
}

// RoundTrip implements [http.RoundTripper].
func (t through) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	t.e.route(r, t.node)
	return wire.RoundTrip(r)
}

// guarded starts a resource server for the case, as rs1, with a rule for each pattern.
func (c *check) guarded(uri string, rules map[string]resource.Rule, change ...func(*resource.Config)) *guarded {
	c.Helper()
	g := &guarded{c: c, uri: uri, effects: map[string]int{}}
	for i := range len(c.nodes) + 1 {
		cfg := resource.Config{
			Issuer: c.issuer, Resource: uri, Client: resource.PrivateKey("rs1", c.rs1.key.signer), HTTP: &http.Client{Transport: through{c.env, i + 1}},
			Leeway: -1,
		}
		for _, f := range change {
			f(&cfg)
		}
		guard, err := resource.New(cfg)
		if err != nil {
			c.Fatal(err)
		}
		mux := http.NewServeMux()
		for pattern, rule := range rules {
			mux.Handle(pattern, guard.Require(rule)(http.HandlerFunc(g.effect)))
		}
		mux.Handle(guard.ProtectedResourcePath(), guard.ProtectedResource())
		s := httptest.NewServer(mux)
		c.Cleanup(s.Close)
		g.replicas, g.guards = append(g.replicas, s), append(g.guards, guard)
	}
	return g
}

// effect is what the guard stands before.
func (g *guarded) effect(w http.ResponseWriter, r *http.Request) {
	caller := resource.CallerFrom(r.Context())
	name := caller.Txn
	if !caller.OneTransaction {
		name = caller.TokenID
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		g.c.Errorf("the handler cannot read the body: %v", err)
	}
	if g.crashes.Load() {
		panic(http.ErrAbortHandler)
	}
	if !caller.Free {
		g.mu.Lock()
		g.effects[name]++
		g.mu.Unlock()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(obj{"done": nonce(), "for": caller.User, "by": caller.Agent, "got": string(body)})
}

// happened is how many effects a token had.
func (g *guarded) happened(token string) int {
	g.c.Helper()
	j := g.c.decode(token)
	name := j.str("txn")
	if j.claims["txn_mode"] == nil {
		name = j.str("jti")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.effects[name]
}

// want holds an answer to its status and code, and the token to so many effects.
func (g *guarded) want(what string, a answer, status int, code, token string, effects int) {
	g.c.Helper()
	if a.status != status || a.code() != code {
		g.c.Errorf("%s: got %d %s, want %d %s", what, a.status, a.body, status, code)
	}
	if n := g.happened(token); n != effects {
		g.c.Errorf("%s: %d effects, want %d", what, n, effects)
	}
}

// sent is a request to a resource server about to be sent: a POST with JSON.
type sent struct {
	g       *guarded
	path    string
	body    []byte
	header  http.Header
	replica int
}

// post prepares a request; nil is no body.
func (g *guarded) post(path string, body any) *sent {
	s := &sent{g: g, path: path, header: http.Header{}}
	if body != nil {
		s.body = mustJSON(body)
		s.header.Set("Content-Type", "application/json")
	}
	return s
}

func (s *sent) but() *sent {
	t := *s
	t.header = s.header.Clone()
	return &t
}

func (s *sent) at(replica int) *sent {
	s.replica = replica
	return s
}

func (s *sent) raw(body string) *sent {
	s.body = []byte(body)
	return s
}

func (s *sent) set(name string, values ...string) *sent {
	s.header[http.CanonicalHeaderKey(name)] = values
	return s
}

// bearer presents a token as it is.
func (s *sent) bearer(token string) *sent { return s.set("Authorization", "Bearer "+token) }

// proving presents a token with a fresh proof, with changes to its claims.
func (s *sent) proving(k *key, token string, changes ...obj) *sent {
	return s.set("Authorization", "DPoP "+token).set("Dpop", s.proof(k, token, changes...))
}

func (s *sent) proof(k *key, token string, changes ...obj) string {
	path, _, _ := strings.Cut(s.path, "?")
	u, err := url.Parse(s.g.uri)
	if err != nil {
		s.g.c.Fatal(err)
	}
	return s.g.c.atFiles(k, token, append([]obj{{"htu": u.Scheme + "://" + u.Host + path}}, changes...)...)
}

func (s *sent) ready() call {
	return call{method: http.MethodPost, path: s.g.replicas[s.replica%len(s.g.replicas)].URL + s.path, body: bytes.Clone(s.body), header: s.header.Clone()}
}

func (s *sent) do() answer {
	s.g.c.Helper()
	return s.g.c.do(s.ready())
}

// reading is the rule of a handler that takes anything of whoever may read the mail.
func reading() resource.Rule { return resource.Rule{Scopes: []string{"mail.read"}} }

const readPath = "/mcp/read"

// reader is a resource server with one handler.
func (c *check) reader(change ...func(*resource.Config)) *guarded {
	c.Helper()
	return c.guarded(mail, map[string]resource.Rule{"POST " + readPath: reading()}, change...)
}

func guardCases() []testCase {
	return []testCase{
		{"OT-02", "a hundred calls of a resource server with one token have one effect", otOneEffect},
		{"OT-20", "a resource server that cannot redeem takes no one-transaction token", otOffline},
		{"OT-21", "a request that was changed after it was allowed is refused, and burns nothing", otChanged},
		{"OT-22", "bad proofs burn nothing", otBadProofs},
		{"OT-23", "a lost answer is given again to the same key for the same request alone", otRetained},
		{"OT-26", "a crash between redemption and effect is told, and nobody gets a second chance by it", otInterrupted},
		{"OT-29", "early data is sent back, and a duplicate of a named request gets the same answer", otDuplicate},
		{"OT-30", "one transaction pays for no batch", otBatch},
		{"DP-17", "a resource server has nonces of its own", dpResourceNonce},
		{"DP-26", "a body is held against the digest in the token", dpDigest},
		{"ACT-15", "who may act is told apart from what may be done", actResource},
		{"MD-04", "a resource server describes itself", mdResource},
		{"MD-05", "a refusal says where that is", mdChallenge},
		{"O21-15", "a token comes in the header alone, and refusals have the codes of RFC 6750", o21Resource},
		{"NEG-122", "one request, mirrored to every replica", negMirrored},
		{"NEG-131", "a transaction token is no access token, and an access token no transaction token", negTxnHeader},
	}
}

func otOneEffect(c *check) {
	g := c.reader()
	x, k := c.baseline(), newKey("ES256")
	request := g.post(readPath, obj{"folder": "inbox"})
	for what, bound := range map[string]bool{"bound": true, "free": false} {
		y := x.but()
		if bound {
			y.proof(k)
		}
		token := c.ok(y.do()).token()
		counts := tally(c.together(100, func(i int) call {
			s := request.but().at(i).bearer(token)
			if bound {
				s.proving(k, token)
			}
			return s.ready()
		}))
		if counts["OK "] != 1 || counts["Unauthorized invalid_token"] != 99 || g.happened(token) != 1 {
			c.Errorf("%s: %v, %d effects", what, counts, g.happened(token))
		}
	}
}

func otOffline(c *check) {
	g := c.reader(func(cfg *resource.Config) { cfg.Client = resource.Client{} })
	token, _ := c.mailToken()
	for i := range g.replicas {
		g.want("a one-transaction token", g.post(readPath, nil).at(i).bearer(token).do(), 401, "invalid_token", token, 0)
	}
	c.first(c.rs1, token)
	offline := c.guarded(desk, map[string]resource.Rule{"POST /read": reading()}, func(cfg *resource.Config) { cfg.Client = resource.Client{} })
	session := c.ok(c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(desk, "mail.read")).do()).token()
	offline.want("a session token", offline.post("/read", nil).bearer(session).do(), 200, "", session, 1)
}

// paying is the rule of a handler that pays whom its path names.
func paying() resource.Rule {
	return resource.Rule{Details: func(r *http.Request, granted []resource.Detail) error {
		var asked struct{ Value, Currency string }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			return err
		}
		for _, d := range granted {
			var may struct {
				Payee  string
				Amount struct{ Value, Currency string }
			}
			if err := d.Into(&may); err != nil {
				return err
			}
			if d.Type == "payment" && may.Payee == r.PathValue("payee") && may.Amount == asked {
				return nil
			}
		}
		return resource.NoDetail("no such payment was allowed")
	}}
}

// called is a JSON-RPC request for a tool.
func called(tool string, arguments any) obj {
	return obj{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": obj{"name": tool, "arguments": arguments}}
}

// tools is a resource server with the tools of an MCP server, and payments.
func (c *check) tools() *guarded {
	c.Helper()
	mcp := resource.MCP{Tools: map[string]resource.Tool{"send_mail": {}, "delete_mail": {}}, Server: "mail"}
	return c.guarded(mail, map[string]resource.Rule{"POST /mcp": mcp.Rule(), "POST /mcp/pay/{payee}": paying()})
}

func otChanged(c *check) {
	g := c.tools()
	letter := obj{"to": "bob@example.test", "text": "Hello", "copies": 1}
	token := c.ok(c.paying(merge(toolCall("send_mail"), obj{"arguments": letter})).do()).token()
	for what, body := range map[string]obj{
		"another tool": called("delete_mail", letter), "a tool that is not there": called("format_disk", letter), "another argument": called("send_mail", merge(letter, obj{"to": "eve@example.test"})),
		"one more": called("send_mail", merge(letter, obj{"bcc": "eve@example.test"})), "one less": called("send_mail", merge(letter, obj{"copies": nil})),
		"another type": called("send_mail", merge(letter, obj{"copies": "1"})), "none": called("send_mail", nil), "no call": {"jsonrpc": "2.0", "id": 1, "method": "resources/read"},
	} {
		g.want(what, g.post("/mcp", body).bearer(token).do(), 403, "insufficient_scope", token, 0)
	}
	g.want("another path", g.post("/mcp/pay/Merchant%20A", obj{"Value": "1.00", "Currency": "EUR"}).bearer(token).do(), 403, "insufficient_scope", token, 0)
	g.want("a look at the tools", g.post("/mcp", obj{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).bearer(token).do(), 200, "", token, 0)
	g.want("what was allowed", g.post("/mcp", called("send_mail", letter)).bearer(token).do(), 200, "", token, 1)
	g.want("again", g.post("/mcp", called("send_mail", letter)).bearer(token).at(1).do(), 401, "invalid_token", token, 1)
	g.want("a look at the tools", g.post("/mcp", obj{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).bearer(token).at(1).do(), 200, "", token, 1)

	paid := c.ok(c.paying(payment("10.00", "EUR")).do()).token()
	amount := obj{"Value": "10.00", "Currency": "EUR"}
	g.want("another path", g.post("/mcp/pay/Merchant%20B", amount).bearer(paid).do(), 403, "insufficient_scope", paid, 0)
	g.want("another amount", g.post("/mcp/pay/Merchant%20A", merge(amount, obj{"Value": "10.01"})).bearer(paid).do(), 403, "insufficient_scope", paid, 0)
	g.want("a tool", g.post("/mcp", called("send_mail", letter)).bearer(paid).do(), 403, "insufficient_scope", paid, 0)
	g.want("what was allowed", g.post("/mcp/pay/Merchant%20A", amount).bearer(paid).do(), 200, "", paid, 1)
}

func otBadProofs(c *check) {
	g, x, k, other := c.reader(), c.baseline(), newKey("ES256"), newKey("ES256")
	bound, free := c.ok(x.but().proof(k).do()).token(), c.ok(x.but().do()).token()
	s := g.post(readPath, obj{"folder": "inbox"})
	for what, bad := range map[string]struct {
		s    *sent
		code string
	}{
		"no proof": {s.but().set("Authorization", "DPoP "+bound), "invalid_dpop_proof"}, "as Bearer": {s.but().bearer(bound), "invalid_token"},
		"as Bearer with a proof": {s.but().proving(k, bound).bearer(bound), "invalid_token"}, "another key": {s.but().proving(other, bound), "invalid_token"},
		"two proofs": {s.but().set("Authorization", "DPoP "+bound).set("Dpop", s.proof(k, bound), s.proof(k, bound)), "invalid_dpop_proof"},
		"no ath":     {s.but().proving(k, bound, obj{"ath": nil}), "invalid_dpop_proof"}, "ath of another token": {s.but().proving(k, bound, obj{"ath": s256(free)}), "invalid_dpop_proof"},
		"another method": {s.but().proving(k, bound, obj{"htm": "GET"}), "invalid_dpop_proof"}, "another path": {s.but().proving(k, bound, obj{"htu": mail}), "invalid_dpop_proof"},
		"another host": {s.but().proving(k, bound, obj{"htu": g.replicas[0].URL + readPath}), "invalid_dpop_proof"}, "old": {s.but().proving(k, bound, obj{"iat": in(-90)}), "invalid_dpop_proof"},
		"of the future": {s.but().proving(k, bound, obj{"iat": in(60)}), "invalid_dpop_proof"}, "no jti": {s.but().proving(k, bound, obj{"jti": nil}), "invalid_dpop_proof"},
		"for the token endpoint": {s.but().set("Authorization", "DPoP "+bound).set("Dpop", c.proof(k, "/token")), "invalid_dpop_proof"},
		"nonsense":               {s.but().set("Authorization", "DPoP "+bound).set("Dpop", "x.y.z"), "invalid_dpop_proof"},
	} {
		for i := range g.replicas {
			g.want(what, bad.s.at(i).do(), 401, bad.code, bound, 0)
		}
	}
	g.want("a free token with a proof", s.but().proving(k, free).do(), 401, "invalid_token", free, 0)
	g.want("two tokens", s.but().set("Authorization", "DPoP "+bound, "Bearer "+free).do(), 400, "invalid_request", bound, 0)
	good := s.but().proving(k, bound)
	g.want("as it must be", good.do(), 200, "", bound, 1)
	g.want("the proof again", good.do(), 401, "invalid_dpop_proof", bound, 1)
	g.want("another proof", s.but().proving(k, bound).at(1).do(), 401, "invalid_token", bound, 1)
	g.want("free, as it must be", s.but().bearer(free).do(), 200, "", free, 1)
}

func otRetained(c *check) {
	results, err := resource.NewMemoryResults(100, time.Now)
	if err != nil {
		c.Fatal(err)
	}
	g := c.reader(func(cfg *resource.Config) { cfg.Results = results })
	x, k := c.baseline(), newKey("ES256")
	token, free := c.ok(x.but().proof(k).do()).token(), c.ok(x.but().do()).token()
	s := g.post(readPath, obj{"folder": "inbox"})
	first := s.but().proving(k, token).do()
	g.want("the first", first, 200, "", token, 1)
	for i := range 5 {
		again := s.but().at(i).proving(k, token).do()
		g.want("again", again, 200, "", token, 1)
		if !bytes.Equal(again.body, first.body) {
			c.Errorf("%s and %s", first.body, again.body)
		}
	}
	g.want("by another key", s.but().proving(newKey("ES256"), token).do(), 401, "invalid_token", token, 1)
	g.want("by nobody", s.but().bearer(token).do(), 401, "invalid_token", token, 1)
	g.want("another request", g.post(readPath, obj{"folder": "sent"}).proving(k, token).do(), 403, "insufficient_scope", token, 1)
	g.want("free", s.but().bearer(free).do(), 200, "", free, 1)
	g.want("free, again", s.but().bearer(free).do(), 401, "invalid_token", free, 1) // nobody can say that it is the same caller

	crowd := c.ok(x.but().proof(k).do()).token()
	told := map[string]bool{}
	for _, a := range c.together(40, func(i int) call { return s.but().at(i).proving(k, crowd).ready() }) {
		switch {
		case a.status == http.StatusOK:
			told[string(a.body)] = true
		case a.status != http.StatusConflict || a.header.Get("Retry-After") == "":
			c.Errorf("in a crowd: %d %s", a.status, a.body)
		}
	}
	if len(told) != 1 || g.happened(crowd) != 1 {
		c.Errorf("in a crowd: %d answers, %d effects", len(told), g.happened(crowd))
	}

	bobs := c.ok(c.allowed("bob", c.te(x.who, c.userToken("bob"))).proof(k).do()).token()
	c.first(c.rs1, bobs)
	stranger := s.but().proving(k, bobs).do()
	g.want("another user", stranger, 401, "invalid_token", bobs, 0)
	if bytes.Contains(stranger.body, []byte("alice")) {
		c.Errorf("%s", stranger.body)
	}
}

// notebook is a journal that outlives a resource server.
type notebook struct {
	mu   sync.Mutex
	open map[string]resource.Intent // by redemption_id
}

// Open implements [resource.Journal].
func (n *notebook) Open(_ context.Context, i resource.Intent) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[i.RedemptionID] = i
	return nil
}

// Close implements [resource.Journal].
func (n *notebook) Close(_ context.Context, i resource.Intent) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, i.RedemptionID)
	return nil
}

func otInterrupted(c *check) {
	journal := &notebook{open: map[string]resource.Intent{}}
	kept := func(cfg *resource.Config) { cfg.Journal = journal }
	g := c.reader(kept)
	g.crashes.Store(true)
	x := c.named(1)
	token := c.ok(x.do()).token()
	txn := c.decode(token).str("txn")
	status := func() string {
		c.Helper()
		return c.ok(c.do(call{method: http.MethodGet, path: "/txn/" + txn, header: http.Header{"Client-Assertion": {x.who.assertion(c.issuer)}}})).str("status")
	}
	none := func(when string) {
		c.Helper()
		g.want(when, g.post(readPath, nil).at(1).bearer(token).do(), 401, "invalid_token", token, 0)
		c.want(x.do(), 400, "transaction_consumed")                                   // by its name there is none
		c.want(x.but().header("Idempotency-Key", `"x"`).do(), 400, "invalid_request") // nor by two
		c.spent(when, c.te(x.who, x.form.Get("subject_token")))                       // and the user has paid for one
	}
	if a, err := c.send(c.Context(), g.post(readPath, nil).bearer(token).ready()); err == nil {
		c.Errorf("the crash was answered: %d %s", a.status, a.body)
	}
	g.crashes.Store(false)
	if got := status(); got != "redeemed" {
		c.Errorf("after the crash: %s", got)
	}
	none("after the crash")

	back := c.reader(kept) // the resource server is there again
	left := slices.Collect(maps.Values(journal.open))
	if len(left) != 1 || left[0].Txn != txn {
		c.Fatalf("the journal has %v", left)
	}
	report := func(how resource.Outcome) {
		c.Helper()
		if err := back.guards[0].Report(c.Context(), txn, how); err != nil {
			c.Error(err)
		}
	}
	report(resource.Indeterminate)
	if got := status(); got != "indeterminate" {
		c.Errorf("reported in doubt: %s", got)
	}
	none("in doubt")
	report(resource.Failed)
	if got := status(); got != "failed" {
		c.Errorf("reported as failed: %s", got)
	}
	if back.guards[0].Report(c.Context(), txn, resource.Committed) == nil || status() != "failed" {
		c.Error("a second report changes the first")
	}
	none("failed")
}

func otDuplicate(c *check) {
	c.sub("early data", func(c *check) {
		g := c.reader()
		token, _ := c.mailToken()
		early := g.post(readPath, nil).bearer(token).set("Early-Data", "1")
		for i := range g.replicas {
			g.want("at the resource server", early.at(i).do(), 425, "invalid_request", token, 0)
		}
		r := c.redeem(c.rs1, token, nonce()).ready()
		r.header = http.Header{"Early-Data": {"1"}}
		if a := c.do(r); a.status != http.StatusTooEarly {
			c.Errorf("redeem: %d %s", a.status, a.body)
		}
		if a := c.baseline().header("Early-Data", "1").do(); a.status != http.StatusTooEarly || a.token() != "" {
			c.Errorf("token: %d %s", a.status, a.body)
		}
		g.want("sent again", g.post(readPath, nil).bearer(token).do(), 200, "", token, 1)
	})
	c.sub("the same bytes", func(c *check) {
		x := c.named(1).proof(newKey("ES256"))
		r := x.ready()
		first := c.ok(c.do(r))
		for n := range 2 * len(c.nodes) {
			r.node = n + 1
			again, err := c.send(c.Context(), r) // not c.do: it is the token that was seen before
			if err != nil || again.status != http.StatusOK || !bytes.Equal(again.body, first.body) {
				c.Fatalf("%v %d %s", err, again.status, again.body)
			}
		}
		if n := c.used(x.who.id); n != 1 {
			c.Errorf("drawn %d times", n)
		}
		changed := r
		changed.form = maps.Clone(r.form)
		changed.form.Set("scope", "")
		if a := c.do(changed); a.status == http.StatusOK || a.token() != "" {
			c.Errorf("other bytes with the same credentials: %d %s", a.status, a.body)
		}
	})
	c.sub("without a key or a name", func(c *check) {
		for what, x := range map[string]*exchange{"free": c.named(5), "nameless": c.baseline().proof(newKey("ES256"))} {
			r := x.ready()
			c.ok(c.do(r))
			if a := c.do(r); a.status != http.StatusUnauthorized && a.code() != "invalid_dpop_proof" || a.token() != "" {
				c.Errorf("%s: %d %s", what, a.status, a.body)
			}
		}
	})
}

func otBatch(c *check) {
	g := c.guarded(mail, map[string]resource.Rule{"POST " + readPath: reading(), "POST /mcp": resource.MCP{Scopes: []string{"mail.read"}, Tools: map[string]resource.Tool{"send_mail": {}}}.Rule()})
	token, _ := c.mailToken()
	one := string(mustJSON(called("send_mail", obj{"to": "bob"})))
	for what, body := range map[string]string{
		"a batch": "[" + one + "," + one + "]", "a batch of one": "[" + one + "]", "an empty batch": "[]", "a batch after space": "\r\n\t [" + one + "]",
		"a batch after a byte order mark": "\ufeff[" + one + "]", "two documents": one + one, "two lines": one + "\n" + one, "a member twice": strings.Replace(one, `"jsonrpc"`, `"method":"x","jsonrpc"`, 1),
	} {
		for _, path := range []string{readPath, "/mcp"} {
			g.want(what+" at "+path, g.post(path, obj{}).raw(body).bearer(token).do(), 400, "invalid_request", token, 0)
		}
	}
	g.want("a batch that says it is text", g.post(readPath, nil).raw("["+one+"]").set("Content-Type", "text/plain").bearer(token).do(), 400, "invalid_request", token, 0)
	g.want("a batch in other clothes", g.post(readPath, nil).raw("["+one+"]").set("Content-Encoding", "gzip").bearer(token).do(), 415, "invalid_request", token, 0)
	g.want("one", g.post("/mcp", obj{}).raw(one).bearer(token).do(), 200, "", token, 1)
}

func dpResourceNonce(c *check) {
	p := c.nonced()
	g := p.reader(func(cfg *resource.Config) { cfg.NonceKey = bytes.Repeat([]byte("n"), 32) })
	k := newKey("ES256")
	x := p.te(p.agent(), p.userToken("alice"))
	theirs := p.want(x.but().proof(k).do(), 400, "use_dpop_nonce").header.Get("Dpop-Nonce")
	p.decide(p.asks(x.but().proof(k, obj{"nonce": theirs})), p.person("alice"), limits{})
	token := p.ok(x.but().proof(k, obj{"nonce": theirs}).do()).token()
	s := g.post(readPath, nil)
	demanded := func(what string, nonce any) string {
		p.Helper()
		a := s.but().proving(k, token, obj{"nonce": nonce}).do()
		g.want(what, a, 401, "use_dpop_nonce", token, 0)
		if values := a.header.Values("Dpop-Nonce"); len(values) != 1 || values[0] == "" || values[0] == theirs {
			p.Errorf("%s: nonces %q", what, values)
		}
		if challenge := strings.Join(a.header.Values("Www-Authenticate"), ", "); !strings.Contains(challenge, `error="use_dpop_nonce"`) {
			p.Errorf("%s: %s", what, challenge)
		}
		return a.header.Get("Dpop-Nonce")
	}
	ours := demanded("none", nil)
	demanded("that of the authorization server", theirs)
	demanded("an empty one", "")
	demanded("a made-up one", nonce())
	demanded("one cut off", ours[:len(ours)-1])
	p.want(x.but().proof(k, obj{"nonce": ours}).do(), 400, "use_dpop_nonce") // and the other way around
	g.want("its own, of another replica", s.but().at(1).proving(k, token, obj{"nonce": ours}).do(), 200, "", token, 1)
}

func dpDigest(c *check) {
	g := c.tools()
	arguments := obj{"text": "Hello", "to": "bob@example.test"}
	canonical := `{"text":"Hello","to":"bob@example.test"}`
	entry := merge(toolCall("send_mail"), obj{"args_digest": digestOf(canonical)})
	token := c.ok(c.paying(entry).do()).token()
	body := string(mustJSON(called("send_mail", arguments)))
	for what, other := range map[string]string{
		"one byte": strings.Replace(body, "Hello", "Hallo", 1), "a space in a string": strings.Replace(body, "Hello", "Hello ", 1), "case": strings.Replace(body, `"to"`, `"To"`, 1),
		"a member more": strings.Replace(body, `"to"`, `"cc":"eve","to"`, 1), "nothing": strings.Replace(body, canonical, "{}", 1), "null": strings.Replace(body, canonical, "null", 1),
	} {
		if other == body {
			c.Fatalf("%s changes nothing", what)
		}
		g.want(what, g.post("/mcp", obj{}).raw(other).bearer(token).do(), 403, "insufficient_scope", token, 0)
	}
	spaced := strings.ReplaceAll(strings.Replace(body, canonical, `{ "to" : "bob@example.test", "text" : "\u0048ello" }`, 1), `"id":1`, `"id":7`)
	g.want("another spelling of the same", g.post("/mcp", obj{}).raw(spaced).bearer(token).do(), 200, "", token, 1)
}

// digestOf is the args_digest of canonical arguments.
func digestOf(canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// actors wants an agent to act, and nobody else in the chain.
func actors(chain []resource.Actor) error {
	if len(chain) == 0 {
		return resource.WrongActor("an agent must act here")
	}
	for _, a := range chain {
		if a.Profile != "ai_agent" {
			return resource.WrongActor("somebody in the chain is no agent")
		}
	}
	return nil
}

func actResource(c *check) {
	rule := reading()
	rule.Chain = actors
	g := c.guarded(mail, map[string]resource.Rule{"POST " + readPath: rule, "POST /mcp/any": reading()})
	own := c.flow(c.person("alice"), "mail.read").set("resource", mail).token()
	x := c.baseline()
	odd := c.ok(c.foreign(x.who, c.idp.token(c.env, "alice", "mail.read", obj{"act": obj{"iss": "https://elsewhere.test", "sub": "tool"}})).do()).token()
	for what, token := range map[string]string{"the user's own": own, "an actor of unknown kind": odd} {
		a := g.post(readPath, nil).bearer(token).do()
		g.want(what, a, 403, "actor_unauthorized", token, 0)
		challenge := strings.Join(a.header.Values("Www-Authenticate"), ", ")
		if !strings.Contains(challenge, `error="actor_unauthorized"`) || strings.Contains(challenge, "insufficient_scope") {
			c.Errorf("%s: %s", what, challenge)
		}
		g.want(what+", where anybody may", g.post("/mcp/any", nil).bearer(token).do(), 200, "", token, 1)
	}
	token := c.ok(x.do()).token()
	a := g.post(readPath, nil).bearer(token).do()
	g.want("an agent", a, 200, "", token, 1)
	if a.str("for") != "alice" || a.str("by") != x.who.id {
		c.Errorf("%s", a.body)
	}
}

func mdResource(c *check) {
	g := c.reader(func(cfg *resource.Config) {
		cfg.RequireDPoP = true
		cfg.Profile = resource.Profile{Name: "Mail", Scopes: []string{"mail.read"}, DetailsTypes: []string{"payment"}}
	})
	a := c.ok(c.get(g.replicas[0].URL+"/.well-known/oauth-protected-resource/mcp", 0))
	if a.str("resource") != mail || a.json["dpop_bound_access_tokens_required"] != true {
		c.Errorf("%s", a.body)
	}
	for name, want := range map[string]string{
		"authorization_servers": c.issuer, "scopes_supported": "mail.read", "bearer_methods_supported": "header", "authorization_details_types_supported": "payment",
		"dpop_signing_alg_values_supported": "ES256",
	} {
		if list := stringsOf(a.json[name]); len(list) == 0 || list[0] != want {
			c.Errorf("%s is %v", name, list)
		}
	}
	meta := c.ok(c.get("/.well-known/oauth-authorization-server", 0))
	if told := strings.Join(stringsOf(meta.json["protected_resources"]), " ") + " "; !strings.Contains(told, mail+" ") {
		c.Errorf("the server tells of %s", told)
	}
}

func mdChallenge(c *check) {
	g := c.reader()
	want := `resource_metadata="https://rs1.test/.well-known/oauth-protected-resource/mcp"`
	for what, s := range map[string]*sent{"no token": g.post(readPath, nil), "a bad token": g.post(readPath, nil).bearer("x.y.z")} {
		a := s.do()
		values := a.header.Values("Www-Authenticate")
		if a.status != http.StatusUnauthorized || len(values) == 0 {
			c.Errorf("%s: %d %q", what, a.status, values)
		}
		for _, v := range values {
			if !strings.Contains(v, want) {
				c.Errorf("%s: %s", what, v)
			}
		}
	}
}

func o21Resource(c *check) {
	g := c.guarded(mail, map[string]resource.Rule{"POST " + readPath: reading(), "POST /mcp/send": {Scopes: []string{"mail.send"}}})
	token, _ := c.mailToken()
	bare := g.post(readPath, nil).do()
	g.want("no token", bare, 401, "", token, 0)
	if challenge := strings.Join(bare.header.Values("Www-Authenticate"), ", "); strings.Contains(challenge, "error=") || !strings.Contains(challenge, `scope="mail.read"`) {
		c.Errorf("no token: %s", challenge)
	}
	g.want("in the URL", g.post(readPath+"?access_token="+token, nil).do(), 400, "invalid_request", token, 0)
	g.want("in the URL too", g.post(readPath+"?access_token="+token, nil).bearer(token).do(), 400, "invalid_request", token, 0)
	form := g.post(readPath, nil).raw(url.Values{"access_token": {token}}.Encode()).set("Content-Type", "application/x-www-form-urlencoded")
	g.want("in the body", form.do(), 401, "", token, 0)
	g.want("in a cookie", g.post(readPath, nil).set("Cookie", "access_token="+token).do(), 401, "", token, 0)
	g.want("twice", g.post(readPath, nil).set("Authorization", "Bearer "+token, "Bearer "+token).do(), 400, "invalid_request", token, 0)
	g.want("a list", g.post(readPath, nil).set("Authorization", "Bearer "+token+", Bearer "+token).do(), 400, "invalid_request", token, 0)
	for what, bad := range broken(token) {
		if a := g.post(readPath, nil).bearer(bad).do(); a.status != http.StatusUnauthorized || a.code() != "invalid_token" {
			c.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	other := c.ok(c.allowed("alice", c.te(c.agent(), c.userToken("alice")).at(notes, "notes.read")).do()).token()
	g.want("of another resource", g.post(readPath, nil).bearer(other).do(), 401, "invalid_token", other, 0)
	lacking := g.post("/mcp/send", nil).bearer(token).do()
	g.want("of another scope", lacking, 403, "insufficient_scope", token, 0)
	if challenge := strings.Join(lacking.header.Values("Www-Authenticate"), ", "); !strings.Contains(challenge, `scope="mail.send"`) {
		c.Errorf("of another scope: %s", challenge)
	}
	g.want("as it must be", g.post(readPath, nil).set("Authorization", "bearer "+token).do(), 200, "", token, 1)
}

func negMirrored(c *check) {
	g, x, k := c.reader(), c.baseline(), newKey("ES256")
	for range 5 {
		token := c.ok(x.but().proof(k).do()).token()
		same := g.post(readPath, obj{"folder": "inbox"}).proving(k, token)
		counts := tally(c.together(3*len(g.replicas), func(i int) call { return same.but().at(i).ready() }))
		if g.happened(token) != 1 || counts["OK "] != 1 || counts["Unauthorized invalid_token"] < len(g.replicas)-1 {
			c.Errorf("%v, %d effects", counts, g.happened(token))
		}
		for i := range g.replicas {
			g.want("later", g.post(readPath, obj{"folder": "inbox"}).at(i).proving(k, token).do(), 401, "invalid_token", token, 1)
		}
	}
}

func negTxnHeader(c *check) {
	g := c.reader()
	token, _ := c.mailToken()
	spent, _ := c.mailToken()
	internal := c.ok(c.do(c.exchanged(c.rs1, spent, nonce()))).token()
	for what, s := range map[string]*sent{
		"as Bearer": g.post(readPath, nil).bearer(internal), "as DPoP": g.post(readPath, nil).proving(newKey("ES256"), internal),
		"beside itself": g.post(readPath, nil).bearer(internal).set("Txn-Token", internal),
	} {
		g.want("a transaction token, "+what, s.do(), 401, "invalid_token", spent, 0)
	}
	g.want("an access token in Txn-Token", g.post(readPath, nil).set("Txn-Token", token).do(), 401, "", token, 0)
	g.want("two", g.post(readPath, nil).set("Txn-Token", token, internal).do(), 401, "", token, 0)
	g.want("in its place", g.post(readPath, nil).bearer(token).do(), 200, "", token, 1)
	g.want("again, with a transaction token", g.post(readPath, nil).bearer(token).set("Txn-Token", internal).do(), 401, "invalid_token", token, 1)
}
