-- Retry a run by an operator's word. A run that failed or was cancelled is reopened: its journal stays, its end is no end
-- any more, and whoever takes it next says so in its first event. One that lives and waits is due now. One that is at
-- work is left alone. The word is a letter of the inbox: only the holder of a lease writes events. It is written once for
-- each life, however many operators ask; `retry` in the lease hash is the epoch in which it was, and the letter's id.
-- KEYS lease, due, events, inbox, then every other key of the run
-- ARGV run id, data of the letter, ttl (ms), prefix of the queues whose runs are never reopened
local lease = redis.call('HMGET', KEYS[1], 'seq', 'status', 'announced', 'until', 'epoch', 'retry', 'queue')
if not lease[1] then return 'missing' end
if redis.call('EXISTS', KEYS[3]) == 0 then return 'gone' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if lease[2] then
  if lease[2] == 'completed' then return 'completed' end
  if lease[7] and string.sub(lease[7], 1, #ARGV[4]) == ARGV[4] then return 'session' end
  -- Else the old outcome could be told after the new one, or in its place.
  if not lease[3] then return 'telling' end
elseif (tonumber(lease[4]) or 0) > now then
  return 'running'
end
if not lease[5] then return 'gone' end
index(2)
local asked = lease[6] and string.sub(lease[6], 1, #lease[5] + 1) == lease[5] .. ':'
if not asked or lease[2] then
  -- What takes memory comes first: a full server must refuse the script before it has changed anything.
  local id = redis.call('XADD', KEYS[4], '*', 'type', 'retry', 'data', ARGV[2], 'id', '')
  redis.call('HSET', KEYS[1], 'retry', lease[5] .. ':' .. id)
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
redis.call('HSET', KEYS[1], 'looks', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
if not lease[2] then return 'woken' end
-- Its time counts anew from when somebody begins it.
redis.call('HDEL', KEYS[1], 'status', 'announced', 'cancelled', 'parked', 'late_at', 'retell')
redis.call('HSET', KEYS[1], 'owner', '', 'until', 0, 'deaths', 0)
return 'reopened'
