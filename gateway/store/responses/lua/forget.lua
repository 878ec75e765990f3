-- Removes a response.
--
-- KEYS[1]  the response; KEYS[2]: the account's responses; KEYS[3]: their bytes; see keep.lua
-- ARGV[1]  name of the response, in hex
-- Returns 1: removed; 0: there is none.
local size = redis.call('HSTRLEN', KEYS[1], 'i') + redis.call('HSTRLEN', KEYS[1], 'r')
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
if redis.call('ZREM', KEYS[2], ARGV[1] .. ':' .. size) == 1 then
  redis.call('DECRBY', KEYS[3], size)
end
return 1
