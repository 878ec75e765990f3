-- Returns parts of responses and, if asked, keeps these for their whole time again.
--
-- KEYS[1]  the account's responses, see keep.lua
-- KEYS[2]  the bytes that they take
-- KEYS[3..] responses
-- ARGV[1]  time to keep them from now on, in ms; 0 changes nothing
-- ARGV[2]  most bytes to return
-- ARGV[3]  start of the names of the account's responses in Redis
-- ARGV[4..] the parts of each response, 'i', 'r' or 'ir'
-- Returns -1: the parts are larger; otherwise for each response {input or false, object or false}.
local ttl, left = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 3, #KEYS do
  for part in string.gmatch(ARGV[i + 1], '.') do
    left = left - redis.call('HSTRLEN', KEYS[i], part)
  end
end
if left < 0 then
  return -1
end
local now = 0
if ttl > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
end
local found = {}
for i = 3, #KEYS do
  local parts = {false, false}
  for part in string.gmatch(ARGV[i + 1], '.') do
    parts[part == 'i' and 1 or 2] = redis.call('HGET', KEYS[i], part)
  end
  found[#found + 1] = parts
  if ttl > 0 and redis.call('PEXPIRE', KEYS[i], ttl) == 1 then
    local size = redis.call('HSTRLEN', KEYS[i], 'i') + redis.call('HSTRLEN', KEYS[i], 'r')
    local name = string.sub(KEYS[i], string.len(ARGV[3]) + 1)
    redis.call('ZADD', KEYS[1], 'XX', now, name .. ':' .. size)
  end
end
return found
