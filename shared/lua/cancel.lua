-- cancel: ends runs that wait, and asks the processes of those that run to end them.
-- KEYS: baton:running, baton:deadlines, baton:continue.
-- ARGV: actor, message, retention in seconds of a cancelled run, seconds that a process has for it, how many, ids.
-- Answer per run: {tag, state type, state name}. tag: OK (it is CANCELLED or CANCELLING, now or since earlier: also the
--       answer to a repeat), TERMINAL (it has ended otherwise), GONE, BROKEN.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PUBLISH
--        RPUSH SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local actor, message, retention, patience, answers = given(ARGV[1]), given(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), {}

local wrong = misfit(RUNNING, 'zset') or misfit(DEADLINES, 'zset') or misfit(CONTINUE, 'list')
if wrong then return redis.error_reply(wrong) end

open_writes()
for i = 1, tonumber(ARGV[5]) do
  local run, why = load(ARGV[5 + i])
  if not run then
    answers[i] = { why, '', '' }
  else
    local tag = REGISTRY[run.type] and run.type ~= 'CANCELLED' and 'TERMINAL' or 'OK'
    if run.type ~= 'CANCELLING' and not REGISTRY[run.type] then cancel(run, message, actor, retention, patience) end
    answers[i] = { tag, run.type, call('HGET', run.key, 'state_name') or '' }
  end
end
flush()
return answers
