-- Settles a call: releases its hold, charges its cost and appends its event to the stream.
-- Also accepts events of calls without a hold here: admitted without Redis, or replayed.
--
-- A second event of a request id is ignored while the first waits in the stream, unless the first is
-- of an abandoned call, see append. Once the first is in SQL, the second waits and is charged until
-- SQL has ignored it or booked the difference.
--
-- KEYS     account, calls, leases, queued, usage
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  request id; 3: account id; 4: key id; 5: model. Without an event only the hold for this
--          model is released: another one belongs to a fallback, which was admitted meanwhile.
-- ARGV[6]  at_ms of the event; 7: its cost in nano-dollars; 8: tokens used
-- ARGV[9]  the event; '' only releases the hold
-- ARGV[10] capacity of the stream; 11: '1' if the event is of an abandoned call
-- Returns {1 | 0 | -1 as append does, epoch}. The epoch identifies this shard's first settlement: it
-- changes when Redis has lost its data, even if the same call is the first one again.
local account, calls = KEYS[1], KEYS[2]
local held = redis.call('HGET', calls, ARGV[2])
held = held and cmsgpack.unpack(held)
if held and (ARGV[9] ~= '' or held[3] == ARGV[5]) then
  redis.call('HDEL', calls, ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[2])
  release(account, held, tonumber(ARGV[8]), clock(ARGV[1]))
end
local epoch = redis.call('HGET', calls, 'epoch')
if not epoch then
  local time = redis.call('TIME')
  epoch = ARGV[2] .. ':' .. time[1] .. '.' .. time[2]
  redis.call('HSET', calls, 'epoch', epoch)
end
if ARGV[9] == '' then return {0, epoch} end
local done = append(account, KEYS[4], KEYS[5], {
  id = ARGV[2], account = ARGV[3], key = ARGV[4], model = ARGV[5], at = tonumber(ARGV[6]),
  cost = ARGV[7], json = ARGV[9], abandoned = ARGV[11] == '1',
}, tonumber(ARGV[10]))
return {done, epoch}
