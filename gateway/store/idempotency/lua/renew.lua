-- Renews the lease of an idempotency key while its call runs.
--
-- KEYS[1]  the record, see gateway/store/idempotency/records.py
-- ARGV[1]  the run's running record
-- ARGV[2]  the lease in ms
-- Returns 1: renewed, or restored after Redis lost it; 0: another run has claimed the key.
local held = redis.call('GETRANGE', KEYS[1], 0, 48)
if held ~= '' and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
