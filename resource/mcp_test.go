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
)

var mcp = resource.MCP{
	Scopes: []string{"mail.read"},
	Tools: map[string]resource.Tool{
		"send_mail": {Scopes: []string{"mail.send"}, OneTransaction: true},
		"list_mail": {},
		"purge":     {Scopes: []string{"mail.admin"}},
	},
	Server: "mail",
}

func call(tool, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `}}`
}

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
		"a list, by session":                      {"-", list, http.StatusOK},
		"a harmless tool, by session":             {"-", call("list_mail", `{}`), http.StatusOK},
		"an effect, by session":                   {"-", bob, http.StatusUnauthorized},
		"a tool beyond the scope":                 {"-", call("purge", `{}`), http.StatusForbidden},
		"a tool that is not there":                {"-", call("delete_all", `{}`), http.StatusForbidden},
		"scopes alone":                            {"", bob, http.StatusOK},
		"the tool":                                {entry(``), bob, http.StatusOK},
		"the tool at the server":                  {entry(`,"server":"mail"`), bob, http.StatusOK},
		"the tool at another server":              {entry(`,"server":"calendar"`), bob, http.StatusForbidden},
		"the arguments":                           {entry(`,"arguments":{"n":2,"to":"bob"}`), bob, http.StatusOK},
		"the arguments in another spelling":       {entry(`,"arguments":{"n":2.0,"to":"b\u006fb"}`), bob, http.StatusOK},
		"their digest":                            {entry(`,"args_digest":"` + digestOf(`{"n":2,"to":"bob"}`) + `"`), bob, http.StatusOK},
		"both":                                    {entry(`,"arguments":{"n":2,"to":"bob"},"args_digest":"` + digestOf(`{"n":2,"to":"bob"}`) + `"`), bob, http.StatusOK},
		"no arguments":                            {entry(`,"arguments":{}`), `{"method":"tools/call","params":{"name":"send_mail"}}`, http.StatusOK},
		"one of several":                          {`[{"type":"payment"},{"type":"mcp_tool_call","tool":"list_mail"},{"type":"mcp_tool_call","tool":"send_mail"}]`, bob, http.StatusOK},
		"another argument":                        {entry(`,"arguments":{"n":2,"to":"eve"}`), bob, http.StatusForbidden},
		"one argument more":                       {entry(`,"arguments":{"to":"bob"}`), bob, http.StatusForbidden},
		"another digest":                          {entry(`,"args_digest":"` + digestOf(`{"n":3,"to":"bob"}`) + `"`), bob, http.StatusForbidden},
		"a number that only seems equal":          {entry(`,"arguments":{"n":9007199254740992}`), call("send_mail", `{"n":9007199254740993}`), http.StatusForbidden},
		"a number of immense size":                {entry(`,"arguments":{"n":0}`), call("send_mail", `{"n":1e-999999999}`), http.StatusForbidden},
		"a fraction that only seems equal":        {entry(`,"arguments":{"n":0.1}`), call("send_mail", `{"n":0.10000000000000000001}`), http.StatusForbidden},
		"a digest that only seems equal":          {entry(`,"args_digest":"` + digestOf(`{"n":9007199254740992}`) + `"`), call("send_mail", `{"n":[9007199254740993]}`), http.StatusForbidden},
		"another tool":                            {`[{"type":"mcp_tool_call","tool":"list_mail"}]`, bob, http.StatusForbidden},
		"a limit that is not known":               {entry(`,"until":"noon"`), bob, http.StatusForbidden},
		"no tool in the entry":                    {`[{"type":"mcp_tool_call"}]`, bob, http.StatusForbidden},
		"details of another kind":                 {`[{"type":"payment"}]`, bob, http.StatusForbidden},
		"a list, by a token for a call":           {entry(``), list, http.StatusForbidden},
		"a list, by a token for once":             {"", list, http.StatusOK},
		"a batch":                                 {"", "[" + bob + "," + bob + "]", http.StatusBadRequest},
		"a batch, by session":                     {"-", "[" + list + "]", http.StatusBadRequest},
		"the method twice":                        {"", `{"method":"tools/list","method":"tools/call","params":{"name":"purge"}}`, http.StatusBadRequest},
		"the method twice, by session":            {"-", `{"method":"tools/list","method":"tools/call"}`, http.StatusBadRequest},
		"the method in another case too":          {"-", `{"method":"tools/list","Method":"tools/call","params":{"name":"purge"}}`, http.StatusBadRequest},
		"the name in another case too":            {"", `{"method":"tools/call","params":{"name":"send_mail","NAME":"purge"}}`, http.StatusBadRequest},
		"the arguments in another case too":       {"", `{"method":"tools/call","params":{"name":"send_mail","Arguments":{}}}`, http.StatusBadRequest},
		"no tool":                                 {"-", `{"method":"tools/call","params":{}}`, http.StatusBadRequest},
		"no parameters":                           {"-", `{"method":"tools/call"}`, http.StatusBadRequest},
		"no body":                                 {"-", ``, http.StatusBadRequest},
		"a body that goes on behind the document": {"-", list + "x", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			compact := is.token()
			if c.details != "-" {
				compact = is.token(once)
			}
			if len(c.details) > 1 {
				compact = is.token(once, details(c.details))
			}
			calls := is.calls.Load()
			w := do(handler, request("POST", "/mail", c.body, compact))
			if w.Code != c.status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if burnt := is.calls.Load() > calls; burnt != (c.details != "-" && c.status == http.StatusOK) {
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
