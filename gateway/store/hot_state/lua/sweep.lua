-- Ends calls whose lease has run out, with what they had cost when last heard of.
--
-- KEYS     calls, leases, queued, usage
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  what the names of account keys begin with
-- ARGV[3]  calls at most
-- ARGV[4]  entries that the stream takes at most
-- Returns how many were ended.
local calls, leases = KEYS[1], KEYS[2]
local now = clock(ARGV[1])
local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now), 'LIMIT', 0, ARGV[3])

-- The event of a call, whole: of one that died before its first checkpoint a bare one is made.
local function event_of(id, record)
  local endpoint, wire = string.match(record[6], '^([a-z_]+) ([a-z]+)$')
  if not endpoint then return record[6] end
  return cjson.encode({request_id = id, at_ms = record[8], account_id = record[1],
    key_id = record[2], model = record[3], endpoint = endpoint, client_wire = wire,
    outcome = 'abandoned', estimated = true, attempts = 0})
end

local ended = 0
for _, id in ipairs(expired) do
  local held = redis.call('HGET', calls, id)
  if held then
    local record = cmsgpack.unpack(held)
    local account = ARGV[2] .. record[1]
    local done = append(account, KEYS[3], KEYS[4], {
      id = id, account = record[1], key = record[2], model = record[3], at = record[8],
      cost = record[7], json = event_of(id, record), abandoned = true,
    }, tonumber(ARGV[4]))
    if done < 0 then break end
    release(account, record, record[9], now)
    redis.call('HDEL', calls, id)
    ended = ended + 1
  end
  redis.call('ZREM', leases, id)
end
return ended
