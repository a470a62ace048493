-- Stands before every script. `index(i)`: have KEYS[i] be an index before the script changes anything. One that a stranger
-- replaced is thrown away: a script that fails half way would leave its run with an owner that no sweep looks for. Runs
-- come back into it by their next message, renewal or letter.
local function index(i)
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'zset' and is ~= 'none' then redis.call('DEL', KEYS[i]) end
end
