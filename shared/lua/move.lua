-- move: puts runs that wait in one queue into another, where they are the last ones.
-- KEYS: rq:queues, rq:queue:<from>, rq:scheduled:<from>, rq:deferred:<from>.
-- ARGV: the queue, the one that they go to, how many ids at most, actor.
-- Answer: {moved, looked at}. First what waits in the list, in its order; then what is due later, and what waits for
--       others. What a process holds, is paused or waits for a slot of a limit stays: it lies in no place of the queue.
--       Fewer looked at than asked for: nothing is left. A cap of the other queue is for those that submit.
-- Repeatable: what was moved is not there any more.
-- Calls: EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LRANGE LTRIM PUBLISH RPUSH SADD TIME
--        TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local from, to, most, actor = ARGV[1], ARGV[2], tonumber(ARGV[3]), given(ARGV[4])
local message, moved, looked = 'Moved from queue ' .. from .. ' to ' .. to .. '.', 0, 0

if from == to then return redis.error_reply('ERR queue ' .. from .. ' cannot be moved to itself') end
local wrong = misfit(KEYS[1], 'set') or misfit_in(from) or misfit_in(to)
if wrong then return redis.error_reply(wrong) end

local function write(run, name, due, set)
  set[#set + 1], set[#set + 2] = 'origin', to
  run.queue, moved = to, moved + 1
  record(run, run.type, name, { message = message, actor = actor, due = due and iso_of(due) }, set)
end

local function move_waiting(run)
  write(run, 'Pending', nil, {})
  enqueue(run)
end

-- One whose task was unknown to the workers of its queue waits in the list of the other one.
local function move_due(run, due)
  if run.place == 'passed' then
    leave(run, true)
    move_waiting(run)
  elseif run.type == 'SCHEDULED' and not run.place then
    leave(run, true)
    write(run, call('HGET', run.key, 'state_name') or 'Scheduled', due, {})
    schedule(run, due)
  end
end

local function move_deferred(run, since)
  if run.place ~= 'deferred' then return end
  local set = {}
  leave(run, true)
  will_lie(run, 'deferred', set)
  write(run, 'Pending', nil, set)
  call('ZADD', DEFERRED .. to, format('%.3f', since), run.id)
end

local function move_all(key, each)
  local flat = looked < most and call('ZRANGE', key, 0, most - looked - 1, 'WITHSCORES') or {}
  looked = looked + #flat / 2
  for i = 1, #flat, 2 do
    local run = load(flat[i])
    if run and run.queue == from then each(run, tonumber(flat[i + 1])) end
  end
end

call('SADD', KEYS[1], QUEUE .. to)
looked = clear_list(from, most, move_waiting)
move_all(KEYS[3], move_due)
move_all(KEYS[4], move_deferred)
flush()
return { moved, looked }
