-- Let go of a run that waits: for a time, or for a letter. A letter that the last life has not seen ends the park at
-- once; so does one that comes later (signal.lua). Until then a message for the run is a duplicate.
-- KEYS lease, due, inbox, then every other key
-- ARGV epoch, owner, run id, seen, until (ms since 1970) or '', ttl (ms)
index(2)
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'status', 'owner')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if lease[2] then
  -- Whoever asks has just told Celery that the run waits, perhaps over its end: the end is to be told again. One that is
  -- being told now (`announce` follows) may have come before.
  if redis.call('HDEL', KEYS[1], 'announced') == 0 then redis.call('HSET', KEYS[1], 'retell', 1) end
  redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[3])
  return 'lost'
end
if lease[1] ~= ARGV[1] or lease[3] == '' or lease[3] ~= ARGV[2] then return 'lost' end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
redis.call('HSET', KEYS[1], 'until', 0, 'owner', '')
if last and last[1] ~= ARGV[4] then
  redis.call('ZADD', KEYS[2], now, ARGV[3])
  return 'letters'
end
-- Without a time of its own a run waits for letters only; its keys live as long as those of any live run.
local wakes = tonumber(ARGV[5]) or now + ARGV[6]
local ttl = math.max(0, wakes - now) + ARGV[6]
redis.call('HSET', KEYS[1], 'parked', 1)
redis.call('ZADD', KEYS[2], string.format('%.0f', wakes), ARGV[3])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], string.format('%.0f', ttl)) end
return 'parked'
