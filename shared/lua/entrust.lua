-- entrust: accepts a run into the hands of the process that called it and executes it itself: it lies in no queue.
-- KEYS: rq:queues, baton:tasks, baton:counts, then those of its queue as submit takes them; baton:leases.
-- ARGV: retention in seconds of a cancelled run, worker (a process's lease), operation id, then the run as submit takes it.
-- Answer: {tag, token, seq, state type, state time}. tag: OK, BURIED (the worker has no lease), CONFLICT (there is another
--       run with this id), GONE or BROKEN (a repeat found it so). The run is PENDING and held; CANCELLED if what
--       submitted it is being cancelled.
-- A repeat is known by its operation id, and answers what holds now.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PERSIST
--        PUBLISH RPUSH SADD SET SISMEMBER SMEMBERS SPOP SREM TIME TTL TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local retention, worker, operation, id = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

local function answer(tag)
  local run, why = load(id)
  if not run then return { why, '0', 0, '', '' } end
  return { tag, digits(run.token), run.seq, run.type, run.time }
end

if call('EXISTS', JOB .. id) == 1 then
  local done = string.match(call('HGET', JOB .. id, 'op') or '', '^%S+')
  return answer(done == operation and 'OK' or 'CONFLICT')
end
if not call('ZSCORE', KEYS[10], worker) then return { 'BURIED', '0', 0, '', '' } end
local wrong = misfit_of(4, 1, 3, 9) or misfit_in(ARGV[5]) or misfit(RUNNING, 'zset') or misfit(HELD .. worker .. ':runs', 'hash')
if wrong then return redis.error_reply(wrong) end

local tag = accept_at(4, retention, worker)
if tag == 'OK' then
  call('HSET', JOB .. id, 'op', operation .. ' ' .. call('HGET', JOB .. id, 'token'))
end
flush()
return answer(tag)
