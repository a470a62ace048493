-- Record a run once: its stream with seq 1 (epoch 0), its lease hash, its entries in the due index and among those that
-- wait for a worker. The set of these lives as long as the run in it that lives longest.
-- KEYS events, lease, due, blob, waiting
-- ARGV run id, digest, data of run.queued, blob or '', first look (ms from now), ttl (ms), queue
local known = redis.call('HGET', KEYS[2], 'digest')
if known then
  if known == ARGV[2] then return 'exists' end
  return 'conflict'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '' then redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[6]) end
redis.call('XADD', KEYS[1], '1-0', 'seq', 1, 'type', 'run.queued', 'at', string.format('%.0f', now), 'epoch', 0, 'data', ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', 0, 'owner', '', 'until', 0, 'seq', 1, 'digest', ARGV[2], 'queue', ARGV[7])
redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[1])
redis.call('ZADD', KEYS[5], now, ARGV[1])
if redis.call('PTTL', KEYS[5]) < tonumber(ARGV[6]) then redis.call('PEXPIRE', KEYS[5], ARGV[6]) end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 'created'
