//go:build linux

// Command torture breaks everything that Obolus stands on while agents use it, and holds every answer to "one transaction, exactly":
// docs/torture.md. It runs real servers on real stores, writes down who was told what and when, and lets a checker of
// linearizability judge each transaction. It ends with 1 if a promise was broken.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := asChild(role, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 2
	}
	os.Exit(code)
}

// settings are the flags.
type settings struct {
	during time.Duration
	each   int
	seed   uint64
	out    string
	only   string
	self   []string // what makes this program its own child
}

func run(ctx context.Context, args []string) (int, error) {
	var s settings
	flags := flag.NewFlagSet("torture", flag.ContinueOnError)
	flags.DurationVar(&s.during, "for", 10*time.Minute, "how long faults are injected")
	flags.IntVar(&s.each, "each", 0, "how many faults of each kind; 0: one for every 12 s, and at least one")
	flags.Uint64Var(&s.seed, "seed", 1, "what the plan of faults follows from")
	flags.StringVar(&s.out, "o", "bin/torture", "the folder for the report, the picture and broken histories")
	flags.StringVar(&s.only, "only", "", "one installation of: "+strings.Join(names(shapes()), ", "))
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return 2, nil //nolint:nilerr // the flags have said what is wrong
	}
	if s.each == 0 {
		s.each = max(1, int(s.during/(11*time.Second)))
	}
	r, err := torture(ctx, s, s.shapes(), os.Stdout)
	if err != nil {
		return 2, err
	}
	if err := r.write(s.out); err != nil {
		return 2, err
	}
	r.print(os.Stdout)
	if r.broken() {
		fmt.Fprintln(os.Stdout, "\nA promise was broken: see", filepath.Join(s.out, "violations"))
		return 1, nil
	}
	return 0, nil
}

func names(all []shape) []string {
	var list []string
	for _, s := range all {
		list = append(list, s.name)
	}
	return list
}

func (s settings) shapes() []shape {
	var chosen []shape
	for _, one := range shapes() {
		if s.only == "" || s.only == one.name {
			chosen = append(chosen, one)
		}
	}
	return chosen
}

// torture runs all installations side by side: while one is down another works.
func torture(ctx context.Context, s settings, all []shape, out *os.File) (*report, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("no installation is called %q", s.only)
	}
	dir, err := os.MkdirTemp("", "obolus-torture-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintf(out, "seed %d, %s, %d faults of each kind in each of %s\n", s.seed, s.during, s.each, strings.Join(names(all), ", "))
	start := time.Now()
	var worlds []*world
	defer func() {
		for _, w := range worlds {
			w.close()
		}
	}()
	for _, one := range all {
		w, err := build(ctx, one, dir, s.self, start)
		if err != nil {
			return nil, err
		}
		worlds = append(worlds, w)
	}
	r := &report{settings: s, start: start, warm: time.Since(start)}
	ended := make(chan struct{})
	go r.progress(worlds, ended, out)
	parts, errs := make([]part, len(worlds)), make([]error, len(worlds))
	var together sync.WaitGroup
	for i, w := range worlds {
		together.Go(func() { parts[i], errs[i] = w.torture(ctx, s) })
	}
	together.Wait()
	close(ended)
	r.parts, r.took = parts, time.Since(start)
	return r, errors.Join(errs...)
}

// part is what became of one installation.
type part struct {
	*world
	verdict
	faults []fault
	until  int64 // when the faults were over
}

// torture works and breaks, then heals and judges.
func (w *world) torture(ctx context.Context, s settings) (part, error) {
	r := rate{during: s.during, each: s.each}
	n := &nemesis{world: w}
	w.faults.Store(n)
	found := &findings{}
	working := make(chan struct{})
	go func() {
		defer close(working)
		w.work(ctx, s.seed, found)
	}()
	supervised, leave := context.WithCancel(ctx)
	defer leave()
	go n.supervise(supervised)
	err := n.run(ctx, w.plan(s.seed, r), r)
	until := w.history.now()
	if err == nil {
		err = n.heal(ctx)
	}
	time.Sleep(min(s.during/20, 2*time.Second)) // what is old is tried once more
	w.quiet.Store(true)
	<-working
	if err != nil {
		return part{}, err
	}
	leave()
	if err := w.restart(); err != nil {
		return part{}, err
	}
	if err := n.heal(ctx); err != nil {
		return part{}, err
	}
	w.lastAttack(ctx)
	w.history.sort()
	v, err := w.judge(ctx, found)
	return part{world: w, verdict: v, faults: n.done, until: until}, err
}

// restart starts every server anew: what they remember is in the stores.
func (w *world) restart() error {
	for _, r := range w.servers {
		for !r.down.CompareAndSwap(false, true) {
			time.Sleep(time.Millisecond)
		}
		r.kill()
		if err := r.start(); err != nil {
			return err
		}
	}
	return nil
}

// lastAttack tries the newest of what was redeemed or stopped once more.
func (w *world) lastAttack(ctx context.Context) {
	last := &worker{world: w, client: w.workers + 2, dice: newRandom(1)}
	for _, t := range w.history.recent() {
		last.redeem(ctx, last.attempt(t))
	}
}
