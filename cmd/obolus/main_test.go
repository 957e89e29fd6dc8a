package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"obolus/admin"
	"obolus/cmd/obolus/internal/operator"
	"obolus/cmd/obolus/internal/server"
	"obolus/store/storetest/servers"
	"obolus/users"
)

// The test binary is the program too, so that a test can start it, and kill it, as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("OBOLUS_TEST_PROGRAM") != "" {
		main()
	}
	servers.Main(m)
}

// said is what a command printed and how it ended.
type said struct {
	out, err string
	code     int
}

// obolus carries out a command line in this process.
func obolus(t *testing.T, args ...string) said {
	t.Helper()
	return typed(t, "", args...)
}

// typed carries out a command line with something on the standard input.
func typed(t *testing.T, in string, args ...string) said {
	t.Helper()
	var out, errs bytes.Buffer
	stage := operator.Stage{
		In: strings.NewReader(in), Out: &out, Err: &errs, Now: time.Now, Open: server.Open,
		ShareRecords: server.ShareRecords, HoldRecords: server.HoldRecords, Version: "test",
	}
	err := run(t.Context(), args, stage)
	return said{out.String(), errs.String(), operator.ExitCode(err)}
}

func (s said) want(t *testing.T, code int, words ...string) said {
	t.Helper()
	if s.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", s.code, code, s.out, s.err)
	}
	for _, w := range words {
		if !strings.Contains(s.out+s.err, w) {
			t.Errorf("nothing says %q:\n%s%s", w, s.out, s.err)
		}
	}
	return s
}

// process is a server that was started as a process of its own.
type process struct {
	cmd    *exec.Cmd
	dir    string
	issuer string
	log    *bytes.Buffer
}

// serve starts `obolus serve` in a folder and waits until it answers.
func serve(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{dir: dir, log: &bytes.Buffer{}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(self, append([]string{"serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "OBOLUS_TEST_PROGRAM=1", "OBOLUS_LOG_FORMAT=json")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	dec := json.NewDecoder(io.TeeReader(stderr, p.log))
	for p.issuer == "" {
		var line struct {
			Msg    string `json:"msg"`
			Issuer string `json:"issuer"`
		}
		if err := dec.Decode(&line); err != nil {
			t.Fatalf("the server ended: %v\n%s", err, p.log)
		}
		if line.Msg == "serving" {
			p.issuer = line.Issuer
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return p
}

// kill ends it as a power cut does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *process) flags() []string {
	return []string{"--server", p.issuer, "--token-file", filepath.Join(p.dir, "data", "operator.token")}
}

func TestTheProgram(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"nothing said is help", nil, 0, []string{"Examples:", "obolus demo", "Exit codes:"}},
		{"help", []string{"agent", "--help"}, 0, []string{"obolus agent suspend mailer"}},
		{"help of the server lists its settings", []string{"serve", "--help"}, 0, []string{"OBOLUS_KEYS_ALGORITHM", "OBOLUS_TOKENS_LIFETIME"}},
		{"version", []string{"version"}, 0, []string{"obolus "}},
		{"no such command", []string{"policy", "chek"}, 2, []string{`did you mean "check"`, "obolus policy --help"}},
		{"no such flag", []string{"serve", "--lisen", "x"}, 2, []string{"--listen"}},
		{"a wrong configuration", []string{"serve", "--live", "x"}, 2, []string{"--live: begins with none of memory:"}},
		{"no configuration", []string{"serve", "--config", "/nowhere.yaml"}, 2, []string{"the configuration file /nowhere.yaml does not exist"}},
		{"a command without what it needs", []string{"grant", "list"}, 2, []string{"--user"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			obolus(t, c.args...).want(t, c.code, c.words...)
		})
	}
}

// Every command teaches by example.
func TestHelpTeachesByExample(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"serve", "demo", "version", "doctor", "agent", "agent list", "agent show", "agent add", "agent edit", "agent suspend", "agent resume",
		"agent retire", "agent rotate-key", "agent remove", "resource list", "resource show", "resource add", "resource remove", "client list",
		"client show", "client add", "client rotate-secret", "client remove", "user list", "user add", "user password", "user disable",
		"user enable", "user sign-out", "user remove", "user hash", "grant list", "grant show", "grant withdraw", "policy check", "policy test",
		"policy explain", "policy replay", "policy list", "policy show", "policy put", "policy remove", "policy history", "policy revert",
		"policy library", "policy schema", "audit list", "audit show", "audit verify",
		"audit export", "key list", "key rotate", "key withdraw", "token inspect", "token explain", "token check",
	} {
		got := obolus(t, append(strings.Fields(words), "--help")...)
		if got.code != 0 || !strings.Contains(got.out, "Examples:") || !strings.Contains(got.out, "obolus "+strings.Fields(words)[0]) {
			t.Errorf("%s --help: %d\n%s%s", words, got.code, got.out, got.err)
		}
	}
}

func TestASecondServerOnTheSameFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := serve(t, dir)
	obolus(t, "serve", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0").want(t, 5, "records.db", "in use by another process")
	// A command without a server's address finds out, too.
	obolus(t, "agent", "list", "--config", configFile(t, dir)).want(t, 5, "the records are held by a server that does not answer at")
	obolus(t, append([]string{"agent", "list"}, first.flags()...)...).want(t, 0, "ID")
}

// configFile writes a configuration for the data in a folder, with an address where nobody is.
func configFile(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "obolus.yaml")
	text := fmt.Sprintf("data: %s\nlisten: 127.0.0.1:1\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What was acknowledged is there after a power cut.
func TestKillNine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 3 {
		p := serve(t, dir)
		obolus(t, append([]string{
			"client", "add", fmt.Sprintf("server-%d", round), "--name", fmt.Sprintf("Server %d", round), "--auth", "client_secret_basic",
		}, p.flags()...)...).want(t, 0, "Its secret")
		obolus(t, append([]string{"key", "rotate"}, p.flags()...)...).want(t, 0)
		p.kill()
	}
	p := serve(t, dir)
	got := obolus(t, append([]string{"client", "list"}, p.flags()...)...).want(t, 0, "server-0", "server-1", "server-2")
	if strings.Count(got.out, "server-") != 3 {
		t.Errorf("clients:\n%s", got.out)
	}
	obolus(t, append([]string{"audit", "verify"}, p.flags()...)...).want(t, 0, "The ledger is whole: 6 events")
}

// SIGHUP has the guardrails read again.
func TestAHangUpReadsTheGuardrailsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rail := filepath.Join(dir, "night.cedar")
	file := filepath.Join(dir, "obolus.yaml")
	for name, text := range map[string]string{rail: "", file: "policies: [{file: night.cedar}]\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := serve(t, dir, "--config", file)
	if err := os.WriteFile(rail, []byte(`@id("night") forbid(principal, action, resource);`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		got := obolus(t, append([]string{"policy", "list", "--text"}, p.flags()...)...).want(t, 0)
		if strings.Contains(got.out, "night") && strings.Contains(got.out, "forbid") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody read it:\n%s", got.out)
		}
	}
}

// SIGTERM ends it, soon and with code 0.
func TestATermEndsIt(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := http.Get(p.issuer + "/healthz"); err == nil {
		t.Error("it still answers")
	}
}

// Commands work on a server's data when no server runs.
func TestCommandsWithoutAServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := configFile(t, dir)
	key := filepath.Join(dir, "mail.pem")
	obolus(t, "client", "add", "mail-server", "--new-key", key, "--config", file, "--offline").want(t, 0, "Registered the client mail-server", key)
	obolus(t, "resource", "add", "mail", "https://mail.example.com", "--scope", "mail.read=Read your mail", "--served-by", "mail-server", "--config", file).
		want(t, 0, "redemption: required")
	obolus(t, "client", "list", "--config", file, "--json").want(t, 0, `"id": "mail-server"`)
	obolus(t, "doctor", "--config", file).want(t, 0, "no server runs; both stores open")
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", info, err)
	}
}

func TestAWholeLifeByCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	do := func(code int, words string, args ...string) said {
		t.Helper()
		return obolus(t, append(args, p.flags()...)...).want(t, code, words)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	do(0, "Registered the client mail-server", "client", "add", "mail-server", "--new-key", at("server.pem"))
	do(0, "Registered the resource mail", "resource", "add", "mail", "https://mail.example.com", "--scope", "mail.read=Read", "--served-by", "mail-server")
	do(0, "Registered the agent mailer", "agent", "add", "mailer", "--name", "Mail helper", "--new-key", at("agent.pem"), "--resource", "mail", "--scope", "mail.read")
	do(4, "the agent mailer is registered already; `obolus agent show mailer` prints it", "agent", "add", "mailer", "--new-key", at("other.pem"))
	do(0, "Mail helper", "agent", "list", "-q", "helper")
	do(0, "mail.read", "agent", "show", "mailer")
	do(0, "30s", "agent", "edit", "mailer", "--lifetime", "30s")
	do(0, "is suspended", "agent", "suspend", "mailer", "--why", "too much mail")
	do(0, "is active", "agent", "resume", "mailer")
	do(0, "has the keys", "agent", "rotate-key", "mailer", "--new-key", at("agent-2.pem"))
	do(3, "ghost", "agent", "show", "ghost")
	do(2, "--new-key", "agent", "add", "keyless")
	obolus(t, append([]string{"agent", "remove", "mailer"}, p.flags()...)...).want(t, 1, "nothing was done")
	typed(t, "correct horse battery\n", append([]string{"user", "add", "alice", "--name", "Alice"}, p.flags()...)...).want(t, 0, "Registered the user alice")
	typed(t, "short\n", append([]string{"user", "add", "bob"}, p.flags()...)...).want(t, 1, "at least 8 characters")
	do(0, "alice", "user", "list")
	hash := typed(t, "correct horse battery\n", "user", "hash").want(t, 0, "$argon2id$v=19$")
	if err := users.CheckHash(strings.TrimSpace(hash.out)); err != nil {
		t.Error(err)
	}
	do(0, "kept out", "user", "disable", "alice", "--why", "left")
	do(0, "may sign in again", "user", "enable", "alice")
	do(0, "", "grant", "list", "--user", "alice")
	do(3, "", "grant", "show", "g_none", "--user", "alice")
	do(0, "ES256", "key", "list")
	do(0, "signs from", "key", "rotate", "--algorithm", "EdDSA")
	do(0, "There are no guardrails", "policy", "list")
	do(0, "agent/mailer suspended", "audit", "list", "--kind", "stop")
	do(0, "agent/mailer suspended", "audit", "list", "--since", "1h", "--json")
	do(0, "seq", "audit", "show", "1")
	do(3, "there is no event", "audit", "show", "9999")
	do(2, "neither a time", "audit", "list", "--since", "yesterday")
	do(0, "The ledger is whole", "audit", "verify")
	do(0, "events", "audit", "export", "-o", at("ledger.jsonl"))
	if data, err := os.ReadFile(at("ledger.jsonl")); err != nil || bytes.Count(data, []byte("\n")) < 10 {
		t.Errorf("the export: %d bytes, %v", len(data), err)
	}
	do(1, "does not count", "token", "check", "a.b.c")
	do(0, "Removed the agent", "agent", "remove", "mailer", "--yes")
	obolus(t, "agent", "list", "--server", "http://127.0.0.1:1", "--token-file", filepath.Join(dir, "data", "operator.token")).want(t, 5, "no server answers")
	if err := os.WriteFile(at("wrong.token"), []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	obolus(t, "agent", "list", "--server", p.issuer, "--token-file", at("wrong.token")).want(t, 1, "the operators' token is missing or wrong")
	var st admin.Status
	if err := json.Unmarshal([]byte(do(0, "", "key", "list", "--json").out), &st); err != nil {
		t.Errorf("--json is no JSON: %v", err)
	}
}

func TestGuardrailsByCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	obolus(t, "policy", "library").want(t, 0, "office-hours", "payment-limit")
	all := obolus(t, "policy", "library", "--json").want(t, 0)
	var library []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal([]byte(all.out), &library); err != nil || len(library) < 5 {
		t.Fatalf("%d ready guardrails, %v", len(library), err)
	}
	for _, g := range library {
		name := strings.TrimSuffix(g.Name, ".cedar")
		rail := put(g.Name, obolus(t, "policy", "library", name).want(t, 0).out)
		cases := put(name+".json", obolus(t, "policy", "library", name, "--cases").want(t, 0).out)
		obolus(t, "policy", "check", rail).want(t, 0, "are fine")
		obolus(t, "policy", "test", cases, "--policies", rail).want(t, 0, "ok")
	}
	obolus(t, "policy", "library", "nothing").want(t, 3, "there is no guardrail")
	wrong := put("wrong.cedar", "\npermit(principal, action, resource) when { context.nothing == 1 };")
	obolus(t, "policy", "check", wrong).want(t, 2, "wrong.cedar:2:")
	forbid := put("forbid.cedar", `@id("never") forbid(principal, action, resource);`)
	in := put("input.json", `{"stage":"exchange","scopes":["mail.send"],"agent":{"id":"mailer"},"user":{"id":"alice"},"target":{"id":"mail"},"now":"2030-01-02T03:00:00Z"}`)
	cases := put("cases.json", `[{"name":"it is allowed","allow":true,"input":`+must(os.ReadFile(in))+`}]`)
	obolus(t, "policy", "test", cases, "--policies", forbid).want(t, 1, "FAILED", "1 of 1 cases")
	file := configFile(t, dir)
	obolus(t, "policy", "explain", in, "--policies", forbid, "--config", file, "--offline").want(t, 0, "refused", "never", "satisfied")
	obolus(t, "policy", "replay", "--draft", forbid, "--config", file, "--offline").want(t, 0, "0 requests")
	obolus(t, "policy", "schema").want(t, 0, "entity")
}

// All that can be registered of an agent can be said on the command line, seen, changed and taken back.
func TestAllOfAnAgentByCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	do := func(code int, want string, args ...string) said {
		t.Helper()
		return obolus(t, append(args, p.flags()...)...).want(t, code, want)
	}
	do(0, "", "agent", "add", "worker", "--new-key", filepath.Join(dir, "worker.pem"))
	do(0, "", "agent", "add", "helper", "--name", "Mail helper", "--description", "Writes mail", "--purpose", "Answers customers", "--owner", "Team mail",
		"--contact", "mail@example.com", "--operator", "Acme Cloud", "--model", "clockwork", "--version", "1.4", "--homepage", "https://helper.example.com",
		"--label", "tier=gold", "--label", "env=a=b", "--resource", "mail", "--scope", "mail.read", "--scope", "mail.send", "--details-type", "payment",
		"--details", `[{"type":"payment","amount":{"value":"10.00","currency":"EUR"}}]`, "--lifetime", "30s", "--uses", "5", "--depth", "3", "--rate", "60",
		"--default-resource", "mail", "--delegates-to", "worker", "--dpop", "--expires", "90d", "--recertify", "2099-01-02", "--proposed",
		"--new-key", filepath.Join(dir, "helper.pem"))
	shown := do(0, "", "agent", "show", "helper").out
	for _, want := range []string{
		"Mail helper", "Writes mail", "Answers customers", "Team mail", "mail@example.com", "Acme Cloud", "clockwork 1.4", "https://helper.example.com",
		"tier=gold", "env=a=b", "mail.read mail.send", `"10.00"`, "30s", "proposed", "2099-01-02", "→ worker", "60", "a minute",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("it does not show %s:\n%s", want, shown)
		}
	}
	do(0, "comes from", "agent", "show", "worker")
	do(0, "helper", "agent", "list", "--owner", "Team mail", "--label", "tier=gold", "--state", "proposed")
	if got := do(0, "ID", "agent", "list", "--due"); strings.Contains(got.out, "helper") {
		t.Errorf("it is due:\n%s", got.out)
	}
	do(0, "", "agent", "edit", "helper", "--label", "", "--delegates-to", "", "--details", "", "--expires", "never", "--recertify", "2020-01-02", "--version", "1.5")
	shown = do(0, "clockwork 1.5", "agent", "show", "helper").out
	for _, gone := range []string{"tier=gold", "worker", "10.00", "expires"} {
		if strings.Contains(shown, gone) {
			t.Errorf("it still shows %s:\n%s", gone, shown)
		}
	}
	do(0, "helper", "agent", "list", "--due")
	do(2, "is no NAME=VALUE", "agent", "edit", "helper", "--label", "gold")
	do(2, "neither a time", "agent", "edit", "helper", "--expires", "soon")
	do(2, "is no JSON", "agent", "edit", "helper", "--details", "{")
	do(1, "ceiling.authorization_details", "agent", "edit", "helper", "--details", `[{"type":"payment"}]`)
	do(1, "there is no type", "agent", "edit", "helper", "--details-type", "nonsense")
}

// Guardrails are put, read, changed, taken back and removed on a server that runs.
func TestGuardrailsOfARunningServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	do := func(code int, want string, args ...string) said {
		t.Helper()
		return obolus(t, append(args, p.flags()...)...).want(t, code, want)
	}
	file := filepath.Join(dir, "night.cedar")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const night = "// nobody is up\n@id(\"night\")\nforbid(principal, action, resource) when { context.time.hour < 6 };\n"
	write(night)
	do(0, "It could be done: put night.cedar would be revision 1", "policy", "put", file, "--dry-run")
	do(0, "There are no guardrails", "policy", "list")
	do(0, "In force: revision 1 (put night.cedar)", "policy", "put", file, "--why", "nobody is up")
	if got := do(0, "night", "policy", "show", "night.cedar"); got.out != night {
		t.Errorf("it shows %q", got.out)
	}
	write("forbid(principal, action, resource) when { context.time.hour < \"six\" };")
	do(1, "night.cedar:1:1", "policy", "put", file)
	write(strings.Replace(night, "6", "7", 1))
	do(4, "it has changed since you read it", "policy", "put", file, "--over", "9")
	do(0, "revision 2", "policy", "put", file, "--over", "1")
	do(0, "revision 2", "policy", "put", file)
	do(0, "< 6", "policy", "show", "night.cedar", "--revision", "1")
	do(0, "put night.cedar", "policy", "history", "night.cedar")
	do(0, "revision 3 (reverted to 1)", "policy", "revert", "1", "--why", "too long")
	do(0, "too long", "policy", "list")
	do(0, "// night.cedar\n// nobody is up", "policy", "show")
	typed(t, night, append([]string{"policy", "put", "-", "--name", "again.cedar"}, p.flags()...)...).want(t, 1, "another policy has the same name")
	do(2, "say --name", "policy", "put", "-")
	do(3, "there is no file", "policy", "show", "ghost")
	do(3, "revision 99", "policy", "revert", "99")
	do(3, "", "policy", "remove", "ghost", "--yes")
	do(0, "It could be done", "policy", "remove", "night.cedar", "--dry-run")
	do(1, "nothing was done", "policy", "remove", "night.cedar")
	do(0, "revision 4 (removed night.cedar)", "policy", "remove", "night.cedar", "--yes")
	do(0, "There are no guardrails", "policy", "list")
	do(0, "policy/night.cedar", "audit", "list", "--kind", "registry")
	in := filepath.Join(dir, "input.json")
	if err := os.WriteFile(in, []byte(`{"stage":"exchange","scopes":["mail.send"],"agent":{"id":"mailer"},"user":{"id":"alice"},"target":{"id":"mail"},"now":"2030-01-02T03:00:00Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	do(0, "allowed", "policy", "explain", in)
	do(0, "revision 5", "policy", "revert", "2")
	do(0, "refused", "policy", "explain", in)
}

func must(data []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(data)
}

func TestTokensByCommands(t *testing.T) {
	t.Parallel()
	// {"alg":"ES256","kid":"k","typ":"at+jwt"} and {"iss":"https://a.example.com","sub":"alice","act":{"sub":"mailer"},"exp":1,"jti":"j"}
	const compact = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsiLCJ0eXAiOiJhdCtqd3QifQ." +
		"eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZS5jb20iLCJzdWIiOiJhbGljZSIsImFjdCI6eyJzdWIiOiJtYWlsZXIifSwiZXhwIjoxLCJqdGkiOiJqIn0.c2ln"
	typed(t, compact+"\n", "token", "inspect", "-").want(t, 0, "alice", "mailer", "The signature was not checked")
	obolus(t, "token", "inspect", compact, "--json").want(t, 0, `"sub": "alice"`)
	obolus(t, "token", "inspect", "hello").want(t, 2, "it is no JWT")
	obolus(t, "token", "explain", compact).want(t, 1, "it ended", "authorization_details", "vault would refuse this token")
	obolus(t, "token", "explain", compact, "--vault-version", "1.2").want(t, 2, "no version of Vault")
}

func TestTheDoctor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := configFile(t, dir)
	obolus(t, "doctor", "--config", file).want(t, 0, "it can be read", "plain http", "no server runs, and there are no records yet")
	obolus(t, "agent", "list", "--config", file, "--offline").want(t, 0)
	obolus(t, "doctor", "--config", file).want(t, 0, "no server runs; both stores open")
	if err := os.Chmod(filepath.Join(dir, "data", "master.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	obolus(t, "doctor", "--config", file).want(t, 0, "others on this machine can read it")
	running := serve(t, dir)
	obolus(t, "doctor", "--config", file).want(t, 5, "another process holds the records")
	port := strings.TrimPrefix(running.issuer, "http://")
	text := fmt.Sprintf("data: %s\nlisten: %s\n", filepath.Join(dir, "data"), port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	obolus(t, "doctor", "--config", file).want(t, 0, "runs on bolt and memory, in epoch")
	if err := os.WriteFile(file, []byte(text+"live: redis://127.0.0.1:1\nrecords: 'bolt:"+filepath.Join(dir, "other.db")+"'\nlisten: 127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	obolus(t, "doctor", "--config", file).want(t, 2, "already set")
	text = fmt.Sprintf("data: %s\nlisten: 127.0.0.1:1\nlive: redis://127.0.0.1:1\n", filepath.Join(dir, "data-2"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	obolus(t, "doctor", "--config", file).want(t, 5, "the live store (redis://127.0.0.1:1)")
}

func TestTheDemo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args func(t *testing.T) []string
	}{
		{"bolt and memory", func(*testing.T) []string { return nil }},
		{"postgres and redis", func(t *testing.T) []string {
			return []string{"--records", servers.Postgres(t), "--live", servers.Redis(t)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stores := c.args(t)
			for round := range 2 { // stores that remember do not mind a second time
				got := obolus(t, append([]string{"demo"}, stores...)...).want(t, 0, "All 10 steps behaved as they should", "interaction_required", "grant_withdrawn")
				for line := range strings.Lines(got.out) {
					if utf8.RuneCountInString(line) > 81 && strings.Count(strings.TrimSpace(line), " ") > 3 {
						t.Errorf("wider than a terminal: %s", line)
					}
				}
				if strings.Contains(got.out, "\x1b[") {
					t.Errorf("round %d: colours without a terminal", round)
				}
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "obolus-demo-*"))
	if err != nil || len(left) > 0 {
		t.Logf("folders of demos that may be running: %v, %v", left, err)
	}
}

// A demo that is kept ends when it is told to.
func TestAKeptDemoEnds(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	out := &until{words: "question", done: stop}
	stage := operator.Stage{In: strings.NewReader(""), Out: out, Err: out, Now: time.Now, Open: server.Open}
	if err := run(ctx, []string{"demo", "--keep"}, stage); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, words := range []string{"/agents", "/console", "with the password", "question"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
}

// until is an output that says when some words have come, from whichever goroutine.
type until struct {
	mu    sync.Mutex
	text  bytes.Buffer
	words string
	done  func()
}

// Write is for io.Writer.
func (u *until) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, err := u.text.Write(p)
	if strings.Contains(u.text.String(), u.words) {
		u.done()
	}
	return n, err
}

// String is what has come so far.
func (u *until) String() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.text.String()
}
