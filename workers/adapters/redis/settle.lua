-- Strike a run off that waits no more: a worker of an earlier release, which knows nothing of these sets, took it; or its
-- owner came back late; or its keys are gone. Returns whether that was so.
-- KEYS lease, waiting   ARGV run id
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return redis.call('ZREM', KEYS[2], ARGV[1]) end
local lease = redis.call('HMGET', KEYS[1], 'until', 'status', 'parked')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if lease[1] and (tonumber(lease[1]) or 0) <= now and not lease[2] and not lease[3] then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[1])
