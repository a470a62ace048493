-- Take what answers told of the meters of an account and a model, then let a request in or say when to ask again. The
-- rules are those of workers/core/limits/meters.py.
-- KEYS account's meters, model's meters
-- ARGV lane ('interactive', 'background', '' for no request), refused (0, 1), then four of each, a meter's place in
-- METERS each: cost, what goes back, stated limit or '', share left or '', fixed limit or ''; then FILL, BURST, KEPT,
-- SHORT, AMPLE, LEAST, and in ms HOLD, AGED, BOUND, CUT, RAMP, LASTS
-- Returns {1 let in | 0 not, wait (ms)}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lane, refused = ARGV[1], ARGV[2] == '1'
local function arg(group, place) return tonumber(ARGV[2 + 4 * group + place]) end
local function const(n) return tonumber(ARGV[22 + n]) end
local FILL, BURST, KEPT, SHORT, AMPLE, LEAST = const(1), const(2), const(3), const(4), const(5), const(6)
local HOLD, AGED, BOUND, CUT, RAMP, LASTS = const(7), const(8), const(9), const(10), const(11), const(12)

for i = 1, 2 do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'hash' and is ~= 'none' then redis.call('DEL', KEYS[i]) end
end
local model = redis.call('HMGET', KEYS[2], 'share', 'share_at', 'cut_at', 'waits_since')
local share = tonumber(model[1] or 1) or 1
local waits_since = tonumber(model[4] or nil)
share = math.min(1, share + math.max(0, now - (tonumber(model[2] or now) or now)) / RAMP)
local cut_at = tonumber(model[3] or 0) or 0
if refused and now >= cut_at + CUT then share, cut_at = math.max(LEAST, share / 2), now end

local meters = {}
for place = 1, 4 do
  local owner = place == 1 and 1 or 2
  local is = redis.call('HMGET', KEYS[owner], 'limit' .. place, 'level' .. place, 'at' .. place, 'bound' .. place)
  local known, fixed, left = tonumber(is[2] or nil) and tonumber(is[1] or nil), arg(4, place), arg(3, place)
  local limit = fixed or arg(2, place) or known
  if limit then
    local part = place == 1 and 1 or share
    local cap, rate = limit * BURST * part, limit * FILL * part / 60000
    local level, bound = cap, tonumber(is[4] or 0) or 0
    if known then level = tonumber(is[2]) + math.max(0, now - (tonumber(is[3] or now) or now)) * rate end
    level = math.min(cap, math.min(cap, level) + arg(1, place))
    if left and left < SHORT then
      bound, level = now + BOUND, math.min(level, cap * left)
    elseif left and left >= AMPLE then
      bound = 0
    end
    if refused and place > 1 then bound, level = now + BOUND, math.min(level, 0) end
    local binds = fixed or now < bound
    if not binds then level = math.max(0, level) end
    meters[place] = {limit = limit, level = level, bound = bound, cap = cap, rate = rate, binds = binds}
  end
end

local granted, wait = 0, 0
if lane ~= '' then
  local behind = lane == 'background'
  if not (behind and waits_since and now >= waits_since + AGED) then
    for _, meter in pairs(meters) do
      if meter.binds then
        wait = math.max(wait, ((behind and KEPT or 0) * meter.cap - meter.level) / meter.rate)
      end
    end
  end
  if wait > (behind and 0 or HOLD) then
    if behind then waits_since = waits_since or now end
  else
    granted = 1
    if behind then waits_since = nil end
    for place, meter in pairs(meters) do
      meter.level = meter.level - arg(0, place)
      if not meter.binds then meter.level = math.max(0, meter.level) end
    end
  end
end

for place, meter in pairs(meters) do
  local owner = place == 1 and 1 or 2
  redis.call('HSET', KEYS[owner], 'limit' .. place, string.format('%.17g', meter.limit),
    'level' .. place, string.format('%.17g', meter.level), 'at' .. place, string.format('%.0f', now),
    'bound' .. place, string.format('%.0f', meter.bound))
end
redis.call('HSET', KEYS[2], 'share', string.format('%.17g', share), 'share_at', string.format('%.0f', now), 'cut_at',
  string.format('%.0f', cut_at))
if waits_since then
  redis.call('HSET', KEYS[2], 'waits_since', string.format('%.0f', waits_since))
else
  redis.call('HDEL', KEYS[2], 'waits_since')
end
redis.call('PEXPIRE', KEYS[1], LASTS)
redis.call('PEXPIRE', KEYS[2], LASTS)
return {granted, math.ceil(wait)}
