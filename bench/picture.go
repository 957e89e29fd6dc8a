//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// picture draws the processor time of each operation as a bar, and in it the floor.
func (r *Report) picture() string {
	const left, right, row, width = 330, 150, 22, 900
	longest := 0.0
	for _, l := range r.Lines {
		longest = max(longest, l.CPU)
	}
	scale := float64(width-left-right) / max(longest, 1)
	var b strings.Builder
	y, group := 56, ""
	for _, l := range r.Lines {
		if l.Group != group {
			group = l.Group
			y += 14
			fmt.Fprintf(&b, `<text class="group" x="16" y="%d">%s</text>`+"\n", y+6, html.EscapeString(group))
			y += row
		}
		floor := math.Min(l.Floor, l.CPU)
		if l.Group == groupFloor {
			floor = l.CPU
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+4, html.EscapeString(l.Name))
		fmt.Fprintf(&b, `<rect class="all" x="%d" y="%d" width="%.1f" height="14" rx="2"/>`, left, y-8, l.CPU*scale)
		fmt.Fprintf(&b, `<rect class="floor" x="%d" y="%d" width="%.1f" height="14" rx="2"/>`, left, y-8, floor*scale)
		label := fmt.Sprintf("%.0f µs", l.CPU)
		if l.Floor > 0 {
			label += fmt.Sprintf(" = %.2f ×", l.CPU/l.Floor)
		}
		fmt.Fprintf(&b, `<text class="value" x="%.1f" y="%d">%s</text>`+"\n", left+l.CPU*scale+6, y+4, label)
		y += row
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Processor time per request and the floor in it">
<style>
svg { font: 13px system-ui, sans-serif; background: #fff }
text { fill: #222 } .group { font-weight: 600 } .title { font-size: 16px; font-weight: 600 } .value, .small { fill: #555 }
.all { fill: #e0a458 } .floor { fill: #35586c }
@media (prefers-color-scheme: dark) { svg { background: #16181b } text { fill: #e8e8e8 } .value, .small { fill: #a8adb3 } .floor { fill: #6d9cb8 } }
</style>
<text class="title" x="16" y="28">Processor time of the server for one request</text>
<rect class="floor" x="16" y="40" width="12" height="12" rx="2"/><text class="small" x="34" y="51">what it cannot be cheaper than: its signatures, its round trips, HTTP</text>
<rect class="all" x="500" y="40" width="12" height="12" rx="2"/><text class="small" x="518" y="51">the rest</text>
%s</svg>
`, width, y+10, b.String())
}
