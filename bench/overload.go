//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// overload is what runOverload is asked for.
type overload struct {
	options
	factors []int
	lasts   time.Duration
	workers int
	procs   int
}

// surged is what came of a load that may be too much.
type surged struct {
	factor               int
	offered, good, shed  float64 // exchanges a second
	half, most           time.Duration
	rss                  int64
	redeemed, redeemable int
	redeemMost           time.Duration
	perCPU               float64       // exchanges in a second of the server's processor time, redemptions counted as half of one
	cpu                  time.Duration // of the server
}

// runOverload offers the server more exchanges than it can carry out, whatever it answers (open loop), and a few redemptions
// beside them. The server has fewer processors than the machine, so that whoever sends has one too.
func runOverload(ctx context.Context, args []string) error {
	o := overload{options: options{progress: os.Stderr, portion: 1, rounds: 1}}
	f := flag.NewFlagSet("bench overload", flag.ContinueOnError)
	factors := f.String("factors", "1,2,5,10", "the loads, in what the server can carry")
	f.DurationVar(&o.lasts, "lasts", 4*time.Second, "how long each load lasts")
	f.IntVar(&o.workers, "connections", 2000, "how many there are at most")
	f.IntVar(&o.procs, "procs", 1, "processors of the server")
	f.StringVar(&o.server, "server", "", "the server's program; empty: this tree is built")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if o.factors, err = numbers(*factors); err != nil {
		return err
	}
	return o.run(ctx, os.Stdout)
}

func (o overload) run(ctx context.Context, out io.Writer) error {
	b, err := newBench(o.options)
	if err != nil {
		return err
	}
	defer b.close()
	binary, err := b.build(ctx)
	if err != nil {
		return err
	}
	w, err := prepareWorld(binary, filepath.Join(b.dir, "overload"), stand{records: "bolt:" + filepath.Join(b.dir, "overload.db"), live: "memory:"})
	if err != nil {
		return err
	}
	b.ends = append(b.ends, w.close)
	if err := w.start(ctx, 1, fmt.Sprint("GOMAXPROCS=", o.procs)); err != nil {
		return err
	}
	if err := w.settle(ctx); err != nil {
		return err
	}
	capacity, err := o.capacity(ctx, w)
	if err != nil {
		return err
	}
	var rows []surged
	for _, factor := range o.factors {
		row, err := o.surge(ctx, w, factor, capacity)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	o.print(out, capacity, rows)
	return nil
}

// capacity is how many exchanges a second the server carries out for as many as wait for each other's answers.
func (o overload) capacity(ctx context.Context, w *world) (float64, error) {
	best := 0.0
	for range 3 {
		requests, err := w.exchange(secretAgent, repeated(w.subject, 3000), nil)
		if err != nil {
			return 0, err
		}
		r, err := load{addr: w.host(), requests: requests, workers: 32}.send(ctx)
		if err := errors.Join(err, r.first); err != nil {
			return 0, err
		}
		best = max(best, r.perSecond())
	}
	return best, nil
}

var errShed = errors.New("the server has too much in hand")

// surge offers that many times what the server can carry out.
func (o overload) surge(ctx context.Context, w *world, factor int, capacity float64) (surged, error) {
	s := surged{factor: factor}
	rate := capacity * float64(factor)
	tokens, err := w.exchanged(ctx, int(o.lasts.Seconds()*capacity/20))
	if err != nil {
		return s, err
	}
	requests, err := w.exchange(secretAgent, repeated(w.subject, min(int(rate*o.lasts.Seconds()), maxLoad)), nil)
	if err != nil {
		return s, err
	}
	var shed, wrong atomic.Int64
	for i := range requests {
		requests[i].check = told(requests[i].check, &shed, &wrong)
	}
	redemptions := make([]request, len(tokens))
	for i, t := range tokens {
		redemptions[i] = w.redemption("/redeem", t, checkRedeemed)
	}
	var rss atomic.Int64
	watching, enough := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		for ; watching.Err() == nil; time.Sleep(50 * time.Millisecond) {
			rss.Store(max(rss.Load(), w.nodes[0].rss()))
		}
	})
	var beside run
	var failed error
	all.Go(func() {
		beside, failed = load{addr: w.host(), requests: redemptions, workers: 64, rate: capacity / 20, sent: true}.send(ctx)
	})
	before, err1 := w.nodes[0].cpu()
	r, err := load{addr: w.host(), requests: requests, workers: o.workers, rate: rate, sent: true}.send(ctx)
	enough()
	all.Wait()
	after, err2 := w.nodes[0].cpu()
	if err := errors.Join(err, failed, err1, err2); err != nil {
		return s, err
	}
	if n := wrong.Load(); n > 0 || r.failed != int(shed.Load()) {
		return s, fmt.Errorf("%d answers were neither a token nor a refusal for too much, and %d requests had none: %w", n, r.failed-int(n+shed.Load()), r.first)
	}
	seconds := r.took.Seconds()
	s.offered, s.good, s.shed = float64(len(requests))/seconds, r.perSecond(), float64(shed.Load())/seconds
	s.half, s.most, s.rss = r.quantile(0.5), r.quantile(0.99), rss.Load()
	s.cpu = after - before
	s.perCPU = (float64(len(r.latencies)) + float64(len(beside.latencies))/2) / s.cpu.Seconds()
	s.redeemed, s.redeemable, s.redeemMost = len(beside.latencies), len(redemptions), beside.quantile(0.99)
	return s, nil
}

// told tells a refusal for too much from what is wrong.
func told(good func(int, []byte) error, shed, wrong *atomic.Int64) func(int, []byte) error {
	return func(status int, body []byte) error {
		if status == http.StatusServiceUnavailable && bytes.Contains(body, []byte("temporarily_unavailable")) {
			shed.Add(1)
			return errShed
		}
		err := good(status, body)
		if err != nil {
			wrong.Add(1)
		}
		return err
	}
}

func (o overload) print(out io.Writer, capacity float64, rows []surged) {
	fmt.Fprintf(out, "%.0f exchanges a second (closed loop) on %d processor(s)\n\n", capacity, o.procs)
	best := 0.0
	for _, r := range rows {
		best = max(best, r.perCPU)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join([]string{"load", "offered/s", "good/s", "503/s", "good/CPU s", "of the best", "p50 ms", "p99 ms", "redeemed", "p99 ms", "RSS MB", ""}, "\t"))
	ms := func(d time.Duration) string {
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64)
	}
	for _, r := range rows {
		fmt.Fprintf(t, "%d×\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f %%\t%s\t%s\t%d of %d\t%s\t%d\t\n", r.factor, r.offered, r.good, r.shed, r.perCPU, 100*r.perCPU/best, ms(r.half), ms(r.most),
			r.redeemed, r.redeemable, ms(r.redeemMost), r.rss>>20)
	}
	_ = t.Flush() // out says what is wrong with it
}
