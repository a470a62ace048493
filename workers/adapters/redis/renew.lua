-- Extend the lease. An owner that comes late but whose epoch is still current keeps the run: so outages are survived.
-- KEYS lease, events, due, inbox   ARGV epoch, run id, lease (ms), ttl (ms)
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'status')
if lease[1] ~= ARGV[1] or lease[2] then return 0 end
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', till))
redis.call('ZADD', KEYS[3], till, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return 1
