package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"obolus/cmd/obolus/internal/operator"
	"obolus/cmd/obolus/internal/server"
	"obolus/store"
	"obolus/store/archive"
	"obolus/store/bolt"
	"obolus/store/postgres"
	"obolus/store/storetest"
	"obolus/store/storetest/servers"
)

const mailAPI = "https://mail.example.com"

// house is one installation: a folder with keys and secrets, an address, and a server that runs there or does not. What it remembers may
// move from one store into another.
type house struct {
	*process

	t       *testing.T
	live    string
	address string
	secret  string // of the mail server
	subject string // the file with alice's token
}

func newHouse(t *testing.T, live string) *house {
	t.Helper()
	return &house{t: t, live: live, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(servers.FreePort(t))), process: &process{dir: t.TempDir()}}
}

func (h *house) at(name string) string { return filepath.Join(h.dir, name) }

func (h *house) bolt(name string) string { return "bolt:" + h.at(name) }

func (h *house) start(records string) {
	h.t.Helper()
	h.process = serve(h.t, h.dir, "--listen", h.address, "--records", records, "--live", h.live)
}

func (h *house) stop() {
	h.t.Helper()
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	if err := h.cmd.Wait(); err != nil {
		h.t.Errorf("the server ended with %v", err)
	}
}

func (h *house) do(args ...string) said {
	h.t.Helper()
	return obolus(h.t, append(args, h.flags()...)...).want(h.t, 0)
}

// furnish registers everybody.
func (h *house) furnish() {
	h.t.Helper()
	made := h.do("client", "add", "mail-server", "--auth", "client_secret_basic")
	secret := regexp.MustCompile(`(?m)^  (\S{20,})$`).FindStringSubmatch(made.out)
	if secret == nil {
		h.t.Fatalf("no secret in\n%s", made.out)
	}
	h.secret, h.subject = secret[1], h.at("alice.token")
	h.do("resource", "add", "mail", mailAPI, "--scope", "mail.send=Send mail", "--served-by", "mail-server")
	h.do("agent", "add", "mailer", "--name", "Mail helper", "--new-key", h.at("agent.pem"), "--resource", "mail", "--scope", "mail.send")
	h.do("client", "add", "app", "--redirect-uri", "http://127.0.0.1/callback", "--scope", "mail.send")
	typed(h.t, "correct horse battery\n", append([]string{"user", "add", "alice", "--name", "Alice"}, h.flags()...)...).want(h.t, 0)
}

// signIn gets alice a token, with her as the person at the browser.
func (h *house) signIn() {
	h.t.Helper()
	link := regexp.MustCompile(`http://\S+/authorize\S+`)
	came := make(chan struct{})
	shown := &until{words: "/authorize", done: sync.OnceFunc(func() { close(came) })}
	var out bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		stage := operator.Stage{Out: &out, Err: shown, Now: time.Now, Open: server.Open}
		ended <- run(h.t.Context(), []string{"token", "login", "--server", h.issuer, "--client", "app", "--resource", mailAPI, "--scope", "mail.send"}, stage)
	}()
	<-came
	h.visit(link.FindString(shown.String()), nil)
	if err := <-ended; err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.subject, out.Bytes(), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

var (
	pageForms  = regexp.MustCompile(`(?s)<form[^>]*method="post".*?</form>`)
	pageAction = regexp.MustCompile(`action="([^"]*)"`)
	pageInputs = regexp.MustCompile(`<input[^>]*>`)
	inputName  = regexp.MustCompile(`name="([^"]*)"`)
	inputValue = regexp.MustCompile(`value="([^"]*)"`)
	pageSelect = regexp.MustCompile(`(?s)<select[^>]*name="([^"]*)".*?<option value="([^"]*)" selected>`)
)

// visit opens a link as alice would, signs in and sends what she is asked, with some answers of hers.
func (h *house) visit(link string, answers url.Values) {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	res, err := browser.Get(link)
	for range 4 {
		if err != nil {
			h.t.Fatal(err)
		}
		page, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			h.t.Fatalf("%s: %d %v\n%s", res.Request.URL, res.StatusCode, err, page)
		}
		form := ""
		for _, f := range pageForms.FindAllString(string(page), -1) {
			if !strings.Contains(f, `action="/sign-out"`) {
				form = f
			}
		}
		if form == "" {
			return
		}
		to, err := res.Request.URL.Parse(html.UnescapeString(pageAction.FindStringSubmatch(form)[1]))
		if err != nil {
			h.t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, to.String(), strings.NewReader(answered(form, answers).Encode()))
		if err != nil {
			h.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", h.issuer)
		if res, err = browser.Do(req); err != nil {
			h.t.Fatal(err)
		}
	}
	h.t.Fatalf("%s: no end of pages", link)
}

func answered(form string, answers url.Values) url.Values {
	v := url.Values{}
	for _, input := range pageInputs.FindAllString(form, -1) {
		name, value := inputName.FindStringSubmatch(input), inputValue.FindStringSubmatch(input)
		choice := strings.Contains(input, `type="radio"`) || strings.Contains(input, `type="checkbox"`)
		if name != nil && value != nil && (!choice || strings.Contains(input, "checked")) {
			v.Add(name[1], html.UnescapeString(value[1]))
		}
	}
	for _, m := range pageSelect.FindAllStringSubmatch(form, -1) {
		v.Set(m[1], m[2])
	}
	if strings.Contains(form, `name="password"`) {
		v.Set("user", "alice")
		v.Set("password", "correct horse battery")
		return v
	}
	v.Set("decision", "allow")
	maps.Copy(v, answers)
	return v
}

// exchange has the agent ask for a token. It returns the token, or what it was refused with.
func (h *house) exchange() (access string, refused string) {
	h.t.Helper()
	got := obolus(h.t, "token", "exchange", "--server", h.issuer, "--agent", "mailer", "--key", h.at("agent.pem"), "--subject", h.subject,
		"--resource", mailAPI, "--scope", "mail.send", "--wait", "0")
	if got.code != 0 {
		return "", got.err
	}
	return strings.TrimSpace(got.out), ""
}

func (h *house) mustExchange() string {
	h.t.Helper()
	access, refused := h.exchange()
	if refused != "" {
		h.t.Fatalf("the agent was refused: %s", refused)
	}
	return access
}

// redeem redeems a token as the mail server does.
func (h *house) redeem(access string) int {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.issuer+"/redeem", strings.NewReader(url.Values{"token": {access}}.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("mail-server", h.secret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// allowed has alice allow the agent something a number of times.
func (h *house) allowed(times int) {
	h.t.Helper()
	_, refused := h.exchange()
	link := regexp.MustCompile(`http://\S+/consent/\S+`).FindString(refused)
	if link == "" {
		h.t.Fatalf("no question for alice: %s", refused)
	}
	h.visit(link, url.Values{"uses": {"times"}, "times": {fmt.Sprint(times)}})
}

// goesOn looks at a house whose records have come from elsewhere: what was out is refused, and what was granted and not drawn yet is
// still there.
func (h *house) goesOn(kind string, out ...string) {
	h.t.Helper()
	time.Sleep(1100 * time.Millisecond) // an assertion of the second in which the epoch began is refused
	for _, access := range out {
		if status := h.redeem(access); status != http.StatusGone {
			h.t.Errorf("a token from before: %d", status)
		}
	}
	if access, refused := h.exchange(); access != "" || !strings.Contains(refused, "invalid_request") {
		h.t.Errorf("alice's token from before: %q %s", access, refused)
	}
	h.signIn()
	if status := h.redeem(h.mustExchange()); status != http.StatusOK {
		h.t.Errorf("a new token: %d", status)
	}
	h.do("audit", "verify").want(h.t, 0, "The ledger is whole")
	h.do("audit", "list", "--kind", kind).want(h.t, 0, "records, by operator, saying")
}

// exhausted looks whether the budget has come to its end: alice is asked anew, though not for some seconds after the last token.
func (h *house) exhausted() {
	h.t.Helper()
	if access, refused := h.exchange(); access != "" || !strings.Contains(refused, "grant_exhausted") && !strings.Contains(refused, "/consent/") {
		h.t.Errorf("the budget is not at its end: %q %s", access, refused)
	}
}

// busy changes and reads records until it is stopped.
func (h *house) busy() (stop func() int) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			got := obolus(h.t, append([]string{"client", "add", fmt.Sprintf("app-%d", n), "--redirect-uri", "http://127.0.0.1/callback", "--scope", "mail.send"}, h.flags()...)...)
			if got.code != 0 {
				h.t.Errorf("while it is busy: %s", got.err)
			}
		}
		done <- n
	}()
	return func() int { cancel(); return <-done }
}

func TestALifeThatMovesFromStoreToStore(t *testing.T) {
	t.Parallel()
	h := newHouse(t, servers.Redis(t)) // it remembers what was issued, whatever becomes of the records
	file := h.at("obolus.backup")
	h.start(h.bolt("first.db"))
	h.furnish()
	h.signIn()
	h.allowed(6)
	if status := h.redeem(h.mustExchange()); status != http.StatusOK {
		t.Fatalf("redeemed with %d", status)
	}
	outstanding := h.mustExchange()
	stop := h.busy()
	time.Sleep(100 * time.Millisecond)
	var made struct {
		Records, Epoch uint64
		SHA256         string
		Source         string
	}
	if err := json.Unmarshal([]byte(h.do("backup", file, "--json").out), &made); err != nil || made.Records < 30 || made.Epoch != 1 || made.Source != "bolt" {
		t.Errorf("the backup: %+v, %v", made, err)
	}
	if n := stop(); n == 0 {
		t.Error("nothing happened meanwhile")
	}
	obolus(t, append([]string{"backup", file}, h.flags()...)...).want(t, 1, "is there already")
	h.do("audit", "list", "--kind", "backup").want(t, 0, "backup")
	later := h.mustExchange()
	h.do("agent", "suspend", "mailer", "--why", "it sends too much")

	first := servers.Postgres(t)
	obolus(t, "restore", file, "--records", h.bolt("first.db")).want(t, 5, "stop every server first")
	h.stop()
	obolus(t, "restore", file, "--records", h.bolt("first.db")).want(t, 1, "there are records already", "--replace --yes")
	obolus(t, "restore", file, "--records", h.bolt("first.db"), "--replace").want(t, 2, "say --yes")
	obolus(t, "restore", file, "--records", first, "--sha256", strings.Repeat("0", 64)).want(t, 1, "is another backup")
	obolus(t, "restore", file, "--records", first, "--sha256", made.SHA256).
		want(t, 0, fmt.Sprint("has the ", made.Records, " records of"), "The ledger goes on after event", "are in force again", "obolus audit export")
	obolus(t, "restore", file, "--records", first).want(t, 1, "there are records already")

	h.start(first)
	h.goesOn("restore", outstanding, later) // 3
	out := h.mustExchange()                 // 4
	obolus(t, "migrate", "--from", first, "--to", h.bolt("second.db")).want(t, 5, "stop every server first")
	h.stop()
	obolus(t, "migrate", "--from", first, "--to", h.bolt("first.db")).want(t, 1, "there are records already")
	obolus(t, "migrate", "--from", first, "--to", first).want(t, 2, "are the same")
	obolus(t, "migrate", "--from", h.bolt("nowhere.db"), "--to", h.bolt("second.db")).want(t, 1, "there is no such file")
	obolus(t, "migrate", "--from", first, "--to", h.bolt("second.db")).want(t, 0, "all are the same in both", "Start the servers with")

	h.start(h.bolt("second.db"))
	h.goesOn("migrate", outstanding, later, out) // 5
	h.stop()
	second := servers.Postgres(t)
	var moved struct {
		Records, NewEpoch uint64
		SHA256            string `json:"records_sha256"`
	}
	got := obolus(t, "migrate", "--from", h.bolt("second.db"), "--to", second, "--json").want(t, 0)
	if err := json.Unmarshal([]byte(got.out), &moved); err != nil || moved.Records <= made.Records || len(moved.SHA256) != 64 {
		t.Errorf("moved %+v, %v", moved, err)
	}
	h.start(second)
	h.goesOn("migrate", outstanding, later, out) // 6
	h.exhausted()
	h.stop()
}

// A backup that replaces newer records: what they knew besides is shown, and what it does not know is given again.
func TestARestoreGoesBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "memory:")
	file := h.at("obolus.backup")
	h.start(h.bolt("records.db"))
	h.furnish()
	h.signIn()
	h.allowed(3)
	outstanding := h.mustExchange() // 1
	h.do("backup", file).want(t, 0, "SHA-256", "master key")
	h.stop()
	obolus(t, "restore", file, "--config", h.config("records.db"), "--replace", "--yes").want(t, 0, "knew of no decision since")
	obolus(t, "restore", file, "--config", h.config("records.db"), "--replace", "--yes", "--json").want(t, 0, `"lost": []`)
	h.start(h.bolt("records.db"))
	time.Sleep(1100 * time.Millisecond)
	h.signIn()
	h.mustExchange() // 2, and lost
	h.do("agent", "suspend", "mailer", "--why", "it sends too much")
	h.stop()
	obolus(t, "backup", h.at("after.backup"), "--config", h.config("records.db")).want(t, 0, "has the")
	obolus(t, "restore", file, "--config", h.config("records.db"), "--replace", "--yes").
		want(t, 0, "The records that were replaced knew of these decisions", "agent/mailer suspended", "it sends too much")
	h.start(h.bolt("records.db"))
	h.goesOn("restore", outstanding) // 2 again
	h.mustExchange()
	h.exhausted()
	h.stop()
	obolus(t, "restore", h.at("after.backup"), "--config", h.config("records.db"), "--replace", "--yes", "--json").want(t, 0, `"lost": null`)
	h.start(h.bolt("records.db"))
	time.Sleep(1100 * time.Millisecond)
	h.signIn()
	if access, refused := h.exchange(); access != "" {
		t.Errorf("the agent is suspended there: %s", refused)
	}
}

// config writes a configuration for a file of records, with an address where nobody is.
func (h *house) config(name string) string {
	h.t.Helper()
	file := filepath.Join(h.t.TempDir(), "obolus.yaml")
	text := fmt.Sprintf("data: %s\nrecords: 'bolt:%s'\nlisten: 127.0.0.1:1\n", h.at("data"), h.at(name))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return file
}

// large is a backup that takes a moment to restore.
func large(t *testing.T) (file string, records int) {
	t.Helper()
	e, err := bolt.Open(filepath.Join(t.TempDir(), "records.db"), bolt.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const chunks, each = 40, 1000
	for c := range chunks {
		load := store.Load{}
		for i := range each {
			k := store.Key{Partition: fmt.Sprintf("p%02d", c), Name: fmt.Sprintf("n%04d", i)}
			load.Entries = append(load.Entries, store.Entry{Record: store.Record{Key: k, Value: bytes.Repeat([]byte{'v'}, 1000), Version: 9}})
		}
		if err := e.Load(t.Context(), load); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "big.backup")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := archive.Write(t.Context(), f, e, archive.Origin{}, nil); err != nil {
		t.Fatal(err)
	}
	return file, chunks * each
}

// A restore that is killed leaves records that no server takes, and that the next one fills.
func TestARestoreThatIsKilled(t *testing.T) {
	t.Parallel()
	file, records := large(t)
	for _, c := range []struct {
		name string
		at   func(t *testing.T) string
		open func(t *testing.T, address string) store.Durable
	}{
		{"bolt", func(t *testing.T) string { t.Helper(); return "bolt:" + filepath.Join(t.TempDir(), "records.db") }, openBolt},
		{"postgres", func(t *testing.T) string { t.Helper(); return servers.Postgres(t) }, openPostgres},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, address := t.TempDir(), c.at(t)
			after := 200 * time.Millisecond
			for late := time.Now().Add(3 * time.Minute); ; {
				if time.Now().After(late) {
					t.Fatal("it was never killed in the middle")
				}
				kill(t, after, "restore", file, "--records", address, "--replace", "--yes")
				got := obolus(t, "backup", "-", "--config", configAt(t, dir, address), "--offline")
				if strings.Contains(got.err, "did not come to its end") {
					break
				}
				if len(got.out) > records { // too late
					after -= rand.N(after / 2) // by chance, so as not to go to and fro between too late and too soon
				} else {
					after += rand.N(after)
				}
			}
			obolus(t, "serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--records", address).
				want(t, 1, "a restore or a migration into these records did not come to its end: run it again")
			obolus(t, "agent", "list", "--config", configAt(t, dir, address), "--offline").want(t, 5, "did not come to its end")
			obolus(t, "doctor", "--config", configAt(t, dir, address)).want(t, 5, "did not come to its end")
			obolus(t, "restore", file, "--records", address).want(t, 0, fmt.Sprint(records, " records"))
			serve(t, dir, "--records", address).kill()
			e := c.open(t, address)
			n := 0
			for _, entry := range storetest.Everything(t, e) {
				if strings.HasPrefix(entry.Partition, "p") && len(entry.Value) == 1000 {
					n++
				}
			}
			if n != records {
				t.Errorf("%d of %d records are there", n, records)
			}
		})
	}
}

func openBolt(t *testing.T, address string) store.Durable {
	t.Helper()
	e, err := bolt.Open(strings.TrimPrefix(address, "bolt:"), bolt.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func openPostgres(t *testing.T, address string) store.Durable {
	t.Helper()
	e, err := postgres.Open(t.Context(), address, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func configAt(t *testing.T, dir, records string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "obolus.yaml")
	text := fmt.Sprintf("data: %s\nrecords: '%s'\nlisten: 127.0.0.1:1\n", filepath.Join(dir, "data"), records)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// kill starts a command as a process of its own and ends it as a power cut does.
func kill(t *testing.T, after time.Duration, args ...string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), "OBOLUS_TEST_PROGRAM=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// Files that are refused change nothing.
func TestBackupsThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "memory:")
	file := h.at("obolus.backup")
	h.start(h.bolt("records.db"))
	h.furnish()
	h.do("backup", file)
	whole := []byte(must(os.ReadFile(file)))
	if got := h.do("backup", "-"); !strings.HasPrefix(got.out, "obolus backup\n") || got.err != "" {
		t.Errorf("the standard output: %.40q, %s", got.out, got.err)
	}
	h.do("backup", file, "--force", "--json").want(t, 0, `"sha256"`)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info, err)
	}
	if left, _ := filepath.Glob(file + ".tmp*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, _ := filepath.Glob(h.at("data/.backup*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if strings.Contains(string(whole), h.secret) {
		t.Error("a secret is in the backup")
	}
	if bytes.Contains(whole, bytes.TrimSpace([]byte(must(os.ReadFile(h.at("data/master.key")))))) {
		t.Error("the master key is in the backup")
	}
	obolus(t, "backup", h.at("x"), "--server", "http://127.0.0.1:1", "--token-file", h.at("data/operator.token")).want(t, 5, "no server answers")
	obolus(t, "backup", h.at("x"), "--config", h.config("records.db")).want(t, 5, "held by a server that does not answer")
	obolus(t, "backup", h.at("x"), "--config", h.config("nowhere.db")).want(t, 1, "there is no such file")
	if _, err := os.Stat(h.at("nowhere.db")); err == nil {
		t.Error("a backup of nothing made records")
	}
	altered := bytes.Clone(whole)
	altered[len(altered)/2] ^= 1
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"cut short":     {whole[:len(whole)-1], "cut short"},
		"altered":       {altered, "the backup is damaged"},
		"empty":         {nil, "does not begin as one"},
		"something":     {[]byte("PRAGMA foreign_keys=OFF;"), "does not begin as one"},
		"with an end":   {append(bytes.Clone(whole), '\n'), "something follows"},
		"of the future": {bytes.Replace(whole, []byte(`{"format":1`), []byte(`{"format":9`), 1), "its format is 9"},
	} {
		bad := h.at("bad.backup")
		if err := os.WriteFile(bad, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		obolus(t, "restore", bad, "--records", h.bolt("new.db")).want(t, 1, c.want, bad)
		if _, err := os.Stat(h.at("new.db")); err == nil {
			t.Errorf("%s: records were made", name)
		}
	}
	obolus(t, "restore", h.dir, "--records", h.bolt("new.db")).want(t, 1, "is no file")
	obolus(t, "restore", h.at("none"), "--records", h.bolt("new.db")).want(t, 1, "no such file")
	obolus(t, "restore", file, "--records", "mysql://x").want(t, 2, "postgres")
}
