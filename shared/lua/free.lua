-- free: gives back what a process holds under a name, or no longer waits under it.
-- KEYS: baton:slots:<process>.
-- ARGV: process, name of the hold.
-- Answer: 1 if it held slots, 0 if not: it waited, or somebody has taken them.
-- Repeatable: what was given back is not there any more.
-- Calls: DEL EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH SREM TIME
--        TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local wrong = misfit(KEYS[1], 'hash') or misfit(LEASES, 'zset')
if wrong then return redis.error_reply(wrong) end

local entry = entry_of(ARGV[1], ARGV[2])
open_writes()
if entry then give_up(ARGV[1], ARGV[2], entry) end
call('DEL', SLOT .. ARGV[2])
flush()
return entry and entry.state == 'held' and 1 or 0
