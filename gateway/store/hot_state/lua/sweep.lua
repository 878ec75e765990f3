-- Settles calls whose lease has expired, with the cost of their last checkpoint.
--
-- KEYS     calls, leases, queued, usage, then the accounts of the calls
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  prefix of account keys
-- ARGV[3]  capacity of the stream
-- ARGV[4]  ms after which a call that cannot be settled is tried again
-- then for each call that expired.lua found its request id and its account's id, '' if its record
-- has none. A call that was renewed or settled since is left alone.
-- Returns {number of settled calls, then for each that cannot be settled: request id, record, reason}.
local calls, leases = KEYS[1], KEYS[2]
local now = clock(ARGV[1])

-- Returns the event of a call; a minimal one if the call has no checkpoint.
local function event_of(id, record)
  local endpoint, wire = string.match(record[6], '^([a-z_]+) ([a-z]+)$')
  if not endpoint then return record[6] end
  return cjson.encode({request_id = id, at_ms = record[8], account_id = record[1],
    key_id = record[2], model = record[3], endpoint = endpoint, client_wire = wire,
    outcome = 'abandoned', estimated = true, attempts = 0})
end

-- Settles a call. Returns their number; -1 if the stream is full.
local function end_call(account, id, record)
  local stream = open_stream(KEYS[4], KEYS[3], tonumber(ARGV[3]))
  local done = append(account, stream, redis.call('HGET', KEYS[3], id), {
    id = id, account = record[1], key = record[2], model = record[3], at = whole(record[8]),
    cost = record[7], json = event_of(id, record), abandoned = true,
  })
  if done < 0 then return -1 end
  release(account, record, record[9], now)
  write_accounts()
  write_stream(stream)
  redis.call('HDEL', calls, id)
  return 1
end

-- Returns as end_call does; or nil and the text of an error.
local function settle(id, owner)
  local held = redis.call('HGET', calls, id)
  if not held then return 0 end
  local fine, record = pcall(cmsgpack.unpack, held)
  if not fine then return nil, tostring(record) end
  -- The account of another record is not among KEYS.
  if type(record) ~= 'table' or owner == '' or record[1] ~= owner then
    return nil, 'the record is malformed'
  end
  local account = account_at(ARGV[2] .. owner)
  want_spent(account, tostring(record[2]), tostring(record[3]))
  read_accounts()
  local done, failure = attempt(account, end_call, id, record)
  if not done then accounts[account.key] = nil end
  return done, failure
end

local function has_expired(id)
  local ends = redis.call('ZSCORE', leases, id)
  return ends and tonumber(ends) <= now
end

local ended = 0
local failed = {}
for place = 5, #ARGV, 2 do
  local id = ARGV[place]
  local done, failure = 0, nil
  local expired = has_expired(id)
  if expired then done, failure = settle(id, ARGV[place + 1]) end
  if not done then
    -- It must not block others, and stays until it is moved to the dead letters.
    for _, part in ipairs({id, redis.call('HGET', calls, id) or '', failure}) do
      failed[#failed + 1] = part
    end
    redis.call('ZADD', leases, whole(now + tonumber(ARGV[4])), id)
  elseif done < 0 then
    break
  elseif expired then
    redis.call('ZREM', leases, id)
    ended = ended + done
  end
end
return {ended, unpack(failed)}
