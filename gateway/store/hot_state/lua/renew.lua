-- Renews the leases of running calls and stores their checkpoints.
--
-- KEYS     calls, leases, then the accounts of the calls
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  the lease in ms
-- ARGV[3]  prefix of account keys
-- then for each call its request id and its record, whose hold may have grown. A call that is
-- unknown (Redis was empty) is restored from that record; a known one keeps its scopes.
-- Returns {number of unknown calls, epoch or false}.
local calls, leases = KEYS[1], KEYS[2]
local ends = whole(clock(ARGV[1]) + tonumber(ARGV[2]))
local unknown = 0
for place = 4, #ARGV, 2 do
  local id = ARGV[place]
  local record = cmsgpack.unpack(ARGV[place + 1])
  local account = ARGV[3] .. record[1]
  local held = redis.call('HGET', calls, id)
  local before, worst_before = 0, 0
  if held then
    held = cmsgpack.unpack(held)
    record[5] = held[5]
    before, worst_before = held[4], held[10] or 0
  else
    unknown = unknown + 1
  end
  for _, scope in ipairs(record[5]) do
    if not held then redis.call('HINCRBY', account, 'n' .. scope[1], 1) end
    if record[4] ~= before then
      redis.call('HINCRBY', account, 'h' .. scope[1], whole(record[4] - before))
    end
  end
  if record[10] ~= worst_before then
    redis.call('HINCRBY', account, 'w', whole(record[10] - worst_before))
  end
  redis.call('HSET', calls, id, cmsgpack.pack(record))
  redis.call('ZADD', leases, ends, id)
end
return {unknown, redis.call('HGET', calls, 'epoch')}
