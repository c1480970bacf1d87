-- fire: submits the run of a schedule's occurrence and writes when the next one is due, if nobody did so before.
-- KEYS: baton:schedules, baton:schedule:<id>, then as submit.
-- ARGV: schedule, due time of the occurrence as its row has it, next due time ('' if there is none: its row stays, at
--       +inf), how many fields f
--       of the schedule to set, names and values, flat; then retention and one run, as submit.
-- Answer: what submit answers for the run, or STALE (the schedule is gone, paused, or due at another time now). After
--       FULL the occurrence stays due. After SAME the field `last_run` names the run that there is.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PERSIST
--        PUBLISH RPUSH SADD SET SISMEMBER SMEMBERS SPOP SREM TIME TTL TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local schedule_id, due, next_due, fields = ARGV[1], ARGV[2], given(ARGV[3]), tonumber(ARGV[4])

local first = 5 + 2 * fields
local wrong = misfit(KEYS[1], 'zset') or misfit(KEYS[2], 'hash') or misfit_of(first + 2, 1, 5)
if wrong then return redis.error_reply(wrong) end
local row = call('ZSCORE', KEYS[1], schedule_id)
if not row or tonumber(row) ~= tonumber(due) or call('HGET', KEYS[2], 'paused') then return 'STALE' end

local answer = accept_at(first + 2, tonumber(ARGV[first]))
if sub(answer, 1, 4) ~= 'FULL' then
  call('ZADD', KEYS[1], next_due or '+inf', schedule_id)
  local same = string.match(answer, '^SAME (%S+)') -- the occurrence has its run already
  for i = 5, 4 + 2 * fields, 2 do
    call('HSET', KEYS[2], ARGV[i], same and ARGV[i] == 'last_run' and same or ARGV[i + 1])
  end
end
flush()
return answer
