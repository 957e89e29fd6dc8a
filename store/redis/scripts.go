package redis

import (
	"context"
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// A record is one string: its version and its expiry in milliseconds (zero for never), eight bytes each, then the
// value. Redis expires it by itself; the expiry inside saves asking for it. Names carry no control characters, so keys
// that end in one are ours: \1 is the index of listed names in byte order, \2 their expiries, \3 is for sums that are
// too large for Lua.
const (
	headSize    = 16
	indexName   = "\x01"
	deathsName  = "\x02"
	scratchName = "\x03"
)

// A script may write for as long as it runs once it has written, so a commit is whole: what Redis refuses (memory,
// replica, disk) it refuses at the first write. Everything that can fail by itself is decided before that.
//
// KEYS: the records of the conditions, those of the writes, then index and deaths if anything is listed, then scratch
// if anything is added. ARGV: the key prefix of the partition, NotAfter, the number of conditions, of writes; two for
// each condition, four for each write. The answer: state, microseconds, the records seen, the records written.
//
//go:embed commit.lua
var commitLua string

// KEYS: index, deaths. ARGV: the key prefix of the partition, after, limit. It takes the dead it meets out of the index.
//
//go:embed list.lua
var listLua string

// KEYS: anything that lies on the node to ask.
//
//go:embed clock.lua
var clockLua string

// KEYS: the marker. ARGV: a random word. A marker is kept for as long as the process and its replication history are
// the ones it was set by. The answer: the identity of the process and the marker.
//
//go:embed mark.lua
var markLua string

// The script that checks a marker carries it in its text and is loaded only where Fence set it, so another process
// does not know the script, and neither does the same one after a restart. GETEX is a write to Redis: a replica
// refuses it, and so does a master that has too few replicas or a failing disk. KEYS: the marker.
//
//go:embed check.lua
var checkLua string

// load leaves the scripts at whatever it is given: a pipeline, or all masters.
func load(ctx context.Context, to redis.Scripter) error {
	for _, text := range []string{commitLua, listLua, clockLua, markLua} {
		if err := to.ScriptLoad(ctx, text).Err(); err != nil {
			return err
		}
	}
	return nil
}

var commitScript = redis.NewScript(commitLua)

var listScript = redis.NewScript(listLua)

var clockScript = redis.NewScript(clockLua)

var markScript = redis.NewScript(markLua)
