if redis.call('GETEX', KEYS[1]) ~= '%s' then return 0 end
local t = redis.call('TIME')
return t[1] * 1000000 + t[2]
