-- Removes events that SQL has from the stream, and sets the resulting balances.
--
-- KEYS     usage, queued, then the accounts of the groups and of the positions
-- ARGV[1]  the consumer group
-- ARGV[2]  prefix of account keys
-- ARGV[3]  number of groups, then for each: account id, key id, model, at_ms of one of its events,
--          their counted scopes, '1' if SQL had their request ids before: then the spending in SQL
--          by scope is not the sum of the entries and must be loaded again. The events of a group
--          are of one day, so that their costs are subtracted as one sum.
-- then     number of entries, then for each: its id, request id, cost in nano-dollars, and the number
--          of its group, 0 without one
-- then for each account: id, position, balance
-- Returns {number of removed entries, number of them that could not be subtracted}.
local usage, queued, prefix = KEYS[1], KEYS[2], ARGV[2]
local groups = {}
local place = 4
for number = 1, tonumber(ARGV[3]) do
  groups[number] = {a = ARGV[place], k = ARGV[place + 1], m = ARGV[place + 2], t = ARGV[place + 3],
    s = ARGV[place + 4], repeated = ARGV[place + 5] == '1', c = 0, entries = 0}
  place = place + 6
end
local ids, names = {}, {}
local first = place + 1
for _ = 1, tonumber(ARGV[place]) do
  ids[#ids + 1], names[#names + 1] = ARGV[place + 1], ARGV[place + 2]
  place = place + 4
end
local positions = {}
for start = place + 1, #ARGV, 3 do
  positions[ARGV[start]] = {tonumber(ARGV[start + 1]), ARGV[start + 1], ARGV[start + 2]}
end

-- An entry that was replaced meanwhile, by the settlement of an abandoned call, was subtracted then.
local waiting = #ids > 0 and redis.call('HMGET', queued, unpack(names)) or {}
local done = {}
for index, id in ipairs(ids) do
  local known = waiting[index] == id or waiting[index] == '!' .. id
  if known then done[#done + 1] = names[index] end
  local group = groups[tonumber(ARGV[first + (index - 1) * 4 + 3])]
  if group and (known or #redis.call('XRANGE', usage, id, id) > 0) then
    group.c = group.c + tonumber(ARGV[first + (index - 1) * 4 + 2])
    group.entries = group.entries + 1
  end
end

for _, group in ipairs(groups) do
  local account = account_at(prefix .. group.a)
  if group.c ~= 0 then want_spent(account, group.k, group.m) end
end
for name in pairs(positions) do want(account_at(prefix .. name), 'v') end
read_accounts()

-- Moves a sum from the waiting sums to those of SQL, for scopes whose spending is known.
local function move(account, group, position)
  local day = math.floor(tonumber(group.t) / DAY)
  for _, names in ipairs(scopes_of(group.k, group.m)) do
    if group.repeated then
      if get(account, names.b) then
        redis.call('HDEL', account.key, names.b)
        -- Costs that are counted until it is loaded again are not in SQL yet.
        if not spent_of(account, names.p) then set_table(account, names.p, {0, 0, 0, 0, 0}) end
      end
      account.values[names.b], account.tables[names.b], account.changes[names.b] = false, nil, nil
    else
      local spent = spent_of(account, names.b)
      if spent and position > spent[1] then
        add_spent(spent, 2, day, month_of(day), group.c)
        set_table(account, names.b, spent)
      end
    end
  end
end

-- Subtracts a group from its account's waiting sums.
local function take_off(account, group)
  unpend(account, group)
  local newest = positions[group.a]
  if newest and (group.repeated or group.c ~= 0) then move(account, group, newest[1]) end
  return 1
end

local function take_over(account, newest)
  local known = get(account, 'v')
  if not known or tonumber(known) < newest[1] then
    set(account, 'v', newest[2])
    set(account, 'base', newest[3])
  end
  return 1
end

-- An account with malformed fields must not block others: its entries are in SQL and are removed.
local failed = 0
for _, group in ipairs(groups) do
  if group.entries > 0 and not attempt(account_at(prefix .. group.a), take_off, group) then
    failed = failed + group.entries
  end
end
for name, newest in pairs(positions) do
  if not attempt(account_at(prefix .. name), take_over, newest) then failed = failed + 1 end
end
local removed = 0
if #ids > 0 then
  redis.call('XACK', usage, ARGV[1], unpack(ids))
  removed = redis.call('XDEL', usage, unpack(ids))
end
if #done > 0 then redis.call('HDEL', queued, unpack(done)) end
write_accounts()
return {removed, failed}
