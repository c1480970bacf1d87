-- cycle: a worker's one call: ends the attempts that it reports, then begins up to `want` runs from its queues in order.
-- KEYS: baton:leases, rq:worker:<w>, baton:worker:<w>:runs, baton:running, baton:counts, rq:suspended,
--       then per queue: its list, its wake list, its settings, its hints, its wip set.
-- ARGV: worker, cycle number, want, seconds for which a run of an unknown task is passed on, retention in seconds of a
--       cancelled run, 'awaited' (begin only what others wait for) or '', how many reports, then per report: id, token,
--       state type, state name, message, result envelope, error, traceback, retention in seconds, result's retention in
--       seconds, delay in seconds, what is said of the cache (see attempts.lua). '' stands for nothing. State type
--       SCHEDULED is a retry with that delay.
-- Answer: {tag, verdicts, claims}. tag: OK, BURIED (the lease is over: what is reported is kept in quarantine, nothing
--       else was done), MORE (call again: only ids without a waiting run were found). verdicts, per report: OK, FENCED, GONE, BROKEN, CANCELLED (recorded so
--       because the run was cancelling). claims, per run: id, token, attempt, run_count, crashes, start time,
--       task, parameters (or false), state type, then the fields of CLAIM, then of a run with ties those of CACHING. The
--       state is RUNNING; PENDING for a run that is handed out before its start, since whoever holds it has to find out
--       whether it may; in a repeat perhaps CANCELLING.
-- Hints are ids that somebody waits for: they are begun first, if they wait in that queue.
-- A repeat under the same number writes nothing: it answers what that cycle answered. An earlier number is an error: the
-- network was late with it, and nobody would hear which runs it began.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HMGET HSET LINDEX LLEN LPOP LPUSH
--        LTRIM PERSIST PUBLISH RPUSH SADD SCARD SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZREM
--        ZSCORE

local worker, number, want, reports = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[7])
local grace, retention = tonumber(ARGV[4]), tonumber(ARGV[5])
local worker_key, held_key = KEYS[2], KEYS[3]
local STRIDE, FIRST, PER_QUEUE = 2 + OUTCOME, 8, 5

local CLAIM = { 'name', 'max_retries', 'retry_delays', 'timeout_seconds', 'result_ttl', 'parent', 'flow', 'correlation', 'traceparent',
  'persist_result', 'retry_jitter_factor', 'limits' }
local CACHING = { 'cache_expiration', 'refresh_cache', 'result_storage_key' }
local NUMBERS = { [2] = '^%d+$', [4] = '^%d[%d.e+-]*$', [5] = '^%d+$', [10] = '^[01]$', [11] = '^%d[%d.e+-]*$' }

local is_fenced = true

-- Keeps what an attempt came to that may not be recorded.
local function keep_late(reason, at)
  quarantine(reason, 'run', ARGV[at], 'token', ARGV[at + 1], 'worker', worker, 'state', ARGV[at + 2], 'name', ARGV[at + 3],
    'result', sub(ARGV[at + 5], 1, LATE))
end

if is_fenced and not call('ZSCORE', KEYS[1], worker) then
  for i = 1, reports do keep_late('buried', FIRST + (i - 1) * STRIDE) end
  return { 'BURIED', {}, {} }
end

local function claim_of(run, more)
  local parameters = try('GET', RUN .. run.id .. ':parameters')
  local claim = {
    run.id, digits(run.token), run.attempt, run.run_count, run.crashes, run.time, run.task,
    type(parameters) == 'string' and parameters, run.type,
  }
  for i = 1, #CLAIM do claim[9 + i] = more[i] end
  if run.ties then
    for i = 1, #CACHING do claim[9 + #CLAIM + i] = run[CACHING[i]] or false end
  end
  return claim
end

-- The fields of CLAIM, or nil if one of them is no number where the worker reads one: it would fail over its whole batch.
local function more_of(run)
  local more = call('HMGET', run.key, unpack(CLAIM))
  for field, form in pairs(NUMBERS) do
    if more[field] and not (find(more[field], form) and tonumber(more[field])) then return nil end
  end
  if run.cache_expiration and not number_in(run.cache_expiration) then return nil end
  return more
end

-- What this number answered before: its verdicts are kept with the worker, its runs are those held under it.
local function repeated()
  local runs, claims = {}, {}
  local flat = call('HGETALL', held_key)
  for i = 1, #flat, 2 do
    local token, cycle, place = string.match(flat[i + 1], '^(%d+) (%d+) (%d+)$')
    local run = cycle == number and load(flat[i])
    if run and digits(run.token) == token then
      runs[#runs + 1] = { place = tonumber(place), run = run }
    end
  end
  table.sort(runs, function(a, b) return a.place < b.place end)
  for i, entry in ipairs(runs) do
    if entry.run.type == 'CANCELLING' then entry.run.time = call('HGET', entry.run.key, 'started_at') end
    claims[i] = claim_of(entry.run, call('HMGET', entry.run.key, unpack(CLAIM)))
  end
  local verdicts = {}
  for verdict in string.gmatch(call('HGET', worker_key, 'verdicts') or '', '%S+') do verdicts[#verdicts + 1] = verdict end
  return { 'OK', verdicts, claims }
end

local last = tonumber(call('HGET', worker_key, 'cycle') or 0)
if tonumber(number) == last then return repeated() end
if tonumber(number) < last then
  return redis.error_reply('ERR cycle ' .. number .. ' of ' .. worker .. ' comes after its cycle ' .. last)
end

local wrong = misfit(held_key, 'hash') or misfit(RUNNING, 'zset')
for i = 7, #KEYS, PER_QUEUE do wrong = wrong or misfit_in(sub(KEYS[i], #QUEUE + 1)) end
for i = 1, reports do
  local state = ARGV[FIRST + (i - 1) * STRIDE + 2]
  if not is_end(state) then return redis.error_reply('ERR no attempt ends as ' .. state) end
  if state == 'PAUSED' then wrong = wrong or misfit(PAUSED, 'zset') end
end
if wrong then return redis.error_reply(wrong) end

-- ------------------------------------------------------------------------------------------------- ending attempts

local ended = {}

local function finish(at)
  local id, token = ARGV[at], ARGV[at + 1]
  local outcome = outcome_from(at + 2)
  local run, why = load(id)
  local is_ours = run and (digits(run.token) == token or not is_fenced) and is_held(run)
  if not is_ours then
    local verdict = why or 'FENCED'
    keep_late(string.lower(verdict), at)
    if verdict == 'GONE' then forget(id, token, worker) end
    return verdict
  end
  local verdict, reported = 'OK', outcome.state
  if run.type == 'CANCELLING' and outcome.state ~= 'CANCELLED' then
    verdict, outcome = 'CANCELLED', cancelled_instead(outcome, retention)
  end
  settle(run, outcome, { worker = worker })
  -- Its worker calls the hooks, unless it does not know the task, or reported no end.
  if (run.type == 'FAILED' or run.type == 'CANCELLED') and not (REGISTRY[reported] and knows(worker_key, run.task)) then
    leave_hooks(run)
  end
  ended[outcome.state] = (ended[outcome.state] or 0) + 1
  return verdict
end

-- ------------------------------------------------------------------------------------------------------ beginning

local claims = {}

local limited = {}

-- True if one of the run's limits is set: a tag without one costs nothing.
local function is_limited(run)
  for name in string.gmatch(run.limits or '', '%S+') do
    if limited[name] == nil then limited[name] = call('EXISTS', LIMIT .. name) == 1 end
    if limited[name] then return true end
  end
  return false
end

-- A run that could take its neighbours' time or life with it shares no batch.
local function goes_alone(run)
  return run.crashes > 0 or run.on_crash == 'fail'
    or run.ties and (run.upstreams or run.kind == 'flow' or is_limited(run))
end

local function is_known_elsewhere(run)
  local members = try('SMEMBERS', WORKERS_OF .. run.queue)
  for i = 1, #members do
    if call('ZSCORE', KEYS[1], sub(members[i], #WORKER + 1)) and knows(members[i], run.task) then return true end
  end
  return false
end

-- Leaves a run whose task is unknown here to others, for a while at least. Answers true if it is passed on.
local function pass_on(run)
  local since = call('HGET', run.key, 'passed_at')
  since = since and number_in(since) or NOW
  if NOW - since >= grace and not is_known_elsewhere(run) then return false end
  local set = {}
  will_lie(run, 'passed', set)
  call('HSET', run.key, 'status', PLACED.passed, 'passed_at', format('%.3f', since), unpack(set))
  schedule(run, NOW + 1)
  return true
end

-- Ends or puts aside what its ties do not let begin. Answers true if it did.
local function is_kept_back(run)
  local deadline = run.start_within and run.attempt == 0 and try('ZSCORE', DEADLINES, run.id)
  if deadline and tonumber(deadline) < NOW then
    expire(run, retention)
    return true
  end
  local flow = run.flow and try('HGET', JOB .. run.flow, 'state_type')
  if flow == 'CANCELLING' or flow == 'CANCELLED' then
    cancel(run, ORPHANED, nil, retention)
    return true
  elseif flow and REGISTRY[flow] and run.kind ~= 'flow' and not call('HGET', run.key, 'outlives_flow') then
    cancel(run, 'The enclosing flow must be running to begin task execution.', nil, retention)
    return true
  end
  if run.limits and not run.upstreams then
    local name, slots = full_limit(run)
    if name then wait_for_slot(run, name, slots) end
    return name ~= nil
  end
  return false
end

-- A job of RQ's own tools: `rq requeue` puts back what has ended, without knowing our states.
local function is_requeued(run)
  return REGISTRY[run.type] and call('HGET', run.key, 'status') == STATUS.PENDING
end

local dropped = 0

-- Begins, or hands out, a run that was taken from its queue; answers true if it has to stay alone.
local function claim(run, more)
  local place = number .. ' ' .. (#claims + 1)
  if run.upstreams or not knows(worker_key, run.task) then
    hand_out(run, worker, place)
  else
    begin(run, worker, place)
  end
  claims[#claims + 1] = claim_of(run, more)
  return goes_alone(run)
end

-- Begins what waits in one list of a queue. Answers true when the batch is complete.
local function serve(queue_name, list, is_hints)
  while #claims < want and dropped < 200 do
    local id = try('LPOP', list)
    if type(id) ~= 'string' then return false end
    local run, why = load(id)
    if run and run.queue == queue_name and is_requeued(run) then
      revive(run, 'rq', 'Requeued by RQ.')
      if unfinished(run) > 0 then defer(run, unfinished(run), {}) end
    end
    local waits = run and run.type == 'PENDING' and run.queue == queue_name and not run.place
    local more = waits and more_of(run)
    if more and #claims > 0 and goes_alone(run) then
      call('LPUSH', list, id)
      return true
    elseif more and not knows(worker_key, run.task) and pass_on(run) then
      dropped = dropped + 1
    elseif more and not (run.ties and is_kept_back(run)) then
      if claim(run, more) then return true end
    else
      dropped = dropped + 1
      if not more and not is_hints and (waits or why == 'BROKEN') then quarantine('unreadable', 'run', id, 'queue', queue_name) end
    end
  end
  return true
end

-- --------------------------------------------------------------------------------------------------------- the call

local verdicts = {}
if want == 0 then
  open_writes()
else
  -- Refused when memory is full, while an LPOP is not: then nothing begins, and the worker reports without wanting more.
  call('HSET', worker_key, 'cycle', number, 'verdicts', '')
end
for i = 1, reports do verdicts[i] = finish(FIRST + (i - 1) * STRIDE) end

if want > 0 and call('EXISTS', KEYS[6]) == 0 then
  for i = 7, #KEYS, PER_QUEUE do
    local list, wake_list = KEYS[i], KEYS[i + 1]
    if try('HGET', KEYS[i + 2], 'paused') == false then
      local queue_name = sub(list, #QUEUE + 1)
      local complete = serve(queue_name, KEYS[i + 3], true) or (ARGV[6] == '' and serve(queue_name, list))
      -- Ids are left and this worker is taken: let others know, two at most, so that many wake as a chain.
      if complete then
        local left = call('LLEN', list)
        if left > 0 then wake(wake_list, math.min(left, 2)) end
        break
      end
    end
  end
end

-- What RQ's tools show: the run that was begun first, or else the one whose body lasts while others are reported.
local current = claims[1] and claims[1][1] or call('HKEYS', held_key)[1]
if ended.COMPLETED then try('HINCRBY', worker_key, 'successful_job_count', ended.COMPLETED) end
if ended.FAILED then try('HINCRBY', worker_key, 'failed_job_count', ended.FAILED) end
local set = { 'cycle', number, 'verdicts', table.concat(verdicts, ' '), 'state', current and 'busy' or 'idle' }
if current then set[#set + 1], set[#set + 2] = 'current_job', current end
call('HSET', worker_key, unpack(set))
if not current then call('HDEL', worker_key, 'current_job') end
flush()
return { #claims == 0 and dropped >= 200 and 'MORE' or 'OK', verdicts, claims }
