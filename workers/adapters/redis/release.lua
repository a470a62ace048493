-- Give the run up without ending it. The message that follows finds it free; should that message be lost, sweeping does.
-- KEYS lease, due   ARGV epoch, run id, next look (ms from now)
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'status')
if lease[1] ~= ARGV[1] or lease[2] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'until', 0, 'owner', '')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3], ARGV[2])
return 1
