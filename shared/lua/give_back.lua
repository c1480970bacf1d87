-- give_back: runs that a worker holds go back to the head of their queues, in order; no run, retry or crash is counted.
-- KEYS: baton:running, baton:counts.
-- ARGV: worker, message, retention in seconds of a cancelled run, how many, then id and token per run, first begun first.
-- Answer per run: OK, FENCED (not held under this token: also the answer to a repeat), GONE, BROKEN.
-- A run that is cancelling ends CANCELLED instead.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH
--        SET SMEMBERS SPOP SREM TIME TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local worker, message, retention, answers = ARGV[1], ARGV[2], tonumber(ARGV[3]), {}

open_writes()
for i = 1, tonumber(ARGV[4]) do
  local id, token = ARGV[3 + 2 * i], ARGV[4 + 2 * i]
  local run, why = load(id)
  if not run then
    answers[i] = why
    if why == 'GONE' then forget(id, token, worker) end
  elseif digits(run.token) ~= token or not is_held(run) then
    answers[i] = 'FENCED'
  else
    if run.type == 'CANCELLING' then
      settle(run, cancelled(retention), { worker = worker })
    elseif run.type == 'PENDING' then
      take_back(run)
    else
      put_back(run, message, false, worker)
    end
    answers[i] = 'OK'
  end
end
flush()
return answers
