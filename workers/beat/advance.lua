-- Claims one tick of an entry: only for the beat that holds the lock, and only from the state that it has read.
-- KEYS: lock, entry (hash), index (sorted set). ARGV: token, state as read, new state, when to look again (s).
-- Returns 1 for a claim, 0 when another beat holds the lock, -1 when the tick is taken or the entry has changed.
if redis.call('get', KEYS[1]) ~= ARGV[1] then
  return 0
end
if (redis.call('hget', KEYS[2], 'meta') or '') ~= ARGV[2] then
  return -1
end
redis.call('hset', KEYS[2], 'meta', ARGV[3])
redis.call('zadd', KEYS[3], ARGV[4], KEYS[2])
return 1
