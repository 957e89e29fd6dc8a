//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is a run, as it is kept to be compared with another one. Times are microseconds, medians over the rounds.
type Report struct {
	Format  int                `json:"format"`
	Commit  string             `json:"commit"`
	Go      string             `json:"go"`
	When    time.Time          `json:"when"`
	Cores   int                `json:"cores"`
	Rounds  int                `json:"rounds"`
	Floors  map[string]float64 `json:"floors"`
	Lines   []Line             `json:"lines"`
	Facts   map[string]float64 `json:"facts"`
	Targets []Target           `json:"targets"`
	Notes   []string           `json:"notes"`
}

const reportFormat = 1

// Line is one operation of one server.
type Line struct {
	Group     string  `json:"group"`
	Name      string  `json:"name"`
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu"`
	Spread    float64 `json:"spread"` // of CPU: (largest − smallest) ÷ median
	StoreCPU  float64 `json:"store_cpu,omitempty"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	P999      float64 `json:"p999"`
	Allocs    float64 `json:"allocs,omitempty"`
	Bytes     float64 `json:"bytes,omitempty"`
	RSS       int64   `json:"rss"`
	Errors    int     `json:"errors"`
	Floor     float64 `json:"floor,omitempty"`
	Sum       string  `json:"floor_sum,omitempty"`
	Loaded    *Loaded `json:"loaded,omitempty"`
}

// Loaded is an operation at part of its load, at a fixed rate.
type Loaded struct {
	Rate   float64 `json:"rate"`
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p999"`
	Errors int     `json:"errors"`
}

// Target is what was aimed for, and what came of it.
type Target struct {
	Name  string  `json:"name"`
	Limit float64 `json:"limit"`
	Got   float64 `json:"got"`
	Least bool    `json:"least,omitempty"` // Limit is the least and not the most
	Where string  `json:"where"`           // the time goes
}

// Met says whether it was reached.
func (t Target) Met() bool {
	if t.Least {
		return t.Got >= t.Limit
	}
	return t.Got > 0 && t.Got <= t.Limit
}

func (t Target) verdict() string {
	switch {
	case t.Met():
		return "met"
	case t.Got == 0:
		return "not measured"
	case t.Least:
		return fmt.Sprintf("missed by %.0f %%", 100*(1-t.Got/t.Limit))
	default:
		return fmt.Sprintf("missed by %.0f %%", 100*(t.Got/t.Limit-1))
	}
}

func (b *bench) report(ctx context.Context) (*Report, error) {
	r := &Report{
		Format: reportFormat, Commit: commit(ctx, b.root), Go: runtime.Version(), When: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(),
		Rounds: b.rounds, Floors: map[string]float64{}, Facts: b.facts, Notes: b.notes,
	}
	for name, list := range b.floors {
		r.Floors[name] = median(list)
	}
	for _, e := range b.entries {
		l := e.line()
		l.Floor, l.Sum = b.floorOf(e)
		var err error
		if l.Loaded, err = b.atLoad(ctx, e); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", e.group, e.name, err)
		}
		r.Lines = append(r.Lines, l)
	}
	r.Targets = r.targets()
	return r, nil
}

func (e *entry) line() Line {
	cpu := e.of(func(s sample) float64 { return s.cpu })
	l := Line{
		Group: e.group, Name: e.name, CPU: median(cpu),
		PerSecond: median(e.of(func(s sample) float64 { return s.perSecond })),
		StoreCPU:  median(e.of(func(s sample) float64 { return s.storeCPU })),
		P50:       median(e.of(func(s sample) float64 { return s.p50 })),
		P99:       median(e.of(func(s sample) float64 { return s.p99 })),
		P999:      median(e.of(func(s sample) float64 { return s.p999 })),
		Allocs:    median(e.of(func(s sample) float64 { return s.allocs })),
		Bytes:     median(e.of(func(s sample) float64 { return s.bytes })),
	}
	low, high := cpu[0], cpu[0]
	for i, s := range e.samples {
		low, high = min(low, cpu[i]), max(high, cpu[i])
		l.RSS = max(l.RSS, s.rss)
		l.Errors += s.errors
	}
	if l.CPU > 0 {
		l.Spread = (high - low) / l.CPU
	}
	return l
}

func commit(ctx context.Context, root string) string {
	out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func (r *Report) line(group, name string) Line {
	for _, l := range r.Lines {
		if l.Group == group && l.Name == name {
			return l
		}
	}
	return Line{}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// targets holds the run against what is aimed for.
func (r *Report) targets() []Target {
	var list []Target
	where := func(l Line) string {
		return fmt.Sprintf("%.0f µs; floor %.0f = %s; above it %.0f µs", l.CPU, l.Floor, l.Sum, l.CPU-l.Floor)
	}
	for _, group := range []string{groupMemory, groupRedis} {
		fresh, seen, redeem := r.line(group, opFresh), r.line(group, opKey), r.line(group, opRedeem)
		if fresh.PerSecond == 0 {
			continue
		}
		list = append(
			list,
			Target{Name: group + ": exchange with private_key_jwt ÷ its floor", Limit: 1.5, Got: ratio(fresh.CPU, fresh.Floor), Where: where(fresh)},
			Target{Name: group + ": the same with a subject seen before ÷ that floor", Limit: 1, Got: ratio(seen.CPU, fresh.Floor), Where: where(seen)},
			Target{Name: group + ": redeem ÷ its floor", Limit: 1.5, Got: ratio(redeem.CPU, redeem.Floor), Where: where(redeem)},
		)
		for _, l := range []Line{seen, redeem} {
			if l.Loaded != nil {
				list = append(list, Target{
					Name: fmt.Sprintf("%s: %s, p99 ÷ p50 at 70 %% load", group, l.Name), Limit: 5, Got: ratio(l.Loaded.P99, l.Loaded.P50),
					Where: l.Loaded.String() + r.bareTail(),
				})
			}
		}
	}
	list = append(list, Target{
		Name: "guard check, in process ÷ one verification", Limit: 1.1, Got: ratio(r.Floors[floorGuard], r.Floors[floorVerify]),
		Where: fmt.Sprintf("%.1f µs; verification %.1f", r.Floors[floorGuard], r.Floors[floorVerify]),
	})
	list = append(list, r.partTargets()...)
	if peer := r.line(zitadelName, opPeerKey); peer.PerSecond > 0 {
		mine := r.line(groupMemory, opFresh)
		list = append(list, Target{
			Name: "exchanges for a second of processor time ÷ those of zitadel/oidc", Limit: 2, Least: true, Got: ratio(peer.CPU, mine.CPU),
			Where: fmt.Sprintf("%.0f µs against %.0f, ours with a durable ledger", mine.CPU, peer.CPU),
		})
	}
	if size := r.Facts["redis_bytes_per_token"]; size > 0 {
		list = append(list, Target{Name: "bytes of Redis for an outstanding token", Limit: 1024, Got: size, Where: "used_memory before and after"})
	}
	if ms := r.Facts["cold_start_ms"]; ms > 0 {
		list = append(list, Target{Name: "cold start, seconds", Limit: 0.1, Got: ms / 1000, Where: "from exec to 200 at /readyz, bolt + memory"})
	}
	return list
}

// bareTail is how long the tail of a bare handler is that waits for the same disk.
func (r *Report) bareTail() string {
	l := r.line(groupFloor, opBareSync).Loaded
	if l == nil {
		return ""
	}
	return fmt.Sprintf("; a bare handler that syncs at 70 %% of its load: %.3g", ratio(l.P99, l.P50))
}

// String is the rate and the latencies.
func (l *Loaded) String() string {
	return fmt.Sprintf("%.0f/s: p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms", l.Rate, l.P50/1000, l.P99/1000, l.P999/1000)
}

// print writes the tables.
func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "Obolus %s, %s, %d cores, %d rounds, %d connections; medians; µs are processor time of the server\n\n", r.Commit, r.Go, r.Cores, r.Rounds, workers)
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests/s\tp50 ms\tp99 ms\tp99.9 ms\tCPU µs\t±\tfloor µs\t÷ floor\tRedis µs\tallocs\tKB\tRSS MB\terrors\t")
	group := ""
	for _, l := range r.Lines {
		if l.Group != group {
			group = l.Group
			fmt.Fprintf(t, "%s\t\t\t\t\t\t\t\t\t\t\t\t\t\t\n", group)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.0f %%\t%s\t%s\t%s\t%s\t%s\t%.0f\t%d\t\n", l.Name, l.PerSecond, l.P50/1000, l.P99/1000, l.P999/1000, l.CPU,
			l.Spread*50, some("%.1f", l.Floor), some("%.2f", ratio(l.CPU, l.Floor)), some("%.1f", l.StoreCPU), some("%.0f", l.Allocs), some("%.1f", l.Bytes/1024),
			float64(l.RSS)/(1<<20), l.Errors)
	}
	t.Flush()
	fmt.Fprintln(w, "\nThe floor, µs:")
	for _, name := range []string{floorVerify, floorSign, floorVerifyEd, floorSignEd, floorSync, floorSyncWall} {
		fmt.Fprintf(w, "  %-16s %8.1f\n", name, r.Floors[name])
	}
	for _, name := range r.tripNames() {
		fmt.Fprintf(w, "  %s: %.1f\n", name, r.Floors[name])
	}
	if size := r.Facts["binary_bytes"]; size > 0 {
		fmt.Fprintf(w, "\nbinary %.1f MB, cold start %.0f ms, %.0f bytes of Redis for an outstanding token\n", size/(1<<20), r.Facts["cold_start_ms"], r.Facts["redis_bytes_per_token"])
	}
	fmt.Fprintln(w, "\nTargets:")
	t = tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	for _, x := range r.Targets {
		sign := "≤"
		if x.Least {
			sign = "≥"
		}
		fmt.Fprintf(t, "  %s\t%s %.4g\t%.4g\t%s\t%s\n", x.Name, sign, x.Limit, x.Got, x.verdict(), x.Where)
	}
	t.Flush()
	if len(r.Notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "- "+n)
	}
}

// tripNames are the floors that are round trips to Redis.
func (r *Report) tripNames() []string {
	names := slices.Sorted(maps.Keys(r.Floors))
	return slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, "Redis") })
}

func some(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

func (r *Report) write(name string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o600)
}

func readReport(name string) (*Report, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Format != reportFormat {
		return nil, fmt.Errorf("%s: format %d, not %d", name, r.Format, reportFormat)
	}
	return &r, nil
}
