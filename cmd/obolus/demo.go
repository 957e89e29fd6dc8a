package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"obolus/cmd/obolus/internal/demo"
	"obolus/cmd/obolus/internal/operator"
)

// demoCommand is `obolus demo`.
type demoCommand struct {
	Records string `help:"Where it remembers: bolt:PATH or postgres://…; a temporary file if not said."               placeholder:"STORE"`
	Live    string `help:"Where it forgets on time: memory: or redis://…; memory if not said."                         placeholder:"STORE"`
	Keep    bool   `help:"Leave everything running afterwards, with links to open in a browser, until Ctrl-C is pressed."`
}

// Help teaches by example.
func (demoCommand) Help() string {
	return `It needs nothing, reaches nobody outside this machine, and leaves nothing behind. Exit code 1: a step did not behave.

Examples:

  obolus demo
  obolus demo --keep
  obolus demo --live redis://127.0.0.1:6379`
}

// Run tells the story.
func (c *demoCommand) Run(ctx context.Context, stage operator.Stage) error {
	signal.Ignore(syscall.SIGPIPE) // nobody may be listening any more, and the folder is removed all the same
	defer signal.Reset(syscall.SIGPIPE)
	return demo.Run(ctx, demo.Options{Out: stage.Out, Color: colors(stage), Records: c.Records, Live: c.Live, Keep: c.Keep, Version: buildVersion()})
}

// colors says whether somebody sees colours and wants them (no-color.org).
func colors(stage operator.Stage) bool {
	out, ok := stage.Out.(*os.File)
	for _, v := range stage.Environ {
		if len(v) > len("NO_COLOR=") && v[:len("NO_COLOR=")] == "NO_COLOR=" {
			return false
		}
	}
	return ok && term.IsTerminal(int(out.Fd()))
}
