-- How many runs wait in each queue, and which of them waits longest, by Redis' clock.
-- KEYS the waiting sets of one slot   ARGV none   returns now (ms), then for each: number, run id or '', since (ms) or ''
local time = redis.call('TIME')
local found = {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))}
for i = 1, #KEYS do
  local oldest = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  found[#found + 1] = redis.call('ZCARD', KEYS[i])
  found[#found + 1] = oldest[1] or ''
  found[#found + 1] = oldest[2] or ''
end
return found
