-- Reserve an amount in every budget, or in none and say when to ask again. The rules are those of
-- workers/core/limits/budgets.py; amounts are whole billionths.
-- KEYS a book for each budget
-- ARGV reservation, amount, AGAIN (ms), then of each budget: limit, window (ms)
-- Returns {1 reserved | 0 not, wait (ms), place of the budget that refused for longest, from 0}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local field, amount, AGAIN = 'r:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local longest, by = 0, 0
local books = {}
for i = 1, #KEYS do
  local limit, window = tonumber(ARGV[2 + 2 * i]), tonumber(ARGV[3 + 2 * i])
  local begins = now - now % window
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'hash' or tonumber(redis.call('HGET', KEYS[i], 'begins') or nil) ~= begins then
    redis.call('DEL', KEYS[i])
  end
  local known = redis.call('HMGET', KEYS[i], 'settled', 'open', 'moved', field)
  local settled, open = tonumber(known[1] or 0) or 0, tonumber(known[2] or 0) or 0
  books[i] = {begins = begins, ends = begins + window, open = open, made = known[4]}
  if not known[4] and settled + open + amount > limit then
    local wait = begins + window - now
    if settled + amount <= limit then
      wait = math.min(wait, math.max(AGAIN, now - (tonumber(known[3] or now) or now)))
    end
    if wait > longest then longest, by = wait, i - 1 end
  end
end
if longest > 0 then return {0, longest, by} end

for i, book in ipairs(books) do
  if not book.made then
    redis.call('HSET', KEYS[i], 'begins', string.format('%.0f', book.begins), field, ARGV[2], 'open',
      string.format('%.0f', book.open + amount), 'moved', string.format('%.0f', now))
    redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', book.ends))
  end
end
return {1, 0, 0}
