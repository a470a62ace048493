-- Give the run up without ending it. The message that follows finds it free; should that message be lost, sweeping does.
-- From now on it waits for a worker of its queue.
-- KEYS lease, due, the queues' waiting sets   ARGV epoch, owner, run id, next look (ms from now)
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'status', 'queue', 'owner')
if lease[1] ~= ARGV[1] or lease[2] or lease[4] == '' or lease[4] ~= ARGV[2] then return 0 end
for i = 2, #KEYS do index(i) end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'until', 0, 'owner', '')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[3])
for i = 3, #KEYS do
  if lease[3] and string.sub(KEYS[i], -#lease[3] - 1) == ':' .. lease[3] then
    redis.call('ZADD', KEYS[i], now, ARGV[3])
    local ttl = redis.call('PTTL', KEYS[1])
    if redis.call('PTTL', KEYS[i]) < ttl then redis.call('PEXPIRE', KEYS[i], ttl) end
  end
end
return 1
