-- announce: says for which ends tasks have hooks, so that ends that scripts make are noted for those only.
-- KEYS: baton:hooked.
-- ARGV: per end a state type and a task's key, joined by a space.
-- Answer: how many were not known yet.
-- What was said once stays: an end that nobody has a hook for any more is dropped by whoever takes it.
-- Calls: EXPIRE HINCRBY HINCRBYFLOAT LLEN LPUSH RPUSH SADD TIME TYPE ZREM

local wrong = misfit(KEYS[1], 'set')
if wrong then return redis.error_reply(wrong) end

open_writes()
local new = 0
for i = 1, #ARGV do new = new + call('SADD', KEYS[1], ARGV[i]) end
flush()
return new
