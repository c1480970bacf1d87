-- How attempts begin, end and go back: put after the prelude in front of the scripts that do one of these.

local function given(value)
  return value ~= '' and value or nil
end

local OUTCOME = 9

-- Reads an outcome from ARGV: state type, name, message, result envelope, error, traceback, retention in seconds,
-- result's retention in seconds, delay in seconds. '' stands for nothing.
local function outcome_from(at)
  return {
    state = ARGV[at], name = ARGV[at + 1], message = given(ARGV[at + 2]), result = given(ARGV[at + 3]),
    error = given(ARGV[at + 4]), traceback = given(ARGV[at + 5]), retention = tonumber(ARGV[at + 6]),
    result_retention = tonumber(ARGV[at + 7]), delay = tonumber(ARGV[at + 8]),
  }
end

-- True if an attempt or a run can end so.
local function is_end(state)
  return state == 'SCHEDULED' or REGISTRY[state] ~= nil
end

-- What a cancelling run ends as, whatever its body still returned or raised.
local function cancelled_instead(outcome)
  return {
    state = 'CANCELLED', name = 'Cancelled', retention = outcome.retention,
    message = 'Cancelled while running; its outcome ' .. outcome.name .. ' was not recorded.',
  }
end

local function cancelled(retention)
  return { state = 'CANCELLED', name = 'Cancelled', message = 'Cancelled while running.', retention = retention }
end

-- Stores what the outcome carries under keys of their own; they live as long as the run, the result perhaps shorter.
local function keep(run, outcome, expiry, set)
  local result, traceback = RUN .. run.id .. ':result', RUN .. run.id .. ':traceback'
  if outcome.result then
    call('SET', result, outcome.result)
    if expiry then call('EXPIREAT', result, math.min(expiry, SEC + outcome.result_retention)) end
    set[#set + 1], set[#set + 2] = 'result', #outcome.result
  elseif run.result then
    call('DEL', result)
    call('HDEL', run.key, 'result')
  end
  if outcome.error then
    set[#set + 1], set[#set + 2] = 'error', short(outcome.error)
  elseif expiry and run.error then
    -- That of an earlier attempt: it is no reason of this end.
    call('HDEL', run.key, 'error')
    call('DEL', traceback)
  end
  if outcome.traceback then call('SET', traceback, outcome.traceback) end
  if expiry and (outcome.error or outcome.traceback) then call('EXPIREAT', traceback, expiry) end
end

local BUCKETS = { 0.01, 0.1, 1, 10, 60, 600 }

local function count_duration(run, took)
  local key, bucket = TASK .. run.task .. ':counts', 'inf'
  for i = 1, #BUCKETS do
    if took <= BUCKETS[i] then
      bucket = BUCKETS[i]
      break
    end
  end
  count(key, 'seconds', took)
  count(key, 'took_le_' .. bucket, 1)
end

-- Ends the attempt, or the whole run: a terminal state, or SCHEDULED for a retry after `delay`.
local function settle(run, outcome, more)
  local set, held, due, expiry = {}, HELD_TYPES[run.type], nil, nil
  local ran = run.ran
  leave(run)
  if outcome.state == 'SCHEDULED' then
    due = due_in(outcome.delay or 0)
    schedule(run, due)
    if held then
      run.token = new_token(run) -- else this attempt could still propose, as if the next one were its own
      set = { 'token', digits(run.token), 'last_end', 'failed' }
      count(TODAY, 'retried', 1)
    end
  else
    expiry = retire(run, outcome.state, outcome.retention)
    set = { 'ended_at', after(run.time) }
  end
  keep(run, outcome, expiry, set)
  more.message, more.due = outcome.message, due and iso_of(due)
  record(run, outcome.state, outcome.name, more, set)
  if expiry and held then count_duration(run, run.ran - ran) end
end

-- Begins an attempt: new number, new token, RUNNING, held by this worker. `place` says when it was begun: cycle, place.
local function begin(run, worker, place, message)
  local name, time = 'Running', after(run.time)
  if run.attempt > 0 then
    name = call('HGET', run.key, 'last_end') == 'failed' and 'Retrying' or 'Rerunning'
  end
  leave(run)
  run.attempt, run.run_count, run.token, run.worker = run.attempt + 1, run.run_count + 1, new_token(run), worker
  local set = {
    'attempt', run.attempt, 'token', digits(run.token), 'run_count', run.run_count, 'worker_name', worker,
    'started_at', time,
  }
  if not run.start_time then set[#set + 1], set[#set + 2] = 'start_time', time end
  record(run, 'RUNNING', name, { worker = worker, message = message }, set)
  call('ZADD', WIP .. run.queue, '+inf', run.id .. ':' .. digits(run.token))
  call('ZADD', RUNNING, format('%.3f', NOW), run.id)
  call('HSET', HELD .. worker .. ':runs', run.id, digits(run.token) .. ' ' .. place)
end

-- Takes a held run from its worker and puts it back at the head of its queue, with a higher token. An attempt that was
-- lost stays counted; one that was given back never was.
local function put_back(run, message, lost, worker)
  leave(run)
  run.token = new_token(run)
  local set = { 'token', digits(run.token), 'last_end', lost and 'lost' or 'given_back' }
  if lost then
    run.crashes = run.crashes + 1
    set[#set + 1], set[#set + 2] = 'crashes', run.crashes
    count(TODAY, 'lost', 1)
  else
    run.run_count = math.max(0, run.run_count - 1)
    set[#set + 1], set[#set + 2] = 'run_count', run.run_count
    count(TODAY, 'given_back', 1)
  end
  record(run, 'PENDING', 'Pending', { message = message, worker = worker }, set)
  enqueue(run, true)
end

-- Takes a run that is not there any more from the worker that held it, out of every index that still names it.
local function forget(id, token, worker)
  try('HDEL', HELD .. worker .. ':runs', id)
  call('ZREM', RUNNING, id)
  for _, member in ipairs(call('SMEMBERS', QUEUES)) do
    try('ZREM', WIP .. string.gsub(member, '^' .. QUEUE, ''), id .. ':' .. token)
  end
end

-- What a worker holds, in the order in which it was begun.
local function hand_of(worker)
  local hand, flat = {}, try('HGETALL', HELD .. worker .. ':runs') -- an error has no items
  for i = 1, #flat, 2 do
    local cycle, place = string.match(flat[i + 1], '^%d+ (%d+) (%d+)$')
    hand[#hand + 1] = { id = flat[i], cycle = tonumber(cycle or 0), place = tonumber(place or 0) }
  end
  table.sort(hand, function(a, b)
    if a.cycle ~= b.cycle then return a.cycle < b.cycle end
    return a.place < b.place
  end)
  return hand
end
