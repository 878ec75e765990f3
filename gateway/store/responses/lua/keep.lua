-- Keeps a response; makes room by removing those of the account that were used longest ago.
--
-- KEYS[1]  the response, a hash of its sealed parts, see gateway/store/responses/records.py
-- KEYS[2]  the account's responses: '<name>:<bytes>' by the time of their last use in ms
-- KEYS[3]  the bytes that they take
-- KEYS[4..] responses of the account that may be removed
-- ARGV[1]  name of the response, in hex
-- ARGV[2]  its sealed input; ARGV[3]: its sealed object
-- ARGV[4]  time to keep it, in ms
-- ARGV[5]  bytes that the account may keep
-- ARGV[6]  most responses that are removed for one
-- ARGV[7]  start of the names of the account's responses in Redis
-- Returns 1: kept; 0: there is no room for it; or, with nothing changed, the names in hex of the
--         responses to remove if they are not all among KEYS: a cluster must know a script's keys.
local size = string.len(ARGV[2]) + string.len(ARGV[3])
local most, ttl = tonumber(ARGV[5]), tonumber(ARGV[4])
if size > most then
  return 0
end
local declared = {}
for i = 4, #KEYS do
  declared[KEYS[i]] = true
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local total = tonumber(redis.call('GET', KEYS[3]) or '0')
local oldest = redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[6]) - 1, 'WITHSCORES')
local names, members, unknown = {}, {}, false
for i = 1, #oldest, 2 do
  -- What has expired is only uncounted here: Redis has removed it.
  if total + size <= most and tonumber(oldest[i + 1]) + ttl > now then
    break
  end
  local name, bytes = string.match(oldest[i], '^(%x+):(%d+)$')
  names[#names + 1], members[#members + 1] = name, oldest[i]
  unknown = unknown or not declared[ARGV[7] .. name]
  total = math.max(0, total - tonumber(bytes))
end
if unknown then
  return names
end
for i, name in ipairs(names) do
  redis.call('DEL', ARGV[7] .. name)
  redis.call('ZREM', KEYS[2], members[i])
end
local fits = total + size <= most
if fits then
  redis.call('HSET', KEYS[1], 'i', ARGV[2], 'r', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('ZADD', KEYS[2], now, ARGV[1] .. ':' .. size)
  total = total + size
end
redis.call('SET', KEYS[3], total, 'PX', ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
return fits and 1 or 0
