// Command obolus is an OAuth 2.0 authorization server for AI agents, and the tools of those who run it.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"obolus/cmd/obolus/internal/operator"
	"obolus/cmd/obolus/internal/server"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300) // the live heap is a few megabytes: collecting it less often costs little of them and saves a twentieth of the time
	}
	outlastLimits()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	stage := operator.Stage{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(), Now: time.Now, Open: server.Open,
		ShareRecords: server.ShareRecords, HoldRecords: server.HoldRecords, Version: buildVersion(),
	}
	err := run(ctx, os.Args[1:], stage)
	stop()
	os.Exit(operator.ExitCode(err))
}
