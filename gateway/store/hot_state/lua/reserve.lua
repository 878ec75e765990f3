-- Admits calls of one shard, each in its turn and all or nothing. What the same call holds for
-- another model, of which it is a fallback, is released first, even if the call is then refused,
-- because the earlier release may be lost.
--
-- KEYS     calls, leases, then the accounts of the calls
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  prefix of account keys
-- ARGV[3]  the lease in ms
-- ARGV[4]  ms after which an account is to be loaded again
-- then for each call:
--   request id
--   money to hold, nano-dollars
--   the worst case: the most the call can cost, nano-dollars, at least the former
--   tokens to take
--   msgpack of the bound on debt and the key's scopes: {{exposure floor, exposure share, small
--     balance, concurrent priced calls below it}, {name, rpm, tpm, concurrency, day, month,
--     total}...}, -1: no limit; amounts in nano-dollars
--   account id, key id, model, '<endpoint> <client wire>', Unix ms of the worker's clock, for events
-- Returns for each call one of
--   {1, is old, available or '', rpm, left, reset ms, tpm, left, reset ms, the account's limits
--     or false: admitted before, room or '': the account's worst case is not bounded}
--   {0, limit, scope, value, remaining, asked, retry ms or -1, rpm, left, reset ms, tpm, left, reset}
--   {2, epoch or false, now, names of scopes whose spending must be loaded...}
--   {3, text of an error}
-- The account is scope 1. Limits: 1 credit, 2 total, 3 month, 4 day, 5 concurrency, 6 rpm, 7 tpm,
-- 8 exposure, 9 small balance.
--
-- The bound on debt. funds = balance + credit limit - pending; W = the sum of the worst cases of
-- the running calls. A call is admitted only if afterwards W <= funds + max(floor, share * funds).
-- Until the next admission funds - W cannot fall: a call that ends with a cost c lowers the funds by
-- c and W by its worst case, which is at least c. So funds never end below -max(floor, share * F),
-- F being the funds at the latest admission.
local FIELDS = 10
local calls, leases = KEYS[1], KEYS[2]
local now = clock(ARGV[1])
local refresh_ms = tonumber(ARGV[4])
local day = math.floor(now / DAY)
local month = month_of(day)

local ids = {}
for first = 5, #ARGV, FIELDS do ids[#ids + 1] = ARGV[first] end
local held = redis.call('HMGET', calls, 'epoch', unpack(ids))

local function want_scope(account, scope)
  local names = fields_of(scope[1])
  want(account, names.n)
  want(account, names.h)
  if scope[2] >= 0 then want(account, names.r) end
  if scope[3] >= 0 then want(account, names.t) end
  if scope[5] >= 0 or scope[6] >= 0 or scope[7] >= 0 then
    want(account, names.b)
    want(account, names.p)
  end
end

local ACCOUNT = {'cr', 'base', 'pend', 'lim', 'at', 'w'}
local ANY_LIMIT = {'', 0, 0, 0, 0, 0, 0}  -- those of the account are read with the fields

local unpacked = {}
local function terms_of(packed)
  local terms = unpacked[packed]
  if not terms then
    terms = cmsgpack.unpack(packed)
    unpacked[packed] = terms
  end
  return terms
end

local owners, records = {}, {}  -- by call; by request id
for index, id in ipairs(ids) do
  local first = 4 + (index - 1) * FIELDS
  local account = account_at(ARGV[2] .. ARGV[first + 6])
  owners[index] = account
  if held[index + 1] then
    local fine, record = pcall(cmsgpack.unpack, held[index + 1])
    records[id] = fine and type(record) == 'table' and record or {}
    pcall(want_release, account, records[id])
  end
  local terms = terms_of(ARGV[first + 5])
  if account.wanted_terms ~= terms then
    account.wanted_terms = terms
    for _, name in ipairs(ACCOUNT) do want(account, name) end
    want_scope(account, ANY_LIMIT)
    for place = 2, #terms do want_scope(account, terms[place]) end
  end
end
read_accounts()

local added, gone = {}, {}  -- request ids, and records by them

local function room(tightest, level, limit)
  local left = math.floor(math.max(0, limit * PER_MINUTE - level) / PER_MINUTE)
  if tightest[1] < 0 or left < tightest[2] then
    tightest[1], tightest[2], tightest[3] = limit, left, math.ceil(level / limit)
  end
end

-- The first scope that refuses is the one that is named.
local function refuse(refusals, limit, scope, value, remaining, asked, retry)
  if not refusals[limit] then
    refusals[limit] = {0, limit, scope, whole(value), whole(remaining), whole(asked), retry}
  end
end

-- Returns how much a bucket takes; appends its new state to `changes`.
local function pour(account, changes, refusals, name, limit, amount, refusal, scope, tightest)
  local level, at = level_of(account, name, limit, now)
  local take = math.min(amount, limit)
  local excess = level + take * PER_MINUTE - limit * PER_MINUTE
  if excess > 0 then
    local left = math.floor(math.max(0, limit * PER_MINUTE - level) / PER_MINUTE)
    refuse(refusals, refusal, scope, limit, left, take, math.ceil(excess / limit))
    room(tightest, level, limit)
    return 0
  end
  changes[#changes + 1] = name
  changes[#changes + 1] = {level = level + take * PER_MINUTE, at = at}
  room(tightest, level + take * PER_MINUTE, limit)
  return take
end

local function check_budgets(account, refusals, index, scope, names, hold)
  local base = spent_of(account, names.b)
  local waiting = spent_of(account, names.p) or {0, 0, 0, 0, 0}
  local open = tonumber(get(account, names.h) or 0)
  local function budget(limit, value, spent, retry)
    local left = value - spent - open
    if value >= 0 and hold > 0 and left < hold then
      refuse(refusals, limit, index, value, left, hold, retry)
    end
  end
  budget(2, scope[7], base[6] + waiting[5], -1)
  budget(3, scope[6], (base[4] == month and base[5] or 0)
    + (waiting[3] == month and waiting[4] or 0), first_day_of(month + 1) * DAY - now)
  budget(4, scope[5], (base[2] == day and base[3] or 0)
    + (waiting[1] == day and waiting[2] or 0), (day + 1) * DAY - now)
end

local function limits_of(account)
  if account.limits == nil then
    local packed = get(account, 'lim')
    account.limits = packed and cmsgpack.unpack(packed) or {'', -1, -1, -1, -1, -1, -1}
  end
  return account.limits
end

local function admit(account, first, id)
  local hold, tokens, worst = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 4]), tonumber(ARGV[first + 3])
  local credit = get(account, 'cr')
  if not credit then return {2, held[1], now} end
  local before = records[id]
  if before then
    if before[3] == ARGV[first + 8] then return {1, 0, '', -1, 0, 0, -1, 0, 0, false, ''} end
    release(account, before, 0, now)
    records[id], added[id], gone[id] = nil, nil, true
  end

  -- Check everything before changing anything.
  local terms = terms_of(ARGV[first + 5])
  local bound = terms[1]
  local refusals = {}  -- by limit
  local available, spare = '', ''
  if credit ~= '-1' then
    local funds = tonumber(get(account, 'base')) + tonumber(credit) - tonumber(get(account, 'pend') or 0)
    available = funds - tonumber(get(account, 'h') or 0)
    if worst > 0 and (available < hold or available <= 0) then
      refuse(refusals, 1, 1, available, available, hold, -1)
    end
    if string.sub(credit, 1, 1) ~= '+' then
      local running = tonumber(get(account, 'w') or 0)
      spare = funds + math.max(bound[1], math.floor(bound[2] * funds)) - running - worst
      if worst > 0 then
        if spare < 0 then
          refuse(refusals, 8, 1, funds, spare + worst, worst, spare + running < 0 and -1 or 1000)
        end
        if funds < bound[3] and (get(account, 'n') or 0) + 0 >= bound[4] then
          refuse(refusals, 9, 1, bound[4], 0, 1, 1000)
        end
      end
    end
  end
  -- If the worst case is not bounded, it must not overflow the account's sum.
  if spare == '' then worst = hold end

  local missing, changes, taken = {}, {}, {}
  local requests, minute = {-1, 0, 0}, {-1, 0, 0}
  for index = 1, #terms do
    local scope = index == 1 and limits_of(account) or terms[index]
    local names = fields_of(scope[1])
    if scope[5] >= 0 or scope[6] >= 0 or scope[7] >= 0 then
      if get(account, names.b) then
        check_budgets(account, refusals, index, scope, names, hold)
      else
        missing[#missing + 1] = scope[1]
      end
    end
    if scope[4] >= 0 and tonumber(get(account, names.n) or 0) >= scope[4] then
      refuse(refusals, 5, index, scope[4], 0, 1, 1000)
    end
    if scope[2] >= 0 then
      pour(account, changes, refusals, names.r, scope[2], 1, 6, index, requests)
    end
    local poured = 0
    if scope[3] >= 0 and tokens > 0 then
      poured = pour(account, changes, refusals, names.t, scope[3], tokens, 7, index, minute)
    end
    taken[index] = {scope[1], poured, math.max(0, scope[3])}
  end

  if #missing > 0 then return {2, held[1], now, unpack(missing)} end
  if next(refusals) then
    for limit = 1, 9 do
      local refusal = refusals[limit]
      if refusal then
        for _, tightest in ipairs({requests, minute}) do
          for place = 1, 3 do refusal[#refusal + 1] = tightest[place] end
        end
        return refusal
      end
    end
  end

  -- Admitted.
  for place = 1, #changes, 2 do set_table(account, changes[place], changes[place + 1]) end
  for index = 1, #taken do
    local names = fields_of(taken[index][1])
    set(account, names.n, (get(account, names.n) or 0) + 1)
    set(account, names.h, (get(account, names.h) or 0) + hold)
  end
  set(account, 'w', (get(account, 'w') or 0) + worst)
  local old = now - tonumber(get(account, 'at')) > refresh_ms
  if old then set(account, 'at', whole(now)) end
  local record = {ARGV[first + 6], ARGV[first + 7], ARGV[first + 8], hold, taken, ARGV[first + 9],
    '0', tonumber(ARGV[first + 10]), 0, worst}
  records[id], added[id], gone[id] = record, cmsgpack.pack(record), nil
  if available ~= '' then available = available - hold end
  return {1, old and 1 or 0, available, requests[1], requests[2], requests[3],
    minute[1], minute[2], minute[3], get(account, 'lim') or '', spare}
end

local results = {}
for index, id in ipairs(ids) do
  local reply, failure = attempt(owners[index], admit, 4 + (index - 1) * FIELDS, id)
  results[index] = reply or {3, failure}
end

local running, renewed = {}, {}
local ends = whole(now + tonumber(ARGV[3]))
for id, record in pairs(added) do
  running[#running + 1], running[#running + 2] = id, record
  renewed[#renewed + 1], renewed[#renewed + 2] = ends, id
end
write_accounts()
if #running > 0 then
  redis.call('HSET', calls, unpack(running))
  redis.call('ZADD', leases, unpack(renewed))
end
for id in pairs(gone) do
  redis.call('HDEL', calls, id)
  redis.call('ZREM', leases, id)
end
return results
