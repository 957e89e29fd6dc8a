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
