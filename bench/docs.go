//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// runDocs writes what runs have found into docs/performance.md, between its marks, and the picture beside it. Nothing in those parts is
// written by hand.
func runDocs(args []string) error {
	f := flag.NewFlagSet("bench docs", flag.ContinueOnError)
	run := f.String("run", filepath.Join("bin", "bench.json"), "what bench wrote")
	scaled := f.String("scale", filepath.Join("bin", "scale.json"), "what bench scale wrote; what is not there stays as it is")
	doc := f.String("doc", filepath.Join("docs", "performance.md"), "the page")
	if err := f.Parse(args); err != nil {
		return err
	}
	page, err := os.ReadFile(*doc)
	if err != nil {
		return err
	}
	r, err := readReport(*run)
	if err != nil {
		return err
	}
	text := string(page)
	for mark, table := range map[string]string{"run": r.markdown(), "floor": r.floorTable(), "targets": r.targetTable(), "load": r.loadTable(), "peers": r.peerList()} {
		if text, err = between(text, mark, table); err != nil {
			return err
		}
	}
	if s, err := readScale(*scaled); err == nil {
		for mark, table := range map[string]string{"sizes": s.sizeTable(), "replicas": s.replicaTable(), "plan": s.planTable()} {
			if text, err = between(text, mark, table); err != nil {
				return err
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	picture := strings.TrimSuffix(*doc, ".md") + ".svg"
	return errors.Join(os.WriteFile(*doc, []byte(text), 0o644), os.WriteFile(picture, []byte(r.picture()), 0o644))
}

// between puts a text where the page has the marks for it.
func between(page, mark, text string) (string, error) {
	open, end := "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->"
	head, rest, ok1 := strings.Cut(page, open)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("the page has no place marked %q", mark)
	}
	return head + open + text + end + tail, nil
}

// markdown is the main table.
func (r *Report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d shared virtual cores for server, stores and generator together, %d connections, medians of %d interleaved rounds. µs are processor time of the server for one request.\n\n",
		r.Go, r.Cores, workers, r.Rounds)
	b.WriteString("| | requests/s | p50 ms | p99 ms | µs | floor µs | ÷ floor | allocations | KB | RSS MB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	group := ""
	for _, l := range r.Lines {
		if l.Group != group {
			group = l.Group
			fmt.Fprintf(&b, "| **%s** | | | | | | | | | |\n", group)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.1f | %.1f | %.0f | %s | %s | %s | %s | %.0f |\n", l.Name, l.PerSecond, l.P50/1000, l.P99/1000, l.CPU, some("%.0f", l.Floor),
			some("%.2f", ratio(l.CPU, l.Floor)), some("%.0f", l.Allocs), some("%.0f", l.Bytes/1024), float64(l.RSS)/(1<<20))
	}
	return b.String()
}

func (r *Report) floorTable() string {
	var b strings.Builder
	b.WriteString("| | µs |\n|---|--:|\n")
	for _, name := range []string{floorVerify, floorSign, floorVerifyEd, floorSignEd, floorSync, floorSyncWall} {
		fmt.Fprintf(&b, "| %s | %.1f |\n", name, r.Floors[name])
	}
	for _, name := range r.tripNames() {
		fmt.Fprintf(&b, "| %s | %.1f |\n", name, r.Floors[name])
	}
	for _, op := range []string{opBarePost, opBareGet} {
		fmt.Fprintf(&b, "| %s | %.1f |\n", op, r.line(groupFloor, op).CPU)
	}
	return b.String()
}

func (r *Report) targetTable() string {
	var b strings.Builder
	b.WriteString("| target | aim | found | | where it goes |\n|---|--:|--:|---|---|\n")
	for _, t := range r.Targets {
		sign := "≤"
		if t.Least {
			sign = "≥"
		}
		fmt.Fprintf(&b, "| %s | %s %.4g | %.3g | %s | %s |\n", t.Name, sign, t.Limit, t.Got, t.verdict(), t.Where)
	}
	if size := r.Facts["binary_bytes"]; size > 0 {
		fmt.Fprintf(&b, "\nThe binary has %.1f MB.\n", size/(1<<20))
	}
	return b.String()
}

func (r *Report) loadTable() string {
	var b strings.Builder
	b.WriteString("| | requests/s | p50 ms | p99 ms | p99.9 ms |\n|---|--:|--:|--:|--:|\n")
	for _, l := range r.Lines {
		if x := l.Loaded; x != nil {
			fmt.Fprintf(&b, "| %s: %s | %.0f | %.2f | %.2f | %.2f |\n", l.Group, l.Name, x.Rate, x.P50/1000, x.P99/1000, x.P999/1000)
		}
	}
	return b.String()
}

func (r *Report) peerList() string {
	if len(r.Notes) == 0 {
		return "No other was measured.\n"
	}
	return "- " + strings.Join(r.Notes, "\n- ") + "\n"
}

// scaleReport is what bench scale keeps.
type scaleReport struct {
	Commit   string   `json:"commit"`
	Sizes    []Scaled `json:"sizes"`
	Replicas []Scaled `json:"replicas"`
}

func readScale(name string) (*scaleReport, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var s scaleReport
	return &s, json.Unmarshal(data, &s)
}

func (s *scaleReport) sizeTable() string {
	var b strings.Builder
	b.WriteString("| agents and grants | outstanding tokens | exchange µs | ÷ first | redeem µs | ÷ first | Redis µs, both | bytes of Redis a token | Redis MB | bolt MB | RSS MB | cold start ms |\n")
	b.WriteString("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, x := range s.Sizes {
		first := s.Sizes[0]
		fmt.Fprintf(&b, "| %d | %d | %.0f | %.2f | %.0f | %.2f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", x.Agents, x.Tokens, x.Exchange, ratio(x.Exchange, first.Exchange),
			x.Redeem, ratio(x.Redeem, first.Redeem), x.ExchangeDB+x.RedeemDB, x.TokenBytes, x.RedisMB, x.RecordsMB, x.RSS, x.ColdStart)
	}
	b.WriteString("\n| target | aim | found | |\n|---|--:|--:|---|\n")
	for _, t := range s.targets() {
		fmt.Fprintf(&b, "| %s | ≤ %.4g | %.3g | %s |\n", t.Name, t.Limit, t.Got, t.verdict())
	}
	return b.String()
}

// targets are those that sizes can meet.
func (s *scaleReport) targets() []Target {
	if len(s.Sizes) == 0 {
		return nil
	}
	first, last := s.Sizes[0], s.Sizes[len(s.Sizes)-1]
	of := fmt.Sprintf(" with %d outstanding tokens ÷ with %d", last.Tokens, first.Tokens)
	return []Target{
		{Name: "exchange" + of, Limit: 1.05, Got: ratio(last.Exchange, first.Exchange)},
		{Name: "redeem" + of, Limit: 1.05, Got: ratio(last.Redeem, first.Redeem)},
		{Name: "bytes of Redis for an outstanding token", Limit: 1024, Got: last.TokenBytes},
		{Name: fmt.Sprintf("cold start with %d agents, seconds", last.Agents), Limit: 0.1, Got: last.ColdStart / 1000},
	}
}

// planned is the load that the plan past one machine is reckoned for: transactions in a second, each an exchange and a redemption.
const planned = 10_000

func (s *scaleReport) planTable() string {
	if len(s.Replicas) == 0 {
		return "Not reckoned: replicas were not measured.\n"
	}
	x := s.Replicas[0]
	var b strings.Builder
	b.WriteString("| | µs for an exchange | for a redemption | transactions/s of one core | cores for " + fmt.Sprint(planned) + " transactions/s |\n|---|--:|--:|--:|--:|\n")
	for _, row := range []struct {
		name             string
		exchange, redeem float64
	}{{"server", x.Exchange, x.Redeem}, {"Redis", x.ExchangeDB, x.RedeemDB}, {"PostgreSQL", x.Records, x.RecordsToo}} {
		both := row.exchange + row.redeem
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.0f | %.1f |\n", row.name, row.exchange, row.redeem, ratio(1e6, both), planned*both/1e6)
	}
	return b.String()
}

func (s *scaleReport) replicaTable() string {
	var b strings.Builder
	b.WriteString("| replicas | exchange µs | ÷ first | Redis µs | PostgreSQL µs | redeem µs | ÷ first | Redis µs | exchanges/s |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, x := range s.Replicas {
		first := s.Replicas[0]
		fmt.Fprintf(&b, "| %d | %.0f | %.2f | %.0f | %.0f | %.0f | %.2f | %.0f | %.0f |\n", x.Replicas, x.Exchange, ratio(x.Exchange, first.Exchange), x.ExchangeDB, x.Records,
			x.Redeem, ratio(x.Redeem, first.Redeem), x.RedeemDB, x.PerSecond)
	}
	return b.String()
}
