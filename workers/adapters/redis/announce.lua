-- The finished run's callbacks are out: nothing looks at it again, and its keys begin to age.
-- KEYS lease, due, then every other key of the run   ARGV run id, retention (ms), epoch of the end that was told or ''
local lease = redis.call('HMGET', KEYS[1], 'status', 'epoch')
if not lease[1] then return 0 end
index(2)
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if ARGV[3] ~= '' and ARGV[3] ~= lease[2] then
  -- The end of an earlier life, told after a retry has led to another: that one is to be told again, as in park.lua.
  if redis.call('HDEL', KEYS[1], 'announced') == 0 then redis.call('HSET', KEYS[1], 'retell', 1) end
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  return 0
end
-- Somebody told Celery something else meanwhile: the end is told once more.
if redis.call('HEXISTS', KEYS[1], 'retell') == 1 then
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('HDEL', KEYS[1], 'retell')
  return 0
end
redis.call('HSET', KEYS[1], 'announced', 1)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
return 1
