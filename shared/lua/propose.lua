-- propose: moves one run to a state that the rules accepted, if it is still as the proposer knew it.
-- KEYS: rq:job:<id>, baton:run:<id>:history, baton:running, baton:counts, baton:leases.
-- ARGV: id, what the proposer knows ('token' or 'seq'), its value, field for the operation ('op' or 'ask'), operation id,
--       actor or '', worker or '', then the outcome (see attempts.lua), then '1' if the hooks of an end are left to
--       others: the proposer has not the task's code.
-- State RUNNING begins an attempt of that worker, in place if the run is RUNNING already; PENDING queues the run;
-- CANCELLING leaves it with the worker that holds it; so does PAUSED, for a flow that its own attempt pauses as `Paused`,
-- and SCHEDULED with the name of a process that executes the run itself: it waits there.
-- Answer: {tag, token, attempt, run_count, seq, state type, state name, state time}. tag: OK, FENCED (another token),
--       CHANGED (another seq), TERMINAL, CANCELLING (it can only become CANCELLED), BURIED (the worker has no lease),
--       FULL (no slot: it waits for one now, and is nobody's; but if its process executes it itself nothing was changed),
--       GONE, BROKEN.
-- A repeat of the same operation writes nothing and answers OK with what holds now; FENCED if the attempt that it left
-- is over, FULL if it was FULL.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PUBLISH
--        RPUSH SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local id, basis, known, slot, operation = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local actor, worker, outcome = given(ARGV[6]), given(ARGV[7]), outcome_from(8)

if not STATUS[outcome.state] then return redis.error_reply('ERR ' .. outcome.state .. ' is no state') end
local held_key = HELD .. (worker or '') .. ':runs'
local wrong = misfit(RUNNING, 'zset') or misfit(LEASES, 'zset') or misfit(held_key, 'hash')
if outcome.state == 'PAUSED' then wrong = wrong or misfit(PAUSED, 'zset') or misfit(DEADLINES, 'zset') end
if wrong then return redis.error_reply(wrong) end

local run, why = load(id)
if not run then return { why } end

local function answer(tag)
  local name = call('HGET', run.key, 'state_name')
  return { tag, digits(run.token), run.attempt, run.run_count, run.seq, run.type, name or '', run.time }
end

if outcome.state == 'RUNNING' and not call('ZSCORE', KEYS[5], worker or '') then return answer('BURIED') end
local done, left_token, said = string.match(call('HGET', run.key, slot) or '', '^(%S+) (%d+) ?(%u*)$')
if done == operation then
  if said == 'FULL' then return answer(said) end
  -- An attempt that went on meanwhile, in other hands, is not the proposer's: its token must not reach it.
  return answer((basis == 'seq' or left_token == digits(run.token)) and 'OK' or 'FENCED')
end
if basis == 'token' and digits(run.token) ~= known then return answer('FENCED') end
if basis == 'seq' and run.seq ~= tonumber(known) then return answer('CHANGED') end
if REGISTRY[run.type] then return answer('TERMINAL') end
if run.type == 'CANCELLING' and outcome.state ~= 'CANCELLED' then return answer('CANCELLING') end

local tag, full, slots = 'OK', nil, nil
if outcome.state == 'RUNNING' and run.limits then full, slots = full_limit(run) end
-- Whoever executes it has nobody to hand it to, and asks again.
if full and is_inline(run.worker) and is_held(run) then return answer('FULL') end

open_writes()
if full then
  wait_for_slot(run, full, slots)
  tag = 'FULL'
elseif outcome.state == 'RUNNING' then
  if HELD_TYPES[run.type] then call('HSET', run.key, 'last_end', 'failed') end
  local held = call('HGET', held_key, id)
  begin(run, worker, held and string.match(held, '%d+ %d+$') or '0 1', outcome.message)
elseif outcome.state == 'PAUSED' and outcome.name == 'Paused' and run.kind == 'flow' and basis == 'token' then
  local set, due = {}, outcome.delay > 0 and due_in(outcome.delay)
  will_lie(run, 'held', set)
  if run.limits then release(run) end
  record(run, 'PAUSED', 'Paused', { message = outcome.message, worker = worker, due = due and iso_of(due) }, set)
  if due then call('ZADD', DEADLINES, format('%.3f', due), id) end
elseif outcome.state == 'SCHEDULED' and is_inline(worker) and is_held(run) then
  wait_in_place(run, outcome, worker)
elseif is_end(outcome.state) then
  settle(run, outcome, { worker = worker, actor = actor })
  if ARGV[8 + OUTCOME] == '1' and REGISTRY[run.type] then leave_hooks(run) end
else
  if not HELD_TYPES[outcome.state] then leave(run) end
  record(run, outcome.state, outcome.name, { message = outcome.message, worker = worker, actor = actor }, {})
  if outcome.state == 'PENDING' then enqueue(run) end
end
call('HSET', run.key, slot, operation .. ' ' .. digits(run.token) .. (full and ' FULL' or ''))
flush()
return answer(tag)
