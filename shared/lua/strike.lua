-- strike: takes rows out of indexes in which a run, by its record as it is now, does not belong.
-- KEYS: rq:queues, baton:leases.
-- ARGV: how many, then per row: id, kind, key, member. Kinds: `place` (the run lies there), `held`, `running` and `wip` (a
--       process holds it), `deadline`, `slot` (it holds one of a limit), `parked` (a worker of RQ's own took it).
-- Answer per row: 1 if it was taken out, 0 if it belongs there, is not there, or nobody can tell.
-- Repeatable: what is gone is gone.
-- Calls: EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LREM LTRIM PUBLISH RPUSH TIME TYPE
--        ZADD ZCARD ZRANGE ZREM ZSCORE

local RESERVED_FOR = 30
local answers = {}

local wrong = misfit(KEYS[1], 'set') or misfit(KEYS[2], 'zset')
if wrong then return redis.error_reply(wrong) end

local function own_place(run)
  local limit = run.place and string.match(run.place, '^limit:(.*)')
  if REGISTRY[run.type] then return REGISTRY[run.type] .. run.queue end
  if is_held(run) then return nil end
  if limit then return LIMIT .. limit .. ':waiters' end
  if run.place == 'deferred' then return DEFERRED .. run.queue end
  if run.place == 'passed' or run.type == 'SCHEDULED' then return SCHEDULED .. run.queue end
  return run.type == 'PAUSED' and PAUSED or nil
end

local function has_deadline(run)
  return run.type == 'CANCELLING' or run.type == 'PAUSED' and run.place == 'held'
    or run.start_within and run.attempt == 0 and not REGISTRY[run.type]
end

local function needs_slot(run, key)
  for name in string.gmatch(run.limits or '', '%S+') do
    if key == LIMIT .. name .. ':holders' then return true end
  end
  return false
end

local function may_hold_slot(run, key, member)
  if not needs_slot(run, key) then return false end
  if member == run.id .. ':reserved' and run.type == 'PENDING' then
    return tonumber(try('ZSCORE', key, member) or 0) > NOW - RESERVED_FOR
  end
  return member == run.id .. ':' .. digits(run.token) and HELD_TYPES[run.type]
end

local function belongs(run, kind, key, member)
  if kind == 'place' then return key == own_place(run) end
  if kind == 'held' then return is_held(run) and key == HELD .. run.worker .. ':runs' end
  if kind == 'running' then return is_held(run) end
  if kind == 'wip' then return is_held(run) and key == WIP .. run.queue and member == run.id .. ':' .. digits(run.token) end
  if kind == 'deadline' then return has_deadline(run) end
  return kind == 'slot' and may_hold_slot(run, key, member)
end

local function take_out(kind, key, member)
  local taken
  if kind == 'held' then
    taken = try('HDEL', key, member)
  elseif kind == 'parked' then
    taken = try('LREM', key, 0, member)
  else
    taken = try('ZREM', key, member)
  end
  return type(taken) == 'number' and taken > 0
end

local function strike(id, kind, key, member)
  local run, why = load(id)
  local process, hold = process_of(kind == 'slot' and member or '')
  if why == 'BROKEN' or process and has_lease(process) then return 0 end
  if run and belongs(run, kind, key, member) or not take_out(kind, key, member) then return 0 end
  if process then try('HDEL', SLOTS .. process, hold) end
  if kind == 'slot' then grant(string.match(key, '^' .. LIMIT .. '(.*):holders$')) end
  return 1
end

open_writes()
for i = 1, tonumber(ARGV[1]) do
  local at = 4 * i - 2
  answers[i] = strike(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
end
flush()
return answers
