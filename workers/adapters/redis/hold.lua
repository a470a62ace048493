-- Have clients send no more audio to a session, or let them again. The word is this owner's: with the next epoch it is
-- void, and who owns the session then gives his own.
-- KEYS lease   ARGV '1' to hold, '' to let go
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if ARGV[1] == '' or not epoch then return redis.call('HDEL', KEYS[1], 'held') end
return redis.call('HSET', KEYS[1], 'held', epoch)
