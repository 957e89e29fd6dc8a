//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// listener is a file that is laid over the server's own when it is built to be profiled: the product has no such listener.
//
//go:embed testdata/listener.go.txt
var listener []byte //nolint:gochecknoglobals // an embedded file

// runProfile drives one operation and takes the server's profiles.
func runProfile(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench profile", flag.ContinueOnError)
	o := options{progress: os.Stderr, portion: 1, rounds: 1}
	op := f.String("op", opKey, "the operation, by its name in the table")
	f.BoolVar(&o.redis, "redis", false, "live data in Redis")
	n := f.Int("n", 10_000, "requests")
	out := f.String("out", filepath.Join("bin", "profile"), "where the files go: OUT.server, OUT.cpu, OUT.allocs")
	if err := f.Parse(args); err != nil {
		return err
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	return b.profile(ctx, *op, *n, *out)
}

func (b *bench) profile(ctx context.Context, op string, n int, out string) error {
	extra, overlay := filepath.Join(b.dir, "listener.go"), filepath.Join(b.dir, "overlay.json")
	over, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(b.root, "cmd", "obolus", "zz_listener.go"): extra}})
	if err := errors.Join(err, os.WriteFile(extra, listener, 0o600), os.WriteFile(overlay, over, 0o600), os.MkdirAll(filepath.Dir(out), 0o755)); err != nil {
		return err
	}
	binary, err := b.build(ctx, "-overlay", overlay, "-ldflags", "")
	if err != nil {
		return err
	}
	addr, err := freePort()
	if err != nil {
		return err
	}
	on := stand{records: "bolt:" + filepath.Join(b.dir, "profiled", "records.db"), live: "memory:"}
	var r *child
	if b.redis {
		if r, err = startRedis(ctx, b.dir); err != nil {
			return err
		}
		b.ends = append(b.ends, r.end)
		on.live = "redis://" + r.addr
	}
	w, err := prepareWorld(binary, filepath.Join(b.dir, "profiled"), on)
	if err != nil {
		return err
	}
	b.ends = append(b.ends, w.close)
	if err := w.start(ctx, 1, "BENCH_PROFILE_ADDR="+addr); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	if err := b.planServer(ctx, groupMemory, w, r); err != nil {
		return err
	}
	for _, e := range b.entries {
		if e.name == op {
			return b.takeProfile(ctx, e, profiled{addr: addr, binary: binary, n: n, out: out})
		}
	}
	return fmt.Errorf("no operation %q", op)
}

// profiled is a server with the listener, and what is wanted of it.
type profiled struct {
	addr, binary string
	n            int
	out          string
}

func (b *bench) takeProfile(ctx context.Context, e *entry, p profiled) error {
	warm, err := b.measure(ctx, e, 1000)
	if err != nil {
		return err
	}
	seconds := max(int(float64(p.n)/max(warm.perSecond, 1)), 1)
	requests, err := e.prepare(ctx, p.n)
	if err != nil {
		return err
	}
	taken := make(chan error, 1)
	go func() {
		data, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.addr, min(seconds, 15)))
		taken <- errors.Join(err, os.WriteFile(p.out+".cpu", data, 0o600))
	}()
	time.Sleep(100 * time.Millisecond)
	before, err := e.at.cpu()
	if err != nil {
		return err
	}
	r, err := load{addr: e.addr, requests: requests, workers: workers}.send(ctx)
	if err = errors.Join(err, r.first); err != nil {
		return err
	}
	after, err := e.at.cpu()
	if err = errors.Join(err, <-taken); err != nil {
		return err
	}
	data, err := fetch(ctx, "http://"+p.addr+"/debug/pprof/allocs")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(p.binary)
	if err := errors.Join(err, os.WriteFile(p.out+".allocs", data, 0o600), os.WriteFile(p.out+".server", program, 0o755)); err != nil {
		return err
	}
	fmt.Printf("%s: %.0f requests/s, %.1f µs\ngo tool pprof -http 127.0.0.1: %s.server %s.cpu\n", e.name, r.perSecond(), micros(after-before)/float64(p.n), p.out, p.out)
	return nil
}
