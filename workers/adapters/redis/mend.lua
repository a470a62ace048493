-- Put into order what a stranger has damaged, so that the run can be leased and ended like any other. Of its journal stays
-- what is ours: the events from the first on without a gap. The epoch is one that no owner has had.
-- KEYS lease, events, due, number of which are waiting sets next, then every other key of the run
-- ARGV run id, number of waiting sets, ttl (ms)
local function kind(i) return redis.call('TYPE', KEYS[i]).ok end
local function is_count(text) return text and #text <= 15 and string.match(text, '^%d+$') end
local sets = 3 + tonumber(ARGV[2])
for i = 3, sets do index(i) end
local damaged = false
local lease = {}
if kind(1) == 'hash' then
  lease = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'status', 'digest')
elseif redis.call('DEL', KEYS[1]) == 1 then
  damaged = true
end
local ends = {completed = 1, failed = 1, cancelled = 1}
if not is_count(lease[1]) or not is_count(lease[2]) or (lease[3] and not ends[lease[3]]) then damaged = true end
for i = sets + 1, #KEYS do
  local is = kind(i)
  local should = string.find(KEYS[i], ':blob:%d+$') and 'string' or 'stream'
  if is ~= 'none' and is ~= should then
    redis.call('DEL', KEYS[i])
    damaged = true
  end
end
local ours, epoch, digest, status = {}, tonumber(is_count(lease[1]) and lease[1] or '0'), nil, nil
if kind(2) == 'stream' then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do
    if entry[1] == (#ours + 1) .. '-0' then
      local fields = {}
      for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
      if fields.seq ~= tostring(#ours + 1) or not is_count(fields.epoch) then break end
      ours[#ours + 1] = entry
      epoch = math.max(epoch, tonumber(fields.epoch))
      if #ours == 1 then digest = string.match(fields.data or '', '"digest":%s*"(%x+)"') end
      status = string.match(fields.type or '', '^run%.(%l+)$')
    end
  end
elseif kind(2) ~= 'none' then
  damaged = true
end
if not damaged then return 'right' end
redis.call('DEL', KEYS[2])
for _, entry in ipairs(ours) do redis.call('XADD', KEYS[2], entry[1], unpack(entry[2])) end
redis.call('HDEL', KEYS[1], 'status', 'announced', 'parked', 'retry', 'cancelled')
redis.call('HSET', KEYS[1], 'epoch', epoch + 1, 'owner', '', 'until', 0, 'seq', #ours, 'damaged', 1, 'deaths', 0,
  'looks', 0, 'digest', lease[4] or digest or '')
if ends[status or ''] then redis.call('HSET', KEYS[1], 'status', status) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'mended'
