-- promote: runs that are due go to their queues; idle workers are woken where ids lie unnoticed.
-- KEYS: rq:queues, baton:counts, rq:suspended, baton:wake:due.
-- ARGV: how many runs at most per queue.
-- Answer: {moved, seconds until the next run or the next deadline is due, or '', continuations, deadlines that are over,
--       names of the queues for which hooks are due}. 0 seconds: more are due already.
-- Wakes also for ids that other programs pushed, since every queue with ids and without a token gets one.
-- Calls: DEL EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH SCARD
--        SMEMBERS SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM ZSCORE

local most, moved, next_due = tonumber(ARGV[1]), 0, nil
local queues = call('SMEMBERS', KEYS[1])

for i, member in ipairs(queues) do queues[i] = sub(member, 1, #QUEUE) == QUEUE and sub(member, #QUEUE + 1) or member end

local function promote(queue, id)
  local run, why = load(id)
  if run and run.queue == queue and run.place == 'passed' then
    leave(run)
    call('HSET', run.key, 'status', STATUS.PENDING)
    enqueue(run)
    moved = moved + 1
    return
  elseif run and run.queue == queue and run.type == 'SCHEDULED' and not run.place then
    local due = iso_of(tonumber(call('ZSCORE', SCHEDULED .. queue, id)))
    leave(run)
    local waits = unfinished(run)
    if waits > 0 then
      defer(run, waits, {})
    else
      record(run, 'PENDING', 'Pending', { due = due }, { 'enqueued_at', NOW_ISO })
      enqueue(run)
    end
    moved = moved + 1
    return
  end
  call('ZREM', SCHEDULED .. queue, id)
  if why == 'BROKEN' then quarantine('unreadable', 'run', id, 'queue', queue) end
end

local limits = misfit(LEASES, 'zset') and {} or try('SMEMBERS', LIMITS) -- without leases all holders would seem dead
for i = 1, #limits do
  local name = limits[i]
  if call('EXISTS', LIMIT .. name .. ':waiters') == 1 and mend(name) < AT_ONCE and call('EXISTS', LIMIT .. name) == 0 then
    call('SREM', LIMITS, name)
  end
end

for _, queue in ipairs(queues) do
  local set = SCHEDULED .. queue
  if not misfit_in(queue) then
    -- To the microsecond, as the due times are: rounded, a run would be queued before its time.
    for _, id in ipairs(call('ZRANGEBYSCORE', set, '-inf', format('%.6f', NOW), 'LIMIT', 0, most)) do promote(queue, id) end
    local first = call('ZRANGE', set, 0, 0, 'WITHSCORES')
    if first[1] and (not next_due or tonumber(first[2]) < next_due) then next_due = tonumber(first[2]) end
  end
end
flush()

if call('EXISTS', KEYS[3]) == 0 then
  woken, heads, tails, counted = {}, {}, {}, {}
  for _, queue in ipairs(queues) do
    local list = WAKE .. queue
    if not misfit_in(queue) and call('EXISTS', list) == 0 and call('EXISTS', QUEUE .. queue) == 1
        and try('HGET', QUEUE_SETTINGS .. queue, 'paused') == false then
      wake(list, 1)
    end
  end
  flush()
end
-- What others do with calls of their own: see expire, continue and hooks.
local over, hooked = 0, {}
for _, queue in ipairs(queues) do
  if call('EXISTS', HOOKS .. queue) == 1 then hooked[#hooked + 1] = queue end
end
for _, key in ipairs({ DEADLINES, PAUSED }) do
  local first = try('ZRANGE', key, 0, 0, 'WITHSCORES')
  local at = tonumber(first[2] or nil)
  if at and at <= NOW then over = 1 elseif at and (not next_due or at < next_due) then next_due = at end
end
local continuations = try('LLEN', CONTINUE)
local next_text = next_due and next_due < math.huge and format('%.3f', math.max(0, next_due - NOW)) or ''
return { moved, next_text, type(continuations) == 'number' and continuations or 0, over, hooked }
