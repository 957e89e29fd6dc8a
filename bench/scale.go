//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// scale is what runScale is asked for.
type scale struct {
	options
	sizes     []int
	mostAgent int
	replicas  []int
	n         int
	out       string
	postgres  bool // the sizes are measured on PostgreSQL and Redis
}

// Scaled is one size, or one number of replicas.
type Scaled struct {
	Name        string  `json:"name"`
	Agents      int     `json:"agents,omitempty"`
	Tokens      int     `json:"tokens,omitempty"`
	Replicas    int     `json:"replicas"`
	Exchange    float64 `json:"exchange_cpu"`
	ExchangeDB  float64 `json:"exchange_redis_cpu"`
	Redeem      float64 `json:"redeem_cpu"`
	RedeemDB    float64 `json:"redeem_redis_cpu"`
	Records     float64 `json:"records_cpu,omitempty"` // PostgreSQL, for an exchange
	RecordsToo  float64 `json:"redeem_records_cpu,omitempty"`
	PerSecond   float64 `json:"exchanges_per_second"`
	TokenBytes  float64 `json:"redis_bytes_per_token,omitempty"`
	RedisMB     float64 `json:"redis_mb"`
	RecordsMB   float64 `json:"records_mb,omitempty"`
	RSS         float64 `json:"rss_mb"`
	ColdStart   float64 `json:"cold_start_ms,omitempty"`
	FillSeconds float64 `json:"fill_seconds,omitempty"`
}

// runScale measures what more of everything costs.
func runScale(ctx context.Context, args []string) error {
	var o scale
	f := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	o.progress = os.Stderr
	sizes := f.String("sizes", "1000,100000,1000000", "how many agents, grants and outstanding tokens")
	ten := f.Bool("10m", false, "ten million outstanding tokens too, with the agents of the first size: 4 GB of memory, some minutes")
	replicas := f.String("replicas", "1,2,4", "how many servers on one Redis and one PostgreSQL; empty: none")
	f.IntVar(&o.mostAgent, "most-agents", 1_000_000, "of a size above this one the tokens are as many, the agents and grants as few as in the first")
	f.IntVar(&o.rounds, "rounds", 5, "how often everything is measured")
	f.IntVar(&o.n, "n", 1500, "requests of one measurement")
	f.BoolVar(&o.postgres, "postgres", false, "measure the sizes on PostgreSQL and Redis instead of bolt and Redis")
	f.StringVar(&o.server, "server", "", "the server's program; empty: this tree is built")
	f.StringVar(&o.out, "out", filepath.Join("bin", "scale.json"), "where the numbers go")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err1, err2 error
	o.sizes, err1 = numbers(*sizes)
	o.replicas, err2 = numbers(*replicas)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if *ten {
		o.sizes = append(o.sizes, 10_000_000)
	}
	o.portion = 1
	return o.run(ctx, os.Stdout)
}

func numbers(s string) ([]int, error) {
	var list []int
	for word := range strings.SplitSeq(s, ",") {
		if word == "" {
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number of something", word)
		}
		list = append(list, n)
	}
	return list, nil
}

func (o scale) run(ctx context.Context, w io.Writer) error {
	b, err := newBench(o.options)
	if err != nil {
		return err
	}
	defer b.close()
	binary, err := b.build(ctx)
	if err != nil {
		return err
	}
	sized, err := o.bySize(ctx, b, binary)
	if err != nil {
		return err
	}
	title := "With more of everything (bolt + Redis)"
	if o.postgres {
		title = "With more of everything (PostgreSQL + Redis)"
	}
	printScaled(w, title, sized)
	replicated, err := o.byReplicas(ctx, b, binary)
	if err != nil {
		fmt.Fprintf(w, "\nreplicas are not measured: %s\n", firstLine(err))
	} else {
		printScaled(w, "Replicas on one Redis and one PostgreSQL", replicated)
	}
	data, err := json.MarshalIndent(scaleReport{Commit: commit(ctx, b.root), Sizes: sized, Replicas: replicated}, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(o.out, append(data, '\n'), 0o600)
}

// installation is one that was filled.
type installation struct {
	Scaled
	w     *world
	redis *child
	pg    *postgresServer
	more  []string // addresses of further replicas
	used  []string // agents that ask
}

// bySize fills one installation for each size and measures them in turns.
func (o scale) bySize(ctx context.Context, b *bench, binary string) ([]Scaled, error) {
	var all []*installation
	for _, size := range o.sizes {
		in, err := o.filled(ctx, b, binary, size)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", size, err)
		}
		all = append(all, in)
	}
	return o.inTurns(ctx, b, all)
}

func (o scale) filled(ctx context.Context, b *bench, binary string, size int) (*installation, error) {
	name := strconv.Itoa(size)
	dir := filepath.Join(b.dir, "size-"+name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r, err := startRedis(ctx, dir)
	if err != nil {
		return nil, err
	}
	b.ends = append(b.ends, r.end)
	on := stand{records: "bolt:" + filepath.Join(dir, "records.db"), live: "redis://" + r.addr}
	var pg *postgresServer
	if o.postgres {
		if pg, err = startPostgres(ctx); err != nil {
			return nil, err
		}
		b.ends = append(b.ends, pg.end)
		on.records = pg.url
	}
	w, err := prepareWorld(binary, dir, on)
	if err != nil {
		return nil, err
	}
	pem, err := w.key.PEM()
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "agents.pem")
	if err := os.WriteFile(keyFile, pem, 0o600); err != nil {
		return nil, err
	}
	in := &installation{w: w, redis: r, pg: pg, Scaled: Scaled{Name: name, Agents: size, Tokens: size, Replicas: 1}}
	if size > o.mostAgent {
		in.Agents = min(o.sizes[0], o.mostAgent) // more tokens alone
	}
	b.say("filling %s: %d agents with a grant each", name, in.Agents)
	began := time.Now()
	f := []string{"fill", "-records", on.records, "-live", on.live, "-issuer", w.issuer, "-key", keyFile}
	if err := b.again(ctx, append(f, "-agents", strconv.Itoa(in.Agents))...); err != nil {
		return nil, err
	}
	before, err := redisInfo(ctx, r.addr, "used_memory")
	if err != nil {
		return nil, err
	}
	b.say("filling %s: %d outstanding tokens", name, size)
	if err := b.again(ctx, append(f, "-tokens", strconv.Itoa(size))...); err != nil {
		return nil, err
	}
	in.FillSeconds = time.Since(began).Seconds()
	after, err := redisInfo(ctx, r.addr, "used_memory")
	if err != nil {
		return nil, err
	}
	in.TokenBytes = (after - before) / float64(size)
	b.ends = append(b.ends, w.close)
	if err := in.coldStarts(ctx, b.starts()); err != nil {
		return nil, err
	}
	asking := min(500, in.Agents)
	for i := range asking {
		in.used = append(in.used, agentID(i*(in.Agents/asking)))
	}
	return in, w.settle(ctx)
}

// again runs this program once more, for something that ends.
func (b *bench) again(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, b.self, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

// coldStarts leaves the server running.
func (in *installation) coldStarts(ctx context.Context, starts int) error {
	var times []float64
	for range starts {
		in.w.close()
		began := time.Now()
		if err := in.w.start(ctx, 1); err != nil {
			return err
		}
		times = append(times, micros(time.Since(began))/1000)
	}
	in.ColdStart = median(times[1:])
	return nil
}

// inTurns measures all installations in every round.
func (o scale) inTurns(ctx context.Context, b *bench, all []*installation) ([]Scaled, error) {
	type got struct{ exchange, exchangeDB, redeem, redeemDB, records, recordsToo, perSecond []float64 }
	results := make([]got, len(all))
	for round := range o.rounds + 1 {
		for i, in := range all {
			b.say("round %d of %d: %s", round, o.rounds, in.Name)
			tokens := make([]string, o.n)
			x, err := in.exchanges(ctx, o.n, tokens)
			if err != nil {
				return nil, err
			}
			r, err := in.redeems(ctx, tokens)
			if err != nil {
				return nil, err
			}
			if round == 0 {
				continue // to warm up
			}
			g := &results[i]
			g.exchange, g.exchangeDB = append(g.exchange, x.cpu), append(g.exchangeDB, x.storeCPU)
			g.redeem, g.redeemDB = append(g.redeem, r.cpu), append(g.redeemDB, r.storeCPU)
			g.records, g.recordsToo, g.perSecond = append(g.records, x.records), append(g.recordsToo, r.records), append(g.perSecond, x.perSecond)
		}
	}
	list := make([]Scaled, len(all))
	for i, in := range all {
		g := results[i]
		in.Exchange, in.ExchangeDB, in.Redeem, in.RedeemDB = median(g.exchange), median(g.exchangeDB), median(g.redeem), median(g.redeemDB)
		in.Records, in.RecordsToo, in.PerSecond = median(g.records), median(g.recordsToo), median(g.perSecond)
		if used, err := redisInfo(ctx, in.redis.addr, "used_memory"); err == nil {
			in.RedisMB = used / (1 << 20)
		}
		if file, ok := strings.CutPrefix(in.w.on.records, "bolt:"); ok {
			if info, err := os.Stat(file); err == nil {
				in.RecordsMB = float64(info.Size()) / (1 << 20)
			}
		}
		in.RSS = float64(in.w.nodes[0].rss()) / (1 << 20)
		list[i] = in.Scaled
	}
	return list, nil
}

// scaleSample is one measurement over all replicas.
type scaleSample struct{ cpu, storeCPU, records, perSecond float64 }

// spent is the processor time of everything that an installation is made of.
type spent struct{ server, redis, records time.Duration }

func (in *installation) meter() (spent, error) {
	var s spent
	for _, n := range in.w.nodes {
		one, err := n.cpu()
		if err != nil {
			return s, err
		}
		s.server += one
	}
	var err error
	if s.redis, err = in.redis.cpu(); err == nil && in.pg != nil {
		s.records, err = in.pg.family()
	}
	return s, err
}

func (in *installation) measure(ctx context.Context, requests []request) (scaleSample, error) {
	before, err := in.meter()
	if err != nil {
		return scaleSample{}, err
	}
	r, err := load{addr: in.w.host(), more: in.more, requests: requests, workers: workers}.send(ctx)
	if err = errors.Join(err, r.first); err != nil {
		return scaleSample{}, err
	}
	after, err := in.meter()
	each := func(was, is time.Duration) float64 { return micros(is-was) / float64(len(requests)) }
	return scaleSample{
		cpu: each(before.server, after.server), storeCPU: each(before.redis, after.redis), records: each(before.records, after.records), perSecond: r.perSecond(),
	}, err
}

func (in *installation) exchanges(ctx context.Context, n int, into []string) (scaleSample, error) {
	requests := make([]request, 0, n)
	for i := range n {
		one, err := in.w.exchange(in.used[i%len(in.used)], []string{in.w.subject}, func(_ int, t string) { into[i] = strings.Clone(t) })
		if err != nil {
			return scaleSample{}, err
		}
		requests = append(requests, one...)
	}
	return in.measure(ctx, requests)
}

func (in *installation) redeems(ctx context.Context, tokens []string) (scaleSample, error) {
	requests := make([]request, len(tokens))
	for i, t := range tokens {
		requests[i] = in.w.redemption("/redeem", t, checkRedeemed)
	}
	return in.measure(ctx, requests)
}

// byReplicas measures several numbers of servers on the same stores, in turns.
func (o scale) byReplicas(ctx context.Context, b *bench, binary string) ([]Scaled, error) {
	var all []*installation
	for _, n := range o.replicas {
		dir := filepath.Join(b.dir, fmt.Sprint("replicas-", n))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		r, err := startRedis(ctx, dir)
		if err != nil {
			return nil, err
		}
		b.ends = append(b.ends, r.end)
		pg, err := startPostgres(ctx)
		if err != nil {
			return nil, err
		}
		b.ends = append(b.ends, pg.end)
		w, err := newWorld(ctx, binary, dir, stand{records: pg.url, live: "redis://" + r.addr}, n)
		if err != nil {
			return nil, err
		}
		b.ends = append(b.ends, w.close)
		in := &installation{w: w, redis: r, pg: pg, used: []string{keyAgent}, Scaled: Scaled{Name: fmt.Sprint(n), Replicas: n}}
		for _, c := range w.nodes[1:] {
			in.more = append(in.more, c.addr)
		}
		all = append(all, in)
	}
	return o.inTurns(ctx, b, all)
}

func printScaled(w io.Writer, title string, list []Scaled) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s; µs of processor time, medians\n\n", title)
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\texchange\t÷ first\tRedis\tPostgreSQL\tredeem\t÷ first\tRedis\texchanges/s\tbytes/token\tRedis MB\trecords MB\tRSS MB\tcold start ms\tfilled in s\t")
	first := list[0]
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.0f\t%s\t%.0f\t%.2f\t%.0f\t%.0f\t%s\t%.0f\t%s\t%.0f\t%s\t%s\t\n", s.Name, s.Exchange, ratio(s.Exchange, first.Exchange), s.ExchangeDB,
			some("%.0f", s.Records), s.Redeem, ratio(s.Redeem, first.Redeem), s.RedeemDB, s.PerSecond, some("%.0f", s.TokenBytes), s.RedisMB, some("%.0f", s.RecordsMB),
			s.RSS, some("%.0f", s.ColdStart), some("%.0f", s.FillSeconds))
	}
	t.Flush()
}
