//go:build linux

package main

import (
	"slices"
	"time"
)

// kind is a kind of fault.
type kind string

// The kinds.
const (
	killServer   kind = "kill -9 of a server"
	pauseServer  kind = "SIGSTOP of a server"
	jumpClock    kind = "clock of a server jumps"
	killRedis    kind = "kill -9 of Redis"
	rollRedis    kind = "kill -9 of Redis, back with an old snapshot"
	pauseRedis   kind = "SIGSTOP of Redis"
	flushRedis   kind = "FLUSHALL"
	failover     kind = "failover with lost writes"
	bySentinel   kind = "failover by Sentinel with lost writes"
	killPostgres kind = "kill -9 of PostgreSQL"
	haltPostgres kind = "SIGSTOP of PostgreSQL"
	partRedis    kind = "partition server – Redis"
	deafRedis    kind = "answers of Redis lost"
	partRecords  kind = "partition server – PostgreSQL"
	deafRecords  kind = "answers of PostgreSQL lost"
	partClients  kind = "partition clients – server"
	deafClients  kind = "answers of a server lost"
	slowLink     kind = "slow network"
	killResource kind = "kill -9 of the resource server"
)

// lane is where faults happen one after the other. Lanes do not wait for each other.
type lane struct {
	name  string
	kinds []kind
}

// lanes of an installation.
func (s shape) lanes() []lane {
	servers := lane{"servers", []kind{killServer, pauseServer, jumpClock}}
	clients := lane{"clients", []kind{partClients, deafClients, killResource}}
	postgres := lane{"postgres", []kind{killPostgres, haltPostgres}}
	switch {
	case s.local:
		return []lane{servers, clients}
	case s.sentinel:
		return []lane{{"sentinel", []kind{bySentinel}}, {"network", []kind{partRecords, deafRecords}}, {"servers", []kind{pauseServer}}}
	default:
		return []lane{
			{"redis", []kind{killRedis, rollRedis, pauseRedis, flushRedis, failover}},
			postgres, servers,
			{"network", []kind{partRedis, deafRedis, partRecords, deafRecords, slowLink}},
			clients,
		}
	}
}

// fault is one fault of the plan.
type fault struct {
	shape  string
	lane   string
	kind   kind
	target int           // which server, where one is meant
	hold   time.Duration // how long it lasts
	pause  time.Duration // until the next of its lane
	much   time.Duration // by how much a clock jumps or a network is slow
	way    int           // one of the ways to do it

	begin, end int64 // when it was carried out
	struck     int64 // when it began to hurt
}

// rate is how many faults of each kind there are: at least so many, in so long.
type rate struct {
	during time.Duration
	each   int
}

// The bounds of a fault.
const (
	shortest = 50 * time.Millisecond
	longest  = 500 * time.Millisecond
)

// plan lays out the faults of an installation, lane by lane. The same seed gives the same plan.
func (s shape) plan(seed uint64, r rate) [][]fault {
	var all [][]fault
	for n, l := range s.lanes() {
		dice := newRandom(seed*1000003 + uint64(n)*7919 + uint64(len(s.name))) //nolint:gosec // it counts up from zero
		var faults []fault
		for range r.each {
			round := make([]fault, 0, len(l.kinds))
			for _, k := range l.kinds {
				round = append(round, s.fault(l.name, k, dice))
			}
			shuffle(round, dice)
			faults = append(faults, round...)
		}
		share := r.during / time.Duration(len(faults))
		for i := range faults {
			faults[i].hold = min(faults[i].hold, max(share/2, 20*time.Millisecond))
			faults[i].pause = dice.between(share/4, share*3/4)
		}
		all = append(all, faults)
	}
	return all
}

func (s shape) fault(lane string, k kind, dice *random) fault {
	jumps := []time.Duration{3 * time.Second, 45 * time.Second, 3 * time.Minute, 10 * time.Minute}
	f := fault{
		shape: s.name, lane: lane, kind: k, target: dice.below(s.servers), hold: dice.between(shortest, longest), way: dice.below(2),
		much: jumps[dice.below(len(jumps))],
	}
	if dice.chance(50) {
		f.much = -f.much
	}
	if k == slowLink {
		f.much = dice.between(5*time.Millisecond, 60*time.Millisecond)
	}
	return f
}

func shuffle(faults []fault, dice *random) {
	for i := range faults {
		j := i + dice.below(len(faults)-i)
		faults[i], faults[j] = faults[j], faults[i]
	}
}

// kindsOf lists the kinds that there are in installations, in the order of their lanes.
func kindsOf(all []shape) []kind {
	var kinds []kind
	for _, s := range all {
		for _, l := range s.lanes() {
			for _, k := range l.kinds {
				if !slices.Contains(kinds, k) {
					kinds = append(kinds, k)
				}
			}
		}
	}
	return kinds
}
