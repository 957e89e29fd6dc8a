package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a person gets wrong in the first week is told in words that say what to do, and with an exit code that a script understands.
func TestMistakesAreTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := func(name, listen string) string {
		t.Helper()
		text := "data: " + at(name) + "\nlisten: " + listen + "\n"
		if err := os.WriteFile(at(name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name + ".yaml")
	}
	nobody := config("nobody", "127.0.0.1:1") // where no server is and none was
	p := serve(t, dir)
	address := strings.TrimPrefix(p.issuer, "http://")
	wanderer := config("wanderer", address) // where a server is whose data is somewhere else
	obolus(t, append([]string{"agent", "add", "helper", "--new-key", at("helper.pem")}, p.flags()...)...).want(t, 0)
	for name, text := range map[string]string{"empty.token": "\n", "good.token": "a.b.c\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exchange := func(agent, key, subject string, more ...string) []string {
		return append([]string{"token", "exchange", "--agent", agent, "--key", at(key), "--subject", subject, "--server", p.issuer, "--wait", "0"}, more...)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a wrong word", []string{"agnet", "list"}, 2, `did you mean "agent"?`},
		{"a wrong flag", []string{"agent", "list", "--jsno"}, 2, "`obolus agent list --help` shows how"},
		{"help as others have it", []string{"help", "agent", "suspend"}, 0, "Usage: obolus agent suspend"},
		{"the version as others have it", []string{"--version"}, 0, "obolus "},
		{"no scheme", []string{"agent", "list", "--server", "127.0.0.1:8420"}, 2, `"127.0.0.1:8420" is no URL such as http://`},
		{"no file with a token", []string{"agent", "list", "--server", p.issuer, "--token-file", at("none")}, 2, "--token-file says where it is"},
		{"a server of somebody else", []string{"agent", "list", "--config", wanderer}, 1, "the operators' token cannot be read"},
		{"no server and no records", []string{"agent", "list", "--config", nobody}, 5, "`obolus serve` starts a server"},
		{"a doctor where nothing is", []string{"doctor", "--config", nobody}, 0, "there are no records yet"},
		{"an address that is taken", []string{"serve", "--data", at("second"), "--listen", taken.Addr().String()}, 1, "another program listens on " + taken.Addr().String()},
		{"an address that is none", []string{"serve", "--listen", "8420"}, 2, `--listen: "8420" is no address such as`},
		{"an agent that is not there", append([]string{"agent", "show", "helpr"}, p.flags()...), 3, "`obolus agent list` shows what there is"},
		{"a key that is there", append([]string{"agent", "add", "other", "--new-key", at("helper.pem")}, p.flags()...), 1, "no key is written over"},
		{"a resource that is not there", append([]string{"agent", "edit", "helper", "--resource", "mial"}, p.flags()...), 0, "Note: there is no resource mial yet."},
		{"a server that is not there", append([]string{"resource", "add", "mail", "https://mail.example.com", "--scope", "mail.send", "--served-by", "mail-servr"}, p.flags()...), 0, "no client and no agent mail-servr"},
		{"a scope that is not there", append([]string{"agent", "edit", "helper", "--resource", "mail", "--scope", "mail.sned"}, p.flags()...), 0, "has the scope mail.sned"},
		{"a password from nowhere", append([]string{"user", "add", "bob"}, p.flags()...), 2, "obolus: the password is empty"},
		{"no server to exchange at", exchange("helper", "helper.pem", at("good.token"), "--server", "http://127.0.0.1:1"), 5, "no server answers at http://127.0.0.1:1"},
		{"a misspelt agent", exchange("helpr", "helper.pem", at("good.token")), 1, "no agent is registered as helpr, or the key in"},
		{"an empty token", exchange("helper", "helper.pem", at("empty.token")), 2, "empty.token holds no token"},
		{"a key for a token", exchange("helper", "helper.pem", at("helper.pem")), 2, "helper.pem holds no token"},
		{"a token that is not there", exchange("helper", "helper.pem", at("none")), 2, "--subject: open"},
		{"a refusal for programs", exchange("helper", "helper.pem", at("good.token"), "--json"), 1, `"error": "invalid_request"`},
	} {
		t.Run(c.name, func(t *testing.T) { obolus(t, c.args...).want(t, c.code, c.want) })
	}
	if _, err := os.Stat(at("nobody")); err == nil {
		t.Error("a command that only looks has begun a store")
	}
}

// A registration that was refused leaves no key behind, so that the same command can be tried again.
func TestARefusedRegistrationLeavesNoKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	key := filepath.Join(dir, "helper.pem")
	add := append([]string{"agent", "add", "helper", "--new-key", key}, p.flags()...)
	obolus(t, append(add, "--details-type", "nonsense")...).want(t, 1, "there is no type")
	obolus(t, add...).want(t, 0, "Its private key is in")
	again := filepath.Join(dir, "again.pem")
	obolus(t, append([]string{"agent", "add", "helper", "--new-key", again}, p.flags()...)...).want(t, 4, "the agent helper is registered already")
	if _, err := os.Stat(again); err == nil {
		t.Error("the key of a registration that was refused is there")
	}
	obolus(t, append([]string{"agent", "resume", "helper"}, p.flags()...)...).want(t, 0)
}
