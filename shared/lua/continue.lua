-- continue: goes on with what was too long for one call.
-- KEYS: baton:continue, baton:running, baton:deadlines.
-- ARGV: how many continuations at most, retention in seconds of a cancelled run, seconds that a process has to end one.
-- Answer: how many are left.
-- A continuation is `feed <id>` (tell those that wait for this run) or `children <id> <cursor>` (cancel what it
-- submitted); what of it is left after 500 runs is put back in the same step.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PUBLISH
--        RPUSH SET SISMEMBER SMEMBERS SPOP SREM SSCAN TIME TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local most, retention, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local wrong = misfit(CONTINUE, 'list') or misfit(RUNNING, 'zset') or misfit(DEADLINES, 'zset')
if wrong then return redis.error_reply(wrong) end

local DISMISSED = 'The flow that submitted it ended.'

-- Of a run that was cancelled all children; of a flow that ended without a result those that do not outlive it.
local function cancel_children(id, cursor)
  local state = try('HGET', JOB .. id, 'state_type')
  local is_cancel = state == 'CANCELLING' or state == 'CANCELLED'
  if not is_cancel and not REGISTRY[state] then return end -- it is to run again, and goes on with them
  local answer = try('SSCAN', RUN .. id .. ':children', cursor, 'COUNT', AT_ONCE)
  for _, child in ipairs(answer[2] or {}) do
    local run = load(child)
    if run and run.type ~= 'CANCELLING' and not REGISTRY[run.type]
        and (is_cancel or not call('HGET', run.key, 'outlives_flow')) then
      cancel(run, is_cancel and ORPHANED or DISMISSED, nil, retention, patience)
    end
  end
  if answer[1] and answer[1] ~= '0' then continue_with('children', id, answer[1]) end
end

open_writes()
for _ = 1, most do
  local text = call('LPOP', KEYS[1])
  if not text then break end
  local what, id, cursor = string.match(text, '^(%a+) (%S+) ?(%d*)$')
  if what == 'feed' then
    feed(id)
  elseif what == 'children' then
    cancel_children(id, cursor)
  else
    quarantine('unreadable', 'continuation', sub(text, 1, 200))
  end
end
flush()
return call('LLEN', KEYS[1])
