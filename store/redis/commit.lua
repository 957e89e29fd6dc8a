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
