-- Admits a call, all or nothing. What the same call holds for another model, of which it is a
-- fallback, is released first, whatever follows: that release may have been lost.
--
-- KEYS     account, calls, leases
-- ARGV[1]  now, Unix ms; '' for the server's clock
-- ARGV[2]  request id
-- ARGV[3]  the lease in ms
-- ARGV[4]  money to hold, nano-dollars
-- ARGV[5]  tokens to take
-- ARGV[6]  msgpack of the bound on debt and the key's scopes: {{exposure floor, exposure share, small
--          balance, concurrent priced calls below it}, {name, rpm, tpm, concurrency, day, month,
--          total}...}, -1: no limit; amounts in nano-dollars
-- ARGV[7]  account id; 8: key id; 9: model; 10: '<endpoint> <client wire>'; 11: Unix ms of the
--          worker's clock, for events
-- ARGV[12] ms after which the account is to be loaded again
-- ARGV[13] the worst case: the most the call can cost, nano-dollars, at least ARGV[4]
-- Returns one of
--   {1, is old, available or '', rpm, left, reset ms, tpm, left, reset ms, the account's limits
--     or false: admitted before, room or '': the account's worst case is not bounded}
--   {0, limit, scope, value, remaining, asked, retry ms or -1, rpm, left, reset ms, tpm, left, reset}
--   {2, epoch or false, now, names of scopes whose spending must be loaded...}
-- The account is scope 1. Limits: 1 credit, 2 total, 3 month, 4 day, 5 concurrency, 6 rpm, 7 tpm,
-- 8 exposure, 9 small balance.
--
-- The bound on debt. funds = balance + credit limit - pending; W = the sum of the worst cases of
-- the running calls. A call is admitted only if afterwards W <= funds + max(floor, share * funds).
-- Until the next admission funds - W cannot fall: a call that ends with a cost c lowers the funds by
-- c and W by its worst case, which is at least c. So funds never end below -max(floor, share * F),
-- F being the funds at the latest admission.
local account, calls, leases = KEYS[1], KEYS[2], KEYS[3]
local now = clock(ARGV[1])
local hold, tokens, worst = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[13])

local state = redis.call('HMGET', account, 'cr', 'base', 'pend', 'lim', 'at', 'w')
local credit = state[1]
if not credit then
  return {2, redis.call('HGET', calls, 'epoch'), now}
end
local before = redis.call('HGET', calls, ARGV[2])
if before then
  before = cmsgpack.unpack(before)
  if before[3] == ARGV[9] then
    return {1, 0, '', -1, 0, 0, -1, 0, 0, false, ''}
  end
  redis.call('HDEL', calls, ARGV[2])
  redis.call('ZREM', leases, ARGV[2])
  release(account, before, 0, now)
  state[6] = redis.call('HGET', account, 'w')
end

local scopes = cmsgpack.unpack(ARGV[6])
local bound = scopes[1]
scopes[1] = state[4] and cmsgpack.unpack(state[4]) or {'', -1, -1, -1, -1, -1, -1}

local wanted = {}
for _, scope in ipairs(scopes) do
  for field in string.gmatch('nhrtbp', '.') do wanted[#wanted + 1] = field .. scope[1] end
end
local held = redis.call('HMGET', account, unpack(wanted))

-- Check everything before changing anything.
local refusals = {}  -- by limit: the first scope that refuses
local function refuse(limit, scope, value, remaining, asked, retry)
  if not refusals[limit] then
    refusals[limit] = {0, limit, scope, whole(value), whole(remaining), whole(asked), retry}
  end
end

local available, spare = '', ''
if credit ~= '-1' then
  local funds = tonumber(state[2]) + tonumber(credit) - tonumber(state[3] or 0)
  available = funds - tonumber(held[2] or 0)
  if worst > 0 and (available < hold or available <= 0) then
    refuse(1, 1, available, available, hold, -1)
  end
  if string.sub(credit, 1, 1) ~= '+' then
    local running = tonumber(state[6] or 0)
    spare = funds + math.max(bound[1], math.floor(bound[2] * funds)) - running - worst
    if worst > 0 then
      if spare < 0 then refuse(8, 1, funds, spare + worst, worst, spare + running < 0 and -1 or 1000) end
      if funds < bound[3] and (held[1] or 0) + 0 >= bound[4] then refuse(9, 1, bound[4], 0, 1, 1000) end
    end
  end
end
-- If the worst case is not bounded, it must not overflow the account's sum.
if spare == '' then worst = hold end

local missing = {}
local changes, taken = {}, {}
local requests, minute = {-1, 0, 0}, {-1, 0, 0}

local function room(tightest, level, limit)
  local left = math.floor(math.max(0, limit * PER_MINUTE - level) / PER_MINUTE)
  if tightest[1] < 0 or left < tightest[2] then
    tightest[1], tightest[2], tightest[3] = limit, left, math.ceil(level / limit)
  end
end

local function pour(place, name, limit, amount, refusal, tightest)
  local level, at = bucket(held[place], limit, now)
  local take = math.min(amount, limit)
  local excess = level + take * PER_MINUTE - limit * PER_MINUTE
  if excess > 0 then
    local left = math.floor(math.max(0, limit * PER_MINUTE - level) / PER_MINUTE)
    refuse(refusal[1], refusal[2], limit, left, take, math.ceil(excess / limit))
    room(tightest, level, limit)
    return 0
  end
  changes[#changes + 1] = name
  changes[#changes + 1] = bucket_text(level + take * PER_MINUTE, at)
  room(tightest, level + take * PER_MINUTE, limit)
  return take
end

for index, scope in ipairs(scopes) do
  local first = (index - 1) * 6
  if scope[5] >= 0 or scope[6] >= 0 or scope[7] >= 0 then
    if not held[first + 5] then
      missing[#missing + 1] = scope[1]
    else
      local base = cmsgpack.unpack(held[first + 5])
      local waiting = held[first + 6] and cmsgpack.unpack(held[first + 6]) or {0, 0, 0, 0, 0}
      local day = math.floor(now / DAY)
      local month = month_of(day)
      local open = tonumber(held[first + 2] or 0)
      local function budget(limit, value, spent, retry)
        local left = value - spent - open
        if value >= 0 and hold > 0 and left < hold then
          refuse(limit, index, value, left, hold, retry)
        end
      end
      budget(2, scope[7], base[6] + waiting[5], -1)
      budget(3, scope[6], (base[4] == month and base[5] or 0)
        + (waiting[3] == month and waiting[4] or 0), first_day_of(month + 1) * DAY - now)
      budget(4, scope[5], (base[2] == day and base[3] or 0)
        + (waiting[1] == day and waiting[2] or 0), (day + 1) * DAY - now)
    end
  end
  local running = tonumber(held[first + 1] or 0)
  if scope[4] >= 0 and running >= scope[4] then
    refuse(5, index, scope[4], 0, 1, 1000)
  end
  if scope[2] >= 0 then
    pour(first + 3, 'r' .. scope[1], scope[2], 1, {6, index}, requests)
  end
  local poured = 0
  if scope[3] >= 0 and tokens > 0 then
    poured = pour(first + 4, 't' .. scope[1], scope[3], tokens, {7, index}, minute)
  end
  taken[index] = {scope[1], poured, math.max(0, scope[3])}
end

if #missing > 0 then
  return {2, redis.call('HGET', calls, 'epoch'), now, unpack(missing)}
end
for limit = 1, 9 do
  local refusal = refusals[limit]
  if refusal then
    for _, tightest in ipairs({requests, minute}) do
      for place = 1, 3 do refusal[#refusal + 1] = tightest[place] end
    end
    return refusal
  end
end

-- Admitted.
for index, scope in ipairs(scopes) do
  local first = (index - 1) * 6
  local size = #changes
  changes[size + 1] = 'n' .. scope[1]
  changes[size + 2] = (held[first + 1] or 0) + 1
  changes[size + 3] = 'h' .. scope[1]
  changes[size + 4] = (held[first + 2] or 0) + hold
end
changes[#changes + 1] = 'w'
changes[#changes + 1] = (state[6] or 0) + worst
local old = now - tonumber(state[5]) > tonumber(ARGV[12])
if old then
  changes[#changes + 1] = 'at'
  changes[#changes + 1] = whole(now)
end
redis.call('HSET', account, unpack(changes))
redis.call('HSET', calls, ARGV[2], cmsgpack.pack(
  {ARGV[7], ARGV[8], ARGV[9], hold, taken, ARGV[10], '0', tonumber(ARGV[11]), 0, worst}))
redis.call('ZADD', leases, whole(now + tonumber(ARGV[3])), ARGV[2])
if available ~= '' then available = whole(available - hold) end
if spare ~= '' then spare = whole(spare) end
return {1, old and 1 or 0, available, requests[1], requests[2], requests[3],
  minute[1], minute[2], minute[3], state[4] or '', spare}
