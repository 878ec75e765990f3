-- Claims an idempotency key, or returns why it cannot be claimed.
--
-- KEYS[1]  the record, see gateway/store/idempotency/records.py
-- ARGV[1]  the running record to write: "1", fingerprint (32 bytes), token (16 bytes)
-- ARGV[2]  the lease in ms
-- ARGV[3]  the first 49 bytes of a done record to overwrite that cannot be decrypted; "" for none
-- Returns 0: claimed; 1: another run is in progress; 2: the key was used with another body;
--         otherwise the sealed response of the completed run, "" if none was stored.
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
