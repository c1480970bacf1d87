-- force: writes a state without asking the rules; whoever held the run is fenced.
-- KEYS: rq:job:<id>, baton:run:<id>:history.
-- ARGV: id, the seq that the caller read, operation id, actor, then the outcome (see attempts.lua); its message tells why.
--       Any state but RUNNING and CANCELLING, which only a process can be in.
-- Answer: {tag, seq, state type, state name}. tag: OK, CHANGED (another seq), GONE, BROKEN. A repeat of the same
--       operation answers OK with what holds now.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PERSIST
--        PUBLISH RPUSH SADD SET SMEMBERS SPOP SREM TIME TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local id, known, operation, actor, outcome = ARGV[1], tonumber(ARGV[2]), ARGV[3], given(ARGV[4]), outcome_from(5)

if outcome.state ~= 'PENDING' and not is_end(outcome.state) then
  return redis.error_reply('ERR no run can be forced to be ' .. outcome.state)
end
local run, why = load(id)
if not run then return { why, 0, '', '' } end

local function answer(tag)
  return { tag, run.seq, run.type, call('HGET', run.key, 'state_name') or '' }
end

if call('HGET', run.key, 'ask') == operation then return answer('OK') end
if run.seq ~= known then return answer('CHANGED') end

local wrong = misfit(RUNNING, 'zset') or outcome.state == 'PAUSED' and misfit(PAUSED, 'zset')
if wrong then return redis.error_reply(wrong) end
open_writes()
call('HSET', run.key, 'ask', operation)
local had_ended = REGISTRY[run.type]
if had_ended then
  revive(run, actor, outcome.message)
else
  leave(run)
  run.token = new_token(run)
  call('HSET', run.key, 'token', digits(run.token))
end
if outcome.state == 'PENDING' then
  if not had_ended then record(run, 'PENDING', outcome.name, { message = outcome.message, actor = actor }, {}) end
  enqueue(run)
else
  settle(run, outcome, { actor = actor })
end
flush()
return answer('OK')
