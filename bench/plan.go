//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options of a run.
type options struct {
	rounds   int
	portion  float64 // of the usual number of requests
	peers    bool
	redis    bool
	loaded   time.Duration // how long each operation runs at part of its load; zero: not at all
	most     time.Duration // that the rounds take
	quick    bool          // built as tests are, which is often done already
	server   string        // a program that is there already; empty: this tree is built
	progress io.Writer
}

// part is a piece of a floor: so many times what was measured under a name.
type part struct {
	times float64
	what  string
}

// entry is something that is measured again and again.
type entry struct {
	group, name string
	at          *child // whose processor time and memory
	addr        string
	store       *child // the Redis it stands on, if it does
	n           int    // requests in a round
	prepare     func(ctx context.Context, n int) ([]request, error)
	floor       []part
	commits     []int // in each round trip to Redis
	trips       trips
	loads       bool // also at part of its load
	samples     []sample
}

// sample is what came of an entry in one round. Times are in microseconds.
type sample struct {
	perSecond, cpu, storeCPU, p50, p99, p999, allocs, bytes float64
	rss                                                     int64
	errors                                                  int
	first                                                   error
}

// bench is a run under way.
type bench struct {
	options
	dir     string
	root    string // of the module
	self    string
	binary  string // of the server
	floors  map[string][]float64
	entries []*entry
	ends    []func()
	notes   []string
	facts   map[string]float64
	fails   int
}

const workers = 16

func newBench(o options) (*bench, error) {
	dir, err := os.MkdirTemp("", "obolus-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir, floors: map[string][]float64{}, facts: map[string]float64{}}
	b.ends = append(b.ends, func() { _ = os.RemoveAll(dir) })
	if b.self, err = os.Executable(); err == nil {
		b.root, err = moduleRoot()
	}
	if err != nil {
		b.close()
	}
	return b, err
}

func (b *bench) close() {
	slices.Reverse(b.ends)
	for _, end := range b.ends {
		end()
	}
	b.ends = nil
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

func (b *bench) count(n int) int { return max(int(float64(n)*b.portion), 4) }

// moduleRoot is where go.mod of the server is.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "obolus").Output() //nolint:noctx // it is quick
	if err != nil {
		return "", fmt.Errorf("bench runs in a checkout: go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds the server as a release is built, with more arguments of the go command if there are any.
func (b *bench) build(ctx context.Context, args ...string) (string, error) {
	if b.server != "" {
		return filepath.Abs(b.server)
	}
	out := filepath.Join(b.dir, "obolus")
	command := []string{"build", "-C", b.root, "-o", out}
	if !b.quick {
		command = append(command, "-trimpath", "-ldflags", "-s -w")
	}
	cmd := exec.CommandContext(ctx, "go", append(append(command, args...), "./cmd/obolus")...)
	if !b.quick {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, said)
	}
	return out, nil
}

// child runs this program as a child that serves.
func (b *bench) child(ctx context.Context, name, path string, args ...string) (*child, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	c, err := start(ctx, spec{name: name, path: b.self, dir: b.dir, addr: addr, args: append([]string{"child", name, addr}, args...)}, answers(addr, path))
	if err == nil {
		b.ends = append(b.ends, c.end)
	}
	return c, err
}

// numbers runs this program as a child that measures.
func (b *bench) numbers(ctx context.Context, args ...string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, maxRunTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.self, append([]string{"child"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("child %s: %w", args[0], err)
	}
	var got map[string]float64
	return got, json.Unmarshal(out, &got)
}

// The groups of the table.
const (
	groupMemory = "Obolus, bolt + memory"
	groupRedis  = "Obolus, bolt + Redis"
	groupGuard  = "guard"
	groupFloor  = "floor"
)

// The operations.
const (
	opSecret   = "exchange, client secret"
	opKey      = "exchange, private_key_jwt, subject seen before"
	opFresh    = "exchange, private_key_jwt, subject new"
	opBound    = "exchange, private_key_jwt + DPoP"
	opRedeem   = "redeem"
	opLook     = "introspect"
	opKeys     = "JWKS"
	opStory    = "exchange, then redeem"
	opGuard    = "guard check, token new"
	opPeerKey  = "exchange, private_key_jwt"
	opBarePost = "bare handler, POST"
	opBareSync = "bare handler, POST and fsync"
	opBareGet  = "bare handler, GET"
)

// plan puts together what is measured. What cannot be had is a note.
func (b *bench) plan(ctx context.Context) error {
	binary, err := b.build(ctx)
	if err != nil {
		return err
	}
	b.binary = binary
	if info, err := os.Stat(binary); err == nil {
		b.facts["binary_bytes"] = float64(info.Size())
	}
	if err := b.planFloor(ctx); err != nil {
		return err
	}
	memory := stand{records: "bolt:" + filepath.Join(b.dir, "memory", "records.db"), live: "memory:"}
	w, err := b.world(ctx, binary, "memory", memory)
	if err != nil {
		return err
	}
	if err := b.planServer(ctx, groupMemory, w, nil); err != nil {
		return err
	}
	if b.redis {
		if err := b.planRedis(ctx, binary); err != nil {
			b.notes = append(b.notes, "Redis: "+err.Error())
		}
	}
	if b.peers {
		b.planPeers(ctx)
	}
	return nil
}

func (b *bench) world(ctx context.Context, binary, name string, on stand) (*world, error) {
	w, err := newWorld(ctx, binary, filepath.Join(b.dir, name), on, 1)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	b.ends = append(b.ends, w.close)
	return w, nil
}

func (b *bench) planRedis(ctx context.Context, binary string) error {
	r, err := startRedis(ctx, b.dir)
	if err != nil {
		return err
	}
	b.ends = append(b.ends, r.end)
	w, err := b.world(ctx, binary, "redis", stand{records: "bolt:" + filepath.Join(b.dir, "redis", "records.db"), live: "redis://" + r.addr})
	if err != nil {
		return err
	}
	if err := b.planServer(ctx, groupRedis, w, r); err != nil {
		return err
	}
	return b.tokenBytes(ctx, w, r)
}

// tokenBytes is what an outstanding token takes in Redis.
func (b *bench) tokenBytes(ctx context.Context, w *world, r *child) error {
	n := b.count(3000)
	before, err := redisInfo(ctx, r.addr, "used_memory")
	if err != nil {
		return err
	}
	if _, err := w.exchanged(ctx, n); err != nil {
		return err
	}
	after, err := redisInfo(ctx, r.addr, "used_memory")
	b.facts["redis_bytes_per_token"] = (after - before) / float64(n)
	return err
}

// planFloor measures the least that the parts can cost.
func (b *bench) planFloor(ctx context.Context) error {
	bare, err := b.child(ctx, "http", "/")
	if err != nil {
		return err
	}
	form := url.Values{"x": {strings.Repeat("x", 1700)}}
	post, synced := raw(http.MethodPost, "/token", bare.addr, nil, form), raw(http.MethodPost, pathSynced, bare.addr, nil, form)
	get := raw(http.MethodGet, "/jwks.json", bare.addr, nil, nil)
	same := func(raw []byte) func(context.Context, int) ([]request, error) {
		return func(_ context.Context, n int) ([]request, error) {
			requests := make([]request, n)
			for i := range requests {
				requests[i] = request{raw: raw, check: checkBare}
			}
			return requests, nil
		}
	}
	b.entries = append(
		b.entries,
		&entry{group: groupFloor, name: opBarePost, at: bare, addr: bare.addr, n: 5000, prepare: same(post)},
		&entry{group: groupFloor, name: opBareSync, at: bare, addr: bare.addr, n: 3000, prepare: same(synced), loads: true},
		&entry{group: groupFloor, name: opBareGet, at: bare, addr: bare.addr, n: 5000, prepare: same(get)},
	)
	return b.planGuard(ctx)
}

func (b *bench) planGuard(ctx context.Context) error {
	addr, err := freePort()
	if err != nil {
		return err
	}
	iss, err := newIssuer("http://" + addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	b.ends = append(b.ends, cancel)
	go func() { _ = serve(ctx, addr, iss) }()
	guard, err := b.child(ctx, "guard", "/readyz", iss.url)
	if err != nil {
		return err
	}
	b.entries = append(b.entries, &entry{
		group: groupGuard, name: opGuard, at: guard, addr: guard.addr, n: 2500, floor: []part{{1, floorGet}, {1, floorVerify}},
		prepare: func(_ context.Context, n int) ([]request, error) {
			requests := make([]request, n)
			for i := range requests {
				t, err := iss.token()
				if err != nil {
					return nil, err
				}
				requests[i] = request{raw: raw(http.MethodGet, "/notes", guard.addr, http.Header{"Authorization": {"Bearer " + t}}, nil), check: checkBare}
			}
			return requests, nil
		},
	})
	return nil
}

// planServer is everything that is asked of a server. On Redis the floor has the round trips of the design, two for an exchange and one
// for a redemption, with as many commands as are really sent.
func (b *bench) planServer(ctx context.Context, group string, w *world, r *child) error {
	sync := part{1.0 / workers, floorSync} // those in flight share one
	post, verify, sign := part{1, floorPost}, part{1, floorVerify}, part{1, floorSign}
	by := func(agent string) func(context.Context, int) ([]request, error) {
		return func(_ context.Context, n int) ([]request, error) {
			return w.exchange(agent, repeated(w.subject, n), nil)
		}
	}
	fresh := func(ctx context.Context, n int) ([]request, error) {
		subjects, err := w.userTokens(ctx, n)
		if err != nil {
			return nil, err
		}
		return w.exchange(keyAgent, subjects, nil)
	}
	keySet := func(_ context.Context, n int) ([]request, error) {
		return slices.Repeat([]request{{raw: raw(http.MethodGet, "/jwks.json", w.host(), nil, nil), check: checkKeys}}, n), nil
	}
	entries := []*entry{
		{name: opSecret, n: 1000, prepare: by(secretAgent), commits: []int{0, 1}, floor: []part{sign, post, sync}},
		{name: opKey, n: 1000, prepare: by(keyAgent), commits: []int{1, 1}, floor: []part{verify, sign, post, sync}, loads: true},
		{name: opFresh, n: 800, prepare: fresh, commits: []int{1, 1}, floor: []part{{2, floorVerify}, sign, post, sync}},
		{name: opBound, n: 800, prepare: by(boundAgent), commits: []int{2, 1}, floor: []part{{2, floorVerify}, sign, post, sync}},
		{name: opRedeem, n: 1000, prepare: w.redeems("/redeem", checkRedeemed), commits: []int{1}, floor: []part{verify, sign, post, sync}, loads: true},
		{name: opLook, n: 1200, prepare: w.redeems("/introspect", checkActive), commits: []int{0}, floor: []part{verify, post}},
		{name: opKeys, n: 4000, prepare: keySet, floor: []part{{1, floorGet}}},
		{
			name: opStory, n: 600, prepare: w.stories, commits: []int{1, 1, 1},
			floor: []part{{2, floorVerify}, {2, floorSign}, {2, floorPost}, {2.0 / workers, floorSync}},
		},
	}
	for _, e := range entries {
		e.group, e.at, e.addr, e.store = group, w.nodes[0], w.host(), r
		if r != nil && len(e.commits) > 0 {
			if err := e.countTrips(ctx); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			e.floor = append(e.floor, part{1, e.tripsName()})
		}
	}
	b.entries = append(b.entries, entries...)
	return nil
}

// countTrips finds out how many commands one request sends. The second trip of an exchange is its commit, and one look at whose
// memory it went into; everything else that only reads is in the first.
func (e *entry) countTrips(ctx context.Context) error {
	fewest := maxLoad
	for range 3 { // the server asks for itself now and then
		requests, err := e.prepare(ctx, 1)
		if err != nil {
			return err
		}
		n, err := watchRedis(ctx, e.store.addr, func() error {
			r, err := load{addr: e.addr, requests: requests, workers: 1}.send(ctx)
			return errors.Join(err, r.first)
		})
		if err != nil {
			return err
		}
		fewest = min(fewest, n)
	}
	e.trips = make(trips, len(e.commits))
	for i, n := range e.commits {
		e.trips[i] = trip{Gets: 1, Writes: n}
		fewest -= 1 + n
	}
	if fewest < 0 {
		return errors.New("it sends less than it must")
	}
	e.trips[0].Gets += fewest
	return nil
}

func (e *entry) tripsName() string {
	if len(e.trips) == 1 {
		return "1 Redis round trip of " + e.trips.String()
	}
	return fmt.Sprintf("%d Redis round trips of %s", len(e.trips), e.trips)
}

// String is how many commands are in each.
func (t trips) String() string {
	sizes := make([]string, len(t))
	for i, one := range t {
		sizes[i] = strconv.Itoa(one.Gets + one.Writes)
	}
	return strings.Join(sizes, " and ") + " commands"
}

// redeems shows fresh tokens to an endpoint that resource servers ask.
func (w *world) redeems(path string, check func(int, []byte) error) func(context.Context, int) ([]request, error) {
	return func(ctx context.Context, n int) ([]request, error) {
		tokens, err := w.exchanged(ctx, n)
		if err != nil {
			return nil, err
		}
		if err := w.verified(ctx, tokens[:min(n, 20)]); err != nil {
			return nil, err
		}
		requests := make([]request, n)
		for i, t := range tokens {
			requests[i] = w.redemption(path, t, check)
		}
		return requests, nil
	}
}

// stories are each an exchange and the redemption of what came of it.
func (w *world) stories(_ context.Context, n int) ([]request, error) {
	requests, err := w.exchange(keyAgent, repeated(w.subject, n), nil)
	for i := range requests {
		requests[i].next = func(body []byte) (request, error) {
			t, err := answer{status: http.StatusOK, body: body}.token()
			return w.redemption("/redeem", t, checkRedeemed), err
		}
	}
	return requests, err
}

// planPeers starts those others that are there.
func (b *bench) planPeers(ctx context.Context) {
	key, err := newIssuer("")
	if err != nil {
		b.notes = append(b.notes, err.Error())
		return
	}
	for _, p := range []peer{zitadel(b), oidcProvider(b)} {
		b.say("starting %s", p.name)
		c, err := p.start(ctx, b, key.key)
		if err != nil {
			b.notes = append(b.notes, fmt.Sprintf("%s is not measured: %s", p.name, firstLine(err)))
			continue
		}
		b.notes = append(b.notes, p.name+": "+p.less)
		for _, by := range []struct{ op, agent string }{{opSecret, secretAgent}, {opPeerKey, keyAgent}} {
			floor := []part{{1, floorVerify}, {1, floorSign}, {1, floorPost}}
			if by.agent == keyAgent {
				floor[0].times = 2
			}
			b.entries = append(b.entries, &entry{
				group: p.name, name: by.op, at: c, addr: c.addr, n: p.n, floor: floor,
				prepare: func(ctx context.Context, n int) ([]request, error) { return p.exchange(ctx, c, key.key, by.agent, n) },
			})
		}
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
}

var errPeer = errors.New("not the answer to an exchange")
