-- Ends a call: gives back what it held, charges what it cost and puts its event into the stream.
-- Also takes events of calls that hold nothing here: admitted without Redis, or replayed.
--
-- A second event of a request id is nothing while the first waits in the stream, unless the first is
-- of an abandoned call, see append. After that it waits and is charged until SQL, which has the first,
-- has dropped it or booked the difference.
--
-- KEYS     account, calls, leases, queued, usage
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  request id; 3: account id; 4: key id; 5: model
-- ARGV[6]  at_ms of the event; 7: its cost in nano-dollars; 8: tokens that were used
-- ARGV[9]  the event; '' only gives back what was held, as if the call had not been
-- ARGV[10] entries that the stream takes at most; 11: '1' if the event is of an abandoned call
-- Returns {1 | 0 | -1 as append does, epoch}. The epoch names this shard's first settlement: it
-- changes when Redis has lost what it held, also if the same call is the first one again.
local account, calls = KEYS[1], KEYS[2]
local held = redis.call('HGET', calls, ARGV[2])
if held then
  redis.call('HDEL', calls, ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[2])
  release(account, cmsgpack.unpack(held), tonumber(ARGV[8]), clock(ARGV[1]))
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
