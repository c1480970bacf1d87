-- What every script shares: time, reading a run, leaving and entering a place, recording a transition.
-- The loader puts this file before each script, and the texts of keys.py where their names stand.
--
-- Law 1: a run changes state by record() and leaves its place by leave() (places.lua), and nowhere else.
-- Law 2: a script reads and checks before it writes: Lua is atomic, it does not roll back.
-- Law 3: Redis tells the time. No argument of production code carries a time that orders anything.
-- Law 4: a script ends with flush(), which fills the queues, writes the counters and wakes workers. Nothing between a
--        run's first write and flush() may err: the run would be in no queue. So what is only told or counted is tried.

local call, try = redis.call, redis.pcall
local floor, format, sub, find = math.floor, string.format, string.sub, string.find

local TIME = call('TIME')
local SEC, USEC = tonumber(TIME[1]), tonumber(TIME[2])
local NOW = SEC + USEC / 1000000

local STATUS = {
  SCHEDULED = 'scheduled', PENDING = 'queued', RUNNING = 'started', CANCELLING = 'started', PAUSED = 'deferred',
  COMPLETED = 'finished', FAILED = 'failed', CRASHED = 'failed', CANCELLED = 'canceled',
}
local REGISTRY = { COMPLETED = FINISHED, FAILED = FAILED, CRASHED = FAILED, CANCELLED = CANCELED }
local HELD_TYPES = { RUNNING = true, CANCELLING = true }

-- A run lies where its state says, unless its field `place` names another place: `held` (handed out before its start,
-- paused in its process, or waiting there for its next attempt), `deferred` (it waits for others), `passed` (its task was unknown here), `limit:<name>`.
local PLACED = { held = 'started', deferred = 'deferred', passed = 'scheduled' }

-- RQ's word for a run that lies in such a place; nil if there is no such place.
local function word_at(place)
  return PLACED[place] or (find(place, '^limit:.') and 'deferred')
end

-- --------------------------------------------------------------------------------------------------------------- time

-- Civil date of a day number; Lua in Redis has no os.date. Algorithm: Howard Hinnant, "chrono-compatible date algorithms".
local function day_text(days)
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  return format('%04d-%02d-%02d', yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - floor((153 * mp + 2) / 5) + 1)
end

local function iso(sec, usec)
  local days = floor(sec / 86400)
  local rest = sec - days * 86400
  return format('%sT%02d:%02d:%02d.%06dZ', day_text(days), floor(rest / 3600), floor(rest / 60) % 60, rest % 60, usec)
end

local NOW_ISO = iso(SEC, USEC)

local function iso_of(seconds)
  local usec = floor(seconds * 1000000 + 0.5)
  return iso(floor(usec / 1000000), usec % 1000000)
end

-- The time after so many seconds, in the years that can be written: a run due later than those is due at their end.
local function due_in(delay)
  local due = NOW + delay
  return due < 253402300799 and due or 253402300799
end

-- Seconds and microseconds since 1970 of a text that iso() made, or nil.
local function epoch(text)
  local y, m, d, hour, min, sec, usec = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)%.(%d%d%d%d%d%d)Z$')
  if not y then return nil end
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if m <= 2 then y = y - 1 end
  local era = floor(y / 400)
  local yoe = y - era * 400
  local doy = floor((153 * (m + (m > 2 and -3 or 9)) + 2) / 5) + d - 1
  local days = era * 146097 + yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy - 719468
  return days * 86400 + tonumber(hour) * 3600 + tonumber(min) * 60 + tonumber(sec), tonumber(usec)
end

-- Now, or a microsecond after `previous` where the server's clock did not move on: times of a run grow strictly.
local function after(previous)
  if not previous or previous < NOW_ISO then return NOW_ISO end
  local sec, usec = epoch(previous)
  if not sec then return NOW_ISO end
  usec = usec + 1
  if usec == 1000000 then sec, usec = sec + 1, 0 end
  return iso(sec, usec)
end

local function seconds_between(earlier, later)
  local from_sec, from_usec = epoch(earlier)
  local to_sec, to_usec = epoch(later)
  return (to_sec - from_sec) + (to_usec - from_usec) / 1000000
end

-- --------------------------------------------------------------------------------------------------------------- text

local function escape(char)
  return format('\\u%04x', string.byte(char))
end

local function quote(text)
  if find(text, '[%c"\\]') then text = string.gsub(text, '[%c"\\]', escape) end
  return '"' .. text .. '"'
end

-- At most 64 bytes, so that the run's hash keeps its compact encoding; never half a character.
local function short(text)
  if #text <= 64 then return text end
  local cut = 61
  while cut > 0 and string.byte(text, cut + 1) >= 0x80 and string.byte(text, cut + 1) < 0xC0 do cut = cut - 1 end
  return sub(text, 1, cut) .. '...'
end

-- ------------------------------------------------------------------------------------------- counters and wake-ups

local counted, woken, heads, tails, hints = {}, {}, {}, {}, {}

local function count(key, field, by)
  local fields = counted[key]
  if not fields then
    fields = {}
    counted[key] = fields
  end
  fields[field] = (fields[field] or 0) + by
end

local TODAY = STATS .. sub(NOW_ISO, 1, 10)

local function wake(list, tokens)
  woken[list] = (woken[list] or 0) + tokens
end

local function note(lists, run)
  local ids = lists[run.queue]
  if not ids then
    ids = {}
    lists[run.queue] = ids
  end
  ids[#ids + 1] = run.id
end

-- Leaves a hint that somebody waits for this run, which lies in its queue.
local function hint(run)
  note(hints, run)
end

-- Puts a run that waits into its queue, at the tail or at the head; in either order the first one named begins first.
local function enqueue(run, at_head)
  note(at_head and heads or tails, run)
  if run.awaited then hint(run) end
end

local function push_all(lists, at_head)
  for queue, ids in pairs(lists) do
    if at_head then
      for i = 1, floor(#ids / 2) do ids[i], ids[#ids + 1 - i] = ids[#ids + 1 - i], ids[i] end
    end
    for i = 1, #ids, 1000 do -- unpack() fails at 8,000
      call(at_head and 'LPUSH' or 'RPUSH', QUEUE .. queue, unpack(ids, i, math.min(i + 999, #ids)))
    end
    wake(WAKE .. queue, #ids)
  end
end

-- A hint that cannot be written costs time, and no run.
local function push_hints()
  for queue, ids in pairs(hints) do
    for i = 1, #ids do try('RPUSH', AWAITED .. queue, ids[i]) end
    wake(WAKE_AWAITED .. queue, #ids)
  end
  hints = {}
end

local function flush()
  push_all(tails)
  push_all(heads, true)
  push_hints()
  for key, fields in pairs(counted) do
    for field, by in pairs(fields) do
      -- By the field and not by the number: once a sum has a fraction, HINCRBY refuses it.
      if by ~= 0 then try(field == 'seconds' and 'HINCRBYFLOAT' or 'HINCRBY', key, field, by) end
    end
  end
  if counted[TODAY] then call('EXPIRE', TODAY, 7776000) end
  for list, tokens in pairs(woken) do
    local there = try('LLEN', list)
    if type(there) == 'number' then
      for _ = 1, math.min(tokens, 8 - there) do call('RPUSH', list, '1') end
    end
  end
end

-- What is wrong if the key is neither absent nor of this type, else nil: a script asks before its first write, since
-- WRONGTYPE strikes half way.
local function misfit(key, kind)
  local found = call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then return 'WRONGTYPE ' .. key .. ' is no ' .. kind end
end

local ZSETS = { WIP, SCHEDULED, DEFERRED, FINISHED, FAILED, CANCELED }
local misplaced = {}

-- What is wrong with the first place of this queue that something else has taken, or false: looked up once a script.
local function misfit_in(queue)
  if misplaced[queue] == nil then
    local found = misfit(QUEUE .. queue, 'list')
    for i = 1, #ZSETS do found = found or misfit(ZSETS[i] .. queue, 'zset') end
    misplaced[queue] = found or false
  end
  return misplaced[queue]
end

-- --------------------------------------------------------------------------------------------------------- a run

-- A number as we write it, 0 where there is none. Nil for anything else: for tonumber() 'nan' and 'inf' are numbers.
local function number_in(field)
  local number = tonumber(field or 0)
  return number and number >= 0 and number < 9e15 and number or nil
end

-- What only runs have that are tied to others, to a place of their own or to a deadline: those have the field `ties`.
local TIES = { 'place', 'consumers', 'kids', 'limits', 'idem', 'start_within', 'upstreams', 'flow', 'kind',
  'unique', 'awaited', 'cache_expiration', 'refresh_cache', 'result_storage_key' }

-- Reads a run. Answers the run, or nil and why: 'GONE' (no such run) or 'BROKEN' (not readable as a run of ours). A third
-- answer tells that the run itself is well, but a place of its queue is not ours: it cannot be moved before that is mended.
local function load(id)
  local key = JOB .. id
  local f = try('HMGET', key, 'state_type', 'seq', 'token', 'state_time', 'origin', 'attempt', 'run_count', 'crashes',
    'task', 'total_run_time', 'state_message', 'result', 'worker_name', 'on_crash', 'start_time', 'error', 'ties')
  if f.err then return nil, 'BROKEN' end
  if not f[1] then return nil, call('EXISTS', key) == 1 and 'BROKEN' or 'GONE' end
  local history = try('LLEN', RUN .. id .. ':history')
  local run = {
    id = id, key = key, type = f[1], seq = f[2] and number_in(f[2]), token = number_in(f[3]), time = f[4], queue = f[5],
    attempt = number_in(f[6]), run_count = number_in(f[7]), crashes = number_in(f[8]), task = f[9],
    ran = number_in(f[10]), message = f[11], result = f[12], worker = f[13], on_crash = f[14], start_time = f[15],
    error = f[16], ties = f[17], rows = history,
  }
  if run.ties then
    local ties = call('HMGET', key, unpack(TIES))
    for i = 1, #TIES do run[TIES[i]] = ties[i] or nil end
    -- A number that is none, or not above 0, keeps nothing alive.
    if (number_in(run.consumers) or 0) == 0 then run.consumers = nil end
  end
  if not (STATUS[run.type] and run.seq and run.token and run.queue and run.attempt and run.run_count and run.crashes
      and run.ran and run.task and type(history) == 'number' and run.time and epoch(run.time)
      and (not run.place or word_at(run.place))) then
    return nil, 'BROKEN'
  end
  if misfit_in(run.queue) then return nil, 'BROKEN', true end
  return run
end

-- At maxmemory Redis judges a script at its first write. A ZREM is let through, and then so is all that follows: a
-- script that records an end calls this first, one that would start something new does not.
local function open_writes()
  call('ZREM', RUNNING, '')
end

-- What is kept of a result that nobody may record any more.
local LATE = 65536

local function quarantine(reason, ...)
  try('XADD', QUARANTINE, 'MAXLEN', '~', 10000, '*', 'reason', reason, 'time', NOW_ISO, ...)
end

local function new_token(run)
  return math.max(run.token + 1, SEC * 1000000 + USEC)
end

-- The form in which tokens are written: 16 digits, where tostring keeps 14.
local function digits(number)
  return format('%.0f', number)
end

-- Records the transition to a state: hash, history, counters, channel. `set` holds further fields of the hash, flat.
-- `more`: message, worker, actor, due (all optional).
local function record(run, state, name, more, set)
  run.seq = run.seq + 1
  local time = after(run.time)
  if HELD_TYPES[run.type] then
    run.ran = run.ran + seconds_between(run.time, time)
    set[#set + 1] = 'total_run_time'
    set[#set + 1] = format('%.6f', run.ran)
  end
  local row = '"seq":' .. run.seq .. ',"type":"' .. state .. '","name":' .. quote(name) .. ',"time":"' .. time .. '"'
  if run.attempt > 0 then row = row .. ',"attempt":' .. run.attempt end
  if more.message then row = row .. ',"message":' .. quote(more.message) end
  if more.worker then row = row .. ',"worker":' .. quote(more.worker) end
  if more.actor then row = row .. ',"actor":' .. quote(more.actor) end
  if more.due then row = row .. ',"due":"' .. more.due .. '"' end
  row = row .. '}'

  local n = #set
  set[n + 1], set[n + 2] = 'state_type', state
  set[n + 3], set[n + 4] = 'state_name', short(name)
  set[n + 5], set[n + 6] = 'state_time', time
  set[n + 7], set[n + 8] = 'seq', run.seq
  set[n + 9], set[n + 10] = 'status', run.place and word_at(run.place) or STATUS[state]
  if more.message then
    set[n + 11], set[n + 12] = 'state_message', short(more.message)
  elseif run.message then
    call('HDEL', run.key, 'state_message')
  end
  call('HSET', run.key, unpack(set))

  local history = RUN .. run.id .. ':history'
  call('RPUSH', history, '{' .. row)
  if run.rows >= 1000 then
    local first = call('LINDEX', history, 0)
    call('LTRIM', history, -999, -1)
    call('LPUSH', history, first)
  end
  if run.type and not REGISTRY[run.type] then count(COUNTS, run.type, -1) end
  if REGISTRY[state] then
    count(TODAY, state, 1)
    count(TASK .. run.task .. ':counts', state, 1)
  else
    count(COUNTS, state, 1)
  end
  call('PUBLISH', RUN .. run.id .. ':state', '{"run":"' .. run.id .. '",' .. row)
  run.type, run.time, run.message = state, time, more.message
end
