-- retry: makes a run that has ended wait again, as a new attempt.
-- KEYS: rq:job:<id>, baton:run:<id>:history.
-- ARGV: id, the seq that the caller read, operation id, actor, message, delay in seconds, '1' to run also what completed.
-- Answer: {tag, seq, state type, state name}. tag: OK, CHANGED (another seq), TERMINAL (COMPLETED, and not asked for),
--       RUNNING (it has not ended), GONE, BROKEN. A repeat of the same operation answers OK with what holds now.
-- Calls: DEL EXISTS EXPIRE GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PERSIST PUBLISH RPUSH
--        SADD SCARD SMEMBERS TIME TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local id, known, operation, actor, message = ARGV[1], tonumber(ARGV[2]), ARGV[3], given(ARGV[4]), given(ARGV[5])
local delay = tonumber(ARGV[6])

local run, why = load(id)
if not run then return { why, 0, '', '' } end

local function answer(tag)
  return { tag, run.seq, run.type, call('HGET', run.key, 'state_name') or '' }
end

if call('HGET', run.key, 'ask') == operation then return answer('OK') end
if run.seq ~= known then return answer('CHANGED') end
if not REGISTRY[run.type] then return answer('RUNNING') end
if run.type == 'COMPLETED' and ARGV[7] ~= '1' then return answer('TERMINAL') end

call('HSET', run.key, 'ask', operation)
revive(run, actor, message)
if delay > 0 then
  local due = due_in(delay)
  record(run, 'SCHEDULED', 'Scheduled', { due = iso_of(due) }, { 'expected_start', iso_of(due) })
  schedule(run, due)
else
  wait_in_turn(run)
end
flush()
return answer('OK')
