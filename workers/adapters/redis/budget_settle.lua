-- Put what an attempt did cost in the place of what was reserved for it, in every budget in which it still is. The rules
-- are those of workers/core/limits/budgets.py; amounts are whole billionths.
-- KEYS a book for each budget
-- ARGV reservation, amount, then of each budget: window (ms)
-- Returns in how many it was
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local field = 'r:' .. ARGV[1]
local found = 0
for i = 1, #KEYS do
  local window = tonumber(ARGV[2 + i])
  if redis.call('TYPE', KEYS[i]).ok == 'hash' then
    local known = redis.call('HMGET', KEYS[i], 'begins', 'settled', 'open', field)
    local reserved = tonumber(known[4] or nil)
    if reserved and tonumber(known[1] or nil) == now - now % window then
      redis.call('HDEL', KEYS[i], field)
      redis.call('HSET', KEYS[i], 'settled', string.format('%.0f', (tonumber(known[2] or 0) or 0) + tonumber(ARGV[2])),
        'open', string.format('%.0f', math.max(0, (tonumber(known[3] or 0) or 0) - reserved)), 'moved',
        string.format('%.0f', now))
      found = found + 1
    end
  end
end
return found
