-- cycle: a worker's one call: ends the attempts that it reports, then begins up to `want` runs from its queues in order.
-- KEYS: baton:leases, rq:worker:<w>, baton:worker:<w>:runs, baton:running, baton:counts, rq:suspended,
--       then per queue: its list, its wake list, its settings, its wip set.
-- ARGV: worker, cycle number, want, how many reports, then per report: id, token, state type, state name, message,
--       result envelope, error, traceback, retention in seconds, result's retention in seconds, delay in seconds.
--       '' stands for nothing. State type SCHEDULED is a retry with that delay.
-- Answer: {tag, verdicts, claims}. tag: OK, BURIED (the lease is over: nothing was done), MORE (call again: only
--       ids without a waiting run were found). verdicts, per report: OK, FENCED, GONE, BROKEN, CANCELLED (recorded so
--       because the run was cancelling). claims, per run begun: id, token, attempt, run_count, crashes, start time,
--       task, parameters (or false), then the fields of CLAIM.
-- A repeat under the same number writes nothing: it answers what that cycle answered. An earlier number is an error: the
-- network was late with it, and nobody would hear which runs it began.
-- Calls: TIME TYPE ZSCORE HGET HMGET HGETALL HSET HDEL HINCRBY HINCRBYFLOAT EXISTS GET SET DEL LPOP LPUSH RPUSH LLEN
--        LINDEX LTRIM ZADD ZREM ZRANGE EXPIREAT EXPIRE PUBLISH XADD HKEYS SMEMBERS

local worker, number, want, reports = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local worker_key, held_key = KEYS[2], KEYS[3]
local STRIDE, FIRST = 2 + OUTCOME, 5

local CLAIM = { 'name', 'max_retries', 'retry_delays', 'timeout_seconds', 'result_ttl', 'parent', 'flow', 'correlation', 'traceparent' }
local NUMBERS = { [2] = '^%d+$', [4] = '^%d[%d.e+-]*$', [5] = '^%d+$' }

if not call('ZSCORE', KEYS[1], worker) then return { 'BURIED', {}, {} } end

local function claim_of(run, start, more)
  local parameters = try('GET', RUN .. run.id .. ':parameters')
  local claim = {
    run.id, digits(run.token), run.attempt, run.run_count, run.crashes, start, run.task,
    type(parameters) == 'string' and parameters,
  }
  for i = 1, #CLAIM do claim[8 + i] = more[i] end
  return claim
end

-- The fields of CLAIM, or nil if one of them is no number where the worker reads one: it would fail over its whole batch.
local function more_of(run)
  local more = call('HMGET', run.key, unpack(CLAIM))
  for field, form in pairs(NUMBERS) do
    if more[field] and not (find(more[field], form) and tonumber(more[field])) then return nil end
  end
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
    claims[i] = claim_of(entry.run, call('HGET', entry.run.key, 'started_at'), call('HMGET', entry.run.key, unpack(CLAIM)))
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
for i = 7, #KEYS, 4 do wrong = wrong or misfit_in(sub(KEYS[i], #QUEUE + 1)) end
if wrong then return redis.error_reply(wrong) end
for i = 1, reports do
  local state = ARGV[FIRST + (i - 1) * STRIDE + 2]
  if not is_end(state) then return redis.error_reply('ERR no attempt ends as ' .. state) end
end

-- ------------------------------------------------------------------------------------------------- ending attempts

local ended = {}

local function finish(at)
  local id, token = ARGV[at], ARGV[at + 1]
  local outcome = outcome_from(at + 2)
  local run, why = load(id)
  local is_ours = run and digits(run.token) == token and HELD_TYPES[run.type]
  if not is_ours then
    local verdict = why or 'FENCED'
    quarantine(string.lower(verdict), 'run', id, 'token', token, 'worker', worker, 'state', outcome.state, 'name',
      outcome.name, 'result', sub(outcome.result or '', 1, LATE))
    if verdict == 'GONE' then forget(id, token, worker) end
    return verdict
  end
  local verdict = 'OK'
  if run.type == 'CANCELLING' and outcome.state ~= 'CANCELLED' then
    verdict, outcome = 'CANCELLED', cancelled_instead(outcome)
  end
  settle(run, outcome, { worker = worker })
  ended[outcome.state] = (ended[outcome.state] or 0) + 1
  return verdict
end

-- ------------------------------------------------------------------------------------------------------ beginning

local claims = {}

-- A run that could take its neighbours' time or life with it shares no batch.
local function goes_alone(run)
  return run.crashes > 0 or run.on_crash == 'fail'
end

local dropped = 0

-- Begins what waits in one queue. Answers true when the batch is complete.
local function serve(queue_name, list)
  while #claims < want and dropped < 200 do
    local id = call('LPOP', list)
    if not id then return false end
    local run, why = load(id)
    local waits = run and run.type == 'PENDING' and run.queue == queue_name
    local more = waits and more_of(run)
    if more then
      local alone = goes_alone(run)
      if alone and #claims > 0 then
        call('LPUSH', list, id)
        return true
      end
      begin(run, worker, number .. ' ' .. (#claims + 1))
      claims[#claims + 1] = claim_of(run, run.time, more)
      if alone then return true end
    else
      dropped = dropped + 1
      if waits or why == 'BROKEN' then quarantine('unreadable', 'run', id, 'queue', queue_name) end
    end
  end
  return true
end

-- --------------------------------------------------------------------------------------------------------- the call

local verdicts = {}
if reports > 0 or want == 0 then
  open_writes()
else
  -- Refused when memory is full, while an LPOP is not: then nothing begins.
  call('HSET', worker_key, 'cycle', number, 'verdicts', '')
end
for i = 1, reports do verdicts[i] = finish(FIRST + (i - 1) * STRIDE) end

if want > 0 and call('EXISTS', KEYS[6]) == 0 then
  for i = 7, #KEYS, 4 do
    local list, wake_list = KEYS[i], KEYS[i + 1]
    if try('HGET', KEYS[i + 2], 'paused') == false then
      local complete = serve(sub(list, #QUEUE + 1), list)
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
