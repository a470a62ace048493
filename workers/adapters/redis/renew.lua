-- Extend the lease. An owner that comes late but whose epoch is still current keeps the run: so outages are survived.
-- A run that was released has no owner: a renewal that was under way meanwhile must not take it back.
-- KEYS lease, due, then every other key of the run   ARGV epoch, owner, run id, lease (ms), ttl (ms)
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'status', 'owner')
if lease[1] ~= ARGV[1] or lease[2] or lease[3] == '' or lease[3] ~= ARGV[2] then return 0 end
index(2)
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', till))
redis.call('ZADD', KEYS[2], till, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
return 1
