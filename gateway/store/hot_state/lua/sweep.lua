-- Settles calls whose lease has expired, with the cost of their last checkpoint.
--
-- KEYS     calls, leases, queued, usage
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  prefix of account keys
-- ARGV[3]  maximum number of calls
-- ARGV[4]  capacity of the stream
-- ARGV[5]  ms after which a call that cannot be settled is tried again
-- Returns {number of settled calls, then for each that cannot be settled: request id, record, reason}.
local calls, leases = KEYS[1], KEYS[2]
local now = clock(ARGV[1])
local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now), 'LIMIT', 0, ARGV[3])

-- Returns the event of a call; a minimal one if the call has no checkpoint.
local function event_of(id, record)
  local endpoint, wire = string.match(record[6], '^([a-z_]+) ([a-z]+)$')
  if not endpoint then return record[6] end
  return cjson.encode({request_id = id, at_ms = record[8], account_id = record[1],
    key_id = record[2], model = record[3], endpoint = endpoint, client_wire = wire,
    outcome = 'abandoned', estimated = true, attempts = 0})
end

-- Returns the number of settled calls; nil if the stream is full.
local function end_call(id)
  local held = redis.call('HGET', calls, id)
  if not held then return 0 end
  local record = cmsgpack.unpack(held)
  local account = ARGV[2] .. record[1]
  local done = append(account, KEYS[3], KEYS[4], {
    id = id, account = record[1], key = record[2], model = record[3], at = record[8],
    cost = record[7], json = event_of(id, record), abandoned = true,
  }, tonumber(ARGV[4]))
  if done < 0 then return nil end
  release(account, record, record[9], now)
  redis.call('HDEL', calls, id)
  return 1
end

local ended = 0
local failed = {}
for _, id in ipairs(expired) do
  local fine, result = pcall(end_call, id)
  if not fine then
    -- It must not block others, and stays until it is moved to the dead letters.
    if type(result) == 'table' then result = result.err end
    for _, part in ipairs({id, redis.call('HGET', calls, id) or '', tostring(result)}) do
      failed[#failed + 1] = part
    end
    redis.call('ZADD', leases, whole(now + tonumber(ARGV[5])), id)
  elseif not result then
    break
  else
    redis.call('ZREM', leases, id)
    ended = ended + result
  end
end
return {ended, unpack(failed)}
