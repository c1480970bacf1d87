-- submit: accepts runs: hash, parameters, first state, history, place, ties, publication, all in one step.
-- KEYS: rq:queues, baton:tasks, baton:counts, then per distinct queue: its list, its due set, its sets of
--       those that wait for others and of those that were cancelled, its wake list, its hooks. Its settings are only read,
--       and what is declared has to be open for writing.
-- ARGV: retention in seconds of a cancelled run, how many runs, then per run: id, queue, task, delay in seconds or '@'
--       and a time in seconds since 1970 or '', at_front ('1' or ''), parameters, how many further hash fields f, then f names and values, flat; how many ties
--       t, then t kinds and values, flat: `up` (id of a run that it needs), `tag`, `idem` (an idempotency key),
--       `digest` (of what is submitted under it), `unique` (how long that key is its own: until_started, until_final),
--       `within` (seconds in which it has to begin), `slots` (of the limit of its task's own), `again` (a flow that
--       runs again does so under its key: the run that has it is the same unless it ended other than COMPLETED).
-- Answer per run: OK, EXISTS (this very submit was accepted before), CONFLICT (another run has this id),
--       'SAME <id>' (the run that this key was given to), 'OTHER <id> <digest>' (that run has another digest),
--       'FULL <depth> <cap>' (nothing was stored). Runs of the call that are accepted count for those behind them.
-- A repeat after a lost reply is known by id, task and parameters, whatever happened to the run since: also by what is
-- left of it where somebody deleted its hash.
-- The field `parent` makes the run its child: if that is being cancelled, so is the run.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM PERSIST
--        PUBLISH RPUSH SADD SET SISMEMBER SMEMBERS SPOP SREM TIME TTL TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local answers, retention, at = {}, tonumber(ARGV[1]), 3

local wrong = misfit_of(3, tonumber(ARGV[2]), 3)
if wrong then return redis.error_reply(wrong) end

for i = 1, tonumber(ARGV[2]) do answers[i], at = accept_at(at, retention) end
flush()
return answers
