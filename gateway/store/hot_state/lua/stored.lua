-- Removes events that SQL has from the stream, and sets the resulting balances.
--
-- KEYS     usage, queued
-- ARGV[1]  the consumer group
-- ARGV[2]  prefix of account keys
-- ARGV[3]  number of entries, then for each: its id, '1' if SQL had that request id before: then
--          the spending in SQL by scope is not the sum of the entries and must be loaded again
-- then for each account: id, position, balance
-- Returns {number of removed entries, number of them that could not be subtracted}.
local usage, queued = KEYS[1], KEYS[2]
local count = tonumber(ARGV[3])
local positions = {}
for place = 4 + count * 2, #ARGV, 3 do
  positions[ARGV[place]] = {tonumber(ARGV[place + 1]), ARGV[place + 1], ARGV[place + 2]}
end

-- Moves a cost from the waiting sums to those of SQL, for scopes whose spending is known.
local function move(account, fields, position, repeated)
  local names = scope_names(fields.k, fields.m)
  if repeated then
    for _, name in ipairs(names) do
      -- SQL does not have the costs that are charged until it is loaded again: count them.
      if redis.call('HDEL', account, 'b' .. name) == 1 then
        redis.call('HSETNX', account, 'p' .. name, cmsgpack.pack({0, 0, 0, 0, 0}))
      end
    end
    return
  end
  local held = redis.call('HMGET', account, 'b', 'b' .. names[2], 'b' .. names[3])
  local day = math.floor(tonumber(fields.t) / DAY)
  for place, name in ipairs(names) do
    if held[place] then
      local spent = cmsgpack.unpack(held[place])
      if position > spent[1] then
        add_spent(spent, 2, day, month_of(day), tonumber(fields.c))
        redis.call('HSET', account, 'b' .. name, cmsgpack.pack(spent))
      end
    end
  end
end

-- Subtracts an entry from its account's waiting sums.
local function take_off(fields, repeated)
  local account = ARGV[2] .. fields.a
  unpend(account, fields)
  local newest = positions[fields.a]
  if newest and (repeated or fields.c ~= '0') then
    move(account, fields, newest[1], repeated)
  end
end

-- An account with malformed fields must not block others: its entries are in SQL and are removed.
local removed, failed = 0, 0
for place = 4, 3 + count * 2, 2 do
  local id = ARGV[place]
  local fields = entry_fields(usage, id)
  redis.call('XACK', usage, ARGV[1], id)
  if fields then
    redis.call('XDEL', usage, id)
    removed = removed + 1
    if fields.a then
      if not pcall(take_off, fields, ARGV[place + 1] == '1') then failed = failed + 1 end
      local waiting = redis.call('HGET', queued, fields.i)
      if waiting == id or waiting == '!' .. id then redis.call('HDEL', queued, fields.i) end
    end
  end
end
local function take_over(account, newest)
  local known = redis.call('HGET', account, 'v')
  if not known or tonumber(known) < newest[1] then
    redis.call('HSET', account, 'v', newest[2], 'base', newest[3])
  end
end
for name, newest in pairs(positions) do
  if not pcall(take_over, ARGV[2] .. name, newest) then failed = failed + 1 end
end
return {removed, failed}
