//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
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
	factor                 int
	took                   time.Duration
	noisy, quiet, redeemed flooded
	cpu                    time.Duration // of the server
	rss                    []int64       // of the server, again and again
}

// runOverload offers the server more exchanges of one agent than it can carry out, whatever it answers (open loop), and beside them a few of
// another one and a few redemptions. The server has the first processors for itself, whoever sends has the last.
func runOverload(ctx context.Context, args []string) error {
	o := overload{options: options{progress: os.Stderr, portion: 1, rounds: 1}}
	f := flag.NewFlagSet("bench overload", flag.ContinueOnError)
	factors := f.String("factors", "1,10,2,10,5,10,1", "the loads, in what the server can carry")
	f.DurationVar(&o.lasts, "lasts", 7*time.Second, "how long each load lasts")
	f.IntVar(&o.workers, "connections", 2000, "of the agent that is too much")
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
	if err := errors.Join(bind(w.nodes[0].cmd.Process.Pid, o.procs), w.settle(ctx)); err != nil {
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

// flood is one of these shares.
func (o overload) flood(w *world, shares ...*share) *flood {
	f := &flood{addr: w.host(), lasts: o.lasts, cpu: -1, shares: shares}
	if n := runtime.NumCPU(); o.procs < n {
		f.cpu = n - 1
	}
	return f
}

// noisy are the exchanges of an agent that authenticates by a secret: nothing costs the server less, and the sender nothing at all.
func (o overload) noisy(w *world) (*share, error) {
	one, err := w.exchange(secretAgent, []string{w.subject}, nil)
	if err != nil {
		return nil, err
	}
	return &share{raw: func(int) []byte { return one[0].raw }, good: []byte(`"access_token"`)}, nil
}

// capacity is how many exchanges a second the server carries out for as many as wait for each other's answers.
func (o overload) capacity(ctx context.Context, w *world) (float64, error) {
	best := 0.0
	for range 3 {
		s, err := o.noisy(w)
		if err != nil {
			return 0, err
		}
		s.connections = 64
		f := o.flood(w, s)
		f.lasts = min(o.lasts, 3*time.Second)
		if err := f.send(ctx); err != nil {
			return 0, err
		}
		if good := len(s.latencies); good < s.sent {
			return 0, fmt.Errorf("%d of %d answers were not good: %.300s", s.sent-good, s.sent, s.first)
		}
		best = max(best, float64(len(s.latencies))/f.lasts.Seconds())
	}
	return best, nil
}

// listed is a share of requests that are sent once each, as many in a second as last for as long as the flood.
func (o overload) listed(raws [][]byte, good string) *share {
	return &share{
		raw: func(i int) []byte { return raws[i] }, good: []byte(good), most: len(raws), connections: 64,
		rate: float64(len(raws)) / o.lasts.Seconds(),
	}
}

// surge offers that many times what the server can carry out, and a twentieth and a fiftieth of it beside.
func (o overload) surge(ctx context.Context, w *world, factor int, capacity float64) (surged, error) {
	s := surged{factor: factor, took: o.lasts}
	all := int(o.lasts.Seconds() * capacity)
	tokens, err := w.exchanged(ctx, max(1, all/20))
	if err != nil {
		return s, err
	}
	redemptions := make([][]byte, len(tokens))
	for i, t := range tokens {
		redemptions[i] = w.redemption("/redeem", t, nil).raw
	}
	signed := make([][]byte, max(1, all/50))
	for i := range signed {
		form, head, err := w.exchangeForm(keyAgent, w.subject, mailURI, scope)
		if err != nil {
			return s, err
		}
		signed[i] = raw(http.MethodPost, "/token", w.host(), head, form)
	}
	noisy, err := o.noisy(w)
	if err != nil {
		return s, err
	}
	noisy.rate, noisy.connections = capacity*float64(factor), o.workers
	quiet, redeemed := o.listed(signed, `"access_token"`), o.listed(redemptions, `"redemption":"first"`)
	watching, enough := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for ; watching.Err() == nil; time.Sleep(100 * time.Millisecond) {
			s.rss = append(s.rss, w.nodes[0].memory("RssAnon"))
		}
	})
	before, err1 := w.nodes[0].cpu()
	sent := make(chan error)
	go func() { sent <- o.flood(w, noisy, quiet, redeemed).send(ctx) }()
	err = <-sent
	after, err2 := w.nodes[0].cpu()
	enough()
	watcher.Wait()
	s.cpu, s.noisy, s.quiet, s.redeemed = after-before, noisy.flooded, quiet.flooded, redeemed.flooded
	return s, errors.Join(err, err1, err2, noisy.fault(), quiet.fault(), redeemed.fault())
}

// fault is that there were requests without an answer, or answers that were neither good nor a refusal for too much.
func (r flooded) fault() error {
	switch {
	case r.lost > 0:
		return fmt.Errorf("%d of %d requests had no answer", r.lost, r.sent)
	case r.wrong == 0:
		return nil
	}
	return fmt.Errorf("%d answers were neither good nor a refusal for too much: %.300s", r.wrong, r.first)
}

func (o overload) print(out io.Writer, capacity float64, rows []surged) {
	fmt.Fprintf(out, "%.0f exchanges a second (closed loop) on %d processor(s)\n\n", capacity, o.procs)
	best, bestCPU := 0.0, 0.0
	for _, r := range rows {
		best, bestCPU = max(best, r.good()), max(bestCPU, r.perCPU())
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join([]string{
		"load", "due/s", "sent/s", "good/s", "of best", "good/CPU s", "of best", "p50 ms", "p99 ms", "503/s", "p50 ms", "p99 ms", "no answer", "quiet", "p99 ms", "redeemed", "p99 ms", "RSS MB", "", "", "",
	}, "\t"))
	ms := func(list []time.Duration, q float64) string {
		return strconv.FormatFloat(float64(quantile(list, q))/float64(time.Millisecond), 'f', 1, 64)
	}
	for _, r := range rows {
		seconds := r.took.Seconds()
		n := r.noisy
		fmt.Fprintf(t, "%d×\t%.0f\t%.0f\t%.0f\t%.0f %%\t%.0f\t%.0f %%\t%s\t%s\t%.0f\t%s\t%s\t%d\t%d of %d\t%s\t%d of %d\t%s\t%s\t\n", r.factor, capacity*float64(r.factor), float64(n.sent)/seconds, r.good(), 100*r.good()/best,
			r.perCPU(), 100*r.perCPU()/bestCPU, ms(n.latencies, .5), ms(n.latencies, .99), float64(n.refused)/seconds, ms(n.waited, .5), ms(n.waited, .99), n.lost+r.quiet.lost+r.redeemed.lost,
			len(r.quiet.latencies), r.quiet.sent, ms(r.quiet.latencies, .99), len(r.redeemed.latencies), r.redeemed.sent, ms(r.redeemed.latencies, .99), r.memory())
	}
	_ = t.Flush() // out says what is wrong with it
}

// good is how many exchanges a second were carried out, redemptions counted as half of one.
func (r surged) good() float64 {
	return (float64(len(r.noisy.latencies)+len(r.quiet.latencies)) + float64(len(r.redeemed.latencies))/2) / r.took.Seconds()
}

// perCPU is how many in a second of the server's processor time.
func (r surged) perCPU() float64 { return r.good() * r.took.Seconds() / r.cpu.Seconds() }

// memory is what the server had at four moments.
func (r surged) memory() string {
	var at []string
	for i := range 4 {
		at = append(at, strconv.FormatInt(r.rss[(len(r.rss)-1)*i/3]>>20, 10))
	}
	return strings.Join(at, "\t")
}
