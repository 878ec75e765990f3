-- Removes an account's spending in SQL by scope, so that it is loaded again.
--
-- KEYS     account
-- What is charged until then counts from zero, as in stored.lua.
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local scope = string.match(field, '^b([km].*)$') or (field == 'b' and '')
  if scope then
    redis.call('HDEL', KEYS[1], field)
    redis.call('HSETNX', KEYS[1], 'p' .. scope, cmsgpack.pack({0, 0, 0, 0, 0}))
  end
end
return 0
