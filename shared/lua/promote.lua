-- promote: runs that are due go to their queues; idle workers are woken where ids lie unnoticed.
-- KEYS: rq:queues, baton:counts, rq:suspended, baton:wake:due.
-- ARGV: how many runs at most per queue.
-- Answer: {moved, seconds until the next run is due, or ''}. 0 seconds: more are due already.
-- Wakes also for ids that other programs pushed, since every queue with ids and without a token gets one.
-- Calls: TIME SMEMBERS ZRANGEBYSCORE ZRANGE ZSCORE ZREM HMGET HGET EXISTS LLEN HDEL HSET RPUSH LINDEX LTRIM PUBLISH
--        HINCRBY EXPIRE XADD HINCRBYFLOAT LPUSH TYPE

local most, moved, next_due = tonumber(ARGV[1]), 0, nil
local queues = call('SMEMBERS', KEYS[1])

for i, member in ipairs(queues) do queues[i] = sub(member, 1, #QUEUE) == QUEUE and sub(member, #QUEUE + 1) or member end

local function promote(queue, id)
  local run, why = load(id)
  if run and run.queue == queue and run.type == 'SCHEDULED' then
    local due = iso_of(tonumber(call('ZSCORE', SCHEDULED .. queue, id)))
    leave(run)
    record(run, 'PENDING', 'Pending', { due = due }, { 'enqueued_at', NOW_ISO })
    enqueue(run)
    moved = moved + 1
    return
  end
  call('ZREM', SCHEDULED .. queue, id)
  if why == 'BROKEN' then quarantine('unreadable', 'run', id, 'queue', queue) end
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
return { moved, next_due and format('%.3f', math.max(0, next_due - NOW)) or '' }
