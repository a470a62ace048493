-- Append to a session's audio stream, unless the run is over.
-- KEYS lease, audio   ARGV field, value, ttl (ms)
local lease = redis.call('HMGET', KEYS[1], 'seq', 'status')
if not lease[1] then return 'missing' end
if lease[2] then return 'finished' end
redis.call('XADD', KEYS[2], '*', ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'sent'
