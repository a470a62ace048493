-- Store for Celery that a run is parked, while its lease is the parking life's; a zombie's word comes too late.
-- KEYS lease, result   ARGV epoch, owner, result's value, its ttl (s)
local held = redis.pcall('HMGET', KEYS[1], 'epoch', 'owner', 'status')
if held.err or held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] then return 0 end
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[4])
redis.call('PUBLISH', KEYS[2], ARGV[3])
return 1
