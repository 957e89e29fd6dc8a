//go:build linux

// Command bench measures what the server costs, beside the least that it could and beside others; docs/performance.md tells how.
//
//	go run ./bench                              measure, and write bin/bench.json and bin/bench.svg
//	go run ./bench -compare old.json new.json   say what became worse
//	go run ./bench scale                        with a thousand, a hundred thousand, a million of everything; with replicas
//	go run ./bench fill …                       make that many, straight into the stores
//	go run ./bench overload                     what becomes of more than the server can carry
//	go run ./bench docs                         write the tables of both into docs/performance.md
//	go run ./bench profile                      where the time goes, for go tool pprof
//
// It sends to 127.0.0.1 alone, and never more than a bounded number of requests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func now() time.Time { return time.Now() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return runAll(ctx, args)
	}
	switch args[0] {
	case "child":
		if len(args) < 2 || children()[args[1]] == nil {
			return errors.New("child of what?")
		}
		return children()[args[1]](ctx, args[2:])
	case "scale":
		return runScale(ctx, args[1:])
	case "overload":
		return runOverload(ctx, args[1:])
	case "fill":
		return runFill(ctx, args[1:])
	case "docs":
		return runDocs(args[1:])
	case "profile":
		return runProfile(ctx, args[1:])
	default:
		return runAll(ctx, args)
	}
}

var errWorse = errors.New("it became worse")

// runAll is the ordinary run.
func runAll(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{progress: os.Stderr}
	f.IntVar(&o.rounds, "rounds", 3, "how often everything is measured")
	f.Float64Var(&o.portion, "portion", 1, "of the usual number of requests")
	f.BoolVar(&o.peers, "peers", true, "measure others too, if they can be had")
	f.BoolVar(&o.redis, "redis", true, "measure on Redis too, if it is installed")
	f.DurationVar(&o.most, "most", 110*time.Second, "that the rounds may take: after two of them no other is begun that would take longer")
	f.DurationVar(&o.loaded, "loaded", 1500*time.Millisecond, "how long operations run at 70 % load")
	f.StringVar(&o.server, "server", "", "the server's program; empty: this tree is built")
	out := f.String("out", filepath.Join("bin", "bench"), "where the files go: OUT.json, OUT.svg")
	old := f.String("compare", "", "say what is worse than in this earlier run: with a file as argument that one is compared, without it a new run")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *old == "" {
		_, err := measured(ctx, o, *out)
		return err
	}
	was, err := readReport(*old)
	if err != nil {
		return err
	}
	var is *Report
	if f.NArg() == 1 {
		is, err = readReport(f.Arg(0))
	} else {
		is, err = measured(ctx, o, *out)
	}
	if err != nil {
		return err
	}
	return verdict(was, is)
}

// measured is a run, printed and written.
func measured(ctx context.Context, o options, out string) (*Report, error) {
	r, err := measureAll(ctx, o)
	if err != nil {
		return nil, err
	}
	r.print(os.Stdout)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, err
	}
	return r, errors.Join(r.write(out+".json"), os.WriteFile(out+".svg", []byte(r.picture()), 0o600))
}

func verdict(old, new *Report) error {
	if compare(os.Stdout, old, new) > 0 {
		return errWorse
	}
	return nil
}

func measureAll(ctx context.Context, o options) (*Report, error) {
	b, err := newBench(o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.plan(ctx); err != nil {
		return nil, err
	}
	if b.facts["cold_start_ms"], err = b.coldStart(ctx, b.binary); err != nil {
		return nil, err
	}
	if err := b.run(ctx); err != nil {
		return nil, err
	}
	r, err := b.report(ctx)
	if err == nil && b.fails > 0 {
		err = fmt.Errorf("%d requests were not answered as they must be", b.fails)
	}
	return r, err
}
