-- Where runs lie, and what ties one run to others: put after the prelude in front of the scripts that move runs.

local function given(value)
  return value ~= '' and value or nil
end

-- True while a process may report of the run: it runs, was handed out before its start, or is paused or waits there.
local function is_held(run)
  return HELD_TYPES[run.type] or run.place == 'held'
end

-- Runs that one call moves at most; what is left over is a continuation.
local AT_ONCE = 500

-- ------------------------------------------------------------------------------------------------------------- limits

-- How many slots a limit has; none if nobody can tell.
local function slots_in(field)
  return type(field) == 'string' and number_in(field) or 0
end

-- What a member that is no run's says: the process, the name of its hold, and how many slots that wants, or which of
-- them this is.
local function process_of(member)
  return string.match(member, '^([^/]*)/([^/]*)/(%d+)$')
end

local function has_lease(process)
  return type(try('ZSCORE', LEASES, process)) == 'string'
end

-- Wakes the thread that waits under this hold; it asks once more.
local function wake_hold(hold)
  try('RPUSH', SLOT .. hold, '1')
  try('EXPIRE', SLOT .. hold, 60)
end

local function occupy(holders, process, hold, slots)
  for i = 1, slots do call('ZADD', holders, format('%.3f', NOW), process .. '/' .. hold .. '/' .. i) end
end

-- Gives a process its slots and takes it out of the row. Answers how many it got; nil if it has to go on waiting, and so
-- have those behind it, or else many who want one would pass for ever who wants several.
local function grant_process(name, waiter, slots, free)
  local process, hold, wanted = process_of(waiter)
  wanted = tonumber(wanted)
  if slots and wanted > free then
    if wanted > slots_in(slots) then wake_hold(hold) end -- it will never get them: let it find out
    return nil
  end
  call('ZREM', LIMIT .. name .. ':waiters', waiter)
  if not has_lease(process) then return 0 end
  if slots then occupy(LIMIT .. name .. ':holders', process, hold, wanted) end
  wake_hold(hold)
  return wanted
end

-- Gives the free slots of a limit to those that wait for one, first come, first served: a run is queued, and its slot is
-- kept for it until it begins; a process is woken. A limit that is gone lets everybody go.
local function grant(name)
  local holders, waiters = LIMIT .. name .. ':holders', LIMIT .. name .. ':waiters'
  local slots, taken = try('HGET', LIMIT .. name, 'slots'), try('ZCARD', holders)
  if slots and type(taken) ~= 'number' then return 0 end -- what cannot be written down is given to nobody
  local free = slots and slots_in(slots) - taken or AT_ONCE
  local waiting = free > 0 and try('ZRANGE', waiters, 0, math.min(free, AT_ONCE) - 1) or {}
  for _, id in ipairs(waiting) do
    if free <= 0 then break end
    local run = load(id)
    if not run and process_of(id) then
      local got = grant_process(name, id, slots, free)
      if not got then break end
      free = free - (slots and got or 0)
    else
      call('ZREM', waiters, id)
      if run and run.type == 'SCHEDULED' and run.place == 'limit:' .. name then
        if slots then
          call('ZADD', holders, format('%.3f', NOW), id .. ':reserved')
          free = free - 1
        end
        call('HDEL', run.key, 'place')
        run.place = nil
        record(run, 'PENDING', 'Pending', {}, { 'enqueued_at', NOW_ISO })
        enqueue(run, true)
      end
    end
  end
  return #waiting
end

-- Gives back the slots of a run, also those that are only kept for it.
local function release(run)
  for name in string.gmatch(run.limits, '%S+') do
    local given_up = try('ZREM', LIMIT .. name .. ':holders', run.id .. ':' .. digits(run.token), run.id .. ':reserved')
    if type(given_up) == 'number' and given_up > 0 then grant(name) end
  end
end

-- The first limit of a run that has no slot for it, and how many it has; nil if all have. Newcomers pass nobody.
local function full_limit(run)
  for name in string.gmatch(run.limits, '%S+') do
    local slots, holders = try('HGET', LIMIT .. name, 'slots'), LIMIT .. name .. ':holders'
    if type(slots) == 'string' and not try('ZSCORE', holders, run.id .. ':reserved')
        and not try('ZSCORE', holders, run.id .. ':' .. digits(run.token)) then
      local taken, waiting = try('ZCARD', holders), try('ZCARD', LIMIT .. name .. ':waiters')
      local can_wait = type(taken) == 'number' and type(waiting) == 'number'
      if can_wait and (slots_in(slots) <= taken or waiting > 0) then return name, slots end
    end
  end
end

-- Writes the slots of a run under its new token, or for the first time.
local function take_slots(run, old_token)
  for name in string.gmatch(run.limits, '%S+') do
    local holders = LIMIT .. name .. ':holders'
    try('ZREM', holders, run.id .. ':reserved', run.id .. ':' .. digits(old_token))
    if try('EXISTS', LIMIT .. name) == 1 then
      try('ZADD', holders, format('%.3f', NOW), run.id .. ':' .. digits(run.token))
    end
  end
end

-- ------------------------------------------------------------------------------------------------------------- places

-- Takes the run out of the place where it lies. A waiting id stays in its queue's list, as a tombstone.
local function leave(run, keeps_slots)
  local state, place = run.type, run.place
  local limit = place and string.match(place, '^limit:(.*)')
  if is_held(run) then
    call('ZREM', WIP .. run.queue, run.id .. ':' .. digits(run.token))
    call('ZREM', RUNNING, run.id)
    if run.worker then try('HDEL', HELD .. run.worker .. ':runs', run.id) end
    -- The end of a pause in its process, or of its process's time to end it: neither is one of what comes now.
    if state == 'PAUSED' or state == 'CANCELLING' then try('ZREM', DEADLINES, run.id) end
  elseif place == 'deferred' then
    call('ZREM', DEFERRED .. run.queue, run.id)
  elseif limit then
    try('ZREM', LIMIT .. limit .. ':waiters', run.id)
  elseif state == 'SCHEDULED' or place == 'passed' then
    call('ZREM', SCHEDULED .. run.queue, run.id)
  elseif state == 'PAUSED' then
    try('ZREM', PAUSED, run.id)
  elseif REGISTRY[state] then
    call('ZREM', REGISTRY[state] .. run.queue, run.id)
  end
  if place then
    call('HDEL', run.key, 'place')
    run.place = nil
  end
  if run.limits and not keeps_slots then release(run) end
end

-- Notes, for the coming record(), that the run will lie elsewhere than its state says.
local function will_lie(run, place, set)
  run.place, run.ties = place, '1'
  set[#set + 1], set[#set + 2] = 'place', place
  set[#set + 1], set[#set + 2] = 'ties', '1'
end

local function schedule(run, due)
  local first = call('ZRANGE', SCHEDULED .. run.queue, 0, 0, 'WITHSCORES')
  call('ZADD', SCHEDULED .. run.queue, format('%.6f', due), run.id)
  if not first[1] or due < tonumber(first[2]) then wake(WAKE_DUE, 1) end
end

-- Lets a run wait for others; the last of them queues it.
local function defer(run, waits, set)
  will_lie(run, 'deferred', set)
  record(run, 'PENDING', 'Pending', { message = 'Waiting for ' .. waits .. ' upstream runs.' }, set)
  call('ZADD', DEFERRED .. run.queue, format('%.3f', NOW), run.id)
end

-- Lets a run wait for a slot, without one: by the time since which it waits for its first.
local function wait_for_slot(run, name, slots)
  local since = call('HGET', run.key, 'slot_since')
  if not (since and number_in(since)) then since = format('%.6f', NOW) end
  local tag = string.gsub(name, '^tag:', '')
  local set, message = { 'slot_since', since }, 'Concurrency limit reached for tags: ' .. tag
  local was_handed = is_held(run)
  leave(run)
  if was_handed then
    run.token = new_token(run) -- whoever held it may not propose any more
    set[#set + 1], set[#set + 2] = 'token', digits(run.token)
  end
  if slots_in(slots) == 0 then
    message = 'The concurrency limit on tag "' .. tag .. '" is 0: no run starts until it is raised.'
  end
  will_lie(run, 'limit:' .. name, set)
  record(run, 'SCHEDULED', 'AwaitingConcurrencySlot', { message = message, due = NOW_ISO }, set)
  try('ZADD', LIMIT .. name .. ':waiters', since, run.id)
end

-- ----------------------------------------------------------------------------------------------------------- lifetimes

-- Gives everything that belongs to a run this end; of a run without ties only what every run has.
local function expire_at(run, expiry)
  call('EXPIREAT', run.key, expiry)
  if run.ties then
    for _, part in ipairs(PARTS) do call('EXPIREAT', RUN .. run.id .. ':' .. part, expiry) end
    return
  end
  call('EXPIREAT', RUN .. run.id .. ':history', expiry)
  call('EXPIREAT', RUN .. run.id .. ':parameters', expiry)
end

local function persist(id)
  call('PERSIST', JOB .. id)
  for _, part in ipairs(PARTS) do call('PERSIST', RUN .. id .. ':' .. part) end
end

-- Gives a run a row in the registry of its end, and a lifetime unless others still need what it returned. Answers the
-- end of its lifetime.
local function retire(run, state, seconds)
  local expiry = SEC + math.max(1, seconds) -- a time that has come would delete the run before its last row is written
  call('ZADD', REGISTRY[state] .. run.queue, expiry, run.id)
  if run.consumers then return nil end
  expire_at(run, expiry)
  return expiry
end

-- --------------------------------------------------------------------------------------------------------- dependencies

-- Ties a run that is submitted to one that it needs. Answers true if it has to wait for it.
local function need(id, upstream)
  local key = JOB .. upstream
  local state = try('HGET', key, 'state_type')
  if type(state) ~= 'string' then return false end -- gone, or none of ours: its trigger will find that
  local is_final = REGISTRY[state] ~= nil
  if try('HINCRBY', key, 'consumers', 1) == 1 then
    call('HSET', key, 'ties', '1')
    if is_final then persist(upstream) end
  end
  if is_final then return false end
  call('SADD', RUN .. upstream .. ':feeds', id)
  call('SADD', RUN .. id .. ':waits', upstream)
  return true
end

-- A run that needed this one's result has ended: with the last of them it gets its lifetime.
local function let_go(id)
  local key = JOB .. id
  if call('EXISTS', key) == 0 then return end
  local left = try('HINCRBY', key, 'consumers', -1)
  if type(left) ~= 'number' or left > 0 then return end
  call('HDEL', key, 'consumers')
  local run = load(id)
  if run and REGISTRY[run.type] then
    local registry = REGISTRY[run.type] .. run.queue
    local expiry = math.max(tonumber(call('ZSCORE', registry, id) or 0), SEC + 60) -- RQ's cleanup may have taken the row
    call('ZADD', registry, expiry, id)
    expire_at(run, expiry)
  end
end

-- One of the runs that this one waits for has ended: after the last of them it is queued.
local function deliver(id, upstream)
  local waits = RUN .. id .. ':waits'
  try('SREM', waits, upstream)
  if call('EXISTS', waits) == 1 then return end
  local run = load(id)
  if run and run.type == 'PENDING' and run.place == 'deferred' then
    leave(run)
    call('HSET', run.key, 'status', STATUS.PENDING, 'enqueued_at', NOW_ISO)
    enqueue(run)
  end
end

-- How many upstreams of a run have not ended.
local function unfinished(run)
  local waits = run.upstreams and try('SCARD', RUN .. run.id .. ':waits')
  return type(waits) == 'number' and waits or 0
end

-- Lets a run, just recorded as PENDING, wait for its upstreams, or else in its queue.
local function wait_in_turn(run)
  local waits = unfinished(run)
  if waits > 0 then defer(run, waits, {}) else enqueue(run) end
end

-- What cannot be noted is found by reconcile.
local function continue_with(...)
  try('RPUSH', CONTINUE, table.concat({ ... }, ' '))
  wake(WAKE_DUE, 1)
end

-- Tells those that wait for a run that it has ended, up to 500; the rest is a continuation.
local function feed(id)
  local feeds = RUN .. id .. ':feeds'
  local waiting = try('SPOP', feeds, AT_ONCE)
  for i = 1, #waiting do deliver(waiting[i], id) end
  if #waiting == AT_ONCE and call('EXISTS', feeds) == 1 then continue_with('feed', id) end
end

-- True unless the run's idempotency key has expired, and perhaps been given to another run since.
local function has_key(run)
  local owner = try('GET', IDEMPOTENCY .. run.idem)
  return type(owner) == 'string' and string.match(owner, '^%S+') == run.id
end

-- Gives up the idempotency key of a run whose key is unique only until now.
local function give_up_key(run)
  if has_key(run) then call('DEL', IDEMPOTENCY .. run.idem) end
  call('HDEL', run.key, 'idem', 'unique')
  run.idem, run.unique = nil, nil
end

-- Unties a run that has ended from everything but those that still need its result.
local function untie(run)
  if run.consumers then feed(run.id) end
  if run.upstreams then
    local upstreams = try('SMEMBERS', RUN .. run.id .. ':upstream')
    for i = 1, #upstreams do let_go(upstreams[i]) end
    -- What it still waits for need not tell it: should it be retried, it asks anew.
    local waits = try('SMEMBERS', RUN .. run.id .. ':waits')
    for i = 1, #waits do try('SREM', RUN .. waits[i] .. ':feeds', run.id) end
    call('DEL', RUN .. run.id .. ':waits')
  end
  if run.idem and run.unique then
    give_up_key(run)
  elseif run.idem and has_key(run) then
    call('EXPIRE', IDEMPOTENCY .. run.idem, 86400)
  end
  try('ZREM', DEADLINES, run.id)
  if run.awaited then call('HDEL', run.key, 'awaited') end
  if run.kids and (run.type == 'CANCELLED' or run.kind == 'flow' and run.type ~= 'COMPLETED') then
    continue_with('children', run.id, 0)
  end
end
