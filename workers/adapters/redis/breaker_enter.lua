-- Ask to be let through both circuits. Of those who ask a half-open one, one is the probe.
-- KEYS account's circuit, model's circuit   ARGV how long a probe may say nothing (ms)
-- Returns {0 clean | 1 let through | 2 the probe | 3 the account is shut | 4 the model is shut, until (ms)}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known, half = 0, {}
for i = 1, 2 do
  local circuit = redis.call('HMGET', KEYS[i], 'failures', 'opened', 'until', 'probe')
  if circuit[1] then known = 1 end
  local shut = math.max(tonumber(circuit[3] or 0), tonumber(circuit[4] or 0))
  if shut > now then return {2 + i, shut} end
  if circuit[2] then half[#half + 1] = i end
end
for _, i in ipairs(half) do
  redis.call('HSET', KEYS[i], 'probe', string.format('%.0f', now + ARGV[1]))
end
if #half > 0 then return {2, 0} end
return {known, 0}
