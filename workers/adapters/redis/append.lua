-- Append under the current epoch only. `base` is the seq that the writer believes to be the last: what already landed
-- (the reply was lost, the writer repeats itself) is skipped, so repeating is safe.
-- KEYS lease, events, due
-- ARGV epoch, owner, base, run id, status or '', next look after the end (ms), then type, data ...
local lease = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'status', 'owner')
-- Without an owner (never leased, or released) the epoch is nobody's. A Redis that forgot a grant gives its epoch again,
-- to another owner.
if lease[1] ~= ARGV[1] or lease[4] == '' or lease[4] ~= ARGV[2] then return {'lost', lease[1] or ''} end
local seq, base = tonumber(lease[2]), tonumber(ARGV[3])
if not seq then return {'damaged'} end
if base > seq then return {'gap', seq} end
local given = (#ARGV - 6) / 2
if seq >= base + given then return {'ok', base + given} end
if lease[3] then return {'lost', 'finished'} end
if ARGV[5] ~= '' then index(3) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now)
local function add(number, kind, data)
  local id = number .. '-0'
  return redis.pcall('XADD', KEYS[2], id, 'seq', number, 'type', kind, 'at', at, 'epoch', ARGV[1], 'data', data)
end
-- The journal is what we wrote, up to `seq`. A stranger who wrote behind it is in the way of the next word: the stream
-- is made anew without him.
local function clear_away()
  local ours, ttl = {}, redis.call('PTTL', KEYS[2])
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do
    local number = tonumber(string.match(entry[1], '^(%d+)-0$'))
    if number and number <= seq then ours[#ours + 1] = entry end
  end
  redis.call('DEL', KEYS[2])
  for _, entry in ipairs(ours) do redis.call('XADD', KEYS[2], entry[1], unpack(entry[2])) end
  if #ours > 0 and ttl > 0 then redis.call('PEXPIRE', KEYS[2], ttl) end
end
for i = 7 + 2 * (seq - base), #ARGV, 2 do
  local said = add(seq + 1, ARGV[i], ARGV[i + 1])
  if type(said) == 'table' and said.err then
    -- Out of memory, or no stream at all: not to be cleared away. What of these words landed is not counted yet.
    if not string.find(tostring(said.err), 'equal or smaller') then return redis.error_reply(tostring(said.err)) end
    clear_away()
    said = add(seq + 1, ARGV[i], ARGV[i + 1])
    if type(said) == 'table' and said.err then return redis.error_reply(tostring(said.err)) end
  end
  seq = seq + 1
end
-- A mended run may begin without a word.
if lease[2] == '0' then redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1])) end
if ARGV[5] == '' then
  redis.call('HSET', KEYS[1], 'seq', seq)
else
  redis.call('HSET', KEYS[1], 'seq', seq, 'status', ARGV[5], 'until', 0)
  redis.call('ZADD', KEYS[3], now + ARGV[6], ARGV[4])
end
return {'ok', seq}
