-- plan: makes, changes, pauses, resumes and deletes a schedule, or leaves out an occurrence.
-- KEYS: baton:schedules, baton:schedule:<id>, baton:schedule:<id>:call.
-- ARGV: what ('set', 'pause', 'resume', 'delete', 'skip'), schedule, due time that its row has ('skip' only), next due
--       time ('' if there is none: its row stays, at +inf), what it submits ('set' only), how many fields to set, names and values, flat.
-- Answer: OK; GONE (there is no such schedule); SAME (it is paused already, or is not); STALE ('skip': it is paused, or
--         due at another time now).
-- A schedule that is set anew loses what was set and counted before, but not the time at which it was made.
-- Calls: DEL EXISTS EXPIRE HDEL HEXISTS HGET HINCRBY HINCRBYFLOAT HSET LLEN LPUSH RPUSH SET TIME TYPE ZADD ZREM ZSCORE

local what, id, due, next_due, fields = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])

local wrong = misfit(KEYS[1], 'zset') or misfit(KEYS[2], 'hash') or misfit(KEYS[3], 'string')
if wrong then return redis.error_reply(wrong) end

local function write()
  for i = 7, 6 + 2 * fields, 2 do call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
  call('ZADD', KEYS[1], next_due ~= '' and next_due or '+inf', id)
  flush()
  return 'OK'
end

if what == 'set' then
  local made = call('HGET', KEYS[2], 'created_at') or NOW_ISO
  call('DEL', KEYS[2])
  call('HSET', KEYS[2], 'created_at', made)
  call('SET', KEYS[3], ARGV[5])
  return write()
end
if call('EXISTS', KEYS[2]) == 0 then return 'GONE' end
local is_paused = call('HEXISTS', KEYS[2], 'paused') == 1
if what == 'delete' then
  call('ZREM', KEYS[1], id)
  call('DEL', KEYS[2], KEYS[3])
elseif what == 'pause' then
  if is_paused then return 'SAME' end
  call('HSET', KEYS[2], 'paused', '1', 'paused_at', NOW_ISO)
  return write()
elseif what == 'resume' then
  if not is_paused then return 'SAME' end
  call('HDEL', KEYS[2], 'paused', 'paused_at', 'paused_by', 'error')
  return write()
elseif what == 'skip' then
  local row = call('ZSCORE', KEYS[1], id)
  if is_paused or not row or tonumber(row) ~= tonumber(due) then return 'STALE' end
  return write()
else
  return redis.error_reply('ERR nothing is called ' .. what)
end
return 'OK'
