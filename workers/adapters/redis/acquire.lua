-- Take the lease under the next epoch if no live owner has it. The hash has no expiry of its own beyond the run's
-- retention, so the epoch outlives its owner.
-- Whoever asks, the run does not wait for a worker after this: it has one, or it is parked or over.
-- KEYS lease, due, the queues' waiting sets, then every other key of the run
-- ARGV run id, owner, lease (ms), caller's signature or '', ttl (ms), number of waiting sets
local function wait_no_more()
  for i = 3, 2 + ARGV[6] do redis.call('ZREM', KEYS[i], ARGV[1]) end
end
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'until', 'seq', 'status', 'announced', 'signature',
  'parked', 'deaths', 'cancelled', 'retry', 'damaged')
-- A missing seq alone is no damage: the keys are gone, or never were.
if not lease[4] and redis.call('EXISTS', KEYS[1]) == 0 then return {'missing'} end
local function is_count(text) return text and #text <= 15 and string.match(text, '^%d+$') end
local ends = {completed = 1, failed = 1, cancelled = 1}
if not is_count(lease[1]) or not is_count(lease[4]) or (lease[5] and not ends[lease[5]]) then return {'damaged'} end
for i = 2, 2 + ARGV[6] do index(i) end
if ARGV[4] ~= '' and not lease[7] then redis.call('HSET', KEYS[1], 'signature', ARGV[4]) end
if lease[5] then
  wait_no_more()
  return {'finished', lease[5], lease[6] or '', lease[1]}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if (tonumber(lease[3]) or 0) > now then
  wait_no_more()
  return {'held', lease[2] or ''}
end
if lease[8] then return {'parked'} end
-- Whoever let go (released, parked) is no owner any more; one that is still named here was lost.
local deaths = 0
if lease[2] and lease[2] ~= '' then deaths = (tonumber(lease[9]) or 0) + 1 end
local epoch = lease[1] + 1
local till = now + ARGV[3]
redis.call('HSET', KEYS[1], 'epoch', epoch, 'owner', ARGV[2], 'until', string.format('%.0f', till), 'looks', 0,
  'deaths', deaths)
redis.call('ZADD', KEYS[2], till, ARGV[1])
wait_no_more()
redis.call('PEXPIRE', KEYS[1], ARGV[5])
for i = 3 + ARGV[6], #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
-- A run that nobody has begun has one event, and whoever begins it asks for that next.
local first = lease[4] == '1' and redis.pcall('XRANGE', KEYS[3 + ARGV[6]], '-', '+', 'COUNT', 2) or {}
if first.err then first = {} end
return {'granted', epoch, tonumber(lease[4]), deaths, lease[10] or '', lease[11] or '', lease[12] or '', first}
