-- Append to a run's inbox, once per sender's id, unless the run is over. A parked run is due at once, and so is one that
-- nobody holds when it is asked to end: 'woken' says that somebody should ring for it, so that it need not wait for a
-- sweep, or for a worker of its queue.
-- KEYS lease, inbox, due   ARGV type, data, sender's id or '', ttl (ms), run id
local lease = redis.call('HMGET', KEYS[1], 'seq', 'status', 'parked', 'until')
if not lease[1] then return 'missing' end
if lease[2] then return 'finished' end
index(3)
if ARGV[3] ~= '' then
  -- Repeats come soon after the first, so the newest entries are enough to look at.
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 64)) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'id' and entry[2][i + 1] == ARGV[3] then return 'sent' end
    end
  end
end
redis.call('XADD', KEYS[2], '*', 'type', ARGV[1], 'data', ARGV[2], 'id', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if ARGV[1] == 'cancel' then redis.call('HSET', KEYS[1], 'cancelled', 1) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not lease[3] and (ARGV[1] ~= 'cancel' or (tonumber(lease[4]) or 0) > now) then return 'sent' end
redis.call('ZADD', KEYS[3], string.format('%.0f', now), ARGV[5])
return 'woken'
