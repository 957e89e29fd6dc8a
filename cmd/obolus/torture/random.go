//go:build linux

package main

import (
	"sync"
	"time"
)

// random is a sequence of numbers that its seed decides: SplitMix64. A plan of faults must come out the same twice, and nothing that
// is secret comes from here.
type random struct {
	mu sync.Mutex
	x  uint64
}

func newRandom(seed uint64) *random { return &random{x: seed} }

func (r *random) next() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.x += 0x9e3779b97f4a7c15
	z := r.x
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is a number from zero to n, without n.
func (r *random) below(n int) int { return int(r.next() % uint64(n)) } //nolint:gosec // it is below n

// chance says yes so many times out of a hundred.
func (r *random) chance(percent int) bool { return r.below(100) < percent }

// between is a duration from one to another.
func (r *random) between(from, to time.Duration) time.Duration {
	return from + time.Duration(r.below(int(to-from)+1))
}
