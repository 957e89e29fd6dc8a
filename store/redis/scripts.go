package redis

import (
	"context"

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
const commitLua = `
local base, limit, conds, writes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local t = redis.call('TIME')
local micros = t[1] * 1000000 + t[2]
local now = math.floor(micros / 1000)

local function count(raw)
  local sign, digits = string.match(string.sub(raw or '', 17), '^([+-]?)0*(%d+)$')
  if not digits or digits == '0' then return '0' end
  local most = sign == '-' and '9223372036854775808' or '9223372036854775807'
  if #digits > 19 or #digits == 19 and digits > most then return '0' end
  return (sign == '-' and '-' or '') .. digits
end

local function atmost(a, b)
  local below, under = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
  if below ~= under then return below end
  if below then a, b = string.sub(b, 2), string.sub(a, 2) end
  if #a ~= #b then return #a < #b end
  return a <= b
end

local function sum(a, b)
  if #a < 16 and #b < 16 then return string.format('%.0f', tonumber(a) + tonumber(b)) end
  local scratch = KEYS[#KEYS]
  redis.call('SET', scratch, a)
  local r = redis.pcall('INCRBY', scratch, b)
  if type(r) ~= 'table' then r = redis.call('GET', scratch) else r = nil end
  redis.call('DEL', scratch)
  return r
end

local reply, met, holds = {0, micros}, {}, true
for i = 1, conds do
  local raw, is, arg = redis.call('GET', KEYS[i]), ARGV[3 + 2 * i], ARGV[4 + 2 * i]
  reply[2 + i], met[KEYS[i]] = raw, raw
  if is == 'A' then holds = holds and not raw
  elseif is == 'P' then holds = holds and raw
  elseif is == 'V' then holds = holds and raw and struct.unpack('>I8', raw) == tonumber(arg)
  else holds = holds and atmost(count(raw), arg) end
end
if limit ~= '' and now > tonumber(limit) then reply[1] = 2 return reply end
if not holds then return reply end

local plan, listed = {}, false
for i = 1, writes do
  local key, at = KEYS[conds + i], 1 + 2 * conds + 4 * i
  local op, arg, ttl, version = string.sub(ARGV[at], 1, 1), ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local old = met[key]
  if old == nil then old = op == 'A' and redis.call('GET', key) or op ~= 'A' and redis.call('GETRANGE', key, 0, 15) end
  local prev, expires = 0, 0
  if old and old ~= '' then prev, expires = struct.unpack('>I8I8', old) end
  if op == 'S' and version > 0 and prev >= version then
    reply[2 + conds + i] = '=' .. redis.call('GET', key)
  else
    local c = {key = key, name = string.sub(key, #base + 1), list = #ARGV[at] > 1, gone = op == 'D', dies = 0}
    if op ~= 'S' or version == 0 then version = math.max(prev + 1, micros) end
    if op ~= 'D' and ttl > 0 then c.dies = now + ttl end
    if op == 'A' then
      arg = sum(count(old), arg)
      if not arg then return {3, micros} end
      if prev > 0 then c.dies = expires end
    end
    local head = struct.pack('>I8I8', version, c.dies)
    reply[2 + conds + i] = op == 'A' and '=' .. head .. arg or head
    if op ~= 'D' then c.raw = head .. arg end
    plan[#plan + 1] = c
    listed = listed or c.list
  end
end

local index, deaths = KEYS[conds + writes + 1], KEYS[conds + writes + 2]
local names = {}
for i, c in ipairs(plan) do
  names[i] = c.name
  if c.gone then redis.call('DEL', c.key)
  elseif c.dies > 0 then redis.call('SET', c.key, c.raw, 'PXAT', c.dies)
  else redis.call('SET', c.key, c.raw) end
  if c.list then
    if c.gone then redis.call('ZREM', index, c.name) else redis.call('ZADD', index, 0, c.name) end
    if c.dies > 0 then redis.call('ZADD', deaths, c.dies, c.name) else redis.call('ZREM', deaths, c.name) end
  end
end
if listed then
  local dead = redis.call('ZRANGEBYSCORE', deaths, '-inf', '(' .. now, 'LIMIT', 0, 16 + 2 * writes)
  if #dead > 0 then
    redis.call('ZREM', index, unpack(dead))
    redis.call('ZREM', deaths, unpack(dead))
  end
  local mortal = redis.call('ZCARD', deaths)
  if mortal > 0 and mortal == redis.call('ZCARD', index) then
    local last = redis.call('ZREVRANGE', deaths, 0, 0, 'WITHSCORES')[2]
    redis.call('PEXPIREAT', index, last)
    redis.call('PEXPIREAT', deaths, last)
  else
    redis.call('PERSIST', index)
    redis.call('PERSIST', deaths)
  end
end
if #names > 0 then redis.call('PUBLISH', base, table.concat(names, '\n')) end
reply[1] = 1
return reply
`

// KEYS: index, deaths. ARGV: the key prefix of the partition, after, limit. It takes the dead it meets out of the index.
const listLua = `
local base, from, want = ARGV[1], ARGV[2] == '' and '-' or '(' .. ARGV[2], tonumber(ARGV[3])
local out = {}
while true do
  local names = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, want)
  for _, name in ipairs(names) do
    local raw = redis.call('GET', base .. name)
    if raw then
      out[#out + 1] = name
      out[#out + 1] = raw
      if #out == 2 * want then return out end
    else
      redis.call('ZREM', KEYS[1], name)
      redis.call('ZREM', KEYS[2], name)
    end
  end
  if #names < want then return out end
  from = '(' .. names[#names]
end
`

// KEYS: anything that lies on the node to ask.
const clockLua = `
local t = redis.call('TIME')
return t[1] * 1000000 + t[2]
`

// KEYS: the marker. ARGV: a random word. A marker is kept for as long as the process and its replication history are
// the ones it was set by. The answer: the identity of the process and the marker.
const markLua = `
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local identity = run .. '.' .. history
local mine = redis.sha1hex(identity) .. '.'
local marker = redis.call('GET', KEYS[1])
if not marker or string.sub(marker, 1, #mine) ~= mine then
  marker = mine .. ARGV[1]
  redis.call('SET', KEYS[1], marker)
end
return {identity, marker}
`

// The script that checks a marker carries it in its text and is loaded only where Fence set it, so another process
// does not know the script, and neither does the same one after a restart. GETEX is a write to Redis: a replica
// refuses it, and so does a master that has too few replicas or a failing disk. KEYS: the marker.
const checkLua = `
if redis.call('GETEX', KEYS[1]) ~= '%s' then return 0 end
local t = redis.call('TIME')
return t[1] * 1000000 + t[2]
`

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
