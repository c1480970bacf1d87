-- give_back: runs that a worker holds go back to the head of their queues, in order; no run, retry or crash is counted.
-- KEYS: baton:running, baton:counts.
-- ARGV: worker, message, retention in seconds of a cancelled run, how many, then id and token per run, first begun first;
--       or 'after' instead of a number, then id and token of one that this worker holds: given back is what it began in
--       one cycle with that one and behind it. Nothing, if it holds no such one.
-- Answer per run: OK, FENCED (not held under this token: also the answer to a repeat), GONE, BROKEN.
-- A run that is cancelling ends CANCELLED instead.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HGETALL HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM
--        PUBLISH RPUSH SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local worker, message, retention, answers = ARGV[1], ARGV[2], tonumber(ARGV[3]), {}

local function named()
  local given = {}
  for i = 1, tonumber(ARGV[4]) do given[i] = { id = ARGV[3 + 2 * i], token = ARGV[4 + 2 * i] } end
  return given
end

local function begun_behind(id, token)
  local given, cycle = {}, nil
  for _, entry in ipairs(hand_of(worker)) do
    if entry.cycle == cycle then given[#given + 1] = entry end
    if entry.id == id and entry.token == token then cycle = entry.cycle end
  end
  return given
end

local given = ARGV[4] == 'after' and begun_behind(ARGV[5], ARGV[6]) or named()
open_writes()
for i = 1, #given do
  local id, token = given[i].id, given[i].token
  local run, why = load(id)
  if not run then
    answers[i] = why
    if why == 'GONE' then forget(id, token, worker) end
  elseif digits(run.token) ~= token or not is_held(run) then
    answers[i] = 'FENCED'
  else
    if run.type == 'CANCELLING' then
      end_elsewhere(run, cancelled(retention), { worker = worker })
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
