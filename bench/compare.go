//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// How much more a request may cost than before. Processor time is compared as a multiple of the verifications of its own run, so that
// two machines, or one at two times, can be compared; what is within the spread of both runs is no finding.
const (
	maxMoreCPU    = 0.10
	maxMoreAllocs = 0.03
)

// compare holds a run against an earlier one and says in how many lines it is worse.
func compare(w io.Writer, old, new *Report) int {
	fmt.Fprintf(w, "%s → %s; CPU in verifications of the same run (%.1f → %.1f µs)\n\n", old.Commit, new.Commit, old.Floors[floorVerify], new.Floors[floorVerify])
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tCPU\t\tchange\tallocs\t\tchange\t")
	worse := 0
	for _, now := range new.Lines {
		was := old.line(now.Group, now.Name)
		if was.CPU == 0 {
			fmt.Fprintf(t, "%s, %s\t\t\tnew\t\t\t\t\n", now.Group, now.Name)
			continue
		}
		a, b := ratio(was.CPU, old.Floors[floorVerify]), ratio(now.CPU, new.Floors[floorVerify])
		cpu, allocs := ratio(b, a)-1, 0.0
		if was.Allocs > 0 {
			allocs = now.Allocs/was.Allocs - 1
		}
		sentence := ""
		if ours := slices.Contains([]string{groupMemory, groupRedis, groupGuard}, now.Group); ours &&
			(cpu > max(maxMoreCPU, (was.Spread+now.Spread)/2) || allocs > maxMoreAllocs || now.Errors > was.Errors) {
			sentence = "worse"
			worse++
		}
		fmt.Fprintf(t, "%s, %s\t%.2f\t%.2f\t%+.0f %%\t%.0f\t%.0f\t%+.0f %%\t%s\n", now.Group, now.Name, a, b, cpu*100, was.Allocs, now.Allocs, allocs*100, sentence)
	}
	t.Flush()
	for _, x := range new.Targets {
		for _, y := range old.Targets {
			if x.Name == y.Name && y.Met() && !x.Met() {
				fmt.Fprintf(w, "no longer met: %s: %.4g → %.4g\n", x.Name, y.Got, x.Got)
				worse++
			}
		}
	}
	if worse == 0 {
		fmt.Fprintln(w, "\nnothing is worse")
	}
	return worse
}
