-- Takes an idempotency key, or says why not.
--
-- KEYS[1]  the record, see gateway/store/idempotency/records.py
-- ARGV[1]  the running record to put there: "1", fingerprint (32 bytes), token (16 bytes)
-- ARGV[2]  milliseconds it lives unless it is renewed
-- ARGV[3]  the first 49 bytes of a done record to overwrite, since it cannot be opened; "" for none
-- Returns 0: taken; 1: another call is running; 2: the key belongs to another body;
--         else the sealed answer of the call that is done, "" when none was kept.
local held = redis.call('GETRANGE', KEYS[1], 0, 48)
if held == '' or held == ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 0
end
if string.sub(held, 2, 33) ~= string.sub(ARGV[1], 2, 33) then
  return 2
end
if string.sub(held, 1, 1) == '1' then
  return 1
end
return redis.call('GETRANGE', KEYS[1], 33, -1)
