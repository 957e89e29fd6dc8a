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
