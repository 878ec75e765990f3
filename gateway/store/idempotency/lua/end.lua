-- Ends the run that claimed an idempotency key: stores its outcome, or frees the key. Idempotent.
--
-- KEYS[1]  the record, see gateway/store/idempotency/records.py
-- KEYS[2]  bytes that the account has stored in the current window
-- ARGV[1]  the run's running record
-- ARGV[2]  the done record: "2", fingerprint (32 bytes), sealed response or nothing; "" frees the key
-- ARGV[3]  TTL of a done record and length of a window, in ms
-- ARGV[4]  bytes that the account may store in a window; beyond it the response is not stored
-- Returns 1: done; 0: another run has claimed the key, nothing was changed.
local held = redis.call('GETRANGE', KEYS[1], 0, 48)
if ARGV[2] == '' then
  if held == ARGV[1] then
    redis.call('DEL', KEYS[1])
  end
  return 1
end
if held ~= '' and held ~= ARGV[1] then
  local ours = held == string.sub(ARGV[2], 1, string.len(held))
  return ours and 1 or 0
end
local record = ARGV[2]
local size = string.len(record)
if size > 33 then
  redis.call('SET', KEYS[2], 0, 'PX', ARGV[3], 'NX')
  if redis.call('INCRBY', KEYS[2], size) > tonumber(ARGV[4]) then
    redis.call('DECRBY', KEYS[2], size)
    record = string.sub(record, 1, 33)
  end
end
redis.call('SET', KEYS[1], record, 'PX', ARGV[3])
return 1
