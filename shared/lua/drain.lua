-- drain: asks workers, or the fleets that they belong to, to finish what runs and to end.
-- KEYS: baton:leases.
-- ARGV: 'worker' or 'fleet' (whoever is the worker's fleet, also with workers that it starts meanwhile), how many, names.
-- Answer per worker: OK (asked, now or before), GONE (it has no lease, or no registration that could say so).
-- The wish is a field of the worker's registration, which each beat reads; the fleet's channel only hastens the next.
-- Calls: EXPIRE HGET HINCRBY HINCRBYFLOAT HSET LLEN LPUSH PUBLISH RPUSH TIME TYPE ZREM ZSCORE

local whose, answers = ARGV[1], {}

local wrong = misfit(KEYS[1], 'zset')
if wrong then return redis.error_reply(wrong) end

open_writes()
for i = 1, tonumber(ARGV[2]) do
  local name = ARGV[2 + i]
  local key = WORKER .. name
  answers[i] = 'GONE'
  if call('ZSCORE', KEYS[1], name) and call('TYPE', key).ok == 'hash' then
    if call('HGET', key, 'drain') ~= 'fleet' then call('HSET', key, 'drain', whose) end
    local fleet = call('HGET', key, 'fleet')
    if fleet then call('PUBLISH', FLEET .. fleet, name) end
    answers[i] = 'OK'
  end
end
flush()
return answers
