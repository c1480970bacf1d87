-- recount: writes the counters of runs per state as a scan found them, if they are still as before that scan.
-- KEYS: baton:counts.
-- ARGV: how many, then per state: name, the counter that the scan saw ('' for none), how many runs it found.
-- Answer: 1 if written, 0 if a counter has moved.
-- Calls: HDEL HGET HSET TIME

for i = 2, 3 * tonumber(ARGV[1]), 3 do
  if (call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 2, 3 * tonumber(ARGV[1]), 3 do
  if ARGV[i + 2] == '0' then call('HDEL', KEYS[1], ARGV[i]) else call('HSET', KEYS[1], ARGV[i], ARGV[i + 2]) end
end
return 1
