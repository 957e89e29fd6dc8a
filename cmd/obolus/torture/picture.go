//go:build linux

package main

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// look groups kinds of faults that are drawn alike.
type look struct{ class, name string }

func looks() []look {
	return []look{
		{"kill", "kill -9"},
		{"pause", "SIGSTOP"},
		{"lost", "data lost: flush, old snapshot, failover"},
		{"net", "network: partition, lost answers, slow"},
		{"clock", "clock jumps"},
	}
}

func (k kind) class() string {
	switch k {
	case killServer, killRedis, killPostgres, killResource:
		return "kill"
	case pauseServer, pauseRedis, haltPostgres:
		return "pause"
	case rollRedis, flushRedis, failover, bySentinel:
		return "lost"
	case jumpClock:
		return "clock"
	default:
		return "net"
	}
}

// row is one lane of the picture: what a fault hits.
func (f fault) row() string {
	switch f.kind {
	case killRedis, rollRedis, pauseRedis, flushRedis, failover, bySentinel:
		return "Redis"
	case killPostgres, haltPostgres:
		return "PostgreSQL"
	case killResource:
		return "resource server"
	default:
		return fmt.Sprint("server ", f.target+1)
	}
}

func (s shape) rows() []string {
	var rows []string
	for i := range s.servers {
		rows = append(rows, fmt.Sprint("server ", i+1))
	}
	if !s.local {
		rows = append(rows, "Redis", "PostgreSQL")
	}
	if !s.sentinel {
		rows = append(rows, "resource server")
	}
	return rows
}

// The measures of the picture.
const (
	pictureWidth = 1240
	pictureLeft  = 150
	pictureRight = 20
	curveHeight  = 150
	rowHeight    = 19
)

// canvas is a picture that grows downwards.
type canvas struct {
	strings.Builder
	y     float64
	scale float64 // pixels for each nanosecond
	begin int64
}

func (c *canvas) x(at int64) float64 { return pictureLeft + float64(at-c.begin)*c.scale }

func (c *canvas) text(class string, x, y float64, anchor, text string) {
	fmt.Fprintf(c, `<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, html.EscapeString(text))
}

// picture draws the whole run: how many redemptions were accepted in each second, and below it every fault where it hit.
func (r *report) picture() string {
	c := &canvas{begin: int64(r.warm)}
	end := c.begin + int64(time.Second)
	for _, p := range r.parts {
		end = max(end, p.until)
	}
	c.scale = (pictureWidth - pictureLeft - pictureRight) / float64(end-c.begin)
	r.heading(c)
	r.curve(c, end)
	for _, p := range r.parts {
		p.draw(c)
	}
	r.axis(c, end)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" role="img" aria-label="Redemptions and faults over time">
<style>
svg { font: 13px system-ui, sans-serif; background: #fff }
text { fill: #222 } .title { font-size: 17px; font-weight: 600 } .group { font-weight: 600 } .small { font-size: 12px; fill: #555 }
.curve { fill: #9cc5a1; stroke: #2f6f4f; stroke-width: 1 } .line { stroke: #ddd } .row { stroke: #f0f0f0; stroke-width: 14 }
.kill { stroke: #c2631b; fill: #c2631b } .pause { stroke: #d9a514; fill: #d9a514 } .lost { stroke: #7a3fa0; fill: #7a3fa0 }
.net { stroke: #2e7cb8; fill: #2e7cb8 } .clock { stroke: #3f9c8f; fill: #3f9c8f } .fault { stroke-width: 14; fill: none }
.broken { stroke: #e00025; stroke-width: 2 } .bad { fill: #e00025; font-weight: 600 } .good { fill: #2f6f4f; font-weight: 600 }
@media (prefers-color-scheme: dark) {
svg { background: #16181b } text { fill: #e8e8e8 } .small { fill: #a8adb3 } .line { stroke: #34383d } .row { stroke: #202327 }
.curve { fill: #2f5a41; stroke: #7fc79a } .kill { stroke: #ef8b45; fill: #ef8b45 } .pause { stroke: #e8c04a; fill: #e8c04a }
.lost { stroke: #b98be0; fill: #b98be0 } .net { stroke: #62a9e0; fill: #62a9e0 } .clock { stroke: #5cc7b8; fill: #5cc7b8 }
.broken { stroke: #ff4d63 } .bad { fill: #ff4d63 } .good { fill: #7fc79a }
}
</style>
%s</svg>
`, pictureWidth, c.y+12, c.String())
}

func (r *report) heading(c *canvas) {
	redemptions, faults, violations, doubles := 0, 0, 0, 0
	for _, p := range r.parts {
		redemptions, faults = redemptions+p.redemptions, faults+len(p.faults)
		violations, doubles = violations+len(p.violations), doubles+p.doubles
	}
	c.text("title", 16, 28, "start", fmt.Sprintf("One transaction, exactly: %s redemptions under %s faults in %s", thousands(redemptions), thousands(faults), r.settings.during))
	class := "good"
	if violations+doubles > 0 {
		class = "bad"
	}
	c.text(class, pictureWidth-pictureRight, 28, "end", fmt.Sprintf("%d violations, %d double effects", violations, doubles))
	x := 16.0
	for _, l := range looks() {
		fmt.Fprintf(c, `<rect class="%s" x="%.0f" y="43" width="12" height="12" rx="2"/>`, l.class, x)
		c.text("small", x+18, 53, "start", l.name)
		x += 44 + 6.4*float64(len(l.name))
	}
	fmt.Fprintf(c, `<path class="broken" d="M%.0f 42v14"/>`, x+6)
	c.text("small", x+14, 53, "start", "a broken promise")
	c.y = 76
}

func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}

// curve draws what was accepted in each second, in all installations, and the broken promises.
func (r *report) curve(c *canvas, end int64) {
	seconds := make([]int, (end-c.begin)/int64(time.Second)+1)
	most := 1
	for _, p := range r.parts {
		for _, m := range p.history.firsts {
			if i := (m.ret - c.begin) / int64(time.Second); m.ret >= c.begin && i < int64(len(seconds)) {
				seconds[i]++
				most = max(most, seconds[i])
			}
		}
	}
	base := c.y + curveHeight
	step := roundStep(most)
	for n := 0; n <= most; n += step {
		y := base - float64(n)*curveHeight/float64(most)
		fmt.Fprintf(c, `<path class="line" d="M%d %.1fH%d"/>`, pictureLeft, y, pictureWidth-pictureRight)
		c.text("small", pictureLeft-8, y+4, "end", fmt.Sprint(n))
	}
	c.text("small", 16, c.y+14, "start", "redemptions/s")
	fmt.Fprintf(c, `<path class="curve" d="M%d %.1f`, pictureLeft, base)
	for i, n := range seconds[:len(seconds)-1] {
		fmt.Fprintf(c, "L%.1f %.1f", c.x(c.begin+int64(i)*int64(time.Second)+int64(time.Second)/2), base-float64(n)*curveHeight/float64(most))
	}
	fmt.Fprintf(c, `V%.1fZ"/>`+"\n", base)
	for _, p := range r.parts {
		for _, v := range p.violations {
			fmt.Fprintf(c, `<path class="broken" d="M%.1f %.1fV%.1f"/>`+"\n", c.x(max(v.at, c.begin)), c.y, base)
		}
	}
	c.y = base + 14
}

// roundStep is a round number of which some make the whole.
func roundStep(most int) int {
	step := 1
	for most/step > 5 {
		switch {
		case most/(2*step) <= 5:
			return 2 * step
		case most/(5*step) <= 5:
			return 5 * step
		default:
			step *= 10
		}
	}
	return step
}

// draw draws the faults of one installation.
func (p part) draw(c *canvas) {
	c.y += 12
	c.text("group", 16, c.y+4, "start", p.name)
	c.y += rowHeight
	for _, row := range p.rows() {
		c.text("small", pictureLeft-8, c.y+4, "end", row)
		fmt.Fprintf(c, `<path class="row" d="M%d %.1fH%d"/>`, pictureLeft, c.y, pictureWidth-pictureRight)
		for _, l := range looks() {
			var d strings.Builder
			for _, f := range p.faults {
				if f.row() == row && f.kind.class() == l.class {
					fmt.Fprintf(&d, "M%.1f %.1fh%.1f", c.x(f.begin), c.y, max(float64(f.end-f.begin)*c.scale, 0.8))
				}
			}
			if d.Len() > 0 {
				fmt.Fprintf(c, `<path class="fault %s" d="%s"/>`+"\n", l.class, d.String())
			}
		}
		c.y += rowHeight
	}
}

// clock is a time as on a stopwatch.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func (r *report) axis(c *canvas, end int64) {
	whole := time.Duration(end - c.begin)
	step := time.Second
	for _, s := range []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute} {
		if whole/step > 12 {
			step = s
		}
	}
	for d := time.Duration(0); d <= whole; d += step {
		c.text("small", c.x(c.begin+int64(d)), c.y+8, "middle", clock(d))
	}
	c.y += 14
}
