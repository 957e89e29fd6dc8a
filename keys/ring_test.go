package keys_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"obolus/keys"
	"obolus/store"
	"obolus/store/memory"
	"obolus/token"
)

const (
	ahead   = time.Hour
	overlap = 10 * time.Minute
)

// world is a store with a clock, and the servers on it.
type world struct {
	mu      sync.Mutex
	now     time.Time
	records *engine
}

func newWorld() *world {
	w := &world{now: time.Unix(1_800_000_000, 0)}
	w.records = &engine{Engine: memory.New(w.Now)}
	return w
}

func (w *world) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) config() keys.Config {
	return keys.Config{Records: w.records, Master: [32]byte{7}, Default: token.ES256, Now: w.Now, Ahead: ahead, Overlap: overlap}
}

func (w *world) open(t tester) *keys.Ring { return open(t, w.config()) }

func open(t tester, cfg keys.Config) *keys.Ring {
	r, err := keys.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tester is what a test and a property have in common.
type tester interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// engine is a store that can be made to fail, to count and to let somebody in between.
type engine struct {
	store.Engine
	down    atomic.Bool
	lists   atomic.Int64
	deaf    atomic.Bool            // watches end at once
	between atomic.Pointer[func()] // called once, before the next commit
	stops   atomic.Bool            // fails once the next commit is made
}

func (e *engine) Watch(ctx context.Context, partition string) (<-chan string, error) {
	if e.deaf.Load() {
		changes := make(chan string)
		close(changes)
		return changes, nil
	}
	return e.Engine.Watch(ctx, partition)
}

func (e *engine) Do(ctx context.Context, b store.Batch) (store.Results, error) {
	if len(b.Commits) > 0 {
		if f := e.between.Swap(nil); f != nil {
			(*f)()
		}
	}
	if e.down.Load() {
		return store.Results{}, store.ErrUnavailable
	}
	out, err := e.Engine.Do(ctx, b)
	if len(b.Commits) > 0 && e.stops.Swap(false) {
		e.down.Store(true)
	}
	return out, err
}

func (e *engine) List(ctx context.Context, partition, after string, limit int) ([]store.Record, error) {
	if e.down.Load() {
		return nil, store.ErrUnavailable
	}
	e.lists.Add(1)
	return e.Engine.List(ctx, partition, after, limit)
}

func signer(t tester, r *keys.Ring, alg string) string {
	k, err := r.Signer(alg)
	if err != nil {
		t.Fatal(err)
	}
	return k.KeyID()
}

// statuses are kid and status of all keys.
func statuses(r *keys.Ring) map[string]string {
	all := make(map[string]string)
	for _, info := range r.Infos() {
		all[info.ID] = info.Status
	}
	return all
}

func published(t tester, r *keys.Ring) []string {
	var doc struct{ Keys []map[string]any }
	if err := json.Unmarshal(r.JWKS(), &doc); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range doc.Keys {
		if k["d"] != nil || k["use"] != "sig" || k["alg"] == nil {
			t.Fatalf("published as %v", k)
		}
		kids = append(kids, k["kid"].(string))
	}
	slices.Sort(kids)
	return kids
}

func sorted(kids ...string) []string {
	slices.Sort(kids)
	return kids
}

func TestSeveralServersMakeOneFirstKey(t *testing.T) {
	t.Parallel()
	w := newWorld()
	var wg sync.WaitGroup
	kids := make(chan string, 16)
	for range 8 {
		wg.Go(func() {
			r := w.open(t)
			for range 2 {
				if err := r.Ensure(t.Context(), token.EdDSA); err != nil {
					t.Error(err)
				}
			}
			kids <- signer(t, r, "")
			kids <- signer(t, r, token.EdDSA)
		})
	}
	wg.Wait()
	close(kids)
	seen := make(map[string]int)
	for kid := range kids {
		seen[kid]++
	}
	if len(seen) != 2 || len(w.open(t).Infos()) != 2 {
		t.Errorf("keys %v", seen)
	}
}

func TestTheLifeOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := w.open(t)
	first := signer(t, r, "")
	if signer(t, r, token.ES256) != first || !slices.Equal(published(t, r), []string{first}) {
		t.Fatal("the first key signs at once")
	}
	if err := r.Ensure(t.Context(), ""); err != nil || len(r.Infos()) != 1 {
		t.Error("there was one for the default", err)
	}
	if _, err := r.Signer(token.PS256); !errors.Is(err, token.ErrNoKey) {
		t.Error(err)
	}
	w.pass(time.Minute)
	if err := r.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	var second string
	for kid := range statuses(r) {
		if kid != first {
			second = kid
		}
	}
	expect := func(step, signs string, want map[string]string, public ...string) {
		t.Helper()
		if err := r.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := signer(t, r, ""); got != signs {
			t.Errorf("%s: %s signs", step, got)
		}
		got := statuses(r)
		if len(got) != len(want) {
			t.Errorf("%s: %v", step, got)
		}
		for kid, status := range want {
			if got[kid] != status {
				t.Errorf("%s: %s is %q, want %q", step, kid, got[kid], status)
			}
		}
		if got := published(t, r); !slices.Equal(got, sorted(public...)) {
			t.Errorf("%s: published %v", step, got)
		}
	}
	expect("published before it signs", first, map[string]string{first: keys.Active, second: keys.Next}, first, second)
	w.pass(ahead - time.Second)
	expect("a second before", first, map[string]string{first: keys.Active, second: keys.Next}, first, second)
	w.pass(time.Second)
	expect("signs", second, map[string]string{first: keys.Retiring, second: keys.Active}, first, second)
	infos := r.Infos()
	if infos[0].ID != second || infos[1].ID != first || !infos[1].Replaced.Equal(infos[0].Active) || !infos[0].Replaced.IsZero() {
		t.Errorf("%+v", infos)
	}
	w.pass(overlap - time.Second)
	expect("a second before the old one goes", second, map[string]string{first: keys.Retiring, second: keys.Active}, first, second)
	w.pass(time.Second)
	expect("the old one is gone", second, map[string]string{second: keys.Active}, second)
	if _, err := r.Key(t.Context(), first); !errors.Is(err, token.ErrNoKey) {
		t.Error(err)
	}
	if fresh := w.open(t); signer(t, fresh, "") != second {
		t.Error("a new server signs with another key")
	}
}

func TestWithdrawing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r, replica := w.open(t), w.open(t)
	first := signer(t, r, "")
	for range 2 { // a repetition is no mistake
		if err := r.Withdraw(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	second := signer(t, r, "")
	if second == first || !slices.Equal(published(t, r), []string{second}) {
		t.Errorf("%s signs, %v are published", second, published(t, r))
	}
	if _, err := r.Key(t.Context(), first); !errors.Is(err, token.ErrNoKey) {
		t.Error(err)
	}
	recs, err := store.Read(t.Context(), w.records, store.Key{Partition: "keys", Name: "kid/" + first})
	if err != nil || !recs[0].Exists() || strings.Contains(string(recs[0].Value), "sealed") {
		t.Errorf("kept as %s, %v", recs[0].Value, err)
	}
	if got := statuses(r)[first]; got != keys.Withdrawn {
		t.Errorf("status %q", got)
	}
	if err := replica.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Key(t.Context(), first); !errors.Is(err, token.ErrNoKey) || signer(t, replica, "") != second {
		t.Error("the replica", err)
	}
	for name, kid := range map[string]string{"unknown": "nobody", "empty": "", "control characters": "a\nb", "too long": strings.Repeat("k", 600)} {
		if err := r.Withdraw(t.Context(), kid); !errors.Is(err, keys.ErrWithdrawn) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.pass(overlap)
	if err := r.Tend(t.Context()); err != nil || len(r.Infos()) != 1 {
		t.Errorf("%v, %v", r.Infos(), err)
	}
}

func TestWithdrawingAroundARotation(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := w.open(t)
	first := signer(t, r, "")
	if err := r.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	next := r.Infos()[0].ID
	if err := r.Withdraw(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := signer(t, r, ""); got != next || statuses(r)[next] != keys.Active || len(r.Infos()) != 2 {
		t.Errorf("%s signs, %v: the published one should take over early", got, statuses(r))
	}
	w.pass(ahead)
	if err := r.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	third := r.Infos()[0].ID
	w.pass(ahead)
	if signer(t, r, "") != third {
		t.Error("the third does not sign")
	}
	if err := r.Withdraw(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if got := signer(t, r, ""); got != next {
		t.Errorf("%s signs, %v: the one that is still published should", got, statuses(r))
	}
}

func TestAReplicaKnowsTheNewestKey(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.open(t), w.open(t)
	if err := one.Ensure(t.Context(), token.EdDSA); err != nil {
		t.Fatal(err)
	}
	k, err := two.Key(t.Context(), signer(t, one, token.EdDSA))
	if err != nil || k.Alg != token.EdDSA {
		t.Errorf("%+v, %v", k, err)
	}
	before := w.records.lists.Load()
	for range 100 {
		if _, err := two.Key(t.Context(), "nobody"); !errors.Is(err, token.ErrNoKey) {
			t.Fatal(err)
		}
	}
	if n := w.records.lists.Load() - before; n != 0 {
		t.Errorf("%d readings within a second of the last", n)
	}
	w.pass(time.Second)
	for range 100 {
		_, _ = two.Key(t.Context(), "nobody")
	}
	if n := w.records.lists.Load() - before; n != 1 {
		t.Errorf("%d readings", n)
	}
	w.pass(time.Second)
	w.records.down.Store(true)
	if _, err := two.Key(t.Context(), "nobody"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without the store: %v", err)
	}
}

func TestRotationByAge(t *testing.T) {
	t.Parallel()
	w := newWorld()
	cfg := w.config()
	cfg.RotateEvery = 24 * time.Hour
	rings := []*keys.Ring{open(t, cfg), open(t, cfg), open(t, cfg)}
	tend := func() {
		var wg sync.WaitGroup
		for _, r := range rings {
			wg.Go(func() {
				if err := r.Tend(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	w.pass(24*time.Hour - time.Second)
	tend()
	if n := len(rings[0].Infos()); n != 1 {
		t.Errorf("%d keys before the time", n)
	}
	w.pass(time.Second)
	tend()
	tend()
	for _, r := range rings {
		if n := len(r.Infos()); n != 2 {
			t.Errorf("%d keys", n)
		}
	}
	w.pass(24 * time.Hour)
	tend()
	tend()
	if n := len(rings[0].Infos()); n != 2 {
		t.Errorf("%d keys a day later: %v", n, statuses(rings[0]))
	}
}

func TestAnotherServerIsQuicker(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one, two := w.open(t), w.open(t)
	quicker := func() {
		if err := two.Ensure(t.Context(), token.EdDSA); err != nil {
			t.Error(err)
		}
	}
	w.records.between.Store(&quicker)
	if err := one.Ensure(t.Context(), token.EdDSA); err != nil {
		t.Fatal(err)
	}
	if a, b := signer(t, one, token.EdDSA), signer(t, two, token.EdDSA); a != b || len(one.Infos()) != 2 {
		t.Errorf("%s and %s sign, %v", a, b, one.Infos())
	}
	// A rotation that was asked for happens all the same.
	rotate := func() {
		if err := two.Rotate(t.Context(), ""); err != nil {
			t.Error(err)
		}
	}
	w.records.between.Store(&rotate)
	if err := one.Rotate(t.Context(), ""); err != nil || len(one.Infos()) != 4 {
		t.Errorf("%v, %v", one.Infos(), err)
	}
	// Both withdraw the same key.
	kid := signer(t, one, "")
	withdraw := func() {
		if err := two.Withdraw(t.Context(), kid); err != nil {
			t.Error(err)
		}
	}
	w.records.between.Store(&withdraw)
	if err := one.Withdraw(t.Context(), kid); err != nil || statuses(one)[kid] != keys.Withdrawn {
		t.Errorf("%v, %v", statuses(one), err)
	}
}

// TestSomebodyAlwaysSigns: a server that stops right after a withdrawal, and another that reads in that moment, leave nobody
// without a key.
func TestSomebodyAlwaysSigns(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r, replica := w.open(t), w.open(t)
	kid := signer(t, r, "")
	w.records.stops.Store(true)
	if err := r.Withdraw(t.Context(), kid); !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	w.records.down.Store(false)
	if err := replica.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if signer(t, replica, "") == kid || statuses(replica)[kid] != keys.Withdrawn {
		t.Error(statuses(replica))
	}
}

// TestTwoWithdrawWhatIsLeft: each of two servers takes the other's key for the one that goes on signing.
func TestTwoWithdrawWhatIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld()
	one := w.open(t)
	first := signer(t, one, "")
	if err := one.Rotate(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	second := one.Infos()[0].ID
	two := w.open(t)
	other := func() {
		if err := two.Withdraw(t.Context(), second); err != nil {
			t.Error(err)
		}
	}
	w.records.between.Store(&other)
	if err := one.Withdraw(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if third := signer(t, one, ""); third == first || third == second {
		t.Errorf("%s signs, %v", third, statuses(one))
	}
}

func TestThereIsALimit(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := w.open(t)
	var err error
	for range 16 {
		err = r.Rotate(t.Context(), token.EdDSA)
	}
	if !errors.Is(err, keys.ErrCrowded) || len(published(t, r)) != 16 {
		t.Errorf("%v, %d keys", err, len(published(t, r)))
	}
	if err := r.Rotate(t.Context(), "HS256"); err == nil {
		t.Error("made a key for HS256")
	}
}

func TestWhatIsWrongWithTheRecords(t *testing.T) {
	t.Parallel()
	put := func(t *testing.T, w *world, name, value string) {
		t.Helper()
		_, err := store.Apply(t.Context(), w.records, store.Commit{
			Partition: "keys", Writes: []store.Write{{Name: name, Value: []byte(value), Listed: true}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	entry := func(t *testing.T, w *world, kid string) string {
		t.Helper()
		recs, err := store.Read(t.Context(), w.records, store.Key{Partition: "keys", Name: "kid/" + kid})
		if err != nil {
			t.Fatal(err)
		}
		return string(recs[0].Value)
	}
	for name, spoil := range map[string]func(*testing.T, *world, string){
		"no JSON":            func(t *testing.T, w *world, kid string) { put(t, w, "kid/"+kid, "x") },
		"nothing sealed":     func(t *testing.T, w *world, kid string) { put(t, w, "kid/"+kid, `{"alg":"ES256"}`) },
		"under another name": func(t *testing.T, w *world, kid string) { put(t, w, "kid/other", entry(t, w, kid)) },
		"of another algorithm": func(t *testing.T, w *world, kid string) {
			put(t, w, "kid/"+kid, strings.Replace(entry(t, w, kid), `"alg":"ES256"`, `"alg":"PS256"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			r := w.open(t)
			kid := signer(t, r, "")
			spoil(t, w, kid)
			if err := r.Refresh(t.Context()); err == nil {
				t.Error("read")
			}
			if signer(t, r, "") != kid {
				t.Error("the keys of before are gone")
			}
			if _, err := keys.Open(t.Context(), w.config()); err == nil {
				t.Error("opened")
			}
			if name == "no JSON" {
				if err := r.Withdraw(t.Context(), kid); err == nil {
					t.Error("withdrawn")
				}
			}
		})
	}
	w := newWorld()
	w.open(t)
	cfg := w.config()
	cfg.Master = [32]byte{8}
	if _, err := keys.Open(t.Context(), cfg); !errors.Is(err, token.ErrMaster) {
		t.Errorf("another master key: %v", err)
	}
}

func TestWithoutTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld()
	cfg := w.config()
	cfg.RotateEvery = time.Hour
	r := open(t, cfg)
	kid := signer(t, r, "")
	w.records.down.Store(true)
	w.pass(2 * time.Hour)
	for name, call := range map[string]func() error{
		"refresh":  func() error { return r.Refresh(t.Context()) },
		"rotate":   func() error { return r.Rotate(t.Context(), "") },
		"withdraw": func() error { return r.Withdraw(t.Context(), kid) },
		"ensure":   func() error { return r.Ensure(t.Context(), token.EdDSA) },
		"tend":     func() error { return r.Tend(t.Context()) },
		"open":     func() error { _, err := keys.Open(t.Context(), cfg); return err },
	} {
		if err := call(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if signer(t, r, "") != kid {
		t.Error("it signs no more")
	}
}

func TestTheConfigurationMustBeComplete(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*keys.Config){
		"records": func(c *keys.Config) { c.Records = nil },
		"default": func(c *keys.Config) { c.Default = "HS256" },
		"now":     func(c *keys.Config) { c.Now = nil },
		"ahead":   func(c *keys.Config) { c.Ahead = -1 },
		"overlap": func(c *keys.Config) { c.Overlap = -1 },
	} {
		cfg := newWorld().config()
		change(&cfg)
		if _, err := keys.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"watching": false, "without a watch": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRun(t, deaf)
		})
	}
}

func testRun(t *testing.T, deaf bool) {
	t.Helper()
	w := newWorld()
	w.records.deaf.Store(deaf)
	one := w.open(t)
	reports := make(chan error, 100)
	cfg := w.config()
	cfg.Report = func(err error) { reports <- err }
	two := open(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { two.Run(ctx); close(ended) }()
	time.Sleep(50 * time.Millisecond) // until it watches
	if err := one.Withdraw(t.Context(), signer(t, one, "")); err != nil {
		t.Fatal(err)
	}
	want := signer(t, one, "")
	for deadline := time.Now().Add(30 * time.Second); signer(t, two, "") != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the change did not arrive")
		}
	}
	w.records.down.Store(true)
	select {
	case err := <-reports:
		if !errors.Is(err, store.ErrUnavailable) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing was reported")
	}
	stop()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it does not end")
	}
}

// TestWhoeverSignsIsKnown: whatever several servers do and in whatever order, somebody signs, with a key that is published
// and was not withdrawn, and what was signed verifies everywhere for as long as a token may live.
func TestWhoeverSignsIsKnown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		cfg := w.config()
		cfg.Default, cfg.RotateEvery = token.EdDSA, 3*time.Hour
		rings := []*keys.Ring{open(t, cfg), open(t, cfg)}
		signed := make(map[string]time.Time) // kid → when it last signed
		withdrawn := make(map[string]bool)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			r := rings[rapid.IntRange(0, 1).Draw(t, "ring")]
			var err error
			switch rapid.SampledFrom([]string{"rotate", "withdraw", "pass", "pass", "tend"}).Draw(t, "step") {
			case "rotate":
				err = r.Rotate(ctx, "")
			case "withdraw":
				infos := r.Infos()
				kid := infos[rapid.IntRange(0, len(infos)-1).Draw(t, "which")].ID
				if err = r.Withdraw(ctx, kid); errors.Is(err, keys.ErrWithdrawn) {
					err = nil // forgotten by the other
				}
				withdrawn[kid] = true
			case "pass":
				w.pass(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
			case "tend":
				err = r.Tend(ctx)
			}
			if err != nil && !errors.Is(err, keys.ErrCrowded) {
				t.Fatal(err)
			}
			for _, r := range rings {
				if err := r.Refresh(ctx); err != nil {
					t.Fatal(err)
				}
				kid := signer(t, r, "")
				if withdrawn[kid] || !slices.Contains(published(t, r), kid) {
					t.Fatalf("%s signs, withdrawn: %v, published: %v", kid, withdrawn[kid], published(t, r))
				}
				signed[kid] = w.Now()
			}
			for kid, last := range signed {
				for _, r := range rings {
					_, err := r.Key(ctx, kid)
					if withdrawn[kid] && err == nil {
						t.Fatalf("%s was withdrawn and still verifies", kid)
					}
					if !withdrawn[kid] && err != nil && w.Now().Before(last.Add(overlap)) {
						t.Fatalf("%s signed %v ago and verifies no more", kid, w.Now().Sub(last))
					}
				}
			}
		}
	})
}
