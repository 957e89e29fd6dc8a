package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
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

// columns are how wide a terminal is at least. Only what has no spaces, such as a link, is wider.
const columns = 80

// wrapped breaks a text between words into lines of columns, the second and those after it indented.
func wrapped(text string, indent int) string {
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// tell prints a sentence or more.
func (t *teller) tell(format string, args ...any) {
	t.say("%s", wrapped(fmt.Sprintf(format, args...), 0))
}

// line prints one thing: what it is, and beside that what it says.
func (t *teller) line(color string, l line) {
	name := fmt.Sprintf("%-8s", l.name)
	t.say("    %s %s", t.paint(color, name), wrapped(l.text, len("    ")+len(name)+1))
}

func (t *teller) opening(w *world) {
	t.tell("A token that pays for one transaction, and is worthless the moment somebody says stop.")
	t.say("")
	t.tell("Alice wants a program, an agent, to send a mail for her. She does not give it her password, nor a key that works for ever. " +
		"Here are a server, a mail API, Alice and the agent, talking over HTTP on this machine:")
	t.say("")
	for _, l := range []line{
		{"obolus", w.server.Issuer() + ": the authorization server"},
		{"mail", w.mail.uri + ": an API that sends mail, behind the guard"},
		{"agent", w.agent.id + ": a program; it proves who it is with keys that it never sends"},
	} {
		t.line(faint, l)
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
		t.line(faint, l)
	}
	t.say("")
}

func (t *teller) closing(steps int, took time.Duration) {
	t.tell("All %d steps behaved as they should, in %.1f s. Two mails were paid for, and two were sent.", steps, took.Seconds())
	t.tell("Next: `obolus demo --keep` to press the buttons yourself, `obolus serve` to run it, `obolus --help` for the rest.")
}
