package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"obolus/store"
	"obolus/store/redis"
	"obolus/store/storetest"
	"obolus/store/storetest/servers"
)

func open(t testing.TB, url string, o redis.Options) *redis.Engine {
	t.Helper()
	e, err := redis.Open(t.Context(), patient(url), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// patient has a busy machine waited for, unless a URL says how long.
func patient(url string) string {
	if strings.Contains(url, "read_timeout") {
		return url
	}
	sign := "?"
	if strings.Contains(url, "?") {
		sign = "&"
	}
	return url + sign + "dial_timeout=30s&read_timeout=30s&write_timeout=30s&pool_timeout=30s"
}

// suite gives each test a prefix of its own on one server.
func suite(url string) storetest.Suite {
	serial := 0
	again := func(t *testing.T) store.Engine {
		t.Helper()
		return open(t, url, redis.Options{Prefix: fmt.Sprintf("test%d:", serial)})
	}
	return storetest.Suite{
		Open:   func(t *testing.T) store.Engine { serial++; return again(t) },
		Reopen: again,
		Second: again,
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, suite(servers.Redis(t)))
}

func TestContractUnderSentinel(t *testing.T) {
	t.Parallel()
	master, _ := pair(t)
	storetest.Run(t, suite(master.Sentinel()))
}

// TestCluster has six nodes, which its parts share. The last one breaks them.
func TestCluster(t *testing.T) {
	t.Parallel()
	url, nodes := servers.Cluster(t, 3, 1)
	t.Run("contract", func(t *testing.T) { storetest.Run(t, suite(url)) })
	t.Run("the fence notices a flushed node", func(t *testing.T) {
		fenceBreaks(t, url, func() { client(t, nodes[1]).FlushAll(t.Context()) })
	})
	t.Run("the fence notices a failover", func(t *testing.T) {
		fenceBreaks(t, url, func() {
			nodes[2].Kill()
			nodes[5].TakeOver()
		})
	})
	t.Run("the fence notices a node that starts anew", func(t *testing.T) {
		fenceBreaks(t, url, nodes[5].Restart)
	})
}

// pair starts a master with a replica in step.
func pair(t *testing.T) (master, replica *servers.RedisServer) {
	t.Helper()
	master = servers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	return master, master.Replica()
}

func commit(n int, listed bool) store.Commit {
	return store.Commit{Partition: fmt.Sprint("txn", n), Writes: []store.Write{
		{Name: "state", Value: []byte("value"), TTL: time.Minute, Listed: listed},
	}}
}

// counter counts what goes over the wire.
type counter struct{ pipelines, commands atomic.Int32 }

func (c *counter) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (c *counter) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		c.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		c.pipelines.Add(1)
		return next(ctx, cmds)
	}
}

func TestABatchIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	c := &counter{}
	e := open(t, servers.Redis(t), redis.Options{Hooks: []goredis.Hook{c}})
	fence, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reads := []store.Key{{Partition: "a", Name: "x"}, {Partition: "b", Name: "y"}}
	for _, b := range []store.Batch{
		{},
		{Reads: reads},
		{Reads: reads, Fence: fence},
		{Commits: []store.Commit{commit(1, true)}},
		{Commits: []store.Commit{commit(1, false), commit(2, true)}, Reads: reads, Fence: fence},
	} {
		c.pipelines.Store(0)
		c.commands.Store(0)
		if _, err := e.Do(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if p, n := c.pipelines.Load(), c.commands.Load(); p != 1 || n != 0 {
			t.Errorf("%d commits, %d reads: %d pipelines, %d single commands", len(b.Commits), len(b.Reads), p, n)
		}
	}
}

func TestFenceNoticesARestart(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	fenceBreaks(t, s.URL, s.Restart)
}

func TestFenceNoticesAFlush(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	fenceBreaks(t, s.URL, func() { client(t, s).FlushAll(t.Context()) })
}

func TestFenceNoticesFlushedScripts(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	before, _ := e.Fence(t.Context())
	client(t, s).ScriptFlush(t.Context())
	if _, err := e.Do(t.Context(), store.Batch{Fence: before}); !errors.Is(err, store.ErrFence) {
		t.Errorf("got %v", err)
	}
	if after, _ := e.Fence(t.Context()); after != before {
		t.Errorf("nothing was lost, and yet %q became %q", before, after)
	}
	if _, err := e.Do(t.Context(), store.Batch{Fence: before}); err != nil {
		t.Error(err)
	}
}

// fenceBreaks holds that what happens breaks the fence for an engine that is open and for one that only knows the fence.
func fenceBreaks(t *testing.T, url string, happen func()) {
	t.Helper()
	e, other := open(t, url, redis.Options{}), open(t, url, redis.Options{})
	before, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var everywhere store.Batch
	for i := range 50 {
		everywhere.Reads = append(everywhere.Reads, store.Key{Partition: fmt.Sprint("p", i), Name: "n"})
	}
	everywhere.Fence = before
	if _, err := e.Do(t.Context(), everywhere); err != nil {
		t.Fatal(err)
	}
	happen()
	for _, engine := range []*redis.Engine{e, other} {
		for range 2 {
			refused(t, engine, everywhere)
		}
	}
	after, err := e.Fence(t.Context())
	if err != nil || after == before {
		t.Fatalf("fence was %q and is %q, %v", before, after, err)
	}
	refused(t, e, everywhere)
	if again, _ := other.Fence(t.Context()); again != after {
		t.Errorf("one engine says %q, the other %q", after, again)
	}
	everywhere.Fence = after
	for _, engine := range []*redis.Engine{e, other} {
		if _, err := engine.Do(t.Context(), everywhere); err != nil {
			t.Error(err)
		}
	}
}

// refused asks until the servers are reachable again; anything but ErrFence then is wrong.
func refused(t *testing.T, e store.Engine, b store.Batch) {
	t.Helper()
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		_, err := e.Do(t.Context(), b)
		if errors.Is(err, store.ErrUnavailable) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if !errors.Is(err, store.ErrFence) {
			t.Errorf("got %v, want ErrFence", err)
		}
		return
	}
	t.Error("the servers do not come back")
}

func TestFenceNoticesAFailover(t *testing.T) {
	t.Parallel()
	master, replica := pair(t)
	e := open(t, master.Sentinel(), redis.Options{})
	before, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Do(t.Context(), store.Batch{Fence: before, Commits: []store.Commit{commit(1, false)}}); err != nil {
		t.Fatal(err)
	}
	master.Kill()
	replica.TakeOver()
	refused(t, e, store.Batch{Fence: before, Reads: []store.Key{{Partition: "txn1", Name: "state"}}})
	if after, err := e.Fence(t.Context()); err != nil || after == before {
		t.Errorf("fence was %q and is %q, %v", before, after, err)
	}
}

func TestAFormerMasterIsRefused(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	fence, _ := e.Fence(t.Context())
	other := servers.StartRedis(t)
	c := client(t, s)
	host, port, _ := net.SplitHostPort(other.Addr)
	c.ReplicaOf(t.Context(), host, port)
	if _, err := e.Do(t.Context(), store.Batch{Fence: fence, Reads: []store.Key{{Partition: "p", Name: "a"}}}); err == nil {
		t.Error("a replica was read under the fence")
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL+"?read_timeout=200ms", redis.Options{})
	write := store.Batch{Commits: []store.Commit{commit(1, true)}}
	unavailable := func(name string) {
		t.Helper()
		if _, err := e.Do(t.Context(), write); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	works := func(name string) {
		t.Helper()
		_, err := e.Do(t.Context(), write)
		for late := time.Now().Add(time.Minute); errors.Is(err, store.ErrUnavailable) && time.Now().Before(late); { // a busy machine looks as if it hung
			_, err = e.Do(t.Context(), write)
		}
		if err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	works("at first")
	s.Pause()
	unavailable("hanging")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Do(ctx, write); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("deadline: got %v", err)
	}
	s.Resume()
	works("going on")
	client(t, s).ConfigSet(t.Context(), "maxmemory", "1kb")
	unavailable("out of memory")
	if _, err := open(t, s.URL, redis.Options{}).Do(t.Context(), store.Batch{Reads: []store.Key{{Partition: "p", Name: "a"}}}); err != nil {
		t.Errorf("reading when out of memory: %v", err)
	}
	client(t, s).ConfigSet(t.Context(), "maxmemory", "0")
	works("with memory again")
	s.Stop()
	unavailable("stopped")
	s.Restart()
	works("started again")
}

func TestWatchesEndWithTheConnection(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	told, err := e.Watch(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	s.Restart()
	select {
	case _, ok := <-told:
		if ok {
			t.Error("something was told")
		}
	case <-time.After(time.Minute):
		t.Fatal("the watch goes on")
	}
	if told, err = e.Watch(t.Context(), "txn1"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{commit(1, false)}}); err != nil {
		t.Fatal(err)
	}
	if name := <-told; name != "state" {
		t.Errorf("told %q", name)
	}
}

func TestManyWatchesShareAConnection(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	for round := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 50 {
			if _, err := e.Watch(ctx, fmt.Sprint("p", i)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if n := strings.Count(client(t, s).ClientList(t.Context()).Val(), "flags=P"); n != 1 {
			t.Errorf("%d connections for watching", n)
		}
		cancel()
	}
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		if len(client(t, s).PubSubChannels(t.Context(), "*").Val()) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("subscriptions are left behind")
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	for i := range 20 {
		c := commit(i%2, true)
		c.Writes[0].Name = fmt.Sprint("n", i)
		c.Writes[0].TTL = time.Duration(20+i) * time.Millisecond
		c.Writes = append(c.Writes, store.Write{Name: "sum", Add: 1 << 60, TTL: 20 * time.Millisecond}, store.Write{Name: "gone", Listed: true})
		gone := store.Commit{Partition: c.Partition, Writes: []store.Write{{Name: "gone", Delete: true, Listed: true}, {Name: "sum", Delete: true}}}
		if _, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{c, gone}}); err != nil {
			t.Fatal(err)
		}
	}
	c := client(t, s)
	for late := time.Now().Add(time.Minute); time.Now().Before(late); {
		if keys := c.Keys(t.Context(), "*").Val(); len(keys) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("left behind: %q", c.Keys(t.Context(), "*").Val())
}

func TestTheDeadLeaveTheIndex(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	for i := range 300 {
		c := commit(1, true)
		c.Writes[0].Name, c.Writes[0].TTL = fmt.Sprint("n", i), time.Millisecond
		c.Writes = append(c.Writes, store.Write{Name: "stays", Listed: true})
		if _, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{c}}); err != nil {
			t.Fatal(err)
		}
	}
	c := client(t, s)
	for _, key := range c.Keys(t.Context(), "*").Val() {
		if strings.HasSuffix(key, "\x01") && c.ZCard(t.Context(), key).Val() > 100 {
			t.Errorf("%q holds %d names", key, c.ZCard(t.Context(), key).Val())
		}
	}
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	for range 3 {
		client(t, s).ScriptFlush(t.Context())
		res, err := e.Do(t.Context(), store.Batch{
			Commits: []store.Commit{
				{Partition: "p", Writes: []store.Write{{Name: "n", Add: 1}}},
				{Partition: "p", Writes: []store.Write{{Name: "n", Add: 1}}},
			},
			Reads: []store.Key{{Partition: "p", Name: "n"}},
		})
		if err != nil || res.Records[0].Count()%2 != 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		client(t, s).ScriptFlush(t.Context())
		if _, err := e.Do(t.Context(), store.Batch{Reads: []store.Key{{Partition: "p", Name: "n"}}}); err != nil {
			t.Error(err)
		}
	}
}

func TestMemoryPerToken(t *testing.T) {
	t.Parallel()
	const tokens = 20_000
	s := servers.StartRedis(t)
	e := open(t, s.URL, redis.Options{})
	before := used(t, s)
	value := make([]byte, 600)
	for i := 0; i < tokens; i += 500 {
		var b store.Batch
		for n := range 500 {
			b.Commits = append(b.Commits, store.Commit{Partition: fmt.Sprintf("e1/txn/01JDXQ5W7Z%010d", i+n), Writes: []store.Write{
				{Name: "token", Value: value, TTL: time.Hour},
			}})
		}
		if _, err := e.Do(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	each := (used(t, s) - before) / tokens
	t.Logf("%d bytes for a token of 600", each)
	if each > 1024 {
		t.Errorf("%d bytes for a token of 600", each)
	}
}

func used(t *testing.T, s *servers.RedisServer) int {
	t.Helper()
	var n int
	for line := range strings.Lines(client(t, s).Info(t.Context(), "memory").Val()) {
		fmt.Sscanf(line, "used_memory:%d", &n)
	}
	return n
}

func TestURLs(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t, "--requirepass", "secret")
	for _, c := range []struct{ url, want string }{
		{"redis://:secret@" + s.Addr, ""},
		{"redis://default:secret@" + s.Addr + "/3?pool_size=2&dial_timeout=2s", ""},
		{"redis://:wrong@" + s.Addr, "WRONGPASS"},
		{"http://:secret@" + s.Addr, "redis url is none of"},
		{"redis://:secret@" + s.Addr + "/x", "invalid database number"},
		{"redis://:secret@" + s.Addr + "/%zz", "redis url is none of"},
		{"redis://:secret@" + s.Addr + "?unknown=1", "unexpected option: unknown"},
		{"redis://:secret@" + s.Addr + "?max_retries=3", "never repeated"},
		{"redis://:secret@" + s.Addr + ",other:1", "more than one host"},
		{"redis://:secret@" + s.Addr + "?ca_file=ca.pem", "ca_file wants rediss://"},
		{"rediss://:secret@" + s.Addr + "?skip_verify=true", "skip_verify cannot be set"},
		{"rediss://:secret@" + s.Addr + "?ca_file=/nowhere/ca.pem", "/nowhere/ca.pem"},
		{"rediss://:secret@" + s.Addr + "?ca_file=redis_test.go", "has no certificate in PEM"},
		{"rediss://:secret@" + s.Addr + "?cert_file=a", "go together"},
		{"rediss://:secret@" + s.Addr + "?cert_file=a&key_file=b", "cert_file and key_file: "},
		{"redis+sentinel://:secret@" + s.Addr, "needs ?master=name"},
		{"redis+cluster://:secret@" + s.Addr + "/1", "no numbered databases"},
	} {
		e, err := redis.Open(t.Context(), c.url, redis.Options{})
		if err == nil {
			_, err = e.Fence(t.Context())
			e.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.url, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}

func TestARedisThatEvictsIsRefused(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	c := client(t, s)
	for _, step := range []struct {
		policy, memory string
		refused        bool
		warnings       int
	}{
		{"noeviction", "0", false, 0},
		{"noeviction", "100mb", false, 0},
		{"allkeys-lru", "0", false, 1},
		{"allkeys-lru", "100mb", true, 0},
		{"volatile-ttl", "100mb", true, 0},
	} {
		c.ConfigSet(t.Context(), "maxmemory-policy", step.policy)
		c.ConfigSet(t.Context(), "maxmemory", step.memory)
		e, err := redis.Open(t.Context(), s.URL, redis.Options{})
		if (err != nil) != step.refused || err != nil && !strings.Contains(err.Error(), "noeviction") {
			t.Errorf("%s, %s: got %v", step.policy, step.memory, err)
		}
		if err != nil {
			continue
		}
		if w := e.Warnings(); len(w) != step.warnings {
			t.Errorf("%s, %s: warnings %q", step.policy, step.memory, w)
		}
		e.Close()
	}
}

// TestAnAccountWithNoMoreThanItNeeds has the commands that are documented.
func TestAnAccountWithNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	account(t, s)
	e := open(t, "redis://obolus:secret@"+s.Addr, redis.Options{})
	fence, err := e.Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, err := e.Watch(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []store.Write{
		{Name: "n", Add: 1 << 60},
		{Name: "n", Add: 1, TTL: time.Hour},
		{Name: "l", Value: []byte("x"), Listed: true, TTL: time.Millisecond},
		{Name: "l", Value: []byte("x"), Listed: true},
		{Name: "l", Delete: true, Listed: true},
		{Name: "v", Value: []byte("x"), Version: 1 << 52},
		{Name: "v", Value: []byte("x"), Version: 1 << 51, Listed: true},
	} {
		_, err := e.Do(t.Context(), store.Batch{
			Fence:   fence,
			Commits: []store.Commit{{Partition: "p", If: []store.Condition{{Name: "n", Is: store.AtMost, Count: 1 << 61}}, Writes: []store.Write{w}}},
			Reads:   []store.Key{{Partition: "p", Name: w.Name}},
		})
		if err != nil {
			t.Errorf("%+v: %v", w, err)
		}
		time.Sleep(2 * time.Millisecond)
		if w.Version == 1<<51 { // which is passed over
			break
		}
		select {
		case name := <-told:
			if name != w.Name {
				t.Errorf("told %q", name)
			}
		case <-time.After(time.Minute):
			t.Errorf("%+v was not told", w)
		}
	}
	if _, err := e.List(t.Context(), "p", "", 10); err != nil {
		t.Error(err)
	}
	cancel()
	if _, err := e.Watch(t.Context(), "q"); err != nil {
		t.Error(err)
	}
}

// account makes an account by the command of docs/operations.md, which may do more if it is named.
func account(t *testing.T, s *servers.RedisServer, more ...string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(doc), "\nACL SETUSER ")
	command, _, _ = strings.Cut(command, "\n```")
	rule := []any{"acl", "setuser"}
	for word := range strings.FieldsSeq(strings.Replace(command, ">PASSWORD", ">secret", 1)) {
		rule = append(rule, word)
	}
	for _, word := range more {
		rule = append(rule, "+"+word)
	}
	if err := client(t, s).Do(t.Context(), rule...).Err(); err != nil {
		t.Fatal(err)
	}
}

// An account needs one more command where replicas confirm, and one more on a Cluster.
func TestAccountsForMore(t *testing.T) {
	t.Parallel()
	master, _ := pair(t)
	_, nodes := servers.Cluster(t, 1, 1)
	for _, tc := range []struct {
		name, url string
		server    *servers.RedisServer
		command   string
	}{
		{"replicas", "redis://obolus:secret@" + master.Addr + "?read_timeout=5s&replicas=1&replicas_timeout=4s", master, "wait"},
		{"cluster", "redis+cluster://obolus:secret@" + nodes[0].Addr, nodes[0], "cluster|slots"},
	} {
		for _, granted := range []bool{false, true} {
			account(t, tc.server)
			if granted {
				account(t, tc.server, tc.command)
			}
			var fence string
			e, err := redis.Open(t.Context(), patient(tc.url), redis.Options{})
			if err == nil {
				defer e.Close()
				fence, err = e.Fence(t.Context())
			}
			if err == nil {
				_, err = e.Do(t.Context(), store.Batch{Fence: fence, Commits: []store.Commit{spend(1)}})
			}
			if granted != (err == nil) || err != nil && !strings.Contains(err.Error(), "NOPERM") {
				t.Errorf("%s, granted %v: %v", tc.name, granted, err)
			}
		}
	}
}

// The pool is as large as the URL says, and a call waits no longer for a place in it than the URL says.
func TestThePool(t *testing.T) {
	t.Parallel()
	s := servers.StartRedis(t)
	e := open(t, s.URL+"?pool_size=2&max_active_conns=2&pool_timeout=50ms&dial_timeout=5m&read_timeout=5m&client_name=pool", redis.Options{})
	large := commit(1, false) // so that each goes by itself
	large.Writes[0].Value = make([]byte, 100_000)
	s.Pause()
	var all sync.WaitGroup
	var refused atomic.Int32
	for range 10 {
		all.Go(func() {
			began := time.Now()
			_, err := e.Do(t.Context(), store.Batch{Commits: []store.Commit{large}})
			if err == nil {
				return
			}
			refused.Add(1)
			if took := time.Since(began); !errors.Is(err, store.ErrUnavailable) || took > time.Minute {
				t.Errorf("after %s: %v", took, err)
			}
		})
	}
	for late := time.Now().Add(time.Minute); refused.Load() < 8 && time.Now().Before(late); {
		time.Sleep(5 * time.Millisecond)
	}
	s.Resume()
	all.Wait()
	if n := refused.Load(); n != 8 {
		t.Errorf("%d of 10 were refused, with two places", n)
	}
	if n := strings.Count(client(t, s).ClientList(t.Context()).Val(), "name=pool"); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func client(t testing.TB, s *servers.RedisServer) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr})
	t.Cleanup(func() { c.Close() })
	return c
}

func BenchmarkDo(b *testing.B) {
	url := servers.Redis(b)
	o, err := goredis.ParseURL(url)
	if err != nil {
		b.Fatal(err)
	}
	floor := goredis.NewClient(o)
	defer floor.Close()
	b.Run("floor: PING", func(b *testing.B) {
		for b.Loop() {
			floor.Ping(b.Context())
		}
	})
	storetest.Bench(b, open(b, url, redis.Options{}))
}
