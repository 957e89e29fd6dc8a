package redis

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"obolus/store"
)

// A fence names the masters: for each the process (run_id), its replication history (master_replid) and a random
// marker that was set there when the two were first met. It is computed from the servers alone, so all processes of
// Obolus find the same one.
//
// Noticed, by the batch itself: a restart, a failover, a node replaced, everything flushed (or the marker evicted, or
// SCRIPT FLUSH), and a master demoted; also on any new connection to a master that Fence has not met.
//
// Not noticed: single keys deleted or evicted by somebody else, and what a former master still accepts from clients
// that a network partition left on its side (min-replicas-to-write bounds that; the check honours it). Those who rely on the
// latter learn of it from records, where the epoch is another one by then: see store.EpochKey. In a Cluster the
// nodes checked are those that held the slots when Fence was computed: a slot that has moved since, in good order, is
// checked where it was. A change of the set of masters changes the fence although nothing is lost, and so does an hour
// (repl-backlog-ttl) in which a master that had replicas has none.

// continuity is what the engine knows about the servers.
type continuity struct {
	mu        sync.Mutex
	known     atomic.Pointer[known]
	strangers atomic.Uint64 // connections to masters that were not known
}

// known is the servers as Fence met them.
type known struct {
	fence     string
	strangers uint64
	nodes     []node
	slots     []span // which node holds which slots; none for a single server
}

type node struct {
	identity string
	word     string // what the marker says
	marker   string // its key
	check    *redis.Script
}

type span struct{ from, to, node int }

// Fence asks the masters who they are.
func (e *Engine) Fence(ctx context.Context) (string, error) {
	if err := e.open(ctx); err != nil {
		return "", err
	}
	k, err := e.meet(ctx)
	if err != nil {
		err = unavailable(err)
		e.doubt(ctx, err)
		return "", err
	}
	return k.fence, nil
}

// knownAs returns what is known of the servers when that is what the fence names, and asks them when it is not, for
// another process may have heard of a change first.
func (e *Engine) knownAs(ctx context.Context, fence string) (*known, error) {
	if fence == "" {
		return nil, nil //nolint:nilnil // nothing is asked, so nothing is known
	}
	k := e.fence.known.Load()
	if k == nil || k.fence != fence || k.strangers != e.fence.strangers.Load() {
		var err error
		if k, err = e.meet(ctx); err != nil {
			return nil, unavailable(err)
		}
	}
	if k.fence != fence {
		return nil, store.ErrFence
	}
	return k, nil
}

// meet asks every master who it is and leaves the script that checks it there.
func (e *Engine) meet(ctx context.Context) (*known, error) {
	e.fence.mu.Lock()
	defer e.fence.mu.Unlock()
	k := &known{strangers: e.fence.strangers.Load()}
	if err := e.meetAll(ctx, k); err != nil {
		return nil, err
	}
	words := make([]string, len(k.nodes))
	for i, n := range k.nodes {
		words[i] = n.word
	}
	slices.Sort(words)
	sum := sha256.Sum256([]byte(strings.Join(words, ",")))
	k.fence = hex.EncodeToString(sum[:16])
	e.fence.known.Store(k)
	return k, nil
}

func (e *Engine) meetAll(ctx context.Context, k *known) error {
	switch c := e.client.(type) {
	case *redis.Client:
		n, err := mark(ctx, c, e.prefix+"fence")
		k.nodes = append(k.nodes, n)
		return err
	case *redis.ClusterClient:
		return e.meetCluster(ctx, c, k)
	default:
		return errors.New("client is of an unknown kind")
	}
}

// meetCluster marks each master with a key in the first of its slots.
func (e *Engine) meetCluster(ctx context.Context, c *redis.ClusterClient, k *known) error {
	slots, err := c.ClusterSlots(ctx).Result() //nolint:staticcheck // Redis 6 and older Valkey have no CLUSTER SHARDS
	if err != nil {
		return err
	}
	met := map[string]int{}
	for _, s := range slots {
		if len(s.Nodes) == 0 {
			return fmt.Errorf("slots %d to %d have no node", s.Start, s.End)
		}
		i, ok := met[s.Nodes[0].ID]
		if !ok {
			key := e.prefix + "fence{" + tagIn(s.Start) + "}"
			master, err := c.MasterForKey(ctx, key)
			if err != nil {
				return err
			}
			n, err := mark(ctx, master, key)
			if err != nil {
				return err
			}
			i = len(k.nodes)
			met[s.Nodes[0].ID], k.nodes = i, append(k.nodes, n)
		}
		k.slots = append(k.slots, span{from: s.Start, to: s.End, node: i})
	}
	if len(k.nodes) == 0 {
		return errors.New("the cluster has no masters")
	}
	return nil
}

// mark does both steps on one connection, so that they concern one process.
func mark(ctx context.Context, c *redis.Client, key string) (node, error) {
	conn := c.Conn()
	defer func() { _ = conn.Close() }()
	answer, err := markScript.Run(ctx, conn, []string{key}, rand.Text()).StringSlice()
	if err != nil {
		return node{}, err
	}
	if len(answer) != 2 {
		return node{}, errAnswer
	}
	n := node{identity: answer[0], word: answer[1], marker: key}
	text := fmt.Sprintf(checkLua, n.word)
	n.check = redis.NewScript(text)
	return n, conn.ScriptLoad(ctx, text).Err()
}

// touched returns the nodes that hold the keys with these bases; all when there are none.
func (k *known) touched(bases []string) []node {
	if len(k.slots) == 0 || len(bases) == 0 {
		return k.nodes
	}
	var nodes []node
	seen := make([]bool, len(k.nodes))
	for _, base := range bases {
		i := k.holder(slot(base[strings.IndexByte(base, '{')+1 : len(base)-1]))
		if !seen[i] {
			seen[i], nodes = true, append(nodes, k.nodes[i])
		}
	}
	return nodes
}

func (k *known) holder(slot int) int {
	for _, s := range k.slots {
		if s.from <= slot && slot <= s.to {
			return s.node
		}
	}
	return 0
}

// greet is called on every new connection: it leaves the scripts, and counts masters that Fence has not met.
func (e *Engine) greet(ctx context.Context, conn *redis.Conn) error {
	info, err := conn.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if field(info, "redis_mode") == "sentinel" {
		return nil
	}
	pipe := conn.Pipeline()
	if err := load(ctx, pipe); err != nil {
		return err
	}
	history := pipe.Info(ctx, "replication")
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	identity := field(info, "run_id") + "." + field(history.Val(), "master_replid")
	k := e.fence.known.Load()
	if k != nil && field(history.Val(), "role") == "master" && !k.has(identity) {
		e.fence.strangers.Add(1)
	}
	return nil
}

func (k *known) has(identity string) bool {
	return slices.ContainsFunc(k.nodes, func(n node) bool { return n.identity == identity })
}

// tagIn finds a hash tag in a slot.
func tagIn(want int) string {
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); slot(tag) == want {
			return tag
		}
	}
}

// slot is where a Cluster puts a hash tag: CRC-16/XMODEM modulo 16384.
func slot(tag string) int {
	var crc uint16
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return int(crc % 16384)
}
