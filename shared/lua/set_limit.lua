-- set_limit: makes, changes or deletes a limit; what it frees goes to those that wait, at once.
-- KEYS: baton:limits, baton:limit:<name>, baton:limit:<name>:holders, baton:limit:<name>:waiters.
-- ARGV: name, slots ('' deletes the limit: everybody who waits for it goes on), slots that free themselves per second or ''.
-- Answer: how many runs wait for it still. Repeatable: it writes what shall hold.
-- Calls: DEL EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH SADD SREM
--        TIME TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local name, slots, decay = ARGV[1], given(ARGV[2]), given(ARGV[3])

local wrong = misfit(KEYS[1], 'set') or misfit(KEYS[2], 'hash') or misfit(KEYS[3], 'zset') or misfit(KEYS[4], 'zset')
if wrong then return redis.error_reply(wrong) end

if slots then
  call('SADD', KEYS[1], name)
  call('HSET', KEYS[2], 'slots', slots)
  if decay then call('HSET', KEYS[2], 'decay', decay) else call('HDEL', KEYS[2], 'decay') end
  grant(name)
else
  call('DEL', KEYS[2], KEYS[3])
  if grant(name) < AT_ONCE then call('SREM', KEYS[1], name) end -- else promote goes on
end
flush()
return call('ZCARD', KEYS[4])
