-- renew: gives back what a process is noted to hold and does not know of: a call of it came late, or was not heard.
-- KEYS: baton:slots:<process>.
-- ARGV: process, for how many seconds a hold may be unknown, how many that it knows, their names.
-- Answer: how many were given back.
-- Repeatable: what was given back is not there any more.
-- Calls: DEL EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HKEYS HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH SREM
--        TIME TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local process, grace, known, given_back = ARGV[1], tonumber(ARGV[2]), {}, 0
for i = 1, tonumber(ARGV[3]) do known[ARGV[3 + i]] = true end

local wrong = misfit(KEYS[1], 'hash') or misfit(LEASES, 'zset')
if wrong then return redis.error_reply(wrong) end

open_writes()
for _, hold in ipairs(call('HKEYS', KEYS[1])) do
  local entry = not known[hold] and entry_of(process, hold)
  if entry and entry.asked <= NOW - grace then
    give_up(process, hold, entry)
    given_back = given_back + 1
  end
end
flush()
return given_back
