-- Count a failure against a circuit. One that began before it opened, and ends while it is open, changes nothing.
-- KEYS the circuit   ARGV failures that open it, open at first (ms), open at most (ms), in a row within (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local circuit = redis.call('HMGET', KEYS[1], 'failures', 'opened', 'until', 'last')
local till = tonumber(circuit[3] or 0)
if now < till then return 0 end
local failures = tonumber(circuit[1] or 0) + 1
if now - tonumber(circuit[4] or 0) > tonumber(ARGV[4]) then failures = 1 end
redis.call('HSET', KEYS[1], 'failures', failures, 'last', string.format('%.0f', now))
local keep = tonumber(ARGV[4])
if circuit[2] or failures >= tonumber(ARGV[1]) then
  local opened = tonumber(circuit[2] or 0) + 1
  local open = math.min(ARGV[2] * 2 ^ math.min(opened - 1, 30), tonumber(ARGV[3]))
  redis.call('HSET', KEYS[1], 'opened', opened, 'until', string.format('%.0f', now + open))
  redis.call('HDEL', KEYS[1], 'probe')
  keep = keep + open
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep))
return 1
