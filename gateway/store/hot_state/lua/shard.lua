-- Functions shared by the scripts of a shard; prepended to each of them.
--
-- A script reads the fields of an account that it needs with one command, computes in memory, and
-- writes what has changed with one command: a call from Lua costs more than the rest of its work.
-- So a script that serves many calls in their order must read fields only through the account object.
--
-- Keys, all with the hash tag of the shard, so that a script stays within one slot of a cluster. A
-- script uses no key that is not among its KEYS: while a cluster moves the slot, only those are
-- checked to be on this server.
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

-- Returns the names of a scope's fields, by their first letter.
local known_fields = {}
local function fields_of(scope)
  local names = known_fields[scope]
  if not names then
    names = {n = 'n' .. scope, h = 'h' .. scope, r = 'r' .. scope, t = 't' .. scope,
      b = 'b' .. scope, p = 'p' .. scope}
    known_fields[scope] = names
  end
  return names
end

-- Returns the fields of the three scopes of a call: account, key, key with model.
local known_scopes = {}
local function scopes_of(key, model)
  local of_model = 'm' .. key .. '/' .. model
  local scopes = known_scopes[of_model]
  if not scopes then
    scopes = {fields_of(''), fields_of('k' .. key), fields_of(of_model)}
    known_scopes[of_model] = scopes
  end
  return scopes
end

-- Accounts of this script: `want` names fields, `read` reads them, `get` and `set` use the copy,
-- `write` writes the changes. Amounts and buckets are tables until then.
local accounts = {}

local function account_at(key)
  local account = accounts[key]
  if not account then
    account = {key = key, wanted = {}, values = {}, tables = {}, changes = {}}
    accounts[key] = account
  end
  return account
end

local function want(account, name)
  if account.values[name] == nil then
    account.values[name] = false
    account.wanted[#account.wanted + 1] = name
  end
end

-- Reads the wanted fields of all accounts. One that cannot be read fails its own calls only.
local function read_accounts()
  for key, account in pairs(accounts) do
    local wanted, values = account.wanted, account.values
    local found = #wanted > 0 and redis.pcall('HMGET', key, unpack(wanted)) or wanted
    if found.err then
      account.broken = found.err
    else
      for index = 1, #wanted do values[wanted[index]] = found[index] end
    end
    account.wanted = {}
  end
end

local function get(account, name)
  local value = account.values[name]
  if value == nil then
    value = redis.call('HGET', account.key, name)
    account.values[name] = value
  end
  return value
end

local function set(account, name, value)
  account.values[name] = value
  account.changes[name] = value
end

-- Amounts that were spent, see the fields b and p; nil if absent.
local function spent_of(account, name)
  local spent = account.tables[name]
  if not spent then
    local held = get(account, name)
    if not held then return nil end
    spent = cmsgpack.unpack(held)
    account.tables[name] = spent
  end
  return spent
end

-- A bucket {level, at}; not to be changed in place.
local function bucket_of(account, name)
  local bucket = account.tables[name]
  if not bucket then
    local held = get(account, name)
    if not held then return nil end
    local split = string.find(held, ':', 1, true)
    bucket = {level = tonumber(string.sub(held, 1, split - 1)), at = tonumber(string.sub(held, split + 1))}
    account.tables[name] = bucket
  end
  return bucket
end

-- Returns the level of a bucket now, and its time.
local function level_of(account, name, limit, now)
  local bucket = bucket_of(account, name)
  if not bucket then return 0, now end
  local level = bucket.level - math.max(0, now - bucket.at) * limit
  return math.max(0, level), math.max(bucket.at, now)
end

local function set_table(account, name, value)
  account.tables[name] = value
  account.changes[name] = value
end

local function write_accounts()
  for key, account in pairs(accounts) do
    local changes, size = {}, 0
    for name, value in pairs(account.changes) do
      if type(value) == 'table' then
        value = value.level and whole(value.level) .. ':' .. whole(value.at) or cmsgpack.pack(value)
        account.values[name] = value
      end
      changes[size + 1], changes[size + 2] = name, value
      size = size + 2
    end
    if size > 0 then redis.call('HSET', key, unpack(changes)) end
    account.changes = {}
  end
end

-- Calls a function for one of several calls. Returns its result; or nil and the text of its error.
local function attempt(account, work, ...)
  if account.broken then return nil, account.broken end
  local fine, result = pcall(work, account, ...)
  if fine then return result end
  if type(result) == 'table' then return nil, result.err end
  return nil, 'ERR ' .. tostring(result)
end

local function want_release(account, record)
  want(account, 'w')
  for _, scope in ipairs(record[5]) do
    local names = fields_of(scope[1])
    want(account, names.n)
    want(account, names.h)
    if scope[3] > 0 then want(account, names.t) end
  end
end

-- Releases what a running call holds. `used`: the tokens it used. No value falls below zero, since
-- a deleted key may have lost its sums.
local function release(account, record, used, now)
  for _, scope in ipairs(record[5]) do
    local names = fields_of(scope[1])
    local running = math.max(0, (get(account, names.n) or 0) - 1)
    set(account, names.n, running)
    set(account, names.h, math.max(0, (get(account, names.h) or 0) - record[4]))
    if scope[1] == '' then
      -- 0 without running calls, whatever another version left in it.
      local worst = running == 0 and 0 or math.max(0, (get(account, 'w') or 0) - (record[10] or 0))
      set(account, 'w', worst)
    end
    if scope[3] > 0 and used ~= scope[2] then
      local level, at = level_of(account, names.t, scope[3], now)
      level = math.max(0, level + (used - scope[2]) * PER_MINUTE)
      set_table(account, names.t, {level = level, at = at})
    end
  end
end

-- Subtracts costs from the stream's sums. `entry` is {c = cost, t = at_ms, k = key, m = model,
-- s = counted scopes}, as text.
local function unpend(account, entry)
  local cost = tonumber(entry.c)
  if cost == 0 then return end
  set(account, 'pend', (get(account, 'pend') or 0) - cost)
  if entry.s == '' then return end
  local day = math.floor(tonumber(entry.t) / DAY)
  local month = month_of(day)
  for place, names in ipairs(scopes_of(entry.k, entry.m)) do
    if string.find(entry.s, place, 1, true) then
      local spent = spent_of(account, names.p)
      if spent then
        if spent[1] == day then spent[2] = spent[2] - cost end
        if spent[3] == month then spent[4] = spent[4] - cost end
        spent[5] = spent[5] - cost
        set_table(account, names.p, spent)
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

local function want_spent(account, key, model)
  local scopes = scopes_of(key, model)
  if account.wanted_spent == scopes then return end
  account.wanted_spent = scopes
  want(account, 'pend')
  for _, names in ipairs(scopes) do
    want(account, names.b)
    want(account, names.p)
  end
end

-- Counts a cost as spent until SQL has it. Returns the scopes as indexes into scopes_of.
local function pend(account, event)
  local cost = tonumber(event.cost)
  if cost == 0 then return '' end
  local waiting = (get(account, 'pend') or 0) + cost
  local counted, day, month = '', nil, nil
  for place, names in ipairs(scopes_of(event.key, event.model)) do
    local spent = spent_of(account, names.p)
    if spent or get(account, names.b) then
      if not day then
        day = math.floor(tonumber(event.at) / DAY)
        month = month_of(day)
      end
      spent = spent or {0, 0, 0, 0, 0}
      add_spent(spent, 1, day, month, cost)
      set_table(account, names.p, spent)
      counted = counted .. place
    end
  end
  set(account, 'pend', waiting)
  return counted
end

-- The stream of a script: entries to add, and ids to remove, until `write_stream`.
local function open_stream(usage, queued, capacity)
  local left = capacity - redis.call('XLEN', usage)
  return {usage = usage, queued = queued, left = left, added = {}, removed = {}}
end

-- Appends an event to the stream and charges it, unless it is there already. An event of an
-- abandoned call is replaced by the call's real event, and by a later checkpoint with a higher cost.
-- `before` is the call's field in `queued`. The event is {id, account, key, model, at, cost, json,
-- abandoned}. Returns 1 (done), 0 (it was there), -1 (the stream is full: nothing was done).
local function append(account, stream, before, event)
  if before then
    if string.sub(before, 1, 1) ~= '!' then return 0 end
    local id = string.sub(before, 2)
    local entry = entry_fields(stream.usage, id)
    if entry then
      if event.abandoned and tonumber(event.cost) <= tonumber(entry.c) then return 0 end
      unpend(account, entry)
      stream.removed[#stream.removed + 1] = id
    end
  elseif stream.left <= 0 then
    return -1
  end
  event.counted = pend(account, event)
  stream.left = stream.left - 1
  stream.added[#stream.added + 1] = event
  return 1
end

local function write_stream(stream)
  if #stream.removed > 0 then redis.call('XDEL', stream.usage, unpack(stream.removed)) end
  if #stream.added == 0 then return end
  local queued = {}
  for index, event in ipairs(stream.added) do
    local id = redis.call('XADD', stream.usage, '*', 'e', event.json, 'i', event.id,
      'a', event.account, 'c', event.cost, 't', event.at, 'k', event.key,
      'm', event.model, 's', event.counted)
    queued[2 * index - 1] = event.id
    queued[2 * index] = event.abandoned and '!' .. id or id
  end
  redis.call('HSET', stream.queued, unpack(queued))
end
