-- Keeps an idempotency key taken while its call runs.
--
-- KEYS[1]  the record, see gateway/store/idempotency/records.py
-- ARGV[1]  the running record that was put there
-- ARGV[2]  milliseconds it lives from now on
-- Returns 1: renewed, or put there again after Redis lost it; 0: the key is held by another run.
local held = redis.call('GETRANGE', KEYS[1], 0, 48)
if held ~= '' and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
