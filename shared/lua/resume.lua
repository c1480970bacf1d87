-- resume: lets a paused run go on: in the process that holds it, or as a new attempt.
-- KEYS: rq:job:<id>, baton:run:<id>:history.
-- ARGV: id, the seq that the caller read, operation id, actor, input for the run (an envelope, '' for none).
-- Answer: {tag, seq, state type, state name}. tag: OK, CHANGED (another seq), RUNNING (it is not paused), TERMINAL, LATE
--       (its time is over), GONE, BROKEN. A repeat of the same operation answers OK with what holds now.
-- Calls: EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH SCARD SET TIME
--        TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local id, known, operation, actor, input = ARGV[1], tonumber(ARGV[2]), ARGV[3], given(ARGV[4]), given(ARGV[5])

local run, why = load(id)
if not run then return { why, 0, '', '' } end

local function answer(tag)
  return { tag, run.seq, run.type, call('HGET', run.key, 'state_name') or '' }
end

if call('HGET', run.key, 'ask') == operation then return answer('OK') end
if run.seq ~= known then return answer('CHANGED') end
if REGISTRY[run.type] then return answer('TERMINAL') end
if run.type ~= 'PAUSED' then return answer('RUNNING') end
local deadline = run.place == 'held' and try('ZSCORE', DEADLINES, id) or try('ZSCORE', PAUSED, id)
if type(deadline) == 'string' and tonumber(deadline) < NOW then return answer('LATE') end

call('HSET', run.key, 'ask', operation)
if input then
  call('SET', RUN .. id .. ':input', input)
  call('HSET', run.key, 'ties', '1') -- so that the input ends with the run
end
if run.place == 'held' then
  call('HDEL', run.key, 'place')
  try('ZREM', DEADLINES, id)
  run.place = nil
  if run.limits then take_slots(run, run.token) end -- it has begun: others wait until there is room again
  record(run, 'RUNNING', 'Running', { actor = actor, worker = run.worker }, {})
elseif run.kind == 'flow' then
  leave(run)
  record(run, 'SCHEDULED', 'Resuming', { actor = actor, due = NOW_ISO }, {})
  schedule(run, NOW)
else
  leave(run)
  record(run, 'PENDING', 'Pending', { actor = actor }, { 'enqueued_at', NOW_ISO })
  wait_in_turn(run)
end
flush()
return answer('OK')
