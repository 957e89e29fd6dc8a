//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain lets the test's program be its own children.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "child" || os.Args[1] == "fill") {
		if err := command(context.Background(), os.Args[1:]); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if built.Load() {
		if path, err := server(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

var built atomic.Bool

// server is the program, built once.
var server = sync.OnceValues(func() (string, error) {
	built.Store(true)
	b, err := newBench(options{quick: true})
	if err != nil {
		return "", err
	}
	return b.build(context.Background())
})

func quick(t *testing.T, said *bytes.Buffer) options {
	t.Helper()
	path, err := server()
	if err != nil {
		t.Fatal(err)
	}
	return options{rounds: 1, portion: 0.004, redis: true, most: time.Minute, quick: true, server: path, progress: said}
}

// TestEveryScenario sends a handful of each request to the real server, on every stand, and holds what is written against
// itself.
func TestEveryScenario(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	o := quick(t, &said)
	o.loaded = 20 * time.Millisecond
	r, err := measureAll(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	for _, group := range []string{groupMemory, groupRedis} {
		for _, op := range []string{opSecret, opKey, opFresh, opBound, opRedeem, opLook, opKeys, opStory} {
			l := r.line(group, op)
			if l.PerSecond == 0 || l.P50 == 0 || l.Errors != 0 || l.Floor == 0 && op != opKeys {
				t.Errorf("%s, %s: %+v; %s", group, op, l, r.Notes)
			}
		}
	}
	if l := r.line(groupGuard, opGuard); l.PerSecond == 0 || l.Errors != 0 {
		t.Errorf("guard: %+v", l)
	}
	for _, name := range []string{floorVerify, floorSign, floorVerifyEd, floorSignEd, floorGuard, floorSyncWall} {
		if r.Floors[name] == 0 {
			t.Errorf("%s was not measured", name)
		}
	}
	if len(r.Targets) < 8 || r.Facts["cold_start_ms"] == 0 || r.Facts["binary_bytes"] == 0 {
		t.Errorf("%d targets, facts %v", len(r.Targets), r.Facts)
	}
	var table bytes.Buffer
	r.print(&table)
	if !strings.Contains(table.String(), "Targets:") || !strings.Contains(r.picture(), "</svg>") {
		t.Error("the table or the picture is not whole")
	}
	name := filepath.Join(t.TempDir(), "run.json")
	if err := r.write(name); err != nil {
		t.Fatal(err)
	}
	again, err := readReport(name)
	if err != nil {
		t.Fatal(err)
	}
	if compare(&table, r, again) != 0 {
		t.Error("a run is worse than itself")
	}
	written(t, name)
}

// written has a run written into a copy of the page.
func written(t *testing.T, run string) {
	t.Helper()
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(run)
	doc, scaled := filepath.Join(dir, "page.md"), filepath.Join(dir, "scale.json")
	sizes := `{"sizes":[{"name":"7","agents":7,"tokens":7,"exchange_cpu":100}],"replicas":[{"replicas":1,"exchange_cpu":100,"exchange_redis_cpu":50}]}`
	if err := errors.Join(os.WriteFile(doc, page, 0o600), os.WriteFile(scaled, []byte(sizes), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := runDocs([]string{"-doc", doc, "-run", run, "-scale", scaled}); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| **" + groupMemory + "** |", "| 7 | 7 | 100 |", "| " + opBarePost + " |", "| Redis | 50 |"} {
		if !strings.Contains(string(now), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	report := func(verify, cpu, allocs float64, target float64) *Report {
		return &Report{
			Floors: map[string]float64{floorVerify: verify}, Lines: []Line{{Group: groupMemory, Name: opKey, CPU: cpu, Allocs: allocs, Spread: .04}},
			Targets: []Target{{Name: "t", Limit: 1, Got: target}},
		}
	}
	for _, c := range []struct {
		name     string
		old, new *Report
		worse    int
	}{
		{"the same", report(70, 400, 500, 1), report(70, 400, 500, 1), 0},
		{"a slower machine", report(70, 400, 500, 1), report(140, 800, 500, 1), 0},
		{"dearer", report(70, 400, 500, 1), report(70, 460, 500, 1), 1},
		{"within the noise", report(70, 400, 500, 1), report(70, 430, 500, 1), 0},
		{"more garbage", report(70, 400, 500, 1), report(70, 400, 520, 1), 1},
		{"better", report(70, 400, 500, 1), report(70, 300, 400, 0.5), 0},
		{"a target is lost", report(70, 400, 500, 1), report(70, 400, 500, 1.1), 1},
		{"an operation is new", &Report{}, report(70, 400, 500, 1), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var said bytes.Buffer
			if got := compare(&said, c.old, c.new); got != c.worse {
				t.Errorf("%d, not %d:\n%s", got, c.worse, said.String())
			}
		})
	}
}

// TestFilled fills stores and uses what was filled in.
func TestFilled(t *testing.T) {
	t.Parallel()
	var said, table bytes.Buffer
	o := scale{options: quick(t, &said), sizes: []int{300}, mostAgent: 60, n: 20, out: filepath.Join(t.TempDir(), "scale.json")}
	if err := o.run(t.Context(), &table); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	data, err := os.ReadFile(o.out)
	if err != nil || !bytes.Contains(data, []byte(`"redis_bytes_per_token"`)) {
		t.Errorf("%v: %s", err, data)
	}
}

// TestOverloaded offers ten times too much for a moment; no request is without an answer.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	var said, table bytes.Buffer
	o := overload{options: quick(t, &said), factors: []int{1, 10}, lasts: 300 * time.Millisecond, workers: 50, procs: 1}
	if err := o.run(t.Context(), &table); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	if got := table.String(); !strings.Contains(got, "10×") || strings.Count(got, "\n") != 5 {
		t.Errorf("%s", got)
	}
}
