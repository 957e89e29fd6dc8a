package resource_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"obolus/resource"
	"obolus/token"
)

var mcp = resource.MCP{
	Scopes: []string{"mail.read"},
	Tools: map[string]resource.Tool{
		"send_mail": {Scopes: []string{"mail.send"}, OneTransaction: true},
		"list_mail": {},
		"purge":     {Scopes: []string{"mail.admin"}},
		"file_mail": {OneTransaction: true, Detailed: true},
		"sign_mail": {Scopes: []string{"mail.send"}, OneTransaction: true, Detailed: true},
	},
	Server: "mail",
}

func call(tool, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `}}`
}

func message(method string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{}}`
}

const free = 0 // is let through, and nothing is redeemed

func digestOf(canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func entry(members string) string {
	return `[{"type":"mcp_tool_call","tool":"send_mail"` + members + `}]`
}

// A call is held against the details of its token before anything is spent: OT-21, MC-33, MC-42, OT-30.
func TestMCP(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	handler := is.guard().Require(mcp.Rule())(new(effects))
	bob := call("send_mail", `{"to":"bob","n":2}`)
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	for name, c := range map[string]struct {
		details string // of a one-transaction token; "-" is a session token
		body    string
		status  int
	}{
		"a list, by session":                         {"-", list, http.StatusOK},
		"a harmless tool, by session":                {"-", call("list_mail", `{}`), http.StatusOK},
		"an effect, by session":                      {"-", bob, http.StatusUnauthorized},
		"a tool beyond the scope":                    {"-", call("purge", `{}`), http.StatusForbidden},
		"a tool that is not there":                   {"-", call("delete_all", `{}`), http.StatusForbidden},
		"scopes alone":                               {"", bob, http.StatusOK},
		"the tool":                                   {entry(``), bob, http.StatusOK},
		"the tool at the server":                     {entry(`,"server":"mail"`), bob, http.StatusOK},
		"the tool at another server":                 {entry(`,"server":"calendar"`), bob, http.StatusForbidden},
		"the arguments":                              {entry(`,"arguments":{"n":2,"to":"bob"}`), bob, http.StatusOK},
		"the arguments in another spelling":          {entry(`,"arguments":{"n":2.0,"to":"b\u006fb"}`), bob, http.StatusOK},
		"their digest":                               {entry(`,"args_digest":"` + digestOf(`{"n":2,"to":"bob"}`) + `"`), bob, http.StatusOK},
		"both":                                       {entry(`,"arguments":{"n":2,"to":"bob"},"args_digest":"` + digestOf(`{"n":2,"to":"bob"}`) + `"`), bob, http.StatusOK},
		"no arguments":                               {entry(`,"arguments":{}`), `{"method":"tools/call","params":{"name":"send_mail"}}`, http.StatusOK},
		"one of several":                             {`[{"type":"payment"},{"type":"mcp_tool_call","tool":"list_mail"},{"type":"mcp_tool_call","tool":"send_mail"}]`, bob, http.StatusOK},
		"another argument":                           {entry(`,"arguments":{"n":2,"to":"eve"}`), bob, http.StatusForbidden},
		"one argument more":                          {entry(`,"arguments":{"to":"bob"}`), bob, http.StatusForbidden},
		"another digest":                             {entry(`,"args_digest":"` + digestOf(`{"n":3,"to":"bob"}`) + `"`), bob, http.StatusForbidden},
		"a number that only seems equal":             {entry(`,"arguments":{"n":9007199254740992}`), call("send_mail", `{"n":9007199254740993}`), http.StatusForbidden},
		"a number of immense size":                   {entry(`,"arguments":{"n":0}`), call("send_mail", `{"n":1e-999999999}`), http.StatusForbidden},
		"a fraction that only seems equal":           {entry(`,"arguments":{"n":0.1}`), call("send_mail", `{"n":0.10000000000000000001}`), http.StatusForbidden},
		"a digest that only seems equal":             {entry(`,"args_digest":"` + digestOf(`{"n":9007199254740992}`) + `"`), call("send_mail", `{"n":[9007199254740993]}`), http.StatusForbidden},
		"another tool":                               {`[{"type":"mcp_tool_call","tool":"list_mail"}]`, bob, http.StatusForbidden},
		"a limit that is not known":                  {entry(`,"until":"noon"`), bob, http.StatusForbidden},
		"no tool in the entry":                       {`[{"type":"mcp_tool_call"}]`, bob, http.StatusForbidden},
		"details of another kind":                    {`[{"type":"payment"}]`, bob, http.StatusForbidden},
		"a list of resources, by a token for a call": {entry(``), message("resources/list"), free},
		"a resource, by session":                     {"-", message("resources/read"), http.StatusOK},
		"a resource, by a token for a call":          {entry(``), message("resources/read"), http.StatusForbidden},
		"a resource, by a token for once":            {"", message("resources/read"), http.StatusOK},
		"a prompt, by a token for a call":            {entry(``), message("prompts/get"), http.StatusForbidden},
		"a method that only begins like a free one":  {entry(``), message("tools/list/all"), http.StatusForbidden},
		"a method in another case":                   {entry(``), message("Initialize"), http.StatusForbidden},
		"no method, and no answer":                   {entry(``), `{"jsonrpc":"2.0","id":1}`, http.StatusForbidden},
		"a batch":                                    {"", "[" + bob + "," + bob + "]", http.StatusBadRequest},
		"a batch, by session":                        {"-", "[" + list + "]", http.StatusBadRequest},
		"the method twice":                           {"", `{"method":"tools/list","method":"tools/call","params":{"name":"purge"}}`, http.StatusBadRequest},
		"the method twice, by session":               {"-", `{"method":"tools/list","method":"tools/call"}`, http.StatusBadRequest},
		"the method in another case too":             {"-", `{"method":"tools/list","Method":"tools/call","params":{"name":"purge"}}`, http.StatusBadRequest},
		"the name in another case too":               {"", `{"method":"tools/call","params":{"name":"send_mail","NAME":"purge"}}`, http.StatusBadRequest},
		"the arguments in another case too":          {"", `{"method":"tools/call","params":{"name":"send_mail","Arguments":{}}}`, http.StatusBadRequest},
		"no tool":                                    {"-", `{"method":"tools/call","params":{}}`, http.StatusBadRequest},
		"no parameters":                              {"-", `{"method":"tools/call"}`, http.StatusBadRequest},
		"no body":                                    {"-", ``, http.StatusBadRequest},
		"a body that goes on behind the document":    {"-", list + "x", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			compact := is.token()
			if c.details != "-" {
				compact = is.token(once)
			}
			if len(c.details) > 1 {
				compact = is.token(once, details(c.details))
			}
			want, costs := c.status, c.status == http.StatusOK && c.details != "-"
			if c.status == free {
				want = http.StatusOK
			}
			calls := is.calls.Load()
			w := do(handler, request("POST", "/mail", c.body, compact))
			if w.Code != want {
				t.Fatalf("status %d, want %d: %s", w.Code, want, w.Body)
			}
			if burnt := is.calls.Load() > calls; burnt != costs {
				t.Errorf("redeemed: %v", burnt)
			}
		})
	}
	if w := do(handler, request("GET", "/mail", "", is.token())); w.Code != http.StatusOK {
		t.Errorf("a stream: %d", w.Code)
	}
	if w := do(handler, request("POST", "/mail", list, is.token(details(entry(``))))); w.Code != http.StatusOK {
		t.Errorf("a list by a session token with details: %d", w.Code)
	}
	w := do(handler, request("POST", "/mail", call("purge", "{}"), is.token()))
	if !strings.Contains(challenge(w), `scope="mail.read mail.admin"`) {
		t.Errorf("the challenge names not all scopes at once: %q", challenge(w))
	}
}

// Where a call must be named by its token, details stand in for the scopes of the endpoint, and scopes do not stand in for details.
func TestMCPDetailed(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	handler := is.guard().Require(mcp.Rule())(new(effects))
	of := func(tool string) string {
		return `[{"type":"mcp_tool_call","tool":"` + tool + `","arguments":{"n":1}}]`
	}
	for name, c := range map[string]struct {
		scope   string
		details string
		session bool
		body    string
		status  int
	}{
		"named, without any scope":                      {"", of("file_mail"), false, call("file_mail", `{"n":1}`), http.StatusOK},
		"named, with the scope":                         {"mail.read", of("file_mail"), false, call("file_mail", `{"n":1}`), http.StatusOK},
		"other arguments":                               {"mail.read mail.send", of("file_mail"), false, call("file_mail", `{"n":2}`), http.StatusForbidden},
		"another tool of the kind":                      {"mail.read mail.send", of("file_mail"), false, call("sign_mail", `{"n":1}`), http.StatusForbidden},
		"by all scopes and no details":                  {"mail.read mail.send mail.admin", "", false, call("file_mail", `{"n":1}`), http.StatusForbidden},
		"by details of another kind":                    {"mail.read mail.send", `[{"type":"payment"}]`, false, call("file_mail", `{"n":1}`), http.StatusForbidden},
		"a scope of the tool's own is needed":           {"", of("sign_mail"), false, call("sign_mail", `{"n":1}`), http.StatusForbidden},
		"a scope of the tool's own, and nothing else":   {"mail.send", of("sign_mail"), false, call("sign_mail", `{"n":1}`), http.StatusOK},
		"named, but by session":                         {"mail.read", of("file_mail"), true, call("file_mail", `{"n":1}`), http.StatusUnauthorized},
		"a tool that goes by scope, named, without one": {"", of("list_mail"), false, call("list_mail", `{"n":1}`), http.StatusForbidden},
		"a look, without any scope":                     {"", of("file_mail"), false, message("tools/list"), free},
		"a look by session, without any scope":          {"", of("file_mail"), true, message("tools/list"), free},
		"a look, without scope and details of calls":    {"", `[{"type":"payment"}]`, false, message("tools/list"), http.StatusForbidden},
		"a resource by session, without the scope":      {"", of("file_mail"), true, message("resources/read"), http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []func(*token.Claims){func(tc *token.Claims) { tc.Scope = c.scope }}
			if c.details != "" {
				changes = append(changes, details(c.details))
			}
			if !c.session {
				changes = append(changes, once)
			}
			calls := is.calls.Load()
			w := do(handler, request("POST", "/mail", c.body, is.token(changes...)))
			if want := max(c.status, http.StatusOK); w.Code != want {
				t.Fatalf("status %d, want %d: %s", w.Code, want, w.Body)
			}
			if burnt := is.calls.Load() > calls; burnt != (c.status == http.StatusOK) {
				t.Errorf("redeemed: %v", burnt)
			}
		})
	}
}

// A client of any version of the protocol gets to its one call: what comes before and after it costs nothing, whatever the token is for, and as often as
// it likes. MC-40.
func TestMCPFree(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	var fails error
	handler := is.guard(func(c *resource.Config) { c.Results = results(t, 10, time.Now) }).Require(mcp.Rule())(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if c := resource.CallerFrom(r.Context()); c.Free {
				fails = c.Redeem(r.Context())
			}
			w.WriteHeader(http.StatusOK)
		}))
	for name, send := range map[string]func(method, body string) int{
		"by a token for the call": func() func(method, body string) int {
			compact := is.token(once, details(entry(`,"arguments":{"to":"bob"}`)))
			return func(method, body string) int { return do(handler, request(method, "/mail", body, compact)).Code }
		}(),
		"by one for a scope": func() func(method, body string) int {
			compact := is.token(once)
			return func(method, body string) int { return do(handler, request(method, "/mail", body, compact)).Code }
		}(),
		"by one that is bound, whose answers are kept": func() func(method, body string) int {
			compact := is.token(once, bound(key), details(entry(``)))
			return func(method, body string) int {
				return do(handler, prove(t, request(method, "/mail", body, ""), key, compact)).Code
			}
		}(),
	} {
		around := func() {
			t.Helper()
			for _, body := range []string{
				message("initialize"), message("server/discover"), message("notifications/initialized"), message("ping"), message("tools/list"),
				message("prompts/list"), message("resources/list"), message("resources/templates/list"), message("notifications/cancelled"),
				`{"jsonrpc":"2.0","id":7,"result":{}}`, `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}`,
			} {
				if status := send("POST", body); status != http.StatusOK {
					t.Errorf("%s: %s: %d", name, body, status)
				}
			}
			for _, method := range []string{"GET", "DELETE"} {
				if status := send(method, ""); status != http.StatusOK {
					t.Errorf("%s: %s: %d", name, method, status)
				}
			}
		}
		before := is.calls.Load()
		fails = nil
		around()
		if n := is.calls.Load() - before; n != 0 {
			t.Errorf("%s: %d redemptions before the call", name, n)
		}
		if fails == nil {
			t.Errorf("%s: something was redeemed for a request that costs nothing", name)
		}
		if status := send("POST", call("send_mail", `{"to":"bob"}`)); status != http.StatusOK {
			t.Errorf("%s: the call: %d", name, status)
		}
		around()
		if n := is.calls.Load() - before; n != 1 {
			t.Errorf("%s: %d redemptions", name, n)
		}
	}
	nobody := do(handler, request("POST", "/mail", message("initialize"), ""))
	if nobody.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", nobody.Code)
	}
	foreign := do(handler, request("POST", "/mail", message("initialize"), is.token(once, func(c *token.Claims) { c.Scope = "calendar" })))
	if foreign.Code != http.StatusForbidden {
		t.Errorf("without the scope: %d", foreign.Code)
	}
}

// No redemption tells that a token was stopped which pays for nothing: whoever follows stops refuses it by itself.
func TestMCPFreeOfAStoppedToken(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	g := is.guard(followed)
	handler := g.Require(mcp.Rule())(new(effects))
	of := func(user string, more ...func(*token.Claims)) string {
		return is.token(append(more, func(c *token.Claims) { c.Subject = user })...)
	}
	look := func(compact string) int {
		return do(handler, request("POST", "/mail", message("tools/list"), compact)).Code
	}
	until := func(compact string, status int) {
		t.Helper()
		for late := time.Now().Add(10 * time.Second); look(compact) != status; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatalf("the answer stays %d, want %d", look(compact), status)
			}
		}
	}
	if status := look(of("alice", once)); status != http.StatusServiceUnavailable {
		t.Errorf("while nothing is heard: %d", status)
	}
	is.stream.tell(alive)
	follow(t, g)
	until(of("alice", once), http.StatusOK)
	alice, bob := of("alice", once), of("bob", once)
	is.stream.tell(stopEvent(is.set(object{"user": is.who("alice")}, nil)) + alive)
	until(alice, http.StatusUnauthorized)
	if status := look(bob); status != http.StatusOK {
		t.Errorf("of somebody else: %d", status)
	}
	if w := do(handler, request("POST", "/mail", call("send_mail", "{}"), alice)); w.Code != http.StatusOK || is.calls.Load() != 1 {
		t.Errorf("a call is asked about: %d, %d redemptions", w.Code, is.calls.Load())
	}
}

// MC-41, MC-42: the answer was lost; the client sends the call again as a new JSON-RPC request, with a fresh proof.
func TestMCPRepeat(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	key := testKey(t)
	effect := new(effects)
	handler := is.guard(func(c *resource.Config) { c.Results = results(t, 10, time.Now) }).Require(mcp.Rule())(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "sent %d", effect.Add(1)) }))
	compact := is.token(once, bound(key), details(entry(``)))
	send := func(id, arguments string) (int, string) {
		body := strings.Replace(call("send_mail", arguments), `"id":1`, `"id":`+id, 1)
		w := do(handler, prove(t, request("POST", "/mail", body, ""), key, compact))
		return w.Code, w.Body.String()
	}
	if status, body := send("1", `{"to":"bob"}`); status != http.StatusOK || body != "sent 1" {
		t.Fatal(status, body)
	}
	form, _ := is.last.Load().(url.Values)
	if form.Get("request_hash") == "" {
		t.Error("no hash")
	}
	if status, body := send("2", `{ "to":"bob" }`); status != http.StatusOK || body != "sent 1" {
		t.Errorf("the same call: %d %q", status, body)
	}
	if status, _ := send("3", `{"to":"eve"}`); status != http.StatusForbidden {
		t.Errorf("another call: %d", status)
	}
	if effect.Load() != 1 {
		t.Errorf("%d effects", effect.Load())
	}
}
