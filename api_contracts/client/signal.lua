-- Append to a run's inbox, once per sender's id, unless the run is over. A parked run is due at once: 'woken' says that
-- somebody should ring for it, so that it need not wait for a sweep.
-- KEYS lease, inbox, due   ARGV type, data, sender's id or '', ttl (ms), run id
local lease = redis.call('HMGET', KEYS[1], 'seq', 'status', 'parked')
if not lease[1] then return 'missing' end
if lease[2] then return 'finished' end
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
if not lease[3] then return 'sent' end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[5])
return 'woken'
