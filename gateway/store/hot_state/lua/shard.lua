-- Functions shared by the scripts of a shard; prepended to each of them.
--
-- Keys, all with the hash tag of the shard, so that a script stays within one slot of a cluster:
--   <prefix>{s17}a:<account>  hash: the account, see below
--   <prefix>{s17}calls        hash: request id -> record of a running call; 'epoch' -> see settle
--   <prefix>{s17}leases       zset: request id by when its lease ends, Unix ms
--   <prefix>{s17}queued       hash: request id -> its entry in the usage stream, '!' before the id
--                             of an abandoned call
--   <prefix>{s17}usage        stream: events on their way to SQL
--
-- Fields of an account; <s> is a scope: '' the account, 'k<key>', 'm<key>/<model>':
--   base     balance in SQL as of position v; pend: cost of its events in the stream
--   v        position; cv: version of cr and lim (limits, msgpack)
--   cr       credit limit, -1: none; '+' before it: trusted, its worst case is not bounded
--   at       when it was loaded, Unix ms
--   n<s>     running calls; h<s>: money they hold
--   w        worst case: what its running calls can cost at most in sum, see reserve.lua
--   r<s>     bucket of requests; t<s>: of tokens: '<level>:<ms>', see core/bucket.py
--   b<s>     spent, from SQL: {v, day, amount, month, amount, total}
--   p<s>     spent, in the stream: {day, amount, month, amount, total}
--
-- A record is {account, key, model, hold, scopes, event, cost, at_ms, tokens, worst case}, msgpack;
-- an earlier version wrote no worst case and added none to w. Each of its scopes is
-- {name, tokens taken, tokens a minute}. Until the first checkpoint its event is only
-- '<endpoint> <client wire>', and its cost 0.
--
-- Numbers are doubles: amounts are exact below 2^53 nano-dollars, nine million dollars.

local PER_MINUTE = 60000
local DAY = 86400000

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns an integer as digits; -0 is 0.
local function whole(number)
  return string.format('%.0f', number + 0)
end

-- UTC months, counted from January of the year 0, as in core/calendar.py.
local function month_of(day)
  local era = math.floor((day + 719468) / 146097)
  local d = day + 719468 - era * 146097
  local y = math.floor((d - math.floor(d / 1460) + math.floor(d / 36524) - math.floor(d / 146096)) / 365)
  local of_year = d - (365 * y + math.floor(y / 4) - math.floor(y / 100))
  local m = math.floor((5 * of_year + 2) / 153)
  return (y + era * 400) * 12 + m + 2
end

local function first_day_of(month)
  local year = math.floor(month / 12)
  local m = month % 12 + 1
  if m <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local y = year - era * 400
  local of_year = math.floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5)
  return era * 146097 + y * 365 + math.floor(y / 4) - math.floor(y / 100) + of_year - 719468
end

local function bucket(held, limit, now)
  if not held then return 0, now end
  local split = string.find(held, ':', 1, true)
  local at = tonumber(string.sub(held, split + 1))
  local level = tonumber(string.sub(held, 1, split - 1)) - math.max(0, now - at) * limit
  return math.max(0, level), math.max(at, now)
end

local function bucket_text(level, at)
  return whole(level) .. ':' .. whole(at)
end

-- Adds to the amounts of a day, a month and in total, starting at `first`; a later day resets them.
local function add_spent(spent, first, day, month, cost)
  if day > spent[first] then
    spent[first], spent[first + 1] = day, 0
  end
  if day == spent[first] then spent[first + 1] = spent[first + 1] + cost end
  if month > spent[first + 2] then
    spent[first + 2], spent[first + 3] = month, 0
  end
  if month == spent[first + 2] then spent[first + 3] = spent[first + 3] + cost end
  spent[first + 4] = spent[first + 4] + cost
end

local function scope_names(key, model)
  return {'', 'k' .. key, 'm' .. key .. '/' .. model}
end

-- Releases what a running call holds. `used`: the tokens it used. No value falls below zero, since
-- a deleted key may have lost its sums.
local function release(account, record, used, now)
  local names = {'w'}
  for _, scope in ipairs(record[5]) do
    local size = #names
    names[size + 1], names[size + 2], names[size + 3] = 'n' .. scope[1], 'h' .. scope[1], 't' .. scope[1]
  end
  local held = redis.call('HMGET', account, unpack(names))
  local changes = {}
  for index, scope in ipairs(record[5]) do
    local size, first = #changes, index * 3 - 1
    local running = math.max(0, (held[first] or 0) - 1)
    changes[size + 1], changes[size + 2] = names[first], running
    changes[size + 3], changes[size + 4] = names[first + 1], math.max(0, (held[first + 1] or 0) - record[4])
    if scope[1] == '' then
      -- 0 without running calls, whatever another version left in it.
      local worst = running == 0 and 0 or math.max(0, (held[1] or 0) - (record[10] or 0))
      changes[size + 5], changes[size + 6] = 'w', worst
    end
    if scope[3] > 0 and used ~= scope[2] then
      local level, at = bucket(held[first + 2], scope[3], now)
      level = math.max(0, level + (used - scope[2]) * PER_MINUTE)
      changes[#changes + 1] = names[first + 2]
      changes[#changes + 1] = bucket_text(level, at)
    end
  end
  redis.call('HSET', account, unpack(changes))
end

-- Subtracts an entry, as returned by XRANGE, from the stream's sums.
local function unpend(account, fields)
  local cost = tonumber(fields.c)
  if cost == 0 then return end
  redis.call('HINCRBY', account, 'pend', '-' .. fields.c)
  if fields.s == '' then return end
  local day = math.floor(tonumber(fields.t) / DAY)
  local month = month_of(day)
  for place, name in ipairs(scope_names(fields.k, fields.m)) do
    if string.find(fields.s, place, 1, true) then
      local held = redis.call('HGET', account, 'p' .. name)
      if held then
        local spent = cmsgpack.unpack(held)
        if spent[1] == day then spent[2] = spent[2] - cost end
        if spent[3] == month then spent[4] = spent[4] - cost end
        spent[5] = spent[5] - cost
        redis.call('HSET', account, 'p' .. name, cmsgpack.pack(spent))
      end
    end
  end
end

local function entry_fields(usage, id)
  local found = redis.call('XRANGE', usage, id, id)[1]
  if not found then return nil end
  local fields = {}
  for place = 1, #found[2], 2 do fields[found[2][place]] = found[2][place + 1] end
  return fields
end

-- Counts a cost as spent until SQL has it. Returns the scopes as indexes into scope_names.
local function pend(account, key, model, at, cost)
  if cost == '0' then return '' end
  redis.call('HINCRBY', account, 'pend', cost)
  local names = scope_names(key, model)
  local held = redis.call('HMGET', account, 'b', 'b' .. names[2], 'b' .. names[3],
    'p', 'p' .. names[2], 'p' .. names[3])
  local counted, changes = '', {}
  for place, name in ipairs(names) do
    if held[place] or held[place + 3] then
      local day = math.floor(at / DAY)
      local spent = held[place + 3] and cmsgpack.unpack(held[place + 3]) or {0, 0, 0, 0, 0}
      add_spent(spent, 1, day, month_of(day), tonumber(cost))
      changes[#changes + 1] = 'p' .. name
      changes[#changes + 1] = cmsgpack.pack(spent)
      counted = counted .. place
    end
  end
  if #changes > 0 then redis.call('HSET', account, unpack(changes)) end
  return counted
end

-- Appends an event to the stream and charges it, unless it is there already. An event of an
-- abandoned call is replaced by the call's real event, and by a later checkpoint with a higher cost.
-- Returns 1 (done), 0 (it was there), -1 (the stream is full: nothing was done).
local function append(account, queued, usage, event, full)
  local before = redis.call('HGET', queued, event.id)
  if before then
    if string.sub(before, 1, 1) ~= '!' then return 0 end
    local id = string.sub(before, 2)
    local fields = entry_fields(usage, id)
    if fields then
      if event.abandoned and tonumber(event.cost) <= tonumber(fields.c) then return 0 end
      unpend(account, fields)
      redis.call('XDEL', usage, id)
    end
  elseif redis.call('XLEN', usage) >= full then
    return -1
  end
  local counted = pend(account, event.key, event.model, event.at, event.cost)
  local id = redis.call('XADD', usage, '*', 'e', event.json, 'i', event.id, 'a', event.account,
    'c', event.cost, 't', whole(event.at), 'k', event.key, 'm', event.model, 's', counted)
  redis.call('HSET', queued, event.id, (event.abandoned and '!' or '') .. id)
  return 1
end
