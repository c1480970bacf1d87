-- purge: cancels the runs that wait in a queue for a worker, also those that were passed on since nobody knew their task.
-- KEYS: rq:queue:<q>, rq:scheduled:<q>.
-- ARGV: queue, how many ids at most, actor, message, retention in seconds of a cancelled run.
-- Answer: {cancelled, looked at}. Fewer looked at than asked for: nothing is left. What is due later, waits for others or
--       runs is left alone.
-- Repeatable: what was cancelled is not there any more.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LRANGE LTRIM
--        PUBLISH RPUSH SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM ZSCORE

local queue, most, actor, message, retention = ARGV[1], tonumber(ARGV[2]), given(ARGV[3]), given(ARGV[4]), tonumber(ARGV[5])
local cancelled = 0

local wrong = misfit_in(queue) or misfit(RUNNING, 'zset') or misfit(CONTINUE, 'list')
if wrong then return redis.error_reply(wrong) end

local function cancel_waiting(run)
  cancel(run, message, actor, retention)
  cancelled = cancelled + 1
end

open_writes()
local looked = clear_list(queue, most, cancel_waiting)
if looked < most then
  -- They are looked at every second, so their due times lie within the next.
  local passed = call('ZRANGEBYSCORE', KEYS[2], '-inf', format('%.6f', NOW + 1), 'LIMIT', 0, most - looked)
  looked = looked + #passed
  for _, id in ipairs(passed) do
    local run = load(id)
    if run and run.queue == queue and run.place == 'passed' then cancel_waiting(run) end
  end
end
flush()
return { cancelled, looked }
