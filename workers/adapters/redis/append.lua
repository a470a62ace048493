-- Append under the current epoch only. `base` is the seq that the writer believes to be the last: what already landed
-- (the reply was lost, the writer repeats itself) is skipped, so repeating is safe.
-- KEYS lease, events, due   ARGV epoch, base, run id, status or '', next look after the end (ms), then type, data ...
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'status', 'owner')
-- Without an owner (never leased, or released) the epoch is nobody's.
if lease[1] ~= ARGV[1] or lease[4] == '' then return {'lost', lease[1] or ''} end
local seq, base = tonumber(lease[2]), tonumber(ARGV[2])
if base > seq then return {'gap', seq} end
local given = (#ARGV - 5) / 2
if seq >= base + given then return {'ok', base + given} end
if lease[3] then return {'lost', 'finished'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now)
for i = 6 + 2 * (seq - base), #ARGV, 2 do
  seq = seq + 1
  redis.call('XADD', KEYS[2], seq .. '-0', 'seq', seq, 'type', ARGV[i], 'at', at, 'epoch', ARGV[1], 'data', ARGV[i + 1])
end
if ARGV[4] == '' then
  redis.call('HSET', KEYS[1], 'seq', seq)
else
  redis.call('HSET', KEYS[1], 'seq', seq, 'status', ARGV[4], 'until', 0)
  redis.call('ZADD', KEYS[3], now + ARGV[5], ARGV[3])
end
return {'ok', seq}
