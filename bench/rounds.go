//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// run measures every entry in every round, and the floor with them, so that what else the machine does meets all alike.
func (b *bench) run(ctx context.Context) error {
	for _, e := range b.entries {
		b.say("warming up: %s, %s", e.group, e.name)
		if _, err := b.measure(ctx, e, max(e.n/4, 4)); err != nil {
			return fmt.Errorf("%s, %s: %w", e.group, e.name, err)
		}
	}
	began := time.Now()
	for round := range b.rounds {
		if spent := time.Since(began); round > 1 && spent+spent/time.Duration(round) > b.most {
			b.notes = append(b.notes, fmt.Sprintf("only %d rounds: this machine is slow, or busy", round))
			b.rounds = round
			break
		}
		if err := b.measureFloor(ctx); err != nil {
			return err
		}
		order := slices.Clone(b.entries)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, e := range order {
			s, err := b.measure(ctx, e, e.n)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", e.group, e.name, err)
			}
			b.say("round %d of %d: %-22s %-48s %6.0f/s %7.1f µs", round+1, b.rounds, e.group, e.name, s.perSecond, s.cpu)
			e.samples = append(e.samples, s)
		}
	}
	return nil
}

// measure sends an entry's requests once.
func (b *bench) measure(ctx context.Context, e *entry, n int) (sample, error) {
	requests, err := e.prepare(ctx, b.count(n))
	if err != nil {
		return sample{}, err
	}
	heap := e.at.heapSince(ctx)
	before, err := e.meter()
	if err != nil {
		return sample{}, err
	}
	r, err := load{addr: e.addr, requests: requests, workers: workers}.send(ctx)
	if err != nil {
		return sample{}, err
	}
	after, err := e.meter()
	if err != nil {
		return sample{}, err
	}
	per := float64(len(requests))
	s := sample{
		perSecond: r.perSecond(), cpu: micros(after.cpu-before.cpu) / per, storeCPU: micros(after.store-before.store) / per,
		p50: micros(r.quantile(.5)), p99: micros(r.quantile(.99)), p999: micros(r.quantile(.999)),
		rss: e.at.rss(), errors: r.failed, first: r.first,
	}
	s.allocs, s.bytes = heap()
	s.allocs /= per
	s.bytes /= per
	if r.failed > 0 {
		b.fails += r.failed
		b.say("%s, %s: %d of %d failed: %v", e.group, e.name, r.failed, len(requests), r.first)
	}
	return s, nil
}

// reading is what the meters stand at.
type reading struct{ cpu, store time.Duration }

func (e *entry) meter() (reading, error) {
	var m reading
	var err error
	if e.store != nil {
		if m.store, err = e.store.cpu(); err != nil {
			return m, err
		}
	}
	m.cpu, err = e.at.cpu()
	return m, err
}

// measureFloor is one round of the floor that is not an entry itself.
func (b *bench) measureFloor(ctx context.Context) error {
	got, err := b.numbers(ctx, "micro", b.dir, strconv.Itoa(b.count(2000)))
	if err != nil {
		return err
	}
	for name, us := range got {
		b.floors[name] = append(b.floors[name], us)
	}
	done := map[string]bool{}
	for _, e := range b.entries {
		if len(e.trips) == 0 || done[e.tripsName()] {
			continue
		}
		done[e.tripsName()] = true
		shape, err := json.Marshal(e.trips)
		if err != nil {
			return err
		}
		got, err := b.numbers(ctx, "redis", e.store.addr, string(shape), strconv.Itoa(b.count(4000)))
		if err != nil {
			return err
		}
		b.floors[e.tripsName()] = append(b.floors[e.tripsName()], got["cpu"])
	}
	return nil
}

// atLoad sends the entries that are to be looked at under part of their load, at a fixed rate. What the whole load is, is found out
// just before. Of three times the one counts whose tail is neither the shortest nor the longest.
func (b *bench) atLoad(ctx context.Context, e *entry) (*Loaded, error) {
	if !e.loads || b.loaded == 0 {
		return nil, nil //nolint:nilnil // nothing was asked
	}
	b.say("at %.0f %% load: %s, %s", loadPart*100, e.group, e.name)
	times := 3
	if b.quick {
		times = 1
	}
	var all []*Loaded
	for range times {
		full, err := b.measure(ctx, e, e.n)
		if err != nil {
			return nil, err
		}
		l, err := b.atRate(ctx, e, full.perSecond*loadPart)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(x, y *Loaded) int { return cmp.Compare(ratio(x.P99, x.P50), ratio(y.P99, y.P50)) })
	return all[len(all)/2], nil
}

func (b *bench) atRate(ctx context.Context, e *entry, rate float64) (*Loaded, error) {
	n := min(max(int(rate*b.loaded.Seconds()), 1), maxLoad)
	requests, err := e.prepare(ctx, n)
	if err != nil {
		return nil, err
	}
	r, err := load{addr: e.addr, requests: requests, workers: 64, rate: rate}.send(ctx)
	if err != nil {
		return nil, err
	}
	b.fails += r.failed
	return &Loaded{
		Rate: rate, P50: micros(r.quantile(.5)), P99: micros(r.quantile(.99)), P999: micros(r.quantile(.999)), Errors: r.failed,
	}, nil
}

const loadPart = 0.7

// starts is how often a server is started to see how long it takes.
func (b *bench) starts() int {
	if b.quick {
		return 2
	}
	return 6
}

// coldStart is how long it takes from the start of the program until it says that it is ready, in milliseconds: the median of a few,
// on data that is there.
func (b *bench) coldStart(ctx context.Context, binary string) (float64, error) {
	var times []float64
	w, err := prepareWorld(binary, filepath.Join(b.dir, "cold"), stand{records: "bolt:" + filepath.Join(b.dir, "cold", "records.db"), live: "memory:"})
	if err != nil {
		return 0, err
	}
	for range b.starts() {
		began := time.Now()
		if err := w.start(ctx, 1); err != nil {
			return 0, err
		}
		times = append(times, micros(time.Since(began))/1000)
		w.close()
	}
	return median(times[1:]), nil // the first makes the keys and hashes the password
}

func (e *entry) of(what func(sample) float64) []float64 {
	list := make([]float64, len(e.samples))
	for i, s := range e.samples {
		list[i] = what(s)
	}
	return list
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// floorOf is what an entry cannot be cheaper than, and how it adds up.
func (b *bench) floorOf(e *entry) (us float64, sum string) {
	var terms []string
	for _, p := range e.floor {
		one := median(b.floors[p.what])
		switch p.what {
		case floorPost:
			one = b.cpuOf(groupFloor, opBarePost)
		case floorGet:
			one = b.cpuOf(groupFloor, opBareGet)
		}
		us += p.times * one
		switch {
		case p.times == 1:
			terms = append(terms, fmt.Sprintf("%s %.0f", p.what, one))
		case p.times < 1:
			terms = append(terms, fmt.Sprintf("%s %.0f ÷ %.0f", p.what, one, 1/p.times))
		default:
			terms = append(terms, fmt.Sprintf("%g × %s %.0f", p.times, p.what, one))
		}
	}
	return us, strings.Join(terms, " + ")
}

func (b *bench) cpuOf(group, name string) float64 {
	for _, e := range b.entries {
		if e.group == group && e.name == name {
			return median(e.of(func(s sample) float64 { return s.cpu }))
		}
	}
	return 0
}
