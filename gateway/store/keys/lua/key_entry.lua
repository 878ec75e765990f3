-- Writes the cache entry of a virtual key unless a newer one exists, and publishes the change.
--
-- KEYS[1]  the entry: "<version> <checked_at>\n<json>"
-- ARGV[1]  version of the new entry
-- ARGV[2]  the new entry
-- ARGV[3]  its TTL in ms
-- ARGV[4]  channel to publish on; "" for none
-- ARGV[5]  the message
-- ARGV[6]  "1": publish even if Redis already has an entry of this version
-- Returns the newer entry that was kept, or false if the new entry was written.
local held = redis.call('GET', KEYS[1])
local new_to_redis = true
if held then
  local version = tonumber(string.match(held, '^(%d+) '))
  if version and version > tonumber(ARGV[1]) then
    return held
  end
  new_to_redis = version ~= tonumber(ARGV[1])
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= '' and (new_to_redis or ARGV[6] == '1') then
  redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return false
