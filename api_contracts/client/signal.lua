-- Append to a run's inbox, once per sender's id, unless the run is over.
-- KEYS lease, inbox   ARGV type, data, sender's id or '', ttl (ms)
local lease = redis.call('HMGET', KEYS[1], 'seq', 'status')
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
return 'sent'
