package server_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"obolus/admin"
	"obolus/cmd/obolus/internal/server"
	"obolus/store/storetest/servers"
)

// rails is what a server decides by.
func (r *running) rails() admin.PolicySet {
	r.t.Helper()
	var set admin.PolicySet
	if _, err := r.admin.Do(r.t.Context(), admin.Call{Method: "GET", Path: "/policies"}, &set); err != nil {
		r.t.Fatal(err)
	}
	return set
}

func (r *running) putRail(name, text string) error {
	_, err := r.admin.Do(r.t.Context(), admin.Call{Method: "PUT", Path: "/policies/" + name, Match: r.tag(name), Body: admin.PolicyText{Text: text}}, nil)
	return err
}

func (r *running) tag(name string) string {
	tag, _ := r.admin.Do(r.t.Context(), admin.Call{Method: "GET", Path: "/policies/" + name}, nil)
	return tag
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// What an operator puts on one server is in force on all of them when it is acknowledged, though one sleeps; and so is its end.
func TestAGuardrailIsInForceWhenItIsAcknowledged(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t)
	shared := "records: " + servers.Postgres(t) + "\nlive: " + redis.URL + "\nkeys: {encryption_key: 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE='}\n"
	one := start(t, load(t, t.TempDir(), shared+errands), server.Options{})
	two := setOut(t, start(t, load(t, t.TempDir(), shared+errands), server.Asleep(server.Options{})))
	for round := range 3 {
		if a := two.exchange(); a.status != http.StatusOK {
			t.Fatalf("%d: before, the other server says %d %s", round, a.status, a.text)
		}
		if err := one.putRail("all.cedar", `@id("all") forbid(principal, action, resource);`); err != nil {
			t.Fatal(err)
		}
		if a := two.exchange(); a.status == http.StatusOK || !strings.Contains(a.text, "guardrail") {
			t.Errorf("%d: after the acknowledgement the other server says %d %s", round, a.status, a.text)
		}
		if _, err := one.admin.Do(t.Context(), admin.Call{Method: "DELETE", Path: "/policies/all.cedar", Match: one.tag("all.cedar")}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// What is put is in force on every server; a server that cannot load it allows nothing until it can.
func TestGuardrailsOfManyServers(t *testing.T) {
	t.Parallel()
	shared := "records: " + servers.Postgres(t) + "\nlive: " + servers.Redis(t) + "\nkeys: {encryption_key: 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE='}\n"
	home := t.TempDir()
	folder := func(name string) string {
		dir := filepath.Join(home, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	one := start(t, load(t, folder("one"), shared+"details: [{type: ticket, about: ticket, members: {seat: {kind: string, rule: equal}}}]\n"), server.Options{})
	two := start(t, load(t, folder("two"), shared), server.Options{})
	const night = `@id("night") forbid(principal, action, resource) when { context.time.hour < 6 };`
	if err := one.putRail("night.cedar", night); err != nil {
		t.Fatal(err)
	}
	if got := one.rails(); got.Revision != 1 || len(got.Policies) != 1 {
		t.Fatalf("it is not in force where it was put: %+v", got)
	}
	if two.rails().Version != one.rails().Version {
		t.Error("it is not in force on the other server")
	}

	// A type of details that only one of them knows.
	if err := one.putRail("ticket.cedar", `forbid(principal, action == Action::"detail/ticket", resource) when { context.detail has seat && context.detail.seat == "1A" };`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other server decides by a set that is over", func() bool { return two.rails().Problem != "" })
	if res, _ := two.get("/readyz"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a server that allows nothing says it is ready: %d", res.StatusCode)
	}
	if res, _ := one.get("/readyz"); res.StatusCode != http.StatusOK {
		t.Errorf("the server that can: %d", res.StatusCode)
	}
	if !strings.Contains(two.log.String(), "nothing is allowed") {
		t.Error("nobody is told")
	}
	var st admin.Status
	if _, err := two.admin.Do(t.Context(), admin.Call{Method: "GET", Path: "/status"}, &st); err != nil || st.Ready || !strings.Contains(strings.Join(st.Warnings, " "), "ticket.cedar:1:1") {
		t.Errorf("its status is %+v, %v", st, err)
	}
	// It starts all the same, so that it can be mended from anywhere.
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	two = start(t, load(t, filepath.Join(home, "two"), shared), server.Options{})
	if two.rails().Problem == "" {
		t.Error("after a restart it allows something")
	}
	if err := two.putRail("more.cedar", strings.Replace(night, "night", "more", 1)); err == nil {
		t.Error("a set that it cannot load was put through it")
	}
	if _, err := two.admin.Do(t.Context(), admin.Call{Method: "POST", Path: "/policy-revisions/1/revert"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := two.rails(); got.Problem != "" || got.Revision != 3 || len(got.Policies) != 1 {
		t.Errorf("mended, it has %+v", got)
	}
	if res, _ := two.get("/readyz"); res.StatusCode != http.StatusOK {
		t.Errorf("mended, it is not ready: %d", res.StatusCode)
	}
	eventually(t, "the first server does not follow", func() bool { return one.rails().Version == two.rails().Version })
}

// Files of the configuration and what operators put are one set: a name is only given once, and what does not go together is refused.
func TestFilesAndPutGuardrailsAreOneSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "night.cedar")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`@id("night") forbid(principal, action, resource);`)
	cfg := load(t, dir, "policies: [{file: night.cedar}]\n")
	r := start(t, cfg, server.Options{})
	name := r.rails().Policies[0].Name
	if err := r.putRail("day.cedar", `@id("night") forbid(principal, action, resource);`); err == nil || !strings.Contains(err.Error(), "another policy has the same name") {
		t.Errorf("an @id of the file: %v", err)
	}
	if err := r.putRail("day.cedar", `@id("day") forbid(principal, action, resource);`); err != nil {
		t.Fatal(err)
	}
	before := r.rails()
	if len(before.Policies) != 2 || name == "day.cedar" {
		t.Fatalf("the set is %+v", before)
	}
	write(`@id("day") forbid(principal, action, resource);`)
	if err := r.Reload(t.Context()); err == nil {
		t.Error("a file took a name that was put")
	}
	if got := r.rails(); got.Version != before.Version || got.Problem != "" {
		t.Errorf("the old set is not in force: %+v", got)
	}
	write(`@id("evening") forbid(principal, action, resource);`)
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	set := r.rails()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := start(t, load(t, dir, "policies: [{file: night.cedar}]\n"), server.Options{}).rails(); got.Version != set.Version || got.Revision != 1 {
		t.Errorf("after a restart it has %+v, want %+v", got, set)
	}
}

// A declared file cannot be put, whatever the declaration calls it.
func TestADeclaredFileIsNotPut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "night.cedar"), []byte(`forbid(principal, action, resource);`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, load(t, dir, "policies: [{file: night.cedar}]\n"), server.Options{})
	err := r.putRail("night.cedar", `permit(principal, action, resource);`)
	p, ok := errors.AsType[*admin.Problem](err)
	if !ok || p.Status != http.StatusConflict {
		t.Errorf("it was put: %v", err)
	}
}
