package server_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"obolus/admin"
	"obolus/cmd/obolus/internal/server"
	"obolus/internal/browser"
)

const errands = `
tokens: {session_lifetime: 12h}
allow_agent_secrets: true
resources: [{id: mail, uri: 'https://mail.example.com', scopes: {mail.read: Read your mail, mail.send: Send mail}, servers: [mail-server]}]
clients:
  - {id: mail-server, name: Mail, secret: 0123456789abcdef}
  - {id: app, name: App, redirect_uris: ['https://app.test/callback'], grant_types: [authorization_code], secret: 0123456789abcdef, first_party: true}
agents: [{id: mailer, name: Mail helper, auth: client_secret_post, secret: 0123456789abcdef, ceiling: {resources: [mail], scopes: [mail.read, mail.send]}}]
users: [{id: alice, name: Alice, password: correct horse battery}]
`

// errand is a user whom an agent acts for.
type errand struct {
	*running
	alice   *browser.Browser
	subject string
}

// said is an answer.
type said struct {
	status int
	text   string
	fields map[string]any
}

func (s said) str(name string) string {
	v, _ := s.fields[name].(string)
	return v
}

// setOut signs the user in and lets her allow the agent what it asks for.
func setOut(t *testing.T, r *running) *errand {
	t.Helper()
	e := &errand{running: r}
	e.authorize()
	page, err := e.alice.Open(t.Context(), e.exchange().str("interaction_uri"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.alice.Allow(t.Context(), page, url.Values{"uses": {"any"}, "until": page.Options("until")[:1]}); err != nil {
		t.Fatal(err)
	}
	return e
}

// authorize signs alice in, in a browser that knows nothing, and gets her token.
func (e *errand) authorize() {
	e.t.Helper()
	var err error
	if e.alice, err = browser.New(&http.Transport{DisableKeepAlives: true}); err != nil {
		e.t.Fatal(err)
	}
	page, err := e.alice.Open(e.t.Context(), e.Issuer()+"/sign-in")
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err = e.alice.SignIn(e.t.Context(), page, "alice", "correct horse battery"); err != nil {
		e.t.Fatal(err)
	}
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	page, err = e.alice.Open(e.t.Context(), e.Issuer()+"/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {"https://app.test/callback"}, "scope": {"mail.read mail.send"}, "state": {rand.Text()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode())
	if err != nil {
		e.t.Fatal(err)
	}
	back, err := url.Parse(page.Location)
	if err != nil {
		e.t.Fatal(err)
	}
	e.subject = e.post("/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {"https://app.test/callback"}, "code_verifier": {verifier},
		"client_id": {"app"}, "client_secret": {"0123456789abcdef"},
	}).str("access_token")
}

func (e *errand) post(path string, form url.Values) said {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, e.Issuer()+path, strings.NewReader(form.Encode()))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return e.do(req)
}

func (e *errand) do(req *http.Request) said {
	e.t.Helper()
	res, err := client().Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	s := said{status: res.StatusCode, text: string(body)}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		_ = json.Unmarshal(body, &s.fields)
	}
	return s
}

func (e *errand) exchange() said {
	e.t.Helper()
	return e.post("/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {e.subject},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "resource": {"https://mail.example.com"}, "scope": {"mail.read"},
		"client_id": {"mailer"}, "client_secret": {"0123456789abcdef"},
	})
}

func (e *errand) redeem(token, id string) said {
	e.t.Helper()
	return e.post("/redeem", url.Values{
		"token": {token}, "redemption_id": {id}, "client_id": {"mail-server"}, "client_secret": {"0123456789abcdef"},
	})
}

// The clock of the machine is put forward or back and then right again: nothing that was spent or stopped comes back, nothing is
// redeemed twice, and when the clock is right again the server works as before.
func TestTheClockJumps(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{
		"two minutes ahead": 2 * time.Minute, "an hour ahead": time.Hour, "forty days ahead": 40 * 24 * time.Hour,
		"two minutes back": -2 * time.Minute, "an hour back": -time.Hour, "forty days back": -40 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64
			now := func() time.Time { return time.Now().Round(0).Add(time.Duration(ahead.Load())) }
			e := setOut(t, start(t, load(t, t.TempDir(), errands), server.Options{Now: now}))
			token := func() string {
				t.Helper()
				a := e.exchange()
				if a.str("access_token") == "" {
					t.Fatalf("%d %s", a.status, a.text)
				}
				return a.str("access_token")
			}
			spent, open, stopped := token(), token(), token()
			if a := e.redeem(spent, "first"); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.text)
			}
			e.post("/revoke", url.Values{"token": {stopped}, "client_id": {"mailer"}, "client_secret": {"0123456789abcdef"}})
			firsts := 0
			look := func(when string) {
				t.Helper()
				for _, token := range []string{spent, stopped} {
					if a := e.redeem(token, rand.Text()); a.status == http.StatusOK || a.status >= http.StatusInternalServerError {
						t.Errorf("%s: %d %s", when, a.status, a.text)
					}
				}
				if a := e.redeem(open, rand.Text()); a.status == http.StatusOK {
					firsts++
				}
				if firsts > 1 {
					t.Fatalf("%s: redeemed for the second time", when)
				}
			}
			for range 2 {
				ahead.Store(int64(jump))
				look("the clock is wrong")
				for range 20 { // what is over is buried by the requests that pass by
					if a := e.exchange(); a.status >= http.StatusInternalServerError {
						t.Errorf("the clock is wrong: %d %s", a.status, a.text)
					}
				}
				ahead.Store(0)
				look("the clock is right again")
			}
			e.authorize() // what she had may have been buried
			if a := e.redeem(token(), "last"); a.str("redemption") != "first" {
				t.Errorf("after all: %d %s", a.status, a.text)
			}
			var ledger struct {
				Whole bool `json:"whole"`
			}
			if _, err := e.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/audit/verify"}, &ledger); err != nil || !ledger.Whole {
				t.Errorf("the ledger: %+v, %v", ledger, err)
			}
		})
	}
}
