-- Append to a session's audio stream, unless the run is over, or too much audio waits there already: its worker said so
-- (hold.lua), or it has no worker, and the oldest audio waits for longer than may be. A control is always appended.
-- KEYS lease, audio   ARGV field, value, ttl (ms), how long audio may wait for a worker (ms)
local lease = redis.call('HMGET', KEYS[1], 'seq', 'status', 'held', 'epoch', 'owner', 'until')
if not lease[1] then return 'missing' end
if lease[2] then return 'finished' end
if ARGV[1] == 'a' then
  if lease[3] and lease[3] == lease[4] then return 'full' end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if not lease[5] or lease[5] == '' or (tonumber(lease[6]) or 0) < now then
    local first = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    local since = first and tonumber(string.match(first[1], '^%d+'))
    if since and now - since > tonumber(ARGV[4]) then return 'full' end
  end
end
redis.call('XADD', KEYS[2], '*', ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'sent'
