-- How attempts begin, end and go back: put after prelude and places in front of the scripts that do one of these.

local OUTCOME = 10

-- Reads an outcome from ARGV: state type, name, message, result envelope, error, traceback, retention in seconds,
-- result's retention in seconds, delay in seconds, what is said of the cache (see cache()). '' stands for nothing.
local function outcome_from(at)
  return {
    state = ARGV[at], name = ARGV[at + 1], message = given(ARGV[at + 2]), result = given(ARGV[at + 3]),
    error = given(ARGV[at + 4]), traceback = given(ARGV[at + 5]), retention = tonumber(ARGV[at + 6]),
    result_retention = tonumber(ARGV[at + 7]), delay = tonumber(ARGV[at + 8]), cached = given(ARGV[at + 9]),
  }
end

-- True if an attempt or a run can end so.
local function is_end(state)
  return state == 'SCHEDULED' or state == 'PAUSED' or REGISTRY[state] ~= nil
end

-- What a cancelling run ends as, whatever its body still returned or raised.
local function cancelled_instead(outcome, retention)
  return {
    state = 'CANCELLED', name = 'Cancelled', retention = retention,
    message = 'Cancelled while running; its outcome ' .. outcome.name .. ' was not recorded.',
  }
end

local function cancelled(retention)
  return { state = 'CANCELLED', name = 'Cancelled', message = 'Cancelled while running.', retention = retention }
end

-- Stores what the outcome carries under keys of their own; they live as long as the run, the result perhaps shorter.
local function keep(run, outcome, is_final, expiry, set)
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
  elseif is_final and run.error then
    -- That of an earlier attempt: it is no reason of this end.
    call('HDEL', run.key, 'error')
    call('DEL', traceback)
  end
  if outcome.traceback then call('SET', traceback, outcome.traceback) end
  if expiry and (outcome.error or outcome.traceback) then call('EXPIREAT', traceback, expiry) end
end

-- What an attempt says of the cache: 'from <run>' whose value it is, 'error <text>' why it went on uncached, or 'keep '
-- and for each record '<milliseconds, or nothing for ever> <bytes of its key> <its bytes>', a new line, key and record.
local function cache(outcome, set)
  local word, at = string.match(outcome.cached, '^(%l+) ()')
  if word == 'from' or word == 'error' then
    set[#set + 1] = word == 'from' and 'cached_from' or 'cache_error'
    set[#set + 1] = short(sub(outcome.cached, at))
  end
  while word == 'keep' and outcome.state == 'COMPLETED' do
    local life, key_size, size, from = string.match(outcome.cached, '^(%d*) (%d+) (%d+)\n()', at)
    if not from then break end
    local middle = from + tonumber(key_size)
    at = middle + tonumber(size)
    local key, data = RESULT .. sub(outcome.cached, from, middle - 1), sub(outcome.cached, middle, at - 1)
    -- What cannot be kept is computed again, and keeps no run from its end.
    if life == '' then try('SET', key, data) elseif tonumber(life) > 0 then try('SET', key, data, 'PX', life) end
  end
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

-- Ends the attempt, or the whole run: a terminal state, SCHEDULED for a retry after `delay`, or PAUSED for `delay` at
-- most (0: without end) with no process.
local function settle(run, outcome, more)
  local set, held, was_handed, due, expiry = {}, HELD_TYPES[run.type], is_held(run), nil, nil
  local ran, is_final = run.ran, REGISTRY[outcome.state] ~= nil
  leave(run)
  if outcome.state == 'SCHEDULED' then
    due = due_in(outcome.delay or 0)
    schedule(run, due)
    if held then
      set = { 'last_end', 'failed' }
      count(TODAY, 'retried', 1)
    end
  elseif outcome.state == 'PAUSED' then
    due = (outcome.delay or 0) > 0 and due_in(outcome.delay) or nil
    call('ZADD', PAUSED, due and format('%.3f', due) or '+inf', run.id)
    if held then
      run.run_count = math.max(0, run.run_count - 1)
      set = { 'run_count', run.run_count, 'last_end', 'paused' }
    end
  else
    expiry = retire(run, outcome.state, outcome.retention)
    set = { 'ended_at', after(run.time) }
  end
  if was_handed and not is_final then
    run.token = new_token(run) -- else this attempt could still propose, as if the next one were its own
    set[#set + 1], set[#set + 2] = 'token', digits(run.token)
  end
  keep(run, outcome, is_final, expiry, set)
  if outcome.cached then cache(outcome, set) end
  more.message, more.due = outcome.message, due and iso_of(due)
  record(run, outcome.state, outcome.name, more, set)
  if is_final and held then count_duration(run, run.ran - ran) end
  if is_final and run.ties then untie(run) end
end

local HOOKS_AT_MOST = 10000

-- Notes that the hooks of a run's end are due; what a queue cannot take any more is put aside, oldest first.
local function owe_hooks(queue, entry)
  local left = try('RPUSH', HOOKS .. queue, entry)
  if type(left) == 'number' and left > HOOKS_AT_MOST then
    local oldest = call('LPOP', HOOKS .. queue)
    quarantine('hooks', 'run', string.match(oldest, '^%S*'), 'queue', queue, 'message', 'Too many hooks were due.')
  end
  wake(WAKE_DUE, 1)
end

-- Leaves the hooks of a run's end to a worker that knows the task. A task that has none for this state costs a look.
local function leave_hooks(run)
  if try('SISMEMBER', HOOKED, run.type .. ' ' .. run.task) == 1 then owe_hooks(run.queue, run.id .. ' ' .. run.seq .. ' 0') end
end

-- Ends a run where nobody has its task's code.
local function end_elsewhere(run, outcome, more)
  settle(run, outcome, more)
  leave_hooks(run)
end

-- True if this is a process that executes runs itself: what it holds is nobody else's.
local function is_inline(worker)
  return worker and sub(worker, 1, #INLINE) == INLINE
end

-- Lets a run wait for its next attempt in the process that holds it.
local function wait_in_place(run, outcome, worker)
  local set, due = { 'last_end', 'failed' }, due_in(outcome.delay)
  if HELD_TYPES[run.type] then count(TODAY, 'retried', 1) end
  will_lie(run, 'held', set)
  if run.limits then release(run) end
  keep(run, outcome, false, nil, set)
  record(run, 'SCHEDULED', outcome.name, { message = outcome.message, worker = worker, due = iso_of(due) }, set)
end

-- Enters a run, under its present token, where everything that processes hold is found.
local function hold(run, worker, place)
  call('ZADD', WIP .. run.queue, '+inf', run.id .. ':' .. digits(run.token))
  call('ZADD', RUNNING, format('%.3f', NOW), run.id)
  call('HSET', HELD .. worker .. ':runs', run.id, digits(run.token) .. ' ' .. place)
end

-- Begins an attempt: new number, new token, RUNNING, held by this worker. `place` says when it was begun: cycle, place.
-- Its limits have slots for it: see full_limit().
local function begin(run, worker, place, message)
  local name, time, old_token = 'Running', after(run.time), run.token
  if run.attempt > 0 then
    name = call('HGET', run.key, 'last_end') == 'failed' and 'Retrying' or 'Rerunning'
  end
  leave(run, true)
  run.attempt, run.run_count, run.token, run.worker = run.attempt + 1, run.run_count + 1, new_token(run), worker
  local set = {
    'attempt', run.attempt, 'token', digits(run.token), 'run_count', run.run_count, 'worker_name', worker,
    'started_at', time,
  }
  if not run.start_time then set[#set + 1], set[#set + 2] = 'start_time', time end
  record(run, 'RUNNING', name, { worker = worker, message = message }, set)
  hold(run, worker, place)
  if run.limits then take_slots(run, old_token) end
  if run.ties then
    call('HDEL', run.key, 'slot_since', 'passed_at')
    if run.start_within then try('ZREM', DEADLINES, run.id) end
    if run.idem and run.unique == 'until_started' then give_up_key(run) end
  end
end

-- Hands a run out as it is, PENDING: whoever holds it finds out whether it may start, and proposes that.
local function hand_out(run, worker, place)
  local set = {}
  leave(run, true)
  run.token, run.worker = new_token(run), worker
  will_lie(run, 'held', set)
  call('HSET', run.key, 'token', digits(run.token), 'worker_name', worker, 'status', PLACED.held, unpack(set))
  hold(run, worker, place)
end

-- Puts a run that was handed out and did not start back to the head of its queue. Nothing happened: no transition.
local function take_back(run)
  leave(run)
  run.token = new_token(run)
  call('HSET', run.key, 'token', digits(run.token), 'status', STATUS.PENDING)
  enqueue(run, true)
end

-- Makes a run that has ended wait again, as a new attempt; where it lies is the caller's.
local function revive(run, actor, message)
  leave(run)
  persist(run.id)
  call('DEL', RUN .. run.id .. ':result', RUN .. run.id .. ':traceback')
  call('HDEL', run.key, 'result', 'error', 'ended_at', 'slot_since', 'passed_at', 'cached_from', 'cache_error', 'rolled_back')
  run.token, run.crashes, run.run_count, run.result, run.error = new_token(run), 0, 0, nil, nil
  if run.idem and has_key(run) then call('PERSIST', IDEMPOTENCY .. run.idem) end
  local upstreams = run.upstreams and try('SMEMBERS', RUN .. run.id .. ':upstream') or {}
  for i = 1, #upstreams do need(run.id, upstreams[i]) end
  local set = { 'token', digits(run.token), 'run_count', 0, 'crashes', 0, 'last_end', 'retried', 'enqueued_at', NOW_ISO }
  record(run, 'PENDING', 'Pending', { message = message, actor = actor }, set)
end

-- Ends a run that did not begin in its time.
local function expire(run, retention)
  local message = 'Not started within ' .. run.start_within .. ' seconds.'
  end_elsewhere(run, { state = 'CANCELLED', name = 'Expired', message = message, retention = retention }, {})
end

local ORPHANED = 'The parent flow run was cancelled.'

-- Tells the fleet of a worker to look at its runs.
local function tell_fleet(worker)
  local fleet = try('HGET', WORKER .. worker, 'fleet')
  if type(fleet) == 'string' then call('PUBLISH', FLEET .. fleet, worker) end
end

-- Asks the process that holds a run to end it, or ends it if nobody holds it. Answers true if a process was asked.
local function cancel(run, message, actor, retention, patience)
  if not HELD_TYPES[run.type] and not (run.type == 'PAUSED' and run.place == 'held') then
    local outcome = { state = 'CANCELLED', name = 'Cancelled', message = message, retention = retention }
    local waits_in = is_held(run) and run.worker
    if waits_in then tell_fleet(waits_in) end
    -- A process that executes its runs itself calls their hooks as well.
    if waits_in and is_inline(waits_in) then
      settle(run, outcome, { actor = actor })
    else
      end_elsewhere(run, outcome, { actor = actor })
    end
    return false
  end
  local place = run.place
  run.place = nil
  record(run, 'CANCELLING', 'Cancelling', { message = message, actor = actor, worker = run.worker }, { 'ties', '1' })
  if place then call('HDEL', run.key, 'place') end
  try('ZADD', DEADLINES, format('%.3f', NOW + patience), run.id)
  if run.kids then continue_with('children', run.id, 0) end
  tell_fleet(run.worker)
  return true
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

local tasks_of = {}

-- True if the worker of this registration announces the task, or does not say what it knows.
local function knows(key, task)
  if tasks_of[key] == nil then
    local tasks = try('HGET', key, 'tasks')
    tasks_of[key] = type(tasks) == 'string' and ' ' .. tasks .. ' '
  end
  return not tasks_of[key] or find(tasks_of[key], ' ' .. task .. ' ', 1, true) ~= nil
end

-- What a worker holds, in the order in which it was begun.
local function hand_of(worker)
  local hand, flat = {}, try('HGETALL', HELD .. worker .. ':runs') -- an error has no items
  for i = 1, #flat, 2 do
    local token, cycle, place = string.match(flat[i + 1], '^(%d+) (%d+) (%d+)$')
    hand[#hand + 1] = { id = flat[i], token = token or '', cycle = tonumber(cycle or 0), place = tonumber(place or 0) }
  end
  table.sort(hand, function(a, b)
    if a.cycle ~= b.cycle then return a.cycle < b.cycle end
    return a.place < b.place
  end)
  return hand
end
