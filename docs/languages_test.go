package docs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wire is the way to a server, on which answers can be lost.
type wire struct {
	lose atomic.Int32 // how many more answers to redemptions are lost after the server gave them
	down atomic.Bool  // redemptions are answered 503
}

func (l *wire) to(server string) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: server})
			p.Out.Host = p.In.Host
		},
		ModifyResponse: func(res *http.Response) error {
			if res.Request.URL.Path == "/redeem" && l.lose.Add(-1) >= 0 {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/redeem" && l.down.Load() {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// The guide for other languages, carried out word by word, on a wire that loses answers: only the ports are others.
func TestLanguages(t *testing.T) {
	t.Parallel()
	dir, server, issuer, mail, files := t.TempDir(), port(t), port(t), port(t), port(t)
	text := strings.NewReplacer(
		"127.0.0.1:8420", issuer, "127.0.0.1:9002", mail, "127.0.0.1:9003", files,
		"listen(9002,", "listen("+portOf(mail)+",", `("127.0.0.1", 9003)`, `("127.0.0.1", `+portOf(files)+")",
	).Replace(read(t, "languages.md"))
	sh, js, py := blocks(text, "sh"), blocks(text, "js"), blocks(text, "python")
	for name, program := range map[string]string{"obolus.mjs": js[0], "mail.mjs": js[1], "agent.mjs": js[2], "files.py": py[0]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	between := &wire{}
	front := &http.Server{Addr: issuer, Handler: between.to(server), ReadHeaderTimeout: 10 * time.Second}
	go front.ListenAndServe()
	t.Cleanup(func() { front.Close() })
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, server, "env", "OBOLUS_ISSUER=http://"+issuer, filepath.Join(dir, "obolus"), "serve", "--listen", server)
	run := func(script string) string {
		t.Helper()
		out, err := carryOut(t, dir, issuer, script)
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return out
	}
	secret := regexp.MustCompile(`(?m)^  (\S{20,})$`).FindStringSubmatch(run(sh[1] + sh[2]))
	if secret == nil {
		t.Fatal("no secret was shown")
	}
	start(t, dir, mail, "node", "mail.mjs")
	start(t, dir, files, "env", "SECRET="+secret[1], "python3", "files.py")
	run(sh[3])
	if out := run(sh[4]); !strings.Contains(out, "200 worker sent a mail for alice\n\n401 {\"error\":\"invalid_token\"}") {
		t.Fatalf("the agent says:\n%s", out)
	}

	api := func(name, method, to string) caller { return caller{t: t, name: name, method: method, to: to} }
	for _, c := range []struct {
		caller
		resource, scope string
	}{
		{api("Node", "POST", "http://"+mail+"/mail/send"), "http://" + mail + "/mail", "mail.send"},
		{api("Python", "GET", "http://"+files+"/files/a"), "http://" + files + "/files", "files.read"},
	} {
		run("obolus token login --client app --resource " + c.resource + " --scope " + c.scope + " > alice.token")
		obolus := func() string {
			out := run("obolus token exchange --agent worker --key worker.pem --subject alice.token --resource " + c.resource)
			return regexp.MustCompile(`eyJ\S+`).FindString(out) // around it, what was told of a question to the user
		}
		c.want("without a token", "", http.StatusUnauthorized)
		c.want("nonsense", "x.y.z", http.StatusUnauthorized, http.StatusForbidden)

		one := obolus()
		parts := strings.Split(one, ".")
		c.want("a forged one", parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2])), http.StatusUnauthorized)
		c.want("without its signature", parts[0]+"."+parts[1]+".", http.StatusUnauthorized)
		one = c.accepted(obolus, func() {})
		c.want("again", one, http.StatusUnauthorized)
		lost := c.accepted(obolus, func() { between.lose.Store(2) })
		c.want("again, after answers were lost", lost, http.StatusUnauthorized)
		if n := between.lose.Load(); n > 0 {
			t.Errorf("%s: %d answers were not lost", c.name, n)
		}

		spared := obolus()
		between.down.Store(true)
		c.want("while the server is down", spared, http.StatusServiceUnavailable)
		between.down.Store(false)
		c.want("when it is back", spared, http.StatusOK, http.StatusServiceUnavailable)

		answers, crowd := make(chan int), obolus()
		for range 8 {
			go func() { answers <- c.status(crowd, nil) }()
		}
		got := map[int]int{}
		for range 8 {
			got[<-answers]++
		}
		slow := got[http.StatusServiceUnavailable]
		if got[http.StatusOK] > 1 || got[http.StatusOK]+slow == 0 || got[http.StatusOK]+got[http.StatusUnauthorized]+slow != 8 {
			t.Errorf("%s: in a crowd: %v", c.name, got)
		}
		if told := run("obolus audit list --txn " + txn(t, one)); !strings.Contains(told, "committed") {
			t.Errorf("%s: nothing was reported:\n%s", c.name, told)
		}
		if c.name != "Node" {
			continue
		}
		five := obolus()
		if status := c.status(five, http.Header{"X-Crash": {"1"}}); status != http.StatusInternalServerError {
			t.Errorf("%s: an effect that throws: %d", c.name, status)
		}
		if told := run("obolus audit list --txn " + txn(t, five)); !strings.Contains(told, "indeterminate") {
			t.Errorf("%s: the doubt was not reported:\n%s", c.name, told)
		}
	}
}

// txn is the transaction of a token.
func txn(t *testing.T, compact string) string {
	t.Helper()
	var claims struct{ Txn string }
	payloadOf(t, compact, &claims)
	return claims.Txn
}

// payloadOf reads a token without checking it.
func payloadOf(t *testing.T, compact string, claims any) {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", compact)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, claims); err != nil {
		t.Fatal(err)
	}
}

// caller calls an API.
type caller struct {
	t                *testing.T
	name, method, to string
}

func (c caller) status(token string, header http.Header) int {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, c.to, http.NoBody)
	if err != nil {
		c.t.Error(err)
		return 0
	}
	if header != nil {
		req.Header = header
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Errorf("%s: %v", c.name, err)
		return 0
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	challenged := res.Header.Get("WWW-Authenticate") != ""
	if challenged != (res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden) {
		c.t.Errorf("%s: %d with the challenge %q", c.name, res.StatusCode, res.Header.Get("WWW-Authenticate"))
	}
	if _, err := strconv.Atoi(res.Header.Get("Retry-After")); (err == nil) != (res.StatusCode == http.StatusServiceUnavailable) {
		c.t.Errorf("%s: %d with Retry-After %q", c.name, res.StatusCode, res.Header.Get("Retry-After"))
	}
	return res.StatusCode
}

// accepted is a token that the API took, once there is time enough on a machine that has much to do.
func (c caller) accepted(obolus func() string, before func()) string {
	c.t.Helper()
	for range 10 {
		token := obolus()
		before()
		status := c.status(token, nil)
		if status == http.StatusOK {
			return token
		}
		if status != http.StatusServiceUnavailable {
			c.t.Fatalf("%s: %d", c.name, status)
		}
	}
	c.t.Fatalf("%s takes no token", c.name)
	return ""
}

func (c caller) want(what, token string, statuses ...int) {
	c.t.Helper()
	if got := c.status(token, nil); !slices.Contains(statuses, got) {
		c.t.Errorf("%s: %s: %d, want %d", c.name, what, got, statuses)
	}
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
