//go:build linux

package main

import (
	"syscall"
	"time"
)

// sleepUntil sleeps as exactly as the kernel can: the timers of the Go runtime are up to a millisecond late when nothing else is going on.
func sleepUntil(at time.Time) {
	for d := time.Until(at); d > 0; d = time.Until(at) {
		ts := syscall.NsecToTimespec(int64(d))
		if syscall.Nanosleep(&ts, nil) != nil {
			continue // a signal came; what is left is slept
		}
	}
}
