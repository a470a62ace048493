-- Record a run once: its stream with seq 1 (epoch 0), its lease hash, its entries in the due index and among those that
-- wait for a worker. The set of these lives as long as the run in it that lives longest.
-- KEYS events, lease, due, blob, waiting
-- ARGV run id, digest, data of run.queued, blob or '', first look (ms from now), ttl (ms), queue, deadline (ms from now)
-- or ''. A run that nobody begins in its time is looked at when that has passed, to be ended by whoever can.
local known = redis.call('HMGET', KEYS[2], 'digest', 'damaged')
if known[1] then
  if known[1] == ARGV[2] or known[2] then return 'exists' end
  return 'conflict'
end
-- A journal without a lease: a stranger's, or what one left of a run's.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'damaged' end
index(3)
index(5)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '' then redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[6]) end
redis.call('XADD', KEYS[1], '1-0', 'seq', 1, 'type', 'run.queued', 'at', string.format('%.0f', now), 'epoch', 0, 'data', ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', 0, 'owner', '', 'until', 0, 'seq', 1, 'digest', ARGV[2], 'queue', ARGV[7])
local look = now + ARGV[5]
if ARGV[8] and ARGV[8] ~= '' then
  local late = now + ARGV[8]
  redis.call('HSET', KEYS[2], 'late_at', string.format('%.0f', late))
  look = math.min(look, late)
end
redis.call('ZADD', KEYS[3], look, ARGV[1])
redis.call('ZADD', KEYS[5], now, ARGV[1])
if redis.call('PTTL', KEYS[5]) < tonumber(ARGV[6]) then redis.call('PEXPIRE', KEYS[5], ARGV[6]) end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 'created'
