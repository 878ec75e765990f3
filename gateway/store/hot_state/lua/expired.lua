-- Finds calls whose lease has expired, for sweep.lua, which must declare their accounts.
--
-- KEYS     calls, leases
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  maximum number of calls
-- Returns for each call its request id and its record, false if there is none.
local now = whole(clock(ARGV[1]))
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGET', KEYS[1], id)
end
return found
