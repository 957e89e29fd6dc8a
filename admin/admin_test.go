package admin_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"obolus/admin"
	"obolus/agents"
	"obolus/audit"
	"obolus/consent"
	"obolus/store"
)

func TestOnlyOperatorsGetIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ name, header string }{
		{"nobody", "Authorization: "},
		{"another token", "Authorization: Bearer wrong"},
		{"another scheme", "Authorization: Basic " + operators},
		{"a token and more", "Authorization: Bearer " + operators + "x"},
	} {
		for _, path := range []string{"/agents", "/openapi.json", "/nowhere"} {
			a := w.request(http.MethodGet, path, "", c.header)
			if a.status != http.StatusUnauthorized || a.code() != admin.CodeUnauthorized || a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s at %s: %d %s", c.name, path, a.status, a.body)
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s at %s may be cached", c.name, path)
			}
		}
	}
	w.want(http.StatusOK, http.MethodGet, "/agents", "", "Authorization: bearer "+operators)
}

func TestWhatIsRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(http.StatusCreated, http.MethodPut, "/agents/mailer", anAgent)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"an unknown path", "GET", "/nowhere", "", nil, 404, admin.CodeNotFound},
		{"a wrong method", "PATCH", "/agents/mailer", "{}", nil, 405, admin.CodeMethod},
		{"an unknown query parameter", "GET", "/agents?page=2", "", nil, 400, admin.CodeMalformed},
		{"a query parameter twice", "GET", "/agents?q=a&q=b", "", nil, 400, admin.CodeMalformed},
		{"a query that is none", "GET", "/agents?q=%zz", "", nil, 400, admin.CodeMalformed},
		{"a missing query parameter", "GET", "/grants", "", nil, 400, admin.CodeMalformed},
		{"a limit that is none", "GET", "/agents?limit=many", "", nil, 400, admin.CodeMalformed},
		{"a limit above the limit", "GET", "/agents?limit=1001", "", nil, 400, admin.CodeMalformed},
		{"a body where none is", "DELETE", "/agents/mailer", "{}", nil, 400, admin.CodeMalformed},
		{"no JSON", "PUT", "/agents/x", "{", nil, 400, admin.CodeMalformed},
		{"an unknown member", "PUT", "/agents/x", `{"nam":"x"}`, nil, 400, admin.CodeMalformed},
		{"a member twice", "PUT", "/agents/x", `{"name":"x","name":"y"}`, nil, 400, admin.CodeMalformed},
		{"two values", "PUT", "/agents/x", `{}{}`, nil, 400, admin.CodeMalformed},
		{"another media type", "PUT", "/agents/x", `{}`, []string{"Content-Type: text/plain"}, 415, admin.CodeMediaType},
		{"2 MiB", "PUT", "/agents/x", `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, nil, 413, admin.CodeTooLarge},
		{"another id in the body", "PUT", "/agents/x", `{"id":"y"}`, nil, 400, ""},
		{"an agent of nobody", "GET", "/agents/ghost", "", nil, 404, admin.CodeNotFound},
		{"an agent without a name", "PUT", "/agents/x", `{"jwks":` + jwks + `,"ceiling":{"resources":[],"scopes":[]}}`, nil, 422, admin.CodeInvalid},
		{"a hash of a secret", "PUT", "/agents/x", `{"name":"x","secret_hash":"x"}`, nil, 422, admin.CodeInvalid},
		{"an event before which is nothing", "GET", "/audit?since=yesterday", "", nil, 400, admin.CodeMalformed},
		{"a stop of nothing", "POST", "/stops", `{"kind":"weather","id":"x"}`, nil, 422, admin.CodeInvalid},
		{"a key of nobody", "POST", "/keys/none/withdraw", "", nil, 404, admin.CodeNotFound},
		{"an algorithm of nobody", "POST", "/keys/rotate", `{"algorithm":"HS256"}`, nil, 422, admin.CodeInvalid},
		{"a grant of nobody", "POST", "/grants/g_x/withdraw?user=alice", "", nil, 404, admin.CodeNotFound},
		{"a strange If-Match", "PUT", "/agents/mailer", anAgent, []string{`If-Match: W/"v1"`}, 412, admin.CodeChanged},
		{"a strange If-None-Match", "PUT", "/agents/mailer", anAgent, []string{`If-None-Match: "x"`}, 400, admin.CodeMalformed},
		{"a short password", "PUT", "/users/bob", `{"password":"short"}`, nil, 422, admin.CodeInvalid},
		{"a user without a password", "PUT", "/users/bob", `{"name":"Bob"}`, nil, 422, admin.CodeInvalid},
	} {
		a := w.request(c.method, c.path, c.body, c.headers...)
		wrongID := c.code == "" && (a.status == 400 || a.status == 422)
		if !wrongID && (a.status != c.status || a.code() != c.code) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.code)
		}
	}
	if allow := w.request("PATCH", "/agents/mailer", "").header.Get("Allow"); allow != "GET, PUT, DELETE" {
		t.Errorf("Allow: %s", allow)
	}
}

func TestNobodyOverwritesWhatHeDidNotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	created := w.want(201, "PUT", "/agents/mailer", anAgent, "If-None-Match: *")
	tag := created.header.Get("ETag")
	w.want(412, "PUT", "/agents/mailer", anAgent, "If-None-Match: *")
	w.want(428, "PUT", "/agents/mailer", anAgent)
	w.want(412, "PUT", "/agents/other", anAgent, "If-Match: *")
	changed := w.want(200, "PUT", "/agents/mailer", strings.Replace(anAgent, "Mailer", "Mail helper", 1), "If-Match: "+tag)
	if changed.header.Get("ETag") == tag {
		t.Error("the ETag stayed although the agent changed")
	}
	w.want(412, "PUT", "/agents/mailer", anAgent, "If-Match: "+tag)
	w.want(412, "DELETE", "/agents/mailer", "", "If-Match: "+tag)
	w.want(200, "PUT", "/agents/mailer", anAgent, "If-Match: *")
	w.want(204, "DELETE", "/agents/mailer", "")
	w.want(404, "GET", "/agents/mailer", "")
}

func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	created := w.want(201, "PUT", "/clients/mail-server", aClient)
	var made admin.ClientAnswer
	if err := json.Unmarshal(created.body, &made); err != nil || len(made.Secret) < 40 {
		t.Fatalf("no secret was made: %s", created.body)
	}
	for _, path := range []string{"/clients/mail-server", "/clients"} {
		if a := w.want(200, "GET", path, ""); strings.Contains(string(a.body), "secret_hash") || strings.Contains(string(a.body), made.Secret) {
			t.Errorf("%s shows a secret: %s", path, a.body)
		}
	}
	tag := w.want(200, "GET", "/clients/mail-server", "").header.Get("ETag")
	if again := w.want(200, "PUT", "/clients/mail-server", aClient, "If-Match: "+tag); strings.Contains(string(again.body), "client_secret\"") {
		t.Errorf("a change made another secret: %s", again.body)
	}
	var fresh admin.Secret
	rotated := w.want(200, "POST", "/clients/mail-server/rotate-secret", "")
	if err := json.Unmarshal(rotated.body, &fresh); err != nil || fresh.Secret == made.Secret || fresh.Secret == "" {
		t.Errorf("rotated to %s", rotated.body)
	}
	w.want(201, "PUT", "/agents/mailer", anAgent)
	if a := w.request("POST", "/agents/mailer/rotate-secret", ""); a.status != 409 || a.code() != admin.CodeConflict {
		t.Errorf("an agent with a key got a secret: %d %s", a.status, a.body)
	}
}

func TestIDsMayHoldASlash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(201, "PUT", "/agents/team%2Fmailer%25", anAgent)
	a := w.want(200, "GET", "/agents/team%2Fmailer%25", "")
	var got agents.Agent
	if err := json.Unmarshal(a.body, &got); err != nil || got.ID != "team/mailer%" {
		t.Errorf("got %s", a.body)
	}
	w.want(404, "GET", "/agents/team/mailer%25", "")
}

func TestTheLifeOfAnAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(201, "PUT", "/agents/mailer", anAgent)
	for _, c := range []struct {
		verb   string
		status int
		state  agents.State
	}{
		{"suspend", 200, agents.Suspended},
		{"suspend", 200, agents.Suspended}, // a stop can always be repeated
		{"resume", 200, agents.Active},
		{"retire", 200, agents.Retired},
		{"resume", 409, agents.Retired},
		{"suspend", 409, agents.Retired},
	} {
		a := w.want(c.status, "POST", "/agents/mailer/"+c.verb, `{"why":"a test"}`)
		if c.status == 409 && a.code() != admin.CodeConflict {
			t.Errorf("%s: %s", c.verb, a.body)
		}
		var now agents.Agent
		if _, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents/mailer"}, &now); err != nil || now.State != c.state {
			t.Errorf("after %s: %s, %v", c.verb, now.State, err)
		}
	}
	tag := w.want(200, "GET", "/agents/mailer", "").header.Get("ETag")
	back := strings.Replace(anAgent, `{"name"`, `{"state":"active","name"`, 1)
	if a := w.request("PUT", "/agents/mailer", back, "If-Match: "+tag); a.status != 422 {
		t.Errorf("a PUT revived a retired agent: %d %s", a.status, a.body)
	}
	w.want(200, "PUT", "/agents/mailer", anAgent, "If-Match: "+tag)
	var now agents.Agent
	if _, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents/mailer"}, &now); err != nil || now.State != agents.Retired {
		t.Errorf("a PUT without a state made it %s, %v", now.State, err)
	}
}

func TestEveryChangeIsInTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ method, path, body, subject string }{
		{"PUT", "/clients/mail-server", aClient, "client/mail-server"},
		{"POST", "/clients/mail-server/rotate-secret", "", "client/mail-server"},
		{"PUT", "/resources/mail", aResource, "resource/mail"},
		{"PUT", "/agents/mailer", anAgent, "agent/mailer"},
		{"POST", "/agents/mailer/suspend", `{"why":"x"}`, "agent/mailer suspended"},
		{"PUT", "/users/alice", aUser, "user/alice"},
		{"POST", "/users/alice/password", `{"password":"another horse battery"}`, "user/alice"},
		{"POST", "/users/alice/disable", "", "user/alice"},
		{"POST", "/users/alice/enable", "", "user/alice"},
		{"POST", "/users/alice/sign-out", "", "user/alice"},
		{"DELETE", "/users/alice", "", "user/alice"},
		{"POST", "/stops", `{"kind":"user","id":"bob","why":"x"}`, "user/bob"},
		{"POST", "/keys/rotate", "", "key/"},
		{"DELETE", "/resources/mail", "", "resource/mail"},
		{"DELETE", "/agents/mailer", "", "agent/mailer"},
		{"DELETE", "/clients/mail-server", "", "client/mail-server"},
	} {
		if a := w.request(c.method, c.path, c.body); a.status >= 300 {
			t.Fatalf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
		events, err := w.ledger.Latest(t.Context(), audit.Filter{Limit: 1})
		if err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
		e := events[0]
		if !strings.HasPrefix(e.Subject, c.subject) || e.By != "operator" || e.Remote != "127.0.0.1" {
			t.Errorf("%s %s is in the ledger as %+v", c.method, c.path, e)
		}
	}
	var v admin.Verification
	if _, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/audit/verify"}, &v); err != nil || !v.Whole || v.Events == 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A change that could not be recorded is not acknowledged.
func TestAStoreThatIsDownIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(201, "PUT", "/agents/mailer", anAgent)
	w.records.down = true
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/agents/mailer", ""},
		{"POST", "/agents/mailer/suspend", ""},
		{"PUT", "/users/alice", aUser},
		{"POST", "/stops", `{"kind":"user","id":"bob"}`},
	} {
		a := w.request(c.method, c.path, c.body)
		if a.status != 503 || a.code() != admin.CodeUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
	}
	w.records.down = false
	w.want(200, "POST", "/agents/mailer/suspend", "")
}

func TestGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ask := consent.Ask{User: "alice", Agent: "mailer", Target: "mail", Scopes: []string{"mail.read"}}
	in, err := w.consents.Ask(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.consents.Decide(t.Context(), in.ID, "alice", consent.Decision{
		Allow: true, Scopes: ask.Scopes, Uses: 3, Expires: time.Now().Add(time.Minute), AuthTime: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	list := func(query string) []admin.Grant {
		var got admin.GrantList
		if _, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/grants", Query: must[url.Values](t)(url.ParseQuery(query))}, &got); err != nil {
			t.Fatal(err)
		}
		return got.Grants
	}
	if got := list("user=bob"); len(got) != 0 {
		t.Errorf("bob allowed %+v", got)
	}
	if got := list("user=alice&agent=other"); len(got) != 0 {
		t.Errorf("the other agent got %+v", got)
	}
	got := list("user=alice&agent=mailer")
	if len(got) != 1 || !got[0].Live || got[0].Uses != 3 {
		t.Fatalf("grants %+v", got)
	}
	one := admin.Path("grants", got[0].ID)
	w.want(404, "GET", one+"?user=bob", "")
	w.want(404, "POST", one+"/withdraw?user=bob", "")
	w.want(200, "POST", one+"/withdraw?user=alice", `{"why":"asked by phone"}`)
	if got := list("user=alice"); got[0].Live || got[0].By != "operator" {
		t.Errorf("after the withdrawal: %+v", got[0])
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := []string{"a", "b", "c", "d", "e"}
	for _, id := range ids {
		w.want(201, "PUT", "/agents/"+id, strings.Replace(anAgent, "Mailer", "Mailer "+strings.ToUpper(id), 1))
	}
	w.want(200, "POST", "/agents/c/suspend", "")
	var seen []string
	after := ""
	for {
		var page admin.AgentList
		q := url.Values{"limit": {"2"}}
		if after != "" {
			q.Set("after", after)
		}
		if _, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents", Query: q}, &page); err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Agents {
			seen = append(seen, a.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if strings.Join(seen, "") != "abcde" {
		t.Errorf("walked %v", seen)
	}
	for _, c := range []struct{ query, want string }{{"q=mailer c", "c"}, {"state=suspended", "c"}, {"state=active", "abde"}, {"q=nobody", ""}, {"q=mailer", "abcde"}} {
		var page admin.AgentList
		if _, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents", Query: must[url.Values](t)(url.ParseQuery(strings.ReplaceAll(c.query, " ", "+")))}, &page); err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, a := range page.Agents {
			found += a.ID
		}
		if found != c.want {
			t.Errorf("%s: %q, want %q", c.query, found, c.want)
		}
	}
}

// Agents are found by what is said of them.
func TestAgentsAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for id, more := range map[string]string{
		"a": `"owner":"Team A","labels":{"tier":"gold","env":"prod"},"delegates_to":["b","ghost"]`,
		"b": `"owner":"Team A","labels":{"tier":"silver"},"purpose":"Files invoices","delegates_to":["c"]`,
		"c": `"owner":"Team B","model":"clockwork","expires":"2020-01-01T00:00:00Z","delegates_to":["b"]`,
		"d": `"owner":"Team B","recertify":"2020-01-01T00:00:00Z"`,
		"e": `"recertify":"2999-01-01T00:00:00Z"`,
		"f": `"recertify":"2020-01-01T00:00:00Z","state":"retired"`,
	} {
		w.want(201, "PUT", "/agents/"+id, strings.Replace(strings.Replace(anAgent, "Mailer", "Mailer "+strings.ToUpper(id), 1), "{", "{"+more+",", 1))
	}
	for query, want := range map[string]string{
		"owner=Team+A": "ab", "owner=team+a": "", "label=tier": "ab", "label=tier%3Dgold": "a", "label=tier%3D": "", "label=ghost": "", "due=true": "cd", "due=false": "abcdef",
		"q=invoices": "b", "q=clockwork": "c", "q=env%3Dprod": "a", "q=team+b&due=true": "cd", "owner=Team+B&state=active&label=tier": "",
	} {
		var page admin.AgentList
		if err := json.Unmarshal(w.want(200, "GET", "/agents?"+query, "").body, &page); err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, a := range page.Agents {
			found += a.ID
		}
		if found != want {
			t.Errorf("%s: %q, want %q", query, found, want)
		}
	}
	for id, want := range map[string]string{
		"a": `{"agent":"a","from":[],"hands":[{"from":"a","to":"b"},{"from":"a","to":"ghost"},{"from":"b","to":"c"},{"from":"c","to":"b"}]}`,
		"b": `{"agent":"b","from":["a","c"],"hands":[{"from":"b","to":"c"},{"from":"c","to":"b"}]}`,
		"e": `{"agent":"e","from":[],"hands":[]}`,
	} {
		if got := string(w.want(200, "GET", "/agents/"+id+"/delegations", "").body); got != want {
			t.Errorf("around %s: %s, want %s", id, got, want)
		}
	}
	w.want(404, "GET", "/agents/ghost/delegations", "")
}

// What is said of an agent is held to sizes and forms, and what it may get to what there is.
func TestRegistrationsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 2001)
	for name, c := range map[string]struct{ more, says string }{
		"a long description":     {`"description":"` + long + `"`, "description"},
		"a long purpose":         {`"purpose":"` + long + `"`, "purpose"},
		"a long owner":           {`"owner":"` + long + `"`, "owner"},
		"a homepage of a script": {`"homepage":"javascript:alert(1)"`, "homepage"},
		"a homepage with a user": {`"homepage":"https://good.example@evil.example/"`, "homepage"},
		"a label with =":         {`"labels":{"a=b":"c"}`, "label"},
		"a long label":           {`"labels":{"a":"` + long + `"}`, "label"},
		"hands on to itself":     {`"delegates_to":["x"]`, "itself"},
		"no such type":           {`"ceiling":{"resources":[],"scopes":[],"details_types":["nonsense"]}`, "nonsense"},
		"details that are none":  {`"ceiling":{"resources":[],"scopes":[],"authorization_details":[{"type":"payment"}]}`, "ceiling.authorization_details"},
		"a rate below zero":      {`"ceiling":{"resources":[],"scopes":[],"rate":-1}`, "below zero"},
		"nobody to tell by":      {`"auth":"spiffe_jwt","spiffe_id":"spiffe://example.org/x"`, "nobody knows the trust domain"},
	} {
		body := `{"name":"X",` + c.more
		if !strings.Contains(c.more, "spiffe") {
			body += `,"jwks":` + jwks
		}
		if !strings.Contains(c.more, "ceiling") {
			body += `,"ceiling":{"resources":[],"scopes":[]}`
		}
		if a := w.request("PUT", "/agents/x", body+"}"); a.status != 422 || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	w.want(404, "GET", "/agents/x", "")
}

func TestEventsSince(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"a", "b", "c"} {
		w.want(201, "PUT", "/agents/"+id, strings.Replace(anAgent, "Mailer", "Mailer "+strings.ToUpper(id), 1))
	}
	for _, c := range []struct {
		query string
		want  int
	}{
		{"since=2000-01-01T00:00:00Z", 3},
		{"since=2100-01-01T00:00:00Z", 0},
		{"after=1", 2},
		{"order=newest&limit=1", 1},
		{"kind=registry", 3},
		{"kind=redeem", 0},
	} {
		var got admin.EventList
		if err := json.Unmarshal(w.want(200, "GET", "/audit?"+c.query, "").body, &got); err != nil || len(got.Events) != c.want {
			t.Errorf("%s: %d events, %v, want %d", c.query, len(got.Events), err, c.want)
		}
	}
}

func TestTheClientTellsWhatWentWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.client.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents/ghost"}, nil)
	if p, ok := err.(*admin.Problem); !ok || p.Status != 404 || !strings.Contains(p.Error(), "ghost") { //nolint:errorlint // the client returns it bare
		t.Errorf("got %v", err)
	}
	nobody := &admin.Client{Server: "http://127.0.0.1:1", Token: operators, HTTP: http.DefaultClient}
	if _, err := nobody.Do(t.Context(), admin.Call{Method: "GET", Path: "/agents"}, nil); err == nil || !strings.Contains(err.Error(), "no server answers at http://127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}

// torn is a copy of which a part cannot be read.
type torn struct {
	io.Reader
	closed chan struct{}
}

func (c *torn) Close() error { close(c.closed); return nil }

func TestACopyOfTheRecordsIsSentWholeOrNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := strings.Repeat("records ", 1<<20)
	for _, c := range []struct {
		name string
		read io.Reader
		err  error
	}{
		{"whole", strings.NewReader(body), nil},
		{"torn", io.MultiReader(strings.NewReader(body[:3<<20]), iotest.ErrReader(errors.New("the disk is gone"))), io.ErrUnexpectedEOF},
		{"short", strings.NewReader(body[:5<<20]), io.ErrUnexpectedEOF},
	} {
		file := &torn{Reader: c.read, closed: make(chan struct{})}
		w.backup = func() (*admin.Copy, error) { return &admin.Copy{ReadCloser: file, Bytes: int64(len(body))}, nil }
		sent, err := w.client.Stream(t.Context(), admin.Call{Method: "GET", Path: "/backup"})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, err := io.ReadAll(sent)
		sent.Close()
		if sent.Bytes != int64(len(body)) || !errors.Is(err, c.err) || c.err == nil && string(got) != body {
			t.Errorf("%s: %d of %d bytes, %v", c.name, len(got), sent.Bytes, err)
		}
		select {
		case <-file.closed:
		case <-time.After(time.Minute):
			t.Errorf("%s: it was left open", c.name)
		}
	}
	for want, err := range map[int]error{409: admin.ErrBusy, 503: store.ErrUnavailable, 500: errors.New("no room")} {
		w.backup = func() (*admin.Copy, error) { return nil, err }
		_, err := w.client.Stream(t.Context(), admin.Call{Method: "GET", Path: "/backup"})
		if p, told := errors.AsType[*admin.Problem](err); !told || p.Status != want {
			t.Errorf("%d: got %v", want, err)
		}
	}
	w.client.Token = "another"
	if _, err := w.client.Stream(t.Context(), admin.Call{Method: "GET", Path: "/backup"}); err == nil {
		t.Error("anybody gets the records")
	}
}
