-- How runs are accepted: put after the attempts in front of the scripts that submit.

local known = {}
local function introduce(queue, task)
  if not known[queue] then call('SADD', QUEUES, QUEUE .. queue) end
  if not known[task] then call('SADD', TASKS, task) end
  known[queue], known[task] = true, true
end

local room = {}

-- Reads how many may wait in a queue. Nil, or what is wrong: who may not read its cap may not pass it by. What is no
-- number caps nothing.
local function uncapped(queue)
  local cap = try('HGET', QUEUE_SETTINGS .. queue, 'cap')
  if type(cap) == 'table' and not find(cap.err, 'WRONGTYPE') then return cap.err end
  room[queue] = tonumber(cap or nil) or false
end

-- Nil if the queue takes one more, else how many wait in it and how many may.
local function excess(queue)
  if room[queue] == nil then uncapped(queue) end
  if not room[queue] then return nil end
  local depth = call('LLEN', QUEUE .. queue) + #(tails[queue] or {}) + #(heads[queue] or {})
  if depth >= room[queue] then return depth .. ' ' .. format('%d', room[queue]) end
end

-- What ties the run, by kind: lists of the values that were given.
local function ties_at(place, many)
  local ties = { up = {}, tag = {}, idem = {}, digest = {}, within = {}, unique = {}, slots = {}, again = {} }
  for i = place, place + 2 * many - 2, 2 do
    local kind = ties[ARGV[i]]
    kind[#kind + 1] = ARGV[i + 1]
  end
  return ties
end

-- What is wrong with a key to which the run whose arguments begin at this place will be tied, or nil; and where the next
-- one begins.
local function misfit_at(first)
  local wrong, fields = nil, tonumber(ARGV[first + 6])
  local many = tonumber(ARGV[first + 7 + 2 * fields])
  for i = first + 7, first + 6 + 2 * fields, 2 do
    if ARGV[i] == 'parent' then wrong = misfit(RUN .. ARGV[i + 1] .. ':children', 'set') end
  end
  for i = first + 8 + 2 * fields, first + 6 + 2 * fields + 2 * many, 2 do
    local kind, value = ARGV[i], ARGV[i + 1]
    if kind == 'up' then
      wrong = wrong or misfit(RUN .. value .. ':feeds', 'set')
    elseif kind == 'tag' then
      wrong = wrong or misfit(TAG .. value .. ':runs', 'zset') or misfit(TAGS, 'set')
    elseif kind == 'idem' then
      wrong = wrong or misfit(IDEMPOTENCY .. value, 'string')
    elseif kind == 'slots' then
      wrong = wrong or misfit(LIMITS, 'set') or misfit(LIMIT .. 'task:' .. ARGV[first + 2], 'hash')
    end
  end
  return wrong, first + 8 + 2 * fields + 2 * many
end

-- What is wrong with the first key that so many runs, whose arguments begin at this place, would be written to, or nil.
-- Their queues' keys stand behind `keys` others, up to the key number `last`.
local function misfit_of(first, many, keys, last)
  local wrong, own = misfit(QUEUES, 'set') or misfit(TASKS, 'set') or misfit(DEADLINES, 'zset'), nil
  for i = keys + 1, last or #KEYS, 6 do
    wrong = wrong or misfit(KEYS[i], 'list') or uncapped(sub(KEYS[i], #QUEUE + 1))
    for place = i + 1, i + 3 do wrong = wrong or misfit(KEYS[place], 'zset') end
  end
  for _ = 1, many do
    own, first = misfit_at(first)
    wrong = wrong or own
  end
  return wrong
end

-- The answer to a submit under a key that a run has already, if that run is still there. A flow that runs again takes
-- what it submitted before for the same, unless that has ended without a result.
local function same_as(ties)
  local key = ties.idem[1]
  local owner, digest = string.match(key and call('GET', IDEMPOTENCY .. key) or '', '^(%S+) (%S*)$')
  if not owner or call('EXISTS', JOB .. owner) == 0 then return nil end
  local state = ties.again[1] and try('HGET', JOB .. owner, 'state_type')
  if state and state ~= 'COMPLETED' and REGISTRY[state] then return nil end
  return digest == ties.digest[1] and 'SAME ' .. owner or 'OTHER ' .. owner .. ' ' .. digest
end

-- Makes the limit of a task's own, or changes it where the code says another number than before. What was set by hand
-- meanwhile stays. What that frees is for promote to give away: those that wait may be of queues that another user keeps.
local function declare(name, slots)
  local key = LIMIT .. name
  if call('HGET', key, 'declared') == slots then return end
  call('SADD', LIMITS, name)
  call('HSET', key, 'slots', slots, 'declared', slots)
  wake(WAKE_DUE, 1)
end

-- Stores what ties the run; answers how many runs it waits for. One that ends at once waits for none: telling them so
-- would touch their queues, which another user than this one may keep.
local function tie(run, ties, due, set, ends_at_once)
  local waits, ups = 0, ties.up
  for i = 1, #ups do
    local is_new = call('SADD', RUN .. run.id .. ':upstream', ups[i]) == 1 -- named twice, it is needed once
    if is_new and not ends_at_once and need(run.id, ups[i]) then waits = waits + 1 end
  end
  for _, tag in ipairs(ties.tag) do
    call('SADD', RUN .. run.id .. ':tags', tag)
    call('SADD', TAGS, tag)
    call('ZADD', TAG .. tag .. ':runs', format('%.6f', NOW), run.id)
  end
  if ties.idem[1] then
    call('SET', IDEMPOTENCY .. ties.idem[1], run.id .. ' ' .. ties.digest[1])
    set[#set + 1], set[#set + 2] = 'idem', ties.idem[1]
    run.idem = ties.idem[1]
    if ties.unique[1] then
      set[#set + 1], set[#set + 2] = 'unique', ties.unique[1]
      run.unique = ties.unique[1]
    end
  end
  if ties.slots[1] then declare('task:' .. run.task, ties.slots[1]) end
  if ties.within[1] then
    call('ZADD', DEADLINES, format('%.3f', (due or NOW) + tonumber(ties.within[1])), run.id)
    set[#set + 1], set[#set + 2] = 'start_within', ties.within[1]
    run.start_within = ties.within[1]
  end
  if #ups > 0 then set[#set + 1], set[#set + 2] = 'upstreams', #ups end
  set[#set + 1], set[#set + 2] = 'ties', '1'
  run.ties, run.upstreams = '1', not ends_at_once and #ups > 0 and #ups or nil
  return waits
end

-- The state of the run that submits, or nil if there is none of that id.
local function state_of(parent)
  local state = parent and try('HGET', JOB .. parent, 'state_type')
  return type(state) == 'string' and state or nil
end

-- Enters a run among the children of the one in this state that submitted it. What a run that was left on purpose submits
-- is left like it. Who submitted a flow by its key alone could not say that it is one.
local function adopt(run, parent, state, is_flow)
  local about = call('HMGET', JOB .. parent, 'outlives_flow', 'kind')
  if about[1] and not is_flow then call('HSET', run.key, 'outlives_flow', '1') end
  local children = RUN .. parent .. ':children'
  call('SADD', children, run.id)
  call('HSET', JOB .. parent, 'kids', '1', 'ties', '1')
  if is_flow and not about[2] then call('HSET', JOB .. parent, 'kind', 'flow') end
  local left = REGISTRY[state] and call('TTL', JOB .. parent) or -1
  if left >= 0 then call('EXPIRE', children, left) end
end

-- Puts a run that is new into the hands of a process, before its start.
local function entrust(run, holder, set)
  run.token, run.worker = new_token(run), holder
  will_lie(run, 'held', set)
  set[#set + 1], set[#set + 2] = 'token', digits(run.token)
  set[#set + 1], set[#set + 2] = 'worker_name', holder
  record(run, 'PENDING', 'Pending', { worker = holder }, set)
  hold(run, holder, '0 1')
end

-- `holder`: the process that executes it without a queue, or nil.
local function accept(id, queue, task, delay, at_front, parameters, set, ties, parent, flow, retention, holder)
  local run = {
    id = id, key = JOB .. id, queue = queue, task = task, seq = 0, attempt = 0, run_count = 0, crashes = 0, token = 0,
    ran = 0, rows = 0,
  }
  local due = delay and due_in(delay)
  local due_text = due and iso_of(due)
  local n = #set
  set[n + 1], set[n + 2] = 'origin', queue
  set[n + 3], set[n + 4] = 'description', short(task)
  set[n + 5], set[n + 6] = 'task', task
  set[n + 7], set[n + 8] = 'created_at', NOW_ISO
  set[n + 9], set[n + 10] = due and 'expected_start' or 'enqueued_at', due_text or NOW_ISO
  -- RQ calls what this names if a stock worker takes the run; ours never reads it. A pickle in its text form, so that
  -- clients that decode every reply can read the hash; of exactly 64 bytes.
  set[n + 11], set[n + 12] = 'data', '(Vworker.entry.run\nN(V' .. id .. '\nt(dt.'
  introduce(queue, task)
  call('SET', RUN .. id .. ':parameters', parameters)
  local parents_state = state_of(parent)
  local is_orphan = parents_state == 'CANCELLING' or parents_state == 'CANCELLED'
  local waits = ties and tie(run, ties, due, set, is_orphan) or 0
  if holder then
    entrust(run, holder, set)
  elseif due then
    record(run, 'SCHEDULED', 'Scheduled', { due = due_text }, set)
    schedule(run, due)
  elseif waits > 0 then
    defer(run, waits, set)
  else
    record(run, 'PENDING', 'Pending', {}, set)
    enqueue(run, at_front)
  end
  count(TODAY, 'submitted', 1)
  if parents_state then adopt(run, parent, parents_state, flow == parent) end
  if is_orphan then cancel(run, ORPHANED, nil, retention) end
  return 'OK'
end

-- Accepts the run whose arguments begin at this place; see submit.lua. Answers what came of it, and where the next begins.
local function accept_at(first, retention, holder)
  local id, queue, task, parameters = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 5]
  local fields = tonumber(ARGV[first + 6])
  local many = tonumber(ARGV[first + 7 + 2 * fields])
  local next_at = first + 8 + 2 * fields + 2 * many
  if call('EXISTS', JOB .. id, RUN .. id .. ':history') > 0 then
    local is_same = (try('HGET', JOB .. id, 'task') or task) == task and try('GET', RUN .. id .. ':parameters') == parameters
    return is_same and 'EXISTS' or 'CONFLICT', next_at
  end
  local ties = many > 0 and ties_at(first + 8 + 2 * fields, many) or nil
  local same = ties and same_as(ties)
  if same then return same, next_at end
  local full = not holder and excess(queue)
  if full then return 'FULL ' .. full, next_at end
  local set, parent, flow = {}, nil, nil
  for i = first + 7, first + 6 + 2 * fields, 2 do
    set[#set + 1], set[#set + 2] = ARGV[i], ARGV[i + 1]
    if ARGV[i] == 'parent' then parent = ARGV[i + 1] end
    if ARGV[i] == 'flow' then flow = ARGV[i + 1] end
  end
  local delay = given(ARGV[first + 3])
  if delay then delay = sub(delay, 1, 1) == '@' and tonumber(sub(delay, 2)) - NOW or tonumber(delay) end
  local at_front = ARGV[first + 4] == '1'
  local tag = accept(id, queue, task, delay, at_front, parameters, set, ties, parent, flow, retention, holder)
  return tag, next_at
end
