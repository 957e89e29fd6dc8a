//go:build unix

package main

import (
	"os/signal"
	"syscall"
)

// outlastLimits makes a write beyond the limit on the size of files an error, as a full disk is, and not the end of the process.
func outlastLimits() { signal.Ignore(syscall.SIGXFSZ) }
