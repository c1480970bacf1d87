-- set_queue: pauses, resumes or caps a queue.
-- KEYS: rq:queues, baton:queue:<q>, rq:queue:<q>, baton:wake:<q>.
-- ARGV: queue, `pause`, `resume`, `cap` or `uncap`, actor (or the cap).
-- Answer: 1 if something changed, 0 if it was so already. Repeatable: it writes what shall hold.
-- Calls: EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HSET LLEN LPUSH RPUSH SADD TIME TYPE

local queue, what, value = ARGV[1], ARGV[2], ARGV[3]
local wrong = misfit(KEYS[1], 'set') or misfit(KEYS[2], 'hash') or misfit(KEYS[3], 'list')
if wrong then return redis.error_reply(wrong) end
local was_paused = call('HGET', KEYS[2], 'paused')
local changed = 0
call('SADD', KEYS[1], QUEUE .. queue)
if what == 'pause' then
  if not was_paused then
    changed = call('HSET', KEYS[2], 'paused', '1', 'paused_by', value, 'paused_at', NOW_ISO) > 0 and 1 or 0
  end
elseif what == 'resume' then
  changed = call('HDEL', KEYS[2], 'paused', 'paused_by', 'paused_at') > 0 and 1 or 0
  local waiting = call('LLEN', KEYS[3])
  if changed > 0 and waiting > 0 then wake(KEYS[4], math.min(waiting, 8)) end
elseif what == 'cap' then
  changed = call('HGET', KEYS[2], 'cap') ~= value and 1 or 0
  call('HSET', KEYS[2], 'cap', value)
else
  changed = call('HDEL', KEYS[2], 'cap')
end
flush()
return changed
