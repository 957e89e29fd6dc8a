package admin_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

type object = map[string]any

// document is the API's own description, with what is needed to hold answers to it.
type document struct{ all object }

func (d document) paths() object { return d.all["paths"].(object) }

// check lists what of a value is not as a schema says. It knows the part of JSON Schema that the document uses.
func (d document) check(schema object, v any, at string) []string {
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		return d.check(d.all["components"].(object)["schemas"].(object)[name].(object), v, at)
	}
	switch schema["type"] {
	case nil:
		return nil
	case "object":
		return d.checkObject(schema, v, at)
	case "array":
		list, ok := v.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s is no array: %v", at, v)}
		}
		var bad []string
		for i, one := range list {
			bad = append(bad, d.check(schema["items"].(object), one, fmt.Sprintf("%s[%d]", at, i))...)
		}
		return bad
	}
	ok := false
	switch v := v.(type) {
	case string:
		ok = schema["type"] == "string"
	case bool:
		ok = schema["type"] == "boolean"
	case float64:
		ok = schema["type"] == "number" || schema["type"] == "integer" && v == float64(int64(v))
	}
	if !ok {
		return []string{fmt.Sprintf("%s is no %v: %v", at, schema["type"], v)}
	}
	return nil
}

func (d document) checkObject(schema object, v any, at string) []string {
	got, ok := v.(object)
	if !ok {
		return []string{fmt.Sprintf("%s is no object: %v", at, v)}
	}
	var bad []string
	if required, ok := schema["required"].([]any); ok {
		for _, name := range required {
			if _, there := got[name.(string)]; !there {
				bad = append(bad, fmt.Sprintf("%s has no %s", at, name))
			}
		}
	}
	props, _ := schema["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch more := schema["additionalProperties"].(type) {
		case object:
			bad = append(bad, d.check(more, got[name], at+"."+name)...)
		default:
			prop, known := props[name].(object)
			if !known {
				bad = append(bad, fmt.Sprintf("%s.%s is not documented", at, name))
				continue
			}
			bad = append(bad, d.check(prop, got[name], at+"."+name)...)
		}
	}
	return bad
}

// hold compares an answer with what the document says of the operation.
func (d document) hold(t *testing.T, method, path string, a answer) {
	t.Helper()
	op := d.paths()[path].(object)[strings.ToLower(method)].(object)
	answers := op["responses"].(object)
	said, ok := answers[fmt.Sprint(a.status)].(object)
	if !ok {
		if a.status < 400 {
			t.Errorf("%s %s answered %d, which is not documented", method, path, a.status)
			return
		}
		said = answers["default"].(object)
	}
	content, _ := said["content"].(object)
	if content == nil {
		if len(a.body) > 0 {
			t.Errorf("%s %s answered %d with a body that is not documented: %s", method, path, a.status, a.body)
		}
		return
	}
	kind := a.header.Get("Content-Type")
	media, ok := content[kind].(object)
	if !ok {
		t.Errorf("%s %s answered %s, which is not documented", method, path, kind)
		return
	}
	if schema := media["schema"].(object); schema["format"] == "binary" {
		return
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return
	}
	for _, bad := range d.check(media["schema"].(object), v, "answer") {
		t.Errorf("%s %s: %s", method, path, bad)
	}
}

// Every operation of the document is carried out, and answers as documented, when it works and when it is refused.
func TestTheServerIsAsItsDocumentSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var d document
	if err := json.Unmarshal(w.want(200, "GET", "/openapi.json", "").body, &d.all); err != nil {
		t.Fatal(err)
	}
	if d.all["openapi"] != "3.1.0" {
		t.Errorf("openapi %v", d.all["openapi"])
	}
	if strings.Contains(fmt.Sprint(d.all), "secret_hash") {
		t.Error("the document speaks of secret_hash")
	}
	const p = "/admin/v1"
	tag := func(path string) string { return "If-Match: " + w.want(200, "GET", path, "").header.Get("ETag") }
	withdrawn, tried := "", map[string]bool{}
	for _, step := range []struct {
		method, path, call, body string
		status                   int
		headers                  []string
	}{
		{"PUT", "/clients/{id}", "/clients/mail-server", aClient, 201, nil},
		{"GET", "/clients", "/clients", "", 200, nil},
		{"GET", "/clients/{id}", "/clients/mail-server", "", 200, nil},
		{"POST", "/clients/{id}/rotate-secret", "/clients/mail-server/rotate-secret", "", 200, nil},
		{"PUT", "/resources/{id}", "/resources/mail", aResource, 201, nil},
		{"PUT", "/resources/{id}", "/resources/mail", aResource, 428, nil},
		{"GET", "/resources", "/resources", "", 200, nil},
		{"GET", "/resources/{id}", "/resources/mail", "", 200, nil},
		{"PUT", "/agents/{id}", "/agents/mailer", anAgent, 201, nil},
		{"PUT", "/agents/{id}", "/agents/mailer", anAgent, 200, []string{"tag"}},
		{"GET", "/agents", "/agents?limit=1&state=active", "", 200, nil},
		{"GET", "/agents/{id}", "/agents/mailer", "", 200, nil},
		{"GET", "/agents/{id}/delegations", "/agents/mailer/delegations", "", 200, nil},
		{"GET", "/agents", "/agents?owner=x&label=a=b&due=true", "", 200, nil},
		{"GET", "/agents/{id}", "/agents/ghost", "", 404, nil},
		{"POST", "/agents/{id}/suspend", "/agents/mailer/suspend", `{"why":"x"}`, 200, nil},
		{"POST", "/agents/{id}/resume", "/agents/mailer/resume", "", 200, nil},
		{"POST", "/agents/{id}/retire", "/agents/mailer/retire", "", 200, nil},
		{"POST", "/agents/{id}/rotate-secret", "/agents/mailer/rotate-secret", "", 409, nil},
		{"PUT", "/agents/{id}", "/agents/old", `{"name":"Old","auth":"client_secret_post","ceiling":{"resources":[],"scopes":[]}}`, 201, nil},
		{"POST", "/agents/{id}/rotate-secret", "/agents/old/rotate-secret", "", 200, nil},
		{"PUT", "/users/{id}", "/users/alice", aUser, 201, nil},
		{"GET", "/users", "/users", "", 200, nil},
		{"GET", "/users/{id}", "/users/alice", "", 200, nil},
		{"POST", "/users/{id}/password", "/users/alice/password", `{"password":"another horse battery"}`, 204, nil},
		{"POST", "/users/{id}/disable", "/users/alice/disable", "", 200, nil},
		{"POST", "/users/{id}/enable", "/users/alice/enable", `{"why":"x"}`, 200, nil},
		{"POST", "/users/{id}/sign-out", "/users/alice/sign-out", "", 204, nil},
		{"GET", "/grants", "/grants?user=alice", "", 200, nil},
		{"GET", "/grants/{id}", "/grants/g_x?user=alice", "", 404, nil},
		{"POST", "/grants/{id}/withdraw", "/grants/g_x/withdraw?user=alice", "", 404, nil},
		{"POST", "/stops", "/stops", `{"kind":"user","id":"alice","why":"x"}`, 201, nil},
		{"GET", "/keys", "/keys", "", 200, nil},
		{"POST", "/keys/rotate", "/keys/rotate", `{"algorithm":"EdDSA"}`, 201, nil},
		{"POST", "/keys/{id}/withdraw", "/keys/KID/withdraw", `{"why":"x"}`, 204, nil},
		{"POST", "/tokens/inspect", "/tokens/inspect", `{"token":"x"}`, 200, nil},
		{"GET", "/audit", "/audit", "", 200, nil},
		{"GET", "/audit/verify", "/audit/verify", "", 200, nil},
		{"PUT", "/policies/{id}", "/policies/night.cedar", aPolicy(night, "x"), 201, nil},
		{"PUT", "/policies/{id}", "/policies/night.cedar", aPolicy(night+"//", ""), 200, []string{"tag"}},
		{"PUT", "/policies/{id}", "/policies/day.cedar", aPolicy("forbid(", ""), 422, nil},
		{"GET", "/policies", "/policies", "", 200, nil},
		{"GET", "/policies/{id}", "/policies/night.cedar", "", 200, nil},
		{"GET", "/policies/{id}", "/policies/declared.cedar", "", 200, nil},
		{"DELETE", "/policies/{id}", "/policies/night.cedar?why=x", "", 200, nil},
		{"GET", "/policy-revisions", "/policy-revisions?limit=1", "", 200, nil},
		{"GET", "/policy-revisions/{id}", "/policy-revisions/2", "", 200, nil},
		{"POST", "/policy-revisions/{id}/revert", "/policy-revisions/1/revert", `{"why":"x"}`, 200, nil},
		{"GET", "/status", "/status", "", 200, nil},
		{"GET", "/backup", "/backup", "", 200, nil},
		{"DELETE", "/users/{id}", "/users/alice", "", 204, nil},
		{"DELETE", "/agents/{id}", "/agents/mailer", "", 204, nil},
		{"DELETE", "/resources/{id}", "/resources/mail", "", 204, nil},
		{"DELETE", "/clients/{id}", "/clients/mail-server", "", 204, nil},
	} {
		if len(step.headers) > 0 {
			step.headers = []string{tag(step.call)}
		}
		a := w.request(step.method, strings.Replace(step.call, "KID", withdrawn, 1), step.body, step.headers...)
		if a.status != step.status {
			t.Errorf("%s %s: %d %s, want %d", step.method, step.call, a.status, a.body, step.status)
		}
		d.hold(t, step.method, p+step.path, a)
		if step.path == "/keys/rotate" {
			var k struct {
				ID string `json:"kid"`
			}
			if err := json.Unmarshal(a.body, &k); err != nil {
				t.Fatal(err)
			}
			withdrawn = k.ID
		}
		tried[step.method+" "+p+step.path] = true
	}
	for _, op := range slices.Sorted(maps.Keys(d.operations())) {
		if !tried[op] {
			t.Errorf("%s is documented and was not tried", op)
		}
	}
}

// operations are all that is documented.
func (d document) operations() map[string]bool {
	all := map[string]bool{}
	for path, ops := range d.paths() {
		for method := range ops.(object) {
			all[strings.ToUpper(method)+" "+path] = true
		}
	}
	return all
}
