package docs_test

import (
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"obolus/store/storetest/servers"
)

// port is one of this machine that nobody listens on.
func port(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(servers.FreePort(t)))
}

// program is cmd/obolus, which is built once for all tests that run at the same time.
var program struct {
	sync.Mutex
	dir   string
	users int
}

func build(t *testing.T, into, what string) {
	t.Helper()
	if what != "./cmd/obolus" {
		compile(t, into, what)
		return
	}
	program.Lock()
	defer program.Unlock()
	if program.users == 0 {
		var err error
		if program.dir, err = os.MkdirTemp("", "obolus-docs-"); err != nil { //nolint:usetesting // other tests use it longer than this one runs
			t.Fatal(err)
		}
		compile(t, filepath.Join(program.dir, "obolus"), what)
	}
	program.users++
	t.Cleanup(func() {
		program.Lock()
		defer program.Unlock()
		if program.users--; program.users == 0 {
			os.RemoveAll(program.dir)
		}
	})
	if err := os.Link(filepath.Join(program.dir, "obolus"), into); err != nil {
		t.Fatal(err)
	}
}

func compile(t *testing.T, into, what string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", into, what)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", what, err, out)
	}
}

// shell is a script of a guide, to be carried out in a folder with the program in it. The commands in it speak to a server.
func shell(t *testing.T, dir, server, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -eu -o pipefail\n"+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "OBOLUS_SERVER=http://"+server,
		"OBOLUS_TOKEN_FILE="+filepath.Join(dir, "obolus-data", "operator.token"))
	return cmd
}

// output is what a script says, which must succeed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", cmd, err, out)
	}
	return string(out)
}

// start runs a program until the test is over, and waits until it answers.
func start(t *testing.T, dir, address string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	log, err := os.Create(filepath.Join(dir, filepath.Base(args[0])+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Wait()
		log.Close()
	})
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}} // who listens may not serve yet
	for late := time.Now().Add(2 * time.Minute); time.Now().Before(late); {
		if res, err := client.Get("http://" + address + "/"); err == nil {
			res.Body.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	said, _ := os.ReadFile(log.Name())
	t.Fatalf("%s does not listen on %s:\n%s", args[0], address, said)
}

var (
	forms   = regexp.MustCompile(`(?s)<form[^>]*method="post".*?</form>`)
	action  = regexp.MustCompile(`action="([^"]*)"`)
	inputs  = regexp.MustCompile(`<input[^>]*>`)
	selects = regexp.MustCompile(`(?s)<select[^>]*name="([^"]*)".*?<option value="([^"]*)" selected>`)
	names   = regexp.MustCompile(`name="([^"]*)"`)
	values  = regexp.MustCompile(`value="([^"]*)"`)
)

// person opens a link as alice would: she signs in, allows what she is asked for any number of times, and tells where she was led to.
func person(ctx context.Context, link string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	at, err := url.Parse(link)
	if err != nil {
		return "", err
	}
	outside := ""
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Host != at.Host {
			outside = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, http.NoBody)
	for range 4 {
		if err != nil {
			return "", err
		}
		resp, err := browser.Do(req)
		if err != nil {
			return "", err
		}
		page, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return "", err
		}
		form := ""
		for _, f := range forms.FindAllString(string(page), -1) {
			if !strings.Contains(f, `action="/sign-out"`) {
				form = f
			}
		}
		if outside != "" || form == "" {
			return outside, nil
		}
		to, err := resp.Request.URL.Parse(html.UnescapeString(action.FindStringSubmatch(form)[1]))
		if err != nil {
			return "", err
		}
		if req, err = http.NewRequestWithContext(ctx, http.MethodPost, to.String(), strings.NewReader(filled(form).Encode())); err != nil {
			return "", err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "http://"+at.Host)
	}
	return "", fmt.Errorf("%s: no end of pages", link)
}

func filled(form string) url.Values {
	typed := url.Values{}
	for _, input := range inputs.FindAllString(form, -1) {
		name := names.FindStringSubmatch(input)
		if name == nil || strings.Contains(input, `type="radio"`) || strings.Contains(input, `type="checkbox"`) && !strings.Contains(input, "checked") {
			continue
		}
		if value := values.FindStringSubmatch(input); value != nil {
			typed.Add(name[1], html.UnescapeString(value[1]))
		}
	}
	for _, m := range selects.FindAllStringSubmatch(form, -1) {
		typed.Set(m[1], m[2])
	}
	if strings.Contains(form, `name="password"`) {
		typed.Set("user", "alice")
		typed.Set("password", "correct horse battery")
		return typed
	}
	typed.Set("uses", "any")
	typed.Set("decision", "allow")
	return typed
}

// The guides for resource servers and agents, carried out word by word: what people do by hand is done by person, and only the ports are
// others.
func TestGuides(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, api := port(t), port(t)
	place := strings.NewReplacer("127.0.0.1:8420", server, "127.0.0.1:9000", api, "127.0.0.1%3A9000", url.QueryEscape(api))
	build(t, filepath.Join(dir, "obolus"), "./cmd/obolus")
	start(t, dir, server, filepath.Join(dir, "obolus"), "serve", "--listen", server)

	people := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		led, err := person(r.Context(), r.FormValue("link"))
		if err != nil {
			t.Error(err)
		}
		io.WriteString(w, led)
	}))
	defer people.Close()
	run := func(script string) string {
		t.Helper()
		return output(t, shell(t, dir, server, script))
	}

	text := place.Replace(read(t, "resource-server.md"))
	run(blocks(text, "sh")[0])
	program := filepath.Join(dir, "mail.go")
	if err := os.WriteFile(program, []byte(blocks(text, "go")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "mail"), program)
	start(t, dir, api, filepath.Join(dir, "mail"))
	if out := run(blocks(text, "sh")[1]); !strings.Contains(out, "401 Unauthorized") || !strings.Contains(out, "resource_metadata=") {
		t.Errorf("the API without a token: %s", out)
	}

	sh := blocks(text, "sh")
	for _, c := range []struct {
		register, ask int // the blocks
		want          string
	}{{2, 3, "401 Unauthorized"}, {4, 5, `"error":"token_unknown"`}} {
		secret := regexp.MustCompile(`(?m)^  (\S{20,})$`).FindStringSubmatch(run(sh[c.register]))
		if secret == nil {
			t.Fatalf("no secret was shown by %s", sh[c.register])
		}
		if out := run("SECRET=" + secret[1] + " TOKEN=x\n" + sh[c.ask]); !strings.Contains(out, c.want) {
			t.Errorf("%s\nleads to %s, not to %s", sh[c.ask], out, c.want)
		}
	}

	agent := filepath.Join(dir, "agent.go")
	if err := os.WriteFile(agent, []byte(blocks(place.Replace(read(t, "agents.md")), "go")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "agent"), agent)

	const decide = `person "$(sed 's/.*"interaction_uri":"\([^"]*\).*/\1/' asked)"` + "\n"
	script := "person() { curl -s -G " + people.URL + " --data-urlencode \"link=$1\"; }\n"
	for _, block := range blocks(place.Replace(read(t, "agents.md")), "sh") {
		block = strings.Replace(block, "obolus serve &\n", "", 1)
		block = strings.Replace(block, "CODE=the-code-from-the-address", `CODE=$(person "$LINK" | sed 's/.*code=\([^&]*\).*/\1/')`, 1)
		block = strings.Replace(block, "\n}\nexchange\n", "\n}\nexchange | tee asked\n"+decide, 1)
		script += block + "\necho '== end of a block'\n"
	}
	out := run(script)
	for _, want := range []string{
		`"reason":"grant_missing"`, "helper sent a mail for alice", `"status":"committed"`, "Registered the resource bank",
		`"grantable":{"scope":"mail.send"}`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the guide for agents does not lead to %q", want)
		}
	}
	if n := strings.Count(out, "helper sent a mail for alice"); n != 3 {
		t.Errorf("%d mails were sent: one by a bearer token, one by a bound one and one by a program are wanted", n)
	}
	if t.Failed() {
		t.Log(out)
	}
}
