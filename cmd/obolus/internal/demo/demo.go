// Package demo tells, in a few seconds and over real HTTP on this machine, what all this is for: a user, an agent that acts
// for her, a mail API, and what happens when somebody says stop. Every step is checked; a step that does not behave ends it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Options are how it is told.
type Options struct {
	Out     io.Writer
	Color   bool
	Records string // empty: a temporary file
	Live    string // empty: memory
	Keep    bool   // leave it running until the context ends
	Version string
}

// Run tells the story. The error says which step did not behave.
func Run(ctx context.Context, o Options) (err error) {
	started := time.Now()
	w, err := build(ctx, o)
	if err != nil {
		return fmt.Errorf("the demo could not be set up: %w", err)
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	t := &teller{out: o.Out, color: o.Color}
	t.opening(w)
	steps := story(w)
	for i, s := range steps {
		lines, err := s.do(ctx)
		if ctx.Err() != nil {
			return errors.New("the demo was stopped, and left nothing behind")
		}
		if err != nil {
			t.step(i+1, s.title, "did not behave", nil)
			return fmt.Errorf("step %d, %q, did not behave: %w", i+1, s.title, err)
		}
		t.step(i+1, s.title, s.verdict, lines)
	}
	t.closing(len(steps), time.Since(started))
	if o.Keep && t.gone == nil {
		err = w.keep(ctx, t)
	}
	return errors.Join(err, t.gone)
}

// step is one part of the story. What is done checks itself and gives the lines to show.
type step struct {
	title   string
	verdict string
	do      func(context.Context) ([]line, error)
}
