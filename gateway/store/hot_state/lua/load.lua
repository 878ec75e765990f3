-- Stores an account's snapshot of SQL, unless a newer one is known.
--
-- KEYS     account
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  position; 3: balance in nano-dollars
-- ARGV[4]  version; 5: credit limit, as field cr; 6: limits as msgpack, '' without any
-- then for each scope: name, day, spent, month, spent, spent in total
-- Returns 1; 0 if the position is older than the known one: SQL must be queried again.
local account = KEYS[1]
local known = redis.call('HMGET', account, 'v', 'cv')
local position = tonumber(ARGV[2])
if known[1] and tonumber(known[1]) > position then return 0 end
local changes = {'v', ARGV[2], 'base', ARGV[3], 'at', whole(clock(ARGV[1]))}
if not (known[2] and tonumber(known[2]) > tonumber(ARGV[4])) then
  for _, text in ipairs({'cv', ARGV[4], 'cr', ARGV[5]}) do changes[#changes + 1] = text end
  if ARGV[6] == '' then
    redis.call('HDEL', account, 'lim')
  else
    changes[#changes + 1] = 'lim'
    changes[#changes + 1] = ARGV[6]
  end
end
for place = 7, #ARGV, 6 do
  local spent = {position}
  for offset = 1, 5 do spent[offset + 1] = tonumber(ARGV[place + offset]) end
  changes[#changes + 1] = 'b' .. ARGV[place]
  changes[#changes + 1] = cmsgpack.pack(spent)
end
redis.call('HSET', account, unpack(changes))
return 1
