-- Enters a worker and counts those that did lately.
--
-- KEYS     sorted set of worker ids by when they were entered, Unix ms
-- ARGV[1]  id of the worker; 2: how long an entry counts, ms
-- Returns the number of workers, this one included.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
