package resource_test

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"obolus/resource"
)

// However a body is written: what a handler reads from it, by a parser that is less strict than the guard's, is what the user allowed.
func FuzzMCP(f *testing.F) {
	for _, body := range []string{
		call("send_mail", `{"to":"bob","n":2}`), call("send_mail", `{"to":"bob","n":2,"n":3}`), call("purge", `{}`),
		`{"method":"tools/call","params":{"name":"send_mail","arguments":{"n":2,"to":"bob"},"Name":"purge"}}`,
		`{"method":"tools/call","METHOD":"x","params":{"name":"send_mail","arguments":{"n":2.0000000000000001,"to":"bob"}}}`,
		`{"method":"tools/call","params":{"name":"send_mail","arguments":{"n":2,"to":"bob"}}} {}`, `[]`, `{}`, "\xef\xbb\xbf{}", call("send_mail", `{"to":"bob","n":2e-999999999}`),
		`{"\u006dethod":"tools/call","params":{"name":"send\u005fmail","arguments":{"n":2,"to":"b\u006fb"}}}`,
	} {
		f.Add(body)
	}
	is := newIssuer(f)
	var ran []byte
	handler := is.guard(func(c *resource.Config) { c.Client = resource.Client{} }).Require(mcpSession().Rule())(http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) { ran, _ = io.ReadAll(r.Body) }))
	compact := is.token(details(entry(`,"arguments":{"n":2,"to":"bob"}`)))
	f.Fuzz(func(t *testing.T, body string) {
		ran = nil
		if do(handler, request("POST", "/mail", body, compact)).Code != http.StatusOK {
			return
		}
		var got struct {
			Method string
			Params struct {
				Name      string
				Arguments any
			}
		}
		if string(ran) != body {
			t.Fatalf("the handler got %q of %q", ran, body)
		}
		if err := json.Unmarshal(ran, &got); err != nil || got.Method != "tools/call" {
			return // such a handler calls nothing
		}
		if got.Params.Name != "send_mail" || !reflect.DeepEqual(got.Params.Arguments, map[string]any{"n": 2.0, "to": "bob"}) {
			t.Fatalf("%q went through as %+v", body, got)
		}
	})
}

func mcpSession() resource.MCP {
	return resource.MCP{Tools: map[string]resource.Tool{"send_mail": {}, "purge": {}}}
}

// Nothing but the scheme and the token gets through, whatever surrounds them.
func FuzzAuthorization(f *testing.F) {
	is := newIssuer(f)
	compact := is.token()
	handler := is.guard().Require(send)(new(effects))
	for _, header := range []string{"Bearer TOKEN", "bearer  TOKEN", "DPoP TOKEN", "Bearer TOKEN,x", "Bearer TOKEN x", "Basic TOKEN", "TOKEN", "Bearer\tTOKEN", "Bearer TOKEN="} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		header = strings.ReplaceAll(header, "TOKEN", compact)
		r := request("GET", "/mail/send", "", "")
		r.Header["Authorization"] = []string{header}
		w := do(handler, r)
		scheme, rest, _ := strings.Cut(header, " ")
		good := strings.EqualFold(scheme, "Bearer") && strings.TrimLeft(rest, " ") == compact
		if (w.Code == http.StatusOK) != good {
			t.Fatalf("%q: %d", header, w.Code)
		}
	})
}
