-- Let one sweeper send a due run again. The next look moves away by a doubling delay, so that a long queue is not
-- filled with repeats of what already waits in it. A run that was parked is one that waits for a worker from here on.
-- The last two of the reply: the queue in which the run waited before, for its message may lie there still; whether its
-- deadline has passed, so that any worker may end it.
-- KEYS lease, due, the queues' waiting sets   ARGV run id, first delay (ms), longest delay (ms)
for i = 2, #KEYS do index(i) end
local score = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not score then return {'gone'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(score) > now then return {'later'} end
-- What a stranger has damaged is rung for: whoever takes it ends it.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[2]), ARGV[1])
  return {'claimed', '', '', '', ''}
end
local lease =
  redis.call('HMGET', KEYS[1], 'seq', 'until', 'looks', 'announced', 'signature', 'status', 'queue', 'cancelled', 'late_at')
if not lease[1] or lease[4] then
  for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
  return {'gone'}
end
local till = tonumber(lease[2]) or 0
if till > now then
  redis.call('ZADD', KEYS[2], lease[2], ARGV[1])
  return {'held'}
end
local looks = tonumber(lease[3]) or 0
-- What takes memory comes first: a full server must refuse the script before it has changed anything.
redis.call('HSET', KEYS[1], 'looks', looks + 1)
redis.call('HDEL', KEYS[1], 'parked')
local look = now + math.min(ARGV[2] * 2 ^ math.min(looks, 20), tonumber(ARGV[3]))
local late_at = tonumber(lease[9] or '')
if late_at and late_at > now then look = math.min(look, late_at) end
redis.call('ZADD', KEYS[2], string.format('%.0f', look), ARGV[1])
-- It waits since its lease ran out; since now, where it had none. What waits already keeps its time.
local waited = ''
if lease[7] and not lease[6] then
  local since = till > 0 and lease[2] or now
  for i = 3, #KEYS do
    if string.sub(KEYS[i], -#lease[7] - 1) == ':' .. lease[7] then
      if redis.call('ZADD', KEYS[i], 'NX', since, ARGV[1]) == 0 then waited = lease[7] end
      local ttl = redis.call('PTTL', KEYS[1])
      if redis.call('PTTL', KEYS[i]) < ttl then redis.call('PEXPIRE', KEYS[i], ttl) end
    end
  end
end
return {'claimed', lease[5] or '', lease[8] or '', waited, late_at and late_at <= now and not lease[6] and '1' or ''}
