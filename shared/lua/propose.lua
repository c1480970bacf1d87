-- propose: moves one run to a state that the rules accepted, if it is still as the proposer knew it.
-- KEYS: rq:job:<id>, baton:run:<id>:history, baton:running, baton:counts, baton:leases.
-- ARGV: id, what the proposer knows ('token' or 'seq'), its value, field for the operation ('op' or 'ask'), operation id,
--       actor or '', worker or '', then the outcome (see attempts.lua).
-- State RUNNING begins an attempt of that worker, in place if the run is RUNNING already; PENDING queues the run;
-- CANCELLING leaves it with the worker that holds it.
-- Answer: {tag, token, attempt, run_count, seq, state type, state name, state time}. tag: OK, FENCED (another token),
--       CHANGED (another seq), TERMINAL, CANCELLING (it can only become CANCELLED), BURIED (the worker has no lease), GONE, BROKEN.
-- A repeat of the same operation writes nothing and answers OK with what holds now; FENCED if the attempt that it left
-- is over.
-- Calls: TIME HMGET HGET EXISTS LLEN ZSCORE ZREM HDEL HSET SET DEL RPUSH LPUSH LINDEX LTRIM PUBLISH HINCRBY
--        HINCRBYFLOAT EXPIRE EXPIREAT ZADD ZRANGE TYPE

local id, basis, known, slot, operation = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local actor, worker, outcome = given(ARGV[6]), given(ARGV[7]), outcome_from(8)

if not STATUS[outcome.state] then return redis.error_reply('ERR ' .. outcome.state .. ' is no state') end
local held_key = HELD .. (worker or '') .. ':runs'
local wrong = misfit(RUNNING, 'zset') or misfit(LEASES, 'zset') or misfit(held_key, 'hash')
if wrong then return redis.error_reply(wrong) end

local run, why = load(id)
if not run then return { why } end

local function answer(tag)
  local name = call('HGET', run.key, 'state_name')
  return { tag, digits(run.token), run.attempt, run.run_count, run.seq, run.type, name or '', run.time }
end

if outcome.state == 'RUNNING' and not call('ZSCORE', KEYS[5], worker or '') then return answer('BURIED') end
local done, left_token = string.match(call('HGET', run.key, slot) or '', '^(%S+) (%d+)$')
if done == operation then
  -- An attempt that went on meanwhile, in other hands, is not the proposer's: its token must not reach it.
  return answer((basis == 'seq' or left_token == digits(run.token)) and 'OK' or 'FENCED')
end
if basis == 'token' and digits(run.token) ~= known then return answer('FENCED') end
if basis == 'seq' and run.seq ~= tonumber(known) then return answer('CHANGED') end
if REGISTRY[run.type] then return answer('TERMINAL') end
if run.type == 'CANCELLING' and outcome.state ~= 'CANCELLED' then return answer('CANCELLING') end

open_writes()
if outcome.state == 'RUNNING' then
  if HELD_TYPES[run.type] then call('HSET', run.key, 'last_end', 'failed') end
  local held = call('HGET', held_key, id)
  begin(run, worker, held and string.match(held, '%d+ %d+$') or '0 1', outcome.message)
elseif is_end(outcome.state) then
  settle(run, outcome, { worker = worker, actor = actor })
else
  if not HELD_TYPES[outcome.state] then leave(run) end
  record(run, outcome.state, outcome.name, { message = outcome.message, worker = worker, actor = actor }, {})
  if outcome.state == 'PENDING' then enqueue(run) end
end
call('HSET', run.key, slot, operation .. ' ' .. digits(run.token))
flush()
return answer('OK')
