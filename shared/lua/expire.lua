-- expire: ends what has waited too long: for its begin, for its resumption, or for its process to end it.
-- KEYS: baton:deadlines, baton:paused.
-- ARGV: how many at most, retention in seconds of a cancelled run, of a failed one.
-- Answer: how many rows were looked at; as many as asked for means that there may be more.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PUBLISH
--        RPUSH SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM ZSCORE

local most, retention, failed_retention, looked = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), 0

local wrong = misfit(DEADLINES, 'zset') or misfit(PAUSED, 'zset')
if wrong then return redis.error_reply(wrong) end

local NEVER_RESUMED = { Suspended = 'suspended', Paused = 'paused' }

local function give_up_pause(run)
  local name = call('HGET', run.key, 'state_name')
  local message = 'The ' .. (run.kind or 'task') .. ' was ' .. (NEVER_RESUMED[name] or 'paused') .. ' and never resumed.'
  local outcome = { state = 'FAILED', name = 'Failed', message = message, error = message, retention = failed_retention }
  end_elsewhere(run, outcome, {})
end

local function give_up(run, key)
  if run.type == 'CANCELLING' then
    local kind = run.kind == 'flow' and 'Flow' or 'Task'
    local message = kind .. ' run cancellation timed out; marked this ' .. string.lower(kind) .. ' run as Cancelled.'
    end_elsewhere(run, { state = 'CANCELLED', name = 'Cancelled', message = message, retention = retention }, {})
  elseif run.type == 'PAUSED' and (key == PAUSED or run.place == 'held') then
    give_up_pause(run)
  elseif run.start_within and run.attempt == 0 and not REGISTRY[run.type] then
    -- Handed out, it may begin the next moment, or come back.
    if is_held(run) then call('ZADD', DEADLINES, format('%.3f', NOW + 5), run.id) else expire(run, retention) end
  end
end

open_writes()
for _, key in ipairs({ DEADLINES, PAUSED }) do
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', format('%.3f', NOW), 'LIMIT', 0, most - looked)) do
    local run, why = load(id)
    looked = looked + 1
    call('ZREM', key, id)
    if run then give_up(run, key) elseif why == 'BROKEN' then quarantine('unreadable', 'run', id) end
  end
end
flush()
return looked
