package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// teller prints the story.
type teller struct {
	out   io.Writer
	color bool
	gone  error // why nobody listens any more
}

// line is one thing to show of a step: what it is, and what it says.
type line struct{ name, text string }

const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
)

func (t *teller) paint(code, s string) string {
	if !t.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (t *teller) say(format string, args ...any) {
	if t.gone == nil {
		_, t.gone = fmt.Fprintf(t.out, format+"\n", args...)
	}
}

func (t *teller) opening(w *world) {
	t.say("%s: a token that pays for one transaction, and is worthless the moment somebody says stop.\n", t.paint(bold, "Obolus"))
	t.say("Alice wants a program, an agent, to send a mail for her. She does not give it her password, nor a key that works for ever.")
	t.say("Here are a server, a mail API, Alice and the agent, talking over HTTP on this machine:\n")
	for _, l := range []line{
		{"obolus", w.server.Issuer() + "   the authorization server"},
		{"mail", w.mail.uri + "   an API that sends mail, behind the guard"},
		{"agent", w.agent.id + "   a program; it proves who it is with keys that it never sends"},
	} {
		t.say("    %-7s %s", t.paint(faint, l.name), l.text)
	}
	t.say("")
}

// step prints a step: its number and title, its verdict, and what there is to see.
func (t *teller) step(n int, title, verdict string, lines []line) {
	paint := green
	if strings.HasPrefix(verdict, "refused") || strings.HasPrefix(verdict, "did not") {
		paint = red
	}
	t.say("%s  %-60s  %s", t.paint(faint, fmt.Sprintf("%2d", n)), title, t.paint(paint, verdict))
	for _, l := range lines {
		t.say("    %s %s", t.paint(faint, fmt.Sprintf("%-8s", l.name)), l.text)
	}
	t.say("")
}

func (t *teller) closing(steps int, took time.Duration) {
	t.say("All %d steps behaved as they should, in %.1f s. Two mails were paid for, and two were sent.", steps, took.Seconds())
	t.say("Next: `obolus demo --keep` to press the buttons yourself, `obolus serve` to run it, `obolus --help` for the rest.")
}
