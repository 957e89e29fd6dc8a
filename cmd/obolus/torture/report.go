//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run has to say.
type report struct {
	settings settings
	start    time.Time
	warm     time.Duration // until the work began
	took     time.Duration
	parts    []part
}

// broken says whether a promise was.
func (r *report) broken() bool {
	return slices.ContainsFunc(r.parts, func(p part) bool { return len(p.violations) > 0 })
}

// progress says now and then how it goes.
func (r *report) progress(worlds []*world, ended <-chan struct{}, out io.Writer) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	last := 0
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		accepted, faults := 0, 0
		for _, w := range worlds {
			accepted += w.history.accepted()
			if n := w.faults.Load(); n != nil {
				faults += n.count()
			}
		}
		fmt.Fprintf(out, "%5.0f s  %7d redemptions  %5d/s  %5d faults\n", time.Since(r.start).Seconds(), accepted, (accepted-last)/5, faults)
		last = accepted
	}
}

// outage is how long it took after each fault of a kind until a redemption was accepted that was asked for since: by the server
// that was hit, where one was, and by any where a store was.
type outage struct {
	kind          kind
	count         int
	median, worst time.Duration
}

func (r *report) outages() []outage {
	took, count := map[kind][]time.Duration{}, map[kind]int{}
	var all []shape
	for _, p := range r.parts {
		all = append(all, p.shape)
		for _, f := range p.faults {
			count[f.kind]++
			if d, ok := p.back(f); ok {
				took[f.kind] = append(took[f.kind], d)
			}
		}
	}
	var list []outage
	for _, k := range kindsOf(all) {
		o := outage{kind: k, count: count[k]}
		if t := took[k]; len(t) > 0 {
			slices.Sort(t)
			o.median, o.worst = t[len(t)/2], t[len(t)-1]
		}
		list = append(list, o)
	}
	return list
}

// back is how long after a fault a redemption was accepted.
func (p part) back(f fault) (time.Duration, bool) {
	firsts := p.history.firsts
	i, _ := slices.BinarySearchFunc(firsts, f.struck, func(m moment, t int64) int { return cmp.Compare(m.call, t) })
	soonest := int64(-1)
	for ; i < len(firsts); i++ {
		m := firsts[i]
		if soonest >= 0 && m.call > soonest {
			break
		}
		if p.hits(f, m.server) && (soonest < 0 || m.ret < soonest) {
			soonest = m.ret
		}
	}
	return time.Duration(soonest - f.struck), soonest >= 0
}

// hits says whether a fault is one of this server, or of something that all stand on.
func (p part) hits(f fault, server int) bool {
	switch f.kind {
	case killServer, pauseServer, jumpClock, partRedis, deafRedis, partRecords, deafRecords, partClients, deafClients, slowLink:
		return server == f.target
	case killResource:
		return server < 0
	default:
		return true
	}
}

// print prints the tables.
func (r *report) print(out io.Writer) {
	t := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\noperation\toutcome\tcount")
	counts := map[string]map[string]int{}
	for _, p := range r.parts {
		for kind, ends := range p.history.counts {
			if counts[kind] == nil {
				counts[kind] = map[string]int{}
			}
			for end, n := range ends {
				counts[kind][end] += n
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		ends := slices.SortedFunc(maps.Keys(counts[kind]), func(a, b string) int { return cmp.Compare(counts[kind][b], counts[kind][a]) })
		for _, end := range ends {
			fmt.Fprintf(t, "%s\t%s\t%d\n", kind, end, counts[kind][end])
		}
	}
	fmt.Fprintln(t, "\nfault\tcount\tmedian out\tworst")
	for _, o := range r.outages() {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", o.kind, o.count, short(o.median), short(o.worst))
	}
	fmt.Fprintln(t, "\ninstallation\ttransactions\tredemptions\tguarded effects\tevents\tepochs\tfaults\tviolations\tdouble effects")
	var sum part
	faults, violations, epochs := 0, 0, 0
	for _, p := range r.parts {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", p.name, p.transactions, p.redemptions, p.effects, p.events, len(p.history.epochs), len(p.faults), len(p.violations), p.doubles)
		sum.transactions += p.transactions
		sum.redemptions += p.redemptions
		sum.effects += p.effects
		sum.events += p.events
		sum.doubles += p.doubles
		faults, violations, epochs = faults+len(p.faults), violations+len(p.violations), epochs+len(p.history.epochs)
	}
	fmt.Fprintf(t, "together\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", sum.transactions, sum.redemptions, sum.effects, sum.events, epochs, faults, violations, sum.doubles)
	_ = t.Flush()
}

func short(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return d.Round(time.Millisecond).String()
}

// mostWritten bounds how many violations are written out.
const mostWritten = 50

// write writes the tables, the picture and what was broken.
func (r *report) write(dir string) error {
	broken := filepath.Join(dir, "violations")
	if err := os.RemoveAll(broken); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	var tables strings.Builder
	r.print(&tables)
	if err := os.WriteFile(filepath.Join(dir, "report.txt"), []byte(tables.String()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "torture.svg"), []byte(r.picture()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "faults.txt"), []byte(r.faults()), 0o600); err != nil {
		return err
	}
	for _, p := range r.parts {
		for i, v := range p.violations[:min(len(p.violations), mostWritten)] {
			if err := v.write(filepath.Join(broken, fmt.Sprintf("%s-%03d", p.name, i))); err != nil {
				return err
			}
		}
	}
	return nil
}

// faults lists every fault that was carried out.
func (r *report) faults() string {
	var b strings.Builder
	for _, p := range r.parts {
		slices.SortFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.begin, b.begin) })
		for _, f := range p.faults {
			fmt.Fprintf(&b, "%9.3f – %9.3f s  %s  %s  %s", float64(f.begin)/1e9, float64(f.end)/1e9, p.name, f.row(), f.kind)
			if f.kind == jumpClock || f.kind == slowLink {
				fmt.Fprintf(&b, "  %s", f.much)
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (v violation) write(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	text := fmt.Sprintf("%s\n%s, at %.3f s\n\n%s\n", v.rule, v.about, float64(v.at)/1e9, v.text)
	if err := os.WriteFile(file+".txt", []byte(text), 0o600); err != nil {
		return err
	}
	if v.html != nil {
		return v.html(file + ".html")
	}
	return nil
}
