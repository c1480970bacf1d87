-- reconcile: adopts or cleans what was done to runs behind the ledger's back: by RQ's tools, or by hand.
-- KEYS: rq:queues, baton:running, baton:leases.
-- ARGV: retention in seconds of a cancelled run, of a failed one, seconds that a process has to end a run, how many, ids.
-- Answer per run: what was done, in words, '' for nothing.
-- Looks for ids in queues, which takes as long as they are: for runs that a scan found odd, not for all.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HGETALL HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPOS LPUSH
--        LRANGE LTRIM PERSIST PUBLISH RPUSH SADD SCARD SET SISMEMBER SMEMBERS SPOP SREM TIME TTL TYPE XADD ZADD ZCARD
--        ZRANGE ZREM ZSCORE

local retention, failed_retention, patience, answers = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), {}

local wrong = misfit(KEYS[1], 'set') or misfit(RUNNING, 'zset') or misfit(LEASES, 'zset') or misfit(DEADLINES, 'zset')
if wrong then return redis.error_reply(wrong) end

local ACTOR = 'reconcile'
local LAST = 253402300799 -- the end of the years that can be written: a later time is none
local CALLBACKS = { 'success_callback_name', 'failure_callback_name', 'stopped_callback_name' }
local ROWS = { SCHEDULED, DEFERRED, FINISHED, FAILED, CANCELED }

-- Of many ids one walk through a list costs less than looking for each. Of few, Redis walks faster than Lua.
local FEW = 8
local asked, seen_in = {}, {}

local function seen_ids(queue)
  local seen = seen_in[queue]
  if not seen then
    seen = {}
    for first = 0, call('LLEN', QUEUE .. queue) - 1, 1000 do
      for _, id in ipairs(call('LRANGE', QUEUE .. queue, first, first + 999)) do
        if asked[id] then seen[id] = true end
      end
    end
    seen_in[queue] = seen
  end
  return seen
end

local function is_queued(run)
  for _, lists in ipairs({ heads, tails }) do -- by this call
    for _, id in ipairs(lists[run.queue] or {}) do
      if id == run.id then return true end
    end
  end
  if tonumber(ARGV[4]) > FEW then return seen_ids(run.queue)[run.id] end
  local list = QUEUE .. run.queue
  return call('EXISTS', list) == 1 and call('LPOS', list, run.id) ~= false
end

-- Takes a run out of the rows of every place of its queue but this one; true if it was in one.
local function unlist(run, kept)
  local found = 0
  for _, prefix in ipairs(ROWS) do
    if prefix ~= kept then found = found + call('ZREM', prefix .. run.queue, run.id) end
  end
  return found > 0
end

-- What has ended: listed in the registry of its end, with a lifetime.
local function mend_ended(run, status)
  if status == STATUS.PENDING then
    local is_there = is_queued(run)
    revive(run, 'rq', 'Requeued by RQ.')
    unlist(run)
    if unfinished(run) > 0 then
      defer(run, unfinished(run), {})
    elseif not is_there then
      enqueue(run)
    end
    return 'retried, as RQ asked'
  end
  local registry, strays = REGISTRY[run.type], unlist(run, REGISTRY[run.type])
  local row = call('ZSCORE', registry .. run.queue, run.id)
  local has_end = run.consumers or call('TTL', run.key) >= 0
  if status ~= STATUS[run.type] then call('HSET', run.key, 'status', STATUS[run.type]) end
  local is_kept = run.consumers and call('TTL', run.key) >= 0
  if is_kept then persist(run.id) end
  if row and has_end and tonumber(row) > SEC and tonumber(row) < LAST then
    if is_kept then return 'kept for those that need it' end
    return (strays or status ~= STATUS[run.type]) and 'freed of what RQ wrote' or ''
  end
  retire(run, run.type, run.type == 'CANCELLED' and retention or failed_retention)
  return 'listed where it belongs'
end

-- What a process holds: found by its worker's name, with a lease over it.
local function mend_held(run, status)
  if status == STATUS.CANCELLED and run.type ~= 'CANCELLING' then
    call('PERSIST', run.key)
    unlist(run)
    local is_asked = cancel(run, 'Cancelled with RQ.', 'rq', retention, patience)
    return is_asked and 'asked its process to cancel it, as RQ asked' or 'cancelled, as RQ asked'
  end
  local freed = unlist(run) or status ~= STATUS.RUNNING or call('TTL', run.key) >= 0
  if freed then
    persist(run.id)
    call('HSET', run.key, 'status', STATUS.RUNNING)
  end
  local held = run.worker and try('HGET', HELD .. run.worker .. ':runs', run.id)
  local token = type(held) == 'string' and string.match(held, '^%d+')
  if token == digits(run.token) and tonumber(call('ZSCORE', WIP .. run.queue, run.id .. ':' .. token) or 0) == math.huge
      and call('ZSCORE', RUNNING, run.id) then
    if not call('ZSCORE', LEASES, run.worker) then
      call('ZADD', LEASES, format('%.3f', NOW), run.worker)
      return 'left to the reaper'
    end
    return freed and 'freed of what RQ wrote' or ''
  end
  if token == digits(run.token) and call('ZSCORE', LEASES, run.worker) then
    hold(run, run.worker, string.match(held, '%d+ %d+$') or '0 1')
    return 'listed as running'
  end
  if is_inline(run.worker) and type(held) ~= 'table' then -- it goes on in its process, or ends with that
    hold(run, run.worker, '0 1')
    if call('ZSCORE', LEASES, run.worker) then return 'listed as running' end
    call('ZADD', LEASES, format('%.3f', NOW), run.worker)
    return 'left to the reaper'
  end
  if run.type == 'CANCELLING' then
    end_elsewhere(run, cancelled(retention), { actor = ACTOR })
  elseif run.type == 'PENDING' then
    take_back(run)
  else
    put_back(run, 'Attempt ' .. run.attempt .. ' was lost: no worker holds it.', true, run.worker)
  end
  return 'taken from a worker that does not hold it'
end

-- What waits, but not where it would be found.
local function put_where_found(run)
  local place, score = run.place, format('%.6f', NOW)
  local limit = place and string.match(place, '^limit:(.*)')
  if place == 'deferred' then
    if call('EXISTS', RUN .. run.id .. ':waits') == 1 then
      return call('ZADD', DEFERRED .. run.queue, 'NX', score, run.id) == 1
    end
    call('ZADD', DEFERRED .. run.queue, score, run.id)
    deliver(run.id, '')
    return true
  elseif limit then
    local is_listed = try('SADD', LIMITS, limit)
    return try('ZADD', LIMIT .. limit .. ':waiters', 'NX', score, run.id) == 1 or is_listed == 1
  elseif run.type == 'SCHEDULED' or place == 'passed' then
    return call('ZADD', SCHEDULED .. run.queue, 'NX', score, run.id) == 1
  elseif run.type == 'PAUSED' then
    return try('ZADD', PAUSED, 'NX', '+inf', run.id) == 1
  elseif is_queued(run) then
    return false
  end
  record(run, 'PENDING', 'Pending', { message = 'Put back: it was in no queue.', actor = ACTOR }, {})
  enqueue(run, true)
  return true
end

local function mend_waiting(run, status)
  if status == STATUS.CANCELLED then
    unlist(run)
    persist(run.id)
    cancel(run, 'Cancelled with RQ.', 'rq', retention, patience)
    return 'cancelled, as RQ asked'
  end
  local own = (run.type == 'SCHEDULED' or run.place == 'passed') and SCHEDULED or run.place == 'deferred' and DEFERRED or nil
  local freed = unlist(run, own) or call('TTL', run.key) >= 0
  call('DEL', RESULTS .. run.id)
  persist(run.id)
  local right = run.place and word_at(run.place) or STATUS[run.type]
  if status ~= right then call('HSET', run.key, 'status', right) end
  if put_where_found(run) then return 'put back where it waits' end
  return (freed or status ~= right) and 'freed of what RQ wrote' or ''
end

local function unfinished_state(id)
  local state = try('HGET', JOB .. id, 'state_type')
  return type(state) == 'string' and not REGISTRY[state]
end

-- Who waits for a run is told of its end: by that run, or now where that has ended or is gone. What a run waits for, which
-- did not begin yet, is read from all that it needs. True if anything was different.
local function mend_waits(run)
  local key, mended = RUN .. run.id .. ':waits', false
  local is_new = run.place == 'deferred' or run.type == 'SCHEDULED' and not run.place and run.attempt == 0
  local needs = is_new and try('SMEMBERS', RUN .. run.id .. ':upstream') or {}
  for i = 1, #needs do
    if unfinished_state(needs[i]) then mended = try('SADD', key, needs[i]) == 1 or mended end
  end
  local waits = try('SMEMBERS', key)
  for i = 1, #waits do
    local is_told = not unfinished_state(waits[i])
    if is_told then
      try('SREM', RUN .. waits[i] .. ':feeds', run.id)
      deliver(run.id, waits[i])
    end
    mended = is_told or try('SADD', RUN .. waits[i] .. ':feeds', run.id) == 1 or mended
  end
  return mended
end

-- A run that did not begin yet keeps its deadline. True if it was gone.
local function mend_deadline(run)
  if run.attempt > 0 or call('ZSCORE', DEADLINES, run.id) then return false end
  local times = call('HMGET', run.key, 'expected_start', 'created_at', 'last_end')
  local since = times[3] ~= 'retried' and epoch(times[1] or times[2] or '')
  return since and call('ZADD', DEADLINES, since + tonumber(run.start_within), run.id) == 1
end

-- A run tells those that wait for it of its end, and nobody else. True if there were others.
local function mend_feeds(run)
  local feeds, mended = try('SMEMBERS', RUN .. run.id .. ':feeds'), false
  if REGISTRY[run.type] and #feeds > 0 then feed(run.id) end
  for i = 1, #feeds do
    if try('SISMEMBER', RUN .. feeds[i] .. ':waits', run.id) == 0 then
      mended = call('SREM', RUN .. run.id .. ':feeds', feeds[i]) == 1 or mended
    end
  end
  return mended
end

-- The last row of a history is what its record says: it is written again where it is gone.
local function mend_history(run)
  local history = RUN .. run.id .. ':history'
  local last = call('LINDEX', history, -1)
  local seq = tonumber(not last and 0 or string.match(last, '"seq":(%d+)') or run.seq)
  if seq >= run.seq then return false end
  local row = '{"seq":' .. run.seq .. ',"type":"' .. run.type .. '","name":'
    .. quote(call('HGET', run.key, 'state_name') or run.type) .. ',"time":"' .. run.time .. '"'
  if run.attempt > 0 then row = row .. ',"attempt":' .. run.attempt end
  if run.message then row = row .. ',"message":' .. quote(run.message) end
  run.rows = call('RPUSH', history, row .. '}')
  local left = call('TTL', run.key)
  if left >= 0 then call('EXPIRE', history, left) end
  return true
end

-- What RQ reads of every run: its queue, its times, and a call that refuses. True if something of it was different.
local function mend_words(run)
  local data = '(Vworker.entry.run\nN(V' .. run.id .. '\nt(dt.'
  local mended = call('SADD', KEYS[1], QUEUE .. run.queue) + call('HDEL', run.key, unpack(CALLBACKS))
  local fields = call('HGETALL', run.key)
  for i = 1, #fields, 2 do -- a job that RQ saves again has empty texts for its times
    if fields[i + 1] == '' then mended = mended + call('HDEL', run.key, fields[i]) end
    if fields[i + 1] == '' and fields[i] == 'started_at' then
      call('HSET', run.key, 'started_at', run.type == 'RUNNING' and run.time or run.start_time or NOW_ISO)
    end
  end
  if call('HGET', run.key, 'data') == data then return mended > 0 end
  call('HSET', run.key, 'data', data)
  return true
end

-- What is left of a run that somebody deleted.
local function mend_gone(id)
  local left, parts = 0, {}
  for _, part in ipairs(PARTS) do parts[#parts + 1] = RUN .. id .. ':' .. part end
  feed(id)
  if call('EXISTS', RUN .. id .. ':feeds') == 0 then left = call('DEL', unpack(parts)) end
  for _, member in ipairs(call('SMEMBERS', KEYS[1])) do
    local queue = sub(member, 1, #QUEUE) == QUEUE and sub(member, #QUEUE + 1) or member
    if not misfit_in(queue) then left = left + (unlist({ id = id, queue = queue }) and 1 or 0) end
  end
  for _, key in ipairs({ RUNNING, PAUSED, DEADLINES }) do
    local removed = try('ZREM', key, id)
    left = left + (type(removed) == 'number' and removed or 0)
  end
  return left > 0 and 'cleaned up after its deletion' or ''
end

local function mend_place(run)
  local status = call('HGET', run.key, 'status') or ''
  if REGISTRY[run.type] then return mend_ended(run, status) end
  if is_held(run) then return mend_held(run, status) end
  return mend_waiting(run, status)
end

local function mend(id)
  local run, why = load(id)
  if not run then return why == 'GONE' and mend_gone(id) or '' end
  local done = {}
  if mend_history(run) then done[1] = 'last row of its history written again' end
  if mend_words(run) then done[#done + 1] = 'written as RQ has to read it' end
  if mend_feeds(run) then done[#done + 1] = 'rid of those that do not wait for it' end
  if run.upstreams and not REGISTRY[run.type] and mend_waits(run) then
    done[#done + 1] = 'told what it waits for'
    run = load(id)
  end
  if run.start_within and not REGISTRY[run.type] and not is_held(run) and mend_deadline(run) then
    done[#done + 1] = 'given its deadline again'
  end
  local placed = mend_place(run)
  if placed ~= '' then done[#done + 1] = placed end
  return table.concat(done, '; ')
end

for i = 1, tonumber(ARGV[4]) do asked[ARGV[4 + i]] = true end
open_writes()
for i = 1, tonumber(ARGV[4]) do answers[i] = mend(ARGV[4 + i]) end
flush()
return answers
