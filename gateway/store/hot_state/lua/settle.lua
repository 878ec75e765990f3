-- Settles calls of one shard, each in its turn: releases its hold, charges its cost and appends its
-- event to the stream. Also accepts events of calls without a hold here: admitted without Redis, or
-- replayed. A script must not name a request id twice.
--
-- A second event of a request id is ignored while the first waits in the stream, unless the first is
-- of an abandoned call, see append. Once the first is in SQL, the second waits and is charged until
-- SQL has ignored it or booked the difference.
--
-- KEYS     calls, leases, queued, usage, then the accounts of the calls
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  prefix of account keys
-- ARGV[3]  capacity of the stream
-- then for each call:
--   request id, account id, key id, model. Without an event only the hold for this model is
--     released: another one belongs to a fallback, which was admitted meanwhile.
--   at_ms of the event, its cost in nano-dollars, tokens used, the event; '' only releases the hold
--   '1' if the event is of an abandoned call
-- Returns {epoch, then for each call 1 | 0 | -1 as append does, or the text of an error}. The epoch
-- identifies this shard's first settlement: it changes when Redis has lost its data, even if the
-- same call is the first one again.
local FIELDS = 9
local calls, leases = KEYS[1], KEYS[2]
local now = clock(ARGV[1])

local ids = {}
for first = 4, #ARGV, FIELDS do ids[#ids + 1] = ARGV[first] end
local held = redis.call('HMGET', calls, 'epoch', unpack(ids))
local queued = redis.call('HMGET', KEYS[3], unpack(ids))
local stream = open_stream(KEYS[4], KEYS[3], tonumber(ARGV[3]))

local owners, records, ended = {}, {}, {}
for index, id in ipairs(ids) do
  local first = 3 + (index - 1) * FIELDS
  local account = account_at(ARGV[2] .. ARGV[first + 2])
  owners[index] = account
  local packed = held[index + 1]
  if packed then
    local fine, record = pcall(cmsgpack.unpack, packed)
    if not fine or type(record) ~= 'table' then
      records[index] = 'ERR the record of the call is malformed'
    elseif ARGV[first + 8] ~= '' or record[3] == ARGV[first + 4] then
      records[index] = record
      ended[#ended + 1] = id
      pcall(want_release, account, record)
    end
  end
  if ARGV[first + 6] ~= '0' then want_spent(account, ARGV[first + 3], ARGV[first + 4]) end
end
read_accounts()

local function settle(account, index, first)
  local record = records[index]
  if record then release(account, record, tonumber(ARGV[first + 7]), now) end
  if ARGV[first + 8] == '' then return 0 end
  return append(account, stream, queued[index], {
    id = ARGV[first + 1], account = ARGV[first + 2], key = ARGV[first + 3], model = ARGV[first + 4],
    at = ARGV[first + 5], cost = ARGV[first + 6], json = ARGV[first + 8],
    abandoned = ARGV[first + 9] == '1',
  })
end

local epoch = held[1]
if not epoch then
  local time = redis.call('TIME')
  epoch = ids[1] .. ':' .. time[1] .. '.' .. time[2]
end
local results = {epoch}
for index = 1, #ids do
  if type(records[index]) == 'string' then
    results[index + 1] = records[index]
  else
    local done, failure = attempt(owners[index], settle, index, 3 + (index - 1) * FIELDS)
    results[index + 1] = done or failure
  end
end

if #ended > 0 then
  redis.call('HDEL', calls, unpack(ended))
  redis.call('ZREM', leases, unpack(ended))
end
write_accounts()
if not held[1] then redis.call('HSET', calls, 'epoch', epoch) end
write_stream(stream)
return results
