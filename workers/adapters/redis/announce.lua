-- The finished run's callbacks are out: nothing looks at it again, and its keys begin to age.
-- KEYS lease, due, then every other key of the run   ARGV run id, retention (ms)
if not redis.call('HGET', KEYS[1], 'status') then return 0 end
redis.call('HSET', KEYS[1], 'announced', 1)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
return 1
